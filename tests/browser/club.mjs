// A server of its own for a browser test, in an empty folder, and browsers on it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const binary = process.env.MEMBERS_BOOK ?? new URL("../../target/release/members-book", import.meta.url).pathname;

/** How long anything may take, in milliseconds. */
export const patience = 30_000;

const folder = await mkdtemp(join(tmpdir(), "members-book-app-"));
const port = await new Promise((resolve) => {
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port: free } = probe.address();
    probe.close(() => resolve(free));
  });
});
export const base = `http://127.0.0.1:${port}`;
const settings = {
  PORT: String(port), METRICS_ADDR: "off", BCRYPT_COST: "4", LOG: "warn",
  RATE_REQUESTS: "0", RATE_ADDRESS: "0", RATE_LOGINS: "0", RATE_REGISTRATIONS: "0", RATE_MESSAGES: "0", RATE_FRAMES: "0",
};

/** Starts the server, and waits until it has printed where it is. */
export async function serve() {
  const server = spawn(binary, { cwd: folder, env: settings, stdio: ["ignore", "pipe", "inherit"] });
  let printed = "";
  server.stdout.setEncoding("utf8");
  await new Promise((resolve, reject) => {
    server.stdout.on("data", (text) => {
      printed += text;
      if (/API +http:/.test(printed)) resolve();
    });
    server.once("exit", (code) => reject(new Error(`the server ended with ${code}: ${printed}`)));
  });
  return { server, printed: () => printed };
}

/** Ends it without a word. */
export async function kill({ server }) {
  server.removeAllListeners("exit");
  const gone = once(server, "exit");
  server.kill("SIGKILL");
  await gone;
}

/** What pages did that they must not do. */
export const problems = [];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});

/** A browser of one member. While the server is away, failed requests are no problem. */
export async function person(name, options) {
  const context = await browser.newContext({ reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(patience);
  const page = await context.newPage();
  page.on("pageerror", (error) => problems.push(`${name}: uncaught: ${error.message}`));
  page.on("console", (message) => {
    if (/Content.Security.Policy/i.test(message.text())) problems.push(`${name}: ${message.text()}`);
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (!["data:", "blob:"].includes(url.protocol) && url.host !== `127.0.0.1:${port}`) problems.push(`${name}: another host: ${request.url()}`);
  });
  return page;
}

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
