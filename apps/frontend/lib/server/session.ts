import { gzipSync } from "node:zlib";
import type { GetServerSidePropsContext, GetServerSidePropsResult } from "next";
import { signInAddress } from "@/lib/account/account-forms";
import { answerHeaders } from "./answer-headers";
import { type Api, ApiError } from "@/lib/api/api";
import type { User } from "@/lib/api/api-types";
import { apiFor } from "./form-request";
import { RememberedUsers } from "@/lib/account/remembered-users";

/**
 * What names the session, or undefined. The backend names its cookie with the port, which a cookie itself does not tell
 * apart, and sets one without it for pods of the release before. Where the two differ, the backend alone can decide
 * which one counts, so both together are the name. What another port of this host has set does not count.
 */
export function sessionOf({ req }: Pick<Context, "req">): string | undefined {
  const host = req.headers["x-forwarded-host"]?.toString() ?? req.headers.host ?? "";
  const own = req.cookies[`todo_${/:(\d+)$/.exec(host)?.[1]}_session`];
  const shared = req.cookies.todo_session;
  const ports = Object.keys(req.cookies).filter((name) => /^todo_\d+_session$/.test(name));
  const isOfAPort = ports.some((name) => req.cookies[name] === shared);
  return [own, isOfAPort ? undefined : shared].filter(Boolean).join(" ") || undefined;
}

/** The backend itself waits up to two seconds for a database that wakes up. */
const TIMEOUT = 3_000;

type Context = GetServerSidePropsContext;

/** Ends a page's preparation: the browser is sent elsewhere, before anything of the page is. */
class Elsewhere extends Error {
  constructor(readonly address: string) {
    super(`redirect to ${address}`);
  }
}

/** Answers a request for a page: with the headers of every answer, and with what `props` returns or where it leads. */
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

/** Gzips a page in one piece, where its browser takes that: as a stream, which Next makes of it, it takes three times as long. */
function compressPage({ req, res }: Context): void {
  if (!/\bgzip\b(?!\s*;\s*q=0(?!\.0*[1-9]))/i.test(req.headers["accept-encoding"]?.toString() ?? "")) return;
  const end = res.end.bind(res) as (body?: unknown, ...rest: unknown[]) => typeof res;
  res.end = (body?: unknown, ...rest: unknown[]) => {
    // The length that Next gives to an answer without a body is that of the page before it is gzipped.
    if (req.method === "HEAD") res.removeHeader("content-length");
    if (typeof body !== "string" || res.headersSent) return end(body, ...rest);
    const packed = gzipSync(body, { level: 3 }); // half of the time of level 6, for 6 % more bytes
    res.setHeader("content-encoding", "gzip");
    res.setHeader("content-length", packed.length);
    return end(packed);
  };
}

export function redirect(address: string): never {
  throw new Elsewhere(address);
}

/** The API as the caller of the page that is being made; null: nobody is signed in. `send`: sends the requests. */
export function callersApi(context: Context, send?: typeof fetch): Api | null {
  const { req, res } = context;
  if (sessionOf(context) === undefined) return null;
  // A session that is renewed on the way.
  const keep = (cookie: string) => res.appendHeader("set-cookie", cookie);
  return apiFor((name) => req.headers[name]?.toString() ?? null, TIMEOUT, keep, send && { send });
}

const users = new RememberedUsers();

/** Whose page it is; for pages that ask the backend for something else besides, which decides. */
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

/** Null when the backend is away or broken; someone signed out is sent to sign in. */
export async function orSignIn<T>(context: Context, what: string, asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ApiError && error.signedOut) return signIn(context, "ended");
    console.error(`${what}:`, error instanceof Error ? error.message : error);
    return null;
  }
}

/** The caller, if there is one and the backend says so. Asks once: these pages come at once while the backend is away. */
export async function callerIfAny(context: Context): Promise<User | null> {
  try {
    return (await callersApi(context, fetch)?.me()) ?? null;
  } catch {
    return null;
  }
}

export function queried({ query }: Context, name: string): string | null {
  const value = query[name];
  return typeof value === "string" ? value : null;
}
