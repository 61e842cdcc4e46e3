import { ApiError, type Api, NAMED_MAX } from "@/lib/api/api";
import { type Change, ChangeQueue, type Stay } from "./change-queue";
import { type Effect, type FirstPage, KnownTodos } from "./known-todos";
import { isAboutAll, type Item, type KnownTodo, type Operation, project } from "./operations";
import { deletionText, refusalText } from "./refusals";
import { delayOf, MAX_ATTEMPTS } from "@/lib/api/retry";
import { Tabs } from "@/lib/page/tabs";
import { unique } from "./unique";

/** Minimum age of the list before a focus reloads it, in milliseconds. */
const FRESH = 2_000;

/** How long changes by others are highlighted, in milliseconds. */
const MARKED = 6_000;

/** How long signing out waits for answers, in milliseconds. */
const SETTLE_TIME = 15_000;

export interface Trouble {
  /**
   * offline: according to the browser; waiting: before a retry; retrying: during a retry;
   * stalled: until the user retries; signed-out: until somebody signs in.
   */
  kind: "offline" | "waiting" | "retrying" | "stalled" | "signed-out";
  unsaved: number;
  otherUser?: true;
}

/**
 * A finally rejected change. `title`: typed text that would be lost. `overwrite`: applies the change anyway, if it was
 * rejected because of somebody else's change.
 */
export interface Refusal {
  id: number;
  text: string;
  title?: string;
  overwrite?: () => void;
}

export interface Snapshot {
  loaded: boolean;
  more: boolean;
  items: readonly Item[];
  touched: ReadonlySet<string>;
  trouble: Trouble | null;
  undoable: string | null;
  /** Rejections with typed text, until the user handles them. Of those without, only the last, until the next change. */
  refusals: readonly Refusal[];
}

/** The part of the list's interface that other parts of the page use, for example the assistant. */
export type TodoLink = Pick<TodoStore, "subscribe" | "titles" | "keyOf" | "touch" | "settle">;

/** The page's todos. Shows every change at once, sends it, retries it, and reverts it if rejected. */
export class TodoStore {
  readonly #known: KnownTodos;
  readonly #queue = new ChangeQueue(() => { this.#pump(); this.#publish(); });
  readonly #tabs: Tabs;
  #loading = false;
  #stale = false;
  #wanted: boolean;
  #readAt = Date.now();
  #failures = 0;
  /** Why no requests are sent; null while they are. */
  #trouble: "offline" | "waiting" | "stalled" | "signed-out" | null = null;
  #otherUser = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #refusals: readonly Refusal[] = [];
  #refused = 0;
  #touched: ReadonlySet<string> = new Set();
  #marking: ReturnType<typeof setTimeout> | undefined;
  #titles: ReadonlyMap<string, string> = new Map();
  #titled: readonly Item[] = [];
  #snapshot: Snapshot;
  readonly #listeners = new Set<() => void>();

