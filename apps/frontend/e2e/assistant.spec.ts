import { ASSISTANT, alert, ask, conversation, expectAccessible, expectFits, message, openPanel, opener, panel, told } from "./assistant.ts";
import { box, expect, field, open, row, test } from "./fixtures.ts";

const SIZES = [
  { name: "wide", width: 1280, height: 800, colorScheme: "light" },
  { name: "dark phone", width: 390, height: 844, colorScheme: "dark" },
  { name: "narrow", width: 320, height: 568, colorScheme: "light" },
  { name: "dark narrow", width: 320, height: 568, colorScheme: "dark" },
] as const;

test(`the assistant is ${ASSISTANT}, as the runner says`, async ({ page, todos }) => {
  void todos;
  await page.goto("/");
  const response = await page.request.get("/api/v1/assistant");
  expect(response.status()).toBe(200);
  const on = ASSISTANT === "scripted";
  expect(await response.json()).toMatchObject({ available: on, model: on ? "scripted" : null, messages: [] });
});

test.describe("without JavaScript", () => {
  test.use({ javaScriptEnabled: false });

  test("the assistant is not offered", async ({ page, todos }) => {
    void todos;
    await page.goto("/");
    await expect(opener(page)).toHaveCount(0);
    await expect(page.getByText("The assistant needs JavaScript")).toBeVisible();
  });
});

test("the panel is opened, used and closed by keyboard", async ({ page, todos }) => {
  const title = await todos.create("Stays usable");
  await open(page);
  await expect(field(page)).toBeFocused();
  await page.keyboard.press("Control+k");
  await expect(panel(page)).toBeVisible();
  await expect(panel(page).locator(":focus")).toHaveCount(1);
  // Beside the list, not over it.
  await box(page, title).click();
  await todos.expectMine({ [title]: true });
  await page.keyboard.press("Control+k");
  await page.keyboard.press("Escape");
  await expect(panel(page)).toBeHidden();

  await opener(page).focus();
  await page.keyboard.press("Enter");
  await expect(panel(page)).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(opener(page)).toBeFocused();
});

test("on a phone it lies over the page, keeps the focus and closes by a tap beside it", async ({ page, todos }) => {
  void todos;
  await page.setViewportSize({ width: 390, height: 844 });
  await open(page);
  await openPanel(page);
  for (let step = 0; step < 12; step += 1) {
    await page.keyboard.press("Tab");
    const outside = await page.evaluate(() => document.activeElement !== document.body && !document.activeElement?.closest("dialog"));
    expect(outside).toBe(false);
  }
  await page.mouse.click(195, 20);
  await expect(panel(page)).toBeHidden();
  await expect(opener(page)).toBeFocused();
});

test("a panel that cannot be loaded says so, and comes when it can", async ({ page, context, todos, complaints }) => {
  void todos;
  await open(page);
  await context.setOffline(true);
  await opener(page).click();
  const failure = page.getByRole("alert").filter({ hasText: "could not be loaded" });
  await expect(failure).toBeVisible();
  await context.setOffline(false);
  await failure.getByRole("button", { name: "Try again" }).click();
  await expect(panel(page)).toBeVisible();
  expect(complaints.splice(0).filter((text) => !/net::ERR_|Failed to load/.test(text))).toEqual([]);
});

if (ASSISTANT === "off") {
  for (const { name, width, height, colorScheme } of SIZES) {
    test(`without a key the panel says so, and what to set (${name})`, async ({ page, todos }) => {
      void todos;
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height });
      await open(page);
      await openPanel(page);
      await expect(panel(page)).toContainText("The assistant is not set up");
      await expect(panel(page)).toContainText("OPENAI_API_KEY");
      await expect(message(page)).toHaveCount(0);
      await expectFits(page);
      await expectAccessible(page);
    });
  }

  test("without a key a question is refused as a problem", async ({ page, todos, baseURL }) => {
    void todos;
    await page.goto("/");
    const response = await page.request.post("/api/v1/assistant", {
      headers: { origin: new URL(baseURL ?? "").origin },
      data: { message: "list" },
    });
    expect(response.status()).toBe(503);
    expect(response.headers()["content-type"]).toContain("application/problem+json");
    expect(response.headers()["retry-after"]).toBeUndefined();
  });
}

