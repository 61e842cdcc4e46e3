/**
 * Headers that are forwarded to the backend unchanged: the session, the request's origin, and its ID.
 * The ingress replaces a client's X-Forwarded-* headers, so the backend may trust them as in a direct
 * request. X-Request-ID may be the client's own: both applications validate it.
 */
const PASSED_ON = [
  "cookie", "origin", "sec-fetch-site", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id",
] as const;

export type ReadHeader = (name: string) => string | null;

export function forwarded(header: ReadHeader): Record<string, string> {
  const passed: Record<string, string> = {};
  for (const name of PASSED_ON) {
    const value = header(name);
    if (value !== null) passed[name] = value;
  }
  // Without an ingress; otherwise the backend would use its own address as the caller's.
  const host = header("host");
  if (host !== null) passed["x-forwarded-host"] ??= host;
  return passed;
}
