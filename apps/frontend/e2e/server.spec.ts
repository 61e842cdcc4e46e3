import { gzipSync } from "node:zlib";
import { box, expect, field, open, row, test } from "./fixtures.ts";

test("the page comes from the server with the todos that are stored", async ({ request, todos }) => {
  const title = await todos.create("Rendered <on> the server");
  const html = await (await request.get("/")).text();
  expect(html).toContain(title.replace("<on>", "&lt;on&gt;"));
});

test.describe("without JavaScript", () => {
  test.use({ javaScriptEnabled: false });

  test("todos are shown, added, completed and deleted by plain forms", async ({ page, todos }) => {
    const old = await todos.create("Stored before");
    await page.goto("/active");
    await expect(row(page, old)).toBeVisible();

    const fresh = todos.name("By a plain form");
    await field(page).fill(fresh);
    await field(page).press("Enter");
    await expect(page).toHaveURL(/\/active$/);
    await expect(row(page, fresh)).toBeVisible();

    await box(page, old).click();
    await expect(row(page, old)).toHaveCount(0);
    await todos.expectMine({ [old]: true, [fresh]: false });

    await page.goto("/completed");
    await page.getByRole("button", { name: `Delete “${old}”` }).click();
    await expect(row(page, old)).toHaveCount(0);
    await todos.expectMine({ [fresh]: false });
  });
});

test("a form from another site is refused", async ({ request, todos }) => {
  const response = await request.post("/form", {
    headers: { origin: "https://elsewhere.example", "sec-fetch-site": "cross-site" },
    form: { do: "add", title: todos.name("Forged") },
  });
  expect(response.status()).toBe(403);
  await todos.expectMine({});
});

test("health, and the headers of every answer", async ({ request }) => {
  const health = await request.get("/healthz");
  expect(health.status()).toBe(200);
  const page = await request.get("/");
  for (const response of [health, page]) {
    const headers = response.headers();
    expect(headers["x-served-by"]).toMatch(/^todo-frontend\/.+/);
    expect(headers["x-content-type-options"]).toBe("nosniff");
    expect(headers["content-security-policy"]).toContain("frame-ancestors 'none'");
    expect(headers["x-powered-by"]).toBeUndefined();
  }
  const nonce = /'nonce-([^']+)'/.exec(page.headers()["content-security-policy"] ?? "")?.[1];
  expect(nonce).toBeTruthy();
  const scripts = (await page.text()).match(/<script[^>]*>/g) ?? [];
  expect(scripts.length).toBeGreaterThan(3);
  expect(scripts.filter((tag) => !tag.includes(`nonce="${nonce}"`))).toEqual([]);
  expect(page.headers()["cache-control"]).toContain("no-store");
});

test("the environment is shown", async ({ page }) => {
  await page.goto("/");
  const badge = page.getByText("Environment:").locator("..");
  await expect(badge).toBeVisible();
  await expect(badge).toHaveText(`Environment: ${process.env.EXPECT_ENVIRONMENT ?? "dev"}`);
});

test("the browser asks this address alone, and the API by /api/v1", async ({ page, todos, baseURL }) => {
  const requested: string[] = [];
  page.on("request", (request) => requested.push(request.url()));
  await open(page);
  const title = todos.name("Watched");
  await field(page).fill(title);
  await field(page).press("Enter");
  await todos.expectMine({ [title]: false });
  const origin = new URL(baseURL ?? "").origin;
  expect(requested.filter((url) => new URL(url).origin !== origin)).toEqual([]);
  const called = requested.map((url) => new URL(url).pathname).filter((path) => path.includes("/api"));
  expect(called).toEqual(["/api/v1/todos"]);
});

test("the first page needs at most 150 kB of JavaScript", async ({ page, request }) => {
  const scripts = new Set<string>();
  page.on("request", (asked) => {
    if (asked.resourceType() === "script") scripts.add(asked.url());
  });
  await open(page);
  let size = 0;
  for (const url of scripts) size += gzipSync(await (await request.get(url)).body()).length;
  console.log(`first load: ${scripts.size} scripts, ${(size / 1000).toFixed(1)} kB gzipped`);
  expect(size).toBeLessThanOrEqual(150_000);
});

test("an address that does not exist says so", async ({ page, complaints }) => {
  const response = await page.goto("/nothing-here");
  expect(response?.status()).toBe(404);
  await page.getByRole("link", { name: "Go to your todos" }).click();
  await expect(field(page)).toBeVisible();
  expect(complaints.splice(0).filter((text) => !text.includes("404"))).toEqual([]);
});
