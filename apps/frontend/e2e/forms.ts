import { expect, type Locator, type Page } from "@playwright/test";

export const email = (page: Page): Locator => page.getByRole("textbox", { name: "Email" });

export const password = (page: Page): Locator => page.getByLabel("Password");

/** Fills in and submits sign-in or sign-up. */
export async function enter(page: Page, account: { email: string; password: string }): Promise<void> {
  await email(page).fill(account.email);
  await password(page).fill(account.password);
  await password(page).press("Enter");
}

export async function menu(page: Page): Promise<void> {
  await page.locator("summary").click();
  await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();
}

/** Ignores the browser's reports of failed requests; other errors of the page still count. */
export function refusedOnPurpose(complaints: string[]): void {
  expect(complaints.splice(0).filter((text) => !text.includes("Failed to load resource"))).toEqual([]);
}
