// The club's app, as it is in the server: the first visitor makes the club with the code that the server printed, a second member joins, they talk; the
// server is killed in between, and everything arrives once and in order. Each screen is looked at by axe, at two widths, in light and dark.
// With SCREENSHOTS=FOLDER pictures of the screens go there.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createRequire } from "node:module";
import { base, call, kill, patience, person, problems, serve, tidy } from "./club.mjs";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
let running = await serve();
let looks = 0;

/** No finding of axe that is serious, nothing that overflows sideways; a picture, if pictures are wanted. */
async function look(page, screen) {
  const findings = await page.evaluate(async (source) => {
    if (!window.axe) new Function(source)();
    return null;
  }, axe).catch(() => "refused");
  // The policy forbids to make code of text: axe comes in by the debugger then.
  if (findings === "refused") {
    const session = await page.context().newCDPSession(page);
    await session.send("Page.setBypassCSP", { enabled: true });
    await session.send("Runtime.evaluate", { expression: axe });
    await session.detach();
  }
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  looks += 1;
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes[0]?.html]), [], `${screen}: axe`);
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(over <= 0, `${screen}: ${over} px are beyond the side`);
  if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `app-${screen}.png`) });
}

const button = (page, name) => page.getByRole("button", { name, exact: true }).first();
const field = (page, name) => page.getByRole("textbox", { name, exact: true }).first();
const password = (page) => page.locator("input[type=password]").first();
const shown = (page) => page.getByRole("list", { name: "Messages" }).getByText(/^m\d+$/).allTextContents();

async function write(page, to, text) {
  await field(page, `Message to ${to}`).fill(text);
  await button(page, "Send").click();
}

/** Waits until a page shows exactly these messages, in this order. */
async function reads(page, expected, who) {
  const until = Date.now() + patience;
  let seen = [];
  while (Date.now() < until) {
    seen = await shown(page);
    if (JSON.stringify(seen) === JSON.stringify(expected)) return;
    await page.waitForFunction((before) => JSON.stringify([...document.querySelectorAll("[role=list] *")].map((each) => each.textContent)).length !== before, -1, { timeout: 1_000 }).catch(() => undefined);
  }
  assert.deepEqual(seen, expected, who);
}

const started = Date.now();
try {
  const code = /\b([0-9A-Z]{5}-[0-9A-Z]{5})\b/.exec(running.printed())?.[1];
  assert.ok(code, `the server prints the setup code: ${running.printed()}`);

  const ana = await person("Ana", { viewport: { width: 1440, height: 900 } });
  await ana.goto(base);
  await ana.getByRole("link", { name: /open the app/i }).first().click();
  await field(ana, "Setup code").waitFor();
  await look(ana, "setup");
  await field(ana, "Setup code").fill(code.toLowerCase());
  await field(ana, "Name").fill("Ana Lima");
  await field(ana, "E-mail").fill("ana@example.com");
  await password(ana).fill("correct horse");
  await button(ana, "Make the club").click();
  await ana.getByRole("navigation").first().waitFor();

  const ben = await person("Ben", { viewport: { width: 320, height: 640 }, colorScheme: "dark" });
  await ben.goto(`${base}/app/register`);
  await button(ben, "Make an account").waitFor();
  await look(ben, "register-narrow-dark");
  await field(ben, "Name").fill("Ben Okafor");
  await field(ben, "E-mail").fill("ben@example.com");
  await password(ben).fill("correct horse");
  await button(ben, "Make an account").click();
  await ben.getByRole("navigation").first().waitFor();

  const { member: { _id: bensId } } = await call("POST", "auth/login", { email: "ben@example.com", password: "correct horse" });

  // A link into the app, and what it leads to.
  await ana.goto(`${base}/app/members/${bensId}`);
  await button(ana, "Message Ben Okafor").click();
  for (const text of ["m1", "m2"]) await write(ana, "Ben Okafor", text);
  await ben.goto(`${base}/app/chats`);
  await ben.getByText("Ana Lima").first().click();
  await reads(ben, ["m1", "m2"], "Ben");
  await write(ben, "Ana Lima", "m3");
  await reads(ana, ["m1", "m2", "m3"], "Ana");
  await look(ana, "chat");
  await look(ben, "chat-narrow-dark");

  // The server dies. What is written meanwhile is shown, and kept over a reload.
  await kill(running);
  for (const text of ["m4", "m5"]) await write(ana, "Ben Okafor", text);
  await reads(ana, ["m1", "m2", "m3", "m4", "m5"], "Ana, without the server");
  await look(ana, "chat-offline");
  running = await serve();
  await reads(ben, ["m1", "m2", "m3", "m4", "m5"], "Ben, when it is back");
  await write(ben, "Ana Lima", "m6");
  await reads(ana, ["m1", "m2", "m3", "m4", "m5", "m6"], "Ana, when it is back");
  await ana.reload();
  await reads(ana, ["m1", "m2", "m3", "m4", "m5", "m6"], "Ana, after a reload");

  // A second tab of the same browser is a device of its own, and is signed in.
  const second = await ana.context().newPage();
  await second.goto(ana.url());
  await reads(second, ["m1", "m2", "m3", "m4", "m5", "m6"], "Ana's second tab");
  await write(second, "Ben Okafor", "m7");
  await reads(ana, ["m1", "m2", "m3", "m4", "m5", "m6", "m7"], "Ana's first tab");
  await second.close();

  const screens = ["chats", "members", `members/${bensId}`, "me", "meet", "settings", "admin", "admin/server", "admin/audit"];
  for (const [page, name, paths] of [[ana, "", screens], [ben, "-narrow-dark", screens.filter((path) => !path.startsWith("admin"))]]) {
    for (const path of paths) {
      await page.goto(`${base}/app/${path}`);
      await page.getByRole("heading").first().waitFor();
      await page.waitForFunction(() => document.querySelectorAll("[role=progressbar]").length === 0);
      await look(page, `${path.replace(bensId, "profile").replaceAll("/", "-")}${name}`);
    }
  }
  assert.deepEqual(problems, []);
  console.log(`the app: club made, two members, a killed server, two tabs, ${looks} looks by axe in ${Math.round((Date.now() - started) / 1000)} s`);
} finally {
  await kill(running);
  await tidy();
}
