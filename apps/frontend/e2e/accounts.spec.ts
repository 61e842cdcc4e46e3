import { newEmail, newPassword } from "./accounts.ts";
import { add, alive, expect, field, open, row, test } from "./fixtures.ts";
import { email, enter, menu, password, refusedOnPurpose } from "./forms.ts";

test("nobody's list: sign-in comes instead, from the server, and leads back", async ({ page, request, account }) => {
  const answer = await request.get("/completed", { maxRedirects: 0 });
  expect(answer.status()).toBe(307);
  expect(answer.headers().location).toBe("/sign-in?next=%2Fcompleted");
  expect(await answer.text()).not.toContain("What needs to be done?");
  const done = await account.create("Done already", true);

  await open(page, "/completed");
  await expect(page).toHaveURL(/\/sign-in\?next=%2Fcompleted$/);
  await enter(page, account);
  await expect(page).toHaveURL(/\/completed$/);
  await expect(row(page, done)).toBeVisible();
});

test("sign-up, a todo, sign-out, sign-in, and the account's end", async ({ page }) => {
  const somebody = { email: newEmail(), password: newPassword() };
  await open(page, "/sign-in");
  await page.getByRole("link", { name: "Create an account" }).click();
  await alive(page);
  await enter(page, { ...somebody, email: `  ${somebody.email.toUpperCase()} ` });
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
  await alive(page);
  await add(page, "Mine alone");
  await expect(row(page, "Mine alone")).not.toHaveAttribute("aria-busy");

  await menu(page);
  await expect(page.getByText(somebody.email)).toBeVisible();
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page).toHaveURL(/\/sign-in\?notice=signed-out$/);
  await expect(page.getByRole("status")).toHaveText("You are signed out.");
  await page.goBack();
  await expect(page).toHaveURL(/\/sign-in/);
  await expect(page.getByText("Mine alone")).toHaveCount(0);

  await alive(page);
  await enter(page, somebody);
  await expect(row(page, "Mine alone")).toBeVisible();

  await menu(page);
  await page.getByRole("link", { name: "Delete account" }).click();
  await page.getByRole("link", { name: "Keep my account" }).click();
  await expect(row(page, "Mine alone")).toBeVisible();
  await page.goto("/account/delete");
  await expect(page.getByText(somebody.email)).toBeVisible();
  await password(page).fill(somebody.password);
  await page.getByRole("button", { name: "Delete account and todos" }).click();
  await expect(page.getByRole("status")).toHaveText("Your account and its todos have been deleted.");
  await page.goto("/");
  await expect(page).toHaveURL(/\/sign-in$/);
});

test("a wrong password: said, the email kept, and the right one serves", async ({ page, account, complaints }) => {
  await open(page, "/sign-in");
  await enter(page, { email: account.email, password: "wrong-password" });
  await expect(page.getByRole("alert").filter({ hasText: "wrong" })).toHaveText("Email or password is wrong.");
  await expect(email(page)).toHaveValue(account.email);
  await expect(password(page)).toBeFocused();
  await enter(page, account);
  await expect(field(page)).toBeVisible();
  refusedOnPurpose(complaints);
});

test("sign-up says at the field what is wrong with it", async ({ page, account, complaints }) => {
  await open(page, "/sign-up");
  await enter(page, { email: "nobody", password: "short" });
  await expect(email(page)).toHaveAccessibleDescription("Enter an email address such as name@example.com.");
  await expect(password(page)).toHaveAccessibleDescription(/^Use at least 8 characters\./);
  await expect(email(page)).toBeFocused();
  await enter(page, account);
  await expect(email(page)).toHaveAccessibleDescription("This email already has an account. Sign in instead.");
  refusedOnPurpose(complaints);
});

test("a backend that is away: said, and the input kept", async ({ page, account, complaints }) => {
  await open(page, "/sign-in");
  await page.route("**/api/v1/session", (route) => route.fulfill({ status: 503, json: { title: "Unavailable" } }));
  await enter(page, account);
  await expect(page.getByRole("alert").filter({ hasText: "server" })).toContainText("not answering");
  await expect(email(page)).toHaveValue(account.email);
  await expect(password(page)).toHaveValue(account.password);
  await page.unroute("**/api/v1/session");
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(field(page)).toBeVisible();
  refusedOnPurpose(complaints);
});

test("the session is a cookie that no script reads", async ({ page, context, account }) => {
  await open(page, "/sign-in");
  await enter(page, account);
  await expect(field(page)).toBeVisible();
  const cookie = (await context.cookies()).find(({ name }) => name.endsWith("session"));
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Lax", path: "/", secure: page.url().startsWith("https") });
  expect(await page.evaluate(() => document.cookie)).toBe("");
  expect(await page.content()).not.toContain(cookie?.value);
});

