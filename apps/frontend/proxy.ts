import { hostname } from "node:os";
import { type NextRequest, NextResponse } from "next/server";
import { RETURNED_COOKIE } from "./lib/returned-form";
import { ADDRESS_HEADER, contentSecurityPolicy, SECURITY_HEADERS } from "./lib/security-headers";

const development = process.env.NODE_ENV === "development";
/** The pod's name. Not $HOSTNAME: that is the address on which Next listens. */
const servedBy = `todo-frontend/${hostname()}`;

/**
 * Before every page. Not before the build's own files: they are the same for everyone, have their headers
 * from next.config.ts, and each would cost more than 1 ms of processor time here; a page brings a dozen.
 */
export function proxy(request: NextRequest): NextResponse {
  const nonce = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("base64");
  const policy = contentSecurityPolicy(nonce, development);

  const headers = new Headers(request.headers);
  // Next takes the nonce for its own scripts from the request's policy.
  headers.set("content-security-policy", policy);
  headers.set(ADDRESS_HEADER, request.nextUrl.pathname + request.nextUrl.search);

  const response = forDevelopment(request) ?? NextResponse.next({ request: { headers } });
  response.headers.set("content-security-policy", policy);
  response.headers.set("x-served-by", servedBy);
  for (const [name, value] of SECURITY_HEADERS) response.headers.set(name, value);
  // The page that this request gets shows it; the one after does not. (Not by `response.cookies`: what
  // is deleted there, Next takes away from this request, too.)
  if (request.cookies.has(RETURNED_COOKIE) && showsReturned(request)) {
    response.headers.append("set-cookie", `${RETURNED_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax`);
  }
  return response;
}

function showsReturned(request: NextRequest): boolean {
  return request.method === "GET" && ["/sign-in", "/sign-up"].includes(request.nextUrl.pathname);
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

export const config = { matcher: "/((?!_next/static/).*)" };
