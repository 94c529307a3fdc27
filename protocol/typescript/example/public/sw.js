// The service worker of the club app, for the page at /app/: shows what is pushed, and lets the app start while the server is away.
//
// It keeps files of the app and nothing of members: its page, and what that loads. It has no state of a version, so a new one takes over at once; which version of the app
// runs is for the page, and that comes from the server whenever the server answers.

const APP = new URL("./", self.location.href);
const CACHE = "members-book-app";
/** In the place of a server that is away, a proxy answers with one of these. */
const AWAY = [502, 503, 504];
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

/** The page of the app: of the server, and of the cache if that is away. */
async function page(event) {
  const answer = await fetch(event.request).catch(() => undefined);
  if (answer && !AWAY.includes(answer.status)) {
    if (isPage(answer)) event.waitUntil(keepPage(answer.clone()).catch(() => undefined));
    return answer;
  }
  return (await kept(APP)) ?? answer ?? Response.error();
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

/** A file that changes with versions of the app: as the page. */
async function changing(event) {
  const { request } = event;
  const answer = await fetch(request).catch(() => undefined);
  if (answer?.ok) event.waitUntil(keep(request.url, answer.clone()));
  return answer && !AWAY.includes(answer.status) ? answer : ((await kept(request.url)) ?? answer ?? Response.error());
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

/** Keeps the page once all that it loads is kept: half an app would not start. Of another version nothing stays. */
async function keepPage(answer) {
  if (!isPage(answer)) return;
  const text = await answer.clone().text();
  const cache = await caches.open(CACHE);
  if (text === (await (await cache.match(APP))?.text())) return;
  const parts = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => new URL(path, APP)).filter(({ origin, pathname }) => origin === APP.origin && pathname.startsWith(APP.pathname));
  for (const { href } of parts) if (!(await cache.match(href))) await cache.add(href);
  const needed = new Set([APP.href, ...parts.map(({ href }) => href)]);
  for (const { url } of await cache.keys()) if (!needed.has(url)) await cache.delete(url);
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
