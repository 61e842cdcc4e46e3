// @vitest-environment node
import { describe, expect, it } from "vitest";
import { accountForm } from "@/lib/server/account-form";
import { todoForm } from "@/lib/server/todo-form";
import { readReturned } from "@/lib/account/returned-form";
import { ADA, FakeBackend, problem, todo } from "./fake-backend";

const PASSWORD = "not-a-secret 1";

function request(fields: Record<string, string>, headers: Record<string, string> = {}): Request {
  const body = new URLSearchParams(fields);
  return new Request("http://10.0.0.7:3000/form/account", {
    method: "POST",
    body,
    headers: {
      "content-length": String(body.toString().length),
      "sec-fetch-site": "same-origin",
      origin: "https://todo.example",
      cookie: "todo_session=old",
      "x-forwarded-for": "203.0.113.9",
      "x-forwarded-host": "todo.example",
      "x-forwarded-proto": "https",
      "x-request-id": "r1",
      ...headers,
    },
  });
}

const send = (fields: Record<string, string>, headers?: Record<string, string>) => accountForm(request(fields, headers));
const location = (response: Response) => response.headers.get("location");

function returned(response: Response) {
  const cookie = response.headers.getSetCookie().find((one) => one.startsWith("todo_form="));
  expect(cookie).toContain("HttpOnly; SameSite=Lax; Secure");
  return { cookie, read: (mode: "sign-in" | "sign-up") => readReturned(cookie?.split(/[=;]/)[1], mode) };
}

describe("signing in by a plain form", () => {
  it("passes the backend's cookie on and leads to the list", async () => {
    const backend = new FakeBackend();
    const response = await send({ do: "sign-in", email: ADA.email, password: PASSWORD, next: "/active" });
    expect([response.status, location(response)]).toEqual([303, "/active"]);
    expect(response.headers.getSetCookie()).toEqual(["todo_session=new; HttpOnly; Path=/"]);
    expect(backend.changes).toEqual(["POST /api/v1/session"]);
  });

  it("tells the backend who asks, unchanged", async () => {
    const backend = new FakeBackend();
    await send({ do: "sign-in", email: ADA.email, password: PASSWORD });
    const passed = Object.fromEntries(backend.calls[0]?.headers ?? []);
    expect(passed).toMatchObject({
      origin: "https://todo.example",
      cookie: "todo_session=old",
      "x-forwarded-for": "203.0.113.9",
      "x-forwarded-host": "todo.example",
      "x-forwarded-proto": "https",
      "x-request-id": "r1",
    });
  });

  it("goes nowhere else, whatever the form says", async () => {
    new FakeBackend();
    for (const next of ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/api/v1/me"]) {
      expect(location(await send({ do: "sign-in", email: ADA.email, password: PASSWORD, next }))).toBe("/");
    }
  });

  it("brings the todo back that was typed when the session ended", async () => {
    new FakeBackend();
    const fields = { do: "sign-in", email: ADA.email, password: PASSWORD, title: "Eggs & co" };
    expect(location(await send(fields))).toBe("/?title=Eggs+%26+co");
  });

  it("says what is wrong and keeps the email, but never the password", async () => {
    new FakeBackend();
    const response = await send({ do: "sign-in", email: ADA.email, password: "wrong-password", next: "/active" });
    expect([response.status, location(response)]).toEqual([303, "/sign-in?next=%2Factive"]);
    const { cookie, read } = returned(response);
    expect(read("sign-in")).toEqual({
      mode: "sign-in",
      email: ADA.email,
      complaints: [{ text: "Email or password is wrong." }],
    });
    expect(read("sign-up")).toBeNull();
    expect(Buffer.from(cookie ?? "", "base64url").toString()).not.toContain("wrong-password");
  });

  it("says how long to wait after too many attempts, and when the backend is away", async () => {
    const backend = new FakeBackend();
    const fields = { do: "sign-in", email: ADA.email, password: PASSWORD };
    backend.failures.push(problem(429, "Too many. Try again in 840 s.", "840"));
    expect(returned(await send(fields)).read("sign-in")?.complaints[0]?.text).toContain("in 840 s");
    backend.failures.push(new TypeError("fetch failed"));
    expect(returned(await send(fields)).read("sign-in")?.complaints[0]?.text).toContain("not answering");
  });
});

