// What every screen is looked at for: findings of axe, and anything beyond its sides. With SCREENSHOTS=FOLDER pictures of the screens go there.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";

const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** How often something was looked at. */
export let looks = 0;

/** No finding of axe that is serious, nothing that overflows sideways; a picture, if pictures are wanted. */
export async function look(page, screen) {
  const findings = await page.evaluate(async (source) => {
    if (!window.axe) new Function(source)();
    return null;
  }, axe).catch(() => "refused");
  // The policy forbids to make code of text: axe comes in by the debugger then.
  if (findings === "refused") {
    const session = await page.context().newCDPSession(page);
    await session.send("Page.setBypassCSP", { enabled: true });
    await session.send("Runtime.evaluate", { expression: axe });
    await session.detach();
  }
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  looks += 1;
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes[0]?.html]), [], `${screen}: axe`);
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(over <= 0, `${screen}: ${over} px are beyond the side`);
  if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `app-${screen}.png`) });
}

const drawn = (page, theme) => page.waitForFunction((name) => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(document.documentElement.dataset.theme === name)))), theme);

/** Scrolls so that something is at the top, as far as that goes. */
const show = (at) => at?.evaluate((element) => element.scrollIntoView({ block: "start" }));

/** Looks at a screen as it is, and at 320 px in the dark. `at`: what is at the top of the picture. */
export async function lookTwice(page, screen, at) {
  const before = page.viewportSize();
  await show(at);
  await look(page, screen);
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize({ width: 320, height: 640 });
  await drawn(page, "dark");
  await show(at);
  await look(page, `${screen}-narrow-dark`);
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(before);
  await drawn(page, "light");
}
