import { vi } from "vitest";
import type { Todo, TodoCreate, TodoUpdate } from "@/lib/api-types";

export interface Call {
  method: string;
  path: string;
  body: unknown;
  headers: Headers;
}

export function todo(id: string, title: string, completed = false): Todo {
  return { id, title, completed, order: Number(id) || 1, url: `http://localhost/api/v1/todos/${id}` };
}

/** The backend behind `fetch`, as far as the contract goes. */
export class FakeBackend {
  readonly calls: Call[] = [];
  /** Taken one by one before the backend itself answers; an Error is no answer at all. */
  readonly failures: (Response | Error)[] = [];
  #next = 100;

  constructor(public todos: Todo[] = []) {
    vi.stubGlobal("fetch", (url: string, init: RequestInit = {}) => this.#answer(url, init));
  }

  get changes(): string[] {
    return this.calls.filter(({ method }) => method !== "GET").map((c) => `${c.method} ${c.path}`);
  }

  get titles(): string[] {
    return this.todos.map(({ title }) => title);
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- as fetch: what it throws, rejects
  async #answer(url: string, init: RequestInit): Promise<Response> {
    const { pathname: path, searchParams: query } = new URL(url, "http://localhost");
    const method = init.method ?? "GET";
    const body: unknown = typeof init.body === "string" ? JSON.parse(init.body) : undefined;
    this.calls.push({ method, path, body, headers: new Headers(init.headers) });

    const failure = this.failures.shift();
    if (failure instanceof Error) throw failure;
    if (failure) return failure;

    const id = /^\/api\/v1\/todos\/(.+)$/.exec(path)?.[1];
    if (id === undefined) return this.#collection(method, body as TodoCreate, query);
    const found = this.todos.find((candidate) => candidate.id === id);
    if (!found) return problem(404, "There is no such todo");
    if (method === "DELETE") {
      this.todos = this.todos.filter((candidate) => candidate !== found);
      return new Response(null, { status: 204 });
    }
    Object.assign(found, body as TodoUpdate);
    return Response.json({ ...found });
  }

  #collection(method: string, body: TodoCreate, query: URLSearchParams): Response {
    if (method === "GET") return Response.json(this.todos);
    if (method === "DELETE") {
      this.todos = query.has("completed") ? this.todos.filter(({ completed }) => !completed) : [];
      return new Response(null, { status: 204 });
    }
    const created = todo(String((this.#next += 1)), body.title);
    this.todos.push(created);
    return Response.json({ ...created }, { status: 201 });
  }
}

export function problem(status: number, detail: string, retryAfter?: string): Response {
  return Response.json(
    { status, detail },
    { status, headers: retryAfter === undefined ? {} : { "retry-after": retryAfter } },
  );
}
