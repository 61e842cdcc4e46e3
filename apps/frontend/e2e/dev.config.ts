import { defineConfig } from "@playwright/test";
import base from "./playwright.config.ts";

/** Only for `cargo xtask test dev`, which saves files during the test. */
export default defineConfig({ ...base, testMatch: "dev.live.ts", reporter: "list", timeout: 120_000 });
