import { afterEach, describe, expect, it, vi } from "vitest";
import { assistantApi } from "@/lib/assistant/assistant-api";
import { AssistantStore, MESSAGE_MAX } from "@/lib/assistant/assistant-store";
import type { Message } from "@/lib/api/api-types";
import { FakeAssistant, message, refusal } from "./fake-assistant";

interface Page {
  backend: FakeAssistant;
  store: AssistantStore;
  /** Changes reported to the list, newest last. */
  touched: (readonly string[])[];
  titles: Map<string, string>;
}

const stops: (() => void)[] = [];
/** Resolves when all changes of the list are saved. */
let settled: Promise<void>;
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

async function open(messages: Message[] = []): Promise<Page> {
  const backend = new FakeAssistant(messages);
  const touched: (readonly string[])[] = [];
  const titles = new Map([["1", "Milk"], ["2", "Bread"]]);
  settled = Promise.resolve();
  const list = { titles: () => titles, touch: (ids: readonly string[]) => void touched.push(ids), settle: () => settled };
  const store = new AssistantStore(assistantApi(), list);
  stops.push(store.start());
  await vi.waitFor(() => { expect(store.snapshot().status).not.toBe("loading"); });
  return { backend, store, touched, titles };
}

const texts = (store: AssistantStore) => store.snapshot().messages.map(({ role, text, state }) => `${role}: ${text} (${state})`);
const idle = (store: AssistantStore) => vi.waitFor(() => { expect(store.snapshot().phase).toBe("idle"); });
const question = (id = "q") => ({
  id,
  question: "Delete these 2 todos?",
  todos: [{ id: "1", title: "Milk" }, { id: "2", title: "Bread" }],
  expires_at: new Date(Date.now() + 600_000).toISOString(),
});

describe("a conversation", () => {
  it("begins with what was said before", async () => {
    const { store } = await open([message("user", "Hello"), message("assistant", "Done", "1")]);
    expect(store.snapshot()).toMatchObject({ status: "ready", model: "scripted", trouble: null });
    expect(texts(store)).toEqual(["user: Hello (done)", "assistant: Done (done)"]);
    expect(store.snapshot().messages[1]?.touched).toEqual([{ id: "1" }]);
  });

  it("waits until everything that was done in the list is saved", async () => {
    const { backend, store } = await open();
    let save = () => { /* set below */ };
    settled = new Promise((resolve) => { save = resolve; });
    store.ask("Delete all of them");
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(backend.posts).toEqual([]);
    save();
    (await backend.answer()).end();
    await idle(store);
  });

  it("goes on bit by bit", async () => {
    const { backend, store, touched } = await open();
    store.write("  Add eggs ");
    expect(store.ask()).toBe(true);
    expect(store.snapshot()).toMatchObject({ phase: "waiting", draft: "" });
    const answer = await backend.answer();
    expect(backend.posts).toEqual(['/api/v1/assistant {"message":"Add eggs"}']);
    answer.raw(": keep-alive\n\n");
    answer.say("Eggs ");
    await vi.waitFor(() => { expect(texts(store)).toEqual(["user: Add eggs (done)", "assistant: Eggs  (streaming)"]); });
    expect(store.ask("more")).toBe(false);
    answer.tool("add_todo", "9");
    answer.tool("list_todos", "1", "2");
    for (const later of ["from-a-later-release", "constructor"]) answer.send(later, { anything: 1 });
    answer.say("added.");
    answer.done();
    await idle(store);
    expect(texts(store)).toEqual(["user: Add eggs (done)", "assistant: Eggs added. (done)"]);
    expect(touched).toEqual([["9"]]);
    expect(backend.asked.map(({ method }) => method)).toEqual(["GET", "POST"]);
  });

  it("remembers the titles of what is deleted", async () => {
    const { backend, store, touched, titles } = await open();
    store.ask("Delete milk, complete bread");
    const answer = await backend.answer();
    answer.tool("delete_todos", "1");
    await vi.waitFor(() => { expect(touched).toEqual([["1"]]); });
    titles.delete("1");
    answer.tool("complete_todo", "2");
    answer.done();
    await idle(store);
    expect(store.snapshot().messages.at(-1)?.touched).toEqual([
      { id: "1", tool: "delete_todos", title: "Milk" },
      { id: "2", tool: "complete_todo", title: "Bread" },
    ]);
    // Reports only new changes each time, so the list reads only those.
    expect(touched).toEqual([["1"], ["2"]]);
  });

  it("sends no blanks, and nothing that is too long", async () => {
    const { backend, store } = await open();
    expect([store.ask("  "), store.ask("x".repeat(MESSAGE_MAX + 1))]).toEqual([false, false]);
    expect(backend.posts).toEqual([]);
  });

  it("is forgotten, and kept if that fails", async () => {
    const { backend, store } = await open([message("user", "Secret")]);
    backend.failures.push(refusal(503, "database-unavailable", "The database does not answer"));
    await store.forget();
    expect(texts(store)).toEqual(["user: Secret (done)"]);
    expect(store.snapshot().trouble).toEqual({ text: "The database does not answer", remedy: "none" });
    await store.forget();
    expect(store.snapshot()).toMatchObject({ messages: [], trouble: null });
    expect(backend.messages).toEqual([]);
  });
});

