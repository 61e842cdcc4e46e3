import { hostname } from "node:os";
import { type NextRequest, NextResponse } from "next/server";
import { contentSecurityPolicy, SECURITY_HEADERS } from "./lib/security-headers";

const development = process.env.NODE_ENV === "development";
/** The pod's name. Not $HOSTNAME: that is the address on which Next listens. */
const servedBy = `todo-frontend/${hostname()}`;

/** Before every answer, static files included. */
export function proxy(request: NextRequest): NextResponse {
  const nonce = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("base64");
  const policy = contentSecurityPolicy(nonce, development);

  const headers = new Headers(request.headers);
  // Next takes the nonce for its own scripts from the request's policy.
  headers.set("content-security-policy", policy);

  const response = forDevelopment(request) ?? NextResponse.next({ request: { headers } });
  response.headers.set("content-security-policy", policy);
  response.headers.set("x-served-by", servedBy);
  for (const [name, value] of SECURITY_HEADERS) response.headers.set(name, value);
  return response;
}

/**
 * `next dev` has no ingress before it that takes /api to the backend. In production this must not
 * happen: an ingress that sends /api here is a mistake which has to show.
 */
function forDevelopment(request: NextRequest): NextResponse | undefined {
  const { pathname, search } = request.nextUrl;
  if (!development || !pathname.startsWith("/api/")) return undefined;
  const base = process.env.API_BASE_URL ?? "http://127.0.0.1:8000";
  return NextResponse.rewrite(new URL(pathname + search, base));
}
