import type { ConversationView } from "@members-book/client";

const nothing = () => undefined;

/** Devices keep the focus themselves. */
export function useRowFocus(_shown: readonly ConversationView[], _open: boolean): (key: string) => void {
  return nothing;
}
