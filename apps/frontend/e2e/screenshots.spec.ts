import { ASSISTANT, ask, conversation, openPanel, panel, told } from "./assistant.ts";
import type { Account } from "./accounts.ts";
import { expect, open, row, test } from "./fixtures.ts";
import { PICTURES, shoot } from "./looks.ts";

/**
 * Takes the pictures in docs/ on request: `SCREENSHOT_DIR=… ASSISTANT=scripted`. Other suites test
 * their content, so without a folder this suite is empty.
 */
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

type Look = readonly [name: string, colorScheme: "light" | "dark", viewport: typeof DESK];

/** One test for each look; `picture` takes the screenshot. */
function pictures(looks: readonly Look[], picture: (name: string, phone: boolean) => void): void {
  for (const [name, colorScheme, viewport] of looks) {
    const phone = viewport === PHONE;
    test.describe(name, () => {
      test.use({ colorScheme, viewport, isMobile: phone, hasTouch: phone });
      picture(name, phone);
    });
  }
}

async function fill(todos: Account): Promise<void> {
  for (const [title, completed] of WEEK) await todos.create(title, completed);
}

if (PICTURES) {
  pictures([["list", "light", DESK], ["list-dark", "dark", DESK], ["list-phone", "light", PHONE]], (name) => {
    test("picture", async ({ page, todos }) => {
      await fill(todos);
      await open(page);
      await expect(row(page, "Buy coffee")).toBeVisible();
      await page.mouse.move(0, 0);
      await shoot(page, name);
    });
  });

  pictures([["sign-in", "light", DESK], ["sign-in-phone", "dark", PHONE]], (name) => {
    test("picture", async ({ page }) => {
      await open(page, "/sign-in");
      await shoot(page, name);
    });
  });
}

if (PICTURES && ASSISTANT === "scripted") {
  const looks: Look[] = [["assistant", "light", WIDE], ["assistant-dark", "dark", WIDE], ["assistant-phone", "light", PHONE]];
  pictures(looks, (name, phone) => {
    test("picture", async ({ page, todos }) => {
      await fill(todos);
      await open(page);
      await openPanel(page);
      if (phone) await shoot(page, `${name}-welcome`);
      await ask(page, "Add oat milk and a present for Mara");
      await expect(told(page)).toHaveText(/^Added/);
      await ask(page, "Delete completed");
      await expect(panel(page).getByRole("group", { name: "Delete these 2 todos?" })).toBeVisible();
      await expect(conversation(page)).toContainText("oat milk");
      await page.mouse.move(0, 0);
      await shoot(page, name);
    });
  });
}
