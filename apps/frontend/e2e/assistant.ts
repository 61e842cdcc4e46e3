import type { Locator, Page } from "@playwright/test";
import { expect } from "./fixtures.ts";

/**
 * The deployed assistant. `scripted`: with a key, OPENAI_MODEL=scripted, and an OPENAI_BASE_URL of the
 * backend's tests/openai_server.py, whose keywords the tests use. `off`: without a key. Each has its own
 * tests; run both.
 */
export const ASSISTANT = process.env.ASSISTANT || "off";
if (ASSISTANT !== "scripted" && ASSISTANT !== "off") {
  throw new Error(`ASSISTANT is “${ASSISTANT}”; set it to scripted or off`);
}

/** Window sizes for tests of the panel. */
export const SIZES = [
  { name: "wide", width: 1280, height: 800, colorScheme: "light" },
  { name: "dark phone", width: 390, height: 844, colorScheme: "dark" },
  { name: "narrow", width: 320, height: 568, colorScheme: "light" },
  { name: "dark narrow", width: 320, height: 568, colorScheme: "dark" },
] as const;

export const panel = (page: Page): Locator => page.getByRole("dialog", { name: "Assistant" });
export const opener = (page: Page): Locator => page.getByRole("button", { name: "Assistant", exact: true });
export const message = (page: Page): Locator => panel(page).getByRole("textbox", { name: "Message to the assistant" });
export const conversation = (page: Page): Locator => panel(page).getByRole("region", { name: "Conversation" });
/** The text for screen readers. */
export const told = (page: Page): Locator => panel(page).getByRole("status");
export const alert = (page: Page): Locator => panel(page).getByRole("alert");

export async function openPanel(page: Page): Promise<void> {
  await opener(page).click();
  await expect(panel(page)).toBeVisible();
  // Loaded: the panel knows whether the assistant is on.
  await expect(panel(page).getByText(/What can I do for your list\?|not set up/).or(conversation(page).getByRole("list")).first()).toBeVisible();
}

export async function ask(page: Page, text: string): Promise<void> {
  // The previous answer has ended.
  await expect(panel(page).getByRole("button", { name: "Stop" })).toHaveCount(0);
  await message(page).fill(text);
  await message(page).press("Enter");
  await expect(message(page)).toHaveValue("");
  await expect(conversation(page).getByRole("listitem").filter({ hasText: text }).last()).toBeVisible();
}
