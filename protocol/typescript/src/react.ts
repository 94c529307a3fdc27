import { createContext, createElement, useCallback, useContext, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import type { ReactElement, ReactNode } from "react";

import { Conversations, listOf } from "./conversations.js";
import type { Observable } from "./environment.js";
import { MembersBookError, misuse } from "./errors.js";
import { People } from "./people.js";
import type { ConversationSettings, MemberId } from "./protocol.js";
import type {
  ConnectionState, ConversationFilter, ConversationHandle, ConversationList, ConversationsState, ConversationView, MembersBook, MessagesState, MessageView, PresenceView, SessionState, Target,
  UnreadState,
} from "./types.js";

const Context = createContext<MembersBook | undefined>(undefined);

/** Gives the client to the hooks below it, and starts it. Stopping it is for who made it. */
export function MembersBookProvider(props: { client: MembersBook; children?: ReactNode }): ReactElement {
  const { client, children } = props;
  useEffect(() => {
    // Why it does not start is in `useSession` and in the debug log; it was stopped, perhaps.
    client.start().catch(() => undefined);
  }, [client]);
  return createElement(Context.Provider, { value: client }, children);
}

/** The client. */
export function useClient(): MembersBook {
  const client = useContext(Context);
  if (!client) throw new Error("useClient: there is no <MembersBookProvider> around this component");
  return client;
}

/** A value of the client that changes. */
export function useObservable<T>(observable: Observable<T>): T {
  return useSyncExternalStore(observable.subscribe, observable.getSnapshot, observable.getSnapshot);
}

/** Who is signed in. */
export function useSession(): SessionState {
  return useObservable(useClient().session);
}

/** Whether the server is reached. */
export function useConnection(): ConnectionState {
  return useObservable(useClient().connection);
}

/** All conversations, the one with the newest message first; or one list of an app, those that are pinned first: `useConversations({ archived: false })`. */
export function useConversations(): ConversationsState;
export function useConversations(filter: ConversationFilter): ConversationList;
export function useConversations({ archived, onlyUnread }: Partial<ConversationFilter> = {}): ConversationsState {
  const { conversations } = useClient();
  const shown = useMemo(() => (archived === undefined ? conversations : listOf(conversations, { archived, onlyUnread })), [conversations, archived, onlyUnread]);
  return useObservable<ConversationsState>(shown);
}

/** Unread messages of all conversations. */
export function useUnread(): UnreadState {
  return useObservable(useClient().unread);
}

/** Registrations that wait for an administrator; 0 for who is none. */
export function useApplications(): number {
  return useObservable(useClient().applications);
}

/** A conversation, by its target or its key. While nobody is signed in it is empty, and what is sent into it is refused. */
export function useConversation(target: Target | string): ConversationHandle {
  const client = useClient();
  const key = typeof target === "string" ? target : "member" in target ? `m_${target.member}` : `c_${target.conversation}`;
  const { status } = useObservable(client.session);
  const nobody = useMemo(() => emptyHandle(key), [key]);
  const asked = typeof target === "string" ? client.target(target) : target;
  return status === "signed_in" ? client.conversation(asked) : nobody;
}

/** A conversation of nobody. */
function emptyHandle(key: string): ConversationHandle {
  const refuse = () => Promise.reject(new MembersBookError("token_missing", "Nobody is signed in."));
  const nothing = () => undefined;
  return {
    key,
    info: constant<ConversationView>({ key, kind: "direct", others: [], lastAt: 0, unread: 0, unreadMore: false, typing: [] }),
    messages: constant<MessagesState>({ messages: [], ready: false, hasOlder: false, loadingOlder: false, readUpTo: 0 }),
    send: refuse, configured: nothing, retry: refuse, edit: refuse, drop: refuse, markRead: nothing, loadOlder: () => Promise.resolve(), find: () => Promise.resolve(undefined),
  };
}

function constant<T>(value: T): Observable<T> {
  return { subscribe: () => () => undefined, getSnapshot: () => value };
}

/** What the list shows of a conversation. */
export function useConversationInfo(target: Target | string): ConversationView {
  return useObservable(useConversation(target).info);
}

/** What the member has set of a conversation, and how to set it: all of it, for all devices. Before the first message, and while the server is not reached, `configure` rejects. */
export function useConversationSettings(target: Target | string): { settings: ConversationSettings; configure: (settings: ConversationSettings) => Promise<void> } {
  const { api } = useClient();
  const conversation = useConversation(target);
  const { id, settings } = useObservable(conversation.info);
  const configure = useCallback(
    async (wanted: ConversationSettings) => {
      if (!id) throw misuse("There is nothing to set before the first message.");
      conversation.configured(await new Conversations(api).configure(id, wanted));
    },
    [api, conversation, id],
  );
  return useMemo(() => ({ settings: settings ?? { notify: "all" }, configure }), [settings, configure]);
}

/** The messages of a conversation, how to get older ones, and how to say that all of them were seen. */
export function useMessages(target: Target | string): MessagesState & { loadOlder: () => void; markRead: () => void } {
  const conversation = useConversation(target);
  const state = useObservable(conversation.messages);
  const loadOlder = useCallback(() => void conversation.loadOlder(), [conversation]);
  const markRead = useCallback(() => conversation.markRead(), [conversation]);
  return useMemo(() => ({ ...state, loadOlder, markRead }), [state, loadOlder, markRead]);
}

/** Sends messages into a conversation, and what to do with those that failed. */
export function useSend(target: Target | string): Pick<ConversationHandle, "send" | "retry" | "edit" | "drop"> {
  const conversation = useConversation(target);
  return useMemo(
    () => ({
      send: (content, options) => conversation.send(content, options),
      retry: (key) => conversation.retry(key),
      edit: (key, content) => conversation.edit(key, content),
      drop: (key) => conversation.drop(key),
    }),
    [conversation],
  );
}

/** The message that another one answers (its `replyTo`): at once if it is among the messages that are loaded, else once `load` has got it. `load` rejects if that cannot be asked for. */
export function useAnswered(target: Target | string, replyTo: number | undefined): { message: MessageView | undefined; load: () => Promise<void> } {
  const conversation = useConversation(target);
  const { messages } = conversation;
  const [found, keep] = useState<{ of: ConversationHandle; message: MessageView | undefined }>();
  const get = () => at(messages.getSnapshot(), replyTo);
  const loaded = useSyncExternalStore(messages.subscribe, get, get);
  const load = useCallback(async () => {
    if (replyTo !== undefined) keep({ of: conversation, message: await conversation.find(replyTo) });
  }, [conversation, replyTo]);
  const message = loaded ?? (found?.of === conversation && found.message?.seq === replyTo ? found.message : undefined);
  return useMemo(() => ({ message, load }), [message, load]);
}

/** The message with this `seq`. They ascend by it; those without one come last. */
function at({ messages }: MessagesState, seq: number | undefined): MessageView | undefined {
  let [low, high] = [0, seq === undefined ? 0 : messages.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((messages[middle]?.seq ?? Infinity) < (seq ?? 0)) low = middle + 1;
    else high = middle;
  }
  const found = messages[low];
  return found && found.seq === seq ? found : undefined;
}

/** Who is typing in a conversation, and how to say that the member is. */
export function useTyping(target: Target | string): { typing: readonly MemberId[]; setTyping: (active: boolean) => void } {
  const conversation = useConversation(target);
  const people = usePeople();
  const { typing } = useObservable(conversation.info);
  const setTyping = useCallback((active: boolean) => people.typing(conversation, active), [people, conversation]);
  return useMemo(() => ({ typing, setTyping }), [typing, setTyping]);
}

/** Other members, and how they are. */
export function usePeople(): People {
  const client = useClient();
  return useMemo(() => new People(client), [client]);
}

/** The presence of a member, as long as the component is there. */
export function usePresence(member: MemberId): PresenceView {
  return useObservable(usePeople().presence(member));
}

/** What is known of a member. */
export function useMember(member: MemberId) {
  return useObservable(usePeople().member(member));
}
