import { defineConfig } from "@playwright/test";

/**
 * Tests the deployed application at BASE_URL. Each test creates and deletes its own users. Tests run
 * one at a time, because the machine is small and other suites measure times on it.
 */
export default defineConfig({
  testDir: ".",
  outputDir: process.env.OUTPUT_DIR ?? "/tmp/e2e-output",
  workers: 1,
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
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: [
        "--no-sandbox", // the container is the sandbox
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});
