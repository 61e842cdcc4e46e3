import { defineConfig } from "@playwright/test";
import base from "./playwright.config.ts";

/** For `cargo xtask test dev` alone, which saves files while the test looks on. */
export default defineConfig({ ...base, testMatch: "dev.live.ts", reporter: "list", timeout: 120_000 });
