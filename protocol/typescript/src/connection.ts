import { ASKED_MAX_MS, Backoff, MAX_MS } from "./backoff.js";
import { within } from "./check.js";
import { Timer } from "./environment.js";
import type { Environment, Socket } from "./environment.js";
import { MembersBookError } from "./errors.js";
import { given, objectIn } from "./json.js";
import { errorOf, problemOf, retryAfter } from "./problem.js";
import { SUBPROTOCOL } from "./protocol.js";
import type { ClientFrame, Goodbye, Hello, ServerFrame, Welcome } from "./protocol.js";
import type { Session } from "./session.js";
import type { ConnectionState, DebugEvent, Problem, SignedOutReason } from "./types.js";

/** How long is waited, in milliseconds: for the connection and its welcome; for a frame of the sync; for any frame after a ping; the same when the app comes to the foreground; for a reply. */
const OPEN_MS = 15_000;
const SYNC_MS = 60_000;
const PONG_MS = 10_000;
const PROBE_MS = 2_500;
const REPLY_MS = 20_000;
/** Between two attempts to renew the token of a connection, in milliseconds. */
const RENEW_AGAIN_MS = 5_000;

/** What a server says of times has these bounds, in milliseconds; the upper one is that of `backoff`. */
const LEAST_MS = 1_000;
/** Between two attempts at most, in milliseconds, while somebody looks at the app. */
const LOOKED_MAX_MS = 5_000;

/** Close codes after which this client would be refused again: its own faults. */
const FINAL = new Set([1002, 1003, 1007, 1009, 4400]);

/** A reply, as the request promises it. */
type Reply<T extends ServerFrame["type"]> = Extract<ServerFrame, { type: T }>;

interface Waiting {
  resolve(frame: ServerFrame): void;
  reject(error: unknown): void;
  timer: unknown;
}

/** Who uses the connection. */
export interface Listener {
  /** The first frame, without the token. Waits until everything that came before is in memory. */
  hello(): Omit<Hello, "token">;
  welcomed(welcome: Welcome): void;
  /** Every frame that is no reply to a request, and every one of settings. */
  pushed(frame: ServerFrame): void;
  /** Requests are answered from now on, or are not any more. */
  online(online: boolean): void;
  /** Whether somebody looks at the app. */
  looked(): boolean;
  state(state: Omit<ConnectionState, "storageFailing">): void;
  debug(what: string, details?: DebugEvent["details"]): void;
}

/** One WebSocket at a time: opened, kept alive, and replaced, as docs/protocol.md has it ("Staying connected"). */
export class Connection {
  private socket: Socket | undefined;
  private phase: "idle" | "waiting" | "connecting" | "syncing" | "online" | "replaced" | "stopped" = "idle";
  private readonly waiting = new Map<string, Waiting>();
  private readonly backoff: Backoff;
  private number = 0;
  /** One for what is waited for now: an attempt, a welcome, a frame of the sync, a pong. */
  private readonly timer: Timer;
  private readonly heartbeat: Timer;
  private heartbeatMs = 30_000;
  /** The clock of the server at the welcome, and the clock here that does not jump. */
  private serverTime = 0;
  private welcomedAt = 0;
  private goodbye: Goodbye | undefined;
  private closeCode: number | undefined;
  private problem: Problem | undefined;
  private token = "";
  /** The token was refused, and renewed, since the last sync. */
  private renewed = false;
  /** Counts attempts: what belongs to an earlier one is passed over. */
  private attempt = 0;

  constructor(
    private readonly url: string,
    private readonly environment: Environment,
    private readonly session: Session,
    private readonly listener: Listener,
  ) {
    this.timer = new Timer(environment.clock);
    this.heartbeat = new Timer(environment.clock);
    this.backoff = new Backoff(environment.random, () => (listener.looked() ? LOOKED_MAX_MS : MAX_MS));
  }

  get online(): boolean {
    return this.phase === "online";
  }

  start(): void {
    if (this.phase !== "idle") return;
    this.renewed = false;
    this.problem = undefined;
    this.backoff.reset();
    void this.connect();
  }

  /** Closes it, for good. */
  stop(): void {
    this.leave("idle");
  }

  /** A hint that the world has changed: an open connection is tried, a waiting one does not wait any longer. */
  wake(): void {
    switch (this.phase) {
      case "waiting":
      case "replaced":
      case "stopped":
        this.backoff.reset();
        void this.connect();
        break;
      case "online":
        this.probe(PROBE_MS);
        break;
      case "connecting":
      case "syncing":
        // Its packets may have gone where the network was before. While it catches up the server answers nothing, and every frame shows that it lives; a sync goes on where it was cut.
        this.timer.hasten(PROBE_MS, () => this.again(0));
        break;
      default:
    }
  }

