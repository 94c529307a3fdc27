// What a chat says of itself: what was read, what a screen reader hears, what day it is, what is kept, where the focus is; and who is found in many
// conversations, and in the directory.

import assert from "node:assert/strict";
import { base, button, call, field, heading, isIn, kill, patience, person, problems, serve, setupCode, signIn, tidy } from "./club.mjs";

/** More than the list of conversations draws, and than a page of a search has. */
const OTHERS = 160;
const PHONE = { viewport: { width: 420, height: 700 } };
const PASSWORD = "correct horse";

const running = await serve();
const started = Date.now();
const sign = (name, email) => call("POST", "auth/register", { name, email, password: PASSWORD });
const post = (from, to, content) => call("POST", "messages", { receiver_id: to.member._id, client_id: crypto.randomUUID(), content }, from.access_token);
const messages = (page) => page.getByRole("list", { name: "Messages" });
const titled = (page, title) => page.waitForFunction((text) => document.title === text, title);

async function unread(of, expected) {
  const until = Date.now() + patience;
  let seen;
  do {
    seen = (await call("GET", "messages/unread", undefined, of.access_token)).total;
    if (seen === expected) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  } while (Date.now() < until);
  assert.equal(seen, expected, "unread, as the server has it");
}

/** More than fits is new: it opens where that begins, and nothing is read before its end was seen. On a small screen the focus comes along. */
async function opened(ana, ben) {
  for (let n = 0; n < 5; n++) await post(ana, ben, `old ${n}`);
  for (let n = 0; n < 12; n++) await post(ben, ana, `new ${n} ${"words ".repeat(60)}`);
  const page = await person("Ana", PHONE);
  const reads = [];
  page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => String(payload).includes('"message.read"') && reads.push(payload)));
  await page.goto(`${base}/app/sign-in`);
  await heading(page, "Sign in").waitFor();
  await titled(page, "Sign in · Members Book");
  await signIn(page, "ana@example.com", PASSWORD);
  await isIn(page);
  await titled(page, "(12) Chats · Members Book");
  await page.getByRole("link", { name: /Ben Okafor/ }).first().focus();
  await page.keyboard.press("Enter");
  await messages(page).getByText("New messages").waitFor();
  await button(page, "To the newest message, 12 new").waitFor();
  await titled(page, "(12) Ben Okafor · Members Book");
  await page.waitForFunction(() => document.activeElement !== document.body && document.activeElement?.contains(document.querySelector("[role=heading]")));
  // What comes by the same connection afterwards is here: by then it would have been said.
  await post(ben, ana, "one more");
  await button(page, "To the newest message, 13 new").waitFor();
  assert.deepEqual(reads, []);
  await unread(ana, 13);
  await button(page, "To the newest message, 13 new").click();
  await titled(page, "Ben Okafor · Members Book");
  await unread(ana, 0);
  return page;
}

/** A chat that is muted says so, in its head and in the list, on another device, too; messages come all the same. */
async function muted(page, ana, ben) {
  const other = await person("Ana's other device");
  await signIn(other, "ana@example.com", PASSWORD);
  await isIn(other);
  const row = other.getByRole("link", { name: /Ben Okafor/ }).first();
  await row.waitFor();
  assert.doesNotMatch(await row.innerText(), /muted/);
  await button(page, "Mute notifications").click();
  await button(page, "For 8 hours").click();
  await button(page, "Muted. Change notifications").waitFor();
  await other.getByRole("link", { name: /Ben Okafor.*muted/s }).waitFor();
  await post(ben, ana, "is it quiet?");
  await messages(page).getByText("is it quiet?").waitFor();
  await row.click();
  await button(other, "Muted. Change notifications").click();
  await other.getByText(/^Muted until /).waitFor();
  await button(other, "Turn on").click();
  await button(page, "Mute notifications").waitFor();
  await other.context().close();
}

