/**
 * Generates lib/api/api-types.ts from openapi.json, a copy of the backend's: `node scripts/api-types.mjs`.
 * With `--check` it writes nothing, and fails if the types are outdated.
 */
import { readFileSync, writeFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";

const DOCUMENT = new URL("../openapi.json", import.meta.url);
const TYPES = new URL("../lib/api/api-types.ts", import.meta.url);
const HEAD = `/* Generated from openapi.json by scripts/api-types.mjs: change the backend's schemas instead. */

`;

const ast = await openapiTS(readFileSync(DOCUMENT, "utf8"), {
  rootTypes: true,
  rootTypesNoSchemaPrefix: true,
  // A field with a default is optional in requests, but always in answers.
  defaultNonNullable: false,
});
const types = HEAD + astToString(ast);

if (!process.argv.includes("--check")) {
  writeFileSync(TYPES, types);
} else if (readFileSync(TYPES, "utf8") !== types) {
  console.error("lib/api/api-types.ts is not what openapi.json says. Run: node scripts/api-types.mjs");
  process.exit(1);
}
