import { MembersBookError } from "../errors.js";
import type { Changes } from "../storage.js";

/** Changes as they were when they were asked for: what becomes of the map later does not matter. */
export interface Copied {
  readonly clear: readonly (readonly [from: string, to: string])[];
  readonly put: readonly (readonly [key: string, value: string | null])[];
}

/** Copies changes, without ranges that are empty. */
export function copied(changes: Changes): Copied {
  return { clear: (changes.clear ?? []).filter(([from, to]) => from < to), put: [...(changes.put ?? [])] };
}

/** What a store rejects with. `cause` is the error of the platform. */
export function failed(what: string, cause?: unknown): MembersBookError {
  const why = cause instanceof Error ? ` ${cause.name}: ${cause.message}` : "";
  return Object.assign(new MembersBookError("storage", what + why), { cause });
}
