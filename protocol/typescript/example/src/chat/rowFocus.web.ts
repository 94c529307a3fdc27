import { useCallback, useEffect, useRef } from "react";
import type { ConversationView } from "@members-book/client";

import { LIST_ID, rowId } from "./ConversationRow";

/**
 * Where the focus goes when the row that had it moves or leaves the list: to the row, or to that in its place, or to the list. `open`: a sheet lies over it.
 * Gives back what is called before a row may move, always the same. What the member does next ends that: then the focus is where they put it.
 */
export function useRowFocus(shown: readonly ConversationView[], open: boolean): (key: string) => void {
  const moving = useRef<{ key: string; place: number }>(undefined);
  const rows = useRef(shown);
  useEffect(() => {
    if (open) return undefined;
    const forget = () => {
      moving.current = undefined;
    };
    const events = ["pointerdown", "keydown"];
    for (const event of events) document.addEventListener(event, forget, true);
    return () => {
      for (const event of events) document.removeEventListener(event, forget, true);
    };
  }, [open]);
  useEffect(() => {
    rows.current = shown;
    const { activeElement, body } = document;
    if (open || !moving.current || (activeElement !== null && activeElement !== body)) return;
    const { key, place } = moving.current;
    const row = shown.find((each) => each.key === key) ?? shown[Math.min(place, shown.length - 1)];
    document.getElementById(row ? rowId(row.key) : LIST_ID)?.focus({ preventScroll: row === undefined });
  }, [shown, open]);
  return useCallback((key) => {
    const place = rows.current.findIndex((each) => each.key === key);
    moving.current = { key, place: Math.max(place, 0) };
  }, []);
}
