import { unique } from "./unique";
import { type Operation, waitsFor } from "./operations";

/** How long a deletion can be undone, in milliseconds: it is held back for as long. */
export const UNDO_TIME = 6_000;

/** How many changes are sent at a time. */
const PARALLEL = 4;

/** `id` tells two like changes apart and makes the request's idempotency key. */
export type Change = Operation & { id: string; state: "held" | "waiting" | "running" };

/** What was done in this page and no server has confirmed yet, in order. */
export class ChangeQueue {
  changes: Change[] = [];

  /** `onRelease`: a change that was held back may be sent. */
  constructor(private readonly onRelease: () => void) {}

  /** Deletions can be undone for a while. */
  add(operation: Operation): void {
    const undoable = operation.kind === "remove" || operation.kind === "clear-completed";
    const change: Change = { ...operation, id: unique(), state: undoable ? "held" : "waiting" };
    this.changes.push(change);
    if (undoable) setTimeout(() => { if (change.state === "held") this.release(change); }, UNDO_TIME);
  }

  /** The deletion that `undo` takes back. */
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

  /** Changes that may be sent now. `leaving`: all that can be, for the page goes. */
  ready(leaving: boolean): Change[] {
    const room = leaving ? Infinity : PARALLEL - this.running.length;
    const isFree = (change: Change, index: number) => {
      const holds = (earlier: Change) =>
        waitsFor(change, earlier) && !(leaving && earlier.kind === "add" && change.kind === "add");
      return change.state === "waiting" && !this.changes.slice(0, index).some(holds);
    };
    return this.changes.filter(isFree).slice(0, Math.max(0, room));
  }
}
