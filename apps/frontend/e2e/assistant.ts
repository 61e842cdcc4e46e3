import type { Locator, Page } from "@playwright/test";
import { expect } from "./fixtures.ts";

/**
 * What the runner has deployed: `scripted` with a key and an OPENAI_BASE_URL that leads to the
 * backend's tests/openai_server.py, whose keywords the tests use, and OPENAI_MODEL=scripted; `off`
 * without a key. Each has its own tests; both are to be run.
 */
export const ASSISTANT = process.env.ASSISTANT || "off";
if (ASSISTANT !== "scripted" && ASSISTANT !== "off") {
  throw new Error(`ASSISTANT is “${ASSISTANT}”; set it to scripted or off`);
}

/** Windows in which the panel is looked at. */
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
/** What screen readers are told. */
export const told = (page: Page): Locator => panel(page).getByRole("status");
export const alert = (page: Page): Locator => panel(page).getByRole("alert");

export async function openPanel(page: Page): Promise<void> {
  await opener(page).click();
  await expect(panel(page)).toBeVisible();
  // Loaded: it knows whether there is an assistant.
  await expect(panel(page).getByText(/What can I do for your list\?|not set up/).or(conversation(page).getByRole("list")).first()).toBeVisible();
}

export async function ask(page: Page, text: string): Promise<void> {
  // The answer before has come to its end.
  await expect(panel(page).getByRole("button", { name: "Stop" })).toHaveCount(0);
  await message(page).fill(text);
  await message(page).press("Enter");
  await expect(message(page)).toHaveValue("");
  await expect(conversation(page).getByRole("listitem").filter({ hasText: text }).last()).toBeVisible();
}
