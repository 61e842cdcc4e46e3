import { unique } from "./unique";
import { isAboutAll, type Operation, waitsFor } from "./operations";

/** How long a deletion can be undone, in milliseconds: it is held back for as long. */
export const UNDO_TIME = 6_000;

const PARALLEL = 4;

/**
 * `id` tells two like changes apart and makes the request's idempotency key.
 * `tried`: a request may have reached the server, so a repetition has to be the same.
 */
export type Change = Operation & { id: string; state: "held" | "waiting" | "running"; tried: boolean };

/** hidden: the page may end without a word; ending: this is its last moment. */
export type Stay = "staying" | "hidden" | "ending";

/** What was done in this page and no server has confirmed yet, in order. */
export class ChangeQueue {
  changes: Change[] = [];

  /** `onRelease`: a change that was held back may be sent. */
  constructor(private readonly onRelease: () => void) {}

  /** Deletions can be undone for a while; a new title of a todo that was never sent becomes part of it. */
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

  /** Ends the time in which deletions can be undone: of one, or of all. */
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

  /** Changes that may be sent now. What was typed counts for more than its order when the page may end. */
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
