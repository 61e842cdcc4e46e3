import { beforeEach, describe, expect, it, vi } from "vitest";
import { createApi } from "@/lib/api";
import { MAX_ATTEMPTS } from "@/lib/retry";
import { TodoStore } from "@/lib/todo-store";
import { ADA, FakeBackend, problem, todo } from "./fake-backend";

let backend: FakeBackend;
let store: TodoStore;
let stop: () => void;

/** `failures`: how often the first list is not to be had; absent: it came with the page. */
function begin(todos = [todo("1", "Milk"), todo("2", "Bread")], failures?: number) {
  backend = new FakeBackend(todos);
  outage(failures ?? 0);
  store = new TodoStore(createApi(), failures === undefined ? { todos: todos.map((one) => ({ ...one })), next: null } : null);
  stop = store.start();
}

const settle = () => vi.advanceTimersByTimeAsync(0);
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

  it("can be given up: the server's state is back, and what was typed is returned", async () => {
    outage(MAX_ATTEMPTS);
    store.add("Eggs");
    await vi.advanceTimersByTimeAsync(600_000);
    store.discard();
    expect(shown()).toEqual(["Milk", "Bread"]);
    expect(store.snapshot().refusal?.title).toBe("Eggs");
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
    store.rename(key, "Six eggs");
    await vi.advanceTimersByTimeAsync(10);
    expect(backend.todos[2]).toMatchObject({ title: "Six eggs", completed: true });
    expect(store.snapshot().items[2]?.key).toBe(key);
    store.remove(key);
    await settle();
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
    store.add("Eggs");
    expect(shown()).toEqual(["Bread", "Eggs"]);
    await vi.advanceTimersByTimeAsync(10);
    expect(backend.titles).toEqual(["Bread", "Eggs"]);
    expect(backend.changes).toEqual([
      "PATCH /api/v1/todos/1",
      "DELETE /api/v1/todos",
      "POST /api/v1/todos",
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
    store.toggleAll(true);
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
    expect(store.snapshot().refusal?.text).toBe("“Milk” was deleted in the meantime.");
  });

  it("is deleted without complaint", async () => {
    backend.todos = [];
    store.remove("1");
    await settle();
    expect(shown()).toEqual(["Bread"]);
    expect(store.snapshot().refusal).toBeNull();
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
    expect(store.snapshot().trouble).toEqual({ kind: "signed-out", unsaved: 1 });
  });
});

describe("a long list", () => {
  const many = (count: number) =>
    Array.from({ length: count }, (_, index) => todo(String(index + 1), `Todo ${index}`, index % 2 === 1));

  function beginWithPage(count: number) {
    stop();
    backend = new FakeBackend(many(count));
    store = new TodoStore(createApi(), { todos: many(50), next: "50" });
    stop = store.start();
  }

  it("comes page by page after the first", async () => {
    beginWithPage(1_200);
    expect(store.snapshot()).toMatchObject({ loaded: true, more: true });
    await vi.advanceTimersByTimeAsync(10);
    expect(store.snapshot().more).toBe(false);
    expect(shown()).toEqual(many(1_200).map(({ title }) => title));
    expect(backend.calls).toHaveLength(3);
  });

  it("keeps what is done meanwhile", async () => {
    beginWithPage(1_200);
    store.remove("3");
    store.toggle("1", true);
    store.add("Eggs");
    await vi.advanceTimersByTimeAsync(10);
    expect(store.snapshot().items).toHaveLength(1_200);
    expect(shown()).not.toContain("Todo 2");
    expect(shown().filter((title) => title === "Eggs")).toHaveLength(1);
    expect(backend.titles).toContain("Eggs");
    expect(store.snapshot().items[0]?.completed).toBe(true);
  });

  it("is cleared of completed todos that are not here yet, too", async () => {
    beginWithPage(1_200);
    store.clearCompleted();
    await vi.advanceTimersByTimeAsync(10);
    expect(backend.todos).toHaveLength(600);
    expect(store.snapshot().items).toHaveLength(600);
  });

  it("is completed as a whole, the part that is not here yet included", async () => {
    beginWithPage(120);
    store.toggleAll(true);
    await vi.advanceTimersByTimeAsync(100);
    expect(backend.todos.every(({ completed }) => completed)).toBe(true);
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
});