test("sign-in leads nowhere but to a list", async ({ page, account }) => {
  await open(page, "/sign-in?next=https%3A%2F%2Felsewhere.example%2F");
  await enter(page, account);
  await expect(field(page)).toBeVisible();
  expect(new URL(page.url()).pathname).toBe("/");
});

test("who is signed in needs no sign-in", async ({ page, todos }) => {
  const title = await todos.create("Here already");
  await page.goto("/sign-in?next=/active");
  await expect(page).toHaveURL(/\/active$/);
  await expect(row(page, title)).toBeVisible();
});

test("a session that ends in mid-use: said, kept, and sent after signing in in place", async ({ page, todos, complaints }) => {
  await open(page);
  await todos.signOut();
  await add(page, "Not lost");
  await field(page).fill("Half a thou");
  await expect(page.getByRole("status")).toContainText("You have been signed out. Sign in to continue. One change is kept");
  await page.getByRole("status").getByRole("button", { name: "Sign in" }).click();
  const dialog = page.getByRole("dialog", { name: "Sign in to continue" });
  await expect(email(page)).toHaveValue(todos.email);
  await expect(password(page)).toBeFocused();
  await page.keyboard.type(`${todos.password}\n`);
  await expect(dialog).toHaveCount(0);
  await expect(page.getByRole("status")).toBeEmpty();
  await expect(field(page)).toHaveValue("Half a thou");
  await expect(row(page, "Not lost")).not.toHaveAttribute("aria-busy");
  await page.reload();
  await expect(row(page, "Not lost")).toHaveCount(1);
  refusedOnPurpose(complaints);
});

test("somebody else who signs in in another tab gets nothing of this one", async ({ page, context, todos, complaints }) => {
  await open(page);
  const other = await context.newPage();
  await open(other);
  await menu(other);
  await other.getByRole("button", { name: "Sign out" }).click();
  await other.getByRole("link", { name: "Create an account" }).click();
  await alive(other);
  const somebody = { email: newEmail(), password: newPassword() };
  await enter(other, somebody);
  await expect(other.getByText("Nothing to do yet")).toBeVisible();
  await alive(other);

  await expect(page.getByRole("status")).toContainText("Another user has signed in");
  await add(page, "For my eyes only");
  await expect(page.getByRole("status")).toContainText("One change is kept");
  await other.reload();
  await expect(other.getByText("Nothing to do yet")).toBeVisible();

  const { origin } = new URL(other.url());
  expect((await other.request.delete("/api/v1/me", { headers: { origin }, data: { password: somebody.password } })).status()).toBe(204);
  refusedOnPurpose(complaints);
  await todos.signIn();
  await todos.expectTodos({});
});

for (const javaScriptEnabled of [true, false]) {
  test.describe(`the account's page ${javaScriptEnabled ? "with" : "without"} JavaScript`, () => {
    test.use({ javaScriptEnabled });

    test("a new password ends all other sessions", async ({ page, todos }) => {
      await page.goto("/account");
      const changed = newPassword();
      await page.getByLabel("Password now").fill("wrong-password");
      await page.getByLabel("New password").fill(changed);
      await page.getByRole("button", { name: "Change password" }).click();
      await expect(page.getByRole("alert").first()).toContainText("password");
      expect((await todos.call("GET", "/me")).status()).toBe(200);

      await page.getByLabel("Password now").fill(todos.password);
      await page.getByLabel("New password").fill(changed);
      await page.getByRole("button", { name: "Change password" }).click();
      await expect(page.getByRole("status")).toHaveText("The password is changed. Other sessions have ended.");
      expect((await todos.call("GET", "/me")).status()).toBe(401);
      expect(await todos.signIn()).toBe(false);
      await page.getByRole("link", { name: "Back to your todos" }).click();
      await expect(field(page)).toBeVisible();

      await page.goto("/account");
      await page.getByLabel("Password now").fill(changed);
      await page.getByLabel("New password").fill(todos.password);
      await page.getByRole("button", { name: "Change password" }).click();
      await expect(page).toHaveURL(/\/account\?changed=$/);
    });

    test("signing out everywhere ends all sessions", async ({ page, todos }) => {
      const before = todos.token;
      expect(await todos.signIn()).toBe(true);
      expect(todos.token).not.toBe(before);
      await page.goto("/account");
      await page.getByRole("button", { name: "Sign out everywhere" }).click();
      await expect(page).toHaveURL(/\/sign-in\?notice=signed-out$/);
      expect((await todos.call("GET", "/me")).status()).toBe(401);
      await page.goto("/account");
      await expect(page).toHaveURL(/\/sign-in/);
    });
  });
}
