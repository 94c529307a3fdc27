// The service worker of the club app, for the page at /app/: shows what is pushed, and lets the app start while the server is away.
//
// It keeps files of the app and nothing of members: its page, and what that loads. It has no state of a version, so a new one takes over at once; which version of the app
// runs is for the page, and that comes from the server whenever the server answers in time.

const APP = new URL("./", self.location.href);
const CACHE = "members-book-app";
/** In the place of a server that is away, a proxy answers with one of these. */
const AWAY = [502, 503, 504];
/** How long a server that does not answer is waited for where a copy is kept, in milliseconds. */
const WAIT_MS = 2_500;
/** How long a tab has to say what it shows, in milliseconds. */
const ASK_MS = 1_000;

self.addEventListener("install", (event) => {
  // Without it (the network is gone already) the next page that is loaded is kept.
  event.waitUntil(fetch(APP, { cache: "no-cache" }).then((page) => keepPage(page), () => undefined).then(() => self.skipWaiting()));
});
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== APP.origin || !url.pathname.startsWith(APP.pathname)) return;
  // The browser looks for a new service worker itself.
  if (url.pathname === self.location.pathname) return;
  if (request.mode === "navigate") event.respondWith(page(event));
  else event.respondWith(hasHash(url) ? immutable(event) : changing(event));
});

/** The page of the app. */
function page(event) {
  return timely(event, APP, keepPage);
}

/** A file whose name has a hash of its content: there is no other of that name. */
async function immutable(event) {
  const { request } = event;
  const found = await kept(request.url);
  if (found) return found;
  const answer = await fetch(request);
  if (answer.ok) event.waitUntil(keep(request.url, answer.clone()));
  return answer;
}

/** A file that changes with versions of the app. */
function changing(event) {
  const { url } = event.request;
  return timely(event, url, async (answer) => answer.ok && keep(url, answer));
}

/** A server was waited for in vain, and has not said anything since: the copies of what else the page loads are shown at once. */
let silent = false;

/** What the server has; and what is kept of it, if that is away, or has said nothing yet. What it says later is kept for the next time. */
async function timely(event, url, keepIt) {
  let late = false;
  const asked = fetch(event.request).catch(() => undefined).finally(() => (silent = false));
  // Asked for now: once the copy is shown it is too late to be given more time.
  event.waitUntil(asked.then((answer) => answer && keepIt(answer.clone(), late)).catch(() => undefined));
  let timer;
  const waited = new Promise((resolve) => (timer = setTimeout(() => resolve("late"), silent ? 0 : WAIT_MS)));
  const first = await Promise.race([asked, waited]);
  clearTimeout(timer);
  late = silent = first === "late";
  if (!late && first && !AWAY.includes(first.status)) return first;
  return (await kept(url)) ?? (await asked) ?? Response.error();
}

function isPage(answer) {
  return answer.ok && !answer.redirected && (answer.headers.get("content-type") ?? "").startsWith("text/html");
}

function hasHash({ pathname }) {
  return pathname.split("/").pop().split(/[-._]/).some((part) => /^[0-9a-f]{16,}$/.test(part));
}

async function kept(url) {
  return (await caches.open(CACHE)).match(url);
}

/** Where there is no room, the app needs the server to start. */
async function keep(url, answer) {
  await (await caches.open(CACHE)).put(url, answer).catch(() => undefined);
}

/** Keeps the page once all that it loads is kept: half an app would not start. Of another version nothing stays, but if its page is `shown`: that may be loading yet. */
async function keepPage(answer, shown = false) {
  if (!isPage(answer)) return;
  const text = await answer.clone().text();
  const cache = await caches.open(CACHE);
  if (text === (await (await cache.match(APP))?.text())) return;
  const parts = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => new URL(path, APP)).filter(({ origin, pathname }) => origin === APP.origin && pathname.startsWith(APP.pathname));
  for (const { href } of parts) if (!(await cache.match(href))) await cache.add(href);
  const needed = new Set([APP.href, ...parts.map(({ href }) => href)]);
  if (!shown) for (const { url } of await cache.keys()) if (!needed.has(url)) await cache.delete(url);
  await cache.put(APP, answer);
}

// Notifications.

self.addEventListener("push", (event) => event.waitUntil(pushed(event.data)));

async function pushed(data) {
  const told = read(data);
  if (typeof told.badge === "number") await (told.badge > 0 ? navigator.setAppBadge?.(told.badge) : navigator.clearAppBadge?.())?.catch(() => undefined);
  const { conversation, seq, title, body } = told;
  if (told.kind !== "message") return;
  const tabs = await windows();
  // Without a conversation it tells of any message: nobody is looking at that.
  if (typeof conversation === "string" && (await isSeen(tabs, conversation))) return;
  await self.registration.showNotification(title ?? "Members Book", {
    body, tag: conversation ?? "messages", renotify: true, data: { kind: "message", conversation, seq }, icon: new URL("icon.png", APP).href,
  });
  // It may have been read meanwhile.
  for (const tab of tabs) tab.postMessage({ push: "came", conversation });
}

function read(data) {
  try {
    return data.json() ?? {};
  } catch {
    return {};
  }
}

/** Whether the member is looking at the conversation: a tab that is seen knows what is on it, and whether it has the focus. */
async function isSeen(tabs, conversation) {
  const answers = tabs.filter((tab) => tab.visibilityState === "visible").map((tab) => ask(tab, { push: "seen?", conversation }));
  return (await Promise.all(answers)).includes(true);
}

function ask(tab, question) {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => resolve(data);
    setTimeout(() => resolve(undefined), ASK_MS);
    tab.postMessage(question, [port2]);
  });
}

/** The tabs of the app, the one that was looked at last first. */
async function windows() {
  const all = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  return all.filter(({ url }) => url.startsWith(APP.href));
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data?.conversation));
});

/** Opens a conversation: in a tab that is there, and else in a new one. */
async function open(conversation) {
  const [tab] = await windows();
  await tab?.focus().catch(() => undefined);
  if (tab) tab.postMessage({ push: "open", conversation });
  else await self.clients.openWindow(new URL(conversation ? `chats/c_${conversation}` : "", APP).href);
}

self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(changed(event.oldSubscription)));

/** The browser has another address. The server is told by a tab, or by the next one that is opened: here is nobody signed in. */
async function changed(old) {
  const { applicationServerKey } = old?.options ?? {};
  if (applicationServerKey) await self.registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey }).catch(() => undefined);
  for (const tab of await windows()) tab.postMessage({ push: "changed" });
}
