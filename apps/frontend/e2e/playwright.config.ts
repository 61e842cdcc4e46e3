import { defineConfig } from "@playwright/test";

/**
 * Tests the deployed application at BASE_URL. Each test creates and deletes its own users, so two run
 * at a time: some wait for the application's timers, and the other one works.
 */
export default defineConfig({
  testDir: ".",
  outputDir: process.env.OUTPUT_DIR ?? "/tmp/e2e-output",
  fullyParallel: true,
  workers: 2,
  retries: 0,
  forbidOnly: true,
  timeout: 30_000,
  globalTimeout: 8 * 60_000,
  expect: { timeout: 7_000 },
  reporter: [["list"], ["./figures.ts"]],
  use: {
    baseURL: process.env.BASE_URL ?? "http://localhost:8080",
    viewport: { width: 1100, height: 800 },
    locale: "en-GB",
    colorScheme: "light",
    actionTimeout: 7_000,
    navigationTimeout: 15_000,
    launchOptions: { executablePath: "/usr/bin/chromium-headless-shell", args: ["--disable-gpu"] },
  },
});
