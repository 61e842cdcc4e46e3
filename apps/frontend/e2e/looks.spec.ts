import { expect, open, row, test } from "./fixtures.ts";
import { expectAccessible, expectFits, shoot } from "./looks.ts";

const WEEK = [
  ["Book the train to Lisbon", true],
  ["Answer Mara about Saturday", false],
  ["Water the plants on the balcony", true],
  ["Read the chapter on optimistic updates, and try out what happens when the server says no", false],
  ["Buy coffee ☕ and bread", false],
] as const;

const LOOKS = [
  { name: "light", colorScheme: "light", width: 1000, height: 720, touch: false },
  { name: "dark", colorScheme: "dark", width: 1000, height: 720, touch: false },
  { name: "phone", colorScheme: "light", width: 390, height: 844, touch: true },
  { name: "narrow", colorScheme: "dark", width: 320, height: 640, touch: true },
] as const;

for (const { name, colorScheme, width, height, touch } of LOOKS) {
  test.describe(name, () => {
    test.use({ colorScheme, viewport: { width, height }, hasTouch: touch, isMobile: touch });

    test("fits, is accessible, and can be seen", async ({ page, todos }) => {
      for (const [text, completed] of WEEK) await todos.create(text, completed);
      const long = await todos.create("Donaudampfschifffahrtsgesellschaft".repeat(4));
      await open(page);
      await expect(row(page, long)).toBeVisible();
      await expectFits(page);
      await expectAccessible(page);
      await page.getByRole("textbox", { name: "New todo" }).fill("x");
      await expectAccessible(page);
      await page.getByRole("textbox", { name: "New todo" }).fill("");
      await row(page, long).getByRole("button", { name: /^Edit/ }).click();
      await expectAccessible(page);
      await page.keyboard.press("Escape");
      await row(page, long).getByRole("button", { name: /^Delete/ }).click();
      await expect(row(page, long)).toHaveCount(0);
      await page.getByRole("textbox", { name: "New todo" }).focus();
      await page.mouse.move(0, 0);
      await shoot(page, name);
    });

    test("a notice is accessible, too", async ({ page, context, todos, complaints }) => {
      await open(page);
      await context.setOffline(true);
      const title = "Later";
      await page.getByPlaceholder("What needs to be done?").fill(title);
      await page.keyboard.press("Enter");
      await expect(page.getByRole("status")).toContainText("You are offline");
      await expectAccessible(page);
      await shoot(page, `${name}-offline`);
      await context.setOffline(false);
      await todos.expectTodos({ [title]: false });
      await expect(page.getByRole("status")).toBeEmpty();
      expect(complaints.splice(0).filter((text) => !/net::ERR_|Failed to load/.test(text))).toEqual([]);
    });

    test("sign-in and sign-up fit, are accessible, and can be seen", async ({ page, complaints }) => {
      for (const path of ["/sign-in", "/sign-up"]) {
        await open(page, path);
        await expectFits(page);
        await expectAccessible(page);
        await shoot(page, `${name}${path.replace("/", "-")}`);
        await page.getByRole("textbox", { name: "Email" }).fill("nobody");
        await page.locator("form button").click();
        await expect(page.getByText("Enter an email address such as")).toBeVisible();
        await expectFits(page);
        await expectAccessible(page);
        await shoot(page, `${name}${path.replace("/", "-")}-refused`);
      }
      expect(complaints).toEqual([]);
    });

    test("the account's menu and its end, and sign-in in place", async ({ page, todos, complaints }) => {
      await todos.create("Left to do");
      await open(page);
      await page.getByRole("main").waitFor();
      await page.locator("summary").click();
      await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();
      await expectFits(page);
      await expectAccessible(page);
      await shoot(page, `${name}-menu`);
      await page.keyboard.press("Escape");
      await todos.signOut();
      await page.getByRole("textbox", { name: "New todo" }).fill("Typed too late");
      await page.keyboard.press("Enter");
      await page.getByRole("status").getByRole("button", { name: "Sign in" }).click();
      await expect(page.getByRole("dialog")).toBeVisible();
      await expectFits(page);
      await expectAccessible(page);
      await shoot(page, `${name}-signed-out`);
      await page.getByLabel("Password").fill(todos.password);
      await page.keyboard.press("Enter");
      await expect(page.getByRole("dialog")).toHaveCount(0);
      await expect(page.getByRole("status")).toBeEmpty();
      for (const [path, shot] of [["/account", "account"], ["/account/delete", "delete"]] as const) {
        await page.goto(path);
        await expectFits(page);
        await expectAccessible(page);
        await shoot(page, `${name}-${shot}`);
      }
      expect(complaints.splice(0).filter((text) => !text.includes("401"))).toEqual([]);
    });
  });
}

test("an empty list is accessible and says what to do", async ({ page, todos }) => {
  await open(page);
  await expect(page.getByText("Nothing to do yet")).toBeVisible();
  // The row shows the field's focus; in forced colors, the field's own outline does.
  const field = page.getByRole("textbox", { name: "New todo" });
  const transparent = "rgba(0, 0, 0, 0)";
  await expect(field).toBeFocused();
  await expect(field).toHaveCSS("outline-style", "solid");
  await expect(field).toHaveCSS("outline-color", transparent);
  await page.emulateMedia({ forcedColors: "active" });
  await expect(field).toHaveCSS("outline-style", "solid");
  await expect(field).not.toHaveCSS("outline-color", transparent);
  await page.emulateMedia({ forcedColors: "none" });
  await expectAccessible(page);
  await shoot(page, "empty");
  await todos.create("Not completed");
  await open(page, "/completed");
  await expect(page.getByText("Nothing completed yet")).toBeVisible();
  await expectAccessible(page);
});
