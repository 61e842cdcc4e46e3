import { render, screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { AssistantSlot } from "@/components/assistant/assistant-slot";
import { createApi } from "@/lib/api/api";
import type { Confirmation } from "@/lib/api/api-types";
import { fromHistory } from "@/lib/assistant/assistant-messages";
import { TodoStore } from "@/lib/todos/todo-store";
import { resize } from "./dialog";
import { FakeAssistant, message } from "./fake-assistant";

/** A delete confirmation that was open when the user left the page. */
const open: Confirmation = {
  id: "q",
  question: "Delete these 2 todos?",
  todos: [{ id: "1", title: "Milk" }, { id: "2", title: "Bread" }],
  expires_at: new Date(Date.now() + 300_000).toISOString(),
};
const HISTORY = [message("user", "Delete all"), message("assistant", "Delete these 2 todos? “Milk”, “Bread”")];

beforeEach(() => { resize(true); });

async function reopen(prepare?: (backend: FakeAssistant) => void) {
  const backend = new FakeAssistant(HISTORY);
  backend.confirmation = open;
  prepare?.(backend);
  render(<AssistantSlot user="u1" todos={new TodoStore(createApi(), { todos: [], next: null }, null)} />);
  const user = userEvent.setup();
  await user.click(screen.getByRole("button", { name: "Assistant" }));
  await screen.findByText("Delete all");
  return { backend, user };
}

const card = () => screen.findByRole("group", { name: open.question });

describe("a question about deleting, after the page was loaded anew", () => {
  it("is open again, and answered", async () => {
    const { backend, user } = await reopen();
    expect(within(await card()).getAllByRole("listitem").map(({ textContent }) => textContent)).toEqual(["Milk", "Bread"]);
    await waitFor(async () => { expect(await card()).toHaveFocus(); });
    await user.click(screen.getByRole("button", { name: "Delete 2 todos" }));
    const answer = await backend.answer();
    expect(backend.posts).toEqual(['/api/v1/assistant/confirmations/q {"approve":true}']);
    answer.say("Gone.");
    answer.done();
    await waitFor(() => { expect(screen.queryByRole("group", { name: open.question })).toBeNull(); });
  });

  it("is not said a second time by the history", async () => {
    await reopen();
    await card();
    expect(screen.getAllByText(/Delete these 2 todos/)).toHaveLength(1);
    const chatty = [message("assistant", "I found two.\nDelete these 2 todos? “Milk”, “Bread”", "3")];
    expect(fromHistory(chatty, open)).toMatchObject([{ text: "I found two.", touched: [{ id: "3" }] }]);
    // After the answer, only the history remains.
    expect(fromHistory(HISTORY)).toHaveLength(2);
  });

  it("calls nobody away who is writing already", async () => {
    const backend = new FakeAssistant(HISTORY);
    backend.confirmation = open;
    const answer = fetch;
    const loading = Promise.withResolvers<undefined>();
    vi.stubGlobal("fetch", async (url: string, init?: RequestInit) => {
      await loading.promise;
      return answer(url, init);
    });
    render(<AssistantSlot user="u1" todos={new TodoStore(createApi(), { todos: [], next: null }, null)} />);
    const user = userEvent.setup();
    await user.click(screen.getByRole("button", { name: "Assistant" }));
    const field = await screen.findByRole("textbox", { name: "Message to the assistant" });
    await user.type(field, "And then");
    loading.resolve(undefined);
    await card();
    expect(field).toHaveFocus();
  });

  it("expires as it would have", async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    try {
      const backend = new FakeAssistant(HISTORY);
      backend.confirmation = { ...open, expires_at: new Date(Date.now() + 60_000).toISOString() };
      render(<AssistantSlot user="u1" todos={new TodoStore(createApi(), { todos: [], next: null }, null)} />);
      await userEvent.setup({ advanceTimers: vi.advanceTimersByTime }).click(screen.getByRole("button", { name: "Assistant" }));
      await card();
      await vi.advanceTimersByTimeAsync(61_000);
      expect(await screen.findByText(/expired\. Nothing was changed/)).toBeVisible();
    } finally {
      vi.useRealTimers();
    }
  });

  it.each([
    ["the backend does not tell of any", (backend: FakeAssistant) => { backend.confirmation = undefined; }],
    ["there is no key by now", (backend: FakeAssistant) => { backend.available = false; }],
  ])("is not asked if %s", async (_, prepare) => {
    await reopen(prepare);
    expect(screen.getByText(/Delete these 2 todos/)).toBeVisible();
    expect(screen.queryByRole("group", { name: open.question })).toBeNull();
  });
});
