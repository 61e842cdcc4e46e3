import { act, render, screen, waitFor, within } from "@testing-library/react";
import userEvent, { type UserEvent } from "@testing-library/user-event";
import { describe, expect, it, vi } from "vitest";
import { AccountMenu } from "@/components/account/account-menu";
import { TodoApp } from "@/components/todo-app";
import { reveal } from "@/components/use-page";
import { createApi } from "@/lib/api/api";
import type { Todo } from "@/lib/api/api-types";
import { TodoStore } from "@/lib/todos/todo-store";
import { ADA, FakeBackend, problem, todo } from "./fake-backend";

interface Page {
  backend: FakeBackend;
  store: TodoStore;
  user: UserEvent;
}

function open(todos: Todo[] = [], first: Todo[] | null = todos): Page {
  const backend = new FakeBackend(todos.map((one) => ({ ...one })));
  const store = new TodoStore(createApi({ user: ADA.id }), first && { todos: first, next: null }, ADA.id);
  render(<TodoApp address="/" store={store} next={null} user={ADA} idempotencyKey="first" />);
  return { backend, store, user: userEvent.setup() };
}

/** Ends the time to undo a deletion. */
const leave = () => { act(() => { window.dispatchEvent(new Event("pagehide")); }); };
const input = () => screen.getByPlaceholderText<HTMLInputElement>("What needs to be done?");
const titles = () =>
  screen.queryAllByRole("listitem").map((row) => row.querySelector("span")?.textContent);
const box = (name: string) => screen.getByRole("checkbox", { name });
const two = () => [todo("1", "Milk"), todo("2", "Bread", true)];

describe("adding", () => {
  it("adds what was typed, trimmed, by Enter and empties the field", async () => {
    const { backend, user } = open();
    await user.type(input(), "  Milk  {Enter}");
    expect(titles()).toEqual(["Milk"]);
    expect(input()).toHaveValue("");
    await waitFor(() => { expect(backend.titles).toEqual(["Milk"]); });
    expect(backend.calls[0]?.headers.get("idempotency-key")).toMatch(/^[0-9a-f]{32}$/);
  });

  it("refuses blanks", async () => {
    const { backend, user } = open();
    await user.type(input(), "   {Enter}");
    expect(titles()).toEqual([]);
    expect(backend.calls).toEqual([]);
  });

  it("has the field ready for typing", () => {
    open();
    expect(input()).toHaveFocus();
    expect(screen.getByLabelText("New todo")).toBe(input());
  });

  it("keeps the order in which todos were typed", async () => {
    const { backend, user } = open([todo("1", "first")]);
    await user.type(input(), "second{Enter}third{Enter}");
    expect(titles()).toEqual(["first", "second", "third"]);
    await waitFor(() => { expect(backend.titles).toEqual(["first", "second", "third"]); });
  });
});

