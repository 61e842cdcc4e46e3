// @vitest-environment node
import { IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";
import { describe, expect, it, vi } from "vitest";
import { GET } from "@/app/healthz/route";
import type { User } from "@/lib/api-types";
import { prepare } from "@/lib/every-answer";
import { RememberedUsers } from "@/lib/remembered-users";
import { ADDRESS_HEADER, contentSecurityPolicy } from "@/lib/security-headers";
import { delayOf } from "@/lib/retry";
import { settings } from "@/lib/settings";

const env = (values: Record<string, string>) => ({ NODE_ENV: "production", ...values }) as const;

describe("settings", () => {
  it("are read at the time of the call", () => {
    vi.stubEnv("API_BASE_URL", "http://one:8000/");
    expect(settings().apiBaseUrl).toBe("http://one:8000");
    vi.stubEnv("API_BASE_URL", "http://two:8000");
    expect(settings().apiBaseUrl).toBe("http://two:8000");
    vi.unstubAllEnvs();
  });

  it("have defaults that serve a developer", () => {
    expect(settings(env({}))).toEqual({ apiBaseUrl: "http://127.0.0.1:8000", environment: "dev" });
    expect(settings(env({ ENVIRONMENT: "production" })).environment).toBe("production");
  });
});

describe("every answer", () => {
  function answer(url = "/active?after=7", cookie = "") {
    const request = Object.assign(new IncomingMessage(new Socket()), { url, method: "GET" });
    request.headers = { cookie, "content-security-policy": "the caller's own" };
    const response = new ServerResponse(request);
    prepare(request, response);
    return { request: request.headers, response: response.getHeaders() };
  }

  it("names the pod that served it", () => {
    expect(answer().response["x-served-by"]).toMatch(/^todo-frontend\/.+/);
  });

  it("has a policy with a nonce of its own, handed on to the page with its address", () => {
    const [one, two] = [answer(), answer()];
    const policy = one.response["content-security-policy"];
    expect(policy).toMatch(/script-src 'self' 'nonce-[A-Za-z0-9+/=]{24}' 'strict-dynamic'/);
    expect(two.response["content-security-policy"]).not.toBe(policy);
    expect(one.request["content-security-policy"]).toBe(policy);
    expect(one.request[ADDRESS_HEADER]).toBe("/active?after=7");
    expect(one.response["x-content-type-options"]).toBe("nosniff");
  });

  it("takes back a refused form when it is the page that shows it", () => {
    expect(answer("/sign-in?next=%2F", "a=1; todo_form=x").response["set-cookie"]).toMatch(/^todo_form=; .*Max-Age=0/);
    expect(answer("/sign-in", "a=1").response["set-cookie"]).toBeUndefined();
    expect(answer("/sign-in.js", "todo_form=x").response["set-cookie"]).toBeUndefined();
  });

  it("allows nothing unsafe outside of development", () => {
    expect(contentSecurityPolicy("n", false)).not.toContain("unsafe");
    expect(contentSecurityPolicy("n", true)).toContain("unsafe-eval");
  });
});

it("whose session it is, is remembered for a minute, and of so many", () => {
  const ada: User = { id: "u1", email: "ada@example.com", created_at: "2026-11-21T09:00:00Z" };
  const users = new RememberedUsers();
  users.remember("hers", ada, 0);
  expect(users.of("hers", 59_000)).toEqual(ada);
  expect(users.of("hers", 60_000)).toBeNull();
  expect(users.of("", 0)).toBeNull();
  for (let other = 0; other < 1_000; other += 1) users.remember(`other ${other}`, ada, 0);
  expect(users.of("hers", 0)).toBeNull();
  expect(users.of("other 0", 0)).toEqual(ada);
});

it("health says that the process answers, and asks nobody", async () => {
  const fetch = vi.fn();
  vi.stubGlobal("fetch", fetch);
  expect(GET().status).toBe(200);
  expect(await GET().json()).toEqual({ status: "ok" });
  expect(fetch).not.toHaveBeenCalled();
});

it("waits longer each time, by chance, within bounds, and for as long as it was asked to", () => {
  expect([1, 2, 3, 20].map((attempt) => delayOf(attempt, undefined, () => 1))).toEqual([500, 1_000, 2_000, 15_000]);
  expect(delayOf(1, undefined, () => 0)).toBe(250);
  expect(delayOf(1, 5_000)).toBe(5_000);
  expect(delayOf(1, 3_600_000)).toBe(30_000);
});
