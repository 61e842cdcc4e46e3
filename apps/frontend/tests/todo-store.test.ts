import { beforeEach, describe, expect, it, vi } from "vitest";
import { createApi } from "@/lib/api/api";
import { UNDO_TIME } from "@/lib/todos/change-queue";
import { MAX_ATTEMPTS } from "@/lib/api/retry";
import { TodoStore } from "@/lib/todos/todo-store";
import { ADA, FakeBackend, problem, todo } from "./fake-backend";

let backend: FakeBackend;
let store: TodoStore;
let stop: () => void;

/** `failures`: number of failures of the first list; absent: the page contains it. */
function begin(todos = [todo("1", "Milk"), todo("2", "Bread")], failures?: number) {
  backend = new FakeBackend(todos);
  outage(failures ?? 0);
  store = new TodoStore(createApi(), failures === undefined ? { todos: todos.map((one) => ({ ...one })), next: null } : null, ADA.id);
  stop = store.start();
}

const settle = () => vi.advanceTimersByTimeAsync(0);
const refused = () => store.snapshot().refusals.at(-1);
const shown = () => store.snapshot().items.map(({ title }) => title);
const outage = (count: number) => {
  backend.failures.push(...Array.from({ length: count }, () => problem(503, "away", "1")));
};

beforeEach(() => {
  vi.useFakeTimers();
  begin();
  return () => { stop(); };
});

describe("an outage", () => {
  it("is waited for as long as Retry-After says", async () => {
    backend.failures.push(problem(503, "away", "7"));
    store.add("Eggs");
    await vi.advanceTimersByTimeAsync(6_900);
    expect(backend.calls).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(200);
    expect(backend.calls).toHaveLength(2);
    expect(store.snapshot().trouble).toBeNull();
  });

  it("stops everything behind one timer", async () => {
    outage(2);
    store.toggle("1", true);
    store.toggle("2", true);
    await settle();
    expect(backend.calls).toHaveLength(2);
    expect(store.snapshot().trouble).toEqual({ kind: "waiting", unsaved: 2 });
    store.add("Eggs");
    await settle();
    expect(backend.calls).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(1_100);
    expect(backend.todos.map(({ completed }) => completed)).toEqual([true, true, false]);
    expect(store.snapshot().trouble).toBeNull();
  });

  it("is not retried for ever: the user decides, and nothing is lost", async () => {
    outage(MAX_ATTEMPTS);
    store.add("Eggs");
    await vi.advanceTimersByTimeAsync(600_000);
    expect(backend.calls).toHaveLength(MAX_ATTEMPTS);
    expect(store.snapshot().trouble).toEqual({ kind: "stalled", unsaved: 1 });
    expect(shown()).toContain("Eggs");
    store.retry();
    await settle();
    expect(backend.titles).toContain("Eggs");
    expect(store.snapshot().trouble).toBeNull();
  });

  it("that has ended, as what a hidden page sends shows, lets everything go on", async () => {
    outage(MAX_ATTEMPTS);
    store.add("Eggs");
    await vi.advanceTimersByTimeAsync(600_000);
    vi.spyOn(document, "visibilityState", "get").mockReturnValue("hidden");
    document.dispatchEvent(new Event("visibilitychange"));
    await settle();
    expect([backend.titles.at(-1), store.snapshot().trouble]).toEqual(["Eggs", null]);
    store.add("Flour");
    await settle();
    expect(backend.titles.at(-1)).toBe("Flour");
  });

  it("of a backend that is a release behind is waited for", async () => {
    backend.failures.push(problem(405, "PATCH is not allowed here."));
    store.toggleAll(true);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(backend.todos.every(({ completed }) => completed)).toBe(true);
  });

  it("can be given up: the server's state is back, and what was typed is returned", async () => {
    outage(MAX_ATTEMPTS);
    store.add("Eggs");
    await vi.advanceTimersByTimeAsync(600_000);
    store.discard();
    expect(shown()).toEqual(["Milk", "Bread"]);
    expect(refused()?.title).toBe("Eggs");
    await vi.advanceTimersByTimeAsync(60_000);
    expect(backend.calls).toHaveLength(MAX_ATTEMPTS);
  });

  it("that is the browser's own ends with its `online` event", async () => {
    const onLine = vi.spyOn(navigator, "onLine", "get").mockReturnValue(false);
    backend.failures.push(new TypeError("Failed to fetch"));
    store.add("Eggs");
    await settle();
    expect(store.snapshot().trouble?.kind).toBe("offline");
    onLine.mockReturnValue(true);
    window.dispatchEvent(new Event("online"));
    await settle();
    expect(backend.titles).toContain("Eggs");
  });

  it("does not keep the first list away for ever", async () => {
    stop();
    begin([todo("1", "Milk")], MAX_ATTEMPTS + 3);
    store.add("Eggs");
    await vi.advanceTimersByTimeAsync(300_000);
    expect(store.snapshot().loaded).toBe(true);
    expect(shown()).toEqual(["Milk", "Eggs"]);
    expect(backend.titles).toEqual(["Milk", "Eggs"]);
  });

  it("does not outlive the page", async () => {
    outage(1);
    store.add("Eggs");
    await settle();
    stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(backend.calls).toHaveLength(1);
    // React's strict mode stops and starts again.
    stop = store.start();
    await settle();
    expect(backend.titles).toContain("Eggs");
  });
});

