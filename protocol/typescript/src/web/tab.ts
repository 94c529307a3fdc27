import type { Clock } from "../environment.js";
import { closing } from "../storage/closing.js";
import { IndexedDbStorage, isUnanswered } from "../storage/indexeddb.js";
import { MemoryStorage, MemoryVault } from "../storage/memory.js";
import { Queue } from "../storage/queue.js";
import type { Storage, Vault } from "../storage.js";
import { giveHints } from "./hints.js";
import type { Channel, Debug, TabClient, WebHost } from "./host.js";
import { attempt } from "./host.js";
import { Rescue } from "./rescue.js";
import { LockSlots, StampSlots } from "./slots.js";
import type { Slots } from "./slots.js";
import { knownSlots, leaseMutex, lockMutex, WebVault } from "./vault.js";
import type { Mutex } from "./vault.js";

/** What a tab has for its client. */
export interface Tab {
  readonly storage: Storage;
  readonly vault: Vault;
  /** The slot of the tab. Nothing if it keeps nothing. */
  readonly slot: string | undefined;
  /** Gives the client hints, and lets it look after the stores of closed tabs, until the storage is closed. */
  attach(client: TabClient): void;
}

/** What tabs tell each other: the tokens have changed, or a slot was taken. */
type Message = { readonly vault: true } | { readonly slot: string };

/** Finds a place for the tab. Where the browser keeps nothing the client works all the same, and keeps nothing; where it does not answer yet, the client opens what there is when it does. */
export async function openTab(name: string, host: WebHost, clock: Clock, random: () => number, debug: Debug): Promise<Tab> {
  const prefix = `members-book:${name}`;
  const factory = host.indexedDB;
  const shared = factory && new IndexedDbStorage(prefix, { factory, shared: true });
  const ends: (() => Promise<void> | void)[] = [];
  let slots: Slots | undefined;
  let vault: Vault = new MemoryVault();
  let noted: WebVault | undefined;
  let storage: Storage = new MemoryStorage();
  let rescue: Rescue | undefined;
  let client: TabClient | undefined;

  // One after the other: a look may sign in, and two would do so twice.
  const checks = new Queue();
  const check = () => {
    checks.run(async () => client?.checkSession()).catch((error: unknown) => debug("tab: session not checked", { error: String(error) }));
  };

  const channel = attempt(() => host.channel?.(prefix));
  if (channel) {
    ends.push(() => channel.close());
    channel.onmessage = ({ data }) => {
      const message = data as Partial<{ vault: unknown; slot: unknown }> | null;
      if (message?.vault) {
        check();
        rescue?.look();
      }
      if (typeof message?.slot === "string") rescue?.taken(message.slot);
    };
  }
  const answers = (opening: Promise<void>) =>
    opening.then(
      () => true,
      (error: unknown) => {
        if (!isUnanswered(error)) throw error;
        return false;
      },
    );
  const store = (slot: string) => new IndexedDbStorage(`${prefix}:${slot}`, factory ? { factory } : {});

  try {
    if (!shared) throw new Error("there is no IndexedDB");
    const answered = await answers(shared.open());
    const byLock = await lockSlots(host, prefix, clock, debug);
    const mutex: Mutex = byLock ? lockMutex(byLock.locks, `${prefix}:vault`) : leaseMutex(shared, clock, `${random()}`, random);
    const kept = new WebVault(shared, mutex, () => tell(channel, { vault: true }), () => slots?.own, async (slot) => slots?.held(slot) ?? false);
    vault = kept;
    noted = kept;
    slots = byLock ? byLock.slots : StampSlots.take(shared, prefix, host, clock, random);
    if (!slots) throw new Error("there are too many tabs");
    const own = store(slots.own);
    const slot = slots.own;
    const take = async () => {
      await shared.write({ put: new Map([[`slot:${slot}`, String(clock.now())]]) });
      tell(channel, { slot });
    };
    const open = own.open.bind(own);
    if (answered && (await answers(open()))) {
      storage = own;
      await take();
    } else {
      debug("tab: storage does not answer yet");
      own.open = () => open().then(take);
      storage = own;
    }
  } catch (error) {
    debug("tab: storage in memory", { error: String(error) });
    if (storage instanceof MemoryStorage) {
      slots?.release();
      slots = undefined;
    }
  }

  const held = slots;
  return {
    vault,
    slot: held?.own,
    storage: closing(
      storage,
      async () => {
        client = undefined;
        for (const end of ends.reverse()) await end();
      },
      () => held?.release(),
    ),
    attach(attached) {
      client = attached;
      ends.push(giveHints(host, attached, clock, check));
      if (!held || !shared || !noted) return;
      const started = new Rescue({ slots: held, known: () => knownSlots(shared), storage: store, noted }, attached, clock, debug);
      rescue = started;
      ends.push(() => started.stop());
    },
  };
}

/** By locks, if the browser has them and lets this page have them. */
async function lockSlots(host: WebHost, prefix: string, clock: Clock, debug: Debug) {
  const { locks } = host;
  if (!locks) return undefined;
  try {
    return { locks, slots: await LockSlots.take(locks, prefix, host, clock) };
  } catch (error) {
    debug("tab: no locks", { error: String(error) });
    return undefined;
  }
}

function tell(channel: Channel | undefined, message: Message): void {
  // A channel that is closed throws.
  attempt(() => channel?.postMessage(message));
}
