import type { Api, Page } from "@/lib/api/api";
import { compare, type Entry, type KnownTodo, rekey } from "./operations";

/** How many todos the server renders; the browser loads the rest. */
export const FIRST_PAGE = 20;
const NEXT_PAGES = 500;

export type FirstPage = Page<KnownTodo>;

export type Effect =
  | { kind: "put"; todos: readonly KnownTodo[] }
  | { kind: "remove"; ids: readonly string[] }
  | { kind: "toggle-all"; completed: boolean }
  | { kind: "clear-completed"; ids: readonly string[] };

/** A todo without the fields that only other programs need. */
export function leanPage({ todos, next }: Page): FirstPage {
  return { todos: todos.map(({ id, title, completed, order, version }) => ({ id, title, completed, order, version })), next };
}

/** The page's copy of the server's list: read page by page, updated by the answers to changes. */
export class KnownTodos {
  entries: Entry[];
  begun: boolean;
  /** Cursor of the next page; null: complete; undefined: not started. */
  #next: string | null | undefined;
  /** A new list that will replace the visible one. */
  #fresh: { todos: KnownTodo[]; next?: string | null } | null = null;
  /** Todos deleted here: pages requested before may still contain them. */
  readonly #gone = new Set<string>();

  constructor(first: FirstPage | null) {
    this.entries = rekey(first?.todos ?? [], []);
    this.begun = first !== null;
    this.#next = first?.next;
  }

  get complete(): boolean {
    return this.#next === null;
  }

  /** Blocks changes meanwhile, because the new list may be older than they are. */
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
      // Only the visible part; the rest is loaded on demand.
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

  /** `key`: the todo's existing key on this page. */
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
        // Not final: a todo that somebody else changed still exists and returns with the next read.
        const cleared = new Set(effect.ids);
        this.entries = this.entries.filter(({ todo }) => !(todo.completed && cleared.has(todo.id)));
      }
    }
  }

  /** Answers may arrive out of order, so the newest version wins. */
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
