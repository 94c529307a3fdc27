import { useEffect, useRef } from "react";
import { useClient, useConnection, useUnread } from "@members-book/client/react";

import { useForeground } from "@/lib/foreground";
import { countText } from "@/lib/people";
import { markTitle } from "@/lib/screens";

/** The own record is not asked for more often, in milliseconds. */
const FRESH_MS = 10_000;

/** Reads the own record when the app has started and when somebody comes back to it: what administrators change of it, or the command line does, is not said otherwise. */
export function useFreshRecord(): void {
  const client = useClient();
  const online = useConnection().status === "online";
  const foreground = useForeground();
  const read = useRef(-Infinity);
  useEffect(() => {
    if (!online || !foreground || performance.now() - read.current < FRESH_MS) return;
    read.current = performance.now();
    client.refreshMember().catch(() => undefined);
  }, [client, online, foreground]);
}

/** How much is unread, in the title of the tab. */
export function useTitle(): void {
  const { total, more } = useUnread();
  useEffect(() => {
    markTitle(total > 0 ? `(${countText(Math.min(total, 99), more || total > 99)}) ` : "");
    return () => markTitle("");
  }, [total, more]);
}
