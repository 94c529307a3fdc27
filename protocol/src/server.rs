//! Frames from the server to a client.

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::{
    CloseCode, ConnectionId, ConversationId, Cursor, DecodeError, ErrorCode, MemberId, RequestId, Timestamp,
    codec::frames,
    limits::Limits,
    model::{
        Conversation, ConversationInfo, ConversationSettings, Entry, MemberCard, Message, Presence, PresenceStatus,
    },
};

frames! {
    /// Every frame that the server may send.
    pub enum ServerFrame {
        /// The reply to `hello`. A sync follows: `sync` frames, then one `sync.done`.
        "welcome" => Welcome;
        /// Conversations that changed since the cursor, or the newest ones; as many frames as needed, or none.
        "sync" => Sync;
        /// The end of the sync, with the new cursor.
        "sync.done" => SyncDone;
        /// The reply to `message.send`: the message is stored, for ever, with this `seq`.
        "message.accepted" => MessageAccepted;
        /// The reply to requests that have nothing else to say.
        "ok" => Okay;
        /// The reply to `conversations.list`.
        "conversations" => Conversations;
        /// The reply to `history.get`.
        "history" => History;
        /// The reply to `presence.watch`.
        "presence.snapshot" => PresenceSnapshot;
        /// The reply to `ping`.
        "pong" => Pong;
        /// An entry of a conversation of the member, on all their devices but the one that made it.
        "entry" => EntryPush;
        /// A watermark moved.
        "receipt" => Receipt;
        /// The member's own settings of a conversation: the reply to `conversation.configure`, and on all their other devices when they change.
        "conversation.settings" => ConversationSettingsPush;
        /// A member is typing, or has stopped.
        "typing" => TypingPush;
        /// The presence of a watched member changed.
        "presence" => PresencePush;
        /// The profile of a member changed: one that is watched or talked to, or the member's own.
        "member" => MemberPush;
        /// How many registrations wait for an administrator: to administrators, when that changes, and after the sync if there are any.
        "applications" => Applications;
        /// The access token expires in a minute: send `auth.renew`.
        "auth.expiring" => AuthExpiring;
        /// A request failed, or a frame could not be read. Nothing was changed.
        "error" => Error;
        /// The last frame before the server closes the connection.
        "goodbye" => Goodbye;
    }
}

/// A frame from the server, with the id of the request that it answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The id of the request. A push carries none.
    pub id: Option<RequestId>,
    /// What is said.
    pub frame: ServerFrame,
}

impl Envelope {
    /// Reads a frame; for clients.
    ///
    /// # Errors
    /// As [`crate::Request::decode`]. A client passes over an `unknown_type`.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        ServerFrame::decode_parts(text).map(|(id, frame)| Self { id, frame })
    }
}

/// `welcome`: the connection is signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct Welcome {
    /// The id of this connection, for support requests.
    pub connection: ConnectionId,
    /// The member who is signed in.
    pub member: MemberId,
    /// The server's clock.
    pub time: Timestamp,
    /// How often to send `ping`, in milliseconds. The server closes with 4408 after 2.5 times that without a frame.
    pub heartbeat_ms: u32,
    /// The limits of this connection.
    pub limits: Limits,
    /// When the access token expires.
    pub expires_at: Timestamp,
}

/// `sync`: the state of conversations. Applying it twice changes nothing. It comes between `welcome` and `sync.done`, and may come
/// at any later time, unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct Sync {
    /// The conversations, those with the newest entry first. Their `entries` are the latest ones that were missed.
    pub conversations: Vec<Conversation>,
    /// The cursor to keep once these are stored: a sync from it goes on after this frame.
    pub cursor: Cursor,
}

/// `sync.done`: the member's state is complete as of `cursor`; what happens after is pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct SyncDone {
    /// The cursor to keep.
    pub cursor: Cursor,
    /// Whether this was the full state, bounded, rather than what changed since the cursor in `hello`.
    pub full: bool,
    /// Whether `conversations.list` has conversations that a full sync had no room for.
    pub more: bool,
    /// The server has gone back behind the cursor in `hello`, to a backup for example, or does not know it as its own for
    /// this member: what the client has of any log, and this sync has not brought, may have vanished. Absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "codegen", ts(as = "Option<bool>", optional))]
    pub reset: bool,
}

