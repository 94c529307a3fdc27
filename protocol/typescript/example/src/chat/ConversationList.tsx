import { memo, useCallback, useMemo, useState } from "react";
import { FlatList, Pressable, View } from "react-native";
import type { ListRenderItemInfo } from "react-native";
import { Link, useGlobalSearchParams, useRouter } from "expo-router";
import { useConversations, useMember } from "@members-book/client/react";
import type { ConversationView, MessageView } from "@members-book/client";

import { useNames } from "@/lib/names";
import { countText, partnerOf, usePresenceText } from "@/lib/people";
import { webOnly } from "@/lib/platform";
import { useTicking } from "@/lib/ticking";
import { listTime } from "@/lib/time";
import { FirstSteps } from "@/members/FirstSteps";
import { makeStyles, radius, space, useTheme } from "@/theme";
import { Avatar, Empty, Field, Header, Icon, Loading, PresenceDot, Text, Unseen } from "@/ui";
import { MutedMark } from "./MuteSheet";

const keyOf = (conversation: ConversationView) => conversation.key;

/** All conversations, the newest first. `beside` something that says what to do while there is none. */
export function ConversationList({ beside = false }: { beside?: boolean }) {
  const styles = useStyles();
  const router = useRouter();
  const { ready, conversations } = useConversations();
  const { key } = useGlobalSearchParams<{ key?: string }>();
  const [filter, setFilter] = useState("");

  const words = filter.trim().toLocaleLowerCase();
  const partners = useMemo(() => conversations.flatMap((conversation) => partnerOf(conversation) ?? []), [conversations]);
  const names = useNames(partners, words !== "");
  const nameOf = (conversation: ConversationView) => names.of(partnerOf(conversation) ?? "");
  const shown = words === "" ? conversations : conversations.filter((conversation) => nameOf(conversation)?.toLocaleLowerCase().includes(words));
  const nameless = words === "" ? 0 : conversations.filter((conversation) => nameOf(conversation) === undefined).length;

  const render = useCallback(({ item }: ListRenderItemInfo<ConversationView>) => <Row conversation={item} selected={item.key === key} />, [key]);

  return (
    <View style={styles.screen}>
      <Header title="Chats" />
      {conversations.length > 0 ? (
        <View style={styles.search}><Field label="Find a conversation" placeholder="Name" value={filter} onChangeText={setFilter} {...webOnly({ type: "search" })} autoCorrect={false} /></View>
      ) : null}
      {!ready ? <Loading label="Loading conversations" /> : conversations.length === 0 ? (
        beside ? <View style={styles.search}><Text tone="muted">No conversations yet</Text></View> : <FirstSteps />
      ) : shown.length === 0 ? names.looking ? <Loading label="Looking through your conversations" /> : (
        <Empty icon="search" title="Nobody found" text={`${noneText(filter.trim(), nameless)} Look in the directory for other members.`} action={{ label: "Open the directory", onPress: () => router.navigate("/members") }} />
      ) : (
        <FlatList data={shown as ConversationView[]} keyExtractor={keyOf} renderItem={render} aria-label="Conversations" style={styles.list} initialNumToRender={16} windowSize={11} keyboardShouldPersistTaps="handled" />
      )}
    </View>
  );
}

/** That nobody was found, and no more than is known: names come from the server. */
function noneText(sought: string, nameless: number): string {
  if (nameless === 0) return `None of your conversations is with “${sought}”.`;
  return `“${sought}” was not found, but the names of ${nameless === 1 ? "one conversation" : `${nameless} conversations`} did not load.`;
}

const Row = memo(function Row({ conversation, selected }: { conversation: ConversationView; selected: boolean }) {
  const styles = useStyles();
  const partner = partnerOf(conversation) ?? "";
  const member = useMember(partner);
  const gone = member?.is_active === false;
  const presence = usePresenceText(partner, gone);
  const name = member?.name ?? "…";
  const { last, unread, unreadMore, typing, lastAt } = conversation;
  const when = useTicking(useCallback((now: number) => (lastAt > 0 ? listTime(lastAt, now) : ""), [lastAt]));
  const unreadText = countText(unread, unreadMore);
  const preview = typing.length > 0 ? "typing…" : last?.content.replace(/\s+/gu, " ") ?? "";
  return (
    <Link href={{ pathname: "/chats/[key]", params: { key: conversation.key } }} asChild>
      <Pressable
        role="link" {...webOnly({ "aria-current": selected ? "page" : undefined })}
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
            <MutedMark settings={conversation.settings} />
            {unread > 0 ? <View style={styles.badge}><Text kind="tiny" tone="onPrimary">{unreadText}</Text><Unseen> unread</Unseen></View> : null}
          </View>
        </View>
      </Pressable>
    </Link>
  );
});

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
    screen: { flex: 1, minHeight: 0, backgroundColor: colors.surface },
    search: { paddingHorizontal: space.l, paddingVertical: space.s },
    list: { flex: 1 },
    row,
    selectedRow: { ...row, backgroundColor: colors.soft },
    middle: { flex: 1, minWidth: 0, gap: space.xxs },
    line: { flexDirection: "row", alignItems: "center", gap: space.xs },
    grow: { flex: 1, minWidth: 0 },
    badge: { minWidth: 22, height: 22, borderRadius: 11, paddingHorizontal: 6, alignItems: "center", justifyContent: "center", backgroundColor: colors.primary },
  };
});
