import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { until } from "./until.js";

/** Signs the access tokens: known, so that tests can make tokens that expire when they want. */
export const JWT_SECRET = "the secret of the tests of the client package";

/** What the tests need of the server, unless they say otherwise: nothing is limited, nothing takes long. */
const SETTINGS: Readonly<Record<string, string>> = {
  HOST: "127.0.0.1",
  JWT_SECRET,
  BCRYPT_COST: "4",
  METRICS_ADDR: "off",
  LOG: "info",
  LOG_FORMAT: "json",
  PRESENCE_GRACE: "300ms",
  PRESENCE_INTERVAL: "0s",
  PROFILE_INTERVAL: "0s",
  CLOSE_TIMEOUT: "500ms",
  SHUTDOWN_TIMEOUT: "3s",
  DRAIN_TIME: "0s",
  ...Object.fromEntries([
    "MESSAGES", "FRAMES", "TYPING", "STATUSES", "NEW_CONVERSATIONS", "PROFILES", "HELLOS", "HELLOS_MEMBER", "HELLOS_ADDRESS", "REQUESTS", "ADDRESS", "LOGINS",
    "REFRESHES", "REGISTRATIONS",
  ].map((limit) => [`RATE_${limit}`, "0"])),
};

/** The binary that the tests run against. */
export function binary(): string {
  const given = process.env["MEMBERS_BOOK_BIN"];
  if (given) return given;
  const target = fileURLToPath(new URL("../../../../target/", import.meta.url));
  const found = ["release", "debug"].map((kind) => join(target, kind, "members-book")).find((path) => existsSync(path));
  if (!found) throw new Error("There is no server to test against: run `cargo build --release`, or set MEMBERS_BOOK_BIN.");
  return found;
}

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A real server with a data folder of its own. Its port is kept over restarts. */
export class Server {
  private child: ChildProcess | undefined;
  private guard: ChildProcess | undefined;
  /** Those that were ended from here. */
  private readonly ended = new WeakSet<ChildProcess>();

  private constructor(
    readonly port: number,
    readonly folder: string,
    private settings: Readonly<Record<string, string>>,
  ) {}

  static async start(settings: Readonly<Record<string, string>> = {}): Promise<Server> {
    const server = new Server(await freePort(), mkdtempSync(join(tmpdir(), "members-book-test-")), { ...SETTINGS, ...settings });
    await server.launch();
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** What it has logged, over all its lives. */
  get log(): string {
    return readFileSync(join(this.folder, "server.log"), "utf8");
  }

  get isRunning(): boolean {
    return this.child !== undefined;
  }

  /** Starts it again after `kill` or `stop`, with further settings if any are given. */
  async launch(settings: Readonly<Record<string, string>> = {}): Promise<void> {
    if (this.child) throw new Error("The server runs already.");
    this.settings = { ...this.settings, ...settings };
    const log = openSync(join(this.folder, "server.log"), "a");
    const child = spawn(binary(), [], { cwd: this.folder, env: this.environment(), stdio: ["ignore", log, log] });
    closeSync(log);
    this.child = child;
    running.add(child);
    child.once("exit", () => {
      running.delete(child);
      if (this.child === child) this.child = undefined;
    });
    // Whatever becomes of this process, the server ends with it: the guard waits for the end of its input.
    this.guard = spawn("sh", ["-c", 'cat >/dev/null; kill -9 "$1" 2>/dev/null', "guard", String(child.pid)], { stdio: ["pipe", "ignore", "ignore"] });
    this.guard.unref();
    const outcome = await until(
      "the server is ready",
      async () => {
        if (this.child !== child) return "ended";
        return (await fetch(`${this.url}/readyz`, { signal: AbortSignal.timeout(2000) })).ok ? "ready" : undefined;
      },
      { ms: 30_000, explain: () => this.log.slice(-4000) },
    );
    // A test may have ended it before it was ready.
    if (outcome === "ended" && !this.ended.has(child)) throw new Error(`The server has ended:\n${this.log.slice(-4000)}`);
  }

  /** Ends it as a loss of power of the process would: nothing is said to anybody. */
  async kill(): Promise<void> {
    await this.end("SIGKILL");
  }

  /** Asks it to stop: it says goodbye to its connections. */
  async stop(): Promise<void> {
    await this.end("SIGTERM");
  }

  /** Killed and started again. */
  async restart(settings: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.kill();
    await this.launch(settings);
  }

  /** It stands still: its sockets stay open, and nothing is answered. */
  pause(): void {
    const { child } = this;
    child?.kill("SIGSTOP");
    // The signal is on its way for a moment: until every thread has it.
    const tasks = `/proc/${child?.pid}/task`;
    const runs = (task: string) => !/\) [Tt] /.test(readFileSync(`${tasks}/${task}/stat`, "utf8"));
    while (child && existsSync(tasks) && readdirSync(tasks).some(runs));
  }

  resume(): void {
    this.child?.kill("SIGCONT");
  }

  /** Ends it for good, and removes its folder. */
  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Runs `members-book admin …` with the settings of this server. */
  admin(...args: string[]): void {
    const result = spawnSync(binary(), ["admin", ...args], { cwd: this.folder, env: this.environment(), encoding: "utf8" });
    if (result.status !== 0) throw new Error(`members-book admin ${args.join(" ")}: ${result.stdout}${result.stderr}`);
  }

  private environment(): NodeJS.ProcessEnv {
    return {
      PATH: process.env["PATH"],
      ...this.settings,
      PORT: String(this.port),
      DATABASE_URL: `sqlite:${join(this.folder, "club.db")}`,
      DATA_DIR: this.folder,
      PHOTO_DIR: join(this.folder, "photos"),
    };
  }

  private async end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const child = this.child;
    if (!child) return;
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    this.ended.add(child);
    child.kill("SIGCONT");
    child.kill(signal);
    await ended;
    this.guard?.kill("SIGKILL");
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
