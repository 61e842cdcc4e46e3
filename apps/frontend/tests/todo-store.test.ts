import { beforeEach, describe, expect, it, vi } from "vitest";
import { createApi } from "@/lib/api";
import { MAX_ATTEMPTS } from "@/lib/retry";
import { TodoStore } from "@/lib/todo-store";
import { FakeBackend, problem, todo } from "./fake-backend";

let backend: FakeBackend;
let store: TodoStore;
let stop: () => void;

/** `failures`: how often the first list is not to be had; absent: it came with the page. */
function begin(todos = [todo("1", "Milk"), todo("2", "Bread")], failures?: number) {
  backend = new FakeBackend(todos);
  outage(failures ?? 0);
  store = new TodoStore(createApi(), failures === undefined ? todos.map((one) => ({ ...one })) : null);
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