  /** `first` null: the server could not load the list, so the page does. `owner`: the page's user. */
  constructor(
    private readonly api: Api,
    first: FirstPage | null,
    owner: string | null,
  ) {
    this.#known = new KnownTodos(first);
    this.#wanted = !this.#known.complete;
    this.#tabs = new Tabs(owner, {
      onEffect: (effect) => {
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

  /** Titles by id; the same object until one changes. */
  readonly titles = (): ReadonlyMap<string, string> => {
    const { items } = this.#snapshot;
    if (items === this.#titled) return this.#titles;
    this.#titled = items;
    const now = new Map(items.flatMap(({ id, title }) => (id === undefined ? [] : [[id, title] as const])));
    const isSame = now.size === this.#titles.size && [...now].every(([id, title]) => this.#titles.get(id) === title);
    if (!isSame) this.#titles = now;
    return this.#titles;
  };

  keyOf(id: string): string | undefined {
    return this.#snapshot.items.find((item) => item.id === id)?.key;
  }

  /** Starts timers and listeners. Returns a function that stops them. */
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
    // A phone may end a hidden page without notice.
    on(document, ["visibilitychange"], () => { if (document.visibilityState === "hidden") this.#leave("hidden"); else this.#look(); });
    on(window, ["beforeunload"], (event) => {
      // A running request may fail; undoable deletions are sent with the page's end.
      if (this.#queue.changes.some(({ state }) => state !== "held" || this.#trouble !== null)) event.preventDefault();
      this.#sendAll("hidden");
    });
    on(window, ["pagehide"], () => { this.#leave("ending"); });
    const close = this.#tabs.open();
    this.#wake();
    return () => {
      if (this.#trouble === null) this.#leave("ending");
      ending.abort();
      close();
      clearTimeout(this.#timer);
    };
  }

  /** Returns false if the title is blank. */
  add(text: string): boolean {
    const title = text.trim();
    if (!title) return false;
    this.#enqueue({ kind: "add", key: `new-${unique()}`, title });
    return true;
  }

  /** `from`: the title before editing. */
  rename(key: string, text: string, from: string): void {
    const title = text.trim();
    if (!title) this.remove(key, from);
    else if (title !== from) this.#enqueue({ kind: "rename", key, title, from });
  }

  toggle(key: string, completed: boolean): void {
    this.#enqueue({ kind: "toggle", key, completed });
  }

  toggleAll(completed: boolean): void {
    this.#enqueue({ kind: "toggle-all", completed });
  }

  /** `seen`: the title that the user saw, if it differs from the current one. */
  remove(key: string, seen?: string): void {
    const item = this.#snapshot.items.find((candidate) => candidate.key === key);
    if (item) this.#enqueue({ kind: "remove", key, title: seen ?? item.title });
  }

  clearCompleted(): void {
    const completed = this.#snapshot.items.filter((item) => item.completed);
    const keys = (items: readonly Item[]) => new Set(items.map(({ key }) => key));
    const areNamed = this.#known.complete && completed.length <= NAMED_MAX;
    // Todos that a running request completes later must be named.
    const named = keys(areNamed ? completed : completed.filter((item) => item.pending));
    this.#enqueue({ kind: "clear-completed", keys: keys(completed), named, since: areNamed ? null : Date.now() });
  }

  undo(): Operation | undefined {
    const change = this.#queue.undo();
    this.#pump();
    this.#publish();
    return change;
  }

  more(): void {
    this.#wanted = !this.#known.complete;
    this.#pump();
  }

  /** Retries immediately and resets the count of attempts. `signedIn`: the same user has signed in again. */
  retry(signedIn = false): void {
    if (this.#trouble === "signed-out" && !signedIn) return;
    clearTimeout(this.#timer);
    // Not 0: the outage ends only with an answer.
    this.#failures = Math.min(this.#failures, 1);
    this.#wake();
    this.#publish();
  }

  /** Another user has signed in, in this browser: they must not receive this page's changes. */
  signedOut(): void {
    clearTimeout(this.#timer);
    this.#trouble = "signed-out";
    this.#otherUser = true;
    this.#publish();
  }

  /** Reloads the list after changes by others, once no change is being sent. */
  reload(): void {
    this.#stale = true;
    this.#pump();
  }

  /** Reloads and highlights todos that others have just changed. */
  touch(ids: readonly string[]): void {
    this.#mark([...this.#touched, ...ids]);
    clearTimeout(this.#marking);
    this.#marking = setTimeout(() => { this.#mark([]); }, MARKED);
    void this.refresh(ids);
  }

  #mark(ids: readonly string[]): void {
    this.#touched = new Set(ids);
    this.#publish();
  }

  /** Handles changes by others; empty: the changed todos are unknown. */
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

  /** Resolves when everything is saved or cannot be saved for now. Waits through one failure. */
  async settle(): Promise<void> {
    this.#queue.release();
    const isOver = () => this.#queue.changes.length === 0 || (this.#trouble !== null && this.#trouble !== "waiting");
    if (isOver()) return;
    await new Promise<void>((resolve) => {
      const unsubscribe = this.subscribe(() => { if (isOver()) finish(); });
      const finish = () => {
        unsubscribe();
        resolve();
      };
      setTimeout(finish, SETTLE_TIME);
    });
  }

  /** Discards unsaved changes and shows the server's state. */
  discard(): void {
    const typed = this.#queue.changes.findLast((change) => change.kind === "add");
    this.#queue.changes = this.#queue.running;
    this.retry();
    this.#refuse({ text: "Unsaved changes were discarded.", ...(typed?.kind === "add" && { title: typed.title }) });
  }

  dismiss(id: number): void {
    this.#refusals = this.#refusals.filter((refusal) => refusal.id !== id);
    this.#publish();
  }

  #enqueue(operation: Operation): void {
    this.#queue.add(operation);
    const typed = operation.kind === "add" || operation.kind === "rename" ? operation.title : undefined;
    this.#refusals = this.#refusals.filter(({ title }) => title !== undefined && title !== typed);
    this.#pump();
    this.#publish();
  }

  /** Handles the page's focus: the list may have changed elsewhere. */
  #look(): void {
    if (Date.now() - this.#readAt > FRESH) this.reload();
  }

  /** Sends everything because the page may end, including undoable deletions. */
  #leave(stay: Stay): void {
    this.#queue.release();
    this.#sendAll(stay);
  }

  /** Sends all pending changes; requests survive the page. They stay queued in case the page survives too. */
  #sendAll(stay: Stay): void {
    if (this.#trouble === "signed-out") return;
    for (const change of this.#queue.ready(stay)) void this.#run(change);
  }

  /** Not published, so the notice does not flicker during an attempt. */
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
    for (const change of this.#queue.ready("staying")) {
      // A page read meanwhile may have the old or the new state.
      if (!(this.#loading && isAboutAll(change))) void this.#run(change);
    }
  }

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
    change.tried = true;
    try {
      await this.#send(change);
      this.#failures = 0;
      if (this.#trouble === "stalled") this.#trouble = null;
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
        // Todos cleared after this change completed them.
        for (const later of this.#queue.after(change)) {
          if (later.kind === "clear-completed" && later.since !== null) later.since = Date.now();
        }
        return;
      case "clear-completed":
        await this.api.removeCompleted({
          ids: this.#known.ids(change.named),
          unchangedFor: change.since === null ? null : Date.now() - change.since,
        });
        this.#apply({ kind: "clear-completed", ids: this.#known.ids(change.keys) });
        // The server kept the todos that others changed meanwhile.
        this.#stale = true;
        return;
    }
    if (change.kind === "toggle") {
      const todo = this.#known.find(change.key);
      // The todo was deleted while this change waited.
      if (todo) this.#apply({ kind: "put", todos: [await this.api.update(todo.id, { completed: change.completed })] });
    } else if (change.kind === "remove") {
      const id = await this.#unlessRetitled(change.key, [change.title], async (todo) => {
        await this.api.remove(todo.id, todo.version);
        return todo.id;
      });
      if (id !== undefined) this.#apply({ kind: "remove", ids: [id] });
    } else {
      const { title } = change;
      // It may already have the title, if this change arrived but its answer was lost.
      const todo = await this.#unlessRetitled(change.key, [change.from, title], async (known) =>
        known.title === title ? known : this.api.update(known.id, { title }, known.version),
      );
      if (!todo) throw new ApiError("", 404);
      this.#apply({ kind: "put", todos: [todo] });
    }
  }

  /**
   * Returns undefined if the todo is deleted. Throws ApiError 412 if somebody else set a title that is not in `titles`.
   * If another field has changed, retries with the current version.
   */
  async #unlessRetitled<Result>(
    key: string,
    titles: readonly string[],
    act: (todo: KnownTodo) => Promise<Result>,
  ): Promise<Result | undefined> {
    let refused: number | undefined;
    for (;;) {
      const todo = this.#known.find(key);
      if (!todo) return undefined;
      if (!titles.includes(todo.title)) throw new ApiError("", 412);
      try {
        return await act(todo);
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 412 || todo.version === refused) throw error;
        refused = todo.version;
        await this.#read([todo.id]);
      }
    }
  }

  async #read(ids: readonly string[]): Promise<void> {
    const todos = await this.api.named(ids);
    const found = new Set(todos.map(({ id }) => id));
    this.#apply({ kind: "put", todos });
    this.#apply({ kind: "remove", ids: ids.filter((id) => !found.has(id)) });
  }

  /** A running read may return older data, so it is repeated. */
  #apply(effect: Effect, key?: string): void {
    this.#stale ||= this.#loading;
    this.#known.apply(effect, key);
    if (this.#trouble !== "signed-out") this.#tabs.tell(effect);
  }

  /** Reverts a finally rejected change, and later changes of a new todo with it. */
  #reject(change: Change, error: ApiError): void {
    this.#queue.remove(change);
    const key = "key" in change ? change.key : "";
    const todo = this.#known.find(key);
    const now = todo?.title ?? "";
    const text = refusalText(change, now, error);
    if (error.status === 404 && todo) this.#known.apply({ kind: "remove", ids: [todo.id] });
    if (change.kind === "add") {
      const upon = this.#queue.changes.filter((other) => "key" in other && other.key === key);
      for (const other of upon) this.#queue.remove(other);
      this.#refuse({ text, title: upon.findLast((other) => other.kind === "rename")?.title ?? change.title });
    } else if (change.kind === "rename") {
      const { title } = change;
      this.#refuse({ text, title, ...(error.status === 412 && { overwrite: () => { this.rename(key, title, now); } }) });
    } else this.#refuse({ text });
  }

  #refuse(refusal: Omit<Refusal, "id">): void {
    this.#refused += 1;
    const typed = this.#refusals.filter(({ title }) => title !== undefined);
    this.#refusals = [...typed, { id: this.#refused, ...refusal }];
    this.#publish();
  }

  /** The server is away: everything waits for one retry timer. */
  #pause(error: unknown): void {
    if (this.#trouble !== null) return; // another request of the same outage
    if (error instanceof ApiError && error.signedOut) {
      this.#trouble = "signed-out";
      this.#otherUser = error.problem.code === "other-user";
      return;
    }
    this.#failures += 1;
    // `onLine` is only a hint: a local cluster answers without a network.
    const offline = !navigator.onLine;
    // Retries without limit while the browser is offline, which costs no server anything, and for
    // reading, which the page needs and which changes nothing.
    if (this.#failures >= MAX_ATTEMPTS && this.#known.begun && !offline) {
      this.#trouble = "stalled";
      return;
    }
    this.#trouble = offline ? "offline" : "waiting";
    const retryAfter = error instanceof ApiError ? error.retryAfter : undefined;
    this.#timer = setTimeout(() => { this.#wake(); }, delayOf(this.#failures, retryAfter));
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
      touched: this.#touched,
      trouble: kind && { kind, unsaved: changes.length, ...(kind === "signed-out" && this.#otherUser && { otherUser: true }) },
      undoable: undoable ? deletionText(undoable) : null,
      refusals: this.#refusals,
    };
  }

  #publish(): void {
    this.#snapshot = this.#project(this.#snapshot.items);
    this.#listeners.forEach((listener) => { listener(); });
  }
}
