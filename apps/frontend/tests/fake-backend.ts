import { vi } from "vitest";
import type { Credentials, Session, Todo, TodoCreate, TodosUpdate, TodoUpdate, User } from "@/lib/api/api-types";

export interface Call {
  method: string;
  path: string;
  body: unknown;
  headers: Headers;
}

export const ADA: User = { id: "u1", email: "ada@example.com", created_at: "2026-11-21T09:00:00Z" };

export function todo(id: string, title: string, completed = false): Todo {
  return { id, title, completed, order: Number(id) || 1, version: 1, url: `http://localhost/api/v1/todos/${id}` };
}

/** A `fetch` that behaves like the backend's contract. */
export class FakeBackend {
  readonly calls: Call[] = [];
  /** Answers for the next requests, one each; an Error means no answer. */
  readonly failures: (Response | Error)[] = [];
  /** Passwords by email. */
  readonly accounts = new Map<string, string>([[ADA.email, "not-a-secret 1"]]);
  /** User of the caller's cookie; null: nobody. */
  user: User | null = ADA;
  /** Times of the todos' changes, by id. */
  readonly #changedAt = new Map<string, number>();
  readonly #created = new Map<string, { body: string; answer: Todo }>();
  #next = 100_000;

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
    const headers = new Headers(init.headers);
    this.calls.push({ method, path, body, headers });

    const failure = this.failures.shift();
    if (failure instanceof Error) throw failure;
    if (failure) return failure;

    if (method === "POST" && path === "/api/v1/users") return this.#signUp(body as Credentials);
    if (path === "/api/v1/session") return method === "POST" ? this.#signIn(body as Credentials) : this.#left();
    if (!this.user) return problem(401, "Sign in first.", undefined, { "www-authenticate": "Bearer" });
    const owner = headers.get("x-todo-user");
    if (owner !== null && owner !== this.user.id) return Response.json({ status: 409, detail: "Another user.", code: "other-user" }, { status: 409 });
    if (path === "/api/v1/me") return method === "GET" ? Response.json(this.user) : this.#left();
    const id = /^\/api\/v1\/todos\/(.+)$/.exec(path)?.[1];
    if (id === undefined) return this.#collection(method, body as TodoCreate & TodosUpdate, query, headers);
    return this.#item(method, id, body as TodoUpdate, headers);
  }

  #signUp({ email, password }: Credentials): Response {
    if (this.accounts.has(email)) return problem(409, "This email already has an account. Sign in instead.");
    if (password.length < 8) {
      const errors = [{ location: "body", pointer: "/password", detail: "Too short" }];
      return Response.json({ status: 422, detail: "Not valid; see errors.", errors }, { status: 422 });
    }
    this.accounts.set(email, password);
    return this.#session(email, 201);
  }

  #signIn({ email, password }: Credentials): Response {
    if (this.accounts.get(email) !== password) return problem(401, "Email or password is wrong.");
    return this.#session(email, 200);
  }

  #session(email: string, status: number): Response {
    this.user = email === ADA.email ? ADA : { ...ADA, id: `u-${email}`, email };
    const session: Session = {
      token: "not-a-secret-token",
      token_type: "bearer",
      expires_at: "2026-11-28T09:00:00Z",
      user: this.user,
    };
    return Response.json(session, { status, headers: { "set-cookie": "todo_session=new; HttpOnly; Path=/" } });
  }

  #left(): Response {
    this.user = null;
    return new Response(null, { status: 204, headers: { "set-cookie": "todo_session=; Max-Age=0; Path=/" } });
  }

  /** Changes by another client. */
  change(id: string, changes: Partial<Todo>): void {
    this.#changedAt.set(id, Date.now());
    this.todos = this.todos.map((one) => (one.id === id ? { ...one, ...changes, version: one.version + 1 } : one));
  }

  #item(method: string, id: string, changes: TodoUpdate, headers: Headers): Response {
    const found = this.todos.find((candidate) => candidate.id === id);
    if (!found) return problem(404, "There is no such todo");
    if (![null, `"${found.version}"`].includes(headers.get("if-match"))) return problem(412, "It has changed");
    if (method === "DELETE") {
      this.todos = this.todos.filter((candidate) => candidate !== found);
      return new Response(null, { status: 204 });
    }
    this.change(id, changes);
    return Response.json(this.todos.find((candidate) => candidate.id === id));
  }

  #collection(method: string, body: TodoCreate & TodosUpdate, query: URLSearchParams, headers: Headers): Response {
    if (method === "GET" && query.has("id")) {
      return Response.json(this.todos.filter(({ id }) => query.getAll("id").includes(id)));
    }
    if (method === "GET") return this.#page(query.get("limit"), query.get("after"));
    if (method === "PATCH") {
      for (const { id, completed } of this.todos) if (completed !== body.completed) this.change(id, { completed: body.completed });
      return new Response(null, { status: 204 });
    }
    if (method === "DELETE") {
      const age = query.get("unchanged_for");
      const ids = query.getAll("id");
      const isOld = (id: string) => age !== null && (this.#changedAt.get(id) ?? 0) <= Date.now() - Number(age);
      const isSpared = (id: string) => (age !== null || ids.length > 0) && !ids.includes(id) && !isOld(id);
      this.todos = this.todos.filter(({ id, completed }) => (query.has("completed") && !completed) || isSpared(id));
      return new Response(null, { status: 204 });
    }
    const key = headers.get("idempotency-key") ?? "";
    const before = this.#created.get(key);
    if (before) {
      if (before.body !== JSON.stringify(body)) return problem(422, "This key was used for another request.");
      return Response.json(before.answer, { status: 201, headers: { "idempotency-replayed": "true" } });
    }
    const created = todo(String((this.#next += 1)), body.title);
    this.todos.push(created);
    this.#created.set(key, { body: JSON.stringify(body), answer: { ...created } });
    return Response.json({ ...created }, { status: 201 });
  }

  #page(limit: string | null, after: string | null): Response {
    const begin = after === null ? 0 : this.todos.findIndex(({ id }) => id === after) + 1;
    const end = limit === null ? this.todos.length : begin + Number(limit);
    const last = this.todos[end - 1];
    const more = last !== undefined && end < this.todos.length;
    return Response.json(this.todos.slice(begin, end), {
      headers: more ? { link: `<http://localhost/api/v1/todos?limit=${limit}&after=${last.id}>; rel="next"` } : {},
    });
  }
}

export function problem(
  status: number,
  detail: string,
  retryAfter?: string,
  headers: Record<string, string> = {},
): Response {
  return Response.json(
    { status, detail },
    { status, headers: { ...headers, ...(retryAfter !== undefined && { "retry-after": retryAfter }) } },
  );
}