describe("order", () => {
  it("a todo that is not stored yet can be completed, renamed and deleted", async () => {
    store.add("Eggs");
    const key = store.snapshot().items[2]?.key ?? "";
    store.toggle(key, true);
    store.rename(key, "Six eggs", "Eggs");
    await vi.advanceTimersByTimeAsync(10);
    expect(backend.todos[2]).toMatchObject({ title: "Six eggs", completed: true });
    expect(store.snapshot().items[2]?.key).toBe(key);
    store.remove(key);
    await vi.advanceTimersByTimeAsync(UNDO_TIME);
    expect(backend.titles).toEqual(["Milk", "Bread"]);
  });

  it("what was built upon a refused todo goes with it", async () => {
    backend.failures.push(problem(422, "no"));
    store.add("Eggs");
    store.toggle(store.snapshot().items[2]?.key ?? "", true);
    await vi.advanceTimersByTimeAsync(10);
    expect(shown()).toEqual(["Milk", "Bread"]);
    expect(backend.changes).toEqual(["POST /api/v1/todos"]);
    expect(store.snapshot().trouble).toBeNull();
  });

  it("clearing waits for what was completed before it", async () => {
    store.toggle("1", true);
    store.clearCompleted();
    store.toggle("2", true);
    store.add("Eggs");
    expect(shown()).toEqual(["Bread", "Eggs"]);
    await vi.advanceTimersByTimeAsync(UNDO_TIME + 10);
    expect(backend.titles).toEqual(["Bread", "Eggs"]);
    // Does not clear or delay todos completed later.
    expect(backend.changes).toEqual([
      "PATCH /api/v1/todos/1",
      "PATCH /api/v1/todos/2",
      "POST /api/v1/todos",
      "DELETE /api/v1/todos",
    ]);
  });

  it("sends at most four changes at a time", async () => {
    stop();
    begin(Array.from({ length: 9 }, (_, index) => todo(String(index + 1), `Todo ${index}`)));
    let open = 0;
    let most = 0;
    const answer = fetch;
    vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
      most = Math.max(most, (open += 1));
      await new Promise((resolve) => setTimeout(resolve, 10));
      open -= 1;
      return answer(url, init);
    });
    for (const { key } of store.snapshot().items) store.toggle(key, true);
    await vi.advanceTimersByTimeAsync(100);
    expect(most).toBe(4);
    expect(backend.todos.every(({ completed }) => completed)).toBe(true);
  });
});

