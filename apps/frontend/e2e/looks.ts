import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, type Page } from "@playwright/test";
import axe from "axe-core";

/** Checks that pages fit and are readable, and takes screenshots. */

/** Folder for screenshots; without it there are none. */
export const PICTURES = process.env.SCREENSHOT_DIR;

/** Checks that neither the page nor a dialog scrolls horizontally. */
export async function expectFits(page: Page): Promise<void> {
  const overflow = await page.evaluate(() =>
    [document.documentElement, ...document.querySelectorAll("dialog[open], dialog[open] *")]
      .filter((element) => element.scrollWidth > element.clientWidth + 1 && !element.matches(".visually-hidden"))
      .filter((element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX) || element === document.documentElement)
      .map((element) => element.outerHTML.slice(0, 120)),
  );
  expect(overflow).toEqual([]);
}

export async function expectAccessible(page: Page): Promise<void> {
  await settled(page);
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe.source);
  const { violations } = await page.evaluate<axe.AxeResults>('axe.run({ resultTypes: ["violations"] })');
  const findings = violations.filter(({ impact }) => impact !== "minor");
  expect(findings.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`)).toEqual([]);
}

export async function shoot(page: Page, name: string): Promise<void> {
  if (!PICTURES) return;
  await settled(page);
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`), animations: "disabled" });
}

/** Waits until all animations have ended. */
async function settled(page: Page): Promise<void> {
  await page.evaluate(() => Promise.allSettled(
    document.getAnimations().filter((one) => one.effect?.getComputedTiming().iterations !== Infinity).map((one) => one.finished),
  ));
}
