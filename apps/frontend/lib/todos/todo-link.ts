/**
 * Between the list and the assistant, two parts of one page that know nothing else of each other.
 * In the browser only: on the server it would be shared by everybody.
 */
export interface TodoLink {
  /** Titles by id of the todos in the list; the same object for as long as none changes. */
  titles(): ReadonlyMap<string, string>;
  subscribe(listener: () => void): () => void;
  /** These were changed by somebody else: load them, and show which they are; empty: nobody knows which. */
  touched(ids: readonly string[]): void;
  /** Everything that was done in the list is saved, or cannot be for now. */
  settle(): Promise<void>;
  /** Show this one, whatever the filter, and put the focus there. */
  reveal(id: string): void;
}

const NONE: ReadonlyMap<string, string> = new Map();
const listeners = new Set<() => void>();
let list: TodoLink | undefined;
let unsubscribe: (() => void) | undefined;

/** To be called in an effect; the answer ends it. */
export function connectTodos(link: TodoLink): () => void {
  unsubscribe?.();
  list = link;
  unsubscribe = link.subscribe(notify);
  notify();
  return () => {
    if (list !== link) return;
    unsubscribe?.();
    list = unsubscribe = undefined;
    notify();
  };
}

/** What the assistant sees; without a list on the page it is empty and does nothing. */
export const todoLink: TodoLink = {
  titles: () => list?.titles() ?? NONE,
  subscribe(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  touched: (ids) => list?.touched(ids),
  settle: async () => list?.settle(),
  reveal: (id) => list?.reveal(id),
};

function notify(): void {
  listeners.forEach((listener) => { listener(); });
}
