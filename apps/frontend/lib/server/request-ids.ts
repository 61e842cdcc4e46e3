import { AsyncLocalStorage } from "node:async_hooks";
import { subscribe } from "node:diagnostics_channel";
import type { IncomingMessage, ServerResponse } from "node:http";

/** IDs that the backend also accepts: safe in a header and in a log line. */
const SAFE_ID = /^[A-Za-z0-9._:/+=-]{1,128}$/;

/** Gives each request an ID, or keeps a valid one. Backend, answer and log lines of this server have the same ID. */
export function giveRequestIds(): void {
  const current = new AsyncLocalStorage<string>();
  subscribe("http.server.request.start", (message) => {
    const { request, response } = message as { request: IncomingMessage; response: ServerResponse };
    // Next cannot create a web Request with this method: it would answer 500 instead of 405.
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