describe("a todo that another page deleted", () => {
  it("goes here too when it is changed", async () => {
    backend.todos = [];
    store.toggle("1", true);
    await settle();
    expect(shown()).toEqual(["Bread"]);
    expect(refused()?.text).toBe("“Milk” was deleted in the meantime.");
  });

  it.each([
    ["the server says so", () => undefined],
    ["it was read meanwhile", () => { store.reload(); }],
    ["another change of it is refused first", () => { store.toggle("1", true); }],
  ])("gives the typed title back when %s", async (_, before) => {
    outage(1);
    store.add("Eggs");
    await settle();
    backend.todos = backend.todos.filter(({ id }) => id !== "1");
    before();
    store.rename("1", "Oat milk", "Milk");
    await vi.advanceTimersByTimeAsync(2_000);
    expect(shown()).toEqual(["Bread", "Eggs"]);
    expect(refused()).toMatchObject({ title: "Oat milk", text: "“Milk” was deleted in the meantime. Your title “Oat milk” is not saved." });
  });

  it("is deleted without complaint", async () => {
    backend.todos = [];
    store.remove("1");
    await vi.advanceTimersByTimeAsync(UNDO_TIME);
    expect(backend.changes).toEqual(["DELETE /api/v1/todos/1"]);
    expect(shown()).toEqual(["Bread"]);
    expect(refused()).toBeUndefined();
  });
});

describe("an ended session", () => {
  it("stops everything until somebody signs in, and loses nothing", async () => {
    backend.user = null;
    store.add("Eggs");
    store.toggle("1", true);
    await settle();
    expect(store.snapshot().trouble).toEqual({ kind: "signed-out", unsaved: 2 });
    const asked = backend.calls.length;
    window.dispatchEvent(new Event("online"));
    await vi.advanceTimersByTimeAsync(600_000);
    expect(backend.calls).toHaveLength(asked);
    backend.user = ADA;
    store.retry(true);
    await settle();
    expect(backend.titles).toEqual(["Milk", "Bread", "Eggs"]);
    expect(backend.todos[0]?.completed).toBe(true);
    expect(store.snapshot().trouble).toBeNull();
  });

  it("is what it is too when somebody else signs in in another tab", async () => {
    store.signedOut();
    store.add("Eggs");
    await vi.advanceTimersByTimeAsync(60_000);
    expect(backend.calls).toEqual([]);
    expect(store.snapshot().trouble).toEqual({ kind: "signed-out", unsaved: 1, otherUser: true });
  });
});

