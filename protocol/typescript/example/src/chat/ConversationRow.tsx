import { memo, useCallback } from "react";
import { Pressable, View } from "react-native";
import type { GestureResponderEvent } from "react-native";
import { Link } from "expo-router";
import { useMember } from "@members-book/client/react";
import type { ConversationView, MessageView } from "@members-book/client";

import { countText, partnerOf, usePresenceText } from "@/lib/people";
import { webOnly } from "@/lib/platform";
import { useTicking } from "@/lib/ticking";
import { listTime } from "@/lib/time";
import { makeStyles, radius, space, useTheme } from "@/theme";
import { Avatar, Icon, PresenceDot, Text, Unseen } from "@/ui";
import { MutedMark } from "./MuteSheet";

/** The ids of the list and of a row in the page. */
export const LIST_ID = "chats";
export function rowId(key: string): string {
  return `chat-${key}`;
}

interface Props {
  conversation: ConversationView;
  selected: boolean;
  /** It is found among others: it says that it is archived. */
  sought: boolean;
  /** Its sheet is asked for, by a long press or the context menu. */
  onSheet: (key: string) => void;
}

/** A conversation in the list. */
export const ConversationRow = memo(function ConversationRow({ conversation, selected, sought, onSheet }: Props) {
  const styles = useStyles();
  const { colors } = useTheme();
  const partner = partnerOf(conversation) ?? "";
  const member = useMember(partner);
  const gone = member?.is_active === false;
  const presence = usePresenceText(partner, gone);
  const name = member?.name ?? "…";
  const { key, id, last, unread, unreadMore, typing, lastAt, settings } = conversation;
  const when = useTicking(useCallback((now: number) => (lastAt > 0 ? listTime(lastAt, now) : ""), [lastAt]));
  const preview = typing.length > 0 ? "typing…" : last?.content.replace(/\s+/gu, " ") ?? "";
  // There is nothing to set before the first message is stored.
  const ask = id === undefined ? undefined : () => onSheet(key);
  const onContextMenu = (event: GestureResponderEvent) => {
    event.preventDefault();
    ask?.();
  };
  return (
    <Link href={{ pathname: "/chats/[key]", params: { key } }} asChild>
      <Pressable
        role="link" id={rowId(key)} {...webOnly({ "aria-current": selected ? "page" : undefined, onContextMenu: ask && onContextMenu })} onLongPress={ask}
        style={selected ? styles.selectedRow : styles.row}
      >
        <View><Avatar name={name} photo={member?.profile_image_url} size={48} /><PresenceDot member={partner} gone={gone} /></View>
        <View style={styles.middle}>
          <View style={styles.line}>
            <Text kind="strong" numberOfLines={1} style={styles.grow}>{name}</Text>
            {presence ? <Unseen>, {presence}, </Unseen> : null}
            <Text kind="tiny" tone={unread > 0 ? "primary" : "muted"}>{when}</Text>
          </View>
          <View style={styles.line}>
            {last?.own && typing.length === 0 ? <><Mark message={last} /><Unseen>You: </Unseen></> : null}
            <Text kind="small" tone={typing.length > 0 ? "primary" : unread > 0 ? "text" : "muted"} numberOfLines={1} style={styles.grow}>{preview}</Text>
            {settings?.archived ? sought && <><Icon name="archive" size={16} color={colors.muted} /><Unseen>archived </Unseen></> : null}
            {settings?.pinned && !settings.archived ? <><Icon name="pin" size={16} color={colors.muted} /><Unseen>pinned </Unseen></> : null}
            <MutedMark settings={settings} />
            <Unread count={unread} more={unreadMore} />
          </View>
        </View>
      </Pressable>
    </Link>
  );
});

/** What leads to the archived conversations: how many they are, and how many of them have unread messages. */
export function ArchivedRow({ count, unread }: { count: number; unread: number }) {
  const styles = useStyles();
  const { colors } = useTheme();
  return (
    <Link href="/chats/archived" asChild>
      <Pressable role="link" style={styles.row}>
        <View style={styles.sign}><Icon name="archive" color={colors.muted} /></View>
        <Text kind="strong" tone="muted" style={styles.grow}>{`Archived (${countText(count, false)})`}</Text>
        <Unread count={unread} more={false} />
      </Pressable>
    </Link>
  );
}

function Unread({ count, more }: { count: number; more: boolean }) {
  const styles = useStyles();
  if (count === 0) return null;
  return <View style={styles.badge}><Text kind="tiny" tone="onPrimary">{countText(count, more)}</Text><Unseen> unread</Unseen></View>;
}

function Mark({ message }: { message: MessageView }) {
  const { colors } = useTheme();
  const { status } = message;
  if (status === "failed") return <Icon name="alert" size={16} color={colors.danger} />;
  if (status === "queued" || status === "sending") return <Icon name="clock" size={16} color={colors.muted} />;
  return <Icon name={status === "sent" ? "check" : "checks"} size={16} color={status === "read" ? colors.primary : colors.muted} />;
}

const useStyles = makeStyles(({ colors }) => {
  const row = { flexDirection: "row", alignItems: "center", gap: space.m, paddingHorizontal: space.m, paddingVertical: 10, marginHorizontal: space.xs, borderRadius: radius.m } as const;
  return {
    row,
    selectedRow: { ...row, backgroundColor: colors.soft },
    sign: { width: 48, alignItems: "center" },
    middle: { flex: 1, minWidth: 0, gap: space.xxs },
    line: { flexDirection: "row", alignItems: "center", gap: space.xs },
    grow: { flex: 1, minWidth: 0 },
    badge: { minWidth: 22, height: 22, borderRadius: 11, paddingHorizontal: 6, alignItems: "center", justifyContent: "center", backgroundColor: colors.primary },
  };
});
