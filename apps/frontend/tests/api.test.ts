import { describe, expect, it, vi } from "vitest";
import { ApiError, createApi } from "@/lib/api/api";
import { FakeBackend, problem, todo } from "./fake-backend";

const failing = async (promise: Promise<unknown>): Promise<ApiError> => {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ApiError);
  return error as ApiError;
};

describe("the API", () => {
  it("is called by relative addresses in the browser, under the base URL on the server", async () => {
    const urls: string[] = [];
    vi.stubGlobal("fetch", (url: string) => {
      urls.push(url);
      return Promise.resolve(Response.json([]));
    });
    await createApi().named(["1"]);
    await createApi({ baseUrl: "http://todo-backend:8000" }).named(["1"]);
    expect(urls).toEqual(["/api/v1/todos?id=1", "http://todo-backend:8000/api/v1/todos?id=1"]);
  });

  it("reads a long list page by page", async () => {
    const backend = new FakeBackend(["1", "2", "3"].map((id) => todo(id, `Todo ${id}`)));
    const first = await createApi().page(2);
    expect(first).toMatchObject({ todos: [{ id: "1" }, { id: "2" }], next: "2" });
    expect(await createApi().page(2, first.next)).toMatchObject({ todos: [{ id: "3" }], next: null });
    backend.failures.push(Response.json([], { headers: { link: '</elsewhere>; rel="prev"' } }));
    expect((await createApi().page(2)).next).toBeNull();
  });

  it("tells by the status whether another attempt makes sense", async () => {
    const backend = new FakeBackend();
    for (const [status, transient] of [[400, false], [404, false], [422, false], [429, true], [500, false], [502, true], [503, true], [504, true]] as const) {
      backend.failures.push(problem(status, "why"));
      const error = await failing(createApi().create({ title: "x" }, "key"));
      expect([status, error.transient, error.message]).toEqual([status, transient, "why"]);
    }
  });

  it("reads Retry-After as seconds and as a date", async () => {
    const backend = new FakeBackend();
    const inTen = new Date(Date.now() + 10_000).toUTCString();
    backend.failures.push(problem(503, "", "3"), problem(503, "", inTen), problem(503, "", "soon"));
    expect((await failing(createApi().named([]))).retryAfter).toBe(3_000);
    const wait = (await failing(createApi().named([]))).retryAfter ?? 0;
    expect(wait).toBeGreaterThan(8_000);
    expect(wait).toBeLessThanOrEqual(10_000);
    expect((await failing(createApi().named([]))).retryAfter).toBeUndefined();
  });

  it("takes no answer, a foreign page and a half one for an outage", async () => {
    const backend = new FakeBackend();
    backend.failures.push(
      new TypeError("fetch failed"),
      new Response("<html>", { status: 200 }),
      Response.json({ detail: "not a list" }),
      new Response("Bad Gateway", { status: 502 }),
    );
    for (const status of [0, 502, 502, 502]) {
      const error = await failing(createApi().named([]));
      expect([error.status, error.transient]).toEqual([status, true]);
    }
  });

  it("gives up on a backend that hangs", async () => {
    vi.stubGlobal("fetch", (_: string, { signal }: RequestInit) =>
      new Promise((_resolve, reject) => {
        signal?.addEventListener("abort", () => { reject(signal.reason as Error); });
      }));
    const error = await failing(createApi({ timeout: 20 }).named([]));
    expect(error.message).toContain("timed out");
  });

  it("takes what is gone already as deleted", async () => {
    new FakeBackend([todo("1", "Milk")]);
    await createApi().remove("2");
  });
});
