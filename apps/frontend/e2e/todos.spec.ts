import { add, box, expect, field, open, row, test } from "./fixtures.ts";

test("a todo that is added is stored, and still there after a reload", async ({ page, todos }) => {
  await open(page);
  const title = todos.name("Buy milk");
  await add(page, `  ${title}  `);
  await expect(field(page)).toHaveValue("");
  await todos.expectMine({ [title]: false });
  await page.reload();
  await expect(row(page, title)).toBeVisible();
});

test("blanks are refused", async ({ page, todos }) => {
  await open(page);
  const before = (await todos.all()).length;
  await field(page).fill("   ");
  await field(page).press("Enter");
  await expect(field(page)).toHaveValue("   ");
  expect((await todos.all()).length).toBe(before);
});

test("completing and reopening, with the counter", async ({ page, todos }) => {
  const title = await todos.create("Water the plants");
  await open(page);
  const counter = page.getByText(/^\d+ items? left$/);
  const left = (count: number) => `${count} ${count === 1 ? "item" : "items"} left`;
  const active = (await todos.all()).filter(({ completed }) => !completed).length;
  await expect(counter).toHaveText(left(active));
  await box(page, title).click();
  await expect(box(page, title)).toBeChecked();
  await expect(counter).toHaveText(left(active - 1));
  await todos.expectMine({ [title]: true });
  await page.reload();
  await expect(box(page, title)).toBeChecked();
  await open(page);
  await box(page, title).click();
  await todos.expectMine({ [title]: false });
});

test("editing: Enter and leaving save, Escape cancels, empty deletes", async ({ page, todos }) => {
  const title = await todos.create("Call Ada");
  await open(page);
  const editor = page.getByRole("textbox", { name: /^Edit/ });

  await page.getByText(title, { exact: true }).dblclick();
  await expect(editor).toBeFocused();
  await editor.fill(`${title} tomorrow`);
  await editor.press("Enter");
  await todos.expectMine({ [`${title} tomorrow`]: false });

  await page.getByText(`${title} tomorrow`, { exact: true }).dblclick();
  await editor.fill("something else");
  await editor.press("Escape");
  await expect(page.getByText(`${title} tomorrow`, { exact: true })).toBeVisible();

  await page.getByText(`${title} tomorrow`, { exact: true }).dblclick();
  await editor.fill(`${title} on Monday`);
  await field(page).click();
  await todos.expectMine({ [`${title} on Monday`]: false });

  await page.getByText(`${title} on Monday`, { exact: true }).dblclick();
  await editor.fill("");
  await editor.press("Enter");
  await expect(row(page, title)).toHaveCount(0);
  await todos.expectMine({});
});

test("deleting", async ({ page, todos }) => {
  const title = await todos.create("Old news");
  await open(page);
  await row(page, title).hover();
  await row(page, title).getByRole("button", { name: /^Delete/ }).click();
  await expect(row(page, title)).toHaveCount(0);
  await todos.expectMine({});
});

test("filters have addresses, and the back button works", async ({ page, todos }) => {
  const open_ = await todos.create("Still to do");
  const done = await todos.create("Done already", true);
  await open(page);
  await expect(row(page, open_)).toBeVisible();
  await expect(row(page, done)).toBeVisible();

  await page.getByRole("link", { name: "Active" }).click();
  await expect(page).toHaveURL(/\/active$/);
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
  await expect(row(page, done)).toBeVisible();
  await expect(row(page, open_)).toHaveCount(0);
});

test("all are toggled, the completed ones cleared", async ({ page, todos }) => {
  const others = await todos.all();
  try {
    const [one, two] = [await todos.create("First of all"), await todos.create("Last of all", true)];
    await open(page);
    const all = page.getByRole("checkbox", { name: "Mark all as complete" });
    await all.click();
    await expect(all).toBeChecked();
    await todos.expectMine({ [one]: true, [two]: true });
    await all.click();
    await todos.expectMine({ [one]: false, [two]: false });

    // Nobody else's todo is completed at this moment, so that none but ours can go.
    await box(page, one).click();
    await expect.poll(async () => (await todos.all()).filter((t) => t.completed).map((t) => t.title))
      .toEqual([one]);
    await page.getByRole("button", { name: "Clear completed" }).click();
    await expect(row(page, one)).toHaveCount(0);
    await todos.expectMine({ [two]: false });
    await expect(page.getByRole("button", { name: "Clear completed" })).toHaveCount(0);
  } finally {
    for (const { id, completed } of others) if (completed) await todos.complete(id, true);
  }
});

test("everything works by keyboard", async ({ page, todos }) => {
  await open(page);
  await expect(field(page)).toBeFocused();
  const title = todos.name("No mouse");
  await page.keyboard.type(`${title}\n`);
  await todos.expectMine({ [title]: false });

  await box(page, title).focus();
  await page.keyboard.press("Space");
  await todos.expectMine({ [title]: true });
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.keyboard.type("!\n");
  await todos.expectMine({ [`${title}!`]: true });

  await expect(box(page, `${title}!`)).toBeFocused();
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await todos.expectMine({});
  // The keyboard's place is near, not at the top of the page.
  await expect(page.locator("#new-todo, [role=checkbox]").and(page.locator(":focus"))).toHaveCount(1);
});
