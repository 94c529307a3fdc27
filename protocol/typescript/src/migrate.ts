import { SCHEMA_KEY, SCHEMA_VERSION } from "./records.js";
import type { Changes, Storage } from "./storage.js";

/** Brings what is stored from the version before to this one. All of it is one change: a crash in between leaves the old form. */
export type Migration = (storage: Storage) => Promise<Changes>;

/** By the version that they lead to. */
const MIGRATIONS: Readonly<Record<number, Migration>> = {};

/**
 * Brings what is stored to `SCHEMA_VERSION`, step by step. What is of a later version (the app was put back to an older one) is not understood: everything but unsent
 * messages and the device is dropped, and comes again from the server. Rejects if it cannot be written: then nothing has changed.
 */
export async function migrate(storage: Storage, migrations: Readonly<Record<number, Migration>> = MIGRATIONS, target: number = SCHEMA_VERSION): Promise<void> {
  const stored = await storage.get(SCHEMA_KEY);
  // A new one: the first write of the client says of which version it is.
  if (stored === undefined) return;
  let version = Number(stored);
  if (version > target) return storage.write(await behind(storage, target));
  while (version < target) {
    version += 1;
    const changes = (await migrations[version]?.(storage)) ?? {};
    const put = new Map(changes.put ?? []).set(SCHEMA_KEY, String(version));
    await storage.write({ ...changes, put });
  }
}

/** Keeps the outboxes. */
async function behind(storage: Storage, target: number): Promise<Changes> {
  const put = new Map<string, string | null>([[SCHEMA_KEY, String(target)]]);
  for (const [key] of await storage.range("0", "~")) {
    if (/^[0-9a-f]{24}\/(?!o\/)/.test(key)) put.set(key, null);
  }
  return { put };
}
