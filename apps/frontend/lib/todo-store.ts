import { ApiError, type Api, NAMED_MAX } from "./api";
import { type Change, ChangeQueue } from "./change-queue";
import { type Effect, type FirstPage, KnownTodos } from "./known-todos";
import { isAboutAll, type Item, type KnownTodo, type Operation, project } from "./operations";
import { deletionText, refusalText } from "./refusals";
import { delayOf, MAX_ATTEMPTS } from "./retry";
import { Tabs } from "./tabs";
import { unique } from "./unique";

/** A list that was read less than this ago is not read again because somebody looks at it, in milliseconds. */
const FRESH = 2_000;

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
  /** There are more todos than these. */
  more: boolean;
  items: readonly Item[];
  trouble: Trouble | null;
  /** What `undo` takes back. */
  undoable: string | null;
  /**
   * The last change that was refused for good; `title` is what was typed and would be lost; `overwrite` does it
   * nevertheless, where it was refused because of somebody else's change.
   */
  refusal: { id: number; text: string; title?: string; overwrite?: () => void } | null;
}

/** The todos in this page: shows every change at once, sends them, retries or takes them back. */
export class TodoStore {
  readonly #known: KnownTodos;
  readonly #queue = new ChangeQueue(() => { this.#pump(); this.#publish(); });
  readonly #tabs: Tabs;
  #loading = false;
  /** Others have changed the list. */
  #stale = false;
  /** The next page of the list is to be read. */
  #wanted: boolean;
  #readAt = Date.now();
  #failures = 0;
  /** What holds everything back; null while requests may be sent. */
  #trouble: "offline" | "waiting" | "stalled" | "signed-out" | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #refusal: Snapshot["refusal"] = null;
  #refusals = 0;
  #snapshot: Snapshot;
  readonly #listeners = new Set<() => void>();

