import { connect, createServer } from "node:net";
import type { AddressInfo, Server as NetServer, Socket as NetSocket } from "node:net";

/** `up`: from the client to the server. `down`: from the server to the client. */
export type Direction = "up" | "down";

/** How a direction of a connection behaves. */
export interface Condition {
  /** Nothing passes, not even the end of the connection; what is sent meanwhile passes later. */
  readonly frozen?: boolean;
  /** Bytes a second; without it, as fast as possible. */
  readonly rate?: number;
  /** How long each piece is on its way, in milliseconds. */
  readonly delay?: number;
}

/** What new connections meet: `up`: the server. `refused`: a reset. `dead`: somebody accepts, and nothing ever comes. */
export type Reach = "up" | "refused" | "dead";

type Piece = { readonly due: number } & ({ readonly data: Buffer } | { readonly end: "fin" | "reset" });

const HIGH_WATER = 256 * 1024;

/** One direction of one connection. */
class Pipe {
  private readonly pieces: Piece[] = [];
  private size = 0;
  private timer: NodeJS.Timeout | undefined;
  private condition: Condition = {};
  private freeAt = 0;

  constructor(
    private readonly from: NetSocket,
    private readonly to: NetSocket,
    private readonly seen: (data: Buffer) => Buffer | undefined,
  ) {
    from.on("data", (data: Buffer) => {
      const kept = this.seen(data);
      if (kept) this.push({ data: kept, due: performance.now() + (this.condition.delay ?? 0) });
    });
    from.on("end", () => this.push({ end: "fin", due: performance.now() + (this.condition.delay ?? 0) }));
    from.on("error", () => this.push({ end: "reset", due: performance.now() }));
    to.on("drain", () => this.pump());
  }

  set(condition: Condition): void {
    this.condition = condition;
    this.pump();
  }

  /** Forgets what is on its way. */
  close(): void {
    clearTimeout(this.timer);
    this.pieces.length = 0;
  }

  private push(piece: Piece): void {
    this.pieces.push(piece);
    if ("data" in piece) this.size += piece.data.length;
    if (this.size > HIGH_WATER) this.from.pause();
    this.pump();
  }

  private pump(): void {
    clearTimeout(this.timer);
    for (;;) {
      const piece = this.pieces[0];
      if (!piece || this.condition.frozen || this.to.destroyed) return;
      const wait = Math.max(piece.due, this.freeAt) - performance.now();
      if (wait > 0) {
        this.timer = setTimeout(() => this.pump(), wait);
        return;
      }
      if ("end" in piece) {
        this.pieces.shift();
        if (piece.end === "fin") this.to.end();
        else this.to.resetAndDestroy();
        continue;
      }
      if (this.to.writableLength > HIGH_WATER) return;
      const { rate } = this.condition;
      // A tenth of a second of it at a time.
      const take = rate ? Math.min(piece.data.length, Math.max(1, Math.floor(rate / 10))) : piece.data.length;
      this.to.write(piece.data.subarray(0, take));
      if (take === piece.data.length) this.pieces.shift();
      else this.pieces[0] = { data: piece.data.subarray(take), due: piece.due };
      this.size -= take;
      if (rate) this.freeAt = performance.now() + (take / rate) * 1000;
      if (this.size < HIGH_WATER / 2) this.from.resume();
    }
  }
}

/** One connection through the proxy. */
export class Link {
  /** A WebSocket, by its first bytes. */
  isSocket = false;
  isOpen = true;
  private readonly pipes: Record<Direction, Pipe>;
  /** How many bytes of the answer pass before the connection is cut. */
  private answerLeft: number | undefined;

  constructor(
    private readonly proxy: Proxy,
    private readonly client: NetSocket,
    private readonly server: NetSocket,
  ) {
    client.setNoDelay();
    server.setNoDelay();
    let isFirst = true;
    const up = new Pipe(client, server, (data) => {
      const head = data.toString("latin1", 0, 200);
      if (isFirst) this.isSocket = head.startsWith("GET /ws");
      isFirst = false;
      if (this.proxy.takeDrop(head)) {
        setImmediate(() => this.cut());
        return undefined;
      }
      this.answerLeft ??= this.proxy.takeCut(head);
      return data;
    });
    const down = new Pipe(server, client, (data) => {
      if (this.answerLeft === undefined) return data;
      const passes = data.subarray(0, this.answerLeft);
      this.answerLeft -= passes.length;
      // The server has answered, and the rest of its answer is lost.
      if (passes.length < data.length) setImmediate(() => this.cut());
      return passes.length > 0 ? passes : undefined;
    });
    this.pipes = { up, down };
    for (const socket of [client, server]) socket.once("close", () => this.closed());
  }

