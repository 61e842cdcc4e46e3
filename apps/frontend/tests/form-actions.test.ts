import { describe, expect, it } from "vitest";
import { ApiError, createApi } from "@/lib/api/api";
import { apiFor } from "@/lib/server/form-request";
import { destination, performForm, sameOrigin } from "@/lib/server/form-actions";
import { ADA, FakeBackend, todo } from "./fake-backend";

function form(fields: Record<string, string>): FormData {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.set(name, value);
  return data;
}

const post = async (fields: Record<string, string>, todos = [todo("1", "Milk"), todo("2", "Bread", true)]) => {
  const backend = new FakeBackend(todos);
  await performForm(createApi(), form(fields));
  return backend;
};

describe("a plain form", () => {
  it("adds, with the page's idempotency key", async () => {
    const backend = await post({ do: "add", title: " Eggs ", "idempotency-key": "k1" });
    expect(backend.titles).toEqual(["Milk", "Bread", "Eggs"]);
    expect(backend.calls[0]?.headers.get("idempotency-key")).toBe("k1");
  });

  it("adds no blank", async () => {
    expect((await post({ do: "add", title: "  " })).calls).toEqual([]);
  });

  it("completes, reopens, deletes", async () => {
    expect((await post({ do: "toggle 1 true" })).todos[0]?.completed).toBe(true);
    expect((await post({ do: "toggle 2 false" })).todos[1]?.completed).toBe(false);
    expect((await post({ do: "remove 1" })).titles).toEqual(["Bread"]);
  });

  it("toggles all and clears", async () => {
    const all = await post({ do: "toggle-all true" });
    expect(all.todos.map(({ completed }) => completed)).toEqual([true, true]);
    expect((await post({ do: "clear-completed" })).titles).toEqual(["Milk"]);
  });

  it("of a page of somebody who is not signed in any more does nothing", async () => {
    const backend = new FakeBackend([todo("1", "Milk")]);
    for (const user of ["u2", ADA.id]) {
      const fields = form({ do: "toggle 1 true", user });
      const done = performForm(apiFor(() => null, 1_000, undefined, { form: fields }), fields);
      if (user === ADA.id) await done;
      else await expect(done).rejects.toMatchObject({ status: 409, signedOut: true });
      expect(backend.todos[0]?.completed).toBe(user === ADA.id);
    }
  });

  it("is refused when it asks for something else", async () => {
    await expect(post({ do: "drop" })).rejects.toThrow(ApiError);
  });
});

describe("after it, the browser goes", () => {
  it("back to the filter it came from, and nowhere else", () => {
    expect(destination(form({ back: "/active" }))).toBe("/active");
    expect(destination(form({ back: "https://elsewhere.example/" }))).toBe("/");
    expect(destination(form({}))).toBe("/");
  });

  it("with what failed and what was typed", () => {
    const typed = form({ back: "/", title: "a & b" });
    expect(destination(typed, new ApiError("away", 503))).toBe("/?failed=unavailable&title=a+%26+b");
    expect(destination(form({ back: "/" }), new ApiError("no", 422))).toBe("/?failed=refused");
  });
});

describe("a form's origin", () => {
  const from = (headers: Record<string, string>) => sameOrigin(new Headers(headers));

  it("has to be this page", () => {
    expect(from({ "sec-fetch-site": "same-origin" })).toBe(true);
    expect(from({ "sec-fetch-site": "cross-site" })).toBe(false);
    expect(from({ "sec-fetch-site": "none" })).toBe(false);
    expect(from({ origin: "http://localhost:8080", host: "localhost:8080" })).toBe(true);
    expect(from({ origin: "https://todo.example", host: "10.0.0.7:3000", "x-forwarded-host": "todo.example" })).toBe(true);
    expect(from({ host: "localhost:8080" })).toBe(false);
  });
});
