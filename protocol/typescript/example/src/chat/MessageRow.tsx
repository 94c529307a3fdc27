import { memo, useCallback } from "react";
import { Pressable, View } from "react-native";
import type { MessageView, SendStatus } from "@members-book/client";

import { webOnly } from "@/lib/platform";
import { useTicking } from "@/lib/ticking";
import { dayName, timeOfDay } from "@/lib/time";
import { makeStyles, radius, space, useTheme } from "@/theme";
import { Icon, Text, Unseen } from "@/ui";
import type { IconName } from "@/ui";
import { Content } from "./Content";
import { oneLine, Quote } from "./Quote";

const STATUS: Record<SendStatus, { icon: IconName; words: string }> = {
  queued: { icon: "clock", words: "waiting to be sent" },
  sending: { icon: "clock", words: "sending" },
  sent: { icon: "check", words: "sent" },
  delivered: { icon: "checks", words: "delivered" },
  read: { icon: "checks", words: "read" },
  failed: { icon: "alert", words: "not sent" },
};

interface Props {
  message: MessageView;
  /** Of the other member. */
  name: string;
  day: boolean;
  fresh: boolean;
  grouped: boolean;
  conversationKey: string;
  /** A failed message was pressed. */
  onFailed: (message: MessageView) => void;
  /** Absent where nothing can be written. */
  onAnswer: ((seq: number) => void) | undefined;
  /** What it answers was pressed. */
  onShow: (seq: number) => void;
}

/** One message, with the line of its day above it if it is the first. Drawn again only when something of it has changed. */
export const MessageRow = memo(function MessageRow({ message, name, day, fresh, grouped, conversationKey, onFailed, onAnswer, onShow }: Props) {
  const styles = useStyles();
  const { own, status, at, content, seq, replyTo } = message;
  const failed = status === "failed";
  const bubble = (
    <View style={[styles.bubble, own ? styles.own : styles.other, failed && styles.failed]}>
      {replyTo === undefined ? null : <Quote conversationKey={conversationKey} replyTo={replyTo} name={name} own={own} onShow={failed ? undefined : onShow} />}
      <Content content={content} style={failed ? styles.failedText : own ? styles.ownText : undefined} />
      <View style={styles.foot}>
        <Text kind="tiny" style={failed ? styles.failedText : own ? styles.ownFoot : styles.otherFoot}>{timeOfDay(at)}</Text>
        {status ? <Status status={status} /> : null}
      </View>
    </View>
  );
  return (
    <View role="listitem" style={grouped ? styles.close : styles.row} {...webOnly({ dataSet: { seq: seq === undefined ? undefined : String(seq) }, tabIndex: -1 })}>
      {day ? <Day at={at} /> : null}
      {fresh ? <View style={styles.fresh} {...webOnly({ dataSet: { fresh: "true" } })}><View style={styles.line} /><Text kind="tiny" tone="primary">New messages</Text><View style={styles.line} /></View> : null}
      <View style={own ? styles.right : styles.left}>
        <Unseen>{own ? "You: " : `${name}: `}</Unseen>
        {failed ? (
          <Pressable role="button" onPress={() => onFailed(message)} style={styles.press}>
            {bubble}
            <Text kind="tiny" tone="danger" style={styles.failedNote}>Not sent. Press for what to do.</Text>
          </Pressable>
        ) : bubble}
        {seq === undefined || !onAnswer ? null : <AnswerButton content={content} onPress={() => onAnswer(seq)} />}
      </View>
    </View>
  );
});

/**
 * Beside a message. On the web it is seen where the mouse is, and the keys pass it by, or they would stop at every message: Ctrl+Up in the field below chooses what is
 * answered. A screen reader finds it after its message.
 */
function AnswerButton({ content, onPress }: { content: string; onPress: () => void }) {
  const styles = useStyles();
  const { colors } = useTheme();
  return (
    <Pressable role="button" aria-label={`Reply to: ${oneLine(content)}`} onPress={onPress} hitSlop={6} style={styles.answer} {...webOnly({ dataSet: { answer: "true" }, tabIndex: -1 })}>
      <Icon name="reply" size={18} color={colors.muted} />
    </Pressable>
  );
}

/** The line between two days. Apart from the row, which is not drawn again when the day changes. */
function Day({ at }: { at: number }) {
  const styles = useStyles();
  const name = useTicking(useCallback((now: number) => dayName(at, now), [at]));
  return <View style={styles.day}><Text kind="tiny" tone="muted" style={styles.dayText}>{name}</Text></View>;
}

function Status({ status }: { status: SendStatus }) {
  const styles = useStyles();
  const { colors } = useTheme();
  const { icon, words } = STATUS[status];
  const color = status === "failed" ? colors.danger : status === "read" ? (colors.onOwn) : colors.onOwnMuted;
  return (
    <View style={styles.status}>
      <Icon name={icon} size={15} color={color} />
      {status === "read" ? <Text kind="tiny" style={styles.ownFoot}>Read</Text> : null}
      {status === "read" ? null : <Unseen>{words}</Unseen>}
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  row: { paddingTop: space.s, paddingHorizontal: space.m },
  close: { paddingTop: space.xxs, paddingHorizontal: space.m },
  left: { flexDirection: "row", alignItems: "center" },
  right: { flexDirection: "row-reverse", alignItems: "center" },
  answer: { width: 32, height: 32, alignItems: "center", justifyContent: "center", marginHorizontal: space.xs },
  press: { alignItems: "flex-end", maxWidth: "100%" },
  bubble: { maxWidth: "82%", minWidth: 72, borderRadius: radius.l, paddingHorizontal: space.m, paddingTop: space.s, paddingBottom: 6, gap: space.xxs },
  own: { backgroundColor: colors.own, borderBottomRightRadius: radius.s, alignSelf: "flex-end" },
  other: { backgroundColor: colors.other, borderWidth: 1, borderColor: colors.border, borderBottomLeftRadius: radius.s },
  failed: { backgroundColor: colors.dangerSoft, borderWidth: 1, borderColor: colors.danger },
  ownText: { color: colors.onOwn },
  ownFoot: { color: colors.onOwnMuted },
  otherFoot: { color: colors.muted },
  failedText: { color: colors.danger },
  failedNote: { paddingTop: space.xxs },
  foot: { flexDirection: "row", alignItems: "center", justifyContent: "flex-end", gap: space.xs },
  status: { flexDirection: "row", alignItems: "center", gap: 3 },
  day: { alignItems: "center", paddingVertical: space.m },
  dayText: { backgroundColor: colors.raised, borderRadius: radius.full, paddingHorizontal: space.m, paddingVertical: space.xs, overflow: "hidden" },
  fresh: { flexDirection: "row", alignItems: "center", gap: space.s, paddingVertical: space.s },
  line: { flex: 1, height: 1, backgroundColor: colors.primary },
}));
