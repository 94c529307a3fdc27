// The club's app by the keyboard alone: sign in, find a member, write, read the answer, change a setting, log out. Wherever the focus goes it can be
// seen, and has a name.

import assert from "node:assert/strict";
import { base, call, kill, person, problems, serve, setupCode, tidy } from "./club.mjs";
import { focused, go, stops } from "./focus.mjs";

const running = await serve();
const started = Date.now();

try {
  const sign = (name, email) => call("POST", "auth/register", { name, email, password: "correct horse" });
  const ana = await sign("Ana Lima", "ana@example.com");
  const ben = await sign("Ben Okafor", "ben@example.com");

  const page = await person("Ana", { viewport: { width: 1280, height: 800 } });
  await page.goto(`${base}/app/sign-in`);
  // Until the club has an administrator it asks for its setup: a link leads a member past that.
  await page.getByRole("textbox").first().waitFor();
  if (await page.getByRole("textbox", { name: "Setup code" }).count()) {
    await call("POST", "setup", { code: setupCode(running), name: "Rita Reis", email: "rita@example.com", password: "correct horse" });
    await page.goto(`${base}/app/sign-in`);
  }
  await go(page, "textbox", "E-mail");
  await page.keyboard.type("ana@example.com");
  await page.keyboard.press("Tab");
  await page.keyboard.type("correct horse");
  await page.keyboard.press("Enter");
  await page.getByRole("navigation").first().waitFor();

  await go(page, "link", "People");
  await page.keyboard.press("Enter");
  await page.getByRole("textbox", { name: "Search" }).waitFor();
  await go(page, "textbox", "Search");
  await page.keyboard.type("ben");
  await page.getByRole("link", { name: /Ana Lima/ }).waitFor({ state: "detached" });
  await go(page, "link", /Ben Okafor/);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Message Ben Okafor" }).waitFor();
  await go(page, "button", "Message Ben Okafor");
  await page.keyboard.press("Enter");
  // At a desk who opens a conversation writes at once.
  await page.getByRole("textbox", { name: "Message to Ben Okafor" }).waitFor();
  await page.waitForFunction(() => document.activeElement?.getAttribute("aria-label") === "Message to Ben Okafor");
  assert.ok((await focused(page))?.outlined, "the focus does not show");
  await page.keyboard.type("by hand");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("on two lines");
  await page.keyboard.press("Enter");
  const list = page.getByRole("list", { name: "Messages" });
  await list.getByText("by hand\non two lines").waitFor();

  await call("POST", "messages", { receiver_id: ana.member._id, client_id: crypto.randomUUID(), content: "an answer" }, ben.access_token);
  await list.getByText("an answer").waitFor();
  // The list scrolls by keys, too, once it has the focus.
  await go(page, "list", "Messages", "Shift+Tab");

  await go(page, "link", "Settings", "Shift+Tab");
  await page.keyboard.press("Enter");
  await page.getByText("Signed in as ana@example.com.").waitFor();
  await go(page, "button", "Log out");
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog");
  await dialog.waitFor();
  // A dialog has the focus, keeps it, and gives it back.
  for (let step = 0; step < 6; step++) {
    await page.keyboard.press("Tab");
    assert.ok(await page.evaluate(() => document.querySelector("[role=dialog]")?.contains(document.activeElement)), "the focus has left the dialog");
  }
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.equal((await focused(page))?.name, "Log out", "the focus is where it was");
  await page.keyboard.press("Enter");
  await dialog.waitFor();
  await go(page, "button", "Log out");
  await page.keyboard.press("Enter");
  await page.getByRole("textbox", { name: "E-mail" }).waitFor();
  assert.deepEqual(problems, []);
  console.log(`the app by keyboard: ${stops} stops, each named and seen, in ${Math.round((Date.now() - started) / 1000)} s`);
} finally {
  await kill(running);
  await tidy();
}
