import { createHmac, randomUUID } from "node:crypto";

import { WebSocket } from "ws";

import type { Environment, Socket } from "../../src/environment.js";
import { Client } from "../../src/index.js";
import type { AuthResponse, ClientFrame, ServerFrame } from "../../src/protocol.js";
import type { ClientOptions, DebugEvent } from "../../src/types.js";
import type { Pending } from "./disk.js";
import { Disk, DiskStorage, DiskVault } from "./disk.js";
import { Proxy } from "./proxy.js";
import { JWT_SECRET } from "./server.js";
import type { Server } from "./server.js";
import { Chance, until } from "./until.js";

/** A request that the client made over REST. */
export interface Asked {
  readonly method: string;
  readonly path: string;
  status?: number;
}

/** A phone, or a browser: it has a disk, a clock and a network, and runs the app or not. All of them outlive the app. */
export class Device {
  readonly disk: Disk;
  /** How far its clock is wrong, in milliseconds. */
  clockOffset = 0;
  /** How long access tokens live, in milliseconds, if not as long as the server says. */
  tokenLife: number | undefined;
  /** The access token that it got last. */
  accessToken: string | undefined;
  /** What it asked over REST, in all lives of the app. */
  readonly asked: Asked[] = [];
  /** How many WebSockets it has opened. */
  opened = 0;
  /** The last lines of the debug log. */
  readonly log: string[] = [];
  /** Told every frame, before it is handed on. */
  onSent: ((frame: ClientFrame & { id?: string }) => void) | undefined;
  onReceived: ((frame: ServerFrame & { id?: string }) => void) | undefined;
  /** Makes something else of a frame before the app gets it: a server that is at fault. */
  change: ((frame: ServerFrame & { id?: string }) => unknown) | undefined;
  /** Told when the app runs, before it starts. */
  onLaunch: ((client: Client) => void) | undefined;
  private life: Life | undefined;

  private constructor(
    readonly name: string,
    readonly proxy: Proxy,
    readonly chance: Chance,
  ) {
    this.disk = new Disk(chance.fork());
  }

  static async make(name: string, server: Server, chance = new Chance(1)): Promise<Device> {
    return new Device(name, await Proxy.start(server.port), chance);
  }

  get isRunning(): boolean {
    return this.life !== undefined;
  }

  get client(): Client {
    if (!this.life) throw new Error(`The app on ${this.name} does not run.`);
    return this.life.client;
  }

  get storage(): DiskStorage {
    if (!this.life) throw new Error(`The app on ${this.name} does not run.`);
    return this.life.storage;
  }

  /** The app is opened. */
  async launch(options: Partial<ClientOptions> = {}): Promise<Client> {
    if (this.life) throw new Error(`The app on ${this.name} runs already.`);
    const life = new Life(this, options);
    this.life = life;
    this.onLaunch?.(life.client);
    await Promise.race([life.client.start(), life.ended]);
    return life.client;
  }

  /** The app is killed: from one moment to the next nothing of it runs any more. */
  kill(pending: Pending = "some"): void {
    this.life?.kill(pending);
    this.life = undefined;
  }

  /** The app is closed as it wants to be. */
  async stop(): Promise<void> {
    const { life } = this;
    if (!life) return;
    await life.client.stop();
    life.kill("lost");
    this.life = undefined;
  }

  /** The end of the device. */
  async remove(): Promise<void> {
    this.kill();
    await this.proxy.stop();
  }

  /** A log line, with the newest ones kept. */
  note(text: string): void {
    this.log.push(`${new Date().toISOString().slice(11, 23)} ${text}`);
    if (this.log.length > 4000) this.log.splice(0, 2000);
  }

  async online(ms = 15_000): Promise<void> {
    await until(`${this.name} is online`, () => this.life?.client.connection.getSnapshot().status === "online", {
      ms,
      explain: () => `${JSON.stringify([this.life?.client.session.getSnapshot().status, this.life?.client.connection.getSnapshot()])}\n${this.log.slice(-40).join("\n")}`,
    });
  }

  /** What the tests change of an answer before the app sees it: the life of the token. */
  seen(answer: AuthResponse): AuthResponse {
    const token = this.tokenLife === undefined ? answer.access_token : shortened(answer.access_token, this.tokenLife);
    this.accessToken = token;
    if (this.tokenLife === undefined) return answer;
    return { ...answer, access_token: token, expires_at: new Date(expiryOf(token) * 1000).toISOString() };
  }
}

/** One life of the app: what belongs to it ends with it. */
class Life {
  readonly client: Client;
  readonly storage: DiskStorage;
  readonly ended: Promise<void>;
  private readonly vault: DiskVault;
  private readonly timers = new Set<NodeJS.Timeout>();
  private readonly sockets = new Set<WebSocket>();
  private readonly requests = new AbortController();
  private isDead = false;
  private end: () => void = () => undefined;

  constructor(
    private readonly device: Device,
    options: Partial<ClientOptions>,
  ) {
    this.ended = new Promise<void>((resolve) => (this.end = resolve));
    this.storage = new DiskStorage(device.disk);
    this.vault = new DiskVault(device.disk);
    this.client = new Client({
      url: device.proxy.url,
      storage: this.storage,
      vault: this.vault,
      platform: "ios",
      deviceName: device.name,
      environment: this.environment(),
      debug: (event: DebugEvent) => {
        if (!this.isDead) device.note(`${event.what} ${JSON.stringify(event.details ?? {})}`);
      },
      ...options,
    });
  }

