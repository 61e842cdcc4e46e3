import { act, render, screen, waitFor, within } from "@testing-library/react";
import userEvent, { type UserEvent } from "@testing-library/user-event";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { AssistantSlot } from "@/components/assistant/assistant-slot";
import type { Message } from "@/lib/api/api-types";
import type { TodoLink } from "@/lib/todos/todo-store";
import { resize } from "./dialog";
import { FakeAssistant, message, refusal } from "./fake-assistant";

/** The part of the page's list that the assistant uses. */
class List implements TodoLink {
  #titles: ReadonlyMap<string, string> = new Map([["1", "Milk"], ["2", "Bread"]]);
  #changed = () => { /* nobody listens yet */ };
  readonly touched: string[][] = [];
  readonly revealed: string[] = [];

  readonly titles = () => this.#titles;
  readonly subscribe = (listener: () => void) => {
    this.#changed = listener;
    return () => { /* goes with the test */ };
  };

  touch(ids: readonly string[]): void {
    this.touched.push([...ids]);
  }

  settle(): Promise<void> {
    return Promise.resolve();
  }

  keyOf(id: string): undefined {
    this.revealed.push(id);
  }

  set(titles: Record<string, string>): void {
    this.#titles = new Map(Object.entries(titles));
    act(() => { this.#changed(); });
  }
}

interface Page {
  backend: FakeAssistant;
  list: List;
  user: UserEvent;
}

beforeEach(() => { resize(true); });

function page(messages: Message[] = []): Page {
  const backend = new FakeAssistant(messages);
  const list = new List();
  render(
    <>
      <input aria-label="New todo" />
      <AssistantSlot user="u1" todos={list} />
    </>,
  );
  return { backend, list, user: userEvent.setup() };
}

async function open(messages: Message[] = [], prepare?: (page: Page) => void): Promise<Page> {
  const opened = page(messages);
  prepare?.(opened);
  await opened.user.click(screen.getByRole("button", { name: "Assistant" }));
  await screen.findByRole("dialog", { name: "Assistant" });
  await waitFor(() => { expect(opened.backend.asked.length).toBeGreaterThan(0); });
  return opened;
}

const field = () => screen.findByRole("textbox", { name: "Message to the assistant" });
/** The visible text; another test checks the text for screen readers. */
const shown = (text: string | RegExp) => within(screen.getByRole("region", { name: "Conversation" })).findByText(text);
const said = () => screen.getByRole("status").textContent;

async function ask(user: UserEvent, text: string): Promise<void> {
  await waitFor(async () => { expect(await field()).toHaveFocus(); });
  await user.type(await field(), text);
  await waitFor(() => { expect(screen.getByRole("button", { name: "Send" })).toBeEnabled(); });
  await user.keyboard("{Enter}");
}

const question = {
  id: "q",
  question: "Delete these 2 todos?",
  todos: [{ id: "1", title: "Milk" }, { id: "2", title: "Bread" }],
  expires_at: new Date(Date.now() + 600_000).toISOString(),
};

describe("the panel", () => {
  it("opens by its button, takes the focus, closes by Escape and gives it back", async () => {
    const { user } = await open();
    await waitFor(async () => { expect(await field()).toHaveFocus(); });
    await user.keyboard("{Escape}");
    expect(screen.queryByRole("dialog")).toBeNull();
    // Immediately; later it would take the focus from the user's next choice.
    expect(screen.getByRole("button", { name: "Assistant" })).toHaveFocus();
  });

  it("opens by Ctrl+K, and gives the focus back to where it was", async () => {
    const { user } = page();
    await user.click(screen.getByLabelText("New todo"));
    await user.keyboard("{Control>}k{/Control}");
    await screen.findByRole("dialog", { name: "Assistant" });
    await user.click(screen.getByRole("button", { name: "Close the assistant" }));
    await waitFor(() => { expect(screen.getByLabelText("New todo")).toHaveFocus(); });
  });

  it("takes the focus again by Ctrl+K, and Escape gives it back to where it came from last", async () => {
    const { user } = await open();
    await waitFor(async () => { expect(await field()).toHaveFocus(); });
    await user.click(screen.getByLabelText("New todo"));
    await user.keyboard("{Control>}k{/Control}");
    expect(await field()).toHaveFocus();
    await user.keyboard("{Control>}k{/Control}{Escape}");
    await waitFor(() => { expect(screen.getByLabelText("New todo")).toHaveFocus(); });
  });

  it("is modal only where it lies over the list, also when the window changes", async () => {
    await open();
    const dialog = screen.getByRole("dialog");
    expect(dialog.dataset.modal).toBeUndefined();
    act(() => { resize(false); });
    expect(dialog.dataset.modal).toBe("true");
    expect(dialog).toHaveAttribute("open");
    act(() => { resize(true); });
    expect(dialog.dataset.modal).toBeUndefined();
  });

  it("keeps what was typed, and goes on answering, while it is closed", async () => {
    const { backend, user } = await open();
    await ask(user, "Count");
    const answer = await backend.answer();
    await user.type(await field(), "next");
    await user.keyboard("{Escape}");
    answer.say("One, two.");
    answer.done();
    await user.keyboard("{Control>}k{/Control}");
    expect(await shown("One, two.")).toBeVisible();
    expect(await field()).toHaveValue("next");
    expect(answer.left).toBe(false);
  });

  it("is not offered before the page answers, nor without JavaScript", async () => {
    const { renderToString } = await import("react-dom/server");
    const html = renderToString(<AssistantSlot user="u1" todos={new List()} />);
    expect(html).toMatch(/<button[^>]* hidden=""/);
    expect(html).toContain("<noscript>");
  });
});

describe("an answer", () => {
  it("that begins late is waited for with a reason, which is read out too", async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    try {
      const { backend, user } = await open();
      await ask(user, "What is left?");
      const answer = await backend.answer();
      await act(() => vi.advanceTimersByTimeAsync(60_000 / 4));
      answer.raw(": keep-alive\n\n");
      expect(await shown(/Loading a model can take a minute/)).toBeVisible();
      expect(said()).toMatch(/Loading a model/);
      for (let quarter = 0; quarter < 3; quarter += 1) {
        await act(() => vi.advanceTimersByTimeAsync(60_000 / 4));
        answer.raw(": keep-alive\n\n");
      }
      answer.say("Milk.");
      expect(await shown("Milk.")).toBeVisible();
      expect(screen.queryByText(/Loading a model/)).toBeNull();
    } finally {
      vi.useRealTimers();
    }
  });

  it("is shown as it comes, and read out once it is complete", async () => {
    const { backend, user } = await open();
    await ask(user, "What is left?");
    const conversation = screen.getByRole("region", { name: "Conversation" });
    expect(said()).toBe("The assistant is at work");
    expect(conversation.querySelector("[aria-busy=true]")).not.toBeNull();
    const answer = await backend.answer();
    answer.say("Left:\n- Milk\n");
    expect(await within(conversation).findByText("Milk")).toBeVisible();
    expect(said()).toBe("The assistant is at work");
    expect(conversation.closest("[aria-live]")).toBeNull();
    answer.say("- Bread");
    answer.done();
    await waitFor(() => { expect(said()).toBe("Left:\n- Milk\n- Bread"); });
    expect(within(conversation).getAllByRole("listitem").map(({ textContent }) => textContent)).toContain("Bread");
    expect(conversation.querySelector("[aria-busy=true]")).toBeNull();
  });

  it("is text, whatever it contains", async () => {
    const { backend, user } = await open();
    await ask(user, "<b>me</b>");
    const answer = await backend.answer();
    const markup = "<img src=x onerror=alert(1)>\n- <a href='javascript:alert(1)'>x</a>";
    answer.say(markup);
    answer.done();
    await shown("<img src=x onerror=alert(1)>");
    const conversation = screen.getByRole("region", { name: "Conversation" });
    expect(conversation.querySelector("img, a, b")).toBeNull();
  });

  it("is stopped", async () => {
    const { backend, user } = await open();
    await ask(user, "Count to a million");
    const answer = await backend.answer();
    answer.say("One");
    await shown("One");
    await user.click(screen.getByRole("button", { name: "Stop" }));
    expect(await shown("Stopped.")).toBeVisible();
    expect(answer.left).toBe(true);
    expect(await field()).toHaveFocus();
    expect(screen.getByRole("button", { name: "Send" })).toBeDisabled();
  });

  it("names the todos that it touched, which lead to the list", async () => {
    const { backend, list, user } = await open();
    await ask(user, "Add eggs, delete bread");
    const answer = await backend.answer();
    answer.tool("add_todo", "9");
    answer.tool("delete_todos", "2");
    await waitFor(() => { expect(list.touched).toEqual([["9"], ["2"]]); });
    list.set({ 1: "Milk", 9: "Eggs" });
    answer.done();
    const added = await screen.findByRole("list", { name: "Added" });
    await user.click(within(added).getByRole("button", { name: "Eggs" }));
    expect(list.revealed).toEqual(["9"]);
    const deleted = screen.getByRole("list", { name: "Deleted" });
    expect(within(deleted).getByText("Bread").tagName).toBe("DEL");
    expect(within(deleted).queryByRole("button")).toBeNull();
    await waitFor(() => { expect(said()).toContain("Added: Eggs. Deleted: Bread."); });
  });

  it("counts many todos, and those whose titles nobody knows", async () => {
    await open([message("assistant", "Tidied", ...Array.from({ length: 12 }, (_, number) => String(number)))]);
    const changed = await screen.findByRole("list", { name: "Changed" });
    expect(within(changed).getAllByRole("listitem").map(({ textContent }) => textContent)).toEqual([
      "Milk", "Bread", "and 10 more",
    ]);
  });
});

describe("the field", () => {
  it("sends by Enter, breaks lines by Shift+Enter", async () => {
    const { backend, user } = await open();
    await ask(user, "One{Shift>}{Enter}{/Shift}two");
    await backend.answer();
    expect(backend.posts).toEqual(['/api/v1/assistant {"message":"One\\ntwo"}']);
    expect(await field()).toHaveValue("");
  });

  it("keeps what is typed while an answer comes, and sends no second request", async () => {
    const { backend, user } = await open();
    await ask(user, "One");
    await backend.answer();
    await user.type(await field(), "Two{Enter}");
    expect(await field()).toHaveValue("Two");
    expect(backend.posts).toHaveLength(1);
  });

  it("has ideas for those who have none", async () => {
    const { backend, user } = await open();
    await user.click(await screen.findByRole("button", { name: "What should I do first?" }));
    await backend.answer();
    expect(backend.posts).toEqual(['/api/v1/assistant {"message":"What should I do first?"}']);
    expect(screen.queryByRole("list", { name: "Ideas" })).toBeNull();
  });
});

it("before several todos get a new title, it shows both titles and asks", async () => {
  const { backend, user } = await open();
  await ask(user, "Rename both");
  const answer = await backend.answer();
  answer.send("confirmation", {
    ...question,
    question: "Rename these 2 todos?",
    todos: [{ id: "a", title: "Milk", new_title: "Oat milk", completed: true }, { id: "b", title: "Bread", new_title: null }],
  });
  answer.done();
  const card = await screen.findByRole("group", { name: "Rename these 2 todos?" });
  expect(within(card).getAllByRole("listitem").map(({ textContent }) => textContent)).toEqual([
    "Milk →  becomes Oat milk (completed)",
    "Bread",
  ]);
  expect(within(card).getByText("→")).toHaveAttribute("aria-hidden", "true");
  await user.click(within(card).getByRole("button", { name: "Rename 2 todos" }));
  expect(backend.posts.at(-1)).toContain('/confirmations/q {"approve":true}');
});

describe("before several todos are deleted", () => {
  const asked = async () => {
    const opened = await open();
    await ask(opened.user, "Delete all");
    const answer = await opened.backend.answer();
    answer.send("confirmation", question);
    answer.done();
    await screen.findByRole("group", { name: "Delete these 2 todos?" });
    return opened;
  };

  it("they are named, and the keyboard decides", async () => {
    const { backend, user } = await asked();
    const card = screen.getByRole("group", { name: "Delete these 2 todos?" });
    expect(within(card).getAllByRole("listitem").map(({ textContent }) => textContent)).toEqual(["Milk", "Bread"]);
    expect(card).toHaveAccessibleDescription(/^Open until/);
    // On the card and on no button, so a stray Enter decides nothing.
    expect(card).toHaveFocus();
    await user.keyboard("{Enter}");
    expect(backend.posts).toHaveLength(1);
    await user.tab();
    expect(screen.getByRole("button", { name: "Delete 2 todos" })).toHaveFocus();
    await user.keyboard("{Enter}");
    const answer = await backend.answer(2);
    expect(backend.posts.at(-1)).toBe('/api/v1/assistant/confirmations/q {"approve":true}');
    answer.tool("delete_todos", "1", "2");
    answer.say("Gone.");
    answer.done();
    expect(await shown("Gone.")).toBeVisible();
    expect(screen.queryByRole("group", { name: "Delete these 2 todos?" })).toBeNull();
    expect(await field()).toHaveFocus();
  });

  it("the question comes when its buttons work, for it takes the focus", async () => {
    const { backend, user } = await open();
    await ask(user, "Delete all");
    const answer = await backend.answer();
    answer.send("confirmation", question);
    answer.say("Shall I?");
    expect(await screen.findByText("Shall I?")).toBeVisible();
    expect(screen.queryByRole("group", { name: "Delete these 2 todos?" })).toBeNull();
    answer.done();
    expect(await screen.findByRole("group", { name: "Delete these 2 todos?" })).toHaveFocus();
    expect(screen.getByRole("button", { name: "Delete 2 todos" })).toBeEnabled();
  });

  it("they are kept by the other button", async () => {
    const { backend, user } = await asked();
    await user.click(screen.getByRole("button", { name: "Keep them" }));
    await backend.answer(2);
    expect(backend.posts.at(-1)).toBe('/api/v1/assistant/confirmations/q {"approve":false}');
  });
});

describe("trouble", () => {
  it("is said, keeps the input, and the button tries again", async () => {
    const { backend, user } = await open();
    await field();
    backend.failures.push(refusal(503, "assistant-rate-limited", "Try again in 30 seconds.", 30));
    await ask(user, "Add eggs");
    expect(await screen.findByText(/Try again in 30 seconds/)).toBeVisible();
    expect(screen.getByRole("alert")).toHaveTextContent("Try again in 30 seconds");
    expect(await field()).toHaveValue("Add eggs");
    await user.click(screen.getByRole("button", { name: "Try again" }));
    const answer = await backend.answer();
    answer.say("Added.");
    answer.done();
    expect(await shown("Added.")).toBeVisible();
    expect(await field()).toHaveValue("");
    expect(screen.getByRole("alert")).toBeEmptyDOMElement();
  });

  it("is dismissed", async () => {
    const { backend, user } = await open();
    backend.failures.push(refusal(409, "assistant-busy"));
    await ask(user, "Add eggs");
    await user.click(await screen.findByRole("button", { name: "Dismiss" }));
    expect(screen.getByRole("alert")).toBeEmptyDOMElement();
    expect(await field()).toHaveFocus();
  });

  it("leads to sign-in whoever is signed out", async () => {
    const { backend, user } = await open();
    backend.failures.push(refusal(401, "not_signed_in"));
    await ask(user, "Add eggs");
    expect(await screen.findByRole("link", { name: "Sign in" })).toHaveAttribute("href", "/sign-in?notice=ended");
  });

  it("a panel that cannot be loaded is said, and loaded again", async () => {
    vi.doMock("@/components/assistant/assistant-panel", () => { throw new Error("offline"); });
    vi.resetModules();
    const { AssistantSlot: Slot } = await import("@/components/assistant/assistant-slot");
    new FakeAssistant();
    render(<Slot user="u1" todos={new List()} />);
    const user = userEvent.setup();
    await user.click(screen.getByRole("button", { name: "Assistant" }));
    expect(await screen.findByRole("alert")).toHaveTextContent("could not be loaded");
    vi.doUnmock("@/components/assistant/assistant-panel");
    await user.click(screen.getByRole("button", { name: "Try again" }));
    expect(await screen.findByRole("dialog")).toBeVisible();
  });
});

describe("without a key", () => {
  it("the panel says so, and what to set", async () => {
    const { backend, user } = await open([], ({ backend: fake }) => { fake.available = false; });
    expect(await screen.findByText("The assistant is not set up")).toBeVisible();
    expect(screen.getByText("OPENAI_API_KEY")).toBeVisible();
    expect(screen.queryByRole("textbox", { name: "Message to the assistant" })).toBeNull();
    backend.available = true;
    await user.click(screen.getByRole("button", { name: "Check again" }));
    expect(await field()).toBeVisible();
  });
});

describe("the history", () => {
  it("is forgotten after a second press", async () => {
    const { backend, user } = await open([message("user", "My secret"), message("assistant", "Noted")]);
    await user.click(await screen.findByRole("button", { name: "Forget this conversation" }));
    const sure = screen.getByRole("group", { name: "Forget this conversation?" });
    await user.click(within(sure).getByRole("button", { name: "Keep" }));
    expect(screen.getByText("My secret")).toBeVisible();
    await user.click(screen.getByRole("button", { name: "Forget this conversation" }));
    await user.click(screen.getByRole("button", { name: "Forget" }));
    await waitFor(() => { expect(screen.queryByText("My secret")).toBeNull(); });
    expect(backend.messages).toEqual([]);
  });

  it("that cannot be loaded is said, and loaded again", async () => {
    const { user } = await open([message("user", "Hello")], ({ backend }) => {
      backend.failures.push(refusal(503, "database-unavailable", "The database does not answer"));
    });
    expect(await screen.findByText("The database does not answer")).toBeVisible();
    await user.click(screen.getByRole("button", { name: "Try again" }));
    expect(await screen.findByText("Hello")).toBeVisible();
  });
});
