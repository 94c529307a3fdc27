// The lists of chats: pinned ones first, archived ones apart, only those unread, on all devices of a member; where the focus is when a row leaves; without the server.

import assert from "node:assert/strict";
import { button, call, field, heading, isIn, kill, LAPTOP, person, problems, serve, setupCode, signIn, tidy } from "./club.mjs";
import { look, looks, lookTwice } from "./look.mjs";

const PHONE = { viewport: { width: 420, height: 700 }, hasTouch: true };
const PASSWORD = "correct horse";

let running = await serve();
const started = Date.now();
const sign = (name, email) => call("POST", "auth/register", { name, email, password: PASSWORD });
const post = (from, to, content) => call("POST", "messages", { receiver_id: to.member._id, client_id: crypto.randomUUID(), content }, from.access_token);
const row = (page, name) => page.getByRole("link", { name: new RegExp(name) }).first();
const option = (page, name) => page.getByRole("dialog").getByRole("button", { name, exact: true });
const choose = (page, name) => page.getByRole("radio", { name, exact: true }).click();

/** Waits until the rows of a list are those of these names, from the top. */
async function shows(page, names) {
  const rows = () => page.evaluate(() => [...document.querySelectorAll("[id^=chat-]")].map((link) => link.innerText.split("\n").find((line) => / /.test(line))));
  await page.waitForFunction((expected) => [...document.querySelectorAll("[id^=chat-]")].map((link) => expected.find((name) => link.innerText.includes(name)) ?? "?").join() === expected.join(), names)
    .catch(async () => assert.deepEqual(await rows(), names));
}

/** Opens the sheet of a row as a keyboard does, and chooses. */
async function set(page, name, label) {
  await row(page, name).focus();
  await page.keyboard.press("Shift+F10");
  await option(page, label).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor({ state: "detached" });
}

/** Holds a finger on a row until its sheet is there. */
async function hold(page, name) {
  const { x, y, width, height } = await row(page, name).boundingBox();
  const finger = await page.context().newCDPSession(page);
  await finger.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: [{ x: x + width / 2, y: y + height / 2 }] });
  await page.getByRole("dialog").waitFor();
  await finger.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
  await finger.detach();
}

const focused = (page, name) => page.waitForFunction((text) => document.activeElement?.id.startsWith("chat-") && document.activeElement.innerText.includes(text), name);

/** What one device pins and archives is so on the other. The focus stays where the row was, and goes to it when it is back. */
async function arranged(phone, laptop) {
  await shows(phone, ["Eva Sommer", "Dinis Faria", "Ben Okafor"]);
  await set(phone, "Ben Okafor", "Pin to the top");
  for (const page of [phone, laptop]) {
    await shows(page, ["Ben Okafor", "Eva Sommer", "Dinis Faria"]);
    assert.match(await row(page, "Ben Okafor").innerText(), /pinned/);
  }
  await focused(phone, "Ben Okafor");
  await set(phone, "Eva Sommer", "Archive");
  await row(laptop, "Archived \\(1\\)\\s*1 unread").waitFor();
  for (const page of [phone, laptop]) await shows(page, ["Ben Okafor", "Dinis Faria"]);
  await focused(phone, "Dinis Faria");
  await phone.getByRole("status").filter({ hasText: "Chat archived" }).waitFor({ state: "attached" });
  await look(phone, "chats-undo");
  await button(phone, "Undo").focus();
  await phone.keyboard.press("Enter");
  for (const page of [phone, laptop]) await shows(page, ["Ben Okafor", "Eva Sommer", "Dinis Faria"]);
  await focused(phone, "Eva Sommer");
  await row(laptop, "Archived").waitFor({ state: "detached" });
}

/** A chat is muted from its row, too, and that it is pinned outlives it. */
async function muted(phone) {
  for (const [choice, seen] of [["For 8 hours", /pinned\s*muted/], ["Turn on", /pinned(?!\s*muted)/]]) {
    await row(phone, "Ben Okafor").click({ button: "right" });
    await option(phone, "Notifications").click();
    await option(phone, choice).click();
    await phone.getByRole("link", { name: seen }).and(row(phone, "Ben Okafor")).waitFor();
  }
}

