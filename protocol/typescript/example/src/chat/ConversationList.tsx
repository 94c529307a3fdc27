import { useCallback, useMemo, useState } from "react";
import { FlatList, View } from "react-native";
import type { ListRenderItemInfo } from "react-native";
import { useGlobalSearchParams, useRouter } from "expo-router";
import { useConversations } from "@members-book/client/react";
import type { ConversationView } from "@members-book/client";

import { useNames } from "@/lib/names";
import { countText, partnerOf } from "@/lib/people";
import { webOnly } from "@/lib/platform";
import { FirstSteps } from "@/members/FirstSteps";
import { makeStyles, space } from "@/theme";
import { Choice, Empty, Field, Header, IconButton, Loading, Text } from "@/ui";
import { ArchivedRow, ConversationRow, LIST_ID } from "./ConversationRow";
import { ConversationSheet } from "./ConversationSheet";
import { useOnlyUnread } from "./filter";
import { useRowFocus } from "./rowFocus";

const FILTERS = [{ value: "all", label: "All" }, { value: "unread", label: "Unread" }] as const;
const keyOf = (conversation: ConversationView) => conversation.key;

interface Props {
  /** Those that are archived, or those that are not. */
  archived?: boolean;
  /** It is beside something that says what to do while there is none. */
  beside?: boolean;
}

/** A list of conversations: those at the top first, and the newest. Who looks for a name finds the archived ones, too. */
export function ConversationList({ archived = false, beside = false }: Props) {
  const styles = useStyles();
  const router = useRouter();
  const { ready, conversations: all } = useConversations();
  const apart = useConversations({ archived: true });
  const [unreadChosen, chooseUnread] = useOnlyUnread();
  const onlyUnread = unreadChosen && !archived;
  const list = useConversations({ archived, onlyUnread });
  const { key } = useGlobalSearchParams<{ key?: string }>();
  const [sought, setSought] = useState("");
  const searching = sought.trim() !== "";
  const found = useFound(archived ? apart.conversations : all, sought.trim());
  const shown = found ? found.conversations.filter(({ unread }) => !onlyUnread || unread > 0) : list.conversations;

  const [sheet, setSheet] = useState<string>();
  const moves = useRowFocus(shown, sheet !== undefined);
  const openSheet = useCallback((row: string) => {
    moves(row);
    setSheet(row);
  }, [moves]);
  const render = useCallback(
    ({ item }: ListRenderItemInfo<ConversationView>) => <ConversationRow conversation={item} selected={item.key === key} sought={searching && !archived} onSheet={openSheet} />,
    [key, searching, archived, openSheet],
  );
  const opened = all.find((each) => each.key === sheet);
  const empty = found ? <NobodyFound sought={sought.trim()} nameless={found.nameless} />
    : archived ? <NothingArchived />
    : onlyUnread ? <NothingUnread archived={apart.unread} onAll={() => chooseUnread(false)} />
    : <AllArchived />;
  const searchable = (archived ? apart.conversations : all).length > 0;
  return (
    <View style={styles.screen} id={LIST_ID} {...webOnly({ tabIndex: -1 })}>
      <Header title={archived ? "Archived" : "Chats"} back={archived && !beside ? "/chats" : undefined}>
        {archived && beside ? <IconButton icon="close" label="Close the archived chats" onPress={() => router.navigate("/chats")} /> : null}
      </Header>
      {searchable ? (
        <View style={styles.search}>
          <Field label="Find a conversation" placeholder="Name" value={sought} onChangeText={setSought} {...webOnly({ type: "search" })} autoCorrect={false} />
          {archived ? null : <Choice label="Which chats" options={FILTERS} value={unreadChosen ? "unread" : "all"} onChange={(value) => chooseUnread(value === "unread")} />}
        </View>
      ) : null}
      {!ready ? <Loading label="Loading conversations" /> : all.length === 0 ? (
        beside ? <View style={styles.search}><Text tone="muted">No conversations yet</Text></View> : <FirstSteps />
      ) : shown.length === 0 && found?.looking ? <Loading label="Looking through your conversations" /> : (
        <FlatList
          data={shown as ConversationView[]} keyExtractor={keyOf} renderItem={render} aria-label="Conversations" style={styles.list} contentContainerStyle={styles.rows}
          initialNumToRender={16} windowSize={11} keyboardShouldPersistTaps="handled"
          ListHeaderComponent={archived || found || apart.conversations.length === 0 ? null : <ArchivedRow count={apart.conversations.length} unread={apart.unread} />}
          ListEmptyComponent={empty}
        />
      )}
      {opened ? <ConversationSheet conversation={opened} onClose={() => setSheet(undefined)} onUndo={() => moves(opened.key)} /> : null}
    </View>
  );
}

interface Found {
  readonly conversations: readonly ConversationView[];
  /** Names are still on their way. */
  readonly looking: boolean;
  /** How many have no name yet. */
  readonly nameless: number;
}

/** Those with somebody of a name; nothing while none is sought. */
function useFound(conversations: readonly ConversationView[], sought: string): Found | undefined {
  const words = sought.toLocaleLowerCase();
  const partners = useMemo(() => conversations.flatMap((conversation) => partnerOf(conversation) ?? []), [conversations]);
  const names = useNames(partners, words !== "");
  if (words === "") return undefined;
  const nameOf = (conversation: ConversationView) => names.of(partnerOf(conversation) ?? "");
  return {
    conversations: conversations.filter((conversation) => nameOf(conversation)?.toLocaleLowerCase().includes(words)),
    looking: names.looking,
    nameless: conversations.filter((conversation) => nameOf(conversation) === undefined).length,
  };
}

function useDirectory() {
  const router = useRouter();
  return { label: "Open the directory", onPress: () => router.navigate("/members") };
}

/** That nobody was found, and no more than is known: names come from the server. */
function NobodyFound({ sought, nameless }: { sought: string; nameless: number }) {
  const text = nameless === 0 ? `None of your conversations is with “${sought}”.`
    : `“${sought}” was not found, but the names of ${nameless === 1 ? "one conversation" : `${nameless} conversations`} did not load.`;
  return <Empty icon="search" title="Nobody found" text={`${text} Look in the directory for other members.`} action={useDirectory()} />;
}

function AllArchived() {
  return <Empty icon="archive" title="All of your chats are archived" text="You find them above, under Archived." action={useDirectory()} />;
}

function NothingArchived() {
  return <Empty icon="archive" title="Nothing is archived" text="Hold a chat, or open the options in its head, and choose Archive: it is here then, and not in the list. What comes in it is here, too." />;
}

function NothingUnread({ archived, onAll }: { archived: number; onAll: () => void }) {
  const text = archived === 0 ? "You have read everything." : `But ${archived === 1 ? "one archived chat has" : `${countText(archived, false)} archived chats have`} unread messages.`;
  return <Empty icon="checks" title="Nothing is unread here" text={text} action={{ label: "Show all chats", onPress: onAll }} />;
}

const useStyles = makeStyles(({ colors }) => ({
  screen: { flex: 1, minHeight: 0, backgroundColor: colors.surface },
  search: { paddingHorizontal: space.l, paddingVertical: space.s, gap: space.s },
  list: { flex: 1 },
  rows: { flexGrow: 1 },
}));
