import { subscribe } from "node:diagnostics_channel";
import type { IncomingMessage, ServerResponse } from "node:http";
import { hostname } from "node:os";
import { RETURNED_COOKIE } from "./returned-form";
import { ADDRESS_HEADER, contentSecurityPolicy, SECURITY_HEADERS } from "./security-headers";

const development = process.env.NODE_ENV === "development";
/** The pod's name. Not $HOSTNAME: that is the address on which Next listens. */
const servedBy = `todo-frontend/${hostname()}`;

/**
 * Before every answer, static files included. A `proxy.ts` of Next's would be the ordinary place, but
 * each request through one costs more than 1 ms of processor time, a tenth of a page's; a dozen
 * scripts and styles come with every first page.
 */
export function prepare(request: IncomingMessage, response: ServerResponse): void {
  const nonce = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("base64");
  const policy = contentSecurityPolicy(nonce, development);
  const url = request.url ?? "/";

  // Next takes the nonce for its own scripts from the request's policy.
  request.headers["content-security-policy"] = policy;
  request.headers[ADDRESS_HEADER] = url;

  response.setHeader("content-security-policy", policy);
  response.setHeader("x-served-by", servedBy);
  for (const [name, value] of SECURITY_HEADERS) response.setHeader(name, value);
  // The page that this request gets shows it; the one after does not.
  if (request.method === "GET" && showsReturned(url) && request.headers.cookie?.includes(`${RETURNED_COOKIE}=`)) {
    response.setHeader("set-cookie", `${RETURNED_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax`);
  }
}

function showsReturned(url: string): boolean {
  return ["/sign-in", "/sign-up"].includes(url.split("?", 1)[0] ?? "");
}

/** Node publishes each request before the server, which is Next's own, gets to see it. */
export function prepareEveryAnswer(): void {
  subscribe("http.server.request.start", (message) => {
    const { request, response } = message as { request: IncomingMessage; response: ServerResponse };
    prepare(request, response);
  });
}