/// `message.accepted`: the message is on disk (embedded store) or majority-committed (MongoDB).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct MessageAccepted {
    /// The message as it is stored.
    pub message: Message,
    /// Whether it had been stored before: this was a retry, and nobody is notified again.
    pub duplicate: bool,
}

/// `ok`: the request took effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
#[garde(allow_unvalidated)]
pub struct Okay {
    /// After `message.read`: messages of others that are still unread in the conversation. Exact up to 1,000, and never
    /// larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub unread: Option<u64>,
    /// Whether there are more than `unread` says. Absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "codegen", ts(as = "Option<bool>", optional))]
    pub unread_more: bool,
    /// After `message.read`: the newest entry when the watermark moved. `unread` counts up to it; what was pushed since is
    /// to be added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub last_seq: Option<u64>,
    /// After `auth.renew`: when the new token expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// `conversations`: a page of the member's conversations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
#[garde(allow_unvalidated)]
pub struct Conversations {
    /// The conversations, those with the newest entry first, each with its newest entry.
    pub conversations: Vec<Conversation>,
    /// What to give as `after` for the next page. Absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `history`: entries of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct History {
    /// The conversation.
    pub conversation: ConversationId,
    /// The entries, always ascending by `seq`.
    pub entries: Vec<Entry>,
    /// Whether there are further entries in the direction that was asked for.
    pub more: bool,
}

/// `presence.snapshot`: the presence of the watched members now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct PresenceSnapshot {
    /// The members of the request that exist. Others are not watched.
    pub members: Vec<Presence>,
}

/// `pong`: the server is there, and everything up to `cursor` has been sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct Pong {
    /// The cursor to keep.
    pub cursor: Cursor,
    /// The server's clock.
    pub time: Timestamp,
}

/// `entry`: an entry of the log of a conversation of the member, whatever its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
#[garde(allow_unvalidated)]
pub struct EntryPush {
    /// The entry.
    pub entry: Entry,
    /// Who is in the conversation; with its first entry (`seq` 1) only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationInfo>,
}

/// `receipt`: a watermark moved. Several moves may come as one receipt with the latest watermarks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct Receipt {
    /// The conversation.
    pub conversation: ConversationId,
    /// Whose watermark it is: another member's, or the member's own from another device.
    pub member: MemberId,
    /// Everything up to this `seq` has reached a device of the member.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub delivered: u64,
    /// Everything up to this `seq` has been read by the member.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub read: u64,
    /// When it moved.
    pub at: Timestamp,
}

/// `conversation.settings`: the member's own settings of a conversation, as they are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct ConversationSettingsPush {
    /// The conversation.
    pub conversation: ConversationId,
    /// The settings.
    pub settings: ConversationSettings,
    /// Grows with every change of them: what comes with a smaller one is older, and is passed over.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub revision: u64,
}

/// `typing`: expires after six seconds unless it is repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct TypingPush {
    /// The conversation; it may have no message yet.
    pub conversation: ConversationId,
    /// Who is typing.
    pub member: MemberId,
    /// Whether they are.
    pub active: bool,
}

/// `presence`: the presence of a watched member changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
#[garde(allow_unvalidated)]
pub struct PresencePush {
    /// The member.
    pub member: MemberId,
    /// Their status.
    pub status: PresenceStatus,
    /// When their last device left; only with `offline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
}

/// `member`: a profile changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct MemberPush {
    /// The profile as it is now.
    pub member: MemberCard,
}

/// `applications`: registrations wait for an administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct Applications {
    /// How many wait now.
    pub waiting: u32,
}

/// `auth.expiring`: the access token expires in a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct AuthExpiring {
    /// When exactly.
    pub expires_at: Timestamp,
}

/// `error`: a request failed, and changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
#[garde(allow_unvalidated)]
pub struct Error {
    /// Why, for programs.
    pub code: ErrorCode,
    /// Why, for people.
    pub message: String,
    /// The path of the bad field, if it is one field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// When to try again, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub retry_after_ms: Option<u64>,
}

/// `goodbye`: the last frame before the server closes the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
#[garde(allow_unvalidated)]
pub struct Goodbye {
    /// The close code that follows.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub code: CloseCode,
    /// Its reason: a stable word.
    pub reason: String,
    /// When to come back, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub retry_after_ms: Option<u64>,
}
