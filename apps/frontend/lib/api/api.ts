import type { Credentials, PasswordChange, Session, Todo, TodoCreate, TodoUpdate, User } from "./api-types";
import { type Answer, ApiError, failure } from "./problem";

/** All requests to the backend: relative in the browser, below `baseUrl` on the server. */

export { ApiError } from "./problem";

export const TITLE_MAX = 500;
export const NAMED_MAX = 100;

export interface ApiOptions {
  baseUrl?: string;
  /** Timeout of one call, in milliseconds. */
  timeout?: number;
  headers?: Record<string, string>;
  /** The user of the page: the backend refuses the request if somebody else has signed in since. */
  user?: string | null | undefined;
  fetch?: (url: string, init: RequestInit) => Promise<Answer>;
  onAnswer?: (response: Answer) => void;
}

export interface Page<Listed = Todo> {
  todos: Listed[];
  /** Cursor of the next page; null: this is the last one. */
  next: string | null;
}

export type Api = ReturnType<typeof createApi>;

export function createApi(options: ApiOptions = {}) {
  const { baseUrl = "", timeout = 10_000, headers = {}, user, onAnswer } = options;

  async function send(
    method: string, path: string, body?: object, extra?: Record<string, string>, signal = AbortSignal.timeout(timeout),
  ): Promise<Answer> {
    let response: Answer;
    try {
      response = await (options.fetch ?? fetch)(`${baseUrl}/api/v1${path}`, {
        method,
        cache: "no-store",
        // A change must survive leaving the page; for a stream there would be no reader.
        keepalive: method !== "GET" && extra?.accept === undefined,
        signal,
        headers: {
          ...headers,
          ...(user && { "x-todo-user": user }),
          accept: "application/json",
          ...extra,
          ...(body && { "content-type": "application/json" }),
        },
        ...(body && { body: JSON.stringify(body) }),
      });
    } catch (cause) {
      throw new ApiError(`No answer from the server (${describe(cause)})`, 0);
    }
    onAnswer?.(response);
    if (!response.ok) throw await failure(response);
    return response;
  }

  async function call(...request: Parameters<typeof send>): Promise<unknown> {
    return read(await send(...request));
  }

  async function page(query: string): Promise<Page> {
    const response = await send("GET", `/todos${query}`);
    const todos = await read(response);
    if (!Array.isArray(todos)) throw new ApiError("The server's answer is not a list", 502);
    return { todos: todos as Todo[], next: nextOf(response.headers.get("link")) };
  }

  const ifMatch = (version?: number) => (version === undefined ? undefined : { "if-match": `"${version}"` });
  const item = (id: string) => `/todos/${encodeURIComponent(id)}`;

  return {
    call,
    /** A POST with a streamed answer and no timeout; `signal` ends it. */
    async stream(path: string, body: object, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
      const response = await send("POST", path, body, { accept: "text/event-stream" }, signal);
      if (!response.body) throw new ApiError("The server's answer is empty", 502);
      return response.body;
    },
    signUp: (credentials: Credentials) => call("POST", "/users", credentials) as Promise<Session>,
    signIn: (credentials: Credentials) => call("POST", "/session", credentials) as Promise<Session>,
    signOut: (everywhere = false) => call("DELETE", everywhere ? "/session?everywhere=true" : "/session"),
    me: () => call("GET", "/me") as Promise<User>,
    deleteAccount: (password: string) => call("DELETE", "/me", { password }),
    /** Ends all other sessions. */
    changePassword: (change: PasswordChange) => call("PUT", "/me/password", change),
    page: (limit: number, after?: string | null) =>
      page(`?${new URLSearchParams({ limit: String(limit), ...(after && { after }) }).toString()}`),
    async named(ids: readonly string[]): Promise<Todo[]> {
      return (await page(`?${new URLSearchParams(ids.map((id) => ["id", id])).toString()}`)).todos;
    },
    /** Safe to repeat after a lost answer: the same key never creates a second todo. */
    create: (todo: TodoCreate, idempotencyKey: string) =>
      call("POST", "/todos", todo, { "idempotency-key": idempotencyKey }) as Promise<Todo>,
    /** `version`: refused with 412 if the todo has another by now. */
    update: (id: string, changes: TodoUpdate, version?: number) =>
      call("PATCH", item(id), changes, ifMatch(version)) as Promise<Todo>,
    async toggleAll(completed: boolean): Promise<void> {
      try {
        await call("PATCH", "/todos", { completed });
      } catch (error) {
        // An older backend during a rollout; the retry will reach a new one.
        if (error instanceof ApiError && error.status === 405) throw new ApiError(error.message, 503);
        throw error;
      }
    },
    /** `version`: refused with 412 if the todo has another by now. */
    async remove(id: string, version?: number): Promise<void> {
      try {
        await call("DELETE", item(id), undefined, ifMatch(version));
      } catch (error) {
        // Already deleted, as requested.
        if (!(error instanceof ApiError && error.status === 404)) throw error;
      }
    },
    /** Bounds: only `ids`, and todos unchanged for `unchangedFor` milliseconds. */
    async removeCompleted(bounds?: { ids: readonly string[]; unchangedFor: number | null }): Promise<void> {
      // Without bounds the request would delete all.
      if (bounds?.ids.length === 0 && bounds.unchangedFor === null) return;
      const query = new URLSearchParams({ completed: "true" });
      if (typeof bounds?.unchangedFor === "number") query.set("unchanged_for", String(Math.max(0, bounds.unchangedFor)));
      for (const id of bounds?.ids.slice(0, NAMED_MAX) ?? []) query.append("id", id);
      await call("DELETE", `/todos?${query.toString()}`);
    },
  };
}

async function read(response: Answer): Promise<unknown> {
  if (response.status === 204) return undefined;
  try {
    return await response.json();
  } catch (cause) {
    // A truncated body, or a proxy's page instead of the API's answer.
    throw new ApiError(`Unreadable answer from the server (${describe(cause)})`, 502);
  }
}

/** The cursor in `Link: <…?limit=…&after=…>; rel="next"`. */
function nextOf(link: string | null): string | null {
  const target = /<([^>]*)>\s*;[^,]*rel="?next"?/.exec(link ?? "")?.[1];
  return target === undefined ? null : new URLSearchParams(target.split("?")[1]).get("after");
}

function describe(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  if (cause.name === "TimeoutError") return "timed out";
  // Node puts the useful reason (ECONNREFUSED) into `cause`.
  return cause.cause instanceof Error ? cause.cause.message || cause.cause.name : cause.message;
}
