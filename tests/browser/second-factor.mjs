// The second factor in the club's app: a club that demands one of its administrators, turning it on with an authenticator app, signing in with a code and with
// a recovery code, new recovery codes, turning it off; the proof that is wanted before what matters, with a code and with a password; a member who has lost
// everything. Each screen is looked at twice. With SCREENSHOTS=FOLDER pictures of the screens go there. Needs Python 3, to set a clock back.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { base, button, call, enter, field, folder, heading, isIn, kill, LAPTOP, person, problems, secret, serve, setupCode, signIn, tidy } from "./club.mjs";
import { answer, press, stops, type } from "./focus.mjs";
import { look, looks, lookTwice } from "./look.mjs";
import { authenticator } from "./totp.mjs";

const PASSWORD = "correct horse";
let running = await serve({ ADMIN_SECOND_FACTOR: "required", REGISTRATION: "open" });
const started = Date.now();

/** As if everybody had signed in 16 minutes ago. */
async function later(settings) {
  await kill(running);
  const aged = "import sqlite3,sys,time; db=sqlite3.connect(sys.argv[1]); db.execute('UPDATE sessions SET proved_at = ?', (int((time.time() - 960) * 1000),)); db.commit()";
  const { status, stderr } = spawnSync("python3", ["-c", aged, join(folder, "data/members-book.db")], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  running = await serve(settings);
}

/** The first administrator is led to it, and turns it on. Resolves to their authenticator app and the recovery codes. */
async function turnOn(rita) {
  await rita.getByRole("link", { name: "Admin" }).click();
  await heading(rita, "A second factor is needed").waitFor();
  await lookTwice(rita, "second-factor-missing");
  await press(rita, "button", "Turn it on");
  await heading(rita, "Turn it on").waitFor();
  await type(rita, "Your password", "no horse");
  await rita.keyboard.press("Enter");
  await rita.getByText("This is not your present password.").waitFor();
  await secret(rita, "Your password").fill(PASSWORD);
  await rita.keyboard.press("Enter");

  const picture = rita.getByRole("img", { name: "A code to be scanned with the authenticator app" });
  await picture.waitFor();
  await rita.waitForFunction(() => [...document.images].some(({ src, naturalWidth }) => src.startsWith("data:image/png") && naturalWidth > 50));
  await lookTwice(rita, "second-factor-scan");
  await press(rita, "button", "Copy the key");
  await rita.getByText("Key copied").first().waitFor();
  const key = await rita.evaluate(() => navigator.clipboard.readText());
  await rita.getByText(key.match(/.{4}/g).join(" "), { exact: true }).waitFor();
  const app = authenticator(key);
  await type(rita, "Code", "123");
  await rita.keyboard.press("Enter");
  await rita.getByText(/^This code is not right\. .* is the clock of the phone right\?$/).waitFor();
  const input = field(rita, "Code");
  assert.deepEqual([await input.getAttribute("autocomplete"), await input.getAttribute("inputmode")], ["one-time-code", "numeric"]);
  await input.fill(await app.next());
  await rita.keyboard.press("Enter");
  return { app, codes: await kept(rita) };
}

/** Copies, saves and prints the recovery codes, and says that they are kept. */
async function kept(page) {
  await heading(page, "Keep your recovery codes").waitFor();
  const codes = await page.getByRole("list", { name: "Recovery codes" }).getByRole("listitem").allTextContents();
  assert.equal(new Set(codes).size, 10);
  await lookTwice(page, "recovery-codes");
  await press(page, "button", "Copy the recovery codes");
  await page.getByText("Copied", { exact: true }).first().waitFor();
  const text = await page.evaluate(() => navigator.clipboard.readText());
  for (const code of codes) assert.ok(text.includes(code));
  const [file] = await Promise.all([page.waitForEvent("download"), button(page, "Save as a file").click()]);
  assert.deepEqual([file.suggestedFilename(), await readFile(await file.path(), "utf8")], ["members-book-recovery-codes.txt", text]);
  // What is on paper is the codes, and nothing else of the page.
  await page.evaluate(() => {
    window.print = () => {
      const seen = (element) => getComputedStyle(element).display !== "none";
      window.onPaper = () => [...document.body.children].filter((element) => seen(element) && element.tagName !== "SCRIPT").map((element) => element.textContent);
    };
  });
  await button(page, "Print").click();
  await page.emulateMedia({ media: "print" });
  assert.deepEqual(await page.evaluate(() => window.onPaper()), [text]);
  await page.emulateMedia({ media: "screen" });
  await page.evaluate(() => window.dispatchEvent(new Event("afterprint")));
  // They wait for the member, wherever that one goes meanwhile.
  await page.getByRole("link", { name: /Chats/ }).click();
  await heading(page, "Chats").waitFor();
  await page.goBack();
  await heading(page, "Keep your recovery codes").waitFor();
  assert.deepEqual(await page.getByRole("list", { name: "Recovery codes" }).getByRole("listitem").allTextContents(), codes);
  assert.equal(await page.getByRole("button", { name: "Done" }).getAttribute("aria-disabled"), "true");
  await page.getByRole("checkbox", { name: "I have kept them" }).focus();
  await page.keyboard.press("Space");
  await press(page, "button", "Done");
  await heading(page, "It is on").waitFor();
  return codes;
}

/** A login asks for the second step; a recovery code does in place of the app, once. */
async function secondStep(app, codes) {
  const page = await person("Rita at work", LAPTOP);
  await signIn(page, "rita@example.com", PASSWORD);
  await heading(page, "One more step").waitFor();
  await lookTwice(page, "second-step");
  // What was used to turn it on is used up.
  await type(page, "Code", app.again());
  await page.keyboard.press("Enter");
  await page.getByText(/^This code is not good/).waitFor();
  await look(page, "second-step-wrong");
  await press(page, "button", "Back");
  await heading(page, "Sign in").waitFor();
  await secret(page, "Password").focus();
  await page.keyboard.press("Enter");
  await field(page, "Code").fill(await app.next());
  await page.keyboard.press("Enter");
  await isIn(page);
  await page.context().close();

  const other = await person("Rita elsewhere", LAPTOP);
  await signIn(other, "rita@example.com", PASSWORD);
  await press(other, "button", "Use a recovery code");
  await type(other, "Recovery code", codes[0].toLowerCase().replaceAll("-", " "));
  await other.keyboard.press("Enter");
  await isIn(other);
  await other.goto(`${base}/app/settings`);
  await other.getByText("It is on. 9 recovery codes are left.").waitFor();
  await lookTwice(other, "settings-second-factor", heading(other, "Second factor"));
  await other.context().close();
}

/** A member makes new recovery codes, and turns the second factor off. */
async function newCodesAndOff() {
  const { codes } = await withFactor("Carla", "carla@example.com");
  const carla = await person("Carla", LAPTOP);
  await carla.context().grantPermissions(["clipboard-read", "clipboard-write"], { origin: base });
  await signIn(carla, "carla@example.com", PASSWORD);
  await press(carla, "button", "Use a recovery code");
  await type(carla, "Recovery code", codes[0]);
  await carla.keyboard.press("Enter");
  await isIn(carla);
  await carla.goto(`${base}/app/settings`);
  await press(carla, "button", "Change the second factor");
  await carla.getByText(/9 recovery codes are left/).waitFor();
  await lookTwice(carla, "second-factor-on");
  const renewal = carla.getByRole("form", { name: "New recovery codes" });
  await button(renewal, "Use a recovery code").click();
  await field(renewal, "Recovery code").fill(codes[1]);
  await button(renewal, "Make new recovery codes").click();
  const fresh = await kept(carla);
  assert.ok(!codes.some((code) => fresh.includes(code)));
  const off = carla.getByRole("form", { name: "Turn off the second factor" });
  await secret(off, "Your password").fill(PASSWORD);
  await button(off, "Use a recovery code").click();
  // One of before is good no more.
  for (const [code, said] of [[codes[2], carla.getByText(/^Must be a code of the authenticator app/)], [fresh[0], heading(carla, "Turn it on")]]) {
    await field(off, "Recovery code").fill(code);
    await button(off, "Turn off the second factor").click();
    await said.waitFor();
  }
  await carla.context().close();
  const again = await person("Carla again", LAPTOP);
  await signIn(again, "carla@example.com", PASSWORD);
  await isIn(again);
  await again.context().close();
}

/** Recovery codes that were not kept are gone with who has logged out: the next one in the same page sees none of them. */
async function unkept() {
  const { codes } = await withFactor("Dana Ruiz", "dana@example.com");
  await call("POST", "auth/register", { name: "Finn Aker", email: "finn@example.com", password: PASSWORD });
  const page = await person("Dana", LAPTOP);
  await signIn(page, "dana@example.com", PASSWORD);
  await button(page, "Use a recovery code").click();
  await field(page, "Recovery code").fill(codes[0]);
  await page.keyboard.press("Enter");
  await isIn(page);
  await page.getByRole("link", { name: "Settings" }).click();
  await button(page, "Change the second factor").click();
  const renewal = page.getByRole("form", { name: "New recovery codes" });
  await button(renewal, "Use a recovery code").click();
  await field(renewal, "Recovery code").fill(codes[1]);
  await button(renewal, "Make new recovery codes").click();
  await heading(page, "Keep your recovery codes").waitFor();
  await page.getByRole("link", { name: "Settings" }).click();
  await button(page, "Log out").click();
  await page.getByRole("dialog").getByRole("button", { name: "Log out", exact: true }).click();
  await enter(page, "finn@example.com", PASSWORD);
  await isIn(page);
  await page.getByRole("link", { name: "Settings" }).click();
  await button(page, "Turn on the second factor").click();
  await heading(page, "Turn it on").waitFor();
  assert.equal(await heading(page, "Keep your recovery codes").count(), 0);
  await page.context().close();
}

/** A member with a second factor, made over the API. */
async function withFactor(name, email) {
  const { access_token: token } = await call("POST", "auth/register", { name, email, password: PASSWORD });
  const { secret: key, enrolment } = await call("POST", "members/me/second-factor", { password: PASSWORD }, token);
  const { recovery_codes: codes } = await call("POST", "members/me/second-factor/confirm", { enrolment, code: await authenticator(key).next() }, token);
  return { codes };
}

/** An administrator takes away the second factor of a member who has lost everything; a while after the login a code is wanted first. */
async function reset(rita, app) {
  const { codes } = await withFactor("Ben Okafor", "ben@example.com");
  const ben = await person("Ben", LAPTOP);
  await signIn(ben, "ben@example.com", PASSWORD);
  await button(ben, "Use a recovery code").click();
  await field(ben, "Recovery code").fill(codes[0]);
  await ben.keyboard.press("Enter");
  await isIn(ben);

  await later({ ADMIN_SECOND_FACTOR: "required", REGISTRATION: "open" });
  await rita.goto(`${base}/app/admin`);
  await rita.getByRole("button", { name: /Ben Okafor/ }).click();
  const dialog = rita.getByRole("dialog");
  await dialog.getByText("Has a second factor").waitFor();
  await lookTwice(rita, "admin-member");
  await button(dialog, "Reset the second factor").click();
  await answer(rita, "Reset");
  await heading(dialog, "Is it you?").waitFor();
  await lookTwice(rita, "step-up");
  await button(dialog, "Cancel").click();
  await dialog.getByText("Nothing was changed: it was not confirmed that it is you.").waitFor();
  await button(dialog, "Reset the second factor").click();
  await answer(rita, "Reset");
  await field(dialog, "Code").fill("000");
  await rita.keyboard.press("Enter");
  await dialog.getByText(/^Must be a code of the authenticator app/).waitFor();
  await field(dialog, "Code").fill(await app.next());
  await rita.keyboard.press("Enter");
  await rita.getByText("The second factor is off").first().waitFor();
  await dialog.getByText("No second factor").waitFor();

  await ben.getByText(/^Your session is over/).waitFor();
  await signIn(ben, "ben@example.com", PASSWORD);
  await isIn(ben);
  // For a quarter of an hour nothing more is wanted.
  await button(dialog, "Make an administrator").click();
  await answer(rita, "Make an administrator");
  await rita.getByText("Role changed").first().waitFor();
  await rita.getByRole("dialog").getByRole("button", { name: "Close" }).click();
  await rita.goto(`${base}/app/admin/audit`);
  await rita.getByText(/reset the second factor of/).waitFor();
  return ben;
}

/** Where none is demanded, an administrator without one proves by the password that it is they. */
async function byPassword(ben) {
  const settings = { REGISTRATION: "approval" };
  await later(settings);
  await call("POST", "auth/register", { name: "Eve Quist", email: "eve@example.com", password: PASSWORD });
  await ben.goto(`${base}/app/admin/applications`);
  await press(ben, "button", "Reject Eve Quist");
  await answer(ben, "Reject");
  const dialog = ben.getByRole("dialog");
  await heading(dialog, "Is it you?").waitFor();
  await lookTwice(ben, "step-up-password");
  await type(ben, "Your password", "no horse");
  await ben.keyboard.press("Enter");
  await dialog.getByText("This is not your present password.").waitFor();
  await secret(dialog, "Your password").fill(PASSWORD);
  await ben.keyboard.press("Enter");
  await heading(ben, "Nobody waits").waitFor();
}

try {
  const rita = await person("Rita", LAPTOP);
  await rita.context().grantPermissions(["clipboard-read", "clipboard-write"], { origin: base });
  await rita.goto(`${base}/app/`);
  await field(rita, "Setup code").fill(setupCode(running));
  await field(rita, "Name").fill("Rita Reis");
  await field(rita, "E-mail").fill("rita@example.com");
  await secret(rita, "Password").fill(PASSWORD);
  await rita.keyboard.press("Enter");
  await isIn(rita);
  const { app, codes } = await turnOn(rita);
  await rita.getByRole("link", { name: "Admin" }).click();
  await rita.getByRole("button", { name: /Rita Reis/ }).waitFor();
  await secondStep(app, codes);
  await newCodesAndOff();
  await unkept();
  const ben = await reset(rita, app);
  await byPassword(ben);

  assert.deepEqual(problems, []);
  console.log(`the second factor in the app: on, two steps, recovery codes, off, reset, proofs, ${looks} looks by axe, ${stops} stops by keyboard, in ${Math.round((Date.now() - started) / 1000)} s`);
} finally {
  await kill(running);
  await tidy();
}