describe("editing", () => {
  const edit = async (user: UserEvent, title: string) => {
    await user.dblClick(screen.getByText(title));
    return screen.getByRole("textbox", { name: `Edit “${title}”` });
  };

  it("saves by Enter", async () => {
    const { backend, user } = open(two());
    const editor = await edit(user, "Milk");
    await user.clear(editor);
    await user.type(editor, " Oat milk {Enter}");
    expect(titles()).toEqual(["Oat milk", "Bread"]);
    await waitFor(() => { expect(backend.titles).toEqual(["Oat milk", "Bread"]); });
    expect(backend.changes).toEqual(["PATCH /api/v1/todos/1"]);
    expect(box("Oat milk")).toHaveFocus();
  });

  it("saves when the field is left", async () => {
    const { backend, user } = open(two());
    await user.type(await edit(user, "Milk"), "shake");
    await user.click(document.body);
    await waitFor(() => { expect(backend.titles[0]).toBe("Milkshake"); });
  });

  it("leaves everything as it was on Escape", async () => {
    const { backend, user } = open(two());
    await user.type(await edit(user, "Milk"), "shake{Escape}");
    expect(titles()).toEqual(["Milk", "Bread"]);
    expect(backend.calls).toEqual([]);
  });

  it("deletes what is left empty", async () => {
    const { backend, user } = open(two());
    const editor = await edit(user, "Milk");
    await user.clear(editor);
    await user.type(editor, "{Enter}");
    expect(titles()).toEqual(["Bread"]);
    leave();
    await waitFor(() => { expect(backend.titles).toEqual(["Bread"]); });
  });

  it("sends nothing for an unchanged title", async () => {
    const { backend, user } = open(two());
    await user.type(await edit(user, "Milk"), "{Enter}");
    expect(backend.calls).toEqual([]);
  });

  it("hides the row's other controls, and gives the keyboard's place back", async () => {
    const { user } = open(two());
    const editor = await edit(user, "Milk");
    const row = editor.closest("li");
    expect(row).toHaveAttribute("data-editing", "true");
    expect(within(row as HTMLElement).queryByRole("button")).not.toBeInTheDocument();
    await user.type(editor, "{Escape}");
    expect(row).not.toHaveAttribute("data-editing");
    expect(box("Milk")).toHaveFocus();
  });

  it("does not overwrite what somebody else has changed since, unless told to", async () => {
    const { backend, user } = open(two());
    const editor = await edit(user, "Milk");
    backend.change("1", { title: "Oat milk" });
    await user.type(editor, "shake{Enter}");
    const alert = await screen.findByText(/was changed to “Oat milk” in the meantime/);
    expect(alert).toBeVisible();
    expect(backend.titles[0]).toBe("Oat milk");
    await user.click(screen.getByRole("button", { name: "Use my title" }));
    await waitFor(() => { expect(backend.titles[0]).toBe("Milkshake"); });
    expect(screen.getByRole("alert")).toBeEmptyDOMElement();
    await waitFor(() => { expect(input()).toHaveFocus(); });
  });

  it.each([
    ["completed", (backend: FakeBackend) => { backend.change("1", { completed: true }); }],
    ["deleted", (backend: FakeBackend) => { backend.todos = []; }],
  ])("loses nothing when somebody else has %s the todo meanwhile", async (_, meanwhile) => {
    window.history.replaceState(null, "", "/active");
    const { backend, store, user } = open([todo("1", "Milk")]);
    await user.type(await edit(user, "Milk"), "shake");
    meanwhile(backend);
    act(() => { store.touch(["1"]); });
    await waitFor(() => { expect(screen.queryByRole("textbox", { name: /^Edit/ })).toBeNull(); });
    if (backend.todos.length > 0) await waitFor(() => { expect(backend.titles).toEqual(["Milkshake"]); });
    else {
      expect(await screen.findByText(/was deleted in the meantime. Your title “Milkshake” is not saved/)).toBeVisible();
      expect(input()).toHaveValue("Milkshake");
    }
  });

  it("works by keyboard alone", async () => {
    const { backend, user } = open(two());
    screen.getByRole("button", { name: "Edit “Milk”" }).focus();
    await user.keyboard("{Enter}");
    await user.keyboard("!{Enter}");
    await waitFor(() => { expect(backend.titles[0]).toBe("Milk!"); });
  });
});

