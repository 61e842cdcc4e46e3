// @vitest-environment node
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { GetServerSidePropsContext } from "next";
import { describe, expect, it, vi } from "vitest";
import { answerHeaders } from "@/lib/server/answer-headers";
import { handle } from "@/lib/server/handle";
import { contentSecurityPolicy } from "@/lib/server/security-headers";
import { delayOf } from "@/lib/api/retry";
import { settings } from "@/lib/server/settings";

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

it("every answer names the pod that served it, and has a policy with a nonce of its own", () => {
  const [one, two] = [new Headers(answerHeaders()), new Headers(answerHeaders())];
  expect(one.get("x-served-by")).toMatch(/^todo-frontend\/.+/);
  expect(one.get("x-content-type-options")).toBe("nosniff");
  const policy = one.get("content-security-policy");
  expect(policy).toMatch(/script-src 'self' 'nonce-[A-Za-z0-9+/=]{24}' 'strict-dynamic'/);
  expect(two.get("content-security-policy")).not.toBe(policy);
});

it("an answer has the headers of every answer although its handler throws", async () => {
  const run = handle("GET", () => { throw new Error("no answer"); });
  const server = createServer((req, res) => {
    void run({ req, res } as GetServerSidePropsContext).catch(() => { res.writeHead(500).end(); });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  server.close();
  expect([answer.status, answer.headers.get("x-content-type-options")]).toEqual([500, "nosniff"]);
  expect(answer.headers.get("content-security-policy")).toContain("'nonce-");
});

it("nothing unsafe is allowed outside of development", () => {
  expect(contentSecurityPolicy("n", false)).not.toContain("unsafe");
  expect(contentSecurityPolicy("n", true)).toContain("unsafe-eval");
});

it("waits longer each time, by chance, within bounds, and for as long as it was asked to", () => {
  expect([1, 2, 3, 20].map((attempt) => delayOf(attempt, undefined, () => 1))).toEqual([500, 1_000, 2_000, 15_000]);
  expect(delayOf(1, undefined, () => 0)).toBe(250);
  expect(delayOf(1, 5_000)).toBe(5_000);
  expect(delayOf(1, 3_600_000)).toBe(30_000);
});
