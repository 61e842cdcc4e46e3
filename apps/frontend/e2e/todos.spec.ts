import { add, box, expect, field, open, row, test } from "./fixtures.ts";

const UNDO_TIME = 6_000; // of the page, in milliseconds

test("a todo that is added is stored, and still there after a reload", async ({ page, todos }) => {
  await open(page);
  const title = "Buy milk";
  await add(page, `  ${title}  `);
  await expect(field(page)).toHaveValue("");
  await todos.expectTodos({ [title]: false });
  await page.reload();
  await expect(row(page, title)).toBeVisible();
});

test("blanks are refused", async ({ page, todos }) => {
  await open(page);
  await field(page).fill("   ");
  await field(page).press("Enter");
  await expect(field(page)).toHaveValue("   ");
  await todos.expectTodos({});
});

test("completing and reopening, with the counter", async ({ page, todos }) => {
  const title = await todos.create("Water the plants");
  await todos.create("Feed the cat");
  await open(page);
  const counter = page.getByText(/^\d+ items? left$/);
  await expect(counter).toHaveText("2 items left");
  await box(page, title).click();
  await expect(box(page, title)).toBeChecked();
  await expect(counter).toHaveText("1 item left");
  await todos.expectTodos({ [title]: true, "Feed the cat": false });
  await page.reload();
  await expect(box(page, title)).toBeChecked();
  await open(page);
  await box(page, title).click();
  await todos.expectTodos({ [title]: false, "Feed the cat": false });
});

test("editing: Enter and leaving save, Escape cancels, empty deletes", async ({ page, todos }) => {
  const title = await todos.create("Call Ada");
  await page.clock.install();
  await open(page);
  const editor = page.getByRole("textbox", { name: /^Edit/ });

  await page.getByText(title, { exact: true }).dblclick();
  await expect(editor).toBeFocused();
  for (const role of ["checkbox", "button"] as const) await expect(row(page, title).getByRole(role)).toHaveCount(0);
  await editor.fill(`${title} tomorrow`);
  await editor.press("Enter");
  await todos.expectTodos({ [`${title} tomorrow`]: false });

  await page.getByText(`${title} tomorrow`, { exact: true }).dblclick();
  await editor.fill("something else");
  await editor.press("Escape");
  await expect(page.getByText(`${title} tomorrow`, { exact: true })).toBeVisible();

  await page.getByText(`${title} tomorrow`, { exact: true }).dblclick();
  await editor.fill(`${title} on Monday`);
  await field(page).click();
  await todos.expectTodos({ [`${title} on Monday`]: false });

  await page.getByText(`${title} on Monday`, { exact: true }).dblclick();
  await editor.fill("");
  await editor.press("Enter");
  await expect(row(page, title)).toHaveCount(0);
  await page.clock.fastForward(UNDO_TIME);
  await todos.expectTodos({});
});

test("deleting", async ({ page, todos }) => {
  const title = await todos.create("Old news");
  await open(page);
  await row(page, title).hover();
  await row(page, title).getByRole("button", { name: /^Delete/ }).click();
  await expect(row(page, title)).toHaveCount(0);
  await todos.expectTodos({});
});

test("filters have addresses, and the back button works", async ({ page, todos }) => {
  const open_ = await todos.create("Still to do");
  const done = await todos.create("Done already", true);
  await open(page);
  await expect(row(page, open_)).toBeVisible();
  await expect(row(page, done)).toBeVisible();

  await expect(page).toHaveTitle("Todos");
  await page.getByRole("link", { name: "Active" }).click();
  await expect(page).toHaveURL(/\/active$/);
  await expect(page).toHaveTitle("Active · Todos");
  await expect(row(page, done)).toHaveCount(0);
  await expect(row(page, open_)).toBeVisible();

  await page.getByRole("link", { name: "Completed" }).click();
  await expect(page).toHaveURL(/\/completed$/);
  await expect(row(page, open_)).toHaveCount(0);
  await expect(row(page, done)).toBeVisible();

  await page.goBack();
  await expect(page).toHaveURL(/\/active$/);
  await expect(row(page, open_)).toBeVisible();
  await expect(row(page, done)).toHaveCount(0);
  await page.goBack();
  await expect(row(page, done)).toBeVisible();
  await page.goForward();
  await expect(row(page, done)).toHaveCount(0);

  await page.goto("/completed");
  await expect(page).toHaveTitle("Completed · Todos");
  await expect(row(page, done)).toBeVisible();
  await expect(row(page, open_)).toHaveCount(0);
});