describe("an answer that is stopped", () => {
  it("keeps what has come, ends the request and has the list loaded again", async () => {
    const { backend, store, touched } = await open();
    store.ask("Tell me");
    const answer = await backend.answer();
    answer.say("Once upon");
    await vi.waitFor(() => { expect(texts(store)).toHaveLength(2); });
    store.stop();
    await idle(store);
    expect(answer.left).toBe(true);
    expect(texts(store)).toEqual(["user: Tell me (done)", "assistant: Once upon (stopped)"]);
    expect(store.snapshot()).toMatchObject({ trouble: null, draft: "" });
    expect(touched).toEqual([[]]);
  });

  it("says so, too, if nothing has come", async () => {
    const { backend, store } = await open();
    store.ask("Tell me");
    await backend.answer();
    store.stop();
    await idle(store);
    expect(texts(store)).toEqual(["user: Tell me (done)", "assistant:  (stopped)"]);
  });

  it("lets the next one wait until the backend has noticed", async () => {
    const { backend, store } = await open();
    store.ask("One");
    await backend.answer();
    store.stop();
    await idle(store);
    backend.failures.push(refusal(409, "assistant-busy"));
    store.ask("Two");
    const answer = await backend.answer(2);
    answer.say("Here");
    answer.done();
    await idle(store);
    expect(store.snapshot().trouble).toBeNull();
    expect(texts(store).slice(-2)).toEqual(["user: Two (done)", "assistant: Here (done)"]);
    expect(backend.posts).toHaveLength(3);
  });
});

describe("what goes wrong before anything has come", () => {
  const cases = [
    ["rate limited", refusal(503, "assistant-rate-limited", "Try again in 20 s.", 20), "Try again in 20 s.", "retry"],
    ["key refused", refusal(503, "assistant-key-refused", "Set OPENAI_API_KEY."), "OPENAI_API_KEY", "retry"],
    ["unavailable", refusal(503, "assistant-unavailable", "The provider failed"), "The provider failed", "retry"],
    ["busy", refusal(409, "assistant-busy", "It is still at work."), "still at work", "retry"],
    ["signed out", refusal(401, "not_signed_in"), "signed out", "sign-in"],
    ["invalid", refusal(422, "validation", "Too long"), "Too long", "none"],
    ["no answer", new TypeError("Failed to fetch"), "not answering", "retry"],
    ["a foreign page", new Response("<html>", { status: 502 }), "502", "retry"],
  ] as const;

  it.each(cases)("%s: said, and the input is kept", async (_, failure, text, remedy) => {
    const { backend, store } = await open();
    backend.failures.push(failure instanceof Response ? failure.clone() : failure);
    store.ask("Add eggs");
    await idle(store);
    expect(store.snapshot().trouble?.text).toContain(text);
    expect(store.snapshot()).toMatchObject({ trouble: { remedy }, messages: [], draft: "Add eggs" });
  });

  it("is tried again, once, with the same words", async () => {
    const { backend, store } = await open();
    backend.failures.push(new TypeError("Failed to fetch"));
    store.ask("Add eggs");
    await idle(store);
    store.retry();
    expect(store.snapshot()).toMatchObject({ trouble: null, draft: "", phase: "waiting" });
    const answer = await backend.answer();
    answer.say("Yes");
    answer.done();
    await idle(store);
    expect(texts(store)).toEqual(["user: Add eggs (done)", "assistant: Yes (done)"]);
  });

  it("leaves what was typed meanwhile, whatever was asked", async () => {
    const { backend, store } = await open();
    backend.failures.push(refusal(503, "assistant-unavailable"));
    store.ask("Add eggs");
    store.write("Something else");
    await idle(store);
    expect(store.snapshot().draft).toBe("Something else");
    store.retry();
    await backend.answer();
    expect(backend.posts.at(-1)).toContain("Add eggs");
    expect(store.snapshot().draft).toBe("Something else");
  });

  it("says that the browser is offline", async () => {
    const { backend, store } = await open();
    vi.spyOn(navigator, "onLine", "get").mockReturnValue(false);
    backend.failures.push(new TypeError("Failed to fetch"));
    store.ask("Add eggs");
    await idle(store);
    expect(store.snapshot().trouble?.text).toContain("You are offline");
  });
});

