// A server of its own for a browser test, in an empty folder, and browsers on it. MEMBERS_BOOK names another binary; APP the folder of a web export that
// stands in for the app in the binary, with the server's own headers: to try a change without building the server (`front.mjs`).

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { front } from "./front.mjs";

const binary = process.env.MEMBERS_BOOK ?? new URL("../../target/release/members-book", import.meta.url).pathname;

/** How long anything may take, in milliseconds. */
export const patience = 30_000;

/** Where the server keeps what is its own. */
export const folder = await mkdtemp(join(tmpdir(), "members-book-app-"));
const port = await new Promise((resolve) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port: free } = probe.address();
    probe.close(() => resolve(free));
  });
});
const direct = `http://127.0.0.1:${port}`;
const before = process.env.APP ? await front(direct, process.env.APP) : undefined;
/** Where browsers reach the server. */
export const base = before?.base ?? direct;
const settings = {
  PORT: String(port), METRICS_ADDR: "off", BCRYPT_COST: "4", LOG: "warn",
  RATE_REQUESTS: "0", RATE_ADDRESS: "0", RATE_LOGINS: "0", RATE_REGISTRATIONS: "0", RATE_MESSAGES: "0", RATE_FRAMES: "0",
};

/** Starts the server, with further settings if any are given, and waits until it has printed where it is. */
export async function serve(further = {}) {
  const server = spawn(binary, { cwd: folder, env: { ...settings, ...further }, stdio: ["ignore", "pipe", "inherit"] });
  let printed = "";
  server.stdout.setEncoding("utf8");
  await new Promise((resolve, reject) => {
    server.stdout.on("data", (text) => {
      printed += text;
      if (/API +http:/.test(printed)) resolve();
    });
    server.once("exit", (code) => reject(new Error(`the server ended with ${code}: ${printed}`)));
  });
  await before?.start();
  return { server, printed: () => printed };
}

/** The setup code that it has printed. */
export function setupCode({ printed }) {
  const code = /\b([0-9A-Z]{5}-[0-9A-Z]{5})\b/.exec(printed())?.[1];
  if (!code) throw new Error(`the server prints no setup code: ${printed()}`);
  return code;
}

/** Ends it without a word. */
export async function kill({ server }) {
  server.removeAllListeners("exit");
  await before?.stop();
  const gone = once(server, "exit");
  server.kill("SIGKILL");
  await gone;
}

/** What pages did that they must not do. */
export const problems = [];
/** Every page that was opened, with whose it is. */
export const pages = [];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});

/** A browser of one member. While the server is away, failed requests are no problem. `asks`: the app asks whether notifications are wanted, which it has done before otherwise. */
export async function person(name, { asks = false, ...options } = {}) {
  const context = await browser.newContext({ reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(patience);
  if (!asks) await context.addInitScript(() => location.protocol.startsWith("http") && localStorage.setItem("members-book-app.push.asked", "1"));
  const page = await context.newPage();
  pages.push([name, page]);
  page.on("pageerror", (error) => problems.push(`${name}: uncaught: ${error.message}`));
  page.on("console", (message) => {
    if (/Content.Security.Policy/i.test(message.text())) problems.push(`${name}: ${message.text()}`);
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (!["data:", "blob:"].includes(url.protocol) && url.origin !== base) problems.push(`${name}: another host: ${request.url()}`);
  });
  return page;
}

/** What a browser says that it is. */
export const chrome = (system, device = "") => `Mozilla/5.0 (${system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0${device} Safari/537.36`;
/** A browser on a computer. */
export const LAPTOP = { viewport: { width: 1440, height: 900 }, userAgent: chrome("X11; Linux x86_64") };

/** Fills in the form to sign in, and sends it. */
export async function enter(page, email, password) {
  await field(page, "E-mail").fill(email);
  await secret(page, "Password").fill(password);
  await page.keyboard.press("Enter");
}

/** The same from wherever the page is. */
export async function signIn(page, email, password) {
  await page.goto(`${base}/app/sign-in`);
  await enter(page, email, password);
}

/** Waits until somebody is signed in. */
export const isIn = (page) => page.getByRole("navigation", { name: "Main" }).waitFor();

/** What a screen has, by its name. */
export const button = (page, name) => page.getByRole("button", { name, exact: true }).first();
export const field = (page, name) => page.getByRole("textbox", { name, exact: true }).first();
export const heading = (page, name) => page.getByRole("heading", { name, exact: true }).first();
/** A field of a password: it has no role. */
export const secret = (page, name) => page.locator("input[type=password]").and(page.getByLabel(name, { exact: true })).first();

/** A request of the API; the answer as it is. */
export async function call(method, path, body, token) {
  const answer = await fetch(`${base}/api/${path}`, {
    method,
    headers: { "content-type": "application/json", ...(token ? { authorization: `Bearer ${token}` } : {}) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const json = answer.status === 204 ? undefined : await answer.json();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(json)}`);
  return json;
}

/** Ends the browsers, and removes what the server has stored. */
export async function tidy() {
  await browser.close();
  await rm(folder, { recursive: true, force: true });
}
