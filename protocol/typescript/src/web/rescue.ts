import type { Clock } from "../environment.js";
import { migrate } from "../migrate.js";
import type { MemberId } from "../protocol.js";
import { Keys } from "../records.js";
import { Queue } from "../storage/queue.js";
import type { Storage } from "../storage.js";
import type { Debug, TabClient } from "./host.js";
import { pause } from "./host.js";
import type { Slots } from "./slots.js";

/** A tab that is reloaded takes its slot again: so long it has time. */
const RELOAD_MS = 10_000;
/** What a log-out has to erase does not wait for long. */
const ERASE_MS = 1_000;
/** After a failure. */
const AGAIN_MS = 60_000;
/** What is not through by then has failed: there is no room for it, for example. */
const LIMIT_MS = 30_000;

/** What is done with the slots that no tab has. */
interface Round {
  /** Somebody is signed in: their unsent messages are taken over. They have logged out: what is theirs is erased. */
  readonly task: "adopt" | "erase";
  readonly member: MemberId;
  readonly watched: Set<string>;
  readonly end: AbortController;
}

/** What belongs to a tab, as far as it is needed here. */
export interface RescueTab {
  readonly slots: Slots;
  /** All slots that have a store. */
  known(): Promise<string[]>;
  storage(slot: string): Storage;
  /** Whether tabs have tokens. Rejects if that cannot be said. */
  hasTokens(): Promise<boolean>;
}

/** Looks after the stores of tabs that were closed: nothing that was written there and not sent is lost, and nothing of a member who has logged out stays. */
export class Rescue {
  /** One slot at a time, in the order in which they became free. */
  private readonly turns = new Queue();
  private round: Round | undefined;
  private member: MemberId | undefined;
  private readonly unsubscribe: () => void;

  constructor(private readonly tab: RescueTab, private readonly client: TabClient, private readonly clock: Clock, private readonly debug: Debug) {
    this.unsubscribe = client.session.subscribe(() => this.session());
    this.session();
  }

  /** A tab has taken a slot: when it is closed there may be something to do. */
  taken(slot: string): void {
    if (this.round) void this.watch(this.round, slot);
  }

  /** Ends it. What has begun and is not through stays where it was. */
  async stop(): Promise<void> {
    this.unsubscribe();
    this.round?.end.abort();
    this.round = undefined;
    await this.turns.run(async () => undefined);
  }

  private session(): void {
    const state = this.client.session.getSnapshot();
    let task: Round["task"] | undefined;
    if (state.status === "signed_in") {
      task = "adopt";
      this.member = state.id;
    } else if (state.status === "signed_out" && state.reason === "logged_out") {
      task = "erase";
    }
    const { member } = this;
    if (this.round && this.round.task === task && this.round.member === member) return;
    this.round?.end.abort();
    this.round = undefined;
    if (task === undefined || member === undefined) return;
    const round: Round = { task, member, watched: new Set(), end: new AbortController() };
    this.round = round;
    this.tab.known().then(
      (slots) => slots.forEach((slot) => void this.watch(round, slot)),
      (error: unknown) => this.debug("tab: other tabs are not known", { error: String(error) }),
    );
  }

  private async watch(round: Round, slot: string): Promise<void> {
    const { signal } = round.end;
    if (slot === this.tab.slots.own || round.watched.has(slot) || signal.aborted) return;
    round.watched.add(slot);
    let patience = round.task === "erase" ? ERASE_MS : RELOAD_MS;
    try {
      while (await this.tab.slots.free(slot, signal)) {
        if (!(await pause(this.clock, patience, signal))) return;
        const done = await this.turns.run(() => this.visit(round, slot));
        if (done) return;
        if (done === undefined) patience = AGAIN_MS;
      }
    } catch (error) {
      this.debug("tab: slot not watched", { slot, error: String(error) });
    } finally {
      round.watched.delete(slot);
    }
  }

  /** True: there is nothing more to do. False: a tab has taken the slot. Nothing: it failed. */
  private async visit(round: Round, slot: string): Promise<boolean | undefined> {
    if (round.end.signal.aborted) return true;
    const storage = this.tab.storage(slot);
    try {
      return await this.tab.slots.borrow(slot, async () => {
        await storage.open();
        try {
          const work = round.task === "adopt" ? this.adopt(slot, storage) : this.erase(round.member, slot, storage);
          await Promise.race([work, this.limit(round)]);
        } finally {
          await storage.close();
        }
      });
    } catch (error) {
      this.debug(`tab: slot not ${round.task === "adopt" ? "adopted" : "erased"}`, { slot, error: String(error) });
      return undefined;
    }
  }

  /** Rejects when it has taken too long, or is not wanted any more. Messages are removed last, so nothing is lost; the storage is closed, so nothing happens later. */
  private async limit({ end }: Round): Promise<never> {
    throw new Error((await pause(this.clock, LIMIT_MS, end.signal)) ? "it takes too long" : "it is not wanted any more");
  }

  private async adopt(slot: string, storage: Storage): Promise<void> {
    await migrate(storage);
    const messages = await this.client.adopt(storage);
    if (messages > 0) this.debug("tab: unsent messages adopted", { slot, messages });
  }

  private async erase(member: MemberId, slot: string, storage: Storage): Promise<void> {
    if (await this.tab.hasTokens()) throw new Error("the session is still there");
    await storage.write({ clear: [new Keys(member).all] });
    this.debug("tab: erased after log-out", { slot });
  }
}
