const PREFIX = "members-book-app.";

/** Small settings and drafts of this browser. Nothing secret. A browser that stores nothing (a private window) forgets them. */
export const kv = {
  get: (key: string): string | undefined => {
    try {
      return localStorage.getItem(PREFIX + key) ?? undefined;
    } catch {
      return undefined;
    }
  },
  set: (key: string, value: string | null): void => {
    try {
      if (value === null) localStorage.removeItem(PREFIX + key);
      else localStorage.setItem(PREFIX + key, value);
    } catch {
      // Kept until the page is closed, by who asked for it.
    }
  },
  /** Removes everything whose key begins so, but what begins like `but`. */
  clear: (prefix: string, but?: string): void => {
    try {
      for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX + prefix) && !(but && key.startsWith(PREFIX + but))) localStorage.removeItem(key);
    } catch {
      // There is nothing.
    }
  },
};
