import type { Api, Page } from "./api";
import { append, type Entry, type KnownTodo, rekey } from "./operations";

/** How many todos the server renders; the rest of a longer list follows by itself. */
export const FIRST_PAGE = 20;
const NEXT_PAGES = 500;

/** What a page of the site begins with. */
export type FirstPage = Page<KnownTodo>;

/** Without what only other programs want to know of a todo. */
export function leanPage({ todos, next }: Page): FirstPage {
  return { todos: todos.map(({ id, title, completed, order }) => ({ id, title, completed, order })), next };
}

/** The server's list as this page knows it: read page by page, corrected by what changes answer. */
export class KnownTodos {
  entries: Entry[];
  /** There is something to show, if only the first page. */
  begun: boolean;
  /** Where the list goes on; null: it is complete; undefined: it has not begun. */
  #next: string | null | undefined;
  /** Collects a list that replaces the one which is shown. */
  #fresh: KnownTodo[] | null = null;
  /** Deleted here, and so in no page, although it was asked for before. */
  readonly #gone = new Set<string>();

  constructor(first: FirstPage | null) {
    this.entries = rekey(first?.todos ?? [], []);
    this.begun = first !== null;
    this.#next = first?.next;
  }

  get complete(): boolean {
    return this.#next === null;
  }

  /** No change may be sent meanwhile: the collected list might show the time before it. */
  get replacing(): boolean {
    return this.#fresh !== null;
  }

  /** From now on pages collect a new list, because others have changed it. */
  replace(): void {
    this.#fresh = [];
    this.#next = undefined;
  }

  async loadPage(api: Api): Promise<void> {
    const page = await api.page(NEXT_PAGES, this.#next);
    if (this.#fresh) this.#fresh.push(...page.todos);
    else this.entries = append(this.entries, page.todos, this.#gone);
    this.#next = page.next;
    if (this.#fresh && this.complete) {
      this.entries = rekey(this.#fresh, this.entries);
      this.#fresh = null;
    }
    this.begun = true;
  }

  find(key: string): KnownTodo | undefined {
    return this.entries.find((entry) => entry.key === key)?.todo;
  }

  /** Stored for the first time; a page may have brought it already. */
  add(key: string, todo: KnownTodo): void {
    this.entries = [...this.entries.filter((entry) => entry.todo.id !== todo.id), { key, todo }];
  }

  change(key: string, todo: KnownTodo): void {
    this.entries = this.entries.map((entry) => (entry.key === key ? { ...entry, todo } : entry));
  }

  remove(key: string): void {
    const todo = this.find(key);
    if (todo) this.#gone.add(todo.id);
    this.entries = this.entries.filter((entry) => entry.key !== key);
  }

  removeCompleted(): void {
    this.entries = this.entries.filter((entry) => !entry.todo.completed);
  }
}
