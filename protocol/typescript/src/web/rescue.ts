import type { Clock } from "../environment.js";
import { eraseIn } from "../erasures.js";
import { migrate } from "../migrate.js";
import type { MemberId } from "../protocol.js";
import { Queue } from "../storage/queue.js";
import type { Erasure, Storage } from "../storage.js";
import type { Debug, TabClient } from "./host.js";
import { pause } from "./host.js";
import type { Slots } from "./slots.js";

/** A tab that is reloaded takes its slot again: so long it has time. */
const RELOAD_MS = 10_000;
/** Where nobody is signed in there is only something to erase, and that does not wait for long. */
const ERASE_MS = 1_000;
/** After a failure. */
const AGAIN_MS = 60_000;
/** What is not through by then has failed: there is no room for it, for example. */
const LIMIT_MS = 30_000;

/** What is done with the slots that no tab has: what is noted to go from them goes; if somebody is signed in, their unsent messages are taken over. */
interface Round {
  readonly member: MemberId | undefined;
  readonly watched: Set<string>;
  readonly end: AbortController;
}

/** What belongs to a tab, as far as it is needed here. */
export interface RescueTab {
  readonly slots: Slots;
  /** All slots that have a store. */
  known(): Promise<string[]>;
  storage(slot: string): Storage;
  /** What has to go from the store of a slot. */
  readonly noted: {
    erasing(slot: string): Promise<Erasure[]>;
    erased(gone: readonly Erasure[], slot: string): Promise<void>;
  };
}

/**
 * Looks after the stores of tabs that were closed: nothing that was written there and not sent is lost, and nothing of a member who has logged out stays. What has to go is
 * noted where the tokens are: whichever tab lives does it, and if none does, the next one.
 */
export class Rescue {
  /** One slot at a time, in the order in which they became free. */
  private readonly turns = new Queue();
  private round: Round | undefined;
  private readonly unsubscribe: () => void;

  constructor(private readonly tab: RescueTab, private readonly client: TabClient, private readonly clock: Clock, private readonly debug: Debug) {
    this.unsubscribe = client.session.subscribe(() => this.session());
    this.session();
  }

  /** A tab has taken a slot: when it is closed there may be something to do. */
  taken(slot: string): void {
    if (this.round) void this.watch(this.round, slot);
  }

  /** Something was noted, perhaps. */
  look(): void {
    const { round } = this;
    if (!round) return;
    this.tab.known().then(
      (slots) => slots.forEach((slot) => void this.watch(round, slot)),
      (error: unknown) => this.debug("tab: other tabs are not known", { error: String(error) }),
    );
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
    if (state.status === "loading") return;
    const member = state.status === "signed_in" ? state.id : undefined;
    if (this.round && this.round.member === member) return;
    this.round?.end.abort();
    this.round = { member, watched: new Set(), end: new AbortController() };
    this.look();
  }

  private async watch(round: Round, slot: string): Promise<void> {
    const { signal } = round.end;
    if (slot === this.tab.slots.own || round.watched.has(slot) || signal.aborted) return;
    round.watched.add(slot);
    let patience = round.member === undefined || (await this.noted(slot)) ? ERASE_MS : RELOAD_MS;
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
          await Promise.race([this.tend(round, slot, storage), this.limit(round)]);
        } finally {
          await storage.close();
        }
      });
    } catch (error) {
      this.debug(`tab: slot not ${round.member === undefined ? "erased" : "adopted"}`, { slot, error: String(error) });
      return undefined;
    }
  }

  /** Rejects when it has taken too long, or is not wanted any more. Messages are removed last, so nothing is lost; the storage is closed, so nothing happens later. */
  private async limit({ end }: Round): Promise<never> {
    throw new Error((await pause(this.clock, LIMIT_MS, end.signal)) ? "it takes too long" : "it is not wanted any more");
  }

  private async tend({ member }: Round, slot: string, storage: Storage): Promise<void> {
    const { noted } = this.tab;
    const gone = await noted.erasing(slot);
    if (gone.length > 0) {
      await eraseIn(storage, gone, () => noted.erased(gone, slot));
      this.debug("tab: erased what had to go", { slot });
    }
    if (member === undefined) return;
    await migrate(storage);
    const messages = await this.client.adopt(storage);
    if (messages > 0) this.debug("tab: unsent messages adopted", { slot, messages });
  }

  private async noted(slot: string): Promise<boolean> {
    return (await this.tab.noted.erasing(slot).catch(() => [])).length > 0;
  }
}
