import { add, box, expect, field, open, row, test } from "./fixtures.ts";
import { menu } from "./forms.ts";

const TYPED = ["First", "Second", "Third"];

test("three todos typed on a slow link: the tab is closed, and none is lost", async ({ page, todos }) => {
  await open(page);
  await page.route("**/api/v1/todos", async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    await route.continue();
  });
  for (const title of TYPED) await add(page, title);
  const asked: string[] = [];
  page.on("dialog", (dialog) => {
    asked.push(dialog.type());
    void dialog.accept();
  });
  await page.close({ runBeforeUnload: true });
  await expect.poll(() => asked).toEqual(["beforeunload"]);
  await todos.expectTodos(Object.fromEntries(TYPED.map((title) => [title, false])));
});

test("signing out waits for what is not saved", async ({ page, todos }) => {
  const gone = await todos.create("Deleted at the last moment");
  await open(page);
  await page.route("**/api/v1/todos", async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 500));
    await route.continue();
  });
  await row(page, gone).hover();
  await row(page, gone).getByRole("button", { name: /^Delete/ }).click();
  for (const title of TYPED) await add(page, title);
  await menu(page);
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page).toHaveURL(/\/sign-in\?notice=signed-out$/);
  expect(await todos.signIn()).toBe(true);
  await todos.expectTodos(Object.fromEntries(TYPED.map((title) => [title, false])));
});

test("another tab shows each change, and asks nobody", async ({ page, context, todos }) => {
  const title = await todos.create("Seen in both");
  await open(page);
  const other = await context.newPage();
  await open(other);
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await add(other, "Typed in the other");
  await box(other, title).click();
  await expect(row(page, "Typed in the other")).toBeVisible();
  await expect(box(page, title)).toBeChecked();
  expect(asked).toEqual([]);
});

test("another device: its changes come with the focus, and are not overwritten unseen", async ({ page, todos, complaints }) => {
  const title = await todos.create("Call Ada");
  await open(page);
  const id = (await todos.all())[0]?.id ?? "";
  await page.getByText(title, { exact: true }).dblclick();
  await page.getByRole("textbox", { name: /^Edit/ }).fill("Call Ada today");
  await todos.call("PATCH", `/todos/${id}`, { title: "Write to Ada" });
  await todos.create("From the phone");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("alert").filter({ hasText: "Ada" })).toContainText("was changed to “Write to Ada” in the meantime");
  await todos.expectTodos({ "Write to Ada": false, "From the phone": false });
  await page.getByRole("button", { name: "Use my title" }).click();
  await todos.expectTodos({ "Call Ada today": false, "From the phone": false });

  await page.waitForTimeout(2_000);
  await page.evaluate(() => dispatchEvent(new Event("focus")));
  await expect(row(page, "From the phone")).toBeVisible();
  await expect(field(page)).toHaveValue("");
  expect(complaints.splice(0).filter((text) => !text.includes("412"))).toEqual([]);
});
