import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: {
    alias: { "@": import.meta.dirname },
  },
  oxc: { jsx: { runtime: "automatic" } },
  test: {
    // Writes nothing here, because the folder belongs to another user in the test image.
    fsModuleCache: false,
    environment: "jsdom",
    include: ["tests/**/*.test.{ts,tsx}"],
    setupFiles: ["tests/setup.ts"],
    restoreMocks: true,
    // Only a test that hangs gets here: a busy machine needs many times what an idle one needs.
    testTimeout: 180_000,
    hookTimeout: 180_000,
  },
});
