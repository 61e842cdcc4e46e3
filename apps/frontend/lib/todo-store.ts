import { ApiError, type Api } from "./api";
import type { Todo } from "./api-types";
import { type Entry, type Item, type Operation, project, rekey, waitsFor } from "./operations";
import { delayOf, MAX_ATTEMPTS } from "./retry";

export interface Trouble {
  /**
   * offline: the browser says so; waiting: tried again soon; retrying: at this moment;
   * stalled: the user decides.
   */
  kind: "offline" | "waiting" | "retrying" | "stalled";
  unsaved: number;
}

export interface Snapshot {
  loaded: boolean;
  items: readonly Item[];
  trouble: Trouble | null;
  /** The last change that was refused for good; `title` is what was typed and would be lost. */
  refusal: { id: number; text: string; title?: string } | null;
}

/** `id` tells two like operations apart and makes the request's idempotency key. */
type Pending = Operation & { id: string; running: boolean };

const PARALLEL = 4;

/** The todos in this page: shows every change at once, sends them, retries or takes them back. */
export class TodoStore {
  #entries: Entry[];
  #loaded: boolean;
  #loading = false;
  #queue: Pending[] = [];
  #failures = 0;
  /** What holds everything back; null while requests may be sent. */
  #trouble: "offline" | "waiting" | "stalled" | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #refusal: Snapshot["refusal"] = null;
  #refusals = 0;
  #snapshot: Snapshot;
  readonly #listeners = new Set<() => void>();

  /** `todos` null: the server could not have them for the first page, so they are loaded here. */
  constructor(
    private readonly api: Api,
    todos: readonly Todo[] | null,
  ) {
    this.#entries = rekey(todos ?? [], []);
    this.#loaded = todos !== null;
    this.#snapshot = this.#project();
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly snapshot = (): Snapshot => this.#snapshot;

  /** Starts what needs a browser; the answer ends it. */
  start(): () => void {
    const online = () => {
      this.retry();
    };
    window.addEventListener("online", online);
    this.#wake();
    return () => {
      window.removeEventListener("online", online);
      clearTimeout(this.#timer);
    };
  }

  /** False: there is nothing in it but blanks. */
  add(text: string): boolean {
    const title = text.trim();
    if (!title) return false;
    this.#enqueue({ kind: "add", key: `new-${unique()}`, title });
    return true;
  }

  rename(key: string, text: string): void {
    const title = text.trim();
    const item = this.#snapshot.items.find((candidate) => candidate.key === key);
    if (!item || item.title === title) return;
    if (title) this.#enqueue({ kind: "change", key, changes: { title } });
    else this.remove(key);
  }

  toggle(key: string, completed: boolean): void {
    this.#enqueue({ kind: "change", key, changes: { completed } });
  }

  toggleAll(completed: boolean): void {
    const items = this.#snapshot.items.filter((item) => item.completed !== completed);
    this.#enqueue(
      ...items.map(({ key }) => ({ kind: "change" as const, key, changes: { completed } })),
    );
  }

  remove(key: string): void {
    this.#enqueue({ kind: "remove", key });
  }

  clearCompleted(): void {
    this.#enqueue({ kind: "clear-completed" });
  }

  /** At once, and with a fresh count of attempts. */
  retry(): void {
    clearTimeout(this.#timer);
    // Not 0: the outage is not over before something has arrived.
    this.#failures = Math.min(this.#failures, 1);
    this.#wake();
    this.#publish();
  }

  /** Gives up what is not saved; the page shows the server's state again. */
  discard(): void {
    const typed = this.#queue.findLast((pending) => pending.kind === "add");
    this.#queue = this.#queue.filter((pending) => pending.running);
    this.retry();
    this.#refuse("Unsaved changes were discarded.", typed?.title);
  }

  dismiss(): void {
    this.#refusal = null;
    this.#publish();
  }

  #enqueue(...operations: Operation[]): void {
    this.#queue.push(...operations.map((one) => ({ ...one, id: unique(), running: false })));
    this.#refusal = null;
    this.#pump();
    this.#publish();
  }

  /** Not published: the notice stays until the attempt is decided, instead of flickering. */
  #wake(): void {
    this.#trouble = null;
    this.#pump();
  }

