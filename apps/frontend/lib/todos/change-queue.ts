import { unique } from "./unique";
import { isAboutAll, type Operation, waitsFor } from "./operations";

/** How long a deletion can be undone and is not sent, in milliseconds. */
export const UNDO_TIME = 6_000;

const PARALLEL = 4;

/**
 * `id` distinguishes equal changes and becomes the idempotency key.
 * `tried`: a request may have reached the server, so a retry must be identical.
 */
export type Change = Operation & { id: string; state: "held" | "waiting" | "running"; tried: boolean };

/** hidden: the browser may end the page without notice; ending: the page is closing. */
export type Stay = "staying" | "hidden" | "ending";

/** The page's changes without the server's confirmation, in order. */
export class ChangeQueue {
  changes: Change[] = [];

  /** `onRelease`: a delayed change may be sent now. */
  constructor(private readonly onRelease: () => void) {}

  /** Delays deletions, which can be undone. Merges a new title into a todo that was never sent. */
  add(operation: Operation): void {
    const added = operation.kind === "rename" && this.changes.find((change) => change.kind === "add" && change.key === operation.key && !change.tried);
    if (added) {
      Object.assign(added, { title: operation.title });
      return;
    }
    const undoable = operation.kind === "remove" || operation.kind === "clear-completed";
    const change: Change = { ...operation, id: unique(), state: undoable ? "held" : "waiting", tried: false };
    this.changes.push(change);
    if (undoable) setTimeout(() => { if (change.state === "held") this.release(change); }, UNDO_TIME);
  }

  get undoable(): Change | undefined {
    return this.changes.findLast(({ state }) => state === "held");
  }

  undo(): Change | undefined {
    const change = this.undoable;
    if (change) this.remove(change);
    return change;
  }

  /** Ends the delay of one deletion, or of all. */
  release(...changes: Change[]): void {
    for (const change of changes.length > 0 ? changes : this.changes) {
      if (change.state === "held") change.state = "waiting";
    }
    this.onRelease();
  }

  remove(change: Change): void {
    this.changes = this.changes.filter((other) => other !== change);
  }

  get running(): Change[] {
    return this.changes.filter(({ state }) => state === "running");
  }

  after(change: Change): Change[] {
    return this.changes.slice(this.changes.indexOf(change) + 1);
  }

  /** Returns the changes that may be sent now. If the page may end, typed text goes first. */
  ready(stay: Stay): Change[] {
    const room = stay === "staying" ? PARALLEL - this.running.length : Infinity;
    const isFree = (change: Change, index: number) => {
      const isTyped = change.kind === "add" || change.kind === "rename";
      const holds = (earlier: Change) => {
        if (stay !== "staying" && isTyped && isAboutAll(earlier)) return false;
        if (stay === "ending" && change.kind === "add" && earlier.kind === "add") return false;
        return waitsFor(change, earlier);
      };
      return change.state === "waiting" && !this.changes.slice(0, index).some(holds);
    };
    return this.changes.filter(isFree).slice(0, Math.max(0, room));
  }
}