describe("a long list", () => {
  const many = (count: number) =>
    Array.from({ length: count }, (_, index) => todo(String(index + 1), `Todo ${index}`, index % 2 === 1));

  function beginWithPage(count: number) {
    stop();
    backend = new FakeBackend(many(count));
    store = new TodoStore(createApi(), { todos: many(50), next: "50" }, ADA.id);
    stop = store.start();
  }

  it("comes page by page, as its end comes near", async () => {
    beginWithPage(1_200);
    expect(store.snapshot()).toMatchObject({ loaded: true, more: true });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(store.snapshot()).toMatchObject({ more: true });
    expect(backend.calls).toHaveLength(1);
    for (let page = 2; page <= 3; page += 1) {
      store.more();
      store.more();
      await settle();
      expect(backend.calls).toHaveLength(page);
    }
    expect(store.snapshot().more).toBe(false);
    expect(shown()).toEqual(many(1_200).map(({ title }) => title));
    store.more();
    await settle();
    expect(backend.calls).toHaveLength(3);
  });

  it("is read again only as far as it is shown, without a flicker", async () => {
    beginWithPage(1_200);
    await settle();
    backend.change("3", { title: "Changed" });
    const seen = new Set<boolean>();
    store.subscribe(() => seen.add(store.snapshot().more));
    store.reload();
    await settle();
    expect(shown()[2]).toBe("Changed");
    expect(backend.calls).toHaveLength(3);
    expect(store.snapshot().items.length).toBeGreaterThanOrEqual(550);
    expect([...seen]).toEqual([true]);
  });

  it("keeps what is done meanwhile", async () => {
    beginWithPage(1_200);
    store.remove("3");
    store.toggle("1", true);
    store.add("Eggs");
    await vi.advanceTimersByTimeAsync(UNDO_TIME);
    store.more();
    await settle();
    store.more();
    await settle();
    expect(store.snapshot().items).toHaveLength(1_200);
    expect(shown()).not.toContain("Todo 2");
    expect(shown().filter((title) => title === "Eggs")).toHaveLength(1);
    expect(backend.titles).toContain("Eggs");
    expect(store.snapshot().items[0]?.completed).toBe(true);
  });

  it("is cleared of completed todos that are not here yet, too", async () => {
    beginWithPage(1_200);
    store.clearCompleted();
    await vi.advanceTimersByTimeAsync(UNDO_TIME);
    expect(backend.todos).toHaveLength(600);
    expect(backend.changes).toEqual(["DELETE /api/v1/todos"]);
    store.more();
    await settle();
    store.more();
    await settle();
    expect(shown()).toEqual(backend.titles);
  });

  it("is completed as a whole, the part that is not here yet included", async () => {
    beginWithPage(1_200);
    store.toggleAll(true);
    await vi.advanceTimersByTimeAsync(100);
    expect(backend.changes).toEqual(["PATCH /api/v1/todos"]);
    expect(backend.todos.every(({ completed }) => completed)).toBe(true);
    store.more();
    await settle();
    expect(store.snapshot().items.every(({ completed, pending }) => completed && !pending)).toBe(true);
  });

  it("draws anew only what changed", async () => {
    beginWithPage(50);
    await settle();
    const before = store.snapshot().items;
    store.toggle("1", true);
    const after = store.snapshot().items;
    expect(after[0]).not.toBe(before[0]);
    expect(after[1]).toBe(before[1]);
  });

  it("draws no pending row anew when another one's answer comes", async () => {
    beginWithPage(50);
    await settle();
    const answers: (() => void)[] = [];
    const answer = fetch;
    vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
      await new Promise<void>((resolve) => answers.push(resolve));
      return answer(url, init);
    });
    for (const key of ["1", "2", "3"]) store.toggle(key, true);
    const before = store.snapshot().items;
    answers[0]?.();
    await settle();
    const after = store.snapshot().items;
    expect(after[0]).toMatchObject({ completed: true, pending: false });
    expect(after[1]).toMatchObject({ completed: true, pending: true });
    expect(after.slice(1)).toEqual(before.slice(1));
    expect(after.slice(1).every((item, index) => item === before[index + 1])).toBe(true);
  });
});

describe("what others change", () => {
  it("is loaded anew, with the places on screen kept", async () => {
    store.add("Eggs");
    await settle();
    const key = store.snapshot().items[2]?.key;
    backend.todos = [todo("1", "Oat milk"), ...backend.todos.slice(2), todo("200", "Flour")];
    store.reload();
    await settle();
    expect(shown()).toEqual(["Oat milk", "Eggs", "Flour"]);
    expect(store.snapshot().items[1]?.key).toBe(key);
  });

  it("waits for changes that are on their way, and holds new ones back", async () => {
    store.add("Eggs");
    store.reload();
    store.add("Flour");
    await settle();
    expect(shown()).toEqual(["Milk", "Bread", "Eggs", "Flour"]);
    expect(backend.calls.map(({ method }) => method)).toEqual(["POST", "GET", "POST"]);
  });

  it("is not overwritten by what was read earlier", async () => {
    const answer = fetch;
    vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
      const response = await answer(url, init);
      await new Promise((resolve) => setTimeout(resolve, url.includes("limit") ? 1_000 : 10));
      return response;
    });
    store.reload();
    await settle();
    backend.change("1", { title: "Oat milk" });
    void store.refresh(["1"]);
    await vi.advanceTimersByTimeAsync(100);
    expect(shown()[0]).toBe("Oat milk");
    await vi.advanceTimersByTimeAsync(5_000);
    expect(shown()[0]).toBe("Oat milk");
  });

  it("is read by name where it is named", async () => {
    backend.change("1", { title: "Oat milk" });
    backend.todos = [...backend.todos.filter(({ id }) => id !== "2"), todo("3", "Eggs"), todo("4", "Flour")];
    await store.refresh(["1", "2", "3"]);
    expect(shown()).toEqual(["Oat milk", "Eggs"]);
    expect(backend.calls).toHaveLength(1);
    backend.failures.push(problem(503, "away", "1"));
    await store.refresh(["4"]);
    await settle();
    expect(shown()).toEqual(["Oat milk", "Eggs", "Flour"]);
  });

  it("is read when somebody looks at the page again, and when the network is back", async () => {
    for (const look of [
      () => window.dispatchEvent(new Event("focus")),
      () => document.dispatchEvent(new Event("visibilitychange")),
      () => window.dispatchEvent(new Event("online")),
    ]) {
      const read = backend.calls.length;
      await vi.advanceTimersByTimeAsync(5_000);
      expect(backend.calls).toHaveLength(read);
      backend.change("1", { title: `Read ${read} times` });
      look();
      await settle();
      expect(shown()[0]).toBe(`Read ${read} times`);
      // Windows get the focus repeatedly.
      window.dispatchEvent(new Event("focus"));
      await settle();
      expect(backend.calls).toHaveLength(read + 1);
    }
  });
});