describe("completing and deleting", () => {
  it("completes and reopens one", async () => {
    const { backend, user } = open(two());
    await user.click(box("Milk"));
    expect(box("Milk")).toBeChecked();
    await user.click(box("Milk"));
    expect(box("Milk")).not.toBeChecked();
    await waitFor(() => { expect(backend.changes).toHaveLength(2); });
    expect(backend.todos[0]?.completed).toBe(false);
  });

  it("toggles all, both ways", async () => {
    const { backend, user } = open(two());
    const all = box("Mark all as complete");
    expect(all).not.toBeChecked();
    await user.click(all);
    expect(all).toBeChecked();
    await waitFor(() => { expect(backend.todos.every(({ completed }) => completed)).toBe(true); });
    expect(backend.changes).toEqual(["PATCH /api/v1/todos"]);
    await user.click(all);
    await waitFor(() => { expect(backend.todos.some(({ completed }) => completed)).toBe(false); });
  });

  it("deletes one and keeps the keyboard's place", async () => {
    const { backend, user } = open(two());
    screen.getByRole("button", { name: "Delete “Milk”" }).focus();
    await user.keyboard("{Enter}");
    expect(titles()).toEqual(["Bread"]);
    await waitFor(() => { expect(box("Bread")).toHaveFocus(); });
    leave();
    await waitFor(() => { expect(backend.titles).toEqual(["Bread"]); });
  });

  it("offers to undo a deletion, by the keyboard too", async () => {
    const { backend, user } = open(two());
    await user.click(screen.getByRole("button", { name: "Delete “Milk”" }));
    const status = screen.getByRole("status");
    expect(status).toHaveTextContent("Deleted “Milk”.");
    await user.click(within(status).getByRole("button", { name: "Undo" }));
    expect(titles()).toEqual(["Milk", "Bread"]);
    await waitFor(() => { expect(box("Milk")).toHaveFocus(); });
    expect(status).toBeEmptyDOMElement();

    await user.click(screen.getByRole("button", { name: "Clear completed" }));
    expect(titles()).toEqual(["Milk"]);
    expect(input()).toHaveFocus();
    await user.keyboard("{Control>}z{/Control}");
    expect(titles()).toEqual(["Milk", "Bread"]);

    await user.click(screen.getByRole("button", { name: "Delete “Bread”" }));
    const undoByKey = (key: string) => {
      const event = new KeyboardEvent("keydown", { key, code: "KeyZ", ctrlKey: true, bubbles: true, cancelable: true });
      act(() => { input().dispatchEvent(event); });
      return event.defaultPrevented;
    };
    // On another Latin layout the key has another letter and another command.
    expect([undoByKey("w"), titles()]).toEqual([false, ["Milk"]]);
    expect([undoByKey("я"), titles()]).toEqual([true, ["Milk", "Bread"]]);
    // Without anything to undo, the browser handles the key.
    expect(undoByKey("z")).toBe(false);

    await user.click(screen.getByRole("button", { name: "Delete “Bread”" }));
    // A text field has its own undo.
    await user.type(input(), "Eggs{Control>}z{/Control}");
    expect(titles()).toEqual(["Milk"]);
    expect(backend.changes).toEqual([]);
  });

  it("keeps the keyboard's place when the time to undo ends", async () => {
    const { user } = open(two());
    await user.click(screen.getByRole("button", { name: "Delete “Milk”" }));
    await waitFor(() => { expect(box("Bread")).toHaveFocus(); });
    screen.getByRole("button", { name: "Undo" }).focus();
    leave();
    expect(screen.queryByRole("button", { name: "Undo" })).not.toBeInTheDocument();
    await waitFor(() => { expect(input()).toHaveFocus(); });
  });

  it("clears the completed ones, and offers it only if there are any", async () => {
    const { backend, user } = open(two());
    await user.click(screen.getByRole("button", { name: "Clear completed" }));
    expect(titles()).toEqual(["Milk"]);
    expect(screen.queryByRole("button", { name: "Clear completed" })).not.toBeInTheDocument();
    leave();
    await waitFor(() => { expect(backend.titles).toEqual(["Milk"]); });
  });

  it("counts in the singular and the plural", async () => {
    const { user } = open([todo("1", "Milk"), todo("2", "Bread")]);
    expect(screen.getByText("2 items left")).toBeVisible();
    await user.click(box("Milk"));
    expect(screen.getByText("1 item left")).toBeVisible();
    await user.click(box("Bread"));
    expect(screen.getByText("0 items left")).toBeVisible();
  });

  it("announces the count once it stands still", async () => {
    const { user } = open([todo("1", "Milk"), todo("2", "Bread"), todo("3", "Eggs")]);
    const live = document.querySelector("[aria-live=polite]");
    const said: (string | null)[] = [];
    new MutationObserver(() => said.push(live?.textContent ?? null)).observe(live as Node, { childList: true, subtree: true, characterData: true });
    expect(document.querySelectorAll("[aria-live]")).toHaveLength(1);
    expect(live).toBeEmptyDOMElement();
    for (const name of ["Milk", "Bread", "Eggs"]) await user.click(box(name));
    await waitFor(() => { expect(live).toHaveTextContent("Left to do: 0"); });
    expect(said).toHaveLength(1);
  });

  it("shows neither counter nor filters without todos, but what to do", () => {
    open();
    expect(screen.queryByText(/left$/)).not.toBeInTheDocument();
    expect(screen.queryByRole("navigation")).not.toBeInTheDocument();
    expect(screen.getByText("Nothing to do yet")).toBeVisible();
  });
});

