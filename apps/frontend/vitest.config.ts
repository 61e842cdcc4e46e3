import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: {
    alias: {
      "@": import.meta.dirname,
      // Only Next's bundler knows it; here it guards nothing.
      "server-only": `${import.meta.dirname}/tests/nothing.ts`,
    },
  },
  oxc: { jsx: { runtime: "automatic" } },
  test: {
    // Nothing is written here: in the test image the folder belongs to another user.
    fsModuleCache: false,
    environment: "jsdom",
    include: ["tests/**/*.test.{ts,tsx}"],
    setupFiles: ["tests/setup.ts"],
    restoreMocks: true,
    testTimeout: 10_000,
  },
});
