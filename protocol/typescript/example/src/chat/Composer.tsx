import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import type { ReactNode } from "react";
import { TextInput, View } from "react-native";
import type { NativeSyntheticEvent, TextInputKeyPressEventData } from "react-native";
import { useSafeAreaInsets } from "react-native-safe-area-context";
import { useClient, useTyping } from "@members-book/client/react";
import type { ConversationHandle, MessageView } from "@members-book/client";
import { CONTENT_MAX_CHARS } from "@members-book/client/protocol";

import { drafts, holdDraft } from "@/lib/drafts";
import { hasKeyboard, isWeb } from "@/lib/platform";
import { failureOf } from "@/lib/query";
import { makeStyles, space, TARGET, type, useTheme, useWide } from "@/theme";
import { Button, IconButton, Text } from "@/ui";

/** How many characters are left when one is told so. */
const WARN_LEFT = 400;
const MAX_HEIGHT = 160;

interface Props {
  conversation: ConversationHandle;
  name: string;
  /** A message that was not sent and is being changed. */
  editing: MessageView | undefined;
  onEdited: () => void;
  onSent: () => void;
  /** The `seq` of what is answered, and what shows it. */
  replyTo: number | undefined;
  answering: ReactNode;
  onAnswer: (seq: number | undefined) => void;
  /** Answers an earlier message than now (-1), or a later one. */
  onStep: (by: -1 | 1) => void;
}

/** Where one writes. What is written stays, by conversation, until it is sent. */
export function Composer({ conversation, name, editing, onEdited, onSent, replyTo, answering, onAnswer, onStep }: Props) {
  const styles = useStyles();
  const { colors } = useTheme();
  const { bottom } = useSafeAreaInsets();
  const client = useClient();
  const { setTyping } = useTyping(conversation.key);
  const [text, setText] = useState(() => drafts.get(conversation.key));
  const [problem, setProblem] = useState<string>();
  const input = useRef<TextInput>(null);
  const [seenEditing, setSeenEditing] = useState(editing);
  if (editing !== seenEditing) {
    setSeenEditing(editing);
    setText(editing ? editing.content : drafts.get(conversation.key));
  }

  useEffect(() => {
    if (editing) input.current?.focus();
  }, [editing]);
  const [firstReplyTo] = useState(replyTo);
  useEffect(() => {
    if (replyTo !== undefined && replyTo !== firstReplyTo) input.current?.focus();
  }, [firstReplyTo, replyTo]);

  // Who opens a conversation at a desk is about to write. On a phone the keyboard would come up over what is to be read; what lies over the screen keeps the focus.
  const wide = useWide();
  const [atDesk] = useState(() => wide && hasKeyboard());
  useEffect(() => {
    if (atDesk && !document.querySelector("[role=dialog]")) input.current?.focus();
  }, [atDesk]);

  // On the web a field does not grow by itself.
  useLayoutEffect(() => {
    if (!isWeb) return;
    const element = input.current as unknown as HTMLTextAreaElement | null;
    if (!element) return;
    // Its row keeps its height meanwhile: the messages above would move.
    const row = element.parentElement;
    if (row) row.style.minHeight = `${row.offsetHeight}px`;
    element.style.height = "auto";
    element.style.height = `${Math.min(element.scrollHeight + 2, MAX_HEIGHT)}px`;
    if (row) row.style.minHeight = "";
  }, [text]);

  const length = [...text].length;
  const left = CONTENT_MAX_CHARS - length;
  const tooLong = left < 0;
  const ready = text.trim() !== "" && !tooLong;

  const change = useCallback((next: string) => {
    setText(next);
    setProblem(undefined);
    if (!editing) drafts.set(conversation.key, next);
    setTyping(next.trim() !== "");
  }, [conversation, editing, setTyping]);

  const send = async () => {
    if (!ready) return;
    const content = text.trim();
    setText("");
    setTyping(false);
    input.current?.focus();
    const draft = drafts.get(conversation.key);
    if (!editing) drafts.hide(conversation.key);
    if (!editing) onAnswer(undefined);
    let id: string | undefined;
    try {
      if (editing) await conversation.edit(editing.key, content);
      else id = await conversation.send(content, { replyTo });
    } catch (cause) {
      setProblem(failureOf(cause).message);
      setText((now) => now || content);
      if (!editing) onAnswer(replyTo);
      if (!editing && drafts.get(conversation.key) === "") drafts.set(conversation.key, draft);
      return;
    }
    if (editing) onEdited();
    // The draft stays until the message is kept in its place. What was typed meanwhile is another one.
    else if (drafts.get(conversation.key) === "") {
      if (id !== undefined && client.connection.getSnapshot().storageFailing) holdDraft(client, conversation, id);
      else drafts.set(conversation.key, "");
    }
    onSent();
  };

  const onKeyPress = (event: NativeSyntheticEvent<TextInputKeyPressEventData>) => {
    if (!isWeb) return;
    const key = event.nativeEvent as unknown as KeyboardEvent;
    if (key.key === "Escape" && editing) onEdited();
    else if (key.key === "Escape" && replyTo !== undefined) onAnswer(undefined);
    if ((key.ctrlKey || key.metaKey) && !editing && (key.key === "ArrowUp" || key.key === "ArrowDown")) {
      event.preventDefault();
      onStep(key.key === "ArrowUp" ? -1 : 1);
    }
    if (key.key !== "Enter" || key.shiftKey || key.isComposing) return;
    event.preventDefault();
    void send();
  };

  return (
    <View style={[styles.bar, { paddingBottom: bottom + space.s }]}>
      {editing ? (
        <View style={styles.editing}>
          <Text kind="small" tone="muted" style={styles.grow}>Changing a message that was not sent</Text>
          <Button label="Cancel" kind="plain" compact onPress={onEdited} />
        </View>
      ) : answering}
      {problem === undefined ? null : <Text kind="small" tone="danger" role="alert">{problem}</Text>}
      {left <= WARN_LEFT ? (
        <Text kind="tiny" tone={tooLong ? "danger" : "muted"} aria-live="polite">
          {tooLong ? `${-left} characters too many: shorten it or send it in parts.` : `${left} characters left`}
        </Text>
      ) : null}
      <View style={styles.line}>
        <TextInput
          ref={input} value={text} onChangeText={change} onKeyPress={onKeyPress} onBlur={() => setTyping(false)} multiline
          numberOfLines={1} aria-label={`Message to ${name}`} placeholder="Message" placeholderTextColor={colors.muted} selectionColor={colors.primary}
          style={styles.input}
        />
        <IconButton icon="send" label="Send" filled disabled={!ready} onPress={() => void send()} />
      </View>
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  bar: { gap: space.xs, paddingTop: space.s, paddingHorizontal: space.m, backgroundColor: colors.surface, borderTopWidth: 1, borderTopColor: colors.border },
  editing: { flexDirection: "row", alignItems: "center" },
  grow: { flex: 1 },
  line: { flexDirection: "row", alignItems: "flex-end", gap: space.s },
  input: {
    ...type.body, flex: 1, minHeight: TARGET, maxHeight: MAX_HEIGHT, color: colors.text, backgroundColor: colors.background, borderWidth: 1, borderColor: colors.outline,
    borderRadius: 22, paddingHorizontal: space.l, paddingVertical: 10,
  },
}));