  /** Ends it and begins another one, at once: for a state that has to be asked for anew. */
  restart(): void {
    if (this.phase === "syncing" || this.phase === "online") this.again(0);
  }

  /** Sends a request and waits for its reply. Throws what the server says, or `network`. */
  request<T extends ServerFrame["type"]>(frame: ClientFrame): Promise<Reply<T>> {
    return new Promise((resolve, reject) => {
      if (!this.online) return reject(new MembersBookError("network", "There is no connection."));
      this.number += 1;
      const id = String(this.number);
      const timer = this.environment.clock.setTimeout(() => {
        this.waiting.delete(id);
        reject(new MembersBookError("network", "The server did not answer in time."));
        this.probe(PONG_MS);
      }, REPLY_MS);
      this.waiting.set(id, { resolve: (reply) => resolve(reply as Reply<T>), reject, timer });
      const { type, ...rest } = frame;
      this.transmit({ type, id, ...rest });
    });
  }

  /** Sends a frame that has no reply, if there is a connection. */
  tell(frame: ClientFrame): void {
    if (this.online) this.transmit(frame);
  }

  private async connect(): Promise<void> {
    this.leave("connecting");
    const attempt = this.attempt;
    this.show();
    try {
      const token = await this.session.access();
      if (attempt !== this.attempt) return;
      this.token = token;
      this.open(attempt);
    } catch (error) {
      if (attempt !== this.attempt) return;
      // Where the session is over, whoever keeps it stops this.
      this.problem = problemOf(error);
      this.listener.debug("attempt failed", { code: this.problem.code });
      this.again(this.backoff.next(retryAfter(error)));
    }
  }

  private open(attempt: number): void {
    const socket = this.environment.socket(this.url, SUBPROTOCOL);
    this.socket = socket;
    this.timer.set(OPEN_MS, () => this.lost(1006));
    const mine = (call: () => void) => () => {
      if (attempt === this.attempt && socket === this.socket) call();
    };
    socket.onopen = mine(() => {
      const { device, cursor } = this.listener.hello();
      this.transmit({ type: "hello", id: "hello", token: this.token, device, cursor });
    });
    socket.onmessage = (event) => mine(() => this.received(event.data))();
    socket.onclose = (event) => mine(() => this.lost(event.code))();
    // A close follows.
    socket.onerror = () => undefined;
  }

  private received(data: unknown): void {
    // What is no frame, or of an unknown type, is passed over by whoever looks at its `type`.
    const frame = objectIn<ServerFrame>(data) as ServerFrame | undefined;
    if (!frame) return;
    this.listener.debug("received", given({ type: frame.type, code: frame.type === "error" ? frame.code : undefined }));
    // The connection lives.
    if (this.phase === "online") this.timer.stop();
    else if (this.phase === "syncing") this.timer.set(SYNC_MS, () => this.lost(1006));
    switch (frame.type) {
      case "welcome":
        this.phase = "syncing";
        this.heartbeatMs = within(frame.heartbeat_ms, LEAST_MS, ASKED_MAX_MS, 30_000);
        this.serverTime = Date.parse(frame.time);
        this.welcomedAt = this.environment.clock.monotonic();
        this.timer.set(SYNC_MS, () => this.lost(1006));
        this.listener.welcomed(frame);
        this.show();
        return;
      case "sync.done":
        this.listener.pushed(frame);
        if (this.phase === "syncing") this.synced();
        return;
      case "goodbye":
        this.goodbye = frame;
        return;
      case "auth.expiring":
        this.expiring(Date.parse(frame.expires_at));
        return;
      default:
    }
    const { id = "" } = frame as { id?: string };
    const waiting = this.waiting.get(id);
    if (waiting) {
      this.waiting.delete(id);
      this.environment.clock.clearTimeout(waiting.timer);
      if (frame.type === "error") waiting.reject(errorOf(frame));
      else waiting.resolve(frame);
    } else if (frame.type === "error" && !this.online) {
      // Of what was told (typing) nobody waits for the answer.
      this.problem = problemOf(errorOf(frame));
    }
    // A reply (the ids of requests are numbers) is for who has asked, also one that comes too late; but settings are news, whoever has asked.
    if (frame.type !== "error" && (!/^\d/.test(id) || frame.type === "conversation.settings")) this.listener.pushed(frame);
  }

  private synced(): void {
    this.phase = "online";
    this.renewed = false;
    this.problem = undefined;
    this.closeCode = undefined;
    this.backoff.reset();
    this.timer.stop();
    this.beat();
    this.show();
    this.listener.online(true);
  }

  private beat(): void {
    this.heartbeat.set(this.heartbeatMs, () => {
      this.probe(PONG_MS);
      this.beat();
    });
  }