/** A message is answered by a press or by keys, what it answers is above it, and a press on that leads there; a draft keeps what it answers. */
async function answered(page, ana, ben) {
  await post(ben, ana, "soup or fish?");
  const input = field(page, "Message to Ben Okafor");
  await button(page, "Reply to: soup or fish?").click();
  const bar = page.getByText("Reply to Ben Okafor", { exact: true });
  await bar.waitFor();
  await page.waitForFunction(() => document.activeElement?.tagName === "TEXTAREA");
  await input.fill("Fish, please");
  await page.reload();
  await bar.waitFor();
  assert.equal(await input.inputValue(), "Fish, please");
  await input.press("Enter");
  await bar.waitFor({ state: "detached" });
  await button(page, "Answers Ben Okafor: soup or fish?").waitFor();
  const newest = async () => (await call("GET", `messages/conversation/${ben.member._id}?limit=2`, undefined, ana.access_token)).messages;
  const [fish, soup] = await newest();
  assert.deepEqual([fish.content, fish.reply_to], ["Fish, please", soup.seq]);

  await input.press("Control+ArrowUp");
  await page.getByText("Reply to yourself", { exact: true }).waitFor();
  await input.press("Control+ArrowUp");
  await bar.waitFor();
  await input.press("Escape");
  await bar.waitFor({ state: "detached" });

  const answer = { receiver_id: ana.member._id, client_id: crypto.randomUUID(), content: "that was long ago", reply_to: 1 };
  await call("POST", "messages", answer, ben.access_token);
  await button(page, "Answers You: old 0").click();
  await page.waitForFunction(() => {
    const row = document.querySelector('[data-seq="1"]')?.getBoundingClientRect();
    return row && row.top > 0 && row.bottom < window.innerHeight;
  });
  await button(page, /^To the newest message/).click();
}

