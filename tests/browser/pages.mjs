// Opens the first page and the three pages of the documentation in a headless Chromium, and lets a newcomer click their way through Swagger UI:
// register, authorize, search, chat, read. A page may log no error, fail no request and ask no other host.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const base = process.env.BASE_URL;
const patience = 30_000;
const api = async (path, options = {}) => {
  const response = await fetch(base + path, {
    ...options,
    headers: { "content-type": "application/json", ...options.headers },
  });
  assert.ok(response.ok, `${path}: ${response.status}`);
  return response.json();
};

const openapi = await api("/api/openapi.json");
const asyncapi = await api("/api/asyncapi.json");
const operations = Object.entries(openapi.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method, ...operation })),
);
assert.ok(operations.length > 20, "the document describes the API");

// As root, Chromium runs only without its sandbox.
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});

/** Opens a page, lets `look` at it, and checks that nothing went wrong meanwhile. */
async function open(path, look) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 1000 } });
  const page = await context.newPage();
  page.setDefaultTimeout(patience);
  const problems = [];
  page.on("console", (message) => {
    if (message.type() === "error") {
      problems.push(`console: ${message.text()} (${message.location().url})`);
    }
  });
  page.on("pageerror", (error) => problems.push(`uncaught: ${error.message}`));
  page.on("requestfailed", (request) => problems.push(`failed: ${request.url()}: ${request.failure()?.errorText}`));
  page.on("response", (response) => {
    if (response.status() >= 400) {
      problems.push(`status ${response.status()}: ${response.url()}`);
    }
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (!["data:", "blob:"].includes(url.protocol) && url.origin !== base) {
      problems.push(`another host: ${request.url()}`);
    }
  });
  const started = Date.now();
  const response = await page.goto(base + path);
  assert.match(response.headers()["content-security-policy"] ?? "", /default-src 'none'/, `${path}: the policy`);
  await look(page);
  assert.deepEqual(problems, [], path);
  await context.close();
  console.log(`${path}: ${Date.now() - started} ms`);
}

/** Every operation of Swagger UI is a block; this opens one, fills it in, executes it and returns what came back. */
async function execute(page, operationId, { request, parameters = {} } = {}) {
  const block = page.locator(`.opblock[id$="-${operationId}"]`);
  await block.locator(".opblock-summary-control").click();
  for (const [name, value] of Object.entries(parameters)) {
    await block.locator(`tr[data-param-name="${name}"] input`).fill(value);
  }
  if (request) {
    await block.locator("textarea.body-param__text").fill(JSON.stringify(request));
  }
  await block.locator("button.execute").click();
  const live = block.locator(".live-responses-table");
  const status = await live.locator(".response .response-col_status").first().innerText();
  const text = await live.locator(".response .highlight-code").first().innerText();
  await block.locator(".opblock-summary-control").click();
  // The text of the buttons beside it is no part of it.
  const body = text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1);
  return { status: Number.parseInt(status, 10), body: JSON.parse(body) };
}

// What a browser begins with: readable on the narrowest screen, and every link leads somewhere.
await open("/", async (page) => {
  await page.setViewportSize({ width: 320, height: 640 });
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 320, `it is ${width} px wide`);
  for (const link of await page.locator("a").all()) {
    const path = await link.getAttribute("href");
    const response = await fetch(base + path);
    assert.ok(response.ok, `${path}: ${response.status}`);
  }
});

await open("/api/docs/", async (page) => {
  await page.locator(".opblock").first().waitFor();
  assert.equal(await page.locator(".opblock").count(), operations.length, "every operation is shown");

  // With the example as it stands.
  const registered = await execute(page, "register");
  assert.equal(registered.status, 201);
  const { access_token: token, member } = registered.body;

  await page.locator("button.authorize").first().click();
  await page.locator(".auth-container input").fill(token);
  await page.locator(".auth-btn-wrapper button[type=submit]").click();
  await page.locator(".btn-done").click();

  const other = await api("/api/auth/register", {
    method: "POST",
    body: JSON.stringify({ name: "Ben Lima", email: "ben@example.com", password: "correct horse" }),
  });
  const found = await execute(page, "search_members");
  assert.equal(found.status, 200);
  assert.deepEqual(found.body.members.map(({ name }) => name).sort(), ["Ana Lima", "Ben Lima"]);

  const content = "Dinner at eight?";
  const client_id = "01890a5d-ac96-774b-bcce-b302099a8057";
  const sent = await execute(page, "send_message", { request: { receiver_id: other.member._id, content, client_id } });
  assert.equal(sent.status, 201);
  assert.equal(sent.body.sender_id, member._id);

  // The other one answers.
  await api("/api/messages", {
    method: "POST",
    headers: { authorization: `Bearer ${other.access_token}`, "idempotency-key": "answer" },
    body: JSON.stringify({ receiver_id: member._id, content: "At nine." }),
  });
  const history = await execute(page, "get_messages_with", { parameters: { user_id: other.member._id } });
  assert.deepEqual(history.body.messages.map((message) => message.content), ["At nine.", content]);
  const read = await execute(page, "mark_message_read", { parameters: { id: history.body.messages[0]._id } });
  assert.equal(read.body.status, "read");
});

await open("/api/redoc", async (page) => {
  await page.locator("[data-section-id^='tag/']").first().waitFor();
  for (const { operationId, summary } of operations) {
    const section = page.locator(`[id$="/operation/${operationId}"]`);
    await section.waitFor({ state: "attached" });
    assert.ok((await section.innerText()).includes(summary.replace(/\.$/, "")), `${operationId}: ${summary}`);
  }
  // The search index lives in a worker.
  await page.locator("input[type=text], input[type=search]").first().fill("refresh token");
  await page.locator("[data-role='search:results'] li").first().waitFor();
});

await open("/api/asyncapi", async (page) => {
  await page.locator("#operations").waitFor();
  assert.ok((await page.locator("#servers").innerText()).includes(new URL(base).host), "the server is the one that the page comes from");
  const text = await page.locator("#page").innerText();
  const names = Object.values(asyncapi.components.messages).map((message) => message.name);
  assert.ok(names.length > 20);
  assert.deepEqual(names.filter((name) => !text.includes(name)), [], "every frame is shown");
  const shown = await page.locator("#operations > ul > li").count();
  assert.equal(shown, Object.keys(asyncapi.operations).length, "every operation is shown");
});

await browser.close();
