import { randomBytes } from "node:crypto";
import { type APIRequestContext, expect, type Locator, type Page, test as base } from "@playwright/test";

export interface Todo {
  id: string;
  title: string;
  completed: boolean;
}

const API = "/api/v1/todos";

/** The application's list, seen from the API's side; what is made under `name` goes at the end. */
export class Todos {
  private readonly mark = randomBytes(4).toString("hex");
  private readonly unmarked: string[] = [];

  constructor(private readonly request: APIRequestContext) {}

  /** A title that nobody else has. */
  name(text: string): string {
    return `${text} ${this.mark}`;
  }

  async all(): Promise<Todo[]> {
    const response = await this.request.get(API);
    expect(response.ok(), `GET ${API}: ${response.status()}`).toBe(true);
    return (await response.json()) as Todo[];
  }

  async mine(): Promise<Todo[]> {
    return (await this.all()).filter(({ title }) => title.includes(this.mark));
  }

  /** `plain`: for pictures, under a title that others may have as well. */
  async create(text: string, completed = false, plain = false): Promise<string> {
    const title = plain ? text : this.name(text);
    const response = await this.request.post(API, { data: { title } });
    expect(response.status()).toBe(201);
    const { id } = (await response.json()) as Todo;
    if (plain) this.unmarked.push(id);
    if (completed) await this.complete(id, true);
    return title;
  }

  async complete(id: string, completed: boolean): Promise<void> {
    const response = await this.request.patch(`${API}/${id}`, { data: { completed } });
    expect(response.ok()).toBe(true);
  }

  /** What the API has of these titles, waited for. */
  async expectMine(expected: Record<string, boolean>): Promise<void> {
    await expect
      .poll(async () => Object.fromEntries((await this.mine()).map((t) => [t.title, t.completed])))
      .toEqual(expected);
  }

  async cleanUp(): Promise<void> {
    const ids = [...this.unmarked, ...(await this.mine()).map(({ id }) => id)];
    for (const id of ids) await this.request.delete(`${API}/${id}`);
  }
}

interface Fixtures {
  todos: Todos;
  /** What the browser complained about; a test that provokes complaints empties it. */
  complaints: string[];
}

export const test = base.extend<Fixtures>({
  todos: async ({ request }, use) => {
    const todos = new Todos(request);
    await use(todos);
    await todos.cleanUp();
  },
  complaints: [
    async ({ page }, use) => {
      const complaints: string[] = [];
      page.on("console", (message) => {
        if (["error", "warning"].includes(message.type())) complaints.push(message.text());
      });
      page.on("pageerror", (error) => complaints.push(error.message));
      await use(complaints);
      expect(complaints, "errors, warnings or policy violations in the browser's console").toEqual([]);
    },
    { auto: true },
  ],
});

export { expect };

export const field = (page: Page): Locator => page.getByPlaceholder("What needs to be done?");

export const row = (page: Page, title: string): Locator =>
  page.getByRole("listitem").filter({ hasText: title });

export const box = (page: Page, title: string): Locator =>
  page.getByRole("checkbox", { name: title, exact: true });

/** Opens a page and waits until its JavaScript answers: forms work before that, but differently. */
export async function open(page: Page, path = "/"): Promise<void> {
  await page.goto(path);
  await page.waitForFunction(() => {
    const input = document.querySelector("#new-todo");
    return input !== null && Object.keys(input).some((key) => key.startsWith("__reactProps"));
  });
}

export async function add(page: Page, title: string): Promise<void> {
  await field(page).fill(title);
  await field(page).press("Enter");
  await expect(row(page, title)).toBeVisible();
}
