import type { TodoLink } from "./todo-link";
import type { TodoStore } from "./todo-store";

interface Hooks {
  /** Others have just changed these. */
  onTouched: (ids: readonly string[]) => void;
  /** This one is to be seen and to have the focus. */
  onReveal: (key: string) => void;
}

/** What the rest of the page may know of the list, and do to it. */
export function linkOf(store: TodoStore, hooks: Hooks): TodoLink {
  let items: unknown;
  let titles: ReadonlyMap<string, string> = new Map();
  return {
    titles() {
      const now = store.snapshot().items;
      if (now === items) return titles;
      items = now;
      const fresh = new Map(now.flatMap(({ id, title }) => (id === undefined ? [] : [[id, title] as const])));
      if (!same(fresh, titles)) titles = fresh;
      return titles;
    },
    subscribe: store.subscribe,
    touched(ids) {
      hooks.onTouched(ids);
      void store.refresh(ids);
    },
    settle: () => store.settle(),
    reveal(id) {
      const item = store.snapshot().items.find((candidate) => candidate.id === id);
      if (item) hooks.onReveal(item.key);
    },
  };
}

function same(one: ReadonlyMap<string, string>, other: ReadonlyMap<string, string>): boolean {
  return one.size === other.size && [...one].every(([id, title]) => other.get(id) === title);
}
