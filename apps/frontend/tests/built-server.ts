import { type ChildProcess, spawn } from "node:child_process";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/** A backend on loopback with one user; records its requests. */
export class Backend {
  /** Prefix of session cookies whose sessions have ended. */
  readonly ended: string[] = [];
  /** Number of connections to close without an answer, each at its next request. */
  resets = 0;
  readonly asked: { url: string; headers: IncomingHttpHeaders }[] = [];
  #server: Server;

  constructor(title: string) {
    this.#server = createServer((request, response) => {
      this.asked.push({ url: request.url ?? "", headers: request.headers });
      if (this.resets > 0) {
        this.resets -= 1;
        request.socket.destroy();
        return;
      }
      const cookie = request.headers.cookie ?? "";
      const signedIn = cookie.includes("todo_session=good") && !this.ended.some((one) => cookie.includes(one));
      const me = { id: "u1", email: "ada@example.com", created_at: "2026-11-21T09:00:00Z" };
      const limit = cookie.includes("good-long") ? Number(new URL(request.url ?? "", "http://here").searchParams.get("limit")) : 1;
      const todos = Array.from({ length: limit }, (_, index) => {
        const id = `t${index + 1}`;
        return { id, title, completed: false, order: index + 1, url: `http://localhost/api/v1/todos/${id}` };
      });
      if (limit > 1) response.setHeader("link", `<http://localhost/api/v1/todos?after=${limit}_t${limit}>; rel="next"`);
      const refused = { status: 401, detail: "Sign in first.", code: "not-signed-in" };
      const body = !signedIn ? refused : request.url === "/api/v1/me" ? me : cookie.includes("good-broken") ? [null] : todos;
      response.writeHead(signedIn ? 200 : 401, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    });
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** The image's program; without an image: `npm run build`. */
export const PROGRAM = process.env.BUILT_SERVER ?? ".next/standalone/server.js";

/** Starts the built server. Returns its address, and functions that end it and read its errors. */
export async function startBuilt(apiBaseUrl: string, environment: string): Promise<[string, () => void, () => string]> {
  const port = await freePort();
  const child: ChildProcess = spawn(process.execPath, ["--import=./listen.mjs", PROGRAM], {
    env: {
      NODE_ENV: "production",
      PORT: String(port),
      HOSTNAME: "127.0.0.1",
      API_BASE_URL: apiBaseUrl,
      ENVIRONMENT: environment,
    },
    stdio: ["ignore", "inherit", "pipe"],
  });
  let errors = "";
  child.stderr?.on("data", (said: Buffer) => {
    errors += said.toString();
    process.stderr.write(said);
  });
  const address = `http://127.0.0.1:${port}`;
  const stop = () => void child.kill();
  process.once("exit", stop);
  for (;;) {
    if (child.exitCode !== null) throw new Error(`${PROGRAM} ended with ${child.exitCode}; is it built? npm run build`);
    try {
      // The server of Next.js gzips this; later its page answers directly (listen.mjs).
      const health = await fetch(`${address}/healthz`, { headers: { "accept-encoding": "gzip" } });
      if (health.ok && !health.headers.has("content-encoding")) return [address, stop, () => errors];
    } catch {
      // Not listening yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Below the ports that the system gives to outgoing connections, and a range for each process of the suite. */
let nextPort = 20_000 + 1_000 * (Number(process.env.VITEST_POOL_ID ?? 0) % 12);

export async function freePort(): Promise<number> {
  for (;;) {
    const port = nextPort++;
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once("error", () => { resolve(false); }).listen(port, "127.0.0.1", () => { resolve(true); });
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}