  /** Any frame has to come in so many milliseconds, or by the deadline of a probe before this one. */
  private probe(ms: number): void {
    if (!this.online) return;
    this.timer.hasten(ms, () => {
      this.closeCode = 1006;
      this.again(0);
    });
    this.transmit({ type: "ping", id: "ping" });
  }

  /** The token of this connection expires, by the clock of the server: it is renewed when half of what is left is over, so that one that lives for a minute is not renewed at once again. */
  private expiring(at: number): void {
    const { clock } = this.environment;
    const attempt = this.attempt;
    const left = at - (this.serverTime + clock.monotonic() - this.welcomedAt);
    clock.setTimeout(() => attempt === this.attempt && void this.renew(), within(left / 2, 0, ASKED_MAX_MS, LEAST_MS));
  }

  /** The token of this connection is about to expire. If it cannot be renewed in time the server closes with 4401. */
  private async renew(): Promise<void> {
    const attempt = this.attempt;
    try {
      const token = await this.session.renew(this.token, true);
      if (attempt !== this.attempt) return;
      this.token = token;
      await this.request<"ok">({ type: "auth.renew", token });
    } catch (error) {
      this.listener.debug("renewal failed", { code: problemOf(error).code });
      const later = () => attempt === this.attempt && void this.renew();
      if (problemOf(error).verdict === "retry") this.environment.clock.setTimeout(later, RENEW_AGAIN_MS);
    }
  }

  /** The connection is gone: what next is said by the code. */
  private lost(seen: number): void {
    const code = this.goodbye?.code ?? seen;
    const asked = this.goodbye?.retry_after_ms;
    this.closeCode = code;
    this.listener.debug("closed", { code });
    if (code === 4401) {
      void this.unauthorized();
    } else if (code === 4403) {
      void this.over("deactivated");
    } else if (code === 4409) {
      this.leave("replaced");
      this.show();
    } else if (FINAL.has(code)) {
      this.leave("stopped");
      this.show();
    } else {
      this.again(this.backoff.next(asked === undefined ? undefined : within(asked, LEAST_MS, ASKED_MAX_MS, LEAST_MS)));
    }
  }

  /** Refreshes once. Refused again right after that, the session is over. */
  private async unauthorized(): Promise<void> {
    this.leave("connecting");
    const attempt = this.attempt;
    // One that has expired again meanwhile (it lived shortly, or the server was not reached) was good.
    if (this.renewed && this.problem?.code !== "token_expired") return this.over("session_over");
    const wait = this.renewed ? this.backoff.next() : 0;
    this.show();
    try {
      await this.session.renew(this.token);
      if (attempt !== this.attempt) return;
      this.renewed = true;
      this.again(wait);
    } catch (error) {
      if (attempt !== this.attempt) return;
      this.renewed = false;
      this.again(this.backoff.next(retryAfter(error)));
    }
  }

  /** The server does not take the session any more. Somebody may have signed in since, in another tab: with those tokens it is tried again. */
  private async over(reason: SignedOutReason): Promise<void> {
    this.leave("connecting");
    const attempt = this.attempt;
    const other = await this.session.refused(this.token, reason);
    if (other && attempt === this.attempt) this.again(0);
  }

  /** Connects after a while. */
  private again(ms: number): void {
    this.leave("waiting");
    this.timer.set(ms, () => void this.connect());
    this.show(ms);
  }

  /** Lets go of the socket, whatever it does, and of everything that waits for it. */
  private leave(phase: Connection["phase"]): void {
    const { socket } = this;
    const wasOnline = this.online;
    this.attempt += 1;
    this.phase = phase;
    this.socket = undefined;
    this.goodbye = undefined;
    this.timer.stop();
    this.heartbeat.stop();
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.onerror = () => undefined;
      try {
        socket.close(1000);
      } catch {
        // It was not open.
      }
    }
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const { timer } of waiting) this.environment.clock.clearTimeout(timer);
    if (wasOnline) this.listener.online(false);
    for (const { reject } of waiting) reject(new MembersBookError("network", "The connection is gone."));
    if (phase === "idle") this.show();
  }

  private transmit(frame: { type: string; [field: string]: unknown }): void {
    this.listener.debug("sent", { type: frame.type });
    try {
      this.socket?.send(JSON.stringify(frame));
    } catch {
      // Closing: a close follows, or the deadline.
    }
  }

  private show(waitMs?: number): void {
    const status = this.phase === "idle" ? "offline" : this.phase === "waiting" ? "connecting" : this.phase;
    const { closeCode, problem } = this;
    this.listener.debug("state", { status, closeCode, code: problem?.code, waitMs });
    this.listener.state({
      status,
      ...given({ closeCode, problem, retryAt: waitMs ? this.environment.clock.now() + waitMs : undefined }),
    });
  }
}
