import type { Problem } from "./api-types";

/** The parts of a `Response` that the API client uses. */
export type Answer =
  Pick<Response, "ok" | "status" | "json"> & { headers: Pick<Headers, "get" | "getSetCookie">; body?: Response["body"] };

/** Statuses worth a retry; every other error is final. */
const TRANSIENT = new Set([408, 425, 429, 502, 503, 504]);

export class ApiError extends Error {
  override name = "ApiError";

  constructor(
    message: string,
    /** 0: no answer. */
    readonly status: number,
    /** The server's Retry-After, in milliseconds. */
    readonly retryAfter?: number,
    readonly problem: Partial<Problem> = {},
  ) {
    super(message);
  }

  get transient(): boolean {
    return this.status === 0 || TRANSIENT.has(this.status);
  }

  /** There is no session, it has ended, or it belongs to another user now. */
  get signedOut(): boolean {
    return this.status === 401 || this.problem.code === "other-user";
  }
}

export async function failure(response: Answer): Promise<ApiError> {
  let problem: Partial<Problem> = {};
  try {
    problem = ((await response.json()) ?? {}) as Partial<Problem>;
  } catch {
    // Errors of proxies are not JSON; only the status is known.
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