describe("what goes wrong in the midst of an answer", () => {
  it.each([
    ["the connection ends", "end"],
    ["the connection breaks", "cut"],
  ] as const)("%s: what came stays, and trying again goes on from there", async (_, how) => {
    const { backend, store, touched } = await open();
    store.ask("Add eggs");
    const answer = await backend.answer();
    answer.tool("add_todo", "9");
    answer.say("Half");
    await vi.waitFor(() => { expect(texts(store).at(-1)).toContain("Half"); });
    answer[how]();
    await idle(store);
    expect(texts(store)).toEqual(["user: Add eggs (done)", "assistant: Half (cut)"]);
    expect(store.snapshot()).toMatchObject({ draft: "", trouble: { remedy: "retry" } });
    expect(store.snapshot().trouble?.text).toContain("broke off");
    // Other changes are unknown.
    expect(touched).toEqual([["9"], []]);
    // Also if the second attempt fails.
    backend.failures.push(refusal(409, "assistant-busy"));
    store.retry();
    await idle(store);
    store.retry();
    const second = await backend.answer(2);
    second.say("Added.");
    second.done();
    await idle(store);
    expect(backend.posts.slice(1)).toEqual(Array(2).fill('/api/v1/assistant {"message":"Add eggs","resume":true}'));
    expect(texts(store)).toEqual(["user: Add eggs (done)", "assistant: Half (cut)", "assistant: Added. (done)"]);
  });

  it("a backend of the release before, which refuses to go on, is asked once more", async () => {
    const { backend, store } = await open();
    store.ask("Add eggs");
    const answer = await backend.answer();
    answer.say("Half");
    answer.end();
    await idle(store);
    backend.failures.push(refusal(422, "validation"));
    store.retry();
    const second = await backend.answer(2);
    second.say("Added.");
    second.done();
    await idle(store);
    expect(backend.posts.slice(1)).toEqual([
      '/api/v1/assistant {"message":"Add eggs","resume":true}',
      '/api/v1/assistant {"message":"Add eggs"}',
    ]);
    expect(store.snapshot().trouble).toBeNull();
  });

  it("an error of the backend's is said as such", async () => {
    const { backend, store } = await open();
    store.ask("Add eggs");
    const answer = await backend.answer();
    answer.say("Half");
    answer.send("error", { status: 503, code: "assistant-rate-limited", detail: "Try again in 120 s.", retry_after: 120 });
    await idle(store);
    expect(store.snapshot().trouble?.text).toContain("Try again in 120 s.");
  });

  it("an event that cannot be read ends it", async () => {
    for (const [event, data] of [["text", "{"], ["text", "[]"], ["tool", '{"name":"x","touched":"1"}'], ["confirmation", '{"id":1}']]) {
      const { backend, store } = await open();
      store.ask("Add eggs");
      (await backend.answer()).raw(`event: ${event ?? ""}\ndata: ${data ?? ""}\n\n`);
      await idle(store);
      expect(store.snapshot().trouble?.text).toContain("Unreadable answer");
    }
  });

  it("silence ends it, keep-alives do not", async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    const { backend, store } = await open();
    store.ask("Add eggs");
    const answer = await backend.answer();
    for (let beat = 0; beat < 6; beat += 1) {
      await vi.advanceTimersByTimeAsync(15_000);
      answer.raw(": keep-alive\n\n");
    }
    expect(store.snapshot().phase).toBe("waiting");
    await vi.advanceTimersByTimeAsync(46_000);
    await idle(store);
    expect(store.snapshot().trouble?.text).toContain("broke off");
    expect(answer.left).toBe(true);
  });
});

