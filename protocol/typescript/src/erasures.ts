import type { Journal } from "./journal.js";
import { objectIn } from "./json.js";
import type { MemberId } from "./protocol.js";
import { ERASED_KEY, rangesOf } from "./records.js";
import type { Erasure, Storage, Vault } from "./storage.js";

/**
 * What has to go from the storage of this client, as the vault notes it: what a log-out or the end of a session, here or in another tab, has left. Each is done once, whether or not the
 * vault could be told: when it is noted still, something else is there.
 */
export class Erasures {
  /** The ids of those that are done, or about to be. */
  private readonly done = new Set<unknown>();

  constructor(private readonly vault: Vault, private readonly journal: Journal, private readonly onUntold: (error: unknown) => void) {}

  /** Takes up what is stored under `ERASED_KEY`. */
  load(text: string | undefined): void {
    for (const each of idsIn(text)) this.done.add(each);
  }

  /** Does what is to be done. `first` is told before. Rejects if the vault cannot be read. Resolves, with those that were not done before, when it is stored, or cannot be at the moment. */
  async run(first: (found: readonly Erasure[]) => void): Promise<Erasure[]> {
    const { vault, journal, done } = this;
    const noted = await vault.erasing();
    const found = noted.filter((each) => !done.has(idOf(each)));
    if (noted.length === 0) return found;
    first(found);
    const { clear, put } = changesFor(noted, done);
    for (const each of found) done.add(idOf(each));
    for (const range of clear) journal.clear(...range);
    for (const [key, value] of put) journal.put(key, value);
    const told = journal.stored().then(() => vault.erased(noted)).then(() => journal.put(ERASED_KEY, null), this.onUntold);
    await journal.attempted();
    if (!journal.failing) await told;
    return found;
  }
}

/** Does the same in a storage that no client uses. */
export async function eraseIn(storage: Pick<Storage, "get" | "write">, noted: readonly Erasure[], told: () => Promise<void>): Promise<void> {
  await storage.write(changesFor(noted, new Set(idsIn(await storage.get(ERASED_KEY)))));
  await told();
  await storage.write({ put: new Map([[ERASED_KEY, null]]) });
}

/** Whether an erasure takes everything of the member. */
export function takesAll(erasure: Erasure, member: MemberId): boolean {
  return erasure.split(".")[0] === member;
}

/** The ids of what is done are kept in the change that does it. */
function changesFor(noted: readonly Erasure[], done: ReadonlySet<unknown>) {
  const clear = noted.filter((each) => !done.has(idOf(each))).flatMap(rangesOf);
  return { clear, put: new Map([[ERASED_KEY, JSON.stringify(noted.map(idOf))]]) };
}

function idOf(erasure: Erasure): string {
  return erasure.split(".")[1] ?? erasure;
}

function idsIn(text: string | undefined): unknown[] {
  const ids: unknown = objectIn(text);
  return Array.isArray(ids) ? ids : [];
}
