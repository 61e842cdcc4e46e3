import { ASSISTANT, alert, ask, conversation, message, openPanel, panel, SIZES, told } from "./assistant.ts";
import { box, expect, open, row, test } from "./fixtures.ts";
import { expectAccessible, expectFits } from "./looks.ts";

// assistant.spec.ts tests the case without a key.
if (ASSISTANT === "scripted") talks();

function talks(): void {
  test("an answer streams, and the list shows what it touched", async ({ page, todos }) => {
    const old = await todos.create("Already there");
    await open(page);
    await openPanel(page);
    await expect(message(page)).toBeFocused();
    const [milk, bread] = ["Oat milk", "Rye bread"];
    await ask(page, `add ${milk} and ${bread}`);
    await expect(told(page)).toHaveText(/^Added “.*Added: /);
    await expect(row(page, milk).first()).toBeVisible();
    await todos.expectTodos({ [old]: false, [milk]: false, [bread]: false });

    // Highlights only these, for a while.
    const listed = page.getByRole("listitem").filter({ has: page.getByRole("checkbox") });
    await expect(listed.filter({ hasText: milk })).toHaveAttribute("data-touched", "true");
    await expect(listed.filter({ hasText: old })).not.toHaveAttribute("data-touched", "true");
    await expect(listed.filter({ hasText: milk })).not.toHaveAttribute("data-touched", "true", { timeout: 10_000 });

    await conversation(page).getByRole("button", { name: milk }).click();
    await expect(listed.filter({ hasText: milk }).locator(":focus")).toHaveCount(1);

    await ask(page, `complete ${milk}`);
    await expect(box(page, milk)).toBeChecked();
    await ask(page, `rename ${bread} to ${"Corn bread"}`);
    await expect(row(page, "Corn bread").first()).toBeVisible();
    await todos.expectTodos({ [old]: false, [milk]: true, ["Corn bread"]: false });
  });

  test("text comes bit by bit; Stop ends it, and the next question is answered", async ({ page, todos }) => {
    await open(page);
    await openPanel(page);
    await ask(page, "slow");
    const numbers = conversation(page).getByText(/^1 2 3/);
    await expect(numbers).toBeVisible();
    await expect(told(page)).toHaveText("The assistant is at work");
    expect(await numbers.textContent()).not.toContain("20");
    await panel(page).getByRole("button", { name: "Stop" }).click();
    await expect(conversation(page)).toContainText("Stopped.");
    const kept = await numbers.textContent();
    await expect(message(page)).toBeFocused();
    await ask(page, "Who are you?");
    await expect(conversation(page)).toContainText("I only help with your todo list.");
    expect(await numbers.textContent()).toBe(kept);
  });

  test("several todos are deleted only after a yes, which the keyboard can give", async ({ page, todos }) => {
    const [one, two] = [await todos.create("Old news one"), await todos.create("Old news two")];
    const kept = await todos.create("Fresh news");
    await open(page);
    await openPanel(page);
    await ask(page, "delete Old news");
    const card = panel(page).getByRole("group", { name: "Delete these 2 todos?" });
    await expect(card).toContainText(one);
    await expect(card).toContainText(two);
    await expect(card).toBeFocused();
    await todos.expectTodos({ [one]: false, [two]: false, [kept]: false });
    await expectAccessible(page);

    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await expect(conversation(page)).toContainText("Nothing was deleted.");
    await expect(card).toHaveCount(0);
    await todos.expectTodos({ [one]: false, [two]: false, [kept]: false });

    await ask(page, "delete Old news");
    await expect(card).toBeFocused();
    await page.keyboard.press("Tab");
    await expect(card.getByRole("button", { name: "Delete 2 todos" })).toBeFocused();
    await page.keyboard.press("Enter");
    await todos.expectTodos({ [kept]: false });
    await expect(conversation(page).getByRole("list", { name: "Deleted" })).toContainText(one);
    await expect(box(page, one)).toHaveCount(0);
    await expect(message(page)).toBeFocused();
  });

  test("a question about deleting is still open after a reload, and settled once it is answered", async ({ page, todos }) => {
    const [one, two] = [await todos.create("Left open one"), await todos.create("Left open two")];
    const kept = await todos.create("Not asked about");
    await open(page);
    await openPanel(page);
    await ask(page, "delete Left open");
    const card = panel(page).getByRole("group", { name: "Delete these 2 todos?" });
    await expect(card).toBeVisible();

    await open(page);
    await openPanel(page);
    await expect(card).toContainText(one);
    await expect(card).toContainText(two);
    await expect(card).toBeFocused();
    // The card shows the question, so the history omits it.
    await expect(conversation(page).getByText("Delete these 2 todos?")).toHaveCount(1);
    await expectAccessible(page);
    await todos.expectTodos({ [one]: false, [two]: false, [kept]: false });

    await card.getByRole("button", { name: "Delete 2 todos" }).click();
    await todos.expectTodos({ [kept]: false });
    await expect(card).toHaveCount(0);
    await open(page);
    await openPanel(page);
    await expect(conversation(page).getByRole("list").first()).toBeVisible();
    await expect(card).toHaveCount(0);
  });

  test("a question about deleting that was answered elsewhere is closed", async ({ page, todos, baseURL, complaints }) => {
    await todos.create("Twice one");
    await todos.create("Twice two");
    await open(page);
    await openPanel(page);
    await ask(page, "delete Twice");
    const card = panel(page).getByRole("group", { name: "Delete these 2 todos?" });
    const id = (await card.getAttribute("aria-labelledby"))?.replace("question-", "") ?? "";
    const elsewhere = await page.request.post(`/api/v1/assistant/confirmations/${id}`, {
      headers: { origin: new URL(baseURL ?? "").origin },
      data: { approve: false },
    });
    expect(elsewhere.status()).toBe(200);
    await panel(page).getByRole("button", { name: "Delete 2 todos" }).click();
    await expect(alert(page)).toContainText("already answered");
    expect((await todos.all()).length).toBe(2);
    expect(complaints.splice(0).filter((text) => !text.includes("409"))).toEqual([]);
  });

  test("the conversation is there after a reload, until it is forgotten", async ({ page, todos }) => {
    await todos.create("Something");
    await open(page);
    await openPanel(page);
    await ask(page, "list");
    await expect(conversation(page).getByRole("listitem").filter({ hasText: "Something" }).last()).toBeVisible();
    await expect(told(page)).toContainText("On your list:");
    await open(page);
    await openPanel(page);
    await expect(conversation(page)).toContainText("On your list:");
    await panel(page).getByRole("button", { name: "Forget this conversation" }).click();
    await panel(page).getByRole("button", { name: "Forget", exact: true }).click();
    await expect(conversation(page)).not.toContainText("On your list:");
    await open(page);
    await openPanel(page);
    await expect(panel(page)).toContainText("What can I do for your list?");
  });

  for (const [words, text, kept] of [
    ["fail 429", "takes no more requests", ""],
    ["fail 401", "OPENAI_API_KEY", ""],
    ["fail 500", "provider", ""],
    ["cut", "provider", "I was going to"],
  ] as const) {
    test(`“${words}”: said, the input is kept, and the button asks again`, async ({ page, todos, complaints }) => {
      await open(page);
      await openPanel(page);
      await message(page).fill(words);
      await message(page).press("Enter");
      await expect(alert(page)).toContainText(text);
      // The received part stays, and the next attempt continues it.
      await expect(message(page)).toHaveValue(kept ? "" : words);
      if (kept) await expect(conversation(page)).toContainText(kept);
      await expectAccessible(page);
      const again = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/api/v1/assistant"));
      await panel(page).getByRole("button", { name: "Try again" }).click();
      expect((await again).postDataJSON()).toEqual({ message: words, ...(kept && { resume: true }) });
      await expect(alert(page)).toContainText(text);
      expect(complaints.splice(0).filter((complaint) => !complaint.includes("503"))).toEqual([]);
    });
  }

  test("offline: said, the input is kept, and sent when the user says so", async ({ page, context, todos, complaints }) => {
    await open(page);
    await openPanel(page);
    await context.setOffline(true);
    const title = "In the tunnel";
    await message(page).fill(`add ${title}`);
    await message(page).press("Enter");
    await expect(alert(page)).toContainText("You are offline");
    await expect(message(page)).toHaveValue(`add ${title}`);
    await context.setOffline(false);
    await panel(page).getByRole("button", { name: "Try again" }).click();
    await todos.expectTodos({ [title]: false });
    await expect(message(page)).toHaveValue("");
    expect(complaints.splice(0).filter((text) => !/net::ERR_|Failed to load/.test(text))).toEqual([]);
  });

  test("at work in another window: said, and the input is kept", async ({ page, context, todos, complaints }) => {
    await open(page);
    await openPanel(page);
    const other = await context.newPage();
    await open(other);
    await openPanel(other);
    await ask(other, "hang");
    await expect(conversation(other)).toContainText("One moment");
    await message(page).fill("list");
    await message(page).press("Enter");
    await expect(alert(page)).toContainText("still at work");
    await expect(message(page)).toHaveValue("list");
    await panel(other).getByRole("button", { name: "Stop" }).click();
    await expect(conversation(other)).toContainText("Stopped.");
    // The backend needs a moment to notice.
    await expect(async () => {
      const again = panel(page).getByRole("button", { name: "Try again" });
      if (await again.isVisible()) await again.click({ timeout: 2_000 });
      await expect(conversation(page)).toContainText("Your list is empty", { timeout: 2_000 });
    }).toPass({ timeout: 20_000 });
    expect(complaints.splice(0).filter((text) => !text.includes("409"))).toEqual([]);
  });

  test("signed out meanwhile: the panel leads to sign-in", async ({ page, todos, complaints }) => {
    await open(page);
    await openPanel(page);
    await page.context().clearCookies();
    await message(page).fill("list");
    await message(page).press("Enter");
    await expect(alert(page)).toContainText("You are signed out");
    await expect(message(page)).toHaveValue("list");
    await alert(page).getByRole("link", { name: "Sign in" }).click();
    await expect(page).toHaveURL(/\/sign-in/);
    expect(complaints.splice(0).filter((text) => !text.includes("401"))).toEqual([]);
  });

  test("what the assistant says is text, whatever it contains", async ({ page, todos }) => {
    await open(page);
    await openPanel(page);
    await ask(page, "<img src=x onerror=alert(1)> <b>bold</b>");
    await expect(conversation(page)).toContainText("You said: <img src=x onerror=alert(1)> <b>bold</b>");
    await expect(conversation(page).locator("img, b")).toHaveCount(0);
  });

  for (const { name, width, height, colorScheme } of SIZES) {
    test(`a conversation fits and is accessible (${name})`, async ({ page, todos }) => {
      await todos.create("Donaudampfschifffahrtsgesellschaft".repeat(3));
      await todos.create("Donaukanal");
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height });
      await open(page);
      await openPanel(page);
      await expectFits(page);
      await expectAccessible(page);
      await ask(page, `add ${"Wide".repeat(30)}`);
      await expect(told(page)).toHaveText(/^Added/);
      await ask(page, "delete Donau");
      await expect(panel(page).getByRole("group", { name: "Delete these 2 todos?" })).toBeVisible();
      await expectFits(page);
      await expectAccessible(page);
      await panel(page).getByRole("button", { name: "Forget this conversation" }).click();
      await expectFits(page);
      await expectAccessible(page);
    });
  }

  test("with reduced motion nothing moves, and what was touched is marked all the same", async ({ page, todos }) => {
    await page.emulateMedia({ reducedMotion: "reduce" });
    await open(page);
    await openPanel(page);
    const title = "Calmly";
    await ask(page, `add ${title}`);
    const added = page.getByRole("listitem").filter({ has: page.getByRole("checkbox") }).filter({ hasText: title });
    await expect(added).toHaveAttribute("data-touched", "true");
    expect(await page.evaluate(() => document.getAnimations().length)).toBe(0);
  });
}
