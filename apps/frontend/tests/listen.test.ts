// @vitest-environment node
import { spawn } from "node:child_process";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { expect, it, vi } from "vitest";
import { freePort } from "./built-server";

/** A server that listens after a line on standard input, like Next.js when it is ready; prints earlier requests. */
const LATE = `
const seen = [];
process.stdin.once("data", () => {
  require("node:http").createServer((request, response) => {
    response.end("late: " + request.url + " after " + seen);
    seen.push(request.url);
  }).listen(process.env.PORT, process.env.HOSTNAME);
})`;

it.each(["127.0.0.1", "::", undefined])("early connections to %s are answered by the server, and then it gets a request for a page", async (host) => {
  const port = await freePort();
  const child = spawn(process.execPath, ["--import=./listen.mjs", "--eval", LATE], {
    env: { NODE_ENV: "production", PORT: String(port), ...(host && { HOSTNAME: host }) },
    stdio: ["pipe", "inherit", "inherit"],
  });
  const ask = async (path: string) => {
    for (;;) {
      const socket = connect(port, "127.0.0.1");
      const connected = await new Promise<boolean>((resolve) => {
        socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      });
      if (!connected) continue;
      socket.write(`GET ${path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n`);
      return { answer: text(socket) };
    }
  };
  try {
    const [one, two] = await Promise.all([ask("/one"), ask("/two")]);
    child.stdin.write("listen");
    expect(await one.answer).toContain("late: /one");
    expect(await two.answer).toContain("late: /two");
    await vi.waitFor(async () => { expect(await (await ask("/three")).answer).toMatch(/late: \/three after .*\/sign-in/); });
  } finally {
    child.kill();
  }
});
