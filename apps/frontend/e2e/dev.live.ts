import { expect, test } from "@playwright/test";

/** Prints when it waits for a saved line, and when the page shows the line. */
test("saved lines are shown, and what was typed stays", async ({ page }) => {
  await page.goto("/sign-in", { waitUntil: "networkidle" });
  const email = page.getByLabel("Email");
  await email.fill("kept@example.com");
  // A reload would lose it.
  await page.evaluate(() => Object.assign(window, { kept: true }));
  for (let round = 1; round <= Number(process.env.ROUNDS); round++) {
    console.log(`waits ${round}`);
    await page.waitForFunction((text) => document.body.innerText.includes(text), `Round ${round}.`, { timeout: 20_000 });
    console.log(`seen ${round} ${Date.now()}`);
    expect(await page.evaluate(() => "kept" in window)).toBe(true);
    await expect(email).toHaveValue("kept@example.com");
  }
});
