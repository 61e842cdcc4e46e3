import type { Problem, Todo, TodoCreate, TodoUpdate } from "./api-types";

/** The only file that fetches: in the browser relative to the page, on the server under `baseUrl`. */

export const TITLE_MAX = 500;

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
  ) {
    super(message);
  }

  get transient(): boolean {
    return this.status === 0 || TRANSIENT.has(this.status);
  }
}

export interface ApiOptions {
  baseUrl?: string;
  /** The longest that one call may take, in milliseconds. */
  timeout?: number;
  headers?: Record<string, string>;
}

export interface Api {
  list(): Promise<Todo[]>;
  /** The same key again makes no second todo, so that a lost answer can be asked for again. */
  create(todo: TodoCreate, idempotencyKey: string): Promise<Todo>;
  update(id: string, changes: TodoUpdate): Promise<Todo>;
  remove(id: string): Promise<void>;
  removeCompleted(): Promise<void>;
}

export function createApi({ baseUrl = "", timeout = 10_000, headers = {} }: ApiOptions = {}): Api {
  async function call(
    method: string,
    path: string,
    body?: TodoCreate | TodoUpdate,
    extra?: Record<string, string>,
  ): Promise<unknown> {
    let response: Response;
    try {
      response = await fetch(`${baseUrl}/api/v1${path}`, {
        method,
        cache: "no-store",
        // A change survives the page being left right after it.
        keepalive: method !== "GET",
        signal: AbortSignal.timeout(timeout),
        headers: {
          ...headers,
          ...extra,
          accept: "application/json",
          ...(body && { "content-type": "application/json" }),
        },
        ...(body && { body: JSON.stringify(body) }),
      });
    } catch (cause) {
      throw new ApiError(`No answer from the server (${describe(cause)})`, 0);
    }
    if (!response.ok) throw await failure(response);
    if (response.status === 204) return undefined;
    try {
      return await response.json();
    } catch (cause) {
      // A body that breaks off, or a proxy's page in place of the API's answer.
      throw new ApiError(`Unreadable answer from the server (${describe(cause)})`, 502);
    }
  }

  const item = (id: string) => `/todos/${encodeURIComponent(id)}`;

  return {
    async list() {
      const todos = await call("GET", "/todos");
      if (!Array.isArray(todos)) throw new ApiError("The server's answer is not a list", 502);
      return todos as Todo[];
    },
    async create(todo, idempotencyKey) {
      return (await call("POST", "/todos", todo, { "idempotency-key": idempotencyKey })) as Todo;
    },
    async update(id, changes) {
      return (await call("PATCH", item(id), changes)) as Todo;
    },
    async remove(id) {
      try {
        await call("DELETE", item(id));
      } catch (error) {
        // Already gone is what was asked for.
        if (!(error instanceof ApiError && error.status === 404)) throw error;
      }
    },
    async removeCompleted() {
      await call("DELETE", "/todos?completed=true");
    },
  };
}

async function failure(response: Response): Promise<ApiError> {
  let problem: Problem = {};
  try {
    problem = ((await response.json()) ?? {}) as Problem;
  } catch {
    // Not every error in front of the API speaks JSON; the status alone has to do.
  }
  const text = typeof problem.detail === "string" ? problem.detail : problem.title;
  return new ApiError(
    text ?? `The server answered ${response.status}`,
    response.status,
    retryAfter(response.headers.get("retry-after")),
  );
}

/** Retry-After is either seconds or an HTTP date. */
function retryAfter(value: string | null): number | undefined {
  if (!value) return undefined;
  const seconds = Number(value);
  const wait = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(wait) ? Math.max(0, wait) : undefined;
}

function describe(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  if (cause.name === "TimeoutError") return "timed out";
  // Node puts the reason that helps, such as ECONNREFUSED, one level down.
  return cause.cause instanceof Error ? cause.cause.message || cause.cause.name : cause.message;
}