describe("a question about deleting", () => {
  const asking = async () => {
    const page = await open();
    page.store.ask("Delete everything");
    const answer = await page.backend.answer();
    answer.send("confirmation", question());
    answer.done();
    await idle(page.store);
    return page;
  };

  it("is open until it is answered, and then the answer goes on", async () => {
    const { backend, store, touched } = await asking();
    expect(store.snapshot().confirmation).toMatchObject({ id: "q", todos: [{ title: "Milk" }, { title: "Bread" }] });
    // The question needs no text, so there is no empty answer.
    expect(texts(store)).toEqual(["user: Delete everything (done)"]);
    store.confirm(true);
    const answer = await backend.answer(2);
    expect(backend.posts.at(-1)).toBe('/api/v1/assistant/confirmations/q {"approve":true}');
    answer.tool("delete_todos", "1", "2");
    answer.say("Deleted.");
    answer.done();
    await idle(store);
    expect(store.snapshot().confirmation).toBeNull();
    expect(touched.at(-1)).toEqual(["1", "2"]);
    expect(texts(store).at(-1)).toBe("assistant: Deleted. (done)");
  });

  it("stays open if the answer does not get through, and is answered again", async () => {
    const { backend, store } = await asking();
    backend.failures.push(new TypeError("Failed to fetch"));
    store.confirm(false);
    await idle(store);
    expect(store.snapshot()).toMatchObject({ confirmation: { id: "q" }, trouble: { remedy: "retry" } });
    store.retry();
    await backend.answer(2);
    expect(backend.posts.at(-1)).toBe('/api/v1/assistant/confirmations/q {"approve":false}');
  });

  it.each([[404, "confirmation-not-found"], [409, "confirmation-answered"]])("is closed if the backend says so (%d)", async (status, code) => {
    const { backend, store } = await asking();
    backend.failures.push(refusal(status, code, "In its words."));
    store.confirm(true);
    await idle(store);
    expect(store.snapshot()).toMatchObject({ confirmation: null, trouble: { remedy: "none" } });
    expect(store.snapshot().trouble?.text).toBe("In its words.");
  });

  it("is answered once, also if what follows breaks off", async () => {
    const { backend, store } = await asking();
    store.confirm(true);
    const answer = await backend.answer(2);
    answer.tool("delete_todos", "1", "2");
    answer.cut();
    await idle(store);
    expect(store.snapshot()).toMatchObject({ confirmation: null, trouble: { remedy: "none" }, draft: "" });
    expect(texts(store).at(-1)).toBe("assistant:  (cut)");
  });

  it("is closed when the user goes on with something else", async () => {
    const { backend, store } = await asking();
    store.ask("Never mind");
    const answer = await backend.answer(2);
    answer.say("Fine.");
    answer.done();
    await idle(store);
    expect(store.snapshot()).toMatchObject({ confirmation: null, trouble: null });
  });

  it("expires", async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    const { store } = await asking();
    await vi.advanceTimersByTimeAsync(599_000);
    expect(store.snapshot().confirmation).not.toBeNull();
    await vi.advanceTimersByTimeAsync(2_000);
    expect(store.snapshot()).toMatchObject({ confirmation: null, trouble: { remedy: "none" } });
    expect(store.snapshot().trouble?.text).toContain("expired. Nothing was changed");
  });
});

describe("without a key", () => {
  const off = async () => {
    const backend = new FakeAssistant();
    backend.available = false;
    const store = new AssistantStore(assistantApi(), { titles: () => new Map(), touch: () => undefined, settle: () => Promise.resolve() });
    stops.push(store.start());
    await vi.waitFor(() => { expect(store.snapshot().status).toBe("off"); });
    return { backend, store };
  };

  it("nothing is asked, until there is one", async () => {
    const { backend, store } = await off();
    expect(store.ask("Hello")).toBe(false);
    backend.available = true;
    store.retry();
    await vi.waitFor(() => { expect(store.snapshot().status).toBe("ready"); });
  });

  it("that is also found out while asking", async () => {
    const { backend, store } = await open();
    backend.failures.push(refusal(503, "assistant-not-configured"));
    store.ask("Hello");
    await idle(store);
    expect(store.snapshot()).toMatchObject({ status: "off", trouble: null, draft: "Hello" });
  });
});

it("a conversation that cannot be loaded is loaded when the user says so", async () => {
  const backend = new FakeAssistant([message("user", "Hello")]);
  backend.failures.push(refusal(503, "database-unavailable", "The database does not answer"));
  const store = new AssistantStore(assistantApi(), { titles: () => new Map(), touch: () => undefined, settle: () => Promise.resolve() });
  stops.push(store.start());
  await vi.waitFor(() => { expect(store.snapshot().status).toBe("failed"); });
  expect(store.snapshot().trouble).toEqual({ text: "The database does not answer", remedy: "retry" });
  store.retry();
  await vi.waitFor(() => { expect(store.snapshot()).toMatchObject({ status: "ready", trouble: null }); });
  expect(texts(store)).toEqual(["user: Hello (done)"]);
});
