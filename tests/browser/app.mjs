// The club's app, as it is in the server: the first visitor makes the club with the code that the server printed, a second member joins, they talk; the
// server is killed in between, and everything arrives once and in order. Each screen is looked at by axe, at two widths, in light and dark.
// With SCREENSHOTS=FOLDER pictures of the screens go there.

import assert from "node:assert/strict";
import { base, button, call, field, kill, patience, person, problems, serve, setupCode, tidy } from "./club.mjs";
import { look, looks } from "./look.mjs";

let running = await serve();
const started = Date.now();

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

try {
  const code = setupCode(running);

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
