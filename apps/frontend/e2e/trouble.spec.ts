import { add, box, expect, field, open, row, test } from "./fixtures.ts";

const API = "**/api/v1/todos*";

// Ignores the browser's reports of the simulated errors; other errors of the page still count.
test.afterEach(({ complaints }) => {
  const own = complaints.splice(0).filter((text) => !/Failed to load resource|net::ERR_/.test(text));
  expect(own).toEqual([]);
});

test("a backend that is away: said, kept, sent again", async ({ page, todos }) => {
  let refused = 0;
  await page.route(API, async (route) => {
    if (route.request().method() === "POST" && refused < 2) {
      refused += 1;
      await route.fulfill({
        status: 503,
        headers: { "retry-after": "1" },
        contentType: "application/problem+json",
        json: { title: "Service Unavailable", detail: "The database is away" },
      });
    } else await route.continue();
  });
  await open(page);
  const title = "Through the outage";
  await add(page, title);
  await expect(page.getByRole("status")).toContainText("The server is not answering. One change is kept");
  await todos.expectTodos({ [title]: false });
  await expect(page.getByRole("status")).toBeEmpty();
  expect(refused).toBe(2);
});

test("a browser that is offline: said, kept, sent when it is back", async ({ page, context, todos }) => {
  await open(page);
  await context.setOffline(true);
  const [one, two] = ["Typed on the train", "In the tunnel"];
  await add(page, one);
  await add(page, two);
  await box(page, one).click();
  await expect(page.getByRole("status")).toContainText("You are offline. 3 changes are kept");
  await page.getByRole("link", { name: "Active" }).click();
  await expect(row(page, two)).toBeVisible();
  await context.setOffline(false);
  await todos.expectTodos({ [one]: true, [two]: false });
  await expect(page.getByRole("status")).toBeEmpty();
});

test("a refusal: taken back, said, and what was typed returned", async ({ page, todos }) => {
  const kept = await todos.create("Not to be changed");
  await open(page);
  await page.route("**/api/v1/todos**", (route) =>
    route.fulfill({ status: 422, json: { title: "Unprocessable", detail: "Not today" } }),
  );
  const title = "Refused";
  await field(page).fill(title);
  await field(page).press("Enter");
  await expect(page.getByRole("alert").filter({ hasText: title })).toContainText("Not today");
  await expect(row(page, title)).toHaveCount(0);
  await expect(field(page)).toHaveValue(title);

  await box(page, kept).click();
  await expect(page.getByRole("alert").filter({ hasText: kept })).toContainText("was not changed");
  await expect(box(page, kept)).not.toBeChecked();
  // Each rejected text stays until the user handles it.
  for (const left of [1, 0]) {
    await page.getByRole("button", { name: "Dismiss" }).first().click();
    await expect(page.getByRole("button", { name: "Dismiss" })).toHaveCount(left);
  }
});

test("a page that the server has spoilt: trying again loads it anew", async ({ page, todos, complaints }) => {
  const title = await todos.create("Here again");
  await page.route("/", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: (await response.text()).replace(`"title":"${title}"`, '"title":{}') });
  });
  await page.goto("/");
  await expect(page.getByText("Something went wrong on this page")).toBeVisible();
  complaints.splice(0);
  await page.unroute("/");
  await page.getByText("Try again").click();
  await expect(row(page, title)).toBeVisible();
});
