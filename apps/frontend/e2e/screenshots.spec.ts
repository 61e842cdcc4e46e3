import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { ASSISTANT, ask, conversation, openPanel, panel, told } from "./assistant.ts";
import type { Account } from "./accounts.ts";
import { expect, open, row, test } from "./fixtures.ts";

/**
 * The pictures in docs/, made on request: `SCREENSHOT_DIR=… ASSISTANT=scripted`. What they show is
 * tested elsewhere, so without a folder there is nothing to do here.
 */
const folder = process.env.SCREENSHOT_DIR;

const WEEK = [
  ["Book the train to Lisbon", true],
  ["Answer Mara about Saturday", false],
  ["Water the plants on the balcony", true],
  ["Read the chapter on optimistic updates", false],
  ["Buy coffee ☕ and bread", false],
] as const;

const DESK = { width: 1000, height: 680 };
const WIDE = { width: 1280, height: 720 };
const PHONE = { width: 390, height: 780 };

async function shoot(page: Page, name: string): Promise<void> {
  await page.mouse.move(0, 0);
  // What moves in has to be there.
  await page.evaluate(() => Promise.allSettled(
    document.getAnimations().filter((one) => one.effect?.getComputedTiming().iterations !== Infinity).map((one) => one.finished),
  ));
  mkdirSync(folder ?? "", { recursive: true });
  await page.screenshot({ path: join(folder ?? "", `${name}.png`), animations: "disabled" });
}

async function fill(todos: Account): Promise<void> {
  for (const [title, completed] of WEEK) await todos.create(title, completed);
}

if (folder) {
  for (const [name, colorScheme, viewport] of [
    ["list", "light", DESK],
    ["list-dark", "dark", DESK],
    ["list-phone", "light", PHONE],
  ] as const) {
    test.describe(name, () => {
      test.use({ colorScheme, viewport, isMobile: viewport === PHONE, hasTouch: viewport === PHONE });

      test("picture", async ({ page, todos }) => {
        await fill(todos);
        await open(page);
        await expect(row(page, "Buy coffee")).toBeVisible();
        await shoot(page, name);
      });
    });
  }

  for (const [name, colorScheme, viewport] of [
    ["sign-in", "light", DESK],
    ["sign-in-phone", "dark", PHONE],
  ] as const) {
    test.describe(name, () => {
      test.use({ colorScheme, viewport, isMobile: viewport === PHONE, hasTouch: viewport === PHONE });

      test("picture", async ({ page }) => {
        await open(page, "/sign-in");
        await shoot(page, name);
      });
    });
  }
}

if (folder && ASSISTANT === "scripted") {
  for (const [name, colorScheme, viewport] of [
    ["assistant", "light", WIDE],
    ["assistant-dark", "dark", WIDE],
    ["assistant-phone", "light", PHONE],
  ] as const) {
    test.describe(name, () => {
      test.use({ colorScheme, viewport, isMobile: viewport === PHONE, hasTouch: viewport === PHONE });

      test("picture", async ({ page, todos }) => {
        await fill(todos);
        await open(page);
        await openPanel(page);
        if (viewport === PHONE) await shoot(page, `${name}-welcome`);
        await ask(page, "Add oat milk and a present for Mara");
        await expect(told(page)).toHaveText(/^Added/);
        await ask(page, "Delete completed");
        await expect(panel(page).getByRole("group", { name: "Delete these 2 todos?" })).toBeVisible();
        await expect(conversation(page)).toContainText("oat milk");
        await shoot(page, name);
      });
    });
  }
}