describe("a title that somebody else has changed meanwhile", () => {
  beforeEach(() => { backend.change("1", { title: "Oat milk" }); });

  it("is not overwritten unless the user says so", async () => {
    store.rename("1", "Almond milk", "Milk");
    await settle();
    expect(backend.titles[0]).toBe("Oat milk");
    expect(shown()[0]).toBe("Oat milk");
    const refusal = refused();
    expect(refusal?.text).toBe(
      "“Milk” was changed to “Oat milk” in the meantime. Your title “Almond milk” is not saved.",
    );
    refusal?.overwrite?.();
    await settle();
    expect(backend.titles[0]).toBe("Almond milk");
    expect(refused()).toBeUndefined();
  });

  it("is not overwritten either when it was read while the field was open", async () => {
    store.reload();
    await settle();
    store.rename("1", "Almond milk", "Milk");
    await settle();
    expect(backend.changes).toEqual([]);
    expect(refused()?.overwrite).toBeDefined();
  });

  it("hinders nobody who changes something else, nor one whose answer was lost", async () => {
    backend.change("2", { completed: true });
    store.rename("2", "Rye bread", "Bread");
    await settle();
    expect(backend.todos[1]).toMatchObject({ title: "Rye bread", completed: true });
    store.rename("1", "Oat milk", "Milk");
    await settle();
    expect(refused()).toBeUndefined();
    expect(shown()).toEqual(["Oat milk", "Rye bread"]);
  });

  it("comes back with each other title that is refused, until the user has seen to it", async () => {
    backend.change("2", { title: "Rye bread" });
    store.rename("1", "Almond milk", "Milk");
    store.rename("2", "Dark bread", "Bread");
    await settle();
    store.toggle("1", true);
    await settle();
    expect(store.snapshot().refusals.map(({ title }) => title)).toEqual(["Almond milk", "Dark bread"]);
    store.snapshot().refusals[0]?.overwrite?.();
    await settle();
    expect(backend.titles).toEqual(["Almond milk", "Rye bread"]);
    store.dismiss(refused()?.id ?? 0);
    expect(store.snapshot().refusals).toEqual([]);
  });

  it("may have been changed in this very page: the second change builds upon the first", async () => {
    store.rename("2", "Rye bread", "Bread");
    store.rename("2", "Dark rye bread", "Rye bread");
    await settle();
    expect(backend.titles[1]).toBe("Dark rye bread");
    expect(refused()).toBeUndefined();
  });
});

