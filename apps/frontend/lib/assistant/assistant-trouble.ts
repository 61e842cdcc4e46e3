import { CUT } from "./assistant-api";
import { AWAY, OFFLINE, OTHER_USER } from "@/lib/page/notices";
import { ApiError } from "@/lib/api/problem";

export interface Trouble {
  text: string;
  /** retry: a retry may work; sign-in: only signing in helps; none: nothing to repeat. */
  remedy: "retry" | "sign-in" | "none";
}

/** Our own messages for some errors; otherwise the server's message. */
export function troubleOf(error: unknown, online = navigator.onLine): Trouble {
  if (!(error instanceof ApiError)) return { text: "Something went wrong on this page.", remedy: "retry" };
  if (codeOf(error) === CUT) return BROKE_OFF;
  if (error.signedOut) return codeOf(error) === "other-user" ? { text: OTHER_USER, remedy: "sign-in" } : SIGNED_OUT;
  if (error.status === 0) return { text: `${online ? AWAY : OFFLINE} Your message is kept here.`, remedy: "retry" };
  return { text: error.message, remedy: error.status === 422 ? "none" : "retry" };
}

/** Returns why a confirmation no longer accepts an answer; null for other errors. */
export function closedQuestion(error: unknown): Trouble | null {
  const closed = ["confirmation-not-found", "confirmation-answered"].includes(codeOf(error));
  return closed ? { ...troubleOf(error), remedy: "none" } : null;
}

export function codeOf(error: unknown): string {
  return error instanceof ApiError ? (error.problem.code ?? "") : "";
}

const SIGNED_OUT: Trouble = {
  text: "You are signed out. Your message is kept here until you leave this page.",
  remedy: "sign-in",
};

const BROKE_OFF: Trouble = { text: "The answer broke off. The assistant's changes are kept.", remedy: "retry" };
