// A page by the keyboard alone: wherever the focus goes it can be seen, and has a name.

import assert from "node:assert/strict";

/** How many stops there were. */
export let stops = 0;

/** What has the focus: its role, its name, and whether it shows. */
export const focused = (page) => page.evaluate(() => {
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

/** Presses a key until what has the focus fits; each stop on the way can be seen, and has a name. What is gone to is waited for first. */
export async function go(page, role, name, key = "Tab") {
  await page.getByRole(role, { name, exact: typeof name === "string" }).first().waitFor();
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

/** Goes to something and presses Enter. */
export async function press(page, role, name) {
  await go(page, role, name);
  await page.keyboard.press("Enter");
}

/** Goes to a field and types into it. */
export async function type(page, name, text) {
  await go(page, "textbox", name);
  await page.keyboard.type(text);
}

/** Answers the dialog that is about to open. */
export async function answer(page, name) {
  await page.getByRole("dialog").waitFor();
  // It takes the focus once it is there.
  await page.waitForFunction(() => document.querySelector("[role=dialog]")?.contains(document.activeElement));
  await press(page, "button", name);
}
