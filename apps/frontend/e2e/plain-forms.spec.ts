import { newEmail, newPassword } from "./accounts.ts";
import { expect, field, row, test } from "./fixtures.ts";
import { email, enter, menu, password } from "./forms.ts";

test.describe("without JavaScript", () => {
  test.use({ javaScriptEnabled: false });

  test("an account is made, used, left, entered again and deleted", async ({ page }) => {
    const somebody = { email: newEmail(), password: newPassword() };
    await page.goto("/");
    await page.getByRole("link", { name: "Create an account" }).click();
    await enter(page, somebody);
    await field(page).fill("By a plain form");
    await field(page).press("Enter");
    await expect(row(page, "By a plain form")).toBeVisible();

    await menu(page);
    await page.getByRole("button", { name: "Sign out" }).click();
    await expect(page.getByRole("status")).toHaveText("You are signed out.");
    await enter(page, somebody);
    await expect(row(page, "By a plain form")).toBeVisible();

    await menu(page);
    await page.getByRole("link", { name: "Delete account" }).click();
    await password(page).fill(somebody.password);
    await page.getByRole("button", { name: "Delete account and todos" }).click();
    await expect(page.getByRole("status")).toHaveText("Your account and its todos have been deleted.");
    await enter(page, somebody);
    await expect(page.getByRole("alert")).toHaveText("Email or password is wrong.");
  });

  test("what is refused comes back with what was typed, but for the password, once", async ({ page, account }) => {
    await page.goto("/sign-up?next=/active");
    await enter(page, { email: "nobody", password: "short" });
    await expect(page).toHaveURL(/\/sign-up\?next=%2Factive$/);
    await expect(email(page)).toHaveValue("nobody");
    await expect(password(page)).toHaveValue("");
    await expect(email(page)).toHaveAccessibleDescription("Enter an email address such as name@example.com.");
    await expect(password(page)).toHaveAccessibleDescription(/^Use at least 8 characters\./);
    await page.reload();
    await expect(email(page)).toHaveValue("");

    await enter(page, account);
    await expect(email(page)).toHaveAccessibleDescription("This email already has an account. Sign in instead.");
    await page.getByRole("link", { name: "Sign in" }).click();
    await enter(page, account);
    await expect(page).toHaveURL(/\/active$/);
  });

  test("a todo that was typed when the session had ended is there after sign-in", async ({ page, todos }) => {
    await page.goto("/active");
    await todos.signOut();
    await field(page).fill("Eggs & bread");
    await field(page).press("Enter");
    await expect(page.getByRole("status")).toHaveText("You have been signed out. Sign in to continue.");
    await enter(page, todos);
    await expect(page).toHaveURL(/\/active\?title=/);
    await expect(field(page)).toHaveValue("Eggs & bread");
    await field(page).press("Enter");
    await expect(row(page, "Eggs & bread")).toBeVisible();
  });
});

test("a form of the account from another site is refused", async ({ page, todos }) => {
  await todos.create("Still here");
  const response = await page.request.post("/form/account", {
    headers: { origin: "https://elsewhere.example", "sec-fetch-site": "cross-site" },
    form: { do: "delete-account" },
  });
  expect(response.status()).toBe(403);
  await todos.expectTodos({ "Still here": false });
});
