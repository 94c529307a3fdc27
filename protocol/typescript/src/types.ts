import type { ErrorVerdict, ProblemCode } from "./errors.js";
import type { Environment, Observable } from "./environment.js";
import type { Api } from "./api.js";
import type { Extend, Extension } from "./extension.js";
import type { Storage, Vault } from "./storage.js";
import type { ConfiguredConversation, ConversationId, ConversationKind, ConversationSettings, DeviceStatus, LoginRequest, Member, MemberCard, MemberId, Platform, PresenceStatus, RegisterRequest } from "./protocol.js";

/** Which conversation: the direct one with a member, whether or not it has a message yet, or one by its id. */
export type Target = { readonly member: MemberId } | { readonly conversation: ConversationId };

/** Who is signed in. */
export type SessionState =
  /** What was stored has not been read yet. */
  | { readonly status: "loading" }
  /** Nobody. `reason` says why, if somebody was. */
  | { readonly status: "signed_out"; readonly reason?: SignedOutReason }
  /** Somebody. `member` is their record as it was seen last: there after a restart without a network, too. */
  | { readonly status: "signed_in"; readonly id: MemberId; readonly member: Member };

/**
 * Why nobody is signed in any more: they logged out, or left the club, on this device; the session is over; an administrator deactivated or suspended them, or they left elsewhere.
 * Nothing of the member stays on the device; unsent messages do for the latter two, until they or somebody else signs in. Until when a suspension lasts, the next
 * `login` says: it rejects with `member_suspended` and `details.until`.
 */
export type SignedOutReason = "logged_out" | "session_over" | "deactivated";

/** What has become of a registration: the member is signed in, or waits for an administrator, and can log in once they are approved. */
export type Registered = { readonly status: "signed_in"; readonly member: Member } | { readonly status: "pending" | "verify_email" };

/** Whether the server is reached. */
export interface ConnectionState {
  /**
   * `offline`: nobody is signed in, or the client is stopped. `connecting`: on the way, or waiting to try again. `syncing`: catching up. `online`: everything that
   * happens arrives. `replaced`: the same device is connected elsewhere; `wake()` takes the connection back. `stopped`: the server
   * refuses this client, and will again; `problem` says why.
   */
  readonly status: "offline" | "connecting" | "syncing" | "online" | "replaced" | "stopped";
  /** When the next attempt is made, in milliseconds of `Clock.now`; only while it is waited for. */
  readonly retryAt?: number;
  /** The close code of the server, or 1006, that ended the last connection. */
  readonly closeCode?: number;
  /** What the server said when it refused the client. */
  readonly problem?: Problem;
  /** Nothing can be stored at the moment (no room, or no answer for 20 s): what comes is shown, but is not kept. Or what is kept cannot be read: until what was not sent is, nothing is sent, but if the storage does not open for 30 s. */
  readonly storageFailing: boolean;
}

/** Why something failed, for people and programs. */
export interface Problem {
  /** The code of the server, or one of the client. */
  readonly code: ProblemCode;
  /** In words. */
  readonly message: string;
  /** What to do. */
  readonly verdict: ErrorVerdict;
  /** The field that is wrong, if it is one. */
  readonly field?: string;
}

/**
 * How far a message of one's own has got. `queued`: kept here, and sent as soon as that is possible. `sending`: on its way. `failed`: the server refused it for good: edit, retry or
 * drop it. `sent`: stored by the server, for ever. `delivered`: on a device of the other member. `read`: they have read it.
 */
export type SendStatus = "queued" | "sending" | "failed" | "sent" | "delivered" | "read";

/** A message as it is shown. The same object as long as nothing of it has changed. */
export interface MessageView {
  /** Stable from the moment it is written: the key of a row. */
  readonly key: string;
  /** Its place in the conversation; absent as long as the server does not have it, and until what comes before it is here. */
  readonly seq?: number;
  readonly sender: MemberId;
  /** Whether it is of the member who is signed in. */
  readonly own: boolean;
  readonly content: string;
  /** The `seq` of the message that it answers, if it answers one: `ConversationHandle.find`. */
  readonly replyTo?: number;
  /** When it was stored, or written, in milliseconds since the Unix epoch. */
  readonly at: number;
  /** Only of one's own messages. */
  readonly status?: SendStatus;
  /** Why it failed; of one that is queued or on its way, why the server did not take it the last time. */
  readonly problem?: Problem;
}

