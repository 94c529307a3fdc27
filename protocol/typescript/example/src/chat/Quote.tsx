import { Pressable, View } from "react-native";
import { useAnswered } from "@members-book/client/react";
import type { MessageView } from "@members-book/client";

import { makeStyles, radius, space } from "@/theme";
import { Button, IconButton, Text, useToast } from "@/ui";

/** As much of a message as fits into a line. */
export function oneLine(content: string): string {
  return content.slice(0, 120).replace(/\s+/g, " ");
}

const author = (message: MessageView, name: string) => (message.own ? "You" : name);

interface QuoteProps {
  conversationKey: string;
  replyTo: number;
  /** Of the other member. */
  name: string;
  /** Whether what answers it is of the member. */
  own: boolean;
  onShow: ((seq: number) => void) | undefined;
}

/** What a message answers, above its text. A press leads there; what is not here is loaded by one. */
export function Quote({ conversationKey, replyTo, name, own, onShow }: QuoteProps) {
  const styles = useStyles();
  const { message, load } = useAnswered(conversationKey, replyTo);
  const { announce } = useToast();
  const color = own ? styles.onOwn : undefined;
  const quote = (
    <View style={[styles.quote, own && styles.quoteOfOwn]}>
      {message ? <Text kind="tiny" style={[styles.author, color]} numberOfLines={1}>{author(message, name)}</Text> : null}
      <Text kind="small" style={color} numberOfLines={1}>{message ? oneLine(message.content) : "Message not loaded"}</Text>
    </View>
  );
  if (!onShow) return quote;
  const show = () => (message ? onShow(replyTo) : void load().catch(() => announce("The message did not load")));
  const label = message ? `Answers ${author(message, name)}: ${oneLine(message.content)}` : "Answers a message that is not loaded. Load it";
  return <Pressable role="button" aria-label={label} onPress={show}>{quote}</Pressable>;
}

/** Above the field in which one writes: what will be answered. */
export function AnswerBar({ conversationKey, replyTo, name, onCancel }: { conversationKey: string; replyTo: number; name: string; onCancel: () => void }) {
  const styles = useStyles();
  const { message, load } = useAnswered(conversationKey, replyTo);
  return (
    <View style={styles.bar}>
      <View style={[styles.quote, styles.grow]} aria-live="polite">
        <Text kind="tiny" style={styles.author} numberOfLines={1}>{message ? `Reply to ${message.own ? "yourself" : name}` : "Reply"}</Text>
        {message ? <Text kind="small" numberOfLines={1}>{oneLine(message.content)}</Text> : <Button label="Message not loaded" kind="plain" compact onPress={() => void load().catch(() => undefined)} />}
      </View>
      <IconButton icon="close" label="Do not reply to it" onPress={onCancel} />
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  quote: { borderLeftWidth: 3, borderLeftColor: colors.primary, borderRadius: radius.s, paddingHorizontal: space.s, paddingVertical: space.xxs, minWidth: 0 },
  quoteOfOwn: { borderLeftColor: colors.onOwnMuted },
  onOwn: { color: colors.onOwn },
  author: { fontWeight: "600" },
  bar: { flexDirection: "row", alignItems: "center", gap: space.s },
  grow: { flex: 1 },
}));
