/**
 * Where a client keeps what it has: an ordered map of strings that survives the process.
 *
 * All that the client knows goes through this one interface, so a store for another platform is these five methods, and changes of
 * what is kept (`migrate.ts`) are written once for all stores. Keys are ASCII, at most 200 characters, and ordered by their
 * characters; values are text (JSON) of any characters.
 *
 * A call that has not answered in 20 s counts as failed. What becomes of it later is all right: no other change is asked for before that is known.
 */
export interface Storage {
  /** Opens or creates it. Called before anything else, and again if it could not be opened; then it rejects. */
  open(): Promise<void>;
  /** The value of a key. */
  get(key: string): Promise<string | undefined>;
  /** What lies between two keys: `from <= key < to`, ascending by key. */
  range(from: string, to: string): Promise<[key: string, value: string][]>;
  /**
   * Makes all changes or none, those of `clear` before those of `put`; durable when it resolves. Calls may overlap: they take effect in the order in
   * which they were made. Rejects if there is no room, for example; nothing has changed then, and the same or another call may be made later.
   */
  write(changes: Changes): Promise<void>;
  /** Lets go of it: everything that was written before is durable. Nothing is called after that. */
  close(): Promise<void>;
}

/** Changes that are made together. */
export interface Changes {
  /** Ranges that are emptied first: `from <= key < to`. */
  clear?: readonly (readonly [from: string, to: string])[];
  /** Values by key; `null` removes the key. */
  put?: ReadonlyMap<string, string | null>;
}

/** What has to go of a member: everything (their id), or everything but what they have not sent (`KEEP_UNSENT` after it). After a dot an id of its own: what was done once is not done again. */
export type Erasure = string;

/**
 * Where the tokens of the session are kept. What is shared by several clients (tabs) has one vault for all of them. A call that has not answered in 20 s counts as failed, and what `exclusive` has
 * not begun by then is not done; calls of `set` take effect in the order in which they were made.
 */
export interface Vault {
  /** What was stored last. */
  get(): Promise<string | undefined>;
  /**
   * Stores it; `null` removes it. Durable when it resolves. At most 2,000 characters. `erase`: in the same change it is noted, for every storage that belongs to this
   * vault, what has to go from it.
   */
  set(value: string | null, erase?: Erasure): Promise<void>;
  /** What was noted for the storage of this client, and is not gone yet. */
  erasing(): Promise<Erasure[]>;
  /** It is gone from there. May be called while `set` is under way. */
  erased(gone: readonly Erasure[]): Promise<void>;
  /** Whether another client uses it at the moment. Not given: none does. */
  shared?(): Promise<boolean>;
  /** Runs it while no other client does: a refresh token is good once. */
  exclusive<T>(work: () => Promise<T>): Promise<T>;
}
