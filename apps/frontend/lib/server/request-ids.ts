import { AsyncLocalStorage } from "node:async_hooks";
import { subscribe } from "node:diagnostics_channel";
import type { IncomingMessage, ServerResponse } from "node:http";

/** What the backend takes as well: safe in a header and in a log line. */
const SAFE_ID = /^[A-Za-z0-9._:/+=-]{1,128}$/;

/** Gives each request an ID, or keeps its own. The backend, the answer and this server's log lines get the same one. */
export function giveRequestIds(): void {
  const current = new AsyncLocalStorage<string>();
  subscribe("http.server.request.start", (message) => {
    const { request, response } = message as { request: IncomingMessage; response: ServerResponse };
    // Next makes a web Request of every request, and there can be none with this method: it would answer 500 instead of 405.
    if (request.method === "TRACE") request.method = "UNKNOWN";
    const given = request.headers["x-request-id"];
    const id = typeof given === "string" && SAFE_ID.test(given) ? given : crypto.randomUUID().replaceAll("-", "");
    request.headers["x-request-id"] = id;
    response.setHeader("x-request-id", id);
    current.enterWith(id);
  });
  for (const level of ["error", "warn"] as const) {
    const write = console[level].bind(console);
    console[level] = (...said: unknown[]) => {
      const id = current.getStore();
      write(...said, ...(id === undefined ? [] : [`request_id=${id}`]));
    };
  }
}
