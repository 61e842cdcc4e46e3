import type { Todo } from "@/lib/api/api-types";

/**
 * The page shows the server's list with all unconfirmed changes applied. To roll a failed change back,
 * the next calculation leaves it out.
 */

/** The fields of a todo that a page needs and gets. */
export type KnownTodo = Pick<Todo, "id" | "title" | "completed" | "order" | "version">;

/** A todo of the server, with a key that it had before its id and keeps. */
export interface Entry { key: string; todo: KnownTodo }

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
   * `keys`: the todos that the user saw as completed. The request contains `named`. If the page has too many todos or
   * not all, it also includes those unchanged `since` the click. Todos that others complete later stay.
   */
  | { kind: "clear-completed"; keys: ReadonlySet<string>; named: ReadonlySet<string>; since: number | null };

/** `before`: the previous result. Unchanged todos stay the same object, so React does not render them again. */
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

/** Returns the entries of a new list; known todos keep their key and so their DOM element. */
export function rekey(todos: readonly KnownTodo[], known: readonly Entry[]): Entry[] {
  const keys = new Map(known.map(({ key, todo }) => [todo.id, key]));
  return todos.map((todo) => ({ key: keys.get(todo.id) ?? todo.id, todo }));
}

export function compare({ todo: one }: Entry, { todo: other }: Entry): number {
  return one.order - other.order || (one.id < other.id ? -1 : 1);
}

/** Returns whether the change applies to every todo at the time of the click. */
export function isAboutAll({ kind }: Operation): boolean {
  return kind === "toggle-all" || kind === "clear-completed";
}

export function waitsFor(operation: Operation, earlier: Operation): boolean {
  // Only reopening a todo could prevent its deletion.
  if (earlier.kind === "clear-completed") return isAboutAll(operation) && !("completed" in operation && operation.completed);
  if (isAboutAll(operation)) return earlier.kind !== "remove";
  if (earlier.kind === "toggle-all") return operation.kind !== "remove";
  if (operation.kind === "add" && earlier.kind === "add") return true; // stored in the typed order
  return "key" in operation && "key" in earlier && operation.key === earlier.key;
}
