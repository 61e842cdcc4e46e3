import { type BrowserContext, expect, type Locator, type Page, test as base } from "@playwright/test";
import { Account } from "./accounts.ts";

interface Fixtures {
  /** A new account for this test; the browser is signed in. Deleted at the end. */
  todos: Account;
  /** The same, but the browser is not signed in. */
  account: Account;
  /** The browser's error messages; a test that provokes them empties the list. */
  complaints: string[];
}

export const test = base.extend<Fixtures>({
  account: async ({ playwright, baseURL }, use) => {
    const url = baseURL ?? "";
    // It keeps cookies, so like a browser it must send an Origin.
    const extraHTTPHeaders = { origin: new URL(url).origin };
    const request = await playwright.request.newContext({ baseURL: url, extraHTTPHeaders });
    const account = await Account.signUp(request);
    await use(account);
    await account.delete();
    await request.dispose();
  },
  todos: async ({ account, context, baseURL }, use) => {
    await signIn(context, baseURL, account);
    await use(account);
    // Otherwise requests of the open page would find no account.
    for (const page of context.pages()) await page.goto("about:blank");
  },
  complaints: [
    async ({ page }, use) => {
      const complaints: string[] = [];
      page.on("console", (message) => {
        if (["error", "warning"].includes(message.type())) complaints.push(message.text());
      });
      page.on("pageerror", (error) => complaints.push(error.message));
      await use(complaints);
      expect(complaints, "errors, warnings or policy violations in the browser's console").toEqual([]);
    },
    { auto: true },
  ],
});

export { expect };

/** The cookie of a new sign-in. */
async function signIn(context: BrowserContext, baseURL: string | undefined, account: Account): Promise<void> {
  const url = baseURL ?? "";
  const { port } = new URL(url);
  const name = port ? `todo_${port}_session` : "todo_session";
  await context.addCookies([{ name, value: account.token, url, httpOnly: true, sameSite: "Lax" }]);
}

export const field = (page: Page): Locator => page.getByPlaceholder("What needs to be done?");

export const row = (page: Page, title: string): Locator => page.getByRole("listitem").filter({ hasText: title });

export const box = (page: Page, title: string): Locator => page.getByRole("checkbox", { name: title, exact: true });

/** Opens a page and waits for its JavaScript, without which forms work differently. */
export async function open(page: Page, path = "/"): Promise<void> {
  await page.goto(path);
  await alive(page);
}

/** Waits for the page's JavaScript. */
export async function alive(page: Page): Promise<void> {
  await page.waitForFunction(() => {
    const input = document.querySelector("#new-todo, input[name=email]");
    return input !== null && Object.keys(input).some((key) => key.startsWith("__reactProps"));
  });
}

export async function add(page: Page, title: string): Promise<void> {
  await field(page).fill(title);
  await field(page).press("Enter");
  await expect(row(page, title)).toBeVisible();
}
