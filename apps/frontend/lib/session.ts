import "server-only";
import { cookies, headers } from "next/headers";
import { redirect } from "next/navigation";
import { signInAddress } from "./account-forms";
import { type Api, ApiError } from "./api";
import type { User } from "./api-types";
import { apiFor } from "./form-request";
import { RememberedUsers } from "./remembered-users";
import { ADDRESS_HEADER } from "./security-headers";

/** The backend sets it; here only its presence counts, and that it goes on with each request. */
const SESSION_COOKIE = "todo_session";

/** The backend itself waits up to two seconds for a database that wakes up. */
const TIMEOUT = 3_000;

/** The API as the caller of the page that is being rendered; null: nobody is signed in. */
export async function callersApi(): Promise<Api | null> {
  if (!(await cookies()).has(SESSION_COOKIE)) return null;
  return apiFor(await headers(), TIMEOUT);
}

const users = new RememberedUsers();

/** Whose page it is; for pages that ask the backend for something else besides, which decides. */
export async function owner(api: Api): Promise<User> {
  const token = (await cookies()).get(SESSION_COOKIE)?.value ?? "";
  const known = users.of(token);
  if (known) return known;
  const user = await api.me();
  users.remember(token, user);
  return user;
}

/** The address that was asked for. */
export async function address(): Promise<URL> {
  return new URL((await headers()).get(ADDRESS_HEADER) ?? "/", "http://here");
}

/** For pages of the signed-in: away to sign-in, before anything of the page is sent. */
export async function signIn(notice?: "ended"): Promise<never> {
  redirect(signInAddress({ ...(notice && { notice }), next: (await address()).pathname }));
}

/** Null when the backend is away or broken; someone signed out is sent to sign in. */
export async function orSignIn<T>(what: string, asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ApiError && error.signedOut) return signIn("ended");
    console.error(`${what}:`, error instanceof Error ? error.message : error);
    return null;
  }
}

/** The caller, if there is one and the backend says so. */
export async function callerIfAny(): Promise<User | null> {
  try {
    return (await (await callersApi())?.me()) ?? null;
  } catch {
    return null;
  }
}
