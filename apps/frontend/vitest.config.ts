import { defineConfig } from "vitest/config";

export default defineConfig({
  // The test image's own folders belong to another user.
  cacheDir: "/tmp/todo-frontend-vitest",
  resolve: {
    alias: {
      "@": import.meta.dirname,
      // Only Next's bundler knows it; here it guards nothing.
      "server-only": `${import.meta.dirname}/tests/nothing.ts`,
    },
  },
  oxc: { jsx: { runtime: "automatic" } },
  test: {
    environment: "jsdom",
    include: ["tests/**/*.test.{ts,tsx}"],
    setupFiles: ["tests/setup.ts"],
    restoreMocks: true,
    testTimeout: 10_000,
  },
});
