// Does exactly what docs/expo.md says, from an empty folder: packs the client, makes an app with create-expo-app, saves the files of the page, starts it, and lets two
// members chat in two browsers. Needs the network of npm, Chromium, and the release build. It is no part of tests/run.sh: it installs some 700 packages.
//
//   (cd tests/browser && npm ci) && CHROMIUM=chromium node tests/quickstart.mjs

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const root = resolve(new URL("..", import.meta.url).pathname);
const { chromium } = createRequire(join(root, "tests/browser/package.json"))("playwright-core");
const page = await readFile(join(root, "docs/expo.md"), "utf8");
const blocks = [...page.matchAll(/<!-- quickstart: (\S+) -->\n```\w+\n([\s\S]*?)```/g)].map(([, name, text]) => ({ name, text }));
const folder = await mkdtemp(join(tmpdir(), "members-book-quickstart-"));
await symlink(root, join(folder, "members-book"));
const environment = { ...process.env, CI: "1", EXPO_OFFLINE: "1", EXPO_NO_TELEMETRY: "1" };
const children = [];
const started = Date.now();
const step = (text) => console.log(`${String(Math.round((Date.now() - started) / 1000)).padStart(4)} s  ${text}`);

/** Starts something, and waits until it has printed what is looked for. */
function start(command, args, options, pattern) {
  const child = spawn(command, args, { ...options, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  let printed = "";
  return new Promise((done, failed) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (text) => {
        printed += text;
        if (pattern.test(printed)) done(printed);
      });
    }
    child.once("exit", (code) => failed(new Error(`${command} ended with ${code}: ${printed}`)));
  });
}

try {
  const data = await mkdtemp(join(folder, "server-"));
  await start(join(root, "target/release/members-book"), [], { cwd: data, env: { ...environment, METRICS_ADDR: "off" } }, /API +http/);
  step("the server runs");
  const shell = blocks.filter(({ name }) => name === "shell").map(({ text }) => text).join("\n");
  const made = spawnSync("bash", ["-eo", "pipefail", "-c", shell], { cwd: folder, env: environment, encoding: "utf8", timeout: 9 * 60_000 });
  assert.equal(made.status, 0, `${made.stdout}\n${made.stderr}`);
  step("the app is made");
  const app = join(folder, "club");
  for (const { name, text } of blocks) if (/\.tsx?$/.test(name)) await writeFile(join(app, name), text);
  const types = spawnSync("npx", ["tsc", "--noEmit"], { cwd: app, env: environment, encoding: "utf8" });
  assert.equal(types.status, 0, types.stdout);
  const [command, ...args] = blocks.find(({ name }) => name === "start").text.trim().split(" ");
  await start(command, args, { cwd: app, env: environment }, /http:\/\/localhost:8081/);
  step("its development server runs");

  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
  const join_ = async (name) => {
    const tab = await (await browser.newContext()).newPage();
    tab.setDefaultTimeout(120_000);
    tab.on("pageerror", (error) => console.log(`${name}: ${error.message}`));
    await tab.goto("http://localhost:8081", { timeout: 180_000 });
    await tab.getByPlaceholder("Your name").fill(name);
    await tab.getByRole("button", { name: "Join" }).click();
    return tab;
  };
  const [ana, ben] = [await join_("Ana"), await join_("Ben")];
  await ana.getByRole("button", { name: /^Ben/ }).click();
  await ben.getByRole("button", { name: /^Ana/ }).click();
  await ana.getByPlaceholder("Message").fill("Dinner at eight?");
  await ana.getByRole("button", { name: "Send" }).click();
  await ben.getByText("Dinner at eight?").waitFor();
  await ben.getByPlaceholder("Message").fill("With pleasure.");
  await ben.getByRole("button", { name: "Send" }).click();
  await ana.getByText("With pleasure.").waitFor();
  step("two members chat");
  // By the Enter key alone: the field keeps the focus.
  await ana.getByPlaceholder("Message").click();
  for (const text of ["Which wine?", "The red one."]) {
    await ana.keyboard.type(text);
    await ana.keyboard.press("Enter");
    await ben.getByText(text).waitFor();
  }
  const left = await ana.getByPlaceholder("Message").evaluate((element) => element.getBoundingClientRect().left);
  assert.ok(left >= 16, `the field begins ${left} px from the side`);
  step("two messages by the Enter key");
  // What is too long stays in the field, with the reason.
  const long = "x".repeat(4_001);
  await ana.getByPlaceholder("Message").fill(long);
  await ana.getByRole("button", { name: "Send" }).click();
  await ana.getByText("The message is too long.").waitFor();
  assert.equal(await ana.getByPlaceholder("Message").inputValue(), long);
  // What was seen is read: it does not count any more.
  await ana.getByRole("button", { name: /^< Ben/ }).click();
  await ana.getByRole("button", { name: /^Ben$/i }).waitFor();
  await browser.close();
  step("what was seen is read");
} finally {
  for (const child of children) {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // It has ended.
    }
  }
  await rm(folder, { recursive: true, force: true });
}
