import Storage from "expo-sqlite/kv-store";

/** Small settings and drafts of this device. Nothing secret. A device that stores nothing (there is no room) forgets them. */
export const kv = {
  get: (key: string): string | undefined => {
    try {
      return Storage.getItemSync(key) ?? undefined;
    } catch {
      return undefined;
    }
  },
  set: (key: string, value: string | null): void => {
    try {
      if (value === null) Storage.removeItemSync(key);
      else Storage.setItemSync(key, value);
    } catch {
      // Kept until the app ends, by who asked for it.
    }
  },
  /** Removes everything whose key begins so, but what begins like `but`. */
  clear: (prefix: string, but?: string): void => {
    try {
      for (const key of Storage.getAllKeysSync()) if (key.startsWith(prefix) && !(but && key.startsWith(but))) Storage.removeItemSync(key);
    } catch {
      // They go with the next sign-in.
    }
  },
};
