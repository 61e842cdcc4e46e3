import type { Api, Page } from "@/lib/api/api";
import { compare, type Entry, type KnownTodo, rekey } from "./operations";

/** How many todos the server renders; the rest of a longer list follows. */
export const FIRST_PAGE = 20;
const NEXT_PAGES = 500;

export type FirstPage = Page<KnownTodo>;

export type Effect =
  | { kind: "put"; todos: readonly KnownTodo[] }
  | { kind: "remove"; ids: readonly string[] }
  | { kind: "toggle-all"; completed: boolean }
  | { kind: "clear-completed"; ids: readonly string[] };

/** Without what only other programs want to know of a todo. */
export function leanPage({ todos, next }: Page): FirstPage {
  return { todos: todos.map(({ id, title, completed, order, version }) => ({ id, title, completed, order, version })), next };
}

/** The server's list as this page knows it: read page by page, corrected by what changes answer. */
export class KnownTodos {
  entries: Entry[];
  begun: boolean;
  /** Where the list goes on; null: it is complete; undefined: it has not begun. */
  #next: string | null | undefined;
  /** Collects a list that replaces the one which is shown. */
  #fresh: { todos: KnownTodo[]; next?: string | null } | null = null;
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

  replace(): void {
    this.#fresh = { todos: [] };
  }

  async loadPage(api: Api): Promise<void> {
    const fresh = this.#fresh;
    const { todos, next } = await api.page(NEXT_PAGES, fresh ? fresh.next : this.#next);
    this.begun = true;
    if (fresh) {
      fresh.todos.push(...todos);
      fresh.next = next;
      // As much of it as is shown: the rest follows when it is wanted.
      if (next !== null && fresh.todos.length < this.entries.length) return;
      this.entries = rekey(fresh.todos, this.entries);
      this.#fresh = null;
    } else this.#put(todos);
    this.#next = next;
  }

  ids(keys: ReadonlySet<string>): string[] {
    return this.entries.filter(({ key }) => keys.has(key)).map(({ todo }) => todo.id);
  }

  find(key: string): KnownTodo | undefined {
    return this.entries.find((entry) => entry.key === key)?.todo;
  }

  /** `key`: under which the todo is shown here already. */
  apply(effect: Effect, key?: string): void {
    switch (effect.kind) {
      case "put":
        this.#put(effect.todos, key);
        break;
      case "remove":
        for (const id of effect.ids) this.#gone.add(id);
        this.entries = this.entries.filter(({ todo }) => !this.#gone.has(todo.id));
        break;
      case "toggle-all":
        this.entries = this.entries.map((entry) => ({ ...entry, todo: { ...entry.todo, completed: effect.completed } }));
        break;
      case "clear-completed": {
        // Not gone for good: what somebody else has changed is there still, and comes with the next read.
        const cleared = new Set(effect.ids);
        this.entries = this.entries.filter(({ todo }) => !(todo.completed && cleared.has(todo.id)));
      }
    }
  }

  /** Answers overtake each other: the newest version of a todo counts. */
  #put(todos: readonly KnownTodo[], key?: string): void {
    const entries = new Map(this.entries.map((entry) => [entry.todo.id, entry]));
    for (const todo of todos) {
      const known = entries.get(todo.id);
      if (this.#gone.has(todo.id) || (known && todo.version < known.todo.version)) continue;
      entries.set(todo.id, { key: key ?? known?.key ?? todo.id, todo });
    }
    this.entries = [...entries.values()].sort(compare);
  }
}
