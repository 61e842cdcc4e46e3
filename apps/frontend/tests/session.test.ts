// @vitest-environment node
import { expect, it, vi } from "vitest";
import { enterProps } from "@/lib/account/enter-props";
import { sessionOf } from "@/lib/server/session";
import { Backend } from "./built-server";

const session = (headers: Record<string, string>, cookies: Record<string, string>) =>
  sessionOf({ req: { headers, cookies } } as unknown as Parameters<typeof sessionOf>[0]);

it("differs by its port from that of another profile on this host", () => {
  const both = { todo_8080_session: "one", todo_8081_session: "two", todo_session: "two" };
  expect(session({ host: "localhost:8080" }, both)).toBe("one");
  expect(session({ host: "10.0.0.7:3000", "x-forwarded-host": "localhost:8081" }, both)).toBe("two");
  expect(session({ host: "localhost:8082" }, both)).toBeUndefined();
  expect(session({ host: "localhost:8082" }, { todo_8080_session: "one" })).toBeUndefined();
});

it("is another one when somebody signs in at a pod of the release before", () => {
  expect(session({ host: "todo.example" }, { todo_session: "old" })).toBe("old");
  expect(session({ host: "localhost:8080" }, { todo_session: "old" })).toBe("old");
  expect(session({ host: "localhost:8080" }, { todo_8080_session: "one", todo_session: "one" })).toBe("one");
  expect(session({ host: "localhost:8080" }, { todo_8080_session: "one", todo_session: "old" })).toBe("one old");
});

it.each(["sign-in", "sign-up"] as const)("is asked for once by /%s, which comes at once while the backend is away", async (mode) => {
  const backend = new Backend("Milk");
  vi.stubEnv("API_BASE_URL", await backend.start());
  try {
    backend.resets = 9;
    const req = { headers: { host: "todo.example" }, cookies: { todo_session: "good" }, method: "GET" };
    const context = { req, res: { setHeader: vi.fn() }, query: {} } as unknown as Parameters<ReturnType<typeof enterProps>>[0];
    expect(await enterProps(mode)(context)).toMatchObject({ props: { mode } });
    expect(backend.asked.map(({ url }) => url)).toEqual(["/api/v1/me"]);
  } finally {
    vi.unstubAllEnvs();
    backend.stop();
  }
});
