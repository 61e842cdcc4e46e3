import { ApiError, type Api } from "./api";
import { type FirstPage, KnownTodos } from "./known-todos";
import { type Item, type Operation, project, toggles, waitsFor } from "./operations";
import { refusalText } from "./refusals";
import { delayOf, MAX_ATTEMPTS } from "./retry";
import { unique } from "./unique";

export interface Trouble {
  /**
   * offline: the browser says so; waiting: tried again soon; retrying: at this moment;
   * stalled: the user decides; signed-out: until somebody signs in.
   */
  kind: "offline" | "waiting" | "retrying" | "stalled" | "signed-out";
  unsaved: number;
}

export interface Snapshot {
  loaded: boolean;
  /** There are more todos than these; they are on their way. */
  more: boolean;
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
  readonly #known: KnownTodos;
  #loading = false;
  /** Others have changed the list. */
  #stale = false;
  /** What all todos were told to be while not all of them were here. */
  #all: boolean | undefined;
  #queue: Pending[] = [];
  #failures = 0;
  /** What holds everything back; null while requests may be sent. */
  #trouble: "offline" | "waiting" | "stalled" | "signed-out" | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #refusal: Snapshot["refusal"] = null;
  #refusals = 0;
  #snapshot: Snapshot;
  readonly #listeners = new Set<() => void>();

  /** `first` null: the server could not have it for the page, so it is loaded here. */
  constructor(
    private readonly api: Api,
    first: FirstPage | null,
  ) {
    this.#known = new KnownTodos(first);
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
    this.#all = this.#known.complete ? undefined : completed;
    this.#enqueue(...toggles(this.#snapshot.items, completed));
  }

  remove(key: string): void {
    this.#enqueue({ kind: "remove", key });
  }

  clearCompleted(): void {
    this.#enqueue({ kind: "clear-completed" });
  }

  /** At once, and with a fresh count of attempts. `signedIn`: the same user has signed in again. */
  retry(signedIn = false): void {
    if (this.#trouble === "signed-out" && !signedIn) return;
    clearTimeout(this.#timer);
    // Not 0: the outage is not over before something has arrived.
    this.#failures = Math.min(this.#failures, 1);
    this.#wake();
    this.#publish();
  }

  /** Somebody else has, elsewhere in this browser: nothing of this page's may go to them. */
  signedOut(): void {
    clearTimeout(this.#timer);
    this.#trouble = "signed-out";
    this.#publish();
  }

  /** Others have changed the list: it is loaded again, as soon as nothing is on its way there. */
  reload(): void {
    this.#stale = true;
    this.#pump();
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
    let running = this.#queue.filter((pending) => pending.running).length;
    if (this.#stale && this.#known.begun && running === 0 && !this.#loading) {
      this.#stale = false;
      this.#known.replace();
    }
    if (!this.#known.complete) void this.#load();
    if (!this.#known.begun || this.#stale || this.#known.replacing) return;
    this.#queue.forEach((pending, index) => {
      if (running >= PARALLEL || pending.running) return;
      // It concerns every todo, so all of them have to be here.
      if (pending.kind === "clear-completed" && !this.#known.complete) return;
      if (this.#queue.slice(0, index).some((earlier) => waitsFor(pending, earlier))) return;
      running += 1;
      pending.running = true;
      void this.#run(pending);
    });
  }

  /** The next page of the list. */
  async #load(): Promise<void> {
    if (this.#loading) return;
    this.#loading = true;
    const before = new Set(this.#known.entries.map(({ key }) => key));
    try {
      await this.#known.loadPage(this.api);
      this.#failures = 0;
    } catch (error) {
      this.#pause(error);
    }
    this.#loading = false;
    this.#pump();
    this.#publish();
    if (this.#all === undefined) return;
    this.#enqueue(...toggles(this.#snapshot.items.filter(({ key }) => !before.has(key)), this.#all));
    if (this.#known.complete) this.#all = undefined;
  }

  async #run(pending: Pending): Promise<void> {
    try {
      await this.#send(pending);
      this.#failures = 0;
      this.#queue = this.#queue.filter((other) => other !== pending);
    } catch (error) {
      pending.running = false;
      if (error instanceof ApiError && !error.transient && !error.signedOut) {
        this.#failures = 0;
        this.#reject(pending, error);
      } else this.#pause(error);
    }
    this.#pump();
    this.#publish();
  }

  async #send(pending: Pending): Promise<void> {
    if (pending.kind === "add") {
      this.#known.add(pending.key, await this.api.create({ title: pending.title }, pending.id));
      return;
    }
    if (pending.kind === "clear-completed") {
      await this.api.removeCompleted();
      this.#known.removeCompleted();
      return;
    }
    const id = this.#known.find(pending.key)?.id;
    // The todo went while this waited: nothing is left to change.
    if (id === undefined) return;
    if (pending.kind === "remove") {
      await this.api.remove(id);
      this.#known.remove(pending.key);
    } else this.#known.change(pending.key, await this.api.update(id, pending.changes));
  }

  /** Final: the change is taken back, with everything that was built upon it. */
  #reject(pending: Pending, error: ApiError): void {
    this.#queue = this.#queue.filter((other) => other !== pending);
    const key = pending.kind === "clear-completed" ? "" : pending.key;
    const text = refusalText(pending, this.#known.find(key)?.title ?? "", error);
    if (pending.kind === "add" || (key && error.status === 404)) this.#forget(key);
    this.#refuse(text, pending.kind === "add" ? pending.title : undefined);
  }

  /** The todo is not there (any more), so nothing that was to happen to it can. */
  #forget(key: string): void {
    this.#known.remove(key);
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
    if (error instanceof ApiError && error.signedOut) {
      this.#trouble = "signed-out";
      return;
    }
    this.#failures += 1;
    // `onLine` is a hint at most: a cluster on this very machine answers without any network.
    const offline = !navigator.onLine;
    // Two things go on for as long as the page is open: reading, which changes nothing and which
    // the page needs, and what costs no server anything because the browser has no network.
    if (this.#failures >= MAX_ATTEMPTS && this.#known.begun && !offline) {
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
    const owing = this.#queue.length > 0 || !this.#known.complete;
    const kind = this.#trouble ?? (this.#failures > 0 && owing ? "retrying" : null);
    return {
      loaded: this.#known.begun,
      more: !this.#known.complete,
      items: project(this.#known.entries, this.#queue),
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
