/**
 * Runs `next dev` on the sources from standard input, for `cargo xtask dev`. Restarts it after a crash.
 * Next itself watches the files. The end of standard input ends everything.
 */
import { spawn } from "node:child_process";
import { mkdirSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";

process.chdir("/app");
/** @type {import("node:child_process").ChildProcess | undefined} */
let next;

/** Writes a line for xtask; its first character never occurs in a log. @param {object} event */
const tell = (event) => process.stdout.write(`\x1e${JSON.stringify(event)}\n`);

function start() {
  const debug = process.env.DEBUG_PORT ? [`--inspect=0.0.0.0:${process.env.DEBUG_PORT}`] : [];
  const args = ["node_modules/next/dist/bin/next", "dev", "--port=3000", "--hostname=0.0.0.0", ...debug];
  next = spawn(process.execPath, args, { stdio: ["ignore", 1, 1], detached: true });
  next.on("exit", (code) => {
    kill();
    next = undefined;
    tell({ event: "crashed", code });
  });
}

/** Includes Next's own children. */
function kill() {
  try {
    if (next?.pid) process.kill(-next.pid, "SIGKILL");
  } catch {
    // They have already ended.
  }
}

function end() {
  next?.removeAllListeners("exit");
  kill();
  process.exit(0);
}

process.on("SIGTERM", end);
process.on("SIGINT", end);
const saves = createInterface({ input: process.stdin });
saves.on("close", end);
saves.on("line", (line) => {
  const { put = {}, gone = [] } = JSON.parse(line);
  for (const path of gone) {
    rmSync(path, { force: true });
    // A file may replace an empty folder.
    try {
      for (let folder = dirname(path); folder !== "."; folder = dirname(folder)) rmdirSync(folder);
    } catch {
      // The folder has other files.
    }
  }
  for (const [path, content] of Object.entries(put)) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, Buffer.from(content, "base64"));
  }
  if (!next) start();
});
