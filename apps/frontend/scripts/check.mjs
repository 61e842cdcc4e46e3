/**
 * Runs lint, types and unit tests, also after a failure, and prints `N passed, N failed` on the last
 * line. The API's types, lint and types count as one each.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const scratch = mkdtempSync(join(tmpdir(), "todo-frontend-check-"));
const results = join(scratch, "vitest.json");

/** @param {string} name @param {string[]} args */
function run(name, args) {
  console.log(`\n== ${name}`);
  const { status, error } = spawnSync(process.execPath, args, { stdio: "inherit" });
  if (error) console.error(`${name}: ${error.message}`);
  console.log(status === 0 ? `${name}: passed` : `FAILED ${name}`);
  return status === 0;
}

let passed = 0;
let failed = 0;
/** @param {boolean} good */
const count = (good) => (good ? (passed += 1) : (failed += 1));

const unit = run("unit tests", [
  // This loader writes nothing next to the configuration, whose folder may be read-only.
  "node_modules/vitest/vitest.mjs", "run", "--configLoader=native",
  "--reporter=default", "--reporter=json", `--outputFile.json=${results}`,
]);
const figures = existsSync(results) ? JSON.parse(readFileSync(results, "utf8")) : {};
passed += figures.numPassedTests ?? 0;
failed += figures.numFailedTests ?? 0;
// Includes failures outside of tests: a file that does not load, an unhandled error, no tests.
if ((!unit || !figures.numPassedTests) && !figures.numFailedTests) failed += 1;

// Last and short, so that the end of the output shows the failures.
count(run("types of the API", ["scripts/api-types.mjs", "--check"]));
count(run("lint", ["node_modules/eslint/bin/eslint.js", "--max-warnings", "0", "."]));
if (!existsSync("next-env.d.ts")) run("typegen", ["node_modules/next/dist/bin/next", "typegen"]);
count(run("types", ["node_modules/typescript/bin/tsc", "--noEmit", "--incremental", "false"]));

rmSync(scratch, { recursive: true });
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