/** A message is said to a screen reader, the same words once more, too; and it is not in the page any more when somebody has left. */
async function said(page, ana, ben) {
  await page.evaluate(() => {
    window.said = [];
    const look = (node) => node.parentElement?.closest("[role=status]") && window.said.push(node.textContent);
    new MutationObserver((changes) => changes.forEach(({ addedNodes, type, target }) => (type === "characterData" ? look(target) : addedNodes.forEach(look)))).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  for (const times of [1, 2]) {
    await post(ben, ana, "ok");
    await page.waitForFunction((count) => window.said.filter((text) => text === "Ben Okafor: ok").length === count, times);
  }
  await page.waitForFunction(() => [...document.querySelectorAll("[role=status]")].every((region) => !region.textContent.includes("Ben Okafor")));
  await post(ben, ana, "the menu of the jubilee");
  await messages(page).getByText("the menu of the jubilee").waitFor();
  await button(page, "Back").click();
  await page.getByRole("link", { name: "Settings" }).click();
  await titled(page, "Settings · Members Book");
  await button(page, "Log out").click();
  await page.getByRole("dialog").getByRole("button", { name: "Log out", exact: true }).click();
  await heading(page, "Sign in").waitFor();
  await titled(page, "Sign in · Members Book");
  assert.ok(!(await page.evaluate(() => document.documentElement.textContent)).includes("jubilee"), "the message is in the page after the log-out");
  await page.context().close();
}

/** What is written is a draft until it is a message that is kept. What the banner says of a disk that takes nothing is true of every reason. */
async function kept(ben) {
  const page = await person("Ana at work", PHONE);
  await page.addInitScript(() => {
    window.disk = "well";
    const { set } = Object.getOwnPropertyDescriptor(IDBTransaction.prototype, "oncomplete");
    Object.defineProperty(IDBTransaction.prototype, "oncomplete", {
      set(listener) {
        const later = (event) => (window.disk === "slow" ? setTimeout(() => later(event), 20) : listener.call(this, event));
        set.call(this, later);
      },
    });
    const { put } = IDBObjectStore.prototype;
    IDBObjectStore.prototype.put = function (...args) {
      if (window.disk === "broken") throw new DOMException("The disk is locked.", "UnknownError");
      return put.apply(this, args);
    };
  });
  await signIn(page, "ana@example.com", PASSWORD);
  await isIn(page);
  await page.goto(`${base}/app/chats/m_${ben.member._id}`);
  await messages(page).getByText("the menu of the jubilee").waitFor();
  const drafts = () => page.evaluate(() => JSON.stringify(Object.entries(localStorage).filter(([key]) => key.includes("draft."))));
  const input = field(page, "Message to Ben Okafor");
  await input.fill("a word in time");
  await page.evaluate(() => (window.disk = "slow"));
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("textarea").value === "");
  assert.match(await drafts(), /a word in time/);
  await page.evaluate(() => (window.disk = "well"));
  await page.waitForFunction(() => !Object.entries(localStorage).some(([key, value]) => key.includes("draft.") && value !== ""));
  await messages(page).getByText("a word in time").waitFor();

  await page.evaluate(() => (window.disk = "broken"));
  await input.fill("written on water");
  await page.keyboard.press("Enter");
  await page.getByText(/^Nothing can be stored on this device at the moment/).waitFor();
  await page.evaluate(() => (window.disk = "well"));
  await page.getByText(/^Nothing can be stored on this device at the moment/).waitFor({ state: "detached" });
  await page.context().close();
}

/** Who was there just now was so a minute ago a minute later, and what was today is yesterday the day after, on a screen that nobody has touched. */
async function dayAfter(ben) {
  const there = await person("Ben", PHONE);
  await signIn(there, "ben@example.com", PASSWORD);
  await isIn(there);
  const page = await person("Ana, for two days", { viewport: { width: 1200, height: 800 } });
  await page.clock.install();
  await signIn(page, "ana@example.com", PASSWORD);
  await isIn(page);
  await page.goto(`${base}/app/chats/m_${ben.member._id}`);
  await messages(page).getByText("Today", { exact: true }).waitFor();
  const partner = page.getByRole("link", { name: /^Ben Okafor [^,]*$/ });
  await partner.getByText("online").waitFor();
  await there.context().close();
  await partner.getByText("last seen just now").waitFor();
  await page.clock.fastForward("01:10");
  await partner.getByText(/^last seen \d min ago$/).waitFor();
  await page.clock.fastForward("24:00:00");
  await messages(page).getByText("Yesterday", { exact: true }).waitFor();
  assert.equal(await messages(page).getByText("Today", { exact: true }).count(), 0);
  await page.getByRole("link", { name: /Ben Okafor.*Yesterday/ }).waitFor();
  await page.context().close();
}

/** Whoever is in a conversation is found there, however long the list; whoever is in a tier is found there, however many others have the name. */
async function found(ana, rita) {
  const others = [];
  for (let n = 0; n < OTHERS; n++) others.push(await sign(`Member ${String.fromCharCode(97 + Math.floor(n / 26), 97 + (n % 26))} Smith`, `m${n}@example.com`));
  for (const other of others) await post(other, ana, "hello");
  const page = await person("Ana, whom everybody writes to", PHONE);
  await signIn(page, "ana@example.com", PASSWORD);
  await page.getByRole("link", { name: /Smith/ }).first().waitFor();
  await field(page, "Find a conversation").fill(others[0].member.name);
  await page.getByRole("link", { name: new RegExp(others[0].member.name) }).waitFor();
  await field(page, "Find a conversation").fill("nobody at all");
  await page.getByText("None of your conversations is with “nobody at all”.").waitFor();

  const first = (await call("GET", "members/search?q=smith", undefined, ana.access_token)).members.map(({ _id }) => _id);
  const last = others.findLast(({ member }) => !first.includes(member._id));
  assert.ok(last, "one page has everybody");
  await call("PUT", `admin/members/${last.member._id}/tier`, { tier: "Infinity" }, rita.access_token);
  await page.getByRole("link", { name: "People" }).click();
  await titled(page, `(${OTHERS > 99 ? "99+" : OTHERS}) People · Members Book`);
  await field(page, "Search").fill("smith");
  await page.getByRole("link", { name: /Ana Lima/ }).waitFor({ state: "detached" });
  await page.getByRole("radio", { name: "Infinity" }).click();
  await page.getByRole("link", { name: new RegExp(last.member.name) }).waitFor();
  await page.context().close();
}

try {
  const ana = await sign("Ana Lima", "ana@example.com");
  const ben = await sign("Ben Okafor", "ben@example.com");
  const rita = await call("POST", "setup", { code: setupCode(running), name: "Rita Reis", email: "rita@example.com", password: PASSWORD });
  const page = await opened(ana, ben);
  await muted(page, ana, ben);
  await answered(page, ana, ben);
  await said(page, ana, ben);
  await kept(ben);
  await dayAfter(ben);
  await found(ana, rita);

  assert.deepEqual(problems, []);
  console.log(`chats: read when seen, answered, said once each, kept, dated and found, in ${Math.round((Date.now() - started) / 1000)} s`);
} finally {
  await kill(running);
  await tidy();
}
