import { type Complaint, EMAIL_MAX, type Mode } from "./account-forms";

/**
 * What a refused plain form brings back to its page: the email as it was typed and what is wrong,
 * never the password. In a cookie of a minute, because an address ends up in histories and logs.
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

/** Null also for what is not of this form's making: a cookie is the caller's to write. */
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
