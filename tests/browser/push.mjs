// Notifications in a browser, and the app without its server. What is pushed is handed to the service worker as a push service would (there is none here, so the browser's own address is
// made up): it is shown, once the member does not look at that conversation; a press opens it; what is read is closed. With the server away the app starts, with what it has stored.

import assert from "node:assert/strict";
import { base, button, call, enter, field, heading, isIn, kill, patience, person, problems, serve, setupCode, tidy } from "./club.mjs";
import { look, looks } from "./look.mjs";

const PASSWORD = "correct horse";
/** The point of P-256 in the example of RFC 8291, appendix A: where the browser would have its own. */
const P256DH = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";

/** Push services of browsers want to know whom to write to. */
const SETTINGS = { PUSH_CONTACT: "mailto:operator@example.com" };

let running = await serve(SETTINGS);
const started = Date.now();

/** In the page: a push service that gives an address, and a member who has not decided, if they have not. */
function pretend({ p256dh, undecided }) {
  const store = (key) => ({ get: () => sessionStorage.getItem(key) ?? undefined, set: (value) => sessionStorage.setItem(key, value) });
  const permission = store("test.permission");
  const endpoint = store("test.endpoint");
  const subscription = () => ({
    options: {}, endpoint: endpoint.get(), toJSON: () => ({ endpoint: endpoint.get(), keys: { p256dh, auth: "AAAAAAAAAAAAAAAAAAAAAA" } }),
    unsubscribe: async () => (sessionStorage.removeItem("test.endpoint"), true),
  });
  PushManager.prototype.getSubscription = async () => (endpoint.get() ? subscription() : null);
  PushManager.prototype.subscribe = async ({ applicationServerKey }) => {
    if (applicationServerKey.length !== 65) throw new Error("no key of P-256");
    endpoint.set(`https://push.example.com/${crypto.randomUUID()}`);
    return subscription();
  };
  if (!undecided) return;
  Object.defineProperty(Notification, "permission", { get: () => permission.get() ?? "default" });
  Notification.requestPermission = async () => (permission.set("granted"), "granted");
}

async function browser(name, { undecided = false } = {}) {
  const page = await person(name, { viewport: { width: 1280, height: 800 }, asks: undecided });
  const context = page.context();
  if (!undecided) await context.grantPermissions(["notifications"], { origin: base });
  await context.addInitScript(pretend, { p256dh: P256DH, undecided });
  await page.goto(`${base}/app/sign-in`);
  return page;
}

/** What the service worker of a page is, for who hands pushes to it. */
async function workerOf(page) {
  const session = await page.context().newCDPSession(page);
  const registered = new Promise((resolve) => session.on("ServiceWorker.workerRegistrationUpdated", ({ registrations }) => {
    const own = registrations.find(({ scopeURL, isDeleted }) => scopeURL === `${base}/app/` && !isDeleted);
    if (own) resolve(own.registrationId);
  }));
  await session.send("ServiceWorker.enable");
  const registrationId = await registered;
  await page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  const [worker] = page.context().serviceWorkers();
  return { worker, deliver: (told) => session.send("ServiceWorker.deliverPushMessage", { origin: base, registrationId, data: JSON.stringify(told) }) };
}

/** Waits until these notifications are shown, and no others. */
async function shows(page, expected) {
  const until = Date.now() + patience;
  let seen;
  do {
    seen = await page.evaluate(async () => (await (await navigator.serviceWorker.ready).getNotifications()).map(({ title, body, tag }) => [title, body, tag]));
    if (JSON.stringify(seen) === JSON.stringify(expected)) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  } while (Date.now() < until);
  assert.deepEqual(seen, expected, "notifications");
}

/** The member presses a notification. `opened`: what the browser would open, if no tab is there. */
const press = (worker, tag) => worker.evaluate(async (tag) => {
  const [notification] = await self.registration.getNotifications({ tag });
  const event = new NotificationEvent("notificationclick", { notification });
  const ends = [];
  event.waitUntil = (work) => ends.push(work);
  self.dispatchEvent(event);
  await Promise.all(ends);
}, tag);

const messages = (page) => page.getByRole("list", { name: "Messages" });