describe("filters", () => {
  it("have addresses, and the back button works", async () => {
    const { user } = open(two());
    await user.click(screen.getByRole("link", { name: "Active" }));
    expect(window.location.pathname).toBe("/active");
    expect(titles()).toEqual(["Milk"]);
    await user.click(screen.getByRole("link", { name: "Completed" }));
    expect(titles()).toEqual(["Bread"]);
    expect(screen.getByRole("link", { name: "Completed" })).toHaveAttribute("aria-current", "page");
    window.history.back();
    await waitFor(() => { expect(titles()).toEqual(["Milk"]); });
  });

  it("say so when they leave nothing", () => {
    window.history.replaceState(null, "", "/completed");
    open([todo("1", "Milk")]);
    expect(screen.getByText("Nothing completed yet")).toBeVisible();
  });
});

describe("trouble", () => {
  it("takes a refused todo back, says why and returns what was typed", async () => {
    const { backend, user } = open(two());
    backend.failures.push(problem(422, "Too strange a title"));
    await user.type(input(), "Eggs{Enter}");
    expect(await screen.findByRole("alert")).toHaveTextContent("“Eggs” was not added: Too strange");
    expect(titles()).toEqual(["Milk", "Bread"]);
    expect(input()).toHaveValue("Eggs");
    await user.click(screen.getByRole("button", { name: "Dismiss" }));
    expect(screen.getByRole("alert")).toBeEmptyDOMElement();
  });

  it("does not overwrite what is being typed meanwhile", async () => {
    const { backend, user } = open();
    let refuse: (answer: Response) => void = () => undefined;
    const original = fetch;
    vi.stubGlobal("fetch", () => new Promise<Response>((resolve) => { refuse = resolve; }));
    await user.type(input(), "Eggs{Enter}");
    await user.type(input(), "Flour");
    vi.stubGlobal("fetch", original);
    refuse(problem(422, "No"));
    expect(await screen.findByText(/was not added/)).toBeVisible();
    expect(input()).toHaveValue("Flour");
    expect(backend.todos).toEqual([]);
  });

  it("takes a refused change back", async () => {
    const { backend, user } = open(two());
    backend.failures.push(problem(500, "Broken"));
    await user.click(box("Milk"));
    expect(await screen.findByText("“Milk” was not changed: Broken")).toBeVisible();
    expect(box("Milk")).not.toBeChecked();
  });

  it("takes a refused deletion back", async () => {
    const { backend, user } = open(two());
    backend.failures.push(problem(403, "Not yours"));
    await user.click(screen.getByRole("button", { name: "Delete “Milk”" }));
    leave();
    expect(await screen.findByText("“Milk” was not deleted: Not yours")).toBeVisible();
    expect(titles()).toEqual(["Milk", "Bread"]);
  });

  it("keeps a todo through an outage, says so and sends it again by itself", async () => {
    const { backend, user } = open();
    backend.failures.push(problem(503, "Database away"), new TypeError("fetch failed"));
    await user.type(input(), "Eggs{Enter}");
    expect(await screen.findByText(/not answering. One change is kept here/)).toBeVisible();
    expect(titles()).toEqual(["Eggs"]);
    await waitFor(() => { expect(backend.titles).toEqual(["Eggs"]); });
    await waitFor(() => { expect(screen.getByRole("status")).toBeEmptyDOMElement(); });
    // The same key each time, so that a lost answer creates no second todo.
    expect(new Set(backend.calls.map(({ headers }) => headers.get("idempotency-key"))).size).toBe(1);
  });

  it("tries at once when told to", async () => {
    const { backend, user } = open();
    backend.failures.push(problem(503, "Database away", "20"));
    await user.type(input(), "Eggs{Enter}");
    await user.click(await screen.findByRole("button", { name: "Try now" }));
    await waitFor(() => { expect(backend.titles).toEqual(["Eggs"]); });
  });

  it("keeps what was done when the session has ended, and sends it after signing in in place", async () => {
    const { backend, user } = open(two());
    backend.user = null;
    await user.type(input(), "Eggs{Enter}");
    await user.type(input(), "half a thou");
    expect(await screen.findByText(/You have been signed out.*One change is kept here/)).toBeVisible();
    expect(titles()).toEqual(["Milk", "Bread", "Eggs"]);
    await user.click(screen.getByRole("button", { name: "Sign in" }));
    const dialog = await screen.findByRole("dialog", { name: "Sign in to continue" });
    expect(within(dialog).getByLabelText("Email")).toHaveValue(ADA.email);
    await user.type(within(dialog).getByLabelText("Password"), "not-a-secret 1{Enter}");
    await waitFor(() => { expect(backend.titles).toEqual(["Milk", "Bread", "Eggs"]); });
    expect(screen.queryByRole("dialog")).not.toBeInTheDocument();
    expect(screen.getByRole("status")).toBeEmptyDOMElement();
    expect(input()).toHaveValue("half a thou");
    const keys = backend.calls.filter(({ path }) => path === "/api/v1/todos").map((c) => c.headers.get("idempotency-key"));
    expect(keys).toHaveLength(2);
    expect(new Set(keys).size).toBe(1);
  });

  it("says that it is another user who has signed in", async () => {
    const { backend, user } = open(two());
    backend.failures.push(Response.json({ status: 409, code: "other-user" }, { status: 409 }));
    await user.type(input(), "Eggs{Enter}");
    expect(await screen.findByText(/^Another user has signed in. Sign in again to continue. One change is kept/)).toBeVisible();
  });

  it("shows a notice without a first list, then the list", async () => {
    open(two(), null);
    expect(screen.getByText(/not answering. Your todos appear here/)).toBeVisible();
    await waitFor(() => { expect(titles()).toEqual(["Milk", "Bread"]); });
    expect(screen.getByRole("status")).toBeEmptyDOMElement();
  });

  it("tells what a plain form could not do, and returns what was typed", async () => {
    window.history.replaceState(null, "", "/active?failed=unavailable&title=Eggs");
    const { user } = open(two());
    expect(screen.getByRole("alert")).toHaveTextContent("nothing was changed");
    expect(input()).toHaveValue("Eggs");
    await user.click(screen.getByRole("button", { name: "Dismiss" }));
    expect(window.location.href).toMatch(/\/active$/);
  });
});

