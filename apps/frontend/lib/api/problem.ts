import type { Problem } from "./api-types";

/** Answers that a later attempt may well improve upon; every other error is final. */
const TRANSIENT = new Set([408, 425, 429, 502, 503, 504]);

export class ApiError extends Error {
  override name = "ApiError";

  constructor(
    message: string,
    /** 0: there was no answer at all. */
    readonly status: number,
    /** What the server asked for in Retry-After, in milliseconds. */
    readonly retryAfter?: number,
    readonly problem: Partial<Problem> = {},
  ) {
    super(message);
  }

  get transient(): boolean {
    return this.status === 0 || TRANSIENT.has(this.status);
  }

  /** The session has ended, was signed out elsewhere, never was, or is another user's by now. */
  get signedOut(): boolean {
    return this.status === 401 || this.problem.code === "other-user";
  }
}

export async function failure(response: Response): Promise<ApiError> {
  let problem: Partial<Problem> = {};
  try {
    problem = ((await response.json()) ?? {}) as Partial<Problem>;
  } catch {
    // Not every error in front of the API speaks JSON; the status alone has to do.
  }
  const text = typeof problem.detail === "string" ? problem.detail : problem.title;
  return new ApiError(
    text ?? `The server answered ${response.status}`,
    response.status,
    retryAfter(response.headers.get("retry-after")),
    problem,
  );
}

/** Retry-After is either seconds or an HTTP date. */
function retryAfter(value: string | null): number | undefined {
  if (!value) return undefined;
  const seconds = Number(value);
  const wait = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(wait) ? Math.max(0, wait) : undefined;
}