describe("a deletion", () => {
  it("can be undone for some seconds, the last one first", async () => {
    store.remove("1");
    store.remove("2");
    expect(shown()).toEqual([]);
    expect(store.snapshot().undoable).toBe("Deleted “Bread”.");
    await vi.advanceTimersByTimeAsync(UNDO_TIME - 1);
    expect(store.undo()).toMatchObject({ kind: "remove", key: "2" });
    expect(shown()).toEqual(["Bread"]);
    expect(store.snapshot().undoable).toBe("Deleted “Milk”.");
    await vi.advanceTimersByTimeAsync(1);
    expect(store.snapshot().undoable).toBeNull();
    expect(store.undo()).toBeUndefined();
    await settle();
    expect(backend.titles).toEqual(["Bread"]);
  });

  it("of the completed ones spares what others complete or reopen meanwhile", async () => {
    store.add("Eggs");
    store.toggle("1", true);
    await settle();
    const eggs = store.snapshot().items[2];
    store.toggle(eggs?.key ?? "", true);
    // Its completion is not confirmed yet.
    store.clearCompleted();
    await vi.advanceTimersByTimeAsync(3_000);
    backend.change("2", { completed: true });
    store.reload();
    await settle();
    expect(shown()).toEqual(["Bread"]);
    await vi.advanceTimersByTimeAsync(UNDO_TIME);
    expect(backend.titles).toEqual(["Bread"]);
    expect(shown()).toEqual(["Bread"]);
    store.clearCompleted();
    backend.change("2", { completed: false });
    await vi.advanceTimersByTimeAsync(UNDO_TIME);
    expect([backend.titles, shown()]).toEqual([["Bread"], ["Bread"]]);
    backend.change("2", { completed: true });
    store.reload();
    await settle();
    store.clearCompleted();
    backend.todos = [todo("3", "Flour", true)];
    store.reload();
    await vi.advanceTimersByTimeAsync(UNDO_TIME);
    expect([backend.titles, shown()]).toEqual([["Flour"], ["Flour"]]);
  });

  it("of the completed ones of a long list spares what others complete meanwhile, and not what is on its way", async () => {
    stop();
    const todos = Array.from({ length: 1_200 }, (_, index) => todo(String(index + 1), `Todo ${index + 1}`, index % 2 === 1));
    backend = new FakeBackend(todos);
    store = new TodoStore(createApi(), { todos: todos.slice(0, 50), next: "50" }, ADA.id);
    stop = store.start();
    await settle();
    outage(1);
    store.toggle("1", true);
    store.clearCompleted();
    await vi.advanceTimersByTimeAsync(3_000);
    backend.change("3", { completed: true });
    backend.change("1001", { completed: true });
    await vi.advanceTimersByTimeAsync(UNDO_TIME);
    expect(backend.titles).toHaveLength(599);
    expect(backend.titles).toEqual(expect.arrayContaining(["Todo 3", "Todo 1001"]));
    expect(shown()).toContain("Todo 3");
    outage(1);
    store.toggleAll(true);
    store.clearCompleted();
    await vi.advanceTimersByTimeAsync(UNDO_TIME + 10);
    expect([backend.titles, shown()]).toEqual([[], []]);
  });

  it("of what the same page completes as a whole takes all of it", async () => {
    backend.failures.push(problem(503, "away", "3"));
    store.toggleAll(true);
    store.clearCompleted();
    await vi.advanceTimersByTimeAsync(UNDO_TIME + 10);
    expect([backend.titles, shown()]).toEqual([[], []]);
  });

  it("spares a todo that somebody else has retitled meanwhile, but not one that is completed", async () => {
    store.remove("1");
    store.remove("2");
    backend.change("1", { title: "Milk, urgently" });
    backend.change("2", { completed: true });
    await vi.advanceTimersByTimeAsync(UNDO_TIME);
    expect([backend.titles, shown()]).toEqual([["Milk, urgently"], ["Milk, urgently"]]);
    expect(refused()?.text).toBe("“Milk” was changed to “Milk, urgently” in the meantime. It is not deleted.");
  });

  it("of the completed ones, and of an emptied title, can be undone too", async () => {
    store.toggle("1", true);
    store.clearCompleted();
    store.rename("2", "  ", "Bread");
    expect(shown()).toEqual([]);
    store.undo();
    expect(store.snapshot().undoable).toBe("Deleted the completed todos.");
    store.undo();
    await vi.advanceTimersByTimeAsync(2 * UNDO_TIME);
    expect(shown()).toEqual(["Milk", "Bread"]);
    expect(backend.changes).toEqual(["PATCH /api/v1/todos/1"]);
  });
});

