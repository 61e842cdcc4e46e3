import { gzipSync } from "node:zlib";
import type { Page } from "@playwright/test";
import { box, expect, field, open, row, test } from "./fixtures.ts";

test("the page comes from the server with the todos that are stored", async ({ page, todos }) => {
  const title = await todos.create("Rendered <on> the server");
  const html = await (await page.request.get("/")).text();
  expect(html).toContain(title.replace("<on>", "&lt;on&gt;"));
});

test.describe("without JavaScript", () => {
  test.use({ javaScriptEnabled: false });

  test("todos are shown, added, completed and deleted by plain forms", async ({ page, todos }) => {
    const old = await todos.create("Stored before");
    await page.goto("/active");
    await expect(row(page, old)).toBeVisible();

    const fresh = "By a plain form";
    await field(page).fill(fresh);
    await field(page).press("Enter");
    await expect(page).toHaveURL(/\/active$/);
    await expect(row(page, fresh)).toBeVisible();

    await box(page, old).click();
    await expect(row(page, old)).toHaveCount(0);
    await todos.expectTodos({ [old]: true, [fresh]: false });

    await page.goto("/completed");
    await page.getByRole("button", { name: `Delete “${old}”` }).click();
    await expect(row(page, old)).toHaveCount(0);
    await todos.expectTodos({ [fresh]: false });
  });

  test("a long list has a way to its end, and back", async ({ page, todos }) => {
    for (let number = 1; number <= 25; number += 1) await todos.create(`Todo ${number}`);
    await page.goto("/");
    await expect(page.getByRole("listitem")).toHaveCount(20);
    await page.getByRole("link", { name: "More todos" }).click();
    await expect(row(page, "Todo 25")).toBeVisible();
    await expect(page.getByRole("listitem")).toHaveCount(5);
    await page.getByRole("link", { name: "From the beginning" }).click();
    await expect(page.getByRole("listitem")).toHaveCount(20);
  });
});

test("a form from another site is refused", async ({ page, todos }) => {
  const response = await page.request.post("/form", {
    headers: { origin: "https://elsewhere.example", "sec-fetch-site": "cross-site" },
    form: { do: "add", title: "Forged" },
  });
  expect(response.status()).toBe(403);
  await todos.expectTodos({});
});

test("health, and the headers of every answer", async ({ page, todos }) => {
  const { request } = page;
  expect((await request.get("/healthz")).status()).toBe(200);
  await todos.create("On the page");
  for (const path of ["/healthz", "/", "/active", "/account", "/account/delete", "/nothing-here"]) {
    const headers = (await request.get(path)).headers();
    expect(headers["x-served-by"]).toMatch(/^todo-frontend\/.+/);
    expect(headers["x-content-type-options"]).toBe("nosniff");
    expect(headers["x-powered-by"]).toBeUndefined();
    const policy = headers["content-security-policy"] ?? "";
    expect(policy).not.toContain("unsafe");
    for (const rule of ["default-src 'self'", "frame-ancestors 'none'", "form-action 'self'", "object-src 'none'"]) {
      expect(policy).toContain(rule);
    }
  }
});

for (const path of ["/", "/sign-in", "/sign-up", "/account", "/account/delete"]) {
  test(`every script of ${path} has the nonce of its answer, which nobody may keep`, async ({ page, todos }) => {
    await todos.create("On the page");
    // A signed-in user needs no sign-in page.
    const response = path.startsWith("/sign") ? await fetchAnonymously(page, path) : await page.request.get(path);
    expect(response.url()).toContain(path);
    const nonce = /'nonce-([^']+)'/.exec(response.headers()["content-security-policy"] ?? "")?.[1];
    expect(nonce).toBeTruthy();
    const scripts = (await response.text()).match(/<script[^>]*>/g) ?? [];
    expect(scripts.length).toBeGreaterThan(3);
    expect(scripts.filter((tag) => !tag.includes(`nonce="${nonce}"`))).toEqual([]);
    expect(response.headers()["cache-control"]).toContain("no-store");
  });
}

async function fetchAnonymously(page: Page, path: string) {
  await page.context().clearCookies();
  return page.request.get(path);
}

test("the environment is shown", async ({ page }) => {
  await page.goto("/sign-in");
  const badge = page.getByText("Environment:").locator("..");
  await expect(badge).toBeVisible();
  await expect(badge).toHaveText(`Environment: ${process.env.EXPECT_ENVIRONMENT ?? "dev"}`);
});

test("the browser asks this address alone, and the API by /api/v1", async ({ page, todos, baseURL }) => {
  const requested: string[] = [];
  page.on("request", (request) => requested.push(request.url()));
  await open(page);
  const title = "Watched";
  await field(page).fill(title);
  await field(page).press("Enter");
  await todos.expectTodos({ [title]: false });
  const origin = new URL(baseURL ?? "").origin;
  expect(requested.filter((url) => new URL(url).origin !== origin)).toEqual([]);
  const called = requested.map((url) => new URL(url).pathname).filter((path) => path.includes("/api"));
  expect(called).toContain("/api/v1/todos");
  expect(called.filter((path) => !path.startsWith("/api/v1/"))).toEqual([]);
});

for (const path of ["/", "/sign-in"]) {
  test(`the first load of ${path} needs at most 134 kB of JavaScript`, async ({ page, todos }) => {
    await todos.create("On the page");
    if (path !== "/") await page.context().clearCookies();
    const scripts = new Set<string>();
    page.on("request", (asked) => {
      if (asked.resourceType() === "script") scripts.add(asked.url());
    });
    await open(page, path);
    let size = 0;
    for (const url of scripts) size += gzipSync(await (await page.request.get(url)).body()).length;
    console.log(`first load of ${path}: ${scripts.size} scripts, ${(size / 1000).toFixed(1)} kB gzipped`);
    expect(size).toBeLessThanOrEqual(134_000);
  });
}

test("HEAD works wherever GET does, and no method is an error of the server", async ({ page, todos }) => {
  await todos.create("Asked for by HEAD");
  const ask = (method: string, path: string) => page.request.fetch(path, { method, maxRedirects: 0 });
  for (const path of ["/", "/sign-in", "/account", "/account/delete", "/healthz", "/icon.svg", "/nothing-here", "/api/v1/todos", "/api/v1/health"]) {
    const [get, head] = [await ask("GET", path), await ask("HEAD", path)];
    expect([head.status(), await head.text()], path).toEqual([get.status(), ""]);
    for (const method of ["OPTIONS", "TRACE", "PUT"]) expect((await ask(method, path)).status(), `${method} ${path}`).toBeLessThan(500);
  }
});

test("an address that does not exist says so", async ({ page, todos, complaints }) => {
  await todos.create("Still here");
  const response = await page.goto("/nothing-here");
  expect(response?.status()).toBe(404);
  await page.getByRole("link", { name: "Go to your todos" }).click();
  await expect(row(page, "Still here")).toBeVisible();
  expect(complaints.splice(0).filter((text) => !text.includes("404"))).toEqual([]);
});
