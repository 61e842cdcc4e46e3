// @vitest-environment node
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Backend, PROGRAM, startBuilt } from "./built-server";

/** Starts one build twice with different settings. */
const ONE = new Backend("From the first backend");
const TWO = new Backend("From the second backend");
let one = "";
let two = "";
let errorsOfTwo = () => "";
const ends: (() => void)[] = [];

beforeAll(async () => {
  const [first, second] = [await ONE.start(), await TWO.start()];
  const started = await Promise.all([startBuilt(first, "dev"), startBuilt(`${second}/`, "production")]);
  ends.push(...started.map(([, stop]) => stop));
  [one, two, errorsOfTwo] = [started[0][0], started[1][0], started[1][2]];
});

afterAll(() => {
  for (const end of ends) end();
  ONE.stop();
  TWO.stop();
});

const ask = (address: string, path: string, headers: Record<string, string> = {}) =>
  fetch(`${address}${path}`, { headers, redirect: "manual" });
const SIGNED_IN = { cookie: "todo_session=good" };

/** The folder of the image's build stage; a local build has Next's random names. */
const IMAGE = process.env.BUILT_SERVER?.replace(/server\.js$/, ".next/");

it.runIf(IMAGE)("has nothing random in it: two builds of one tree are equal", () => {
  const read = (name: string) => readFileSync(`${IMAGE}${name}`, "utf8");
  // xtask passes the image's tag to the build, here "test".
  expect(read("BUILD_ID")).toBe("test");
  const keys = JSON.parse(read("server/preview-props.json")) as Record<string, string>;
  expect(Object.values(keys)).toEqual(["\0", "\0", "\0"]);
  expect(JSON.parse(read("prerender-manifest.json"))).toMatchObject({ preview: keys });
});