/** A conversation in the list. The same object as long as nothing of it has changed. */
export interface ConversationView {
  /** Stable for ever, also before the first message: the key of a row, the parameter of a route. `client.target(key)` leads back. */
  readonly key: string;
  /** Absent before its first message is stored. */
  readonly id?: ConversationId;
  readonly kind: ConversationKind;
  /** The others who are in it. */
  readonly others: readonly MemberId[];
  /** The newest message: of the server or of the outbox. */
  readonly last?: MessageView;
  /** When something was said last, in milliseconds since the Unix epoch. */
  readonly lastAt: number;
  /** Messages of others that the member has not read. */
  readonly unread: number;
  /** There are more than `unread` says, which is 1,000 then: show "1,000+". */
  readonly unreadMore: boolean;
  /** Who is typing, if the client has `People`. */
  readonly typing: readonly MemberId[];
  /** What the member has set of it, on whatever device (`Conversations.configure`). Absent: told of all messages, not muted, not archived, not pinned. */
  readonly settings?: ConversationSettings;
}

/** All conversations, the one with the newest message first. */
export interface ConversationsState {
  /** False until what is stored was read, or the first sync is through. */
  readonly ready: boolean;
  readonly conversations: readonly ConversationView[];
}

/** Which conversations a list of an app shows. */
export interface ConversationFilter {
  /** Those that the member has archived, or those that they have not. */
  readonly archived: boolean;
  /** Of these only those with unread messages. */
  readonly onlyUnread?: boolean | undefined;
}

/** One list of an app: those that are pinned first, unless it is that of the archived ones; then the one with the newest message. */
export interface ConversationList extends ConversationsState {
  /** How many conversations have unread messages: of those that are archived, or of those that are not, whether or not only these are shown. */
  readonly unread: number;
}

/** The messages of one conversation: a window of its log, without holes, that ends with the newest one and the outbox. */
export interface MessagesState {
  /** Ascending. */
  readonly messages: readonly MessageView[];
  /** What is here was read, from the storage or from the server. */
  readonly ready: boolean;
  /** There are older messages: `loadOlder()`. */
  readonly hasOlder: boolean;
  /** Older ones are on their way. */
  readonly loadingOlder: boolean;
  /** Why the last `loadOlder()` failed. */
  readonly problem?: Problem;
  /** Everything up to this `seq` was read by the member when the conversation was opened: where "new messages" begin. */
  readonly readUpTo: number;
}

/** How a message is sent. */
export interface SendOptions {
  /** The `seq` of the message of this conversation that it answers. */
  readonly replyTo?: number | undefined;
}

/**
 * One conversation. Obtained by `client.conversation(target)`; the same object for the same target. Of one that was asked for by its id and by its member, before it was known that both are
 * one, there are two, with a key each: they show the same from then on. After a log-out, and when the session is over, it shows nothing.
 */
export interface ConversationHandle {
  readonly key: string;
  /** As in the list: its `key` is that of the row. */
  readonly info: Observable<ConversationView>;
  /** Its messages. They are kept in memory as long as somebody has subscribed. */
  readonly messages: Observable<MessagesState>;
  /**
   * Sends a message: it is in `messages` at once, kept until the server has it, and sent in the order of the calls. Resolves with its key when it is kept on this device, or cannot be: while
   * `storageFailing` at once, and after 20 s of a storage that does not answer. It is sent all the same, once, also if it is kept later; it is lost if the app ends before either.
   * Rejects for what is no text, an empty one, one that is too long or has half a character, for a message to oneself, and if nobody is signed in.
   * What it answers (`replyTo`) has to be there: the server refuses it otherwise (`message_not_found`, the message is `failed`), and sent again it answers nothing.
   */
  send(content: string, options?: SendOptions): Promise<string>;
  /** Takes what `Conversations.configure` has resolved with: it is in `info` and in the list at once, before it comes over the connection, so that a further change begins with it. */
  configured(answer: ConfiguredConversation): void;
  /** Sends a failed message again. */
  retry(messageKey: string): Promise<void>;
  /** Changes the text of a message that the server does not have, and sends it. */
  edit(messageKey: string, content: string): Promise<void>;
  /** Gives a failed message up. */
  drop(messageKey: string): Promise<void>;
  /** Everything that is here was seen. */
  markRead(): void;
  /** Loads the page before. Does nothing while one is on its way, or at the beginning. */
  loadOlder(): Promise<void>;
  /** One message, such as what another answers: from this device, or from the server, which rejects without a connection. It is not put into `messages`. `undefined`: there is none that can be shown. */
  find(seq: number): Promise<MessageView | undefined>;
}

