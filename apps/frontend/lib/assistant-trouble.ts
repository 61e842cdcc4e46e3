import { CUT } from "./assistant-api";
import { ApiError } from "./problem";

export interface Trouble {
  /** What happened, and what to do about it. */
  text: string;
  /** retry: the same again may work; sign-in: only that helps; none: there is nothing to repeat. */
  remedy: "retry" | "sign-in" | "none";
}

/** Errors as people need them said; what the server says itself goes for all others. */
export function troubleOf(error: unknown, online = navigator.onLine): Trouble {
  if (!(error instanceof ApiError)) return { text: "Something went wrong on this page.", remedy: "retry" };
  const known = KNOWN.get(codeOf(error));
  if (known) return typeof known === "function" ? known(error) : known;
  if (error.signedOut) return SIGNED_OUT;
  if (error.status === 0) {
    return online
      ? { text: "The server is not answering. Your message is kept here.", remedy: "retry" }
      : { text: "You are offline. Your message is kept here.", remedy: "retry" };
  }
  return { text: error.message, remedy: error.status === 422 ? "none" : "retry" };
}

/** Why an answer to a confirmation came to nothing; null: for some other reason. */
export function closedQuestion(error: unknown): Trouble | null {
  if (!(error instanceof ApiError) || KNOWN.has(codeOf(error))) return null;
  if (error.status === 404) {
    return { text: "This confirmation is no longer open. Nothing was changed. Ask again.", remedy: "none" };
  }
  if (error.status === 409 && codeOf(error) !== "assistant-interrupted") {
    return { text: "You have already answered this, perhaps in another window.", remedy: "none" };
  }
  return null;
}

export function codeOf(error: unknown): string {
  return error instanceof ApiError ? (error.problem.code ?? "") : "";
}

const SIGNED_OUT: Trouble = {
  text: "You are signed out. Your message is kept here until you leave this page.",
  remedy: "sign-in",
};

const KNOWN = new Map<string, Trouble | ((error: ApiError) => Trouble)>([
  ["not-signed-in", SIGNED_OUT],
  ["other-user", { text: "Another user has signed in. Sign in again to go on.", remedy: "sign-in" }],
  [
    "assistant-busy",
    {
      text: "The assistant is still at work on another request of yours, perhaps in another window.",
      remedy: "retry",
    },
  ],
  [
    "assistant-rate-limited",
    ({ retryAfter }) => ({
      text: `The AI provider takes no more requests at the moment. Try again ${soon(retryAfter)}.`,
      remedy: "retry",
    }),
  ],
  [
    "assistant-key-refused",
    {
      text: "The AI provider refuses the API key. Set a valid OPENAI_API_KEY and deploy again.",
      remedy: "retry",
    },
  ],
  [CUT, { text: "The answer broke off. What the assistant has done until then stays done.", remedy: "retry" }],
]);

function soon(wait: number | undefined): string {
  if (wait === undefined) return "in a while";
  const seconds = Math.max(1, Math.ceil(wait / 1000));
  if (seconds < 90) return `in ${seconds} ${seconds === 1 ? "second" : "seconds"}`;
  return `in ${Math.ceil(seconds / 60)} minutes`;
}
