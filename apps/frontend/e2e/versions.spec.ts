import type { Page } from "@playwright/test";
import { add, alive, expect, field, open, row, test } from "./fixtures.ts";
import { enter } from "./forms.ts";

// During a rollout a page comes from one version and requests its files from both.

const FILES = "**/_next/static/**";

// Ignores the browser's reports of the simulated 404 answers.
test.afterEach(async ({ complaints, page }) => {
  // After this page has loaded, the browser has reported all requests of the previous one.
  await page.goto("about:blank");
  const own = complaints.splice(0).filter((text) => !/Failed to load resource|net::ERR_|MIME type/.test(text));
  expect(own).toEqual([]);
});

/** Answers 404 to requests for the build's files while `gone` returns true; counts the page's loads. */
async function without(page: Page, gone: (url: string, loads: number) => boolean): Promise<() => number> {
  let loads = 0;
  page.on("request", (request) => {
    if (request.isNavigationRequest()) loads += 1;
  });
  await page.route(FILES, (route) =>
    gone(route.request().url(), loads) ? route.fulfill({ status: 404, body: "" }) : route.continue(),
  );
  return () => loads;
}

test("files that the other version's pods do not have are asked for again, and the page stays", async ({ page }) => {
  const asked: Record<string, number> = {};
  const loads = await without(page, (url) => {
    asked[url] = (asked[url] ?? 0) + 1;
    return asked[url] <= 3;
  });
  await page.goto("/sign-up");
  await page.locator("input[name=email]").fill("typed before the page was complete");
  await alive(page);
  await expect(page.locator("input[name=email]")).toHaveValue("typed before the page was complete");
  const styled = () => page.evaluate(() => [...document.styleSheets].filter((sheet) => sheet.href).length);
  await expect.poll(styled).toBeGreaterThan(1);
  expect(loads()).toBe(1);
});

test("a page whose version is gone loads itself again", async ({ page, todos }) => {
  await todos.create("Still there");
  const loads = await without(page, (_, loads) => loads < 2);
  await page.goto("/");
  await expect.poll(loads, { timeout: 15_000 }).toBe(2);
  await alive(page);
  await expect(page.getByText("Still there")).toBeVisible();
});

test("what was typed stays, with a way to load the page", async ({ page, todos }) => {
  await todos.create("Still there");
  const loads = await without(page, (_, loads) => loads < 2);
  await page.goto("/");
  await field(page).fill("Typed meanwhile");
  const way = page.getByRole("link", { name: "Load it again" });
  await expect(way).toBeVisible({ timeout: 15_000 });
  await expect(field(page)).toHaveValue("Typed meanwhile");
  expect(loads()).toBe(1);
  await way.click();
  await alive(page);
});

test("a page that cannot be completed is not loaded for ever", async ({ page, todos }) => {
  await todos.create("Still there");
  await page.clock.install();
  const loads = await without(page, () => true);
  await page.goto("/");
  // Four of five allowed reloads; the last one waits for 8 s.
  await page.evaluate(() => { sessionStorage.setItem("reloads", JSON.stringify(Array(4).fill(Date.now()))); });
  await expect(async () => {
    await page.clock.fastForward(1_000);
    await expect(page.getByRole("link", { name: "Load it again" })).toBeVisible({ timeout: 100 });
  }).toPass({ intervals: [0] });
  expect(loads()).toBe(2);
  await expect(page.getByText("Still there")).toBeVisible();
});

test("a session that ends when the dialog's files are gone: signed in in another tab, nothing is lost", async ({ page, context, todos }) => {
  await open(page);
  await page.route(FILES, (route) => route.fulfill({ status: 404, body: "" }));
  await todos.signOut();
  await add(page, "Not lost");
  await field(page).fill("Half a thou");
  await page.getByRole("status").getByRole("button", { name: "Sign in" }).click();
  const notice = page.getByText("Sign in in another tab, then continue here");
  await expect(notice).toBeVisible();
  const other = context.waitForEvent("page");
  await page.getByRole("link", { name: "Sign in", exact: true }).click();
  await alive(await other);
  await enter(await other, todos);
  await expect(field(await other)).toBeVisible();
  await page.getByRole("button", { name: "Go on" }).click();
  await expect(notice).toHaveCount(0);
  await expect(page.getByRole("status")).toBeEmpty();
  await expect(field(page)).toHaveValue("Half a thou");
  await page.unroute(FILES);
  // A page loaded during the change may be older than the change.
  await expect(row(page, "Not lost")).not.toHaveAttribute("aria-busy");
  await page.reload();
  await expect(row(page, "Not lost")).toHaveCount(1);
});
