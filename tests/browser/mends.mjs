// What two people from outside have found in the app: what stays on a shared computer, what a newcomer stumbles over.

import assert from "node:assert/strict";
import { base, button, call, field, kill, patience, person, problems, serve, setupCode, tidy } from "./club.mjs";

let running = await serve();
const started = Date.now();
const password = (page) => page.locator("input[type=password]").first();

/** Everything that the browser keeps of the club. */
const kept = (page) => page.evaluate(async () => {
  let all = JSON.stringify(Object.entries(localStorage));
  for (const { name } of await indexedDB.databases()) {
    const db = await new Promise((resolve, reject) => {
      const request = indexedDB.open(name);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    if (db.objectStoreNames.contains("kv")) {
      const store = db.transaction("kv").objectStore("kv");
      const read = (request) => new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
      const [keys, values] = await Promise.all([read(store.getAllKeys()), read(store.getAll())]);
      all += JSON.stringify([name, keys, values]);
    }
    db.close();
  }
  return all;
});

async function keepsNothing(page, words, what) {
  const until = Date.now() + patience;
  let all;
  do {
    all = await kept(page);
    if (words.every((word) => !all.includes(word))) return;
    await page.waitForTimeout(200);
  } while (Date.now() < until);
  assert.fail(`${what}: ${words.filter((word) => all.includes(word))} is in ${all}`);
}

async function signIn(page, email) {
  await page.goto(`${base}/app/sign-in`);
  await field(page, "E-mail").fill(email);
  await password(page).fill("correct horse");
  await page.keyboard.press("Enter");
  await page.getByRole("navigation").first().waitFor();
}

try {
  const code = setupCode(running);

  // A form by the Enter key alone; the first one in an empty house is told how others come in.
  const rita = await person("Rita", { viewport: { width: 1280, height: 800 } });
  await rita.goto(`${base}/app/`);
  await field(rita, "Setup code").fill(code);
  for (const text of ["Rita Reis", "rita@example.com", "correct horse"]) {
    await rita.keyboard.press("Enter");
    await rita.keyboard.type(text);
  }
  await rita.keyboard.press("Enter");
  await rita.getByRole("heading", { name: "You are the first" }).waitFor();
  await rita.getByText(`${base}/app/`, { exact: true }).waitFor();
  assert.equal(await rita.getByText("Choose a conversation").count(), 0);
  await button(rita, "Copy the address").click();

  // What routes there are is nobody's business; an address that leads nowhere can be read in the dark.
  await rita.emulateMedia({ colorScheme: "dark" });
  for (const path of ["_sitemap", "nowhere/at/all"]) {
    await rita.goto(`${base}/app/${path}`);
    await rita.getByRole("heading", { name: "Nothing is here" }).waitFor();
    const background = await rita.getByRole("main").first().evaluate((element) => getComputedStyle(element).backgroundColor);
    assert.equal(background, "rgb(16, 19, 20)", path);
  }
  await rita.emulateMedia({ colorScheme: "light" });

  const sign = (name, email) => call("POST", "auth/register", { name, email, password: "correct horse" });
  const ana = await sign("Ana Lima", "ana@example.com");
  const ben = await sign("Ben Okafor", "ben@example.com");
  const eva = await sign("Eva Stern", "eva@example.com");
  const post = (from, to, content) => call("POST", "messages", { receiver_id: to.member._id, client_id: crypto.randomUUID(), content }, from.access_token);

  // Links that lead nowhere stop nothing.
  await rita.goto(`${base}/app/members/me%2Fexport`);
  await rita.getByRole("alert").first().waitFor();
  await rita.goto(`${base}/app/chats/m_mistyped`);
  await rita.waitForURL(/\/chats$/);
  await rita.goto(`${base}/app/chats/m_${"0".repeat(24)}`);
  await rita.getByRole("heading", { name: "Nobody is here" }).waitFor();

  // A tier that everybody has is no badge; one that nobody has says so.
  await rita.goto(`${base}/app/members`);
  await rita.getByRole("link", { name: /Ana Lima/ }).waitFor();
  assert.equal(await rita.getByRole("link", { name: /Disruption/ }).count(), 0);
  await rita.getByRole("radio", { name: "Infinity" }).click();
  await rita.getByRole("heading", { name: "Nobody is in Infinity yet" }).waitFor();
  await rita.goto(`${base}/app/admin`);
  await field(rita, "Search").fill("ben@");
  await rita.getByRole("button", { name: /Ana Lima/ }).waitFor({ state: "detached" });
  await rita.getByRole("button", { name: /Ben Okafor/ }).click();
  const suspended = rita.getByRole("dialog");
  await button(suspended, "Suspend").click();
  await field(suspended, "Reason").fill("the affair of the piano");
  await rita.route("**/suspension", (route) => route.fulfill({ status: 503, contentType: "application/problem+json", body: JSON.stringify({ code: "unavailable", detail: "for the operator", status: 503 }) }));
  await button(suspended, "Suspend").click();
  await suspended.getByText("The club's server has a problem.").waitFor();
  assert.equal(await field(suspended, "Reason").inputValue(), "the affair of the piano");
  await rita.unroute("**/suspension");
  await button(suspended, "Close").click();

  // One browser, two tabs: drafts and messages of who has logged out are gone, in both.
  const shared = await person("shared", { viewport: { width: 1280, height: 800 } });
  await signIn(shared, "ana@example.com");
  await post(ben, ana, "the menu of the jubilee: https://example.com/menu?a=1. Come!");
  const second = await shared.context().newPage();
  await second.goto(`${base}/app/chats/m_${ben.member._id}`);
  const link = second.getByRole("link", { name: "https://example.com/menu?a=1" }).last();
  await link.waitFor();
  assert.deepEqual([await link.getAttribute("href"), await link.getAttribute("target"), await link.getAttribute("rel")], ["https://example.com/menu?a=1", "_blank", "noopener noreferrer"]);
  await shared.goto(`${base}/app/chats/m_${eva.member._id}`);
  await field(shared, "Message to Eva Stern").fill("a draft of Ana");
  await field(second, "Message to Ben Okafor").fill("another draft of Ana");
  await shared.goto(`${base}/app/settings`);
  await button(shared, "Log out").click();
  await shared.getByRole("dialog").getByRole("button", { name: "Log out", exact: true }).click();
  await field(shared, "E-mail").waitFor();
  await field(second, "E-mail").waitFor();
  await keepsNothing(shared, ["draft of Ana", "the menu of the jubilee", "ana@example.com", ana.member._id], "after the log-out");
  await signIn(shared, "eva@example.com");
  await second.goto(`${base}/app/chats/m_${ben.member._id}`);
  assert.equal(await field(second, "Message to Ben Okafor").inputValue(), "");

  // What was changed in the profile and not saved is there again.
  await shared.goto(`${base}/app/me`);
  await field(shared, "Company").fill("Stern & Sons");
  await shared.getByRole("link", { name: "People" }).click();
  await field(shared, "Search").waitFor();
  await shared.goto(`${base}/app/me`);
  await shared.getByText("You have changed this before, and not saved it.").waitFor();
  assert.equal(await field(shared, "Company").inputValue(), "Stern & Sons");
  await button(shared, "Discard the changes").click();
  assert.equal(await field(shared, "Company").inputValue(), "");

  // Unread messages are in the title; the line of new messages goes when one has answered.
  await shared.goto(`${base}/app/members`);
  await second.close();
  await post(ben, eva, "hello Eva");
  await shared.waitForFunction(() => document.title.startsWith("(1) "));
  await shared.goto(`${base}/app/chats/m_${ben.member._id}`);
  await shared.getByText("New messages").waitFor();
  await field(shared, "Message to Ben Okafor").fill("hello Ben");
  await shared.keyboard.press("Enter");
  await shared.getByText("New messages").waitFor({ state: "detached" });

  // A picture that is too large is made smaller.
  await shared.goto(`${base}/app/me`);
  const chooser = shared.waitForEvent("filechooser");
  await button(shared, "Add a picture").click();
  const noise = Buffer.from(await shared.evaluate(async () => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1800;
    const context = canvas.getContext("2d");
    const image = context.createImageData(1800, 1800);
    for (let at = 0; at < image.data.length; at += 65_536) crypto.getRandomValues(new Uint8Array(image.data.buffer, at, Math.min(65_536, image.data.length - at)));
    context.putImageData(image, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    return new Promise((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result.split(",")[1]);
      reader.readAsDataURL(blob);
    });
  }), "base64");
  assert.ok(noise.length > 5 * 1024 * 1024);
  await (await chooser).setFiles({ name: "noise.png", mimeType: "image/png", buffer: noise });
  await button(shared, "Remove picture").waitFor();

  // Leaving asks for the name, says that it is done, and leaves nothing here.
  await shared.goto(`${base}/app/settings`);
  await button(shared, "Leave the club").click();
  const dialog = shared.getByRole("dialog");
  assert.equal(await dialog.getByRole("button", { name: "Leave for ever" }).getAttribute("aria-disabled"), "true");
  await field(dialog, "Your name").fill("eva stern");
  await dialog.getByRole("button", { name: "Leave for ever" }).click();
  await shared.getByText("Your profile was deleted").first().waitFor();
  await field(shared, "E-mail").waitFor();
  await keepsNothing(shared, ["eva@example.com", eva.member._id, "hello Eva"], "after leaving");

  // A server that cannot say how the club is is waited for.
  const newcomer = await person("newcomer");
  let down = true;
  await newcomer.route("**/api/club", (route) => (down ? route.fulfill({ status: 503, contentType: "application/problem+json", body: JSON.stringify({ code: "unavailable", detail: "for the operator", status: 503 }) }) : route.continue()));
  await newcomer.goto(`${base}/app/`);
  await newcomer.getByText("The server cannot reach its database at the moment.").waitFor();
  down = false;
  await field(newcomer, "E-mail").waitFor();
  // Nor is one that says nothing at all.
  let answer;
  const hangs = new Promise((resolve) => (answer = resolve));
  await newcomer.unroute("**/api/club");
  await newcomer.route("**/api/club", (route) => hangs.then(() => route.continue()));
  await newcomer.reload();
  await newcomer.getByText("The server does not answer at the moment.").waitFor();
  answer();
  await field(newcomer, "E-mail").waitFor();
  await newcomer.route("**/api/auth/login", (route) => route.fulfill({ status: 503, contentType: "application/problem+json", body: JSON.stringify({ code: "unavailable", detail: "MONGODB_URI", status: 503 }) }));
  await field(newcomer, "E-mail").fill("ben@example.com");
  await password(newcomer).fill("correct horse");
  await newcomer.keyboard.press("Enter");
  await newcomer.getByText("The club's server has a problem.").waitFor();
  await newcomer.unroute("**/api/auth/login");

  // What the app has stored and does not understand does not stop it; a server that was away is back within seconds.
  await signIn(newcomer, "ben@example.com");
  await newcomer.goto(`${base}/app/chats/m_${ana.member._id}`);
  await newcomer.getByRole("list", { name: "Messages" }).getByText(/jubilee/).first().waitFor();
  await newcomer.evaluate(async () => {
    for (const { name } of await indexedDB.databases()) {
      if (!/:\d+$|:s-/.test(name) || !name.startsWith("members-book:")) continue;
      const db = await new Promise((resolve) => { const request = indexedDB.open(name); request.onsuccess = () => resolve(request.result); });
      const transaction = db.transaction("kv", "readwrite");
      const store = transaction.objectStore("kv");
      const cursor = store.openCursor();
      cursor.onsuccess = () => {
        const at = cursor.result;
        if (!at) return;
        if (at.key.includes("/e/")) at.update(at.value.replace(/"at":"[^"]*"/, '"at":"garbage"').replace(/"content":"[^"]*"/, '"content":{}'));
        at.continue();
      };
      await new Promise((resolve) => (transaction.oncomplete = resolve));
      db.close();
    }
  });
  await newcomer.reload();
  await newcomer.getByRole("list", { name: "Messages" }).getByText(/jubilee/).first().waitFor();
  await kill(running);
  await newcomer.getByText(/You are offline/).waitFor();
  running = await serve();
  const back = Date.now();
  await newcomer.getByText(/You are offline/).waitFor({ state: "detached" });
  assert.ok(Date.now() - back < 12_000, `back after ${Date.now() - back} ms`);

  // Logged out without the server, with messages that were not sent: what becomes of them is said before, and that nothing is left after.
  await kill(running);
  await newcomer.getByText(/You are offline/).waitFor();
  const leave = async (text, answer) => {
    await newcomer.getByRole("link", { name: "Settings" }).click();
    await button(newcomer, "Log out").click();
    const dialog = newcomer.getByRole("dialog");
    await dialog.getByText(text).waitFor();
    await dialog.getByRole("button", { name: answer, exact: true }).click();
  };
  const write = async (text) => {
    await newcomer.getByRole("link", { name: /Ana Lima/ }).first().click();
    await field(newcomer, "Message to Ana Lima").fill(text);
    await newcomer.keyboard.press("Enter");
    await newcomer.getByRole("list", { name: "Messages" }).getByText(text).waitFor();
  };
  await newcomer.getByRole("link", { name: "Chats" }).click();
  await write("from the cellar");
  await leave(/ One message was not sent yet, and may be lost\. Wait until the connection is back to send it\.$/, "Cancel");
  await button(newcomer, "Log out").click();
  await newcomer.getByRole("dialog").getByRole("button", { name: "Log out and lose it", exact: true }).waitFor();
  await newcomer.keyboard.press("Escape");
  await newcomer.getByRole("link", { name: "Chats" }).click();
  await write("from the cellar, again");
  await leave(/ 2 messages were not sent yet, and may be lost\. Wait until the connection is back to send them\.$/, "Log out and lose them");
  await newcomer.getByRole("heading", { name: "You are logged out" }).waitFor();
  await newcomer.getByText(/^Nothing of you is left on this device\. This page goes on by itself/).waitFor();
  await keepsNothing(newcomer, ["from the cellar", "jubilee", "ben@example.com", ben.member._id], "after a log-out without the server");
  running = await serve();
  await field(newcomer, "E-mail").waitFor();

  assert.deepEqual(problems, []);
  console.log(`what others have found in the app is mended, in ${Math.round((Date.now() - started) / 1000)} s`);
} finally {
  await kill(running);
  await tidy();
}