try {
  const sign = (name, email) => call("POST", "auth/register", { name, email, password: PASSWORD });
  const ana = await sign("Ana Lima", "ana@example.com");
  const ben = await sign("Ben Okafor", "ben@example.com");
  await call("POST", "setup", { code: setupCode(running), name: "Rita Reis", email: "rita@example.com", password: PASSWORD });
  const post = (from, to, content) => call("POST", "messages", { receiver_id: to.member._id, client_id: crypto.randomUUID(), content }, from.access_token);
  const settings = () => call("GET", "members/me/push", undefined, ana.access_token);
  const registered = async (count) => {
    const until = Date.now() + patience;
    let seen;
    do {
      seen = (await settings()).devices.length;
      if (seen === count) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    } while (Date.now() < until);
    assert.equal(seen, count, "devices that are pushed to");
  };
  const { conversation_id: conversation } = await post(ben, ana, "dinner at eight");
  const told = (seq, body) => ({ kind: "message", conversation, seq, message_id: "0".repeat(24), sender: ben.member._id, title: "Ben Okafor", body, badge: 1 });

  // Allowed before: registered by signing in, with nobody asked.
  const page = await browser("Ana");
  await enter(page, "ana@example.com", PASSWORD);
  await isIn(page);
  await registered(1);
  const { worker, deliver } = await workerOf(page);
  await page.getByRole("link", { name: /Ben Okafor/ }).first().waitFor();
  await deliver(told(1, "dinner at eight"));
  await shows(page, [["Ben Okafor", "dinner at eight", conversation]]);
  // A later one takes its place.
  await post(ben, ana, "or nine?");
  await deliver(told(2, "or nine?"));
  await shows(page, [["Ben Okafor", "or nine?", conversation]]);
  await deliver("something else");
  await press(worker, conversation);
  await heading(page, "Ben Okafor").waitFor();
  await messages(page).getByText("or nine?").waitFor();
  await shows(page, []);
  // Nothing of what is looked at.
  await post(ben, ana, "are you there?");
  await messages(page).getByText("are you there?").waitFor();
  await deliver(told(3, "are you there?"));
  await page.getByRole("link", { name: "Settings" }).click();
  await heading(page, "Notifications").waitFor();
  await page.getByText("Notifications are on in this browser.").waitFor();
  await shows(page, []);
  // Read elsewhere.
  await post(ben, ana, "ten, then");
  await deliver(told(4, "ten, then"));
  await shows(page, [["Ben Okafor", "ten, then", conversation]]);
  const last = (await call("GET", `messages/conversation/${ben.member._id}?limit=1`, undefined, ana.access_token)).messages[0];
  await call("PUT", `messages/${last._id}/read`, undefined, ana.access_token);
  await shows(page, []);
  // What is shown, and when.
  await page.getByRole("radio", { name: "Sender", exact: true }).click();
  await page.getByRole("checkbox", { name: /^Quiet hours/ }).click();
  await field(page, "Quiet from").fill("23:30");
  await heading(page, "Notifications").evaluate((element) => element.scrollIntoView());
  await look(page, "notifications");
  await button(page, "Save quiet hours").click();
  await page.getByText("Quiet hours saved").first().waitFor();
  const { content, quiet_hours: quiet } = await settings();
  assert.deepEqual([content, quiet.from, quiet.until], ["sender", "23:30", "07:00"]);
  await button(page, "Turn off here").click();
  await registered(0);
  await button(page, "Turn on here").click();
  await registered(1);
  console.log(`pushed, shown, pressed and read after ${Math.round((Date.now() - started) / 1000)} s`);

  // No tab is there: the browser opens one, at the conversation.
  await deliver(told(5, "hello?"));
  await shows(page, [["Ben Okafor", "hello?", conversation]]);
  await worker.evaluate(() => {
    self.clients.matchAll = async () => [];
    self.clients.openWindow = async (url) => void (self.opened = url);
  });
  await press(worker, conversation);
  const opened = await worker.evaluate(() => self.opened);
  assert.equal(opened, `${base}/app/chats/c_${conversation}`);
  await page.goto(opened);
  await messages(page).getByText("ten, then").waitFor();

  // A page of before is not shown as long as the server answers, and does not stay.
  await page.evaluate(async () => (await caches.open("members-book-app")).put(new URL("/app/", location.href), new Response("<p>of before</p>", { headers: { "content-type": "text/html" } })));
  await page.reload();
  await messages(page).getByText("ten, then").waitFor();
  await page.waitForFunction(async () => !(await (await (await caches.open("members-book-app")).match("/app/"))?.text())?.includes("of before"));

  // The server is away: the app starts, with what it has, and sends what is written when the server is back.
  await kill(running);
  await page.reload();
  await messages(page).getByText("ten, then").waitFor();
  await field(page, "Message to Ben Okafor").fill("from the tunnel");
  await button(page, "Send").click();
  await messages(page).getByText("from the tunnel").waitFor();
  await page.goto(`${base}/app/members`);
  await page.getByRole("navigation", { name: "Main" }).waitFor();
  await page.goto(`${base}/app/chats`);
  await page.getByRole("link", { name: /from the tunnel/ }).first().waitFor();
  running = await serve(SETTINGS);
  const until = Date.now() + patience;
  let arrived;
  do {
    arrived = (await call("GET", `messages/conversation/${ana.member._id}?limit=1`, undefined, ben.access_token)).messages[0].content;
  } while (arrived !== "from the tunnel" && Date.now() < until && (await new Promise((resolve) => setTimeout(resolve, 100)), true));
  assert.equal(arrived, "from the tunnel");
  console.log(`started without the server after ${Math.round((Date.now() - started) / 1000)} s`);

  // The server hangs: the app starts all the same, and is back by itself. What came late is kept for the next time.
  await page.evaluate(async () => (await caches.open("members-book-app")).put("/app/icon.svg", new Response("of before")));
  running.server.kill("SIGSTOP");
  const hung = Date.now();
  await page.reload({ waitUntil: "commit" });
  await page.getByRole("link", { name: /from the tunnel/ }).first().waitFor();
  assert.ok(Date.now() - hung < 5_000, `started after ${Date.now() - hung} ms with a server that hangs`);
  const icon = await page.evaluate(async () => [await (await fetch("/app/icon.svg")).text(), await (await caches.match("/app/icon.svg")).text()]);
  assert.deepEqual(icon, ["of before", "of before"]);
  await page.getByText(/You are offline/).waitFor();
  running.server.kill("SIGCONT");
  await page.getByText(/You are offline/).waitFor({ state: "detached" });
  await page.waitForFunction(async () => (await (await caches.match("/app/icon.svg")).text()).includes("<svg"));
  await post(ben, ana, "well again");
  await page.getByRole("link", { name: /well again/ }).first().waitFor();
  console.log(`started with a server that hangs after ${Math.round((Date.now() - started) / 1000)} s`);

  // Nothing stays of who logs out.
  await page.getByRole("link", { name: "Settings" }).click();
  await button(page, "Log out").click();
  await page.getByRole("dialog").getByRole("button", { name: "Log out", exact: true }).click();
  await heading(page, "Sign in").waitFor();
  await registered(0);
  await shows(page, []);
  const kept = await page.evaluate(async () => {
    const names = await caches.keys();
    const all = await Promise.all(names.map(async (name) => (await caches.open(name)).keys()));
    return all.flat().map(({ url }) => new URL(url).pathname);
  });
  assert.ok(kept.includes("/app/"), "the page of the app is kept");
  for (const path of kept) assert.match(path, /^\/app\/($|_expo\/|assets\/|[\w.]+\.(css|svg|png|webmanifest)$)/);
  assert.equal(await page.evaluate(() => sessionStorage.getItem("test.endpoint")), null, "the subscription has ended");

  // Somebody who has not decided is asked once there is something to be told of; a "not now" stays.
  const other = await browser("Ana elsewhere", { undecided: true });
  await enter(other, "ana@example.com", PASSWORD);
  await other.getByRole("dialog", { name: "Be told of new messages?" }).waitFor();
  await look(other, "ask-for-notifications");
  await button(other, "Not now").click();
  await other.reload();
  await other.getByRole("link", { name: /Ben Okafor/ }).first().waitFor();
  await other.getByRole("link", { name: "Settings" }).click();
  await other.getByText("Notifications are off in this browser.").waitFor();
  assert.equal(await other.getByRole("dialog").count(), 0);
  await button(other, "Turn on here").click();
  await other.getByText("Notifications are on in this browser.").waitFor();
  await registered(1);
  await other.getByText("This browser", { exact: true }).waitFor();

  assert.deepEqual(problems, []);
  console.log(`the notifications are as they should be, ${looks} screens looked at, after ${Math.round((Date.now() - started) / 1000)} s`);
} finally {
  await kill(running);
  await tidy();
}
