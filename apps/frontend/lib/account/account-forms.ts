import { ApiError } from "@/lib/api/api";
import { AWAY } from "@/lib/page/notices";
import { filterOf } from "@/lib/todos/filters";

/** Shared parts of sign-in and sign-up, for the browser and for plain forms on the server. */

export type Mode = "sign-in" | "sign-up";
export type FieldName = "email" | "password";

export interface Complaint {
  /** Absent: the error concerns the whole form. */
  field?: FieldName;
  text: string;
}

export const EMAIL_MAX = 254;
export const PASSWORD_MIN = 8;
export const PASSWORD_MAX = 128;

/** Checks what needs no request; the backend has the last word. */
export function check(mode: Mode, email: string, password: string): Complaint[] {
  const complaints: Complaint[] = [];
  const address = email.trim();
  if (!address) complaints.push({ field: "email", text: "Enter your email address." });
  else if (address.length > EMAIL_MAX || !/^[^\s@]+@[^\s@]+$/u.test(address)) {
    complaints.push({ field: "email", text: "Enter an email address such as name@example.com." });
  }
  const length = Array.from(password).length;
  if (length === 0) {
    const text = mode === "sign-up" ? "Choose a password." : "Enter your password.";
    complaints.push({ field: "password", text });
  } else if (mode === "sign-up" && length < PASSWORD_MIN) {
    complaints.push({ field: "password", text: `Use at least ${PASSWORD_MIN} characters.` });
  } else if (mode === "sign-up" && length > PASSWORD_MAX) {
    complaints.push({ field: "password", text: `Use at most ${PASSWORD_MAX} characters.` });
  }
  return complaints;
}

export function complaintsOf(error: unknown): Complaint[] {
  if (!(error instanceof ApiError)) return [{ text: "Something went wrong here. Try again." }];
  if (error.status === 422) return fieldComplaints(error);
  const silent = error.transient && error.status !== 429 && !error.problem.code;
  const text = silent ? `${AWAY} Try again in a moment.` : error.message;
  return [error.status === 409 ? { field: "email", text } : { text }];
}

function fieldComplaints(error: ApiError): Complaint[] {
  const complaints = (error.problem.errors ?? []).flatMap(({ pointer, detail }): Complaint[] => {
    const field = pointer.slice(1);
    const text = `${detail.replace(/\.$/, "")}.`;
    return field === "email" || field === "password" ? [{ field, text }] : [];
  });
  return complaints.length > 0 ? complaints : [{ text: error.message }];
}

/**
 * Returns the address of the list after signing in, with the text typed before. It is always an
 * address of this application, whatever `next` contains.
 */
export function afterSignIn(next?: string | null, title?: string | null): string {
  const { path } = filterOf(next);
  return title ? `${path}?${new URLSearchParams({ title: title.slice(0, 500) }).toString()}` : path;
}

export function signInAddress(options: { notice?: string; next?: string | null; title?: string | null } = {}): string {
  const query = new URLSearchParams();
  if (options.notice) query.set("notice", options.notice);
  const { path } = filterOf(options.next);
  if (path !== "/") query.set("next", path);
  if (options.title) query.set("title", options.title.slice(0, 500));
  const text = query.toString();
  return text ? `/sign-in?${text}` : "/sign-in";
}