  /** `first` null: the server could not have it for the page, so it is loaded here. `owner`: whose page it is. */
  constructor(
    private readonly api: Api,
    first: FirstPage | null,
    owner: string | null,
  ) {
    this.#known = new KnownTodos(first);
    this.#wanted = !this.#known.complete;
    this.#tabs = new Tabs(owner, {
      onEffect: (effect) => {
        // What is being read may be older.
        this.#stale ||= this.#loading;
        this.#known.apply(effect);
        this.#publish();
      },
      onOwner: (isSame) => { if (isSame) this.retry(true); else this.signedOut(); },
    });
    this.#snapshot = this.#project([]);
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly snapshot = (): Snapshot => this.#snapshot;

  /** Starts what needs a browser; the answer ends it. */
  start(): () => void {
    const ending = new AbortController();
    const on = (target: EventTarget, kinds: string[], act: (event: Event) => void) => {
      for (const kind of kinds) target.addEventListener(kind, act, { signal: ending.signal });
    };
    on(window, ["online"], () => {
      this.retry();
      this.reload();
    });
    on(window, ["focus", "pageshow"], () => { this.#look(); });
    // A phone ends a hidden page without a word.
    on(document, ["visibilitychange"], () => { if (document.visibilityState === "hidden") this.#sendAll(); else this.#look(); });
    on(window, ["beforeunload"], (event) => {
      // What can be undone goes out with the page; everything else should have gone before.
      if (this.#queue.changes.some(({ state }) => state === "waiting" || this.#trouble !== null)) event.preventDefault();
      this.#leave();
    });
    on(window, ["pagehide"], () => { this.#leave(); });
    const close = this.#tabs.open();
    this.#wake();
    return () => {
      if (this.#trouble === null) this.#leave();
      ending.abort();
      close();
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

  /** `from`: the title when the user began to change it. */
  rename(key: string, text: string, from: string): void {
    const title = text.trim();
    if (!title) this.remove(key);
    else if (title !== from) this.#enqueue({ kind: "rename", key, title, from });
  }

  toggle(key: string, completed: boolean): void {
    this.#enqueue({ kind: "toggle", key, completed });
  }

  toggleAll(completed: boolean): void {
    this.#enqueue({ kind: "toggle-all", completed });
  }

  remove(key: string): void {
    const item = this.#snapshot.items.find((candidate) => candidate.key === key);
    if (item) this.#enqueue({ kind: "remove", key, title: item.title });
  }

  clearCompleted(): void {
    this.#enqueue({ kind: "clear-completed" });
  }

  /** Takes the last deletion back that is not sent yet. */
  undo(): Operation | undefined {
    const change = this.#queue.undo();
    this.#pump();
    this.#publish();
    return change;
  }

  /** The next page of the list, if there is one. */
  more(): void {
    this.#wanted = !this.#known.complete;
    this.#pump();
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

  /** Others have changed these todos; empty: nobody knows which. */
  async refresh(ids: readonly string[]): Promise<void> {
    if (ids.length === 0 || ids.length > NAMED_MAX || this.#trouble !== null || !this.#known.begun) {
      this.reload();
      return;
    }
    try {
      await this.#read(ids);
      this.#publish();
    } catch {
      this.reload();
    }
  }

  /** Everything is saved, or cannot be for now. */
  async settle(): Promise<void> {
    this.#queue.release();
    while (this.#queue.changes.length > 0 && this.#trouble === null) {
      await new Promise<void>((resolve) => {
        const end = this.subscribe(() => {
          end();
          resolve();
        });
      });
    }
  }

  /** Gives up what is not saved; the page shows the server's state again. */
  discard(): void {
    const typed = this.#queue.changes.findLast((change) => change.kind === "add");
    this.#queue.changes = this.#queue.running;
    this.retry();
    this.#refuse({ text: "Unsaved changes were discarded.", ...(typed?.kind === "add" && { title: typed.title }) });
  }

  dismiss(): void {
    this.#refusal = null;
    this.#publish();
  }

  #enqueue(operation: Operation): void {
    this.#queue.add(operation);
    this.#refusal = null;
    this.#pump();
    this.#publish();
  }

  /** Somebody looks at the page again: meanwhile the list may have changed elsewhere. */
  #look(): void {
    if (Date.now() - this.#readAt > FRESH) this.reload();
  }

  /** The page goes: what could be undone is sent, too. */
  #leave(): void {
    this.#queue.release();
    this.#sendAll();
  }

  /** Sends all that can be sent: requests outlive the page. They stay in the queue in case that the page does, too. */
  #sendAll(): void {
    if (this.#trouble === "signed-out") return;
    for (const change of this.#queue.ready(true)) void this.#run(change);
  }

  /** Not published: the notice stays until the attempt is decided, instead of flickering. */
  #wake(): void {
    this.#trouble = null;
    this.#pump();
  }

  #pump(): void {
    if (this.#trouble !== null) return;
    const { running } = this.#queue;
    if (this.#stale && this.#known.begun && running.length === 0 && !this.#loading) {
      this.#stale = false;
      this.#known.replace();
    }
    const { begun, replacing } = this.#known;
    if ((!begun || replacing || this.#wanted) && !running.some(isAboutAll)) void this.#load();
    if (!begun || this.#stale || replacing) return;
    for (const change of this.#queue.ready(false)) {
      // A page that is read meanwhile might show either state.
      if (!(this.#loading && isAboutAll(change))) void this.#run(change);
    }
  }

  /** The next page of the list. */
  async #load(): Promise<void> {
    if (this.#loading) return;
    this.#loading = true;
    const { replacing } = this.#known;
    try {
      await this.#known.loadPage(this.api);
      this.#failures = 0;
      this.#wanted &&= replacing && !this.#known.complete;
      this.#readAt = Date.now();
    } catch (error) {
      this.#pause(error);
    }
    this.#loading = false;
    this.#pump();
    this.#publish();
  }

  async #run(change: Change): Promise<void> {
    change.state = "running";
    try {
      await this.#send(change);
      this.#failures = 0;
      this.#queue.remove(change);
    } catch (error) {
      change.state = "waiting";
      if (error instanceof ApiError && !error.transient && !error.signedOut) {
        this.#failures = 0;
        this.#reject(change, error);
      } else this.#pause(error);
    }
    this.#pump();
    this.#publish();
  }

  async #send(change: Change): Promise<void> {
    switch (change.kind) {
      case "add":
        this.#apply({ kind: "put", todos: [await this.api.create({ title: change.title }, change.id)] }, change.key);
        return;
      case "toggle-all":
        await this.api.toggleAll(change.completed);
        this.#apply({ kind: "toggle-all", completed: change.completed });
        return;
      case "clear-completed":
        await this.api.removeCompleted();
        this.#apply({ kind: "clear-completed" });
        return;
    }
    const todo = this.#known.find(change.key);
    // The todo went while this waited: nothing is left to change.
    if (!todo) return;
    if (change.kind === "remove") {
      await this.api.remove(todo.id);
      this.#apply({ kind: "remove", ids: [todo.id] });
    } else if (change.kind === "toggle") {
      this.#apply({ kind: "put", todos: [await this.api.update(todo.id, { completed: change.completed })] });
    } else {
      this.#apply({ kind: "put", todos: [await this.#rename(todo, change.from, change.title)] });
    }
  }

  /** Throws ApiError 412 if somebody else has changed the title `from` meanwhile. */
  async #rename(todo: KnownTodo, from: string, title: string): Promise<KnownTodo> {
    if (todo.title === title) return todo;
    if (todo.title !== from) throw new ApiError("The title has changed", 412);
    try {
      return await this.api.update(todo.id, { title }, todo.version);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 412) throw error;
      await this.#read([todo.id]);
      const now = this.#known.entries.find((entry) => entry.todo.id === todo.id)?.todo;
      if (!now) throw new ApiError("The todo is deleted", 404);
      if (now.version === todo.version) throw error;
      // Something else of it has changed, or this very change has arrived, and its answer was lost.
      return this.#rename(now, from, title);
    }
  }

  async #read(ids: readonly string[]): Promise<void> {
    const todos = await this.api.named(ids);
    const found = new Set(todos.map(({ id }) => id));
    this.#apply({ kind: "put", todos });
    this.#apply({ kind: "remove", ids: ids.filter((id) => !found.has(id)) });
  }

  #apply(effect: Effect, key?: string): void {
    this.#known.apply(effect, key);
    this.#tabs.tell(effect);
  }

  /** Final: the change is taken back, with everything that was built upon it. */
  #reject(change: Change, error: ApiError): void {
    this.#queue.remove(change);
    const key = "key" in change ? change.key : "";
    const now = this.#known.find(key)?.title ?? "";
    const text = refusalText(change, now, error);
    if (change.kind === "add" || (key && error.status === 404)) this.#forget(key);
    if (error.status === 412 && change.kind === "rename") {
      this.#refuse({ text, overwrite: () => { this.rename(key, change.title, now); } });
    } else this.#refuse({ text, ...(change.kind === "add" && { title: change.title }) });
  }

  /** The todo is not there (any more), so nothing that was to happen to it can. */
  #forget(key: string): void {
    const todo = this.#known.find(key);
    if (todo) this.#known.apply({ kind: "remove", ids: [todo.id] });
    this.#queue.changes = this.#queue.changes.filter((other) => !("key" in other) || other.key !== key);
  }

  #refuse(refusal: Omit<NonNullable<Snapshot["refusal"]>, "id">): void {
    this.#refusals += 1;
    this.#refusal = { id: this.#refusals, ...refusal };
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

  #project(before: readonly Item[]): Snapshot {
    const { begun, complete, replacing, entries } = this.#known;
    const { changes, undoable } = this.#queue;
    const owing = changes.length > 0 || !begun || replacing || this.#wanted;
    const kind = this.#trouble ?? (this.#failures > 0 && owing ? "retrying" : null);
    return {
      loaded: begun,
      more: !complete,
      items: project(entries, changes, before),
      trouble: kind && { kind, unsaved: changes.length },
      undoable: undoable ? deletionText(undoable) : null,
      refusal: this.#refusal,
    };
  }

  #publish(): void {
    this.#snapshot = this.#project(this.#snapshot.items);
    this.#listeners.forEach((listener) => {
      listener();
    });
  }
}