describe("a page that is left", () => {
  const leave = () => {
    const event = new Event("beforeunload", { cancelable: true });
    window.dispatchEvent(event);
    return event.defaultPrevented;
  };
  const slow = () => {
    const answer = fetch;
    vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
      await new Promise((resolve) => setTimeout(resolve, 30_000));
      return answer(url, init);
    });
    return vi.spyOn(globalThis, "fetch");
  };

  it("warns while something is unsent, and sends it all the same", async () => {
    const sent = slow();
    for (const title of ["Eggs", "Flour", "Salt"]) store.add(title);
    expect(sent).toHaveBeenCalledTimes(1);
    expect(leave()).toBe(true);
    window.dispatchEvent(new Event("pagehide"));
    expect(sent.mock.calls.map(([, init]) => [init?.keepalive, init?.body])).toEqual(
      ["Eggs", "Flour", "Salt"].map((title) => [true, JSON.stringify({ title })]),
    );
    // They are kept until they are answered, in case the page stays.
    expect(shown()).toEqual(["Milk", "Bread", "Eggs", "Flour", "Salt"]);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(backend.titles).toEqual(["Milk", "Bread", "Eggs", "Flour", "Salt"]);
    expect(store.snapshot().items.some(({ pending }) => pending)).toBe(false);
    expect(leave()).toBe(false);
  });

  const hide = () => {
    vi.spyOn(document, "visibilityState", "get").mockReturnValue("hidden");
    document.dispatchEvent(new Event("visibilitychange"));
  };
  const bodies = (sent: ReturnType<typeof slow>) => sent.mock.calls.map(([, init]) => init?.body && JSON.parse(init.body as string) as unknown);

  it("warns while an answer is due: the request may fail", () => {
    slow();
    store.toggle("1", true);
    expect(leave()).toBe(true);
  });

  it("sends what could be undone when it is hidden: a phone may end it", () => {
    stop();
    begin([todo("1", "Milk"), todo("2", "Bread", true)]);
    const sent = slow();
    store.remove("1");
    store.clearCompleted();
    hide();
    expect(sent.mock.calls.map(([, init]) => init?.method)).toEqual(["DELETE", "DELETE"]);
    expect(store.undo()).toBeUndefined();
  });

  it("sends what was typed, whatever it waits for, when it is hidden", () => {
    const sent = slow();
    store.toggleAll(true);
    store.add("Eggs");
    store.rename("1", "Oat milk", "Milk");
    hide();
    expect(bodies(sent)).toEqual([{ completed: true }, { title: "Eggs" }, { title: "Oat milk" }]);
  });

  it("sends a new todo under the title that it was given last, but repeats one as it was", async () => {
    const sent = slow();
    store.add("Eggs");
    store.add("Flour");
    const [eggs, flour] = store.snapshot().items.slice(2).map(({ key }) => key);
    store.rename(flour ?? "", "Rye flour", "Flour");
    store.rename(eggs ?? "", "Six eggs", "Eggs");
    expect(shown().slice(2)).toEqual(["Six eggs", "Rye flour"]);
    window.dispatchEvent(new Event("pagehide"));
    expect(bodies(sent)).toEqual([{ title: "Eggs" }, { title: "Rye flour" }]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(backend.titles.slice(2)).toEqual(["Six eggs", "Rye flour"]);
  });

  it("keeps the order of what was typed when it is only hidden", async () => {
    const answer = fetch;
    let delay = 300;
    vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
      await new Promise((resolve) => setTimeout(resolve, (delay -= 100)));
      return answer(url, init);
    });
    for (const title of ["a", "b", "c"]) store.add(title);
    hide();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(backend.titles.slice(2)).toEqual(["a", "b", "c"]);
  });

  it("and stays after all can still undo", () => {
    store.remove("1");
    expect(leave()).toBe(false);
    expect(store.snapshot().undoable).not.toBeNull();
    expect(backend.changes).toEqual([]);
  });

  it("sends what could be undone, without a warning", async () => {
    store.remove("1");
    expect(leave()).toBe(false);
    window.dispatchEvent(new Event("pagehide"));
    expect(backend.changes).toEqual(["DELETE /api/v1/todos/1"]);
    expect(store.snapshot().undoable).toBeNull();
    await settle();
    expect(backend.titles).toEqual(["Bread"]);
  });

  it("sends nothing before what it builds upon, and nothing in another one's name", () => {
    const sent = slow();
    store.toggle("1", true);
    store.clearCompleted();
    store.toggle("2", true);
    window.dispatchEvent(new Event("pagehide"));
    expect(sent.mock.calls.map(([url]) => url)).toEqual(["/api/v1/todos/1", "/api/v1/todos/2"]);
    store.signedOut();
    store.add("Eggs");
    expect(leave()).toBe(true);
    window.dispatchEvent(new Event("pagehide"));
    expect(sent).toHaveBeenCalledTimes(2);
  });

  it("by signing out waits until everything is saved, or cannot be", async () => {
    let left = false;
    store.add("Eggs");
    store.remove("1");
    void store.settle().then(() => { left = true; });
    expect(left).toBe(false);
    await settle();
    expect([left, backend.titles]).toEqual([true, ["Bread", "Eggs"]]);
  });

  it("by signing out waits through a passing failure, but not for ever", async () => {
    let left = false;
    const settled = () => { left = true; };
    outage(1);
    store.add("Eggs");
    void store.settle().then(settled);
    await settle();
    expect([left, store.snapshot().trouble?.kind]).toEqual([false, "waiting"]);
    await vi.advanceTimersByTimeAsync(1_500);
    expect([left, backend.titles.at(-1)]).toEqual([true, "Eggs"]);
    left = false;
    backend.failures.push(problem(503, "away", "29"));
    store.add("Flour");
    void store.settle().then(settled);
    await vi.advanceTimersByTimeAsync(14_900);
    expect(left).toBe(false);
    await vi.advanceTimersByTimeAsync(200);
    expect(left).toBe(true);
  });
});

