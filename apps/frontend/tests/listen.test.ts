// @vitest-environment node
import { spawn } from "node:child_process";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { expect, it, vi } from "vitest";
import { freePort } from "./built-server";

/** A server that needs a moment, as Next.js does; it tells what it was asked before. */
const SLOW = `
const seen = [];
setTimeout(() => {
  require("node:http").createServer((request, response) => {
    response.end("late: " + request.url + " after " + seen);
    seen.push(request.url);
  }).listen(process.env.PORT, process.env.HOSTNAME);
}, 500)`;

it("connections that come before the server listens are answered by it, and then it renders a page", async () => {
  const port = await freePort();
  const began = performance.now();
  const child = spawn(process.execPath, ["--import=./listen.mjs", "--eval", SLOW], {
    env: { NODE_ENV: "production", PORT: String(port), HOSTNAME: "127.0.0.1" },
    stdio: ["ignore", "inherit", "inherit"],
  });
  const ask = async (path: string) => {
    for (;;) {
      const socket = connect(port, "127.0.0.1");
      const connected = await new Promise<boolean>((resolve) => {
        socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
      });
      if (!connected) continue;
      const after = performance.now() - began;
      socket.write(`GET ${path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n`);
      return [after, await text(socket)] as const;
    }
  };
  try {
    const [[early, first], [, second]] = await Promise.all([ask("/one"), ask("/two")]);
    expect(early).toBeLessThan(500);
    expect(first).toContain("late: /one");
    expect(second).toContain("late: /two");
    await vi.waitFor(async () => { expect((await ask("/three"))[1]).toMatch(/late: \/three after .*\/sign-in/); });
  } finally {
    child.kill();
  }
}, 20_000);
