import { type NextRequest, NextResponse } from "next/server";
import { answerHeaders } from "./lib/server/answer-headers";

/**
 * Before what sets no headers of its own. Not before pages/, which do (lib/server/session.ts), nor before the build's own
 * files, which have theirs from next.config.ts: each would cost half a millisecond of processor time here.
 */
export function proxy(request: NextRequest): NextResponse {
  const answered = answerHeaders();
  const headers = new Headers(request.headers);
  // Next takes the nonce for its own scripts from the request's policy.
  for (const [name, value] of answered) if (name === "content-security-policy") headers.set(name, value);
  const response = forDevelopment(request) ?? NextResponse.next({ request: { headers } });
  for (const [name, value] of answered) response.headers.set(name, value);
  return response;
}

/**
 * `next dev` has no ingress before it that takes /api to the backend. In production this must not
 * happen: an ingress that sends /api here is a mistake which has to show.
 */
function forDevelopment(request: NextRequest): NextResponse | undefined {
  const { pathname, search } = request.nextUrl;
  if (process.env.NODE_ENV !== "development" || !pathname.startsWith("/api/")) return undefined;
  const base = process.env.API_BASE_URL ?? "http://127.0.0.1:8000";
  return NextResponse.rewrite(new URL(pathname + search, base));
}

export const config = { matcher: "/((?!_next/static/|(?:|active|completed|sign-in|sign-up|account(?:/delete)?)$).*)" };
