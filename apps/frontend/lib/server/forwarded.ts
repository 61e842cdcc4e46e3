/**
 * What of a caller's request goes on to the backend, unchanged: who is signed in, where the request
 * comes from, and its ID. The ingress writes X-Forwarded-* itself and drops what a client sends under
 * these names, so the backend may believe them as it does when it is asked directly. X-Request-ID may
 * be the client's own: both applications check it before they use it.
 */
const PASSED_ON = [
  "cookie",
  "origin",
  "sec-fetch-site",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-forwarded-proto",
  "x-request-id",
] as const;

export type ReadHeader = (name: string) => string | null;

export function forwarded(header: ReadHeader): Record<string, string> {
  const passed: Record<string, string> = {};
  for (const name of PASSED_ON) {
    const value = header(name);
    if (value !== null) passed[name] = value;
  }
  // Without an ingress: otherwise the backend would take its own address for the caller's.
  const host = header("host");
  if (host !== null) passed["x-forwarded-host"] ??= host;
  return passed;
}