/** The archived ones are apart, and stay so when something comes; who looks for a name finds them. */
async function apart(phone, laptop, ana, eva) {
  // With the mouse.
  await row(laptop, "Eva Sommer").click({ button: "right" });
  await option(laptop, "Archive").click();
  await shows(laptop, ["Ben Okafor", "Dinis Faria"]);
  await post(eva, ana, "still there?");
  await row(phone, "Archived \\(1\\)").click();
  await heading(phone, "Archived").waitFor();
  await shows(phone, ["Eva Sommer"]);
  await row(phone, "still there\\?").waitFor();
  await lookTwice(phone, "chats-archived");
  await button(phone, "Back").click();
  await heading(phone, "Chats").waitFor();
  await field(phone, "Find a conversation").fill("eva");
  await shows(phone, ["Eva Sommer"]);
  assert.match(await row(phone, "Eva Sommer").innerText(), /archived/);
  await field(phone, "Find a conversation").fill("");
  // Beside an open chat the list stays as it is.
  await row(laptop, "Archived").click();
  await heading(laptop, "Archived").waitFor();
  await row(laptop, "Eva Sommer").click();
  await field(laptop, "Message to Eva Sommer").waitFor();
  await shows(laptop, ["Eva Sommer"]);
  await look(laptop, "chats-archived-laptop");
  await button(laptop, "Options of this chat").click();
  await option(laptop, "Unarchive").click();
  await heading(laptop, "Nothing is archived").waitFor();
  await button(laptop, "Close the archived chats").click();
  for (const page of [phone, laptop]) await shows(page, ["Ben Okafor", "Eva Sommer", "Dinis Faria"]);
}

/** Only what is unread is shown, by keys, too, and still so when somebody comes back from a chat. */
async function unread(phone, ana, ben, eva) {
  await phone.getByRole("radio", { name: "All", exact: true }).focus();
  await phone.keyboard.press("ArrowRight");
  assert.equal(await phone.getByRole("radio", { name: "Unread", exact: true }).getAttribute("aria-checked"), "true");
  await shows(phone, ["Ben Okafor", "Dinis Faria"]);
  for (const [name, left] of [["Ben Okafor", ["Dinis Faria"]], ["Dinis Faria", []]]) {
    await row(phone, name).click();
    await field(phone, `Message to ${name}`).waitFor();
    await button(phone, "Back").click();
    await shows(phone, left);
  }
  await phone.getByText("You have read everything.").waitFor();
  await post(eva, ana, "once more");
  await shows(phone, ["Eva Sommer"]);
  await set(phone, "Eva Sommer", "Archive");
  await phone.getByText("But one archived chat has unread messages.").waitFor();
  await button(phone, "Show all chats").click();
  await shows(phone, ["Ben Okafor", "Dinis Faria"]);
}

/** Without the server it says so, and nothing has changed. With it, all of them can be archived. A finger that has opened the sheet and is lifted closes nothing. */
async function offline(phone) {
  await hold(phone, "Ben Okafor");
  await lookTwice(phone, "chats-options");
  await kill(running);
  await option(phone, "Unpin").click();
  await phone.getByRole("dialog").getByText(/^The server was not reached/).waitFor();
  await option(phone, "Cancel").click();
  await shows(phone, ["Ben Okafor", "Dinis Faria"]);
  running = await serve();
  await row(phone, "Ben Okafor").click({ button: "right" });
  await option(phone, "Unpin").click();
  await phone.getByRole("dialog").waitFor({ state: "detached" });
  await shows(phone, ["Dinis Faria", "Ben Okafor"]);
  await set(phone, "Ben Okafor", "Archive");
  await shows(phone, ["Dinis Faria"]);
  await set(phone, "Dinis Faria", "Archive");
  await heading(phone, "All of your chats are archived").waitFor();
  await phone.waitForFunction(() => document.activeElement !== document.body);
}

try {
  const ana = await sign("Ana Lima", "ana@example.com");
  const ben = await sign("Ben Okafor", "ben@example.com");
  const dinis = await sign("Dinis Faria", "dinis@example.com");
  const eva = await sign("Eva Sommer", "eva@example.com");
  await call("POST", "setup", { code: setupCode(running), name: "Rita Reis", email: "rita@example.com", password: PASSWORD });
  for (const other of [ben, dinis, eva]) await post(other, ana, "hello");
  const phone = await person("Ana", PHONE);
  const laptop = await person("Ana's laptop", LAPTOP);
  for (const page of [phone, laptop]) {
    await signIn(page, "ana@example.com", PASSWORD);
    await isIn(page);
  }
  await arranged(phone, laptop);
  await muted(phone);
  await apart(phone, laptop, ana, eva);
  await choose(phone, "All");
  await unread(phone, ana, ben, eva);
  await laptop.context().close();
  await offline(phone);

  assert.deepEqual(problems, []);
  console.log(`lists: pinned, archived, unread, undone and found, ${looks} looks by axe, in ${Math.round((Date.now() - started) / 1000)} s`);
} finally {
  await kill(running);
  await tidy();
}