  #pump(): void {
    if (this.#trouble !== null) return;
    if (!this.#loaded) {
      void this.#load();
      return;
    }
    let running = this.#queue.filter((pending) => pending.running).length;
    this.#queue.forEach((pending, index) => {
      if (running >= PARALLEL || pending.running) return;
      if (this.#queue.slice(0, index).some((earlier) => waitsFor(pending, earlier))) return;
      running += 1;
      pending.running = true;
      void this.#run(pending);
    });
  }

  async #load(): Promise<void> {
    if (this.#loading) return;
    this.#loading = true;
    try {
      this.#entries = rekey(await this.api.list(), this.#entries);
      this.#loaded = true;
      this.#failures = 0;
    } catch (error) {
      this.#pause(error);
    }
    this.#loading = false;
    this.#pump();
    this.#publish();
  }

  async #run(pending: Pending): Promise<void> {
    try {
      await this.#send(pending);
      this.#failures = 0;
      this.#queue = this.#queue.filter((other) => other !== pending);
    } catch (error) {
      pending.running = false;
      if (error instanceof ApiError && !error.transient) {
        this.#failures = 0;
        this.#reject(pending, error);
      } else this.#pause(error);
    }
    this.#pump();
    this.#publish();
  }

  async #send(pending: Pending): Promise<void> {
    if (pending.kind === "add") {
      const todo = await this.api.create({ title: pending.title }, pending.id);
      this.#entries = this.#entries.filter((entry) => entry.todo.id !== todo.id);
      this.#entries.push({ key: pending.key, todo });
      return;
    }
    if (pending.kind === "clear-completed") {
      await this.api.removeCompleted();
      this.#entries = this.#entries.filter((entry) => !entry.todo.completed);
      return;
    }
    const id = this.#entries.find((entry) => entry.key === pending.key)?.todo.id;
    // The todo went while this waited: nothing is left to change.
    if (id === undefined) return;
    if (pending.kind === "remove") {
      await this.api.remove(id);
      this.#entries = this.#entries.filter((entry) => entry.key !== pending.key);
    } else {
      const todo = await this.api.update(id, pending.changes);
      this.#entries = this.#entries.map((entry) =>
        entry.key === pending.key ? { ...entry, todo } : entry,
      );
    }
  }

  /** Final: the change is taken back, with everything that was built upon it. */
  #reject(pending: Pending, error: ApiError): void {
    this.#queue = this.#queue.filter((other) => other !== pending);
    if (pending.kind === "clear-completed") {
      this.#refuse(`Completed todos were not deleted: ${error.message}`);
      return;
    }
    if (pending.kind === "add") {
      this.#forget(pending.key);
      this.#refuse(`“${pending.title}” was not added: ${error.message}`, pending.title);
      return;
    }
    const title = this.#entries.find((entry) => entry.key === pending.key)?.todo.title ?? "";
    if (error.status === 404) {
      this.#forget(pending.key);
      this.#refuse(`“${title}” was deleted in the meantime.`);
      return;
    }
    const deed = pending.kind === "remove" ? "deleted" : "changed";
    this.#refuse(`“${title}” was not ${deed}: ${error.message}`);
  }

  /** The todo is not there (any more), so nothing that was to happen to it can. */
  #forget(key: string): void {
    this.#entries = this.#entries.filter((entry) => entry.key !== key);
    this.#queue = this.#queue.filter((other) => !("key" in other) || other.key !== key);
  }

  #refuse(text: string, title?: string): void {
    this.#refusals += 1;
    this.#refusal = { id: this.#refusals, text, ...(title !== undefined && { title }) };
    this.#publish();
  }

  /** The server is away: everything waits, and one timer brings it back. */
  #pause(error: unknown): void {
    if (this.#trouble !== null) return; // another request of the same outage
    this.#failures += 1;
    // `onLine` is a hint at most: a cluster on this very machine answers without any network.
    const offline = !navigator.onLine;
    // Two things go on for as long as the page is open: reading, which changes nothing and which
    // the page needs, and what costs no server anything because the browser has no network.
    if (this.#failures >= MAX_ATTEMPTS && this.#loaded && !offline) {
      this.#trouble = "stalled";
      return;
    }
    this.#trouble = offline ? "offline" : "waiting";
    const retryAfter = error instanceof ApiError ? error.retryAfter : undefined;
    this.#timer = setTimeout(
      () => {
        this.#wake();
      },
      delayOf(this.#failures, retryAfter),
    );
  }

  #project(): Snapshot {
    const owing = this.#queue.length > 0 || !this.#loaded;
    const kind = this.#trouble ?? (this.#failures > 0 && owing ? "retrying" : null);
    return {
      loaded: this.#loaded,
      items: project(this.#entries, this.#queue),
      trouble: kind && { kind, unsaved: this.#queue.length },
      refusal: this.#refusal,
    };
  }

  #publish(): void {
    this.#snapshot = this.#project();
    this.#listeners.forEach((listener) => {
      listener();
    });
  }
}

/** `crypto.randomUUID` exists in secure contexts only, and a cluster may be reached by plain HTTP. */
function unique(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