describe("the same build", () => {
  it("asks the backend that its settings name, and says where it is", async () => {
    const [first, second] = [await (await ask(one, "/", SIGNED_IN)).text(), await (await ask(two, "/", SIGNED_IN)).text()];
    expect(first).toContain("From the first backend");
    expect(first).toMatch(/Environment: <\/span>dev/);
    expect(second).toContain("From the second backend");
    expect(second).not.toContain("Environment:");
  });

  it("lets no browser see where the backend is", async () => {
    const html = await (await ask(one, "/", SIGNED_IN)).text();
    expect(html).toContain("ada@example.com");
    expect(html).not.toMatch(/API_BASE_URL|127\.0\.0\.1/);
  });

  it.each([
    ["no ID", {}, /^[0-9a-f]{32}$/],
    ["an ID that is not safe in a log", { "x-request-id": 'a"b' }, /^[0-9a-f]{32}$/],
    ["the ingress' ID", { "x-request-id": "ingress-1" }, /^ingress-1$/],
  ])("answers a request with %s, and asks the backend, with one ID", async (_, headers, expected) => {
    ONE.asked.length = 0;
    const id = (await ask(one, "/", { cookie: "todo_session=good-with-id", ...headers })).headers.get("x-request-id");
    expect(id).toMatch(expected);
    expect(new Set(ONE.asked.map((asked) => asked.headers["x-request-id"]))).toEqual(new Set([id]));
    expect((await ask(one, "/healthz", headers)).headers.get("x-request-id")).toMatch(expected);
  });

  it("passes on who asks, unchanged, and nothing else", async () => {
    ONE.asked.length = 0;
    await ask(one, "/", {
      cookie: "todo_session=good-anew",
      "x-forwarded-for": "203.0.113.9",
      "x-forwarded-host": "todo.example",
      "x-forwarded-proto": "https",
      "x-request-id": "r1",
      "x-other": "stays here",
    });
    expect(ONE.asked.map(({ url }) => url).sort()).toEqual(["/api/v1/me", "/api/v1/todos?limit=20"]);
    for (const { headers } of ONE.asked) {
      expect(headers).toMatchObject({
        cookie: "todo_session=good-anew",
        "x-forwarded-for": "203.0.113.9",
        "x-forwarded-host": "todo.example",
        "x-forwarded-proto": "https",
        "x-request-id": "r1",
      });
      expect(headers["x-other"]).toBeUndefined();
    }
  });

  it("asks once whose session it is, and each time whether it is still one", async () => {
    const session = { cookie: "todo_session=good-for-now" };
    expect(await (await ask(one, "/", session)).text()).toContain("ada@example.com");
    ONE.asked.length = 0;
    expect(await (await ask(one, "/", session)).text()).toContain("ada@example.com");
    expect(ONE.asked.map(({ url }) => url)).toEqual(["/api/v1/todos?limit=20"]);
    ONE.ended.push("good-for-now");
    expect((await ask(one, "/", session)).headers.get("location")).toBe("/sign-in?notice=ended");
  });

  it("sends no more of a todo than the page needs", async () => {
    const html = await (await ask(one, "/", SIGNED_IN)).text();
    expect(html).not.toContain("/api/v1/todos/t1");
  });

  it("sends twenty todos, each once as a row and once as data, and a link to the next", async () => {
    const html = await (await ask(one, "/", { cookie: "todo_session=good-long" })).text();
    expect(html.match(/<li /g)).toHaveLength(20);
    expect(html.match(/"title":/g)).toHaveLength(20);
    expect(html).toMatch(/<noscript><p[^>]*><a href="\/\?after=20_t20">More todos<\/a>/);
  });

  it("waits for all of its files, in whatever order they come", async () => {
    for (const path of ["/", "/account/delete"]) {
      const html = await (await ask(one, path, SIGNED_IN)).text();
      const started = [...html.matchAll(/\.push\((\{"otherChunks".*?\})\);/g)];
      const [app, own] = started.map(([, json]) => (JSON.parse(json ?? "") as { otherChunks: string[] }).otherChunks);
      expect(own, path).toEqual(expect.arrayContaining(app ?? []));
      expect(own?.length, path).toBeGreaterThan(app?.length ?? 0);
    }
  });

  it("has the headers of every answer on all of them, whoever makes it", async () => {
    const pages = ["/", "/active", "/completed", "/sign-in", "/sign-up", "/account/delete", "/active?after=nonsense"];
    for (const path of [...pages, "/healthz", "/form", "/nothing-here", "/api/v1/todos", "/form/nothing-here"]) {
      const { headers } = await ask(one, path, path.startsWith("/sign") ? {} : SIGNED_IN);
      expect(headers.get("x-served-by"), path).toMatch(/^todo-frontend\/.+/);
      expect(headers.get("x-content-type-options"), path).toBe("nosniff");
      expect(headers.get("content-security-policy"), path).toMatch(/'nonce-[A-Za-z0-9+/=]{24}'/);
    }
    // The build's files need no nonce and no X-Served-By.
    for (const path of ["/_next/static/chunks/any.js", "/icon.svg"]) {
      const { headers } = await ask(one, path);
      expect(headers.get("x-content-type-options"), path).toBe("nosniff");
      expect(headers.get("cross-origin-resource-policy"), path).toBe("same-origin");
    }
  });

  it("gives a page's scripts the nonce of its answer, and takes none from the caller", async () => {
    const answer = await ask(one, "/", { ...SIGNED_IN, "content-security-policy": "script-src 'nonce-callers'" });
    const nonce = /'nonce-([^']+)'/.exec(answer.headers.get("content-security-policy") ?? "")?.[1] ?? "none";
    const scripts = (await answer.text()).match(/<script[^>]*>/g) ?? [];
    expect(scripts.length).toBeGreaterThan(3);
    expect(scripts.filter((tag) => !tag.includes(`nonce="${nonce}"`))).toEqual([]);
  });

  it("gzips a page in one piece where its caller takes that", async () => {
    const read = async (encodings: string) => {
      const answer = await ask(one, "/sign-in", { "accept-encoding": encodings });
      const [coding, length] = ["content-encoding", "content-length"].map((name) => answer.headers.get(name));
      return { coding, length: Number(length), vary: answer.headers.get("vary"), page: await answer.text() };
    };
    const [plain, packed] = [await read("identity"), await read("br, gzip")];
    expect(packed).toMatchObject({ coding: "gzip", vary: "Accept-Encoding" });
    expect(packed.length).toBeLessThan(plain.length / 2);
    const nonces = /"[A-Za-z0-9+/]{22}=="/g;
    expect(packed.page.replace(nonces, "")).toBe(plain.page.replace(nonces, ""));
    for (const refusing of ["identity", "gzip;q=0", "br, gzip; q=0.0"]) {
      expect(await read(refusing), refusing).toMatchObject({ coding: null, vary: "Accept-Encoding", length: plain.length });
    }
    expect(await read("gzip;q=0.5")).toMatchObject({ coding: "gzip" });
  });

  it("answers health and forms by method", async () => {
    expect(await (await ask(one, "/healthz")).json()).toEqual({ status: "ok" });
    expect((await fetch(`${one}/healthz`, { method: "HEAD" })).status).toBe(200);
    for (const [path, allow] of [["/healthz", "GET, HEAD"], ["/form", "POST"], ["/form/account", "POST"]] as const) {
      const answer = await fetch(`${one}${path}`, { method: "DELETE" });
      expect([answer.status, answer.headers.get("allow")], path).toEqual([405, allow]);
    }
    const body = new URLSearchParams({ do: "sign-out" });
    const foreign = await fetch(`${one}/form/account`, { method: "POST", body, headers: { "sec-fetch-site": "cross-site" } });
    expect([foreign.status, await foreign.text()]).toEqual([403, "This form was sent from another site.\n"]);
  });

  it.each([["from another site", 403, "cross-site"], ["that is too long", 413, "same-origin"]])(
    "refuses a form %s without reading it, and answers the next request on its connection", async (_, status, site) => {
      const { hostname, port } = new URL(one);
      const socket = connect(Number(port), hostname);
      const form = "a".repeat(500_000);
      socket.write(`POST /form HTTP/1.1\r\nhost: one\r\nsec-fetch-site: ${site}\r\ncontent-length: ${form.length}\r\n\r\n${form}`);
      socket.write("GET /healthz HTTP/1.1\r\nhost: one\r\nconnection: close\r\n\r\n");
      expect(await text(socket)).toMatch(new RegExp(`^HTTP/1.1 ${status} [^]*HTTP/1.1 200 OK[^]*"status":"ok"`));
    });

  it("answers pages without the server of Next.js, and ignores its internal headers", async () => {
    const answer = await ask(one, "/active", { ...SIGNED_IN, "x-nextjs-data": "1", "x-matched-path": "/sign-up" });
    expect(answer.headers.get("x-nextjs-matched-path")).toBeNull();
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
    expect(await answer.text()).toContain("<title data-next-head=\"\">Active · Todos</title>");
  });

  it("has no rule for pages that only the server of Next.js would follow", () => {
    const read = (name: string) => JSON.parse(readFileSync(join(dirname(PROGRAM), ".next", name), "utf8")) as Record<string, never>;
    const { headers, redirects } = read("routes-manifest.json") as unknown as Record<string, { source: string; internal?: boolean }[]>;
    expect(headers?.map((rule) => rule.source)).toEqual(["/_next/static/:file*", "/icon.svg"]);
    expect(redirects?.filter((rule) => !rule.internal)).toEqual([]);
    expect(read("server/middleware-manifest.json")).toMatchObject({ middleware: {} });
  });

  it("shows the error page for a page that fails", async () => {
    const answer = await ask(one, "/", { cookie: "todo_session=good-broken" });
    expect([answer.status, answer.headers.get("x-content-type-options")]).toEqual([500, "nosniff"]);
    expect(await answer.text()).toContain("Something went wrong");
    expect((await ask(one, "/", SIGNED_IN)).status).toBe(200);
  });

  it("says that there is no such page", async () => {
    const answer = await ask(one, "/nothing/here");
    expect(answer.status).toBe(404);
    expect(await answer.text()).toContain("Page not found");
  });

  it("never answers for the API: an ingress that sends /api here has to show", async () => {
    ONE.asked.length = 0;
    expect((await ask(one, "/api/v1/todos", SIGNED_IN)).status).toBe(404);
    expect(ONE.asked).toEqual([]);
  });

  it("names itself to the backend by the caller's address where no ingress does", async () => {
    ONE.asked.length = 0;
    await ask(one, "/", SIGNED_IN);
    expect(ONE.asked[0]?.headers["x-forwarded-host"]).toBe(new URL(one).host);
  });

  it("sends who is not signed in to sign in, before anything of the page", async () => {
    ONE.asked.length = 0;
    const anonymous = await ask(one, "/active");
    expect([anonymous.status, anonymous.headers.get("location")]).toEqual([307, "/sign-in?next=%2Factive"]);
    expect(ONE.asked).toEqual([]);
    const ended = await ask(one, "/", { cookie: "todo_session=ended" });
    expect([ended.status, ended.headers.get("location")]).toEqual([307, "/sign-in?notice=ended"]);
    const account = await ask(one, "/account/delete");
    expect([account.status, account.headers.get("location")]).toEqual([307, "/sign-in"]);
  });

  it("has the list although the backend's pod went away under the connection", async () => {
    await ask(one, "/", SIGNED_IN);
    ONE.resets = 1;
    expect(await (await ask(one, "/", SIGNED_IN)).text()).toContain("From the first backend");
    expect(ONE.resets).toBe(0);
  });

  it("serves the page without the list while its backend is away", async () => {
    TWO.stop();
    const answer = await ask(two, "/", SIGNED_IN);
    expect(answer.status).toBe(200);
    expect(await answer.text()).toContain("The server is not answering");
    expect(errorsOfTwo()).toMatch(new RegExp(`todos: .* request_id=${answer.headers.get("x-request-id")}\n`));
    expect((await ask(two, "/sign-in", SIGNED_IN)).status).toBe(200);
  });
});
