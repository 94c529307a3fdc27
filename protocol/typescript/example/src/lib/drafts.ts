import { kv } from "./kv";

const PREFIX = "draft.";
const memory = new Map<string, string>();

/** What was written and not sent, by conversation. Forgotten when its member logs out. */
export const drafts = {
  get: (conversation: string): string => memory.get(conversation) ?? kv.get(PREFIX + conversation) ?? "",
  set: (conversation: string, text: string): void => {
    memory.set(conversation, text);
    kv.set(PREFIX + conversation, text === "" ? null : text);
  },
  clear: (): void => {
    memory.clear();
    kv.clear(PREFIX);
  },
};
