import { gzipSync } from "node:zlib";
import type { GetServerSidePropsContext, GetServerSidePropsResult } from "next";
import { signInAddress } from "@/lib/account/account-forms";
import { answerHeaders } from "./answer-headers";
import { type Api, ApiError } from "@/lib/api/api";
import type { User } from "@/lib/api/api-types";
import { apiFor } from "./form-request";
import { RememberedUsers } from "@/lib/account/remembered-users";

/**
 * Returns the key of the session, or undefined. Browsers share cookies between ports, so the backend's cookie name contains
 * the port. For pods of the previous release the backend also sets a cookie without it. If the two differ, only the backend
 * can decide which one is valid, so the key contains both. Cookies of other ports of this host are ignored.
 */
export function sessionOf({ req }: Pick<Context, "req">): string | undefined {
  const host = req.headers["x-forwarded-host"]?.toString() ?? req.headers.host ?? "";
  const own = req.cookies[`todo_${/:(\d+)$/.exec(host)?.[1]}_session`];
  const shared = req.cookies.todo_session;
  const ports = Object.keys(req.cookies).filter((name) => /^todo_\d+_session$/.test(name));
  const isOfAPort = ports.some((name) => req.cookies[name] === shared);
  return [own, isOfAPort ? undefined : shared].filter(Boolean).join(" ") || undefined;
}

/** The backend itself waits up to two seconds for a waking database. */
const TIMEOUT = 3_000;

type Context = GetServerSidePropsContext;

/** Ends the preparation of a page with a redirect. */
class Elsewhere extends Error {
  constructor(readonly address: string) {
    super(`redirect to ${address}`);
  }
}

/** Answers a request for a page with the common headers, and with the result or the redirect of `props`. */
export async function answer<Props>(context: Context, props: () => Promise<Props>): Promise<GetServerSidePropsResult<Props>> {
  for (const [name, value] of answerHeaders()) context.res.setHeader(name, value);
  compressPage(context);
  try {
    return { props: await props() };
  } catch (error) {
    if (error instanceof Elsewhere) return { redirect: { destination: error.address, statusCode: 307 } };
    throw error;
  }
}

/** Gzips a page in one piece, if the browser accepts gzip. Next would stream it, which takes three times as long. */
function compressPage({ req, res }: Context): void {
  if (!/\bgzip\b(?!\s*;\s*q=0(?!\.0*[1-9]))/i.test(req.headers["accept-encoding"]?.toString() ?? "")) return;
  const end = res.end.bind(res) as (body?: unknown, ...rest: unknown[]) => typeof res;
  res.end = (body?: unknown, ...rest: unknown[]) => {
    // Next sets the length of the page before gzip.
    if (req.method === "HEAD") res.removeHeader("content-length");
    if (typeof body !== "string" || res.headersSent) return end(body, ...rest);
    const packed = gzipSync(body, { level: 3 }); // half the time of level 6, 6 % more bytes
    res.setHeader("content-encoding", "gzip");
    res.setHeader("content-length", packed.length);
    return end(packed);
  };
}

export function redirect(address: string): never {
  throw new Elsewhere(address);
}

/** Returns the API for the caller of this page; null: nobody is signed in. `send` sends the requests. */
export function callersApi(context: Context, send?: typeof fetch): Api | null {
  const { req, res } = context;
  if (sessionOf(context) === undefined) return null;
  // The backend may renew the session.
  const keep = (cookie: string) => res.appendHeader("set-cookie", cookie);
  return apiFor((name) => req.headers[name]?.toString() ?? null, TIMEOUT, keep, send && { send });
}

const users = new RememberedUsers();

/** Returns the page's user. Only for pages that also send another request, which checks the session. */
export async function owner(context: Context, api: Api): Promise<User> {
  const token = sessionOf(context) ?? "";
  const known = users.of(token);
  if (known) return known;
  const user = await api.me();
  users.remember(token, user);
  return user;
}

export function signIn({ resolvedUrl }: Context, notice?: "ended"): never {
  redirect(signInAddress({ ...(notice && { notice }), next: resolvedUrl.split("?")[0] ?? null }));
}

/** Returns null if the backend fails. Redirects to sign-in if the session has ended. */
export async function orSignIn<T>(context: Context, what: string, asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ApiError && error.signedOut) return signIn(context, "ended");
    console.error(`${what}:`, error instanceof Error ? error.message : error);
    return null;
  }
}

/** Returns the caller if signed in. Does not retry, so these pages are fast while the backend is away. */
export async function callerIfAny(context: Context): Promise<User | null> {
  return (await callersApi(context, fetch)?.me().catch(() => null)) ?? null;
}

export function queried({ query }: Context, name: string): string | null {
  const value = query[name];
  return typeof value === "string" ? value : null;
}
