import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { KeyboardAvoidingView, Platform, Pressable, View } from "react-native";
import { Link, useRouter } from "expo-router";
import { useConnection, useConversation, useMember, useMessages, useObservable } from "@members-book/client/react";
import type { ConversationHandle, ConversationView, MemberId, MessageView } from "@members-book/client";

import { drafts } from "@/lib/drafts";
import { useForeground } from "@/lib/foreground";
import { partnerOf, usePresenceText } from "@/lib/people";
import { webOnly } from "@/lib/platform";
import { isTrouble, TROUBLE_KEPT, useQuery } from "@/lib/query";
import { useMembers } from "@/lib/rest";
import { useOnScreen } from "@/push/opening";
import { useScreen } from "@/lib/screens";
import { makeStyles, space, useWide } from "@/theme";
import { Avatar, Empty, Header, IconButton, Loading, Notice, PresenceDot, Text, useToast } from "@/ui";
import { Composer } from "./Composer";
import { SheetButton } from "./ConversationSheet";
import { FailedSheet } from "./FailedSheet";
import type { ListHandle } from "./list";
import { MessageList } from "./MessageList";
import { MuteButton } from "./MuteSheet";
import { AnswerBar } from "./Quote";
import { countAfter, firstFresh, lastSeq, nextTo } from "./rows";

/** A conversation. `conversationKey` is that of the list, or of `client.conversation(...)`. */
export function ChatScreen({ conversationKey }: { conversationKey: string }) {
  const styles = useStyles();
  const conversation = useConversation(conversationKey);
  const info = useObservable(conversation.info);
  useOnScreen(info.id);
  const partner = partnerOf(info);
  const member = useMember(partner ?? "");
  const name = member?.name ?? "…";
  const gone = member?.is_active === false;
  const wide = useWide();
  const [failed, setFailed] = useState<MessageView>();
  const [editing, setEditing] = useState<MessageView>();
  const list = useRef<ListHandle>(null);
  const toBottom = useCallback(() => list.current?.toBottom(), []);
  const [replyTo, answer] = useAnswering(conversation.key);
  const step = useCallback((by: -1 | 1) => answer(nextTo(conversation.messages.getSnapshot().messages, replyTo, by)), [answer, conversation, replyTo]);
  const nowhere = useNowhere(info, member === undefined);
  if (nowhere) return <Nowhere />;
  return (
    <KeyboardAvoidingView style={styles.screen} behavior={Platform.OS === "ios" ? "padding" : undefined}>
      <Header back={wide ? undefined : "/chats"} name={member?.name ?? "Chat"} title={partner ? <Partner id={partner} name={name} photo={member?.profile_image_url} gone={gone} typing={info.typing.length > 0} /> : name}>
        <MuteButton info={info} />
        <SheetButton info={info} />
      </Header>
      <Messages conversation={conversation} name={name} list={list} onFailed={setFailed} onAnswer={gone ? undefined : answer} />
      <Trouble conversationKey={conversationKey} />
      {gone ? (
        <View style={styles.gone}><Notice tone="warn" text={`${name} is not active in the club. You can read what was written, but not write.`} /></View>
      ) : (
        <Composer
          key={conversation.key} conversation={conversation} name={name} editing={editing} onEdited={() => setEditing(undefined)} onSent={toBottom}
          replyTo={replyTo} onAnswer={answer} onStep={step}
          answering={replyTo === undefined ? null : <AnswerBar conversationKey={conversation.key} replyTo={replyTo} name={name} onCancel={() => answer(undefined)} />}
        />
      )}
      <FailedSheet conversation={conversation} message={failed} onClose={() => setFailed(undefined)} onEdit={gone ? undefined : setEditing} />
    </KeyboardAvoidingView>
  );
}

/** What is answered by what is being written, by its `seq`; it stays with the draft. */
function useAnswering(key: string): [number | undefined, (seq: number | undefined) => void] {
  const draft = `${key}.re`;
  const [chosen, choose] = useState<{ key: string; seq: number | undefined }>();
  const answer = useCallback((seq: number | undefined) => {
    drafts.set(draft, seq === undefined ? "" : String(seq));
    choose({ key, seq });
  }, [draft, key]);
  return [chosen?.key === key ? chosen.seq : Number(drafts.get(draft)) || undefined, answer];
}

/** Says that the server is in trouble, as long as anything waits that it did not take for that. */
function Trouble({ conversationKey }: { conversationKey: string }) {
  const styles = useStyles();
  const { messages } = useMessages(conversationKey);
  if (!messages.some(({ problem }) => isTrouble(problem?.code))) return null;
  return <View style={styles.gone}><Notice tone="warn" text={TROUBLE_KEPT} /></View>;
}

function Nowhere() {
  const styles = useStyles();
  const router = useRouter();
  const head = useScreen("Nobody is here");
  return (
    <View style={styles.screen} role="alert" ref={head} {...webOnly({ tabIndex: -1 })}>
      <Empty icon="search" title="Nobody is here" text="The address leads to no conversation of yours, and to no member of the club." action={{ label: "To the chats", onPress: () => router.replace("/chats") }} />
    </View>
  );
}

/** Whether the conversation is none: with nobody, or with somebody whom the club does not know. */
function useNowhere({ id, others, lastAt }: ConversationView, unknown: boolean): boolean {
  const members = useMembers();
  const { status } = useConnection();
  const partner = others[0] ?? "";
  const asked = unknown && partner !== "" && status === "online";
  const { failure } = useQuery(asked ? partner : "", () => (asked ? members.member(partner) : Promise.resolve(undefined)));
  if (partner === "") return status === "online" && lastAt === 0;
  return id === undefined && failure?.code === "member_not_found";
}

