import { SCHEMA_KEY, SCHEMA_VERSION } from "../../src/records.js";
import type { Disk } from "./disk.js";

/** Rewrites what is stored into the form of the version before: cursors had no schema in their names. */
export function downgrade(disk: Disk): void {
  const put = new Map<string, string | null>([[SCHEMA_KEY, "1"]]);
  for (const [key, value] of disk.range("0", "~")) {
    if (!key.endsWith(`/cursor${SCHEMA_VERSION}`)) continue;
    put.set(key, null).set(key.slice(0, -1), value);
  }
  disk.apply({ put });
}
