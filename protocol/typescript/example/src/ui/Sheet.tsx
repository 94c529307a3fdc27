import { createContext, useCallback, useContext, useEffect, useRef, useState } from "react";
import type { ReactNode } from "react";
import { Modal, Pressable, ScrollView, View } from "react-native";

import { isWeb, webOnly } from "@/lib/platform";
import { makeStyles, radius, space, useWide } from "@/theme";
import { Button } from "./Button";
import { Text } from "./Text";

/** What lies over the screen until it is answered: from below on a phone, in the middle of a larger screen. Escape and a press beside it close it. */
export function Sheet({ open, title, onClose, children }: { open: boolean; title: string; onClose: () => void; children: ReactNode }) {
  const styles = useStyles();
  const wide = useWide();
  const head = useRef<View>(null);
  const shown = useRef(title);
  /** A press beside it has begun. That which has opened it ends here, too, and closes nothing. */
  const pressed = useRef(false);
  // What had the focus goes with what was in the sheet before: it would be nowhere.
  useEffect(() => {
    if (isWeb && open && shown.current !== title) head.current?.focus();
    shown.current = title;
  }, [open, title]);
  useEffect(() => {
    pressed.current = false;
  }, [open]);
  if (!open) return null;
  return (
    <Modal visible transparent animationType="fade" onRequestClose={onClose} aria-label={title}>
      <View style={[styles.scrim, wide ? styles.middle : styles.below]}>
        {/* No Pressable on the web: the focus would come to it when it goes around. */}
        {isWeb ? <View style={styles.beside} {...webOnly({ onPointerDown: () => (pressed.current = true), onClick: () => pressed.current && onClose() })} aria-hidden /> : <Pressable style={styles.beside} onPress={onClose} accessible={false} />}
        <View style={[styles.sheet, wide ? styles.card : styles.drawer]}>
          <ScrollView contentContainerStyle={styles.content}>
            <View ref={head} {...webOnly({ tabIndex: -1 })}><Text kind="heading" level={2}>{title}</Text></View>
            {children}
          </ScrollView>
        </View>
      </View>
    </Modal>
  );
}

export interface Question {
  title: string;
  text: string;
  confirm: string;
  danger?: boolean;
}

/** A question in a sheet that is open already: a device shows one sheet at a time. */
export function Ask({ question, onAnswer }: { question: Question; onAnswer: (yes: boolean) => void }) {
  const styles = useStyles();
  return (
    <>
      <Text tone="muted">{question.text}</Text>
      <View style={styles.buttons}>
        <Button label="Cancel" kind="secondary" onPress={() => onAnswer(false)} />
        <Button label={question.confirm} kind={question.danger ? "danger" : "primary"} onPress={() => onAnswer(true)} />
      </View>
    </>
  );
}

const ConfirmContext = createContext<((question: Question) => Promise<boolean>) | undefined>(undefined);

/** Asks before what cannot be taken back. */
export function ConfirmProvider({ children }: { children: ReactNode }) {
  const [question, setQuestion] = useState<Question>();
  const [open, setOpen] = useState(false);
  const answer = useRef<(yes: boolean) => void>(undefined);
  const ask = useCallback((next: Question) => new Promise<boolean>((resolve) => {
    answer.current?.(false);
    answer.current = resolve;
    setQuestion(next);
    setOpen(true);
  }), []);
  const close = useCallback((yes: boolean) => {
    setOpen(false);
    answer.current?.(yes);
    answer.current = undefined;
  }, []);
  return (
    <ConfirmContext.Provider value={ask}>
      {children}
      <Sheet open={open} title={question?.title ?? ""} onClose={() => close(false)}>
        {question ? <Ask question={question} onAnswer={close} /> : null}
      </Sheet>
    </ConfirmContext.Provider>
  );
}

export function useConfirm(): (question: Question) => Promise<boolean> {
  const ask = useContext(ConfirmContext);
  if (!ask) throw new Error("useConfirm: there is no <ConfirmProvider> around this component");
  return ask;
}

const useStyles = makeStyles(({ colors }) => ({
  scrim: { flex: 1, backgroundColor: colors.scrim },
  middle: { alignItems: "center", justifyContent: "center", padding: space.xl },
  below: { justifyContent: "flex-end" },
  beside: { position: "absolute", top: 0, right: 0, bottom: 0, left: 0 },
  sheet: { backgroundColor: colors.surface, maxHeight: "85%" },
  card: { width: 440, maxWidth: "100%", borderRadius: radius.l },
  drawer: { width: "100%", borderTopLeftRadius: radius.l, borderTopRightRadius: radius.l },
  content: { padding: space.xl, gap: space.l },
  buttons: { flexDirection: "row", flexWrap: "wrap", justifyContent: "flex-end", gap: space.s },
}));