function Partner({ id, name, photo, gone, typing }: { id: MemberId; name: string; photo: string | undefined; gone: boolean; typing: boolean }) {
  const styles = useStyles();
  const presence = usePresenceText(id, gone);
  return (
    <Link href={{ pathname: "/members/[id]", params: { id } }} asChild>
      <Pressable role="link" style={styles.partner}>
        <View><Avatar name={name} photo={photo} size={40} /><PresenceDot member={id} gone={gone} /></View>
        <View style={styles.names}>
          <Text kind="heading" level={1} numberOfLines={1}>{name}</Text>
          <Text kind="small" tone={typing ? "primary" : "muted"} numberOfLines={1} aria-live="polite">{typing ? "typing…" : presence ?? ""}</Text>
        </View>
      </Pressable>
    </Link>
  );
}

/** Where "new messages" begin: what was unread when the conversation was opened, or when somebody came back to it. */
function useFresh(messages: readonly MessageView[], ready: boolean, readUpTo: number, foreground: boolean): string | undefined {
  const [after, setAfter] = useState<number>();
  const newest = useRef(0);
  const key = useMemo(() => (after === undefined ? undefined : firstFresh(messages, after)), [messages, after]);
  const [opened, setOpened] = useState(false);
  if (ready && !opened) {
    setOpened(true);
    setAfter(firstFresh(messages, readUpTo) === undefined ? Infinity : readUpTo);
  }
  useEffect(() => {
    newest.current = lastSeq(messages);
  });
  // Who answers has read it.
  const answered = key !== undefined && messages[messages.length - 1]?.own === true;
  useEffect(() => {
    if (answered) setAfter(Infinity);
  }, [answered]);
  useEffect(() => {
    if (!opened) return;
    if (!foreground) setAfter((old) => (old === Infinity ? newest.current : old));
    else setAfter((old) => (old !== undefined && newest.current <= old ? Infinity : old));
  }, [foreground, opened]);
  return key;
}

interface MessagesProps {
  conversation: ConversationHandle;
  name: string;
  list: React.RefObject<ListHandle | null>;
  onFailed: (message: MessageView) => void;
  onAnswer: ((seq: number) => void) | undefined;
}

function Messages({ conversation, name, list, onFailed, onAnswer }: MessagesProps) {
  const styles = useStyles();
  const state = useMessages(conversation.key);
  const { messages, ready, hasOlder, loadingOlder, loadOlder, problem, readUpTo } = state;
  const foreground = useForeground();
  /** Whether the newest message is on the screen; not known before the list has opened, perhaps where what is new begins. */
  const [there, setThere] = useState<boolean>();
  const fresh = useFresh(messages, ready, readUpTo, foreground);
  // If everything that is here is new, it begins further up: there is no line yet.
  const freshKey = hasOlder && messages[0]?.key === fresh ? undefined : fresh;
  const { announce } = useToast();

  const newest = lastSeq(messages);
  useEffect(() => {
    if (ready && there && foreground && newest > 0) conversation.markRead();
  }, [conversation, ready, there, foreground, newest]);

  // What came while the newest message is out of sight.
  const [left, setLeft] = useState<number>();
  const missed = there === false ? countAfter(messages, left ?? readUpTo) : 0;
  const onBottom = useCallback((now: boolean) => setThere(now), []);
  const show = useCallback((seq: number) => list.current?.toSeq(seq), [list]);
  const seen = useRef(newest);
  const unsay = useRef<() => void>(undefined);
  useEffect(() => {
    if (there) setLeft(newest);
    const last = messages[messages.length - 1];
    if (ready && last && !last.own && newest > seen.current && seen.current > 0) unsay.current = announce(`${name}: ${last.content}`);
    seen.current = newest;
  }, [announce, messages, name, newest, ready, there]);
  // Who leaves, or signs out, leaves nothing of it in the page.
  useEffect(() => () => unsay.current?.(), []);

  if (!ready) return <Loading label="Loading messages" />;
  if (messages.length === 0) return <Empty icon="chat" title="No messages yet" text={`Say hello to ${name}: write below.`} />;
  return (
    <View style={styles.messages}>
      {problem ? (
        <View style={styles.problem} role="alert">
          <Text kind="small" tone="danger" style={styles.grow}>Older messages did not load: {problem.message}</Text>
          <IconButton icon="retry" label="Load older messages again" onPress={loadOlder} />
        </View>
      ) : null}
      <MessageList
        ref={list} messages={messages} freshKey={freshKey} name={name} hasOlder={hasOlder && !problem} loadingOlder={loadingOlder}
        onOlder={loadOlder} onBottom={onBottom} onFailed={onFailed} conversationKey={conversation.key} onAnswer={onAnswer} onShow={show}
      />
      {there !== false ? null : (
        <View style={styles.down}>
          <View style={styles.round}>
            <IconButton icon="down" label={missed > 0 ? `To the newest message, ${missed} new` : "To the newest message"} badge={missed > 0 ? String(missed) : undefined} onPress={() => list.current?.toBottom()} />
          </View>
        </View>
      )}
    </View>
  );
}

const useStyles = makeStyles(({ colors }) => ({
  screen: { flex: 1, minHeight: 0, backgroundColor: colors.background },
  partner: { flexDirection: "row", alignItems: "center", gap: space.m, paddingVertical: space.xxs },
  names: { flex: 1, minWidth: 0 },
  messages: { flex: 1, minHeight: 0 },
  problem: { flexDirection: "row", alignItems: "center", paddingHorizontal: space.l, backgroundColor: colors.dangerSoft },
  grow: { flex: 1 },
  gone: { padding: space.m },
  down: { position: "absolute", right: space.l, bottom: space.l },
  round: { borderRadius: 22, backgroundColor: colors.surface, borderWidth: 1, borderColor: colors.outline },
}));
