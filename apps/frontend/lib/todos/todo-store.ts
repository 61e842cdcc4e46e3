import { ApiError, type Api, NAMED_MAX } from "@/lib/api/api";
import { type Change, ChangeQueue, type Stay } from "./change-queue";
import { type Effect, type FirstPage, KnownTodos } from "./known-todos";
import { isAboutAll, type Item, type KnownTodo, type Operation, project } from "./operations";
import { deletionText, refusalText } from "./refusals";
import { delayOf, MAX_ATTEMPTS } from "@/lib/api/retry";
import { Tabs } from "@/lib/page/tabs";
import { unique } from "./unique";

/** A list that was read less than this ago is not read again because somebody looks at it, in milliseconds. */
const FRESH = 2_000;

/** How long what others changed is marked, in milliseconds. */
const MARKED = 6_000;

/** How long leaving waits for answers, in milliseconds. */
const SETTLE_TIME = 15_000;

export interface Trouble {
  /**
   * offline: the browser says so; waiting: tried again soon; retrying: at this moment;
   * stalled: the user decides; signed-out: until somebody signs in.
   */
  kind: "offline" | "waiting" | "retrying" | "stalled" | "signed-out";
  unsaved: number;
  otherUser?: true;
}

/**
 * A change that was refused for good. `title`: what was typed and would be lost; `overwrite`: does it nevertheless,
 * where it was refused because of somebody else's change.
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
  /** With what was typed until the user has seen to it; without, only the last one until the next change. */
  refusals: readonly Refusal[];
}

/** What other parts of the page, such as the assistant, may know of the list and do to it. */
export type TodoLink = Pick<TodoStore, "subscribe" | "titles" | "keyOf" | "touch" | "settle">;

/** The todos in this page: shows every change at once, sends them, retries or takes them back. */
export class TodoStore {
  readonly #known: KnownTodos;
  readonly #queue = new ChangeQueue(() => { this.#pump(); this.#publish(); });
  readonly #tabs: Tabs;
  #loading = false;
  #stale = false;
  #wanted: boolean;
  #readAt = Date.now();
  #failures = 0;
  /** What holds everything back; null while requests may be sent. */
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

  /** By id; the same object for as long as none changes. */
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

  /** Starts what needs a browser. Returns a function that stops it. */
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
    on(document, ["visibilitychange"], () => { if (document.visibilityState === "hidden") this.#leave("hidden"); else this.#look(); });
    on(window, ["beforeunload"], (event) => {
      // A request that is under way may fail; what can be undone goes out with the page.
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
    if (!title) this.remove(key, from);
    else if (title !== from) this.#enqueue({ kind: "rename", key, title, from });
  }

  toggle(key: string, completed: boolean): void {
    this.#enqueue({ kind: "toggle", key, completed });
  }

  toggleAll(completed: boolean): void {
    this.#enqueue({ kind: "toggle-all", completed });
  }

  /** `seen`: the title that the user saw, if not the one that is shown now. */
  remove(key: string, seen?: string): void {
    const item = this.#snapshot.items.find((candidate) => candidate.key === key);
    if (item) this.#enqueue({ kind: "remove", key, title: seen ?? item.title });
  }

  clearCompleted(): void {
    const completed = this.#snapshot.items.filter((item) => item.completed);
    const keys = (items: readonly Item[]) => new Set(items.map(({ key }) => key));
    const areNamed = this.#known.complete && completed.length <= NAMED_MAX;
    // What is completed only later, by a request that is under way, has to be named in any case.
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
    this.#otherUser = true;
    this.#publish();
  }

  /** Others have changed the list: it is loaded again, as soon as nothing is on its way there. */
  reload(): void {
    this.#stale = true;
    this.#pump();
  }

  /** Others have just changed these todos: they are read again, and marked for a while. */
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

  /** Everything is saved, or cannot be for now. One failure is waited through. */
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

  /** Gives up what is not saved; the page shows the server's state again. */
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

  /** Somebody looks at the page again: meanwhile the list may have changed elsewhere. */
  #look(): void {
    if (Date.now() - this.#readAt > FRESH) this.reload();
  }

  /** The page may end: what could be undone is sent, too. */
  #leave(stay: Stay): void {
    this.#queue.release();
    this.#sendAll(stay);
  }

  /** Sends all that can be sent: requests outlive the page. They stay in the queue in case that the page does, too. */
  #sendAll(stay: Stay): void {
    if (this.#trouble === "signed-out") return;
    for (const change of this.#queue.ready(stay)) void this.#run(change);
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
    for (const change of this.#queue.ready("staying")) {
      // A page that is read meanwhile might show either state.
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
        // What was cleared after it was completed by it, and only now.
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
        // The server has spared what others changed meanwhile.
        this.#stale = true;
        return;
    }
    if (change.kind === "toggle") {
      const todo = this.#known.find(change.key);
      // The todo went while this waited: nothing is left to change.
      if (todo) this.#apply({ kind: "put", todos: [await this.api.update(todo.id, { completed: change.completed })] });
    } else if (change.kind === "remove") {
      const id = await this.#unlessRetitled(change.key, [change.title], async (todo) => {
        await this.api.remove(todo.id, todo.version);
        return todo.id;
      });
      if (id !== undefined) this.#apply({ kind: "remove", ids: [id] });
    } else {
      const { title } = change;
      // It may have the title already: this very change has arrived, and its answer was lost.
      const todo = await this.#unlessRetitled(change.key, [change.from, title], async (known) =>
        known.title === title ? known : this.api.update(known.id, { title }, known.version),
      );
      if (!todo) throw new ApiError("", 404);
      this.#apply({ kind: "put", todos: [todo] });
    }
  }

  /**
   * Returns undefined if the todo is deleted. Throws ApiError 412 if somebody else has given it another title than
   * `titles`; if something else of it has changed, acts again upon what it is now.
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

  /** What is being read may be older: then it is read again. */
  #apply(effect: Effect, key?: string): void {
    this.#stale ||= this.#loading;
    this.#known.apply(effect, key);
    if (this.#trouble !== "signed-out") this.#tabs.tell(effect);
  }

  /** Final: the change is taken back. What was built upon a new todo goes with it. */
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

  /** The server is away: everything waits, and one timer brings it back. */
  #pause(error: unknown): void {
    if (this.#trouble !== null) return; // another request of the same outage
    if (error instanceof ApiError && error.signedOut) {
      this.#trouble = "signed-out";
      this.#otherUser = error.problem.code === "other-user";
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