test("all are toggled, the completed ones cleared", async ({ page, todos }) => {
  const [one, two] = [await todos.create("First of all"), await todos.create("Last of all", true)];
  await page.clock.install();
  await open(page);
  const all = page.getByRole("checkbox", { name: "Mark all as complete" });
  await all.click();
  await expect(all).toBeChecked();
  await todos.expectTodos({ [one]: true, [two]: true });
  await all.click();
  await todos.expectTodos({ [one]: false, [two]: false });

  await box(page, one).click();
  await todos.expectTodos({ [one]: true, [two]: false });
  await page.getByRole("button", { name: "Clear completed" }).click();
  await expect(row(page, one)).toHaveCount(0);
  await page.clock.fastForward(UNDO_TIME);
  await todos.expectTodos({ [two]: false });
  await expect(page.getByRole("button", { name: "Clear completed" })).toHaveCount(0);
});

test("everything works by keyboard", async ({ page, todos }) => {
  await page.clock.install();
  await open(page);
  await expect(field(page)).toBeFocused();
  const title = "No mouse";
  await page.keyboard.type(`${title}\n`);
  await todos.expectTodos({ [title]: false });

  await box(page, title).focus();
  await page.keyboard.press("Space");
  await todos.expectTodos({ [title]: true });
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.keyboard.type("!\n");
  await todos.expectTodos({ [`${title}!`]: true });

  await expect(box(page, `${title}!`)).toBeFocused();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await expect(box(page, `${title}!`)).toHaveCount(0);
  await page.clock.fastForward(UNDO_TIME);
  await todos.expectTodos({});
  // The focus is near, not at the top of the page.
  await expect(page.locator("#new-todo, [role=checkbox]").and(page.locator(":focus"))).toHaveCount(1);
});

test("a long list: the first part comes with the page, the rest by itself", async ({ page, todos }) => {
  const titles = Array.from({ length: 60 }, (_, index) => `Todo ${String(index + 1).padStart(2, "0")}`);
  for (const title of titles) await todos.create(title);
  const html = await (await page.request.get("/")).text();
  expect(html).toContain("Todo 20");
  expect(html).not.toContain("Todo 21");
  await open(page);
  await expect(page.getByText("60 items left")).toBeVisible();
  await expect(row(page, "Todo 60")).toHaveCount(1);
  await add(page, "One more");
  await expect(page.getByText("61 items left")).toBeVisible();
});

test("a list of thousands comes as one scrolls", async ({ page, todos }) => {
  const titles = Array.from({ length: 600 }, (_, index) => `Todo ${String(index + 1).padStart(3, "0")}`);
  for (let from = 0; from < titles.length; from += 20) {
    await Promise.all(titles.slice(from, from + 20).map((title, index) => todos.create(title, false, from + index + 1)));
  }
  await open(page);
  await expect(page.getByText("520+ items left")).toBeVisible();
  await expect(row(page, "Todo 600")).toHaveCount(0);
  await row(page, "Todo 520").scrollIntoViewIfNeeded();
  await expect(page.getByText("600 items left")).toBeVisible();

  const asked: string[] = [];
  page.on("request", (request) => { if (request.method() !== "GET") asked.push(request.method()); });
  await page.getByRole("checkbox", { name: "Mark all as complete" }).click();
  await expect.poll(async () => (await todos.all()).every(({ completed }) => completed)).toBe(true);
  expect(asked).toEqual(["PATCH"]);
});

test("a deletion can be undone, by keyboard too", async ({ page, todos }) => {
  const [one, done] = [await todos.create("Deleted by mistake"), await todos.create("Done already", true)];
  await open(page);
  await row(page, one).hover();
  await row(page, one).getByRole("button", { name: /^Delete/ }).click();
  await expect(row(page, one)).toHaveCount(0);
  await page.getByRole("status").getByRole("button", { name: "Undo" }).click();
  await expect(box(page, one)).toBeFocused();

  await page.getByRole("button", { name: "Clear completed" }).focus();
  await page.keyboard.press("Enter");
  await expect(row(page, done)).toHaveCount(0);
  await page.keyboard.press("Control+z");
  await expect(row(page, done)).toBeVisible();
  await expect(page.getByRole("status")).toBeEmpty();
  await todos.expectTodos({ [one]: false, [done]: true });

  // Deletes without an undo, also if the user leaves the page at once.
  await box(page, one).focus();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.goto("about:blank");
  await todos.expectTodos({ [done]: true });
});