describe("signing up by a plain form", () => {
  it("makes the account", async () => {
    const backend = new FakeBackend();
    const response = await send({ do: "sign-up", email: "bob@example.com", password: PASSWORD });
    expect([response.status, location(response)]).toEqual([303, "/"]);
    expect(backend.accounts.has("bob@example.com")).toBe(true);
  });

  it("complains about fields, before and after asking the backend", async () => {
    const backend = new FakeBackend();
    const complaints = async (email: string, password: string) =>
      returned(await send({ do: "sign-up", email, password })).read("sign-up")?.complaints;
    expect(await complaints("", "short")).toEqual([
      { field: "email", text: "Enter your email address." },
      { field: "password", text: "Use at least 8 characters." },
    ]);
    expect(await complaints("not an email", PASSWORD)).toMatchObject([{ field: "email" }]);
    expect(await complaints("bob@example.com", "x".repeat(129))).toMatchObject([{ field: "password" }]);
    expect(backend.calls).toEqual([]);
    expect(await complaints(ADA.email, PASSWORD)).toEqual([
      { field: "email", text: "This email already has an account. Sign in instead." },
    ]);
    const errors = [{ location: "body", pointer: "/password", detail: "A password cannot contain NUL" }];
    backend.failures.push(Response.json({ errors }, { status: 422 }));
    expect(await complaints("bob@example.com", PASSWORD)).toEqual([
      { field: "password", text: "A password cannot contain NUL." },
    ]);
  });
});

describe("leaving by a plain form", () => {
  it("signs out", async () => {
    const backend = new FakeBackend();
    const response = await send({ do: "sign-out" });
    expect([response.status, location(response)]).toEqual([303, "/sign-in?notice=signed-out"]);
    expect(response.headers.getSetCookie()).toEqual(["todo_session=; Max-Age=0; Path=/"]);
    expect(backend.changes).toEqual(["DELETE /api/v1/session"]);
  });

  it("spares the account of somebody who has signed in since", async () => {
    const backend = new FakeBackend();
    expect(location(await send({ do: "delete-account", user: "u2" }))).toBe("/sign-in?notice=ended");
    expect(backend.user).toEqual(ADA);
  });

  it("deletes the account", async () => {
    const backend = new FakeBackend();
    expect(location(await send({ do: "delete-account", password: "12345678" }))).toBe("/sign-in?notice=deleted");
    expect(backend.changes).toEqual(["DELETE /api/v1/me"]);
    expect(backend.calls.at(-1)?.body).toEqual({ password: "12345678" });
  });

  it("changes the password, and ends all sessions", async () => {
    const backend = new FakeBackend();
    backend.failures.push(new Response(null, { status: 204 }));
    const change = { do: "change-password", password: "12345678", "new-password": "87654321" };
    expect(location(await send(change))).toBe("/account?changed=");
    expect(backend.calls.at(-1)?.body).toEqual({ password: "12345678", new_password: "87654321" });
    for (const [status, code, failed] of [
      [403, "wrong-password", "wrong-password"],
      [429, "too-many-attempts", "too-many-attempts"],
      [422, "validation", "password-length"],
    ] as const) {
      backend.failures.push(Response.json({ status, detail: "no", code }, { status }));
      expect(location(await send(change))).toBe(`/account?failed=${failed}`);
    }
    expect(location(await send({ do: "sign-out-everywhere" }))).toBe("/sign-in?notice=signed-out");
    expect(backend.calls.at(-1)).toMatchObject({ method: "DELETE", path: "/api/v1/session" });
  });

  it("says so when it did not work", async () => {
    const backend = new FakeBackend();
    backend.failures.push(problem(503, "away"), problem(503, "away"));
    expect(location(await send({ do: "sign-out" }))).toBe("/?failed=unavailable");
    expect(location(await send({ do: "delete-account" }))).toBe("/account/delete?failed=unavailable");
    backend.user = null;
    expect(location(await send({ do: "delete-account" }))).toBe("/sign-in?notice=ended");
  });
});

describe("a plain form", () => {
  it("from another site is refused", async () => {
    const backend = new FakeBackend();
    for (const headers of [{ "sec-fetch-site": "cross-site" }, { "sec-fetch-site": "same-site" }]) {
      expect((await send({ do: "delete-account" }, headers)).status).toBe(403);
    }
    expect(backend.calls).toEqual([]);
  });

  it("has to be one, of a sensible length, for something that is known", async () => {
    new FakeBackend();
    expect((await send({ do: "sign-in" }, { "content-length": "9999999" })).status).toBe(413);
    expect((await send({ do: "sign-in" }, { "content-type": "text/plain" })).status).toBe(400);
    expect((await send({ do: "everything" })).status).toBe(400);
  });

  it("of the list, too: it adds for the caller, or leads to sign-in with what was typed", async () => {
    const backend = new FakeBackend([todo("1", "Milk")]);
    const fields = { do: "add", title: "Eggs", "idempotency-key": "k1", back: "/active" };
    expect(location(await todoForm(request(fields)))).toBe("/active");
    expect(backend.calls[0]?.headers.get("cookie")).toBe("todo_session=old");
    backend.user = null;
    expect(location(await todoForm(request(fields)))).toBe("/sign-in?notice=ended&next=%2Factive&title=Eggs");
  });

  it("of another user's page changes nothing, and shows nobody else what was typed", async () => {
    const backend = new FakeBackend([todo("1", "Milk")]);
    const answer = await todoForm(request({ do: "add", title: "Eggs", user: "u2", back: "/active" }));
    expect([location(answer), backend.titles]).toEqual(["/?failed=other-user", ["Milk"]]);
  });
});
