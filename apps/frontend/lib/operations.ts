import type { Todo } from "./api-types";

/**
 * What the page shows is the server's list with the changes on top that it has not confirmed yet.
 * A change that fails is left out of the next calculation: that is all there is to rolling back.
 */

/** What the page has to know of a todo; no more of it is sent along with a page. */
export type KnownTodo = Pick<Todo, "id" | "title" | "completed" | "order">;

/** A todo of the server's, under a key that stays the same from before it had an id. */
export interface Entry {
  key: string;
  todo: KnownTodo;
}

export interface Item {
  key: string;
  /** Absent until the server has stored it. */
  id?: string;
  title: string;
  completed: boolean;
  /** Shown, but not confirmed yet. */
  pending: boolean;
}

export type Operation =
  | { kind: "add"; key: string; title: string }
  | { kind: "change"; key: string; changes: { title?: string; completed?: boolean } }
  | { kind: "remove"; key: string }
  | { kind: "clear-completed" };

export function project(entries: readonly Entry[], operations: readonly Operation[]): Item[] {
  const items = new Map<string, Item>();
  for (const entry of entries) items.set(entry.key, itemOf(entry));
  for (const operation of operations) {
    if (operation.kind === "clear-completed") {
      for (const item of items.values()) if (item.completed) items.delete(item.key);
      continue;
    }
    const item = items.get(operation.key);
    switch (operation.kind) {
      case "add":
        items.set(operation.key, {
          key: operation.key,
          title: operation.title,
          completed: false,
          pending: true,
        });
        break;
      case "change":
        if (item) items.set(operation.key, { ...item, ...operation.changes, pending: true });
        break;
      case "remove":
        items.delete(operation.key);
    }
  }
  return [...items.values()];
}

/** The same object for the same entry, so that of a long list only what changed is drawn again. */
const drawn = new WeakMap<Entry, Item>();

function itemOf(entry: Entry): Item {
  let item = drawn.get(entry);
  if (!item) {
    const { id, title, completed } = entry.todo;
    item = { key: entry.key, id, title, completed, pending: false };
    drawn.set(entry, item);
  }
  return item;
}

/** Entries of a fresh list; a todo that is known already keeps its key, and so its place on screen. */
export function rekey(todos: readonly KnownTodo[], known: readonly Entry[]): Entry[] {
  const keys = new Map(known.map(({ key, todo }) => [todo.id, key]));
  return todos.map((todo) => ({ key: keys.get(todo.id) ?? todo.id, todo }));
}

/**
 * The list with one more page of it. What is known already is newer than the page, and what was
 * deleted meanwhile (`gone`) stays away.
 */
export function append(known: readonly Entry[], page: readonly KnownTodo[], gone: ReadonlySet<string>): Entry[] {
  const ids = new Set(known.map(({ todo }) => todo.id));
  const fresh = page.filter(({ id }) => !ids.has(id) && !gone.has(id));
  return [...known, ...rekey(fresh, [])].sort((one, other) => compare(one.todo, other.todo));
}

/** The server's order. */
function compare(one: KnownTodo, other: KnownTodo): number {
  return one.order - other.order || (one.id < other.id ? -1 : 1);
}

/** What makes all of them completed, or none. */
export function toggles(items: readonly Item[], completed: boolean): Operation[] {
  const others = items.filter((item) => item.completed !== completed);
  return others.map(({ key }) => ({ kind: "change", key, changes: { completed } }));
}

/** Whether `earlier` has to be settled before `operation` may be sent. */
export function waitsFor(operation: Operation, earlier: Operation): boolean {
  // It concerns every todo, in the state in which they were when it was asked for.
  if (operation.kind === "clear-completed" || earlier.kind === "clear-completed") return true;
  // Todos are stored in the order in which they were typed.
  return operation.key === earlier.key || (operation.kind === "add" && earlier.kind === "add");
}