describe("what the assistant does", () => {
  it("is loaded and marked, and can be shown from everywhere", async () => {
    window.history.replaceState(null, "", "/active");
    const { backend, store } = open(two());
    expect(store.titles().get("1")).toBe("Milk");
    backend.todos = [todo("1", "Oat milk"), todo("2", "Bread", true), todo("3", "Eggs")];
    act(() => { store.touch(["1", "3"]); });
    const oatMilk = await screen.findByText("Oat milk");
    expect(oatMilk.closest("li")).toHaveAttribute("data-touched", "true");
    expect(screen.getByText("Eggs").closest("li")).toHaveAttribute("data-touched", "true");
    expect(store.titles().get("3")).toBe("Eggs");
    // Completed, so not in this filter.
    act(() => { reveal(store.keyOf("2") ?? ""); });
    await waitFor(() => { expect(box("Bread")).toHaveFocus(); });
    expect(window.location.pathname).toBe("/");
  });
});

it("signing out waits until everything is saved, a deletion that could be undone included", async () => {
  const { backend, store, user } = open(two());
  render(<AccountMenu user={ADA} settle={() => store.settle()} />);
  const submit = vi.spyOn(HTMLFormElement.prototype, "submit").mockImplementation(() => {
    expect(backend.titles).toEqual(["Bread", "Eggs"]);
  });
  await user.type(input(), "Eggs{Enter}");
  await user.click(screen.getByRole("button", { name: "Delete “Milk”" }));
  expect(backend.titles).toContain("Milk");
  const answer = fetch;
  const shown = Promise.withResolvers<undefined>();
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    await shown.promise;
    return answer(url, init);
  });
  await user.click(screen.getByText("Sign out"));
  expect(screen.getByText("Saving…")).toBeDisabled();
  shown.resolve(undefined);
  await waitFor(() => { expect(submit).toHaveBeenCalledOnce(); });
  expect(new FormData(submit.mock.contexts[0] as HTMLFormElement).get("do")).toBe("sign-out");
  expect(new FormData(submit.mock.contexts[0] as HTMLFormElement).get("user")).toBe(ADA.id);
  await waitFor(() => { expect(screen.getByText("Sign out")).toBeEnabled(); });
});