  kill(pending: Pending): void {
    this.isDead = true;
    this.storage.kill(pending);
    this.vault.kill(pending);
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
    for (const socket of this.sockets) socket.terminate();
    this.sockets.clear();
    this.requests.abort();
    this.end();
  }

  private environment(): Environment {
    const { device } = this;
    return {
      clock: {
        now: () => Date.now() + device.clockOffset,
        monotonic: () => performance.now(),
        setTimeout: (call, ms) => {
          if (this.isDead) return undefined;
          const timer: NodeJS.Timeout = setTimeout(() => {
            this.timers.delete(timer);
            call();
          }, ms);
          this.timers.add(timer);
          return timer;
        },
        clearTimeout: (timer) => {
          if (timer === undefined || timer === null) return;
          clearTimeout(timer as NodeJS.Timeout);
          this.timers.delete(timer as NodeJS.Timeout);
        },
      },
      socket: (url, protocol) => this.socket(url, protocol),
      fetch: (input, init) => this.fetch(input, init),
      random: device.chance.next,
      uuid: () => randomUUID(),
    };
  }

  private socket(url: string, protocol: string): Socket {
    const { device } = this;
    const socket: Socket = { onopen: null, onmessage: null, onclose: null, onerror: null, send: () => undefined, close: () => undefined };
    if (this.isDead) return socket;
    device.opened += 1;
    const ws = new WebSocket(url, protocol, { perMessageDeflate: false });
    this.sockets.add(ws);
    socket.send = (text) => {
      if (this.isDead) return;
      // As in a browser: an error while it is connecting, nothing once it is closing.
      if (ws.readyState === WebSocket.CONNECTING) throw new Error("send: the socket is not open yet");
      if (ws.readyState !== WebSocket.OPEN) return;
      const frame = JSON.parse(text) as ClientFrame & { id?: string };
      device.note(`> ${short(frame)}`);
      device.onSent?.(frame);
      ws.send(text);
    };
    socket.close = (code, reason) => ws.close(code, reason);
    ws.on("open", () => {
      if (!this.isDead) socket.onopen?.();
    });
    ws.on("message", (data: Buffer) => {
      if (this.isDead) return;
      const text = data.toString("utf8");
      const frame = JSON.parse(text) as ServerFrame & { id?: string };
      device.note(`< ${short(frame)}`);
      // What comes on a socket that the app has let go of, it does not get.
      if (socket.onmessage) device.onReceived?.(frame);
      socket.onmessage?.({ data: device.change ? JSON.stringify(device.change(frame)) : text });
    });
    ws.on("error", (error) => {
      if (!this.isDead) socket.onerror?.(error);
    });
    ws.on("close", (code, reason) => {
      this.sockets.delete(ws);
      if (!this.isDead) socket.onclose?.({ code, reason: reason.toString("utf8") });
    });
    return socket;
  }

  private async fetch(input: Parameters<typeof fetch>[0], init: Parameters<typeof fetch>[1]): Promise<Response> {
    const url = new URL(input instanceof Request ? input.url : input);
    const asked: Asked = { method: init?.method ?? "GET", path: url.pathname };
    if (this.isDead) return new Promise<never>(() => undefined);
    this.device.asked.push(asked);
    const signals = init?.signal ? [init.signal, this.requests.signal] : [this.requests.signal];
    try {
      const response = await fetch(input, { ...init, signal: AbortSignal.any(signals) });
      const gives = /^\/api\/auth\/(login|register|refresh)$/.test(url.pathname) && response.ok;
      const text = await response.text();
      if (this.isDead) return await new Promise<never>(() => undefined);
      asked.status = response.status;
      this.device.note(`${asked.method} ${asked.path} ${response.status}`);
      const body = gives ? JSON.stringify(this.device.seen(JSON.parse(text) as AuthResponse)) : text;
      return new Response(response.status === 204 ? null : body, { status: response.status, headers: response.headers });
    } catch (cause) {
      if (this.isDead) return new Promise<never>(() => undefined);
      this.device.note(`${asked.method} ${asked.path} failed`);
      throw cause;
    }
  }
}

/** A frame in a line, without content. */
function short(frame: (ClientFrame | ServerFrame) & { id?: string }): string {
  return JSON.stringify(frame, (key, value: unknown) => (key === "content" || key === "token" || key === "cursor" ? undefined : value)).slice(0, 400);
}

function expiryOf(token: string): number {
  const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8")) as { exp: number };
  return claims.exp;
}

/** The same token with another end: signed as the server does it. */
function shortened(token: string, life: number): string {
  const [head, body] = token.split(".");
  const claims: unknown = JSON.parse(Buffer.from(body ?? "", "base64url").toString("utf8"));
  const changed = Buffer.from(JSON.stringify({ ...(claims as object), exp: Math.floor((Date.now() + life) / 1000) })).toString("base64url");
  return `${head}.${changed}.${createHmac("sha256", JWT_SECRET).update(`${head}.${changed}`).digest("base64url")}`;
}
