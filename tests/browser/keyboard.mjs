// The club's app by the keyboard alone: sign in, find a member, write, read the answer, change a setting, log out. Wherever the focus goes it can be
// seen, and has a name.

import assert from "node:assert/strict";
import { base, call, kill, person, problems, serve, tidy } from "./club.mjs";

const running = await serve();
const started = Date.now();
let stops = 0;

/** What has the focus: its role, its name, and whether it shows. */
const focused = (page) => page.evaluate(() => {
  const element = document.activeElement;
  if (!element || element === document.body) return undefined;
  const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element);
  const { width, height, bottom, right } = element.getBoundingClientRect();
  const role = element.getAttribute("role") ?? { A: "link", BUTTON: "button", INPUT: "textbox", TEXTAREA: "textbox" }[element.tagName] ?? element.tagName;
  const label = element.getAttribute("aria-label") ?? document.getElementById(element.getAttribute("aria-labelledby") ?? "")?.textContent ?? element.labels?.[0]?.textContent;
  return {
    role, name: (label ?? element.textContent ?? "").replace(/\s+/g, " ").trim(),
    outlined: (outlineStyle !== "none" && parseFloat(outlineWidth) > 0) || boxShadow !== "none",
    onScreen: width > 0 && height > 0 && bottom > 0 && right > 0,
    html: element.outerHTML.slice(0, 200),
  };
});

/** Presses a key until what has the focus fits; each stop on the way can be seen, and has a name. */
async function go(page, role, name, key = "Tab") {
  const passed = [];
  for (let step = 0; step < 80; step++) {
    await page.keyboard.press(key);
    const stop = await focused(page);
    if (!stop) continue;
    stops += 1;
    passed.push(`${stop.role} ${stop.name}`);
    assert.ok(stop.name !== "", `a stop without a name: ${stop.html}`);
    assert.ok(stop.outlined, `the focus does not show: ${stop.html}`);
    assert.ok(stop.onScreen, `the focus is out of sight: ${stop.html}`);
    if (stop.role === role && (name instanceof RegExp ? name.test(stop.name) : stop.name === name)) return;
  }
  assert.fail(`${role} ${name} cannot be reached; passed: ${passed.join(" | ")}`);
}

try {
  const sign = (name, email) => call("POST", "auth/register", { name, email, password: "correct horse" });
  const ana = await sign("Ana Lima", "ana@example.com");
  const ben = await sign("Ben Okafor", "ben@example.com");

  const page = await person("Ana", { viewport: { width: 1280, height: 800 } });
  await page.goto(`${base}/app/sign-in`);
  // Until the club has an administrator it asks for its setup: a link leads a member past that.
  await page.getByRole("textbox").first().waitFor();
  if (await page.getByRole("textbox", { name: "Setup code" }).count()) {
    await call("POST", "setup", { code: /\b([0-9A-Z]{5}-[0-9A-Z]{5})\b/.exec(running.printed())[1], name: "Rita Reis", email: "rita@example.com", password: "correct horse" });
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
  await page.getByRole("textbox", { name: "Message to Ben Okafor" }).waitFor();
  await go(page, "textbox", "Message to Ben Okafor");
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
