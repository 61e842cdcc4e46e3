import type { Todo } from "./api-types";

/**
 * What the page shows is the server's list with the changes on top that it has not confirmed yet.
 * A change that fails is left out of the next calculation: that is all there is to rolling back.
 */

/** A todo of the server's, under a key that stays the same from before it had an id. */
export interface Entry {
  key: string;
  todo: Todo;
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
  for (const { key, todo } of entries) {
    items.set(key, { key, id: todo.id, title: todo.title, completed: todo.completed, pending: false });
  }
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

/** Entries of a fresh list; a todo that is known already keeps its key, and so its place on screen. */
export function rekey(todos: readonly Todo[], known: readonly Entry[]): Entry[] {
  const keys = new Map(known.map(({ key, todo }) => [todo.id, key]));
  return todos.map((todo) => ({ key: keys.get(todo.id) ?? todo.id, todo }));
}

/** Whether `earlier` has to be settled before `operation` may be sent. */
export function waitsFor(operation: Operation, earlier: Operation): boolean {
  // It concerns every todo, in the state in which they were when it was asked for.
  if (operation.kind === "clear-completed" || earlier.kind === "clear-completed") return true;
  // Todos are stored in the order in which they were typed.
  return operation.key === earlier.key || (operation.kind === "add" && earlier.kind === "add");
}
