import type { Todo } from "@/lib/api/api-types";

/**
 * What the page shows is the server's list with the changes on top that it has not confirmed yet.
 * A change that fails is left out of the next calculation: that is all there is to rolling back.
 */

/** What the page has to know of a todo; no more of it is sent along with a page. */
export type KnownTodo = Pick<Todo, "id" | "title" | "completed" | "order" | "version">;

/** A todo of the server's, under a key that stays the same from before it had an id. */
export interface Entry {
  key: string;
  todo: KnownTodo;
}

export interface Item {
  key: string;
  id?: string;
  title: string;
  completed: boolean;
  pending: boolean;
}

export type Operation =
  | { kind: "add"; key: string; title: string }
  /** `from`: the title that the user saw and changed. */
  | { kind: "rename"; key: string; title: string; from: string }
  | { kind: "toggle"; key: string; completed: boolean }
  | { kind: "remove"; key: string; title: string }
  | { kind: "toggle-all"; completed: boolean }
  /**
   * `keys`: what the user saw as completed. The request names `named`, and where not all todos are here or they are
   * too many, all that was not changed `since` the user asked for it. What others complete later stays.
   */
  | { kind: "clear-completed"; keys: ReadonlySet<string>; named: ReadonlySet<string>; since: number | null };

/** `before`: what was shown last. What has not changed is the same object, so that it is not drawn again. */
export function project(entries: readonly Entry[], operations: readonly Operation[], before: readonly Item[]): Item[] {
  const items = new Map<string, Item>();
  for (const { key, todo } of entries) {
    items.set(key, { key, id: todo.id, title: todo.title, completed: todo.completed, pending: false });
  }
  for (const operation of operations) change(items, operation);
  const drawn = new Map(before.map((item) => [item.key, item]));
  return Array.from(items.values(), (item) => {
    const old = drawn.get(item.key);
    return old && isSame(old, item) ? old : item;
  });
}

function change(items: Map<string, Item>, operation: Operation): void {
  if (operation.kind === "clear-completed") {
    for (const key of operation.keys) if (items.get(key)?.completed) items.delete(key);
    return;
  }
  if (operation.kind === "toggle-all") {
    const { completed } = operation;
    for (const item of items.values()) {
      if (item.completed !== completed) items.set(item.key, { ...item, completed, pending: true });
    }
    return;
  }
  const { key } = operation;
  const item = items.get(key);
  if (operation.kind === "add") items.set(key, { key, title: operation.title, completed: false, pending: true });
  else if (operation.kind === "remove") items.delete(key);
  else if (!item) return;
  else if (operation.kind === "rename") items.set(key, { ...item, title: operation.title, pending: true });
  else items.set(key, { ...item, completed: operation.completed, pending: true });
}

function isSame(one: Item, other: Item): boolean {
  return (
    one.id === other.id && one.title === other.title && one.completed === other.completed && one.pending === other.pending
  );
}

/** Entries of a fresh list; a todo that is known already keeps its key, and so its place on screen. */
export function rekey(todos: readonly KnownTodo[], known: readonly Entry[]): Entry[] {
  const keys = new Map(known.map(({ key, todo }) => [todo.id, key]));
  return todos.map((todo) => ({ key: keys.get(todo.id) ?? todo.id, todo }));
}

export function compare({ todo: one }: Entry, { todo: other }: Entry): number {
  return one.order - other.order || (one.id < other.id ? -1 : 1);
}

/** Whether it is about every todo, in the state in which they were when it was asked for. */
export function isAboutAll({ kind }: Operation): boolean {
  return kind === "toggle-all" || kind === "clear-completed";
}

export function waitsFor(operation: Operation, earlier: Operation): boolean {
  // Only reopening could keep a todo from being cleared.
  if (earlier.kind === "clear-completed") return isAboutAll(operation) && !("completed" in operation && operation.completed);
  if (isAboutAll(operation)) return earlier.kind !== "remove";
  if (earlier.kind === "toggle-all") return operation.kind !== "remove";
  if (operation.kind === "add" && earlier.kind === "add") return true; // stored in the order in which they were typed
  return "key" in operation && "key" in earlier && operation.key === earlier.key;
}
