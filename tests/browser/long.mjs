// A conversation of 10,000 messages in the app, on a processor that is four times slower: scrolling shows no blank frame, and a new message
// draws one row.

import assert from "node:assert/strict";
import { base, call, kill, patience, person, problems, serve, setupCode, tidy } from "./club.mjs";

const MESSAGES = Number(process.env.MESSAGES ?? 10_000);
const SLOWDOWN = Number(process.env.SLOWDOWN ?? 4);
/** Pixels a second, about as fast as a wheel or a finger goes. */
const SPEED = Number(process.env.SPEED ?? 4_000);

const running = await serve();
const started = Date.now();

/** In the page: counts the frames in which a place of the list that is seen has not been drawn, before anybody can mend that. */
function watch() {
  const list = document.querySelector("[role=list][aria-label=Messages]");
  const seen = { frames: 0, blank: 0, moved: 0, last: list.scrollTop };
  const isBlank = () => {
    const { top, bottom } = list.getBoundingClientRect();
    return [...list.querySelectorAll("[data-drawn=false]")].some((box) => {
      const place = box.getBoundingClientRect();
      return place.bottom > top + 1 && place.top < bottom - 1;
    });
  };
  // On its way down to the list: the browser has moved it already, and the list has not heard of that.
  document.addEventListener("scroll", (event) => {
    if (event.target !== list) return;
    seen.frames += 1;
    seen.moved += Math.abs(list.scrollTop - seen.last);
    seen.last = list.scrollTop;
    if (isBlank()) seen.blank += 1;
  }, { capture: true, passive: true });
  window.seenFrames = seen;
}

try {
  const sign = (name, email) => call("POST", "auth/register", { name, email, password: "correct horse" });
  const ana = await sign("Ana Lima", "ana@example.com");
  const ben = await sign("Ben Okafor", "ben@example.com");
  await call("POST", "setup", { code: setupCode(running), name: "Rita Reis", email: "rita@example.com", password: "correct horse" });
  const words = "Dinner at eight on the terrace, or the tasting downstairs? I can bring the map, the tickets and my sister as well.".split(" ");
  const post = (from, to, content) => call("POST", "messages", { receiver_id: to.member._id, client_id: crypto.randomUUID(), content }, from.access_token);
  let next = 0;
  const writers = Array.from({ length: 32 }, async () => {
    for (let n = next++; n < MESSAGES; n = next++) {
      const [from, to] = n % 3 === 0 ? [ana, ben] : [ben, ana];
      await post(from, to, `${n} ${words.slice(0, 1 + (n * 7) % (words.length * (n % 11 === 0 ? 4 : 1))).join(" ")}`);
    }
  });
  await Promise.all(writers);
  console.log(`${MESSAGES} messages stored after ${Math.round((Date.now() - started) / 1000)} s`);

  const page = await person("Ana", { viewport: { width: 1280, height: 800 }, reducedMotion: "no-preference" });
  await page.goto(`${base}/app/sign-in`);
  await page.getByRole("textbox", { name: "E-mail" }).fill("ana@example.com");
  await page.locator("input[type=password]").fill("correct horse");
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: /Ben Okafor/ }).first().click();
  const list = page.getByRole("list", { name: "Messages" });
  await list.getByRole("listitem").first().waitFor();
  // All of it is loaded, page by page.
  const loading = Date.now();
  await page.evaluate(async () => {
    const element = document.querySelector("[role=list][aria-label=Messages]");
    let still = 0;
    for (let height = 0; still < 20; ) {
      element.scrollTop = 0;
      await new Promise((resolve) => setTimeout(resolve, 50));
      const loads = element.querySelector("[role=progressbar]") !== null;
      still = element.scrollHeight === height && !loads ? still + 1 : 0;
      height = element.scrollHeight;
    }
  });
  const first = await list.getByRole("listitem").first().textContent();
  assert.match(first, /: ?0 /, "the list has the first message");
  console.log(`loaded after ${Math.round((Date.now() - loading) / 1000)} s`);

  const session = await page.context().newCDPSession(page);
  await session.send("Emulation.setCPUThrottlingRate", { rate: SLOWDOWN });
  // To the middle, at once: what is there is drawn in the same frame. Then it is watched.
  await page.evaluate(async () => {
    document.querySelector("[role=list][aria-label=Messages]").scrollTop = 200_000;
    for (let frame = 0; frame < 3; frame++) await new Promise((resolve) => requestAnimationFrame(resolve));
  });
  await page.evaluate(watch);
  const box = await list.boundingBox();
  const [x, y] = [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];
  const scroll = (yDistance) => session.send("Input.synthesizeScrollGesture", { x, y, yDistance, speed: SPEED, gestureSourceType: "mouse", preventFling: true });
  for (const distance of [-20_000, 20_000, -30_000, 12_000]) await scroll(distance);
  const { frames, blank, moved } = await page.evaluate(() => window.seenFrames);
  console.log(`scrolled ${Math.round(moved)} px in ${frames} frames, ${blank} of them with a blank place`);
  assert.ok(frames > 30, `the list was scrolled: ${frames} frames`);
  assert.equal(blank, 0, "a place that was seen was blank");

  // A new message: one row comes, no other is touched.
  await page.evaluate(() => {
    const element = document.querySelector("[role=list][aria-label=Messages]");
    element.scrollTop = element.scrollHeight;
  });
  await page.waitForFunction(() => {
    const element = document.querySelector("[role=list][aria-label=Messages]");
    const rows = element.querySelectorAll("[role=listitem]");
    return rows.length > 0 && element.scrollHeight - element.scrollTop - element.clientHeight < 2;
  });
  await page.evaluate(() => {
    const element = document.querySelector("[role=list][aria-label=Messages]");
    const rows = new Set(element.querySelectorAll("[role=listitem]"));
    window.touched = new Set();
    window.added = 0;
    new MutationObserver((changes) => {
      for (const { target, addedNodes } of changes) {
        const row = (target.nodeType === 1 ? target : target.parentElement)?.closest("[role=listitem]");
        if (row && rows.has(row)) window.touched.add(row.textContent);
        for (const node of addedNodes) if (node.nodeType === 1) window.added += node.matches("[role=listitem]") ? 1 : node.querySelectorAll("[role=listitem]").length;
      }
    }).observe(element, { subtree: true, childList: true, characterData: true, attributes: true });
  });
  await post(ben, ana, "the newest of all");
  await list.getByText("the newest of all").waitFor({ timeout: patience });
  const { touched, added } = await page.evaluate(() => ({ touched: [...window.touched], added: window.added }));
  console.log(`a new message: ${added} row drawn, ${touched.length} others touched`);
  assert.deepEqual([added, touched], [1, []]);
  assert.deepEqual(problems, []);
  console.log(`the app with ${MESSAGES} messages, slowed down ${SLOWDOWN} times: no blank frame of ${frames}, in ${Math.round((Date.now() - started) / 1000)} s`);
} finally {
  await kill(running);
  await tidy();
}
