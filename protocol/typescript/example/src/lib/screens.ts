import { useEffect, useRef } from "react";
import type { RefObject } from "react";
import type { View } from "react-native";

import { isWeb } from "./platform";

const APP = "Members Book";

interface Place {
  name: string | undefined;
  readonly head: RefObject<View | null>;
}

/** The screens that are there, the one that came last at the end: the title names it. */
const places: Place[] = [];
/** What stands in front of the title. */
let mark = "";
/** Something had the focus once. Before that the browser begins where it wants. */
let used = false;
let due = false;

if (isWeb) document.addEventListener("focusin", () => (used = true), { once: true });

/** Writes the title, once all that comes and goes together is through, and gives the focus a place if it had been on what is gone. */
function changed(): void {
  if (!isWeb || due) return;
  due = true;
  queueMicrotask(() => {
    due = false;
    const place = places[places.length - 1];
    document.title = mark + (place?.name === undefined ? APP : `${place.name} · ${APP}`);
    const { activeElement, body } = document;
    if (used && (activeElement === null || activeElement === body)) (place?.head.current as unknown as HTMLElement | null)?.focus({ preventScroll: true });
  });
}

/**
 * Names a screen, on the web in the title of the page. Gives back where its heading has to be (`tabIndex` -1): the focus goes there when what had it is gone with the
 * screen before, so that the keyboard and a screen reader begin here.
 */
export function useScreen(name: string | undefined): RefObject<View | null> {
  const head = useRef<View>(null);
  const place = useRef<Place>(undefined);
  useEffect(() => {
    const own = (place.current = { name: undefined, head });
    places.push(own);
    return () => {
      places.splice(places.indexOf(own), 1);
      changed();
    };
  }, []);
  useEffect(() => {
    if (place.current) place.current.name = name;
    changed();
  }, [name]);
  return head;
}

/** What stands in front of the title from now on; nothing, if it is empty. */
export function markTitle(text: string): void {
  mark = text;
  changed();
}
