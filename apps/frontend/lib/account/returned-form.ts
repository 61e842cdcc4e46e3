import { type Complaint, EMAIL_MAX, type Mode } from "./account-forms";

/**
 * Returns the typed email and the error of a rejected plain form to its page, never the password.
 * Uses a cookie of one minute, because addresses end up in histories and logs.
 */
export interface Returned {
  mode: Mode;
  email: string;
  complaints: Complaint[];
}

export const RETURNED_COOKIE = "todo_form";
const SECONDS = 60;

export function returnedCookie(returned: Returned, secure: boolean): string {
  const short = { ...returned, email: returned.email.slice(0, 2 * EMAIL_MAX) };
  const value = Buffer.from(JSON.stringify(short)).toString("base64url");
  return `${RETURNED_COOKIE}=${value}; Path=/; Max-Age=${SECONDS}; HttpOnly; SameSite=Lax${secure ? "; Secure" : ""}`;
}

/** Also null for an invalid value, because callers can write any cookie. */
export function readReturned(value: string | undefined, mode: Mode): Returned | null {
  try {
    const read = JSON.parse(Buffer.from(value ?? "", "base64url").toString()) as Partial<Returned> | null;
    if (read?.mode !== mode || typeof read.email !== "string" || !Array.isArray(read.complaints)) return null;
    const complaints = read.complaints.filter((one) => typeof one.text === "string").slice(0, 4);
    return { mode, email: read.email, complaints };
  } catch {
    return null;
  }
}
