import { expect, vi } from "vitest";

import { MembersBookError, MemoryStorage, MemoryVault } from "../../src/index.js";
import type { ClientOptions, Erasure, Socket } from "../../src/index.js";
import type { AuthResponse, Member, MemberId } from "../../src/protocol.js";
import { Keys } from "../../src/records.js";
import type { Changes, Vault } from "../../src/storage.js";
import { WebClient } from "../../src/web/client.js";

export const [ANA, BEN] = ["a".repeat(24) as MemberId, "b".repeat(24) as MemberId];

/** Calls that do not answer before they are told to. */
export class Stuck {
  on = false;
  private readonly waiting: (() => void)[] = [];

  get held(): number {
    return this.waiting.length;
  }

  async call<T>(work: () => Promise<T>): Promise<T> {
    if (this.on) await new Promise<void>((resolve) => this.waiting.push(resolve));
    return work();
  }

  release(): void {
    this.on = false;
    for (const go of this.waiting.splice(0)) go();
  }
}

export class StuckStorage extends MemoryStorage {
  readonly reads = new Stuck();
  readonly writes = new Stuck();
  readonly closing = new Stuck();

  override get(key: string): Promise<string | undefined> {
    return this.reads.call(() => super.get(key));
  }

  override range(from: string, to: string): Promise<[string, string][]> {
    return this.reads.call(() => super.range(from, to));
  }

  override write(changes: Changes): Promise<void> {
    return this.writes.call(() => super.write(changes));
  }

  override close(): Promise<void> {
    return this.closing.call(() => super.close());
  }
}

export class StuckVault extends MemoryVault {
  readonly reads = new Stuck();
  readonly writes = new Stuck();
  private order: Promise<unknown> = Promise.resolve();

  override get(): Promise<string | undefined> {
    return this.reads.call(() => super.get());
  }

  override set(value: string | null, erase?: Erasure): Promise<void> {
    const result = this.order.then(() => this.writes.call(() => super.set(value, erase)));
    this.order = result.catch(() => undefined);
    return result;
  }
}

const member = (id: MemberId) => ({ _id: id, name: "Ana", email: `${id}@example.com`, tier: "gold", contact_info: {}, visibility: {} }) as unknown as Member;
export const far = () => new Date(Date.now() + 3_600_000).toISOString();

/** A device on which Ana is signed in, and a network that takes nothing but log-ins (as Ben) and log-outs. The clock is that of the test. */
export class Phone {
  readonly storage = new StuckStorage();
  readonly vault = new StuckVault();
  readonly asked: string[] = [];
  readonly answers = new Stuck();
  /** The server takes no token. */
  refused = false;

  async signedIn(vault: Vault = this.vault): Promise<WebClient> {
    await vault.set(JSON.stringify({ member: ANA, access: "access-a", refresh: "refresh-a", expires: Date.now() + 3_600_000 }));
    await this.storage.write({ put: new Map([[new Keys(ANA).me, JSON.stringify(member(ANA))]]) });
    const client = this.client({ vault });
    await client.start();
    await vi.advanceTimersByTimeAsync(100);
    expect(client.session.getSnapshot().status).toBe("signed_in");
    return client;
  }

  client(options: Partial<ClientOptions> = {}): WebClient {
    const socket = (): Socket => ({ send: () => undefined, close: () => undefined, onopen: null, onmessage: null, onclose: null, onerror: null });
    const fetch = async (input: Parameters<typeof globalThis.fetch>[0], init?: RequestInit): Promise<Response> => {
      const { pathname } = new URL(String(input));
      this.asked.push(`${pathname} ${new Headers(init?.headers).get("authorization") ?? ""}`.trim());
      await this.answers.call(async () => undefined);
      if (pathname === "/api/auth/logout") return new Response(null, { status: 204 });
      if (this.refused) return Response.json({ code: "token_invalid" }, { status: 401 });
      const answer = { member: member(BEN), access_token: "access-b", refresh_token: "refresh-b", expires_at: far() } as Partial<AuthResponse>;
      return pathname === "/api/auth/login" ? Response.json(answer) : Promise.reject(new Error("there is no network"));
    };
    return new WebClient({ url: "http://club.test", storage: this.storage, vault: this.vault, platform: "ios", environment: { socket, fetch }, ...options });
  }
}

/** What becomes of it: its error code, or "done"; "waits" before that. */
export function fate(work: Promise<unknown>): { now: string } {
  const state = { now: "waits" };
  work.then(
    () => (state.now = "done"),
    (error: unknown) => (state.now = error instanceof MembersBookError ? error.code : String(error)),
  );
  return state;
}

export const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