/** The presence of a member, as far as it is known. */
export interface PresenceView {
  /** `unknown` before the first answer, without a connection, and as long as there is no room: a connection watches 500 members, and who is not looked at any more makes room. */
  readonly status: PresenceStatus | "unknown";
  /** When they were there last, in milliseconds since the Unix epoch. */
  readonly lastSeen?: number;
}

/** Unread messages of all conversations. */
export interface UnreadState {
  readonly total: number;
  readonly more: boolean;
}

/** What `People` knows of a member: enough to show a name and a picture. */
export type MemberView = MemberCard;

/** The client: one for each signed-in device. Made by `createWebClient`, `createExpoClient` or `new Client`. */
export interface MembersBook {
  /** The REST API, with the tokens of the session. */
  readonly api: Api;
  readonly session: Observable<SessionState>;
  readonly connection: Observable<ConnectionState>;
  readonly conversations: Observable<ConversationsState>;
  readonly unread: Observable<UnreadState>;
  /** Registrations that wait for an administrator, as the server says it to administrators; 0 for everybody else. */
  readonly applications: Observable<number>;
  /** Reads what is stored, and connects if somebody is signed in. Once. */
  start(): Promise<void>;
  /** Closes the connection and the storage. Everything that was kept is there at the next start. Rejects with `storage` if that does not close: what was written last may not be kept. */
  stop(): Promise<void>;
  /**
   * Makes an account and signs in; or it waits: for an administrator, or, where mail is sent, for the link in a mail, after which `login` works. `club()` of `Account` says whether
   * `invitation` is needed.
   */
  register(account: RegisterRequest): Promise<Registered>;
  /** Makes the club: the first administrator's account, with the code that the server printed; signs in. */
  setup(account: RegisterRequest & { code: string }): Promise<Member>;
  /** Signs in. What was kept of the same member is there again, unsent messages included; the session of who was signed in ends. Rejects with `storage`, and changes nothing, if it cannot be kept. */
  login(credentials: LoginRequest): Promise<Member>;
  /**
   * Ends the session (with `all`: those of every device), and removes everything of the member from this device, in all tabs of a browser, those that are closed included.
   * Works without a network, too: the tokens are forgotten then. Rejects if that cannot be kept on the device (the vault fails, or does not answer for 20 s): the member is still signed in there; call it again.
   */
  logout(options?: { all?: boolean }): Promise<void>;
  /** Leaves the club, for ever, and removes everything of the member from this device as `logout` does. */
  leave(): Promise<void>;
  /** The member has left, or what the server has of them was changed over REST: their own record is read again. */
  refreshMember(): Promise<Member>;
  /**
   * How many messages are not sent yet, in all conversations; of the member whose session is over, as long as the app runs. Ask before `logout`. `undefined`: not known, because what is stored could not be
   * read (yet): there may be some, and a log-out erases them.
   */
  unsent(): number | undefined;
  /** A conversation of the member who is signed in. Throws if nobody is, and was not before. */
  conversation(target: Target): ConversationHandle;
  /** The target of a conversation's key. */
  target(key: string): Target;
  /** For what adds to the client, as `People` does: the one of this client, made if it is not there. Whoever is signed in uses it. */
  extend<E extends Extension>(make: Extend<E>): E;
  /** What this device shows of its member: `away` for an app in the background. */
  setStatus(status: DeviceStatus): void;
  /** The app has come to the foreground, or the network has changed: a connection that is dead is replaced within 3 s, and one that is waited for, or was refused, is tried at once. */
  wake(): void;
}

/** What a client is made of. */
export interface ClientOptions {
  /** Where the server is: `https://club.example`. */
  readonly url: string;
  /** Where everything but the tokens is kept. Nobody else uses it at the same time. */
  readonly storage: Storage;
  /** Where the tokens are kept. Tabs share one. */
  readonly vault: Vault;
  /** What the device is. */
  readonly platform: Platform;
  /** What it is called where the member sees where they are signed in, such as “Chrome on Windows”; at most 100 characters, what is beyond is cut. */
  readonly deviceName?: string;
  /** Time, sockets, HTTP and chance, where they are not those of the platform. */
  readonly environment?: Partial<Environment>;
  /** Told what happens, for a log: frames in both directions by their type, states, failed attempts, error codes. What it throws is ignored. */
  readonly debug?: (event: DebugEvent) => void;
}

/** A line of the debug log. Never has content, names or tokens. */
export interface DebugEvent {
  readonly at: number;
  readonly what: string;
  readonly details?: Readonly<Record<string, string | number | boolean | undefined>>;
}