if (ASSISTANT === "scripted") {
  test("an answer streams, and the list shows what it touched", async ({ page, todos }) => {
    const old = await todos.create("Already there");
    await open(page);
    await openPanel(page);
    await expect(message(page)).toBeFocused();
    const [milk, bread] = [todos.name("Oat milk"), todos.name("Rye bread")];
    await ask(page, `add ${milk} and ${bread}`);
    await expect(told(page)).toHaveText(/^Added “.*Added: /);
    await expect(row(page, milk).first()).toBeVisible();
    await todos.expectMine({ [old]: false, [milk]: false, [bread]: false });

    // Marked for a while, those and no others.
    const listed = page.getByRole("listitem").filter({ has: page.getByRole("checkbox") });
    await expect(listed.filter({ hasText: milk })).toHaveAttribute("data-touched", "true");
    await expect(listed.filter({ hasText: old })).not.toHaveAttribute("data-touched", "true");
    await expect(listed.filter({ hasText: milk })).not.toHaveAttribute("data-touched", "true", { timeout: 10_000 });

    await conversation(page).getByRole("button", { name: milk }).click();
    await expect(listed.filter({ hasText: milk }).locator(":focus")).toHaveCount(1);

    await ask(page, `complete ${milk}`);
    await expect(box(page, milk)).toBeChecked();
    await ask(page, `rename ${bread} to ${todos.name("Corn bread")}`);
    await expect(row(page, todos.name("Corn bread")).first()).toBeVisible();
    await todos.expectMine({ [old]: false, [milk]: true, [todos.name("Corn bread")]: false });
  });

  test("text comes bit by bit; Stop ends it, and the next question is answered", async ({ page, todos }) => {
    void todos;
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
    await todos.expectMine({ [one]: false, [two]: false, [kept]: false });
    await expectAccessible(page);

    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await expect(conversation(page)).toContainText("Nothing was deleted.");
    await expect(card).toHaveCount(0);
    await todos.expectMine({ [one]: false, [two]: false, [kept]: false });

    await ask(page, "delete Old news");
    await expect(card).toBeFocused();
    await page.keyboard.press("Tab");
    await expect(card.getByRole("button", { name: "Delete 2 todos" })).toBeFocused();
    await page.keyboard.press("Enter");
    await todos.expectMine({ [kept]: false });
    await expect(conversation(page).getByRole("list", { name: "Deleted" })).toContainText(one);
    await expect(box(page, one)).toHaveCount(0);
    await expect(message(page)).toBeFocused();
  });

  test("a question about deleting that was answered elsewhere is closed", async ({ page, todos, baseURL, complaints }) => {
    await todos.create("Twice one");
    await todos.create("Twice two");
    await open(page);
    const answered = page.waitForResponse((response) => response.url().endsWith("/api/v1/assistant") && response.request().method() === "POST");
    await openPanel(page);
    await ask(page, "delete Twice");
    await expect(panel(page).getByRole("group", { name: "Delete these 2 todos?" })).toBeVisible();
    const id = /"id":"([^"]+)","question"/.exec(await (await answered).text())?.[1] ?? "";
    const elsewhere = await page.request.post(`/api/v1/assistant/confirmations/${id}`, {
      headers: { origin: new URL(baseURL ?? "").origin },
      data: { approve: false },
    });
    expect(elsewhere.status()).toBe(200);
    await panel(page).getByRole("button", { name: "Delete 2 todos" }).click();
    await expect(alert(page)).toContainText("answered already");
    expect((await todos.mine()).length).toBe(2);
    expect(complaints.splice(0).filter((text) => !text.includes("409"))).toEqual([]);
  });

  test("the conversation is there after a reload, until it is forgotten", async ({ page, todos }) => {
    await todos.create("Something");
    await open(page);
    await openPanel(page);
    await ask(page, "list");
    await expect(conversation(page).getByRole("listitem").filter({ hasText: todos.name("Something") }).last()).toBeVisible();
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
      void todos;
      await open(page);
      await openPanel(page);
      await message(page).fill(words);
      await message(page).press("Enter");
      await expect(alert(page)).toContainText(text);
      await expect(message(page)).toHaveValue(words);
      if (kept) await expect(conversation(page)).toContainText(kept);
      await expectAccessible(page);
      const again = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/api/v1/assistant"));
      await panel(page).getByRole("button", { name: "Try again" }).click();
      expect((await again).postDataJSON()).toEqual({ message: words });
      await expect(alert(page)).toContainText(text);
      expect(complaints.splice(0).filter((complaint) => !complaint.includes("503"))).toEqual([]);
    });
  }

  test("offline: said, the input is kept, and sent when the user says so", async ({ page, context, todos, complaints }) => {
    await open(page);
    await openPanel(page);
    await context.setOffline(true);
    const title = todos.name("In the tunnel");
    await message(page).fill(`add ${title}`);
    await message(page).press("Enter");
    await expect(alert(page)).toContainText("You are offline");
    await expect(message(page)).toHaveValue(`add ${title}`);
    await context.setOffline(false);
    await panel(page).getByRole("button", { name: "Try again" }).click();
    await todos.expectMine({ [title]: false });
    await expect(message(page)).toHaveValue("");
    expect(complaints.splice(0).filter((text) => !/net::ERR_|Failed to load/.test(text))).toEqual([]);
  });

  test("at work in another window: said, and the input is kept", async ({ page, context, todos, complaints }) => {
    void todos;
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
    await expect(async () => {
      await panel(page).getByRole("button", { name: "Try again" }).click({ timeout: 1_000 });
      await expect(told(page)).toContainText("Your list is empty", { timeout: 2_000 });
    }).toPass({ timeout: 15_000 });
    expect(complaints.splice(0).filter((text) => !text.includes("409"))).toEqual([]);
  });

  test("signed out meanwhile: the panel leads to sign-in", async ({ page, todos, complaints }) => {
    void todos;
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
    void todos;
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
      await ask(page, `add ${todos.name("Wide".repeat(30))}`);
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
    const title = todos.name("Calmly");
    await ask(page, `add ${title}`);
    const added = page.getByRole("listitem").filter({ has: page.getByRole("checkbox") }).filter({ hasText: title });
    await expect(added).toHaveAttribute("data-touched", "true");
    expect(await page.evaluate(() => document.getAnimations().length)).toBe(0);
  });
}
