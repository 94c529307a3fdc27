//! Messages over REST: the same messages as on the socket, in the form of the club's database.

use garde::Validate;
use serde::{Deserialize, Serialize};

use super::{from_text, page_limit, seq};
use crate::{
    ClientMessageId, ConversationId, MemberId, MessageId, Timestamp, codec, limits,
    model::{ConversationKind, ConversationSettings, Notify, Watermarks},
    rules,
};

/// `POST /api/messages`. Either `receiver_id` or `conversation_id`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(optional_fields))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({
    "receiver_id": "6b033ff958dd68a2edc96e79",
    "content": "Dinner at eight?",
    "client_id": "01890a5d-ac96-774b-bcce-b302099a8057"
})))]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct SendRequest {
    /// The member to write to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver_id: Option<MemberId>,
    /// The conversation to write into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// The text: 1 to 4,000 characters after trimming.
    #[garde(custom(rules::some))]
    #[cfg_attr(
        feature = "openapi",
        schema(required = true, nullable = false, min_length = 1, max_length = 4000, example = "Dinner at eight?")
    )]
    #[cfg_attr(feature = "codegen", ts(as = "String"))]
    pub content: Option<String>,
    /// A UUID for this message; without it, an `Idempotency-Key` header is needed. The same one again returns the first
    /// message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientMessageId>,
    /// The `seq` of the message of the same conversation that this one answers.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "codec::optional_integer")]
    #[garde(inner(range(max = limits::INTEGER_MAX)))]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 9007199254740991_u64, example = 6))]
    #[cfg_attr(feature = "codegen", ts(optional, type = "number"))]
    pub reply_to: Option<u64>,
}

/// How far a message has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// It is stored.
    Sent,
    /// It has reached a device of its receiver.
    Delivered,
    /// Its receiver has read it.
    Read,
}

/// A message with its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessageDocument {
    /// The id of the message.
    #[serde(rename = "_id")]
    pub id: MessageId,
    /// The conversation that it is in.
    pub conversation_id: ConversationId,
    /// Its place in the conversation: 1, 2, 3 … without holes.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub seq: u64,
    /// The member who sent it.
    pub sender_id: MemberId,
    /// The member who it is for.
    pub receiver_id: MemberId,
    /// The id that the sender's client gave it.
    pub client_id: ClientMessageId,
    /// The text. Not HTML; escape it when it is shown.
    #[cfg_attr(feature = "openapi", schema(example = "Dinner at eight?"))]
    pub content: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// How far it has got.
    pub status: MessageStatus,
    /// When it reached a device of its receiver.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub delivered_at: Option<Timestamp>,
    /// When its receiver read it.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub read_at: Option<Timestamp>,
    /// The `seq` of the message of the same conversation that it answers. Absent if it answers none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "openapi",
        schema(nullable = false, minimum = 1, maximum = 9007199254740991_u64, example = 6)
    )]
    #[cfg_attr(feature = "codegen", ts(optional, type = "number"))]
    pub reply_to: Option<u64>,
}

/// `GET /api/messages/conversation/{user_id}`: which messages. With neither `before` nor `after`, the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(default)]
pub struct HistoryQuery {
    /// How many messages at most: 1 to 100, 50 if it is left out.
    #[serde(deserialize_with = "page_limit")]
    #[garde(inner(custom(rules::whole(1, limits::PAGE_MAX))))]
    #[cfg_attr(feature = "openapi", param(minimum = 1, maximum = 100, nullable = false))]
    pub limit: Option<u32>,
    /// The newest messages with a smaller `seq`. Not together with `after`.
    #[serde(deserialize_with = "seq")]
    #[garde(inner(custom(rules::whole(0, limits::INTEGER_MAX))))]
    #[cfg_attr(feature = "openapi", param(minimum = 0, maximum = 9007199254740991_u64, nullable = false))]
    pub before: Option<u64>,
    /// The oldest messages with a larger `seq`. Not together with `before`.
    #[serde(deserialize_with = "seq")]
    #[garde(inner(custom(rules::whole(0, limits::INTEGER_MAX))))]
    #[cfg_attr(feature = "openapi", param(minimum = 0, maximum = 9007199254740991_u64, nullable = false))]
    pub after: Option<u64>,
}

/// `GET /api/messages/conversations`: which conversations. Of several conditions all must be true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[garde(allow_unvalidated)]
#[serde(default)]
pub struct ConversationsQuery {
    /// Only those that the member has archived, or with `false` only those that they have not.
    #[serde(deserialize_with = "from_text")]
    #[cfg_attr(feature = "openapi", param(nullable = false))]
    pub archived: Option<bool>,
    /// Only those that the member has at the top of the list, or with `false` only those that they have not.
    #[serde(deserialize_with = "from_text")]
    #[cfg_attr(feature = "openapi", param(nullable = false))]
    pub pinned: Option<bool>,
    /// Only those with messages that the member has not read, or with `false` only those without.
    #[serde(deserialize_with = "from_text")]
    #[cfg_attr(feature = "openapi", param(nullable = false))]
    pub unread: Option<bool>,
}

/// A page of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MessagePage {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The messages, the newest first.
    pub messages: Vec<MessageDocument>,
    /// Whether there are further ones in the direction that was asked for.
    pub more: bool,
}

/// A conversation in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConversationSummary {
    /// The id of the conversation.
    #[serde(rename = "_id")]
    pub id: ConversationId,
    /// What it is.
    pub kind: ConversationKind,
    /// Its members with their watermarks, the asking one included.
    pub members: Vec<Watermarks>,
    /// The `seq` of its newest message.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub last_seq: u64,
    /// When its newest message was stored.
    pub last_at: Timestamp,
    /// Messages of others that the asking member has not read: exact up to 1,000, and never larger.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub unread: u64,
    /// Whether there are more than `unread` says. Absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "codegen", ts(as = "Option<bool>", optional))]
    pub unread_more: bool,
    /// The asking member's own settings.
    pub settings: ConversationSettings,
    /// Grows with every change of the settings: of two, those with the larger one are the newer ones.
    #[serde(default)]
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub settings_revision: u64,
    /// Its newest message.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub last_message: Option<MessageDocument>,
}

/// The answer to `PUT /api/conversations/{id}/settings`: the member's own settings as they are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(optional_fields))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfiguredConversation {
    /// Of which messages the member is told by pushes.
    pub notify: Notify,
    /// Until then the member is told of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub muted_until: Option<Timestamp>,
    /// Whether the member has put it away. Absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "codegen", ts(as = "Option<bool>", optional))]
    pub archived: bool,
    /// Whether it is shown at the top of the list. Absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "codegen", ts(as = "Option<bool>", optional))]
    pub pinned: bool,
    /// Grows with every change of the settings: of two, those with the larger one are the newer ones.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub revision: u64,
}

/// A page of conversations, those with the newest message first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConversationList {
    /// The conversations.
    pub conversations: Vec<ConversationSummary>,
    /// For `cursor` of the next page, if there is one.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub next: Option<String>,
}

/// The unread messages of one conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConversationUnread {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// How many: exact up to 1,000, and never larger.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub unread: u64,
    /// Whether there are more than `unread` says. Absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "codegen", ts(as = "Option<bool>", optional))]
    pub unread_more: bool,
}

/// `GET /api/messages/unread`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Unread {
    /// Unread messages in all conversations: the sum of their `unread`.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub total: u64,
    /// Whether there are more than `total` says, because a conversation has. Absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "codegen", ts(as = "Option<bool>", optional))]
    pub unread_more: bool,
    /// The conversations that have some.
    pub conversations: Vec<ConversationUnread>,
}
