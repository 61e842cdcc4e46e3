import { ASSISTANT, message, openPanel, opener, panel, SIZES } from "./assistant.ts";
import { box, expect, field, open, test } from "./fixtures.ts";
import { expectAccessible, expectFits } from "./looks.ts";

test(`the assistant is ${ASSISTANT}, as the runner says`, async ({ page, todos }) => {
  await page.goto("/");
  const response = await page.request.get("/api/v1/assistant");
  expect(response.status()).toBe(200);
  const on = ASSISTANT === "scripted";
  expect(await response.json()).toMatchObject({ available: on, model: on ? "scripted" : null, messages: [] });
});

test.describe("without JavaScript", () => {
  test.use({ javaScriptEnabled: false });

  test("the assistant is not offered", async ({ page, todos }) => {
    await page.goto("/");
    await expect(page.getByRole("main")).toBeVisible();
    await expect(opener(page)).toHaveCount(0);
    // In the server's HTML: with JavaScript disabled from outside, the browser still parses <noscript> as text.
    expect(await (await page.request.get("/")).text()).toContain("<noscript><p");
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
  await todos.expectTodos({ [title]: true });
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
