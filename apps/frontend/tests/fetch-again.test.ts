// @vitest-environment node
import dns from "node:dns";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import { fetchAgain } from "@/lib/server/fetch-again";
import { freePort } from "./built-server";

type Answer = (request: IncomingMessage, response: ServerResponse) => void;
const ends: (() => void)[] = [];
afterEach(() => { for (const end of ends.splice(0)) end(); });

const ok = (text: string): Answer => (_, response) => response.end(JSON.stringify(text));
const never: Answer = () => undefined;
const reset: Answer = (request) => request.socket.destroy();
const cut: Answer = (request, response) => response.writeHead(200, { "content-length": "9" }).write("half", () => request.socket.destroy());
const after = (time: number, answer: Answer): Answer => (request, response) => {
  setTimeout(() => { answer(request, response); }, time);
};

/** Serves the answers in order. Returns the methods of the requests. */
async function serve(answers: Answer[], port = 0): Promise<[address: string, asked: string[]]> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.method ?? "");
    (answers.shift() ?? never)(request, response);
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  ends.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return [`http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked];
}

/** Without a limit of its own, a request takes as long as a busy machine needs. */
const get = async (address: string, limit = 60_000) =>
  (await fetchAgain(address, { method: "GET", signal: AbortSignal.timeout(limit) })).json() as Promise<string>;

describe("a GET without an answer", () => {
  it("is sent again when a kept connection turns out to be closed", async () => {
    const [address, asked] = await serve([ok("one"), reset, ok("two")]);
    expect([await get(address), await get(address), asked.length]).toEqual(["one", "two", 3]);
  });

  it("is sent again when the answer breaks off", async () => {
    const [address, asked] = await serve([cut, ok("whole")]);
    expect([await get(address), asked.length]).toEqual(["whole", 2]);
  });

  it("is answered with status, headers and every cookie", async () => {
    const cookies: Answer = (_, response) => response.writeHead(401, { link: "<next>", "set-cookie": ["a=1", "b=2"] }).end("{}");
    const [address] = await serve([cookies]);
    const { ok: isOk, status, headers } = await fetchAgain(address, { method: "GET", headers: { cookie: "c" } });
    expect([isOk, status, headers.get("link"), headers.getSetCookie()]).toEqual([false, 401, "<next>", ["a=1", "b=2"]]);
  });

  it("is sent again until somebody listens", async () => {
    const port = await freePort();
    const answer = get(`http://127.0.0.1:${port}`);
    await new Promise((resolve) => setTimeout(resolve, 600));
    await serve([ok("now"), ok("now")], port);
    expect(await answer).toBe("now");
  });

  it("is sent again when a name is not found yet, or the question for it gets lost", async () => {
    const [address] = await serve([ok("found"), ok("found later")]);
    const named = (host: string) => address.replace("127.0.0.1", host);
    type Done = (error: Error) => void;
    const lookup = dns.lookup as (name: string, options: object, done: Done) => void;
    const fail = (done: Done) => { done(new Error("EAI_AGAIN")); };
    const failures = [fail, null, () => undefined, null];
    const mocked = (name: string, options: object, done: Done) => {
      const failure = failures.shift();
      if (failure) failure(done);
      else lookup("127.0.0.1", options, done);
    };
    vi.spyOn(dns, "lookup").mockImplementation(mocked as typeof dns.lookup);
    expect(await get(named("todo-backend"))).toBe("found");
    expect(await get(named("todo-backend-2"))).toBe("found later");
    expect(failures).toEqual([]);
  });

  it("is sent again beside one that takes long, and the first answer counts", async () => {
    const [hanging] = await serve([never, ok("the second")]);
    expect(await get(hanging)).toBe("the second");
    const [slow] = await serve([after(1_300, ok("the first")), after(1_300, ok("the second"))]);
    expect(await get(slow)).toBe("the first");
  });

  it("is aborted once the other is answered", async () => {
    let closed = 0;
    const hangs: Answer = (_, response) => { response.once("close", () => { closed += 1; }); };
    const [hanging] = await serve([hangs, ok("the second")]);
    expect(await get(hanging)).toBe("the second");
    await vi.waitFor(() => { expect(closed).toBe(1); });
    const [slow] = await serve([after(1_300, ok("the first")), hangs]);
    expect(await get(slow)).toBe("the first");
    await vi.waitFor(() => { expect(closed).toBe(2); });
  });

  it("is sent a second time by one caller at a time", async () => {
    const [overloaded, asked] = await serve([]);
    const failed = await Promise.allSettled([1, 2, 3, 4].map(() => get(overloaded, 4_000)));
    expect(failed.map(({ status }) => status)).toEqual(Array(4).fill("rejected"));
    expect(asked).toHaveLength(5);
    const [waking, count] = await serve([never, never, ok("one"), ok("two")]);
    expect((await Promise.all([get(waking), get(waking)])).sort()).toEqual(["one", "two"]);
    expect(count).toHaveLength(4);
  });

  it("is sent at most nine times while every request is refused at once", async () => {
    const [address, asked] = await serve(Array<Answer>(20).fill(reset));
    await expect(get(address)).rejects.toMatchObject({ cause: { code: "ECONNRESET" } });
    expect(asked.length).toBeGreaterThanOrEqual(3);
    expect(asked.length).toBeLessThanOrEqual(9);
  });

  it("returns answers with an invalid status, or a body that is not JSON", async () => {
    const odd: Answer = (_, response) => response.writeHead(700).end("half a {");
    const [address] = await serve([odd]);
    const answer = await fetchAgain(address, { method: "GET" });
    expect([answer.ok, answer.status]).toEqual([false, 700]);
    await expect(answer.json()).rejects.toThrow(SyntaxError);
  });

  it("fails with its own reason, within the time limit, when there is never an answer", async () => {
    const refused = `http://127.0.0.1:${await freePort()}`;
    await expect(get(refused)).rejects.toMatchObject({ cause: { code: "ECONNREFUSED" } });
    const [hanging, asked] = await serve([]);
    await expect(get(hanging, 3_000)).rejects.toMatchObject({ name: "TimeoutError" });
    expect(asked).toHaveLength(2);
  });
});

it("an answer is no reason to ask again, whatever it says, and no change is sent twice", async () => {
  const unavailable: Answer = (_, response) => response.writeHead(503).end('"away"');
  const [address, asked] = await serve([unavailable, reset, ok("never")]);
  expect(await get(address)).toBe("away");
  await expect(fetchAgain(address, { method: "POST", body: "{}" })).rejects.toThrow();
  expect(asked).toEqual(["GET", "POST"]);
});
