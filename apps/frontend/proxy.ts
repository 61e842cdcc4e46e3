import { type NextRequest, NextResponse } from "next/server";
import { answerHeaders } from "./lib/server/answer-headers";

/**
 * Sets the headers of what sets none of its own. Not those of pages/ (lib/server/session.ts) and of the build's own files
 * (next.config.ts): each would cost half a millisecond of processor time here.
 */
export function proxy(request: NextRequest): NextResponse {
  const { pathname, search } = request.nextUrl;
  if (pathname.startsWith("/api/")) return forApi(pathname + search);
  const response = NextResponse.next();
  for (const [name, value] of answerHeaders()) response.headers.set(name, value);
  return response;
}

/**
 * `next dev` has no ingress before it that takes /api to the backend. In production an ingress that sends /api here is a
 * mistake, and the page that is not found shows it.
 */
function forApi(path: string): NextResponse {
  if (process.env.NODE_ENV !== "development") return NextResponse.next();
  return NextResponse.rewrite(new URL(path, process.env.API_BASE_URL ?? "http://127.0.0.1:8000"));
}

export const config = { matcher: ["/api/:path*", "/form", "/form/account", "/healthz", "/icon.svg"] };
