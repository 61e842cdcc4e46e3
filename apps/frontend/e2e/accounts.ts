import { randomBytes } from "node:crypto";
import { type APIRequestContext, expect } from "@playwright/test";

export interface Todo {
  id: string;
  title: string;
  completed: boolean;
}

const API = "/api/v1";

/** A new account and its todos, accessed through the API. */
export class Account {
  private constructor(
    private readonly request: APIRequestContext,
    readonly email: string,
    readonly password: string,
    public token: string,
  ) {}

  /** `request`: separate from the browser's, so this does not sign the browser in. */
  static async signUp(request: APIRequestContext): Promise<Account> {
    const [email, password] = [newEmail(), newPassword()];
    const response = await request.post(`${API}/users`, { data: { email, password } });
    expect(response.status(), `sign-up: ${await response.text()}`).toBe(201);
    return new Account(request, email, password, await sessionOf(request));
  }

  async call(method: string, path: string, data?: object) {
    const headers = { authorization: `Bearer ${this.token}` };
    return this.request.fetch(`${API}${path}`, { method, headers, ...(data && { data }) });
  }

  async all(): Promise<Todo[]> {
    const response = await this.call("GET", "/todos");
    expect(response.ok(), `GET todos: ${response.status()}`).toBe(true);
    return (await response.json()) as Todo[];
  }

  /** Returns the title. */
  async create(title: string, completed = false, order?: number): Promise<string> {
    const response = await this.call("POST", "/todos", { title, ...(order && { order }) });
    expect(response.status()).toBe(201);
    const { id } = (await response.json()) as Todo;
    if (completed) expect((await this.call("PATCH", `/todos/${id}`, { completed })).ok()).toBe(true);
    return title;
  }

  /** Waits until the API has these todos. */
  async expectTodos(expected: Record<string, boolean>): Promise<void> {
    await expect
      // Longer than a deletion can be undone.
      .poll(async () => Object.fromEntries((await this.all()).map((t) => [t.title, t.completed])), { timeout: 12_000 })
      .toEqual(expected);
  }

  /** Ends the sessions with this account's token, as another device would. */
  async signOut(): Promise<void> {
    expect((await this.call("DELETE", "/session")).status()).toBe(204);
  }

  /** Returns false if the account no longer exists. */
  async signIn(): Promise<boolean> {
    const data = { email: this.email, password: this.password };
    const response = await this.request.post(`${API}/session`, { data });
    if (response.ok()) this.token = await sessionOf(this.request);
    return response.ok();
  }

  /** Deletes the account with all its data; works also after signing out or if it is gone. */
  async delete(): Promise<void> {
    const { password } = this;
    if ((await this.call("DELETE", "/me", { password })).status() === 204) return;
    if (await this.signIn()) expect((await this.call("DELETE", "/me", { password })).status()).toBe(204);
  }
}

/** Returns the session's token, which a browser gets only as a cookie. */
async function sessionOf(request: APIRequestContext): Promise<string> {
  const { cookies } = await request.storageState();
  const session = cookies.find(({ name }) => name.endsWith("_session"));
  expect(session, "no cookie of a session").toBeDefined();
  return session!.value;
}

export const newEmail = (): string => `e2e-${randomBytes(6).toString("hex")}@example.com`;

export const newPassword = (): string => `not-a-secret-${randomBytes(4).toString("hex")}`;
