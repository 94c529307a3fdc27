import { createContext, useCallback, useContext, useEffect, useMemo, useRef, useState } from "react";
import type { ReactNode } from "react";
import { AccessibilityInfo, View } from "react-native";

import { isWeb } from "@/lib/platform";
import { makeStyles, radius, space } from "@/theme";
import { Text } from "./Text";

interface Said {
  /** Shows a short text at the lower edge, and says it. */
  toast: (text: string) => void;
  /** Says it to a screen reader, and shows nothing. Gives back what takes it back, as far as it is still there. */
  announce: (text: string) => () => void;
}

const ToastContext = createContext<Said | undefined>(undefined);
/** How long it is shown, and how long what is said is in the page, in milliseconds. */
const SHOWN_MS = 4_000;
const SAID_MS = 1_000;

export function ToastProvider({ children }: { children: ReactNode }) {
  const styles = useStyles();
  const [shown, setShown] = useState<{ text: string }>();
  const [said, setSaid] = useState<{ turn: number; text: string }>();
  const turns = useRef(0);

  useEffect(() => {
    if (!shown) return undefined;
    const timer = setTimeout(() => setShown(undefined), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [shown]);

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
  const toast = useCallback((text: string) => {
    setShown({ text });
    announce(text);
  }, [announce]);

  const value = useMemo(() => ({ toast, announce }), [toast, announce]);
  return (
    <ToastContext.Provider value={value}>
      {children}
      {isWeb ? <View style={styles.unseen} role="status" aria-live="polite">{said ? <Text key={said.turn}>{said.text}</Text> : null}</View> : null}
      {shown ? (
        <View style={styles.place} pointerEvents="none" aria-hidden>
          <View style={styles.toast}><Text kind="label" style={styles.text}>{shown.text}</Text></View>
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
  toast: { backgroundColor: colors.text, borderRadius: radius.m, paddingHorizontal: space.l, paddingVertical: space.m, maxWidth: 480 },
  text: { color: colors.background },
}));
