import Storage from "expo-sqlite/kv-store";

/** Small settings and drafts of this device. Nothing secret. */
export const kv = {
  get: (key: string): string | undefined => Storage.getItemSync(key) ?? undefined,
  set: (key: string, value: string | null): void => {
    if (value === null) Storage.removeItemSync(key);
    else Storage.setItemSync(key, value);
  },
  /** Removes everything whose key begins so, but what begins like `but`. */
  clear: (prefix: string, but?: string): void => {
    for (const key of Storage.getAllKeysSync()) if (key.startsWith(prefix) && !(but && key.startsWith(but))) Storage.removeItemSync(key);
  },
};