  /** Both ends get a reset, at once. */
  cut(): void {
    this.client.resetAndDestroy();
    this.server.resetAndDestroy();
    this.closed();
  }

  /** How it behaves from now on, in one direction or both. */
  set(condition: Condition, direction?: Direction): void {
    if (direction !== "down") this.pipes.up.set(condition);
    if (direction !== "up") this.pipes.down.set(condition);
  }

  private closed(): void {
    if (!this.client.destroyed || !this.server.destroyed) return;
    if (!this.isOpen) return;
    this.isOpen = false;
    this.pipes.up.close();
    this.pipes.down.close();
    this.proxy.links.delete(this);
  }
}

/** A network between clients and the server, which the test governs. */
export class Proxy {
  readonly links = new Set<Link>();
  /** What new connections meet. */
  reach: Reach = "up";
  /** How new connections behave. */
  private condition: Partial<Record<Direction, Condition>> = {};
  private cuts: { readonly request: RegExp; readonly after: number }[] = [];
  private drops: RegExp[] = [];
  private readonly strays = new Set<NetSocket>();

  private constructor(
    private readonly net: NetServer,
    private readonly target: number,
  ) {
    net.on("connection", (client) => this.accept(client));
  }

  static async start(target: number): Promise<Proxy> {
    // Half open: an end is passed on when the link lets it through, not when the kernel has it.
    const net = createServer({ allowHalfOpen: true });
    await new Promise<void>((resolve) => net.listen(0, "127.0.0.1", resolve));
    return new Proxy(net, target);
  }

  get port(): number {
    return (this.net.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The open WebSockets. */
  get sockets(): Link[] {
    return [...this.links].filter((link) => link.isSocket);
  }

  /** Cuts all connections. New ones are not concerned. */
  cut(): void {
    for (const link of [...this.links]) link.cut();
    for (const socket of this.strays) socket.resetAndDestroy();
  }

  /** How all connections behave, those to come included. */
  set(condition: Condition, direction?: Direction): void {
    if (direction !== "down") this.condition.up = condition;
    if (direction !== "up") this.condition.down = condition;
    for (const link of this.links) link.set(condition, direction);
  }

  /** How the connections that are open now behave; new ones are not concerned. */
  setOpen(condition: Condition, direction?: Direction): void {
    for (const link of this.links) link.set(condition, direction);
  }

  /** All is well again. */
  heal(): void {
    this.reach = "up";
    this.cuts = [];
    this.drops = [];
    this.set({});
  }

  /** The next answer to a request whose first line is like this is cut after so many bytes: the server has done what was asked for, and nobody hears of it. */
  cutAnswer(request: RegExp, after: number): void {
    this.cuts.push({ request, after });
  }

  /** The next request whose first line is like this is cut before the server has it. */
  cutRequest(request: RegExp): void {
    this.drops.push(request);
  }

  /** Whether a request that was to be cut, or whose answer was, has not been made. */
  get hasCuts(): boolean {
    return this.cuts.length + this.drops.length > 0;
  }

  takeDrop(head: string): boolean {
    const index = this.drops.findIndex((request) => request.test(head));
    if (index >= 0) this.drops.splice(index, 1);
    return index >= 0;
  }

  takeCut(head: string): number | undefined {
    const index = this.cuts.findIndex(({ request }) => request.test(head));
    return index < 0 ? undefined : this.cuts.splice(index, 1)[0]?.after;
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.net.close(() => resolve()));
    this.cut();
    await closed;
  }

  private accept(client: NetSocket): void {
    client.on("error", () => undefined);
    if (this.reach === "refused") {
      client.resetAndDestroy();
      return;
    }
    if (this.reach === "dead") {
      this.strays.add(client);
      client.once("close", () => this.strays.delete(client));
      client.resume();
      return;
    }
    const server = connect({ port: this.target, host: "127.0.0.1", allowHalfOpen: true });
    server.on("error", () => undefined);
    const link = new Link(this, client, server);
    if (this.condition.up) link.set(this.condition.up, "up");
    if (this.condition.down) link.set(this.condition.down, "down");
    this.links.add(link);
  }
}