describe("another tab", () => {
  const BREAD = todo("2", "Bread");
  let other: TodoStore;
  let close: () => void;
  const heard = () => vi.waitFor(() => { expect(other.snapshot().items.map(({ title }) => title)).toEqual(shown()); });

  function beginOther(owner = ADA.id) {
    vi.useRealTimers();
    stop();
    begin();
    other = new TodoStore(createApi({ user: owner }), { todos: [todo("1", "Milk"), BREAD], next: null }, owner);
    close = other.start();
    return () => { close(); };
  }

  it("of the same user sees each change, and asks for nothing", async () => {
    const end = beginOther();
    store.add("Eggs");
    store.rename("1", "Oat milk", "Milk");
    await heard();
    store.toggleAll(true);
    await vi.waitFor(() => { expect(other.snapshot().items.every(({ completed }) => completed)).toBe(true); });
    store.clearCompleted();
    void store.settle();
    await heard();
    // The page reads changes that others made during the time to undo.
    expect(backend.calls.map(({ method }) => method)).toEqual(["POST", "PATCH", "PATCH", "DELETE", "GET"]);
    end();
  });

  it("of another user says nothing by a late answer about who is signed in", async () => {
    const end = beginOther();
    const late = new BroadcastChannel("todos");
    late.postMessage({ owner: "u2", effect: { kind: "remove", ids: ["1"] } });
    late.postMessage({ owner: ADA.id, effect: { kind: "remove", ids: ["2"] } });
    await vi.waitFor(() => { expect(shown()).toEqual(["Milk"]); });
    expect(store.snapshot().trouble).toBeNull();
    late.close();
    end();
  });

  it("of another user stops this one, whose changes are never theirs", async () => {
    const end = beginOther("u2");
    await vi.waitFor(() => { expect(store.snapshot().trouble?.kind).toBe("signed-out"); });
    // This page may not know it, but the backend does.
    other.add("For u2 alone");
    await vi.waitFor(() => { expect(other.snapshot().trouble).toEqual({ kind: "signed-out", unsaved: 1, otherUser: true }); });
    expect(backend.titles).toEqual(["Milk", "Bread"]);
    end();
  });
});

it("makes the titles once for each list, however often they are read", () => {
  const [milk] = store.snapshot().items;
  const read = vi.fn(() => "Milk");
  Object.defineProperty(milk, "title", { get: read });
  const titles = store.titles();
  expect([store.titles(), read.mock.calls.length]).toEqual([titles, 1]);
  store.add("Eggs");
  expect(store.titles()).toBe(titles);
  store.rename("2", "Rye bread", "Bread");
  expect(store.titles().get("2")).toBe("Rye bread");
});
