import type { Credentials, PasswordChange, Session, Todo, TodoCreate, TodoUpdate, User } from "./api-types";
import { ApiError, failure } from "./problem";

/** All requests to the backend: in the browser relative to the page, on the server under `baseUrl`. */

export { ApiError } from "./problem";

export const TITLE_MAX = 500;
export const NAMED_MAX = 100;

export interface ApiOptions {
  baseUrl?: string;
  /** The longest that one call may take, in milliseconds. */
  timeout?: number;
  headers?: Record<string, string>;
  /** Whose page it is that asks: nothing is done if somebody else has signed in since. */
  user?: string | null | undefined;
  fetch?: typeof fetch;
  onAnswer?: (response: Response) => void;
}

export interface Page<Listed = Todo> {
  todos: Listed[];
  /** Where the next page goes on; null: this was the last one. */
  next: string | null;
}

export type Api = ReturnType<typeof createApi>;

export function createApi(options: ApiOptions = {}) {
  const { baseUrl = "", timeout = 10_000, headers = {}, user, onAnswer } = options;

  async function send(
    method: string,
    path: string,
    body?: object,
    extra?: Record<string, string>,
    signal = AbortSignal.timeout(timeout),
  ): Promise<Response> {
    let response: Response;
    try {
      response = await (options.fetch ?? fetch)(`${baseUrl}/api/v1${path}`, {
        method,
        cache: "no-store",
        // A change survives the page being left right after it; nobody would read a stream, though.
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
    /** A POST that is answered bit by bit, for as long as it takes; `signal` ends it. */
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
    /** The same key again makes no second todo, so that a lost answer can be asked for again. */
    create: (todo: TodoCreate, idempotencyKey: string) =>
      call("POST", "/todos", todo, { "idempotency-key": idempotencyKey }) as Promise<Todo>,
    /** `version`: refused with 412 if the todo has another by now. */
    update: (id: string, changes: TodoUpdate, version?: number) =>
      call("PATCH", item(id), changes, ifMatch(version)) as Promise<Todo>,
    async toggleAll(completed: boolean): Promise<void> {
      try {
        await call("PATCH", "/todos", { completed });
      } catch (error) {
        // A release behind this page's: the next one is on its way, or this page's address leads to it soon.
        if (error instanceof ApiError && error.status === 405) throw new ApiError(error.message, 503);
        throw error;
      }
    },
    /** `version`: refused with 412 if the todo has another by now. */
    async remove(id: string, version?: number): Promise<void> {
      try {
        await call("DELETE", item(id), undefined, ifMatch(version));
      } catch (error) {
        // Already gone is what was asked for.
        if (!(error instanceof ApiError && error.status === 404)) throw error;
      }
    },
    /** With bounds: only `ids`, and what has not changed for `unchangedFor` milliseconds. */
    async removeCompleted(bounds?: { ids: readonly string[]; unchangedFor: number | null }): Promise<void> {
      // Without any of them the request would be about all.
      if (bounds?.ids.length === 0 && bounds.unchangedFor === null) return;
      const query = new URLSearchParams({ completed: "true" });
      if (typeof bounds?.unchangedFor === "number") query.set("unchanged_for", String(Math.max(0, bounds.unchangedFor)));
      for (const id of bounds?.ids.slice(0, NAMED_MAX) ?? []) query.append("id", id);
      await call("DELETE", `/todos?${query.toString()}`);
    },
  };
}

async function read(response: Response): Promise<unknown> {
  if (response.status === 204) return undefined;
  try {
    return await response.json();
  } catch (cause) {
    // A body that breaks off, or a proxy's page in place of the API's answer.
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
  // Node puts the reason that helps, such as ECONNREFUSED, one level down.
  return cause.cause instanceof Error ? cause.cause.message || cause.cause.name : cause.message;
}
