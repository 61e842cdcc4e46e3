/**
 * Runs lint, types and unit tests at the same time, and prints `N passed, N failed` on the last line. The API's types, lint
 * and types count as one each.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";

const scratch = mkdtempSync(join(tmpdir(), "todo-frontend-check-"));
const results = join(scratch, "vitest.json");

/** @param {string} name @param {string[]} args @param {"pipe" | "inherit"} stdout */
async function run(name, args, stdout = "pipe") {
  // With more memory for new objects and no helper threads, the garbage collection of lint takes a sixth less CPU time.
  const options = ["--max-semi-space-size=64", "--single-threaded-gc"];
  const child = spawn(process.execPath, [...options, ...args], { stdio: ["ignore", stdout, "inherit"] });
  const [[status], output] = await Promise.all([once(child, "close"), child.stdout ? text(child.stdout) : ""]);
  return { good: status === 0, output: `\n== ${name}\n${output}${status === 0 ? `${name}: passed` : `FAILED ${name}`}` };
}

if (!existsSync("next-env.d.ts")) await run("typegen", ["node_modules/next/dist/bin/next", "typegen"], "inherit");
const [unit, ...others] = await Promise.all([
  run("unit tests", [
    // This loader writes nothing next to the configuration, whose folder may be read-only.
    "node_modules/vitest/vitest.mjs", "run", "--configLoader=native",
    "--reporter=default", "--reporter=json", `--outputFile.json=${results}`,
  ], "inherit"),
  run("types of the API", ["scripts/api-types.mjs", "--check"]),
  run("lint", ["node_modules/eslint/bin/eslint.js", "--max-warnings", "0", "."]),
  run("types", ["node_modules/typescript/bin/tsc", "--noEmit", "--incremental", "false"]),
]);
const figures = existsSync(results) ? JSON.parse(readFileSync(results, "utf8")) : {};
// Failures outside of tests count too: a file that does not load, an unhandled error, no tests.
const broken = (!unit.good || !figures.numPassedTests) && !figures.numFailedTests;
const passed = (figures.numPassedTests ?? 0) + others.filter(({ good }) => good).length;
const failed = (figures.numFailedTests ?? 0) + others.filter(({ good }) => !good).length + (broken ? 1 : 0);
for (const { output } of [unit, ...others]) console.log(output);

rmSync(scratch, { recursive: true });
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
