import { createContext, useCallback, useContext, useEffect, useMemo, useRef, useState } from "react";
import type { ReactNode } from "react";
import { AccessibilityInfo, Pressable, View } from "react-native";

import { isWeb, webOnly } from "@/lib/platform";
import { makeStyles, radius, space, TARGET } from "@/theme";
import { Text } from "./Text";

/** What can be done about what a toast says, as long as it is shown. There is another way to it. */
interface ToastAction {
  label: string;
  onPress: () => void;
}

interface Said {
  /** Shows a short text at the lower edge, and says it. */
  toast: (text: string, action?: ToastAction) => void;
  /** Says it to a screen reader, and shows nothing. Gives back what takes it back, as far as it is still there. */
  announce: (text: string) => () => void;
}

const ToastContext = createContext<Said | undefined>(undefined);
/** How long it is shown, also with something to press, and how long what is said is in the page, in milliseconds. */
const SHOWN_MS = 4_000;
const PRESSED_MS = 10_000;
const SAID_MS = 1_000;

export function ToastProvider({ children }: { children: ReactNode }) {
  const styles = useStyles();
  const [shown, setShown] = useState<{ text: string; action?: ToastAction | undefined }>();
  /** The mouse or the focus is on it: it stays. */
  const [held, setHeld] = useState(false);
  const [said, setSaid] = useState<{ turn: number; text: string }>();
  const turns = useRef(0);

  useEffect(() => {
    if (!shown || held) return undefined;
    const timer = setTimeout(() => setShown(undefined), shown.action ? PRESSED_MS : SHOWN_MS);
    return () => clearTimeout(timer);
  }, [shown, held]);

  useEffect(() => {
    if (!said) return undefined;
    const timer = setTimeout(() => setSaid(undefined), SAID_MS);
    return () => clearTimeout(timer);
  }, [said]);

  const announce = useCallback((text: string) => {
    if (!isWeb) {
      AccessibilityInfo.announceForAccessibility(text);
      return () => undefined;
    }
    const words = { turn: (turns.current += 1), text };
    setSaid(words);
    return () => setSaid((now) => (now === words ? undefined : now));
  }, []);
  const toast = useCallback((text: string, action?: ToastAction) => {
    setShown({ text, action });
    setHeld(false);
    announce(text);
  }, [announce]);

  const press = () => {
    setShown(undefined);
    setHeld(false);
    shown?.action?.onPress();
  };

  const value = useMemo(() => ({ toast, announce }), [toast, announce]);
  return (
    <ToastContext.Provider value={value}>
      {children}
      {isWeb ? <View style={styles.unseen} role="status" aria-live="polite">{said ? <Text key={said.turn}>{said.text}</Text> : null}</View> : null}
      {shown ? (
        <View style={styles.place} pointerEvents={shown.action ? "box-none" : "none"} aria-hidden={shown.action === undefined}>
          <View style={styles.toast} {...webOnly({ onMouseEnter: () => setHeld(true), onMouseLeave: () => setHeld(false), onFocus: () => setHeld(true), onBlur: () => setHeld(false) })}>
            <Text kind="label" style={styles.text}>{shown.text}</Text>
            {shown.action ? <Pressable role="button" style={styles.action} onPress={press}><Text kind="label" style={styles.link}>{shown.action.label}</Text></Pressable> : null}
          </View>
        </View>
      ) : null}
    </ToastContext.Provider>
  );
}

export function useToast(): Said {
  const said = useContext(ToastContext);
  if (!said) throw new Error("useToast: there is no <ToastProvider> around this component");
  return said;
}

const useStyles = makeStyles(({ colors }) => ({
  unseen: { position: "absolute", width: 1, height: 1, overflow: "hidden", opacity: 0 },
  place: { position: "absolute", left: space.l, right: space.l, bottom: 88, alignItems: "center" },
  toast: { backgroundColor: colors.text, borderRadius: radius.m, paddingHorizontal: space.l, maxWidth: 480, minHeight: TARGET, flexDirection: "row", alignItems: "center", gap: space.s },
  text: { color: colors.background, flexShrink: 1, paddingVertical: space.m },
  action: { minWidth: TARGET, minHeight: TARGET, paddingHorizontal: space.s, alignItems: "center", justifyContent: "center" },
  link: { color: colors.background, textDecorationLine: "underline" },
}));
