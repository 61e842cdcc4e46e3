import { expect, it } from "vitest";
import { sessionOf } from "@/lib/server/session";

const session = (headers: Record<string, string>, cookies: Record<string, string>) =>
  sessionOf({ req: { headers, cookies } } as unknown as Parameters<typeof sessionOf>[0]);

it("is told apart from that of another profile on this host by the port", () => {
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
