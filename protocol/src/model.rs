//! What frames and bodies are made of.

use serde::{Deserialize, Serialize};

#[cfg(feature = "codegen")]
use crate::limits::INTEGER_MAX;
use crate::{ClientMessageId, ConversationId, DeviceId, MemberId, MessageId, Timestamp};

/// A message, as everybody in its conversation sees it. It never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
pub struct Message {
    /// The id of the message.
    pub id: MessageId,
    /// The conversation that it is in.
    pub conversation: ConversationId,
    /// Its place in the conversation: 1, 2, 3 … without holes.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub seq: u64,
    /// The member who sent it.
    pub sender: MemberId,
    /// The id that the sender's client gave it.
    pub client_id: ClientMessageId,
    /// The text: 1 to 4,000 characters. Not HTML; escape it when it is shown.
    pub content: String,
    /// When it was stored. Never goes back within a conversation.
    #[serde(rename = "at")]
    pub at: Timestamp,
    /// The `seq` of the message of the same conversation that it answers. Absent if it answers none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "codegen", ts(type = "number"), schemars(range(min = 1, max = INTEGER_MAX)))]
    pub reply_to: Option<u64>,
}

/// One entry of a conversation's log.
///
/// Version 1 has one kind. A client counts an entry of a kind that it does not know, and does not show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A message.
    Message(Message),
}

impl Entry {
    /// The place of the entry in its conversation.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        match self {
            Self::Message(message) => message.seq,
        }
    }

    /// The conversation that it is in.
    #[must_use]
    pub const fn conversation(&self) -> ConversationId {
        match self {
            Self::Message(message) => message.conversation,
        }
    }

    /// The message that it is, if it is one.
    #[must_use]
    pub const fn message(&self) -> Option<&Message> {
        match self {
            Self::Message(message) => Some(message),
        }
    }

    /// The same, as a value.
    #[must_use]
    pub fn into_message(self) -> Option<Message> {
        match self {
            Self::Message(message) => Some(message),
        }
    }
}

/// What a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum ConversationKind {
    /// Between two members.
    Direct,
}

/// How far a member has got in a conversation: `0 <= read <= delivered <= last_seq`, and both only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
pub struct Watermarks {
    /// The member.
    pub member: MemberId,
    /// Everything up to this `seq` has reached a device of the member.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub delivered: u64,
    /// Everything up to this `seq` has been read by the member.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub read: u64,
}

/// Of which messages in a conversation a member wants to be told by pushes. What is shown in the app does not depend on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum Notify {
    /// Of all.
    #[default]
    All,
    /// Of those that mention the member.
    Mentions,
    /// Of none.
    Nothing,
}

impl Notify {
    /// Every value.
    pub const ALL: &[Self] = &[Self::All, Self::Mentions, Self::Nothing];

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Mentions => "mentions",
            Self::Nothing => "nothing",
        }
    }
}

/// A member's own settings of a conversation. Nobody else sees them. The default: told of all, not muted, in the list and not at its top.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, garde::Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
#[garde(allow_unvalidated)]
pub struct ConversationSettings {
    /// Of which messages the member is told by pushes.
    pub notify: Notify,
    /// Until then the member is told of none, whatever `notify` says. Absent, or a time that is over: not muted. "Until I say so" is a
    /// time that is far off, such as `9999-01-01T00:00:00.000Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub muted_until: Option<Timestamp>,
    /// Whether the member has put it away: it is shown apart from the others. A further message does not change that, and it says nothing
    /// about pushes. Absent if not.
    #[serde(default, deserialize_with = "crate::codec::flag", skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "codegen", ts(as = "Option<bool>", optional))]
    pub archived: bool,
    /// Whether it is shown at the top of the list. Absent if not.
    #[serde(default, deserialize_with = "crate::codec::flag", skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "codegen", ts(as = "Option<bool>", optional))]
    pub pinned: bool,
}

impl ConversationSettings {
    /// Whether they are those of a member who has never chosen any.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the member is told of no message at a time.
    #[must_use]
    pub fn is_muted(&self, now: Timestamp) -> bool {
        self.muted_until.is_some_and(|until| now < until)
    }
}

/// A conversation, as one of its members sees it: complete state, not a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
pub struct Conversation {
    /// The id of the conversation.
    pub id: ConversationId,
    /// What it is.
    pub kind: ConversationKind,
    /// Its members with their watermarks, the asking one included.
    pub members: Vec<Watermarks>,
    /// The `seq` of its newest entry.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub last_seq: u64,
    /// Messages of others after the asking member's `read`: exact up to 1,000, and never larger.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub unread: u64,
    /// Whether there are more than `unread` says. Absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "codegen", ts(as = "Option<bool>", optional))]
    pub unread_more: bool,
    /// When its newest entry was stored.
    pub last_at: Timestamp,
    /// The asking member's own settings. Absent if they are the default.
    #[serde(default, skip_serializing_if = "ConversationSettings::is_default")]
    #[cfg_attr(feature = "codegen", ts(as = "Option<ConversationSettings>", optional))]
    pub settings: ConversationSettings,
    /// Grows with every change of the settings: of two, those with the larger one are the newer ones. Absent while it is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[cfg_attr(feature = "codegen", ts(as = "Option<u32>", optional))]
    pub settings_revision: u64,
    /// Its latest entries, ascending by `seq`: as many as the frame that carries it promises.
    pub entries: Vec<Entry>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "made for serde")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Who is in a conversation; sent with its first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
pub struct ConversationInfo {
    /// What it is.
    pub kind: ConversationKind,
    /// The ids of its members.
    pub members: Vec<MemberId>,
}

/// What a member shows of themselves: the best of all their devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum PresenceStatus {
    /// At least one device is in use.
    Online,
    /// Connected, but every device is away.
    Away,
    /// No device is connected.
    Offline,
}

/// The part of [`PresenceStatus`] that a device can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum DeviceStatus {
    /// The device is in use.
    Online,
    /// The device is not in use, such as an app in the background.
    Away,
}

/// The presence of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
pub struct Presence {
    /// The member.
    pub member: MemberId,
    /// Their status.
    pub status: PresenceStatus,
    /// When their last device left. Only with `offline`, and only once the member has been connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
}

/// The kind of membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
pub enum Tier {
    /// The tier of every new member.
    Disruption,
    /// The second tier.
    Infinity,
    /// A partner of the club.
    #[serde(rename = "Sócio")]
    Socio,
}

impl Tier {
    /// Every tier, lowest first.
    pub const ALL: &[Self] = &[Self::Disruption, Self::Infinity, Self::Socio];

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disruption => "Disruption",
            Self::Infinity => "Infinity",
            Self::Socio => "Sócio",
        }
    }
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum UserType {
    /// A member of the club.
    Member,
    /// A member who administers it.
    Admin,
}

impl UserType {
    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}

/// What every member may see of another: sent when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
pub struct MemberCard {
    /// The id of the member.
    pub id: MemberId,
    /// The name to show.
    pub name: String,
    /// The kind of membership.
    pub tier: Tier,
    /// Where the picture is: a path below the address of the API, or a whole address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub profile_image_url: Option<String>,
    /// What the member may do.
    pub user_type: UserType,
    /// Whether the member can be written to; false for one who was deactivated or has left.
    pub is_active: bool,
    /// When the profile changed last, later with each change: of two cards the one with the later time is the newer one,
    /// and if it is later than what a client has, contact details may have changed too.
    pub updated_at: Timestamp,
}

/// What a device can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// iPhone and iPad.
    Ios,
    /// Android.
    Android,
    /// A browser.
    Web,
    /// A program of its own on a desk or lap.
    Desktop,
    /// Anything else: a script, a load test.
    Other,
}

/// The device that a connection comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, garde::Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
#[garde(allow_unvalidated)]
pub struct Device {
    /// Chosen once per installation and kept. The same id connecting again replaces the older connection.
    pub id: DeviceId,
    /// What it is.
    pub platform: Platform,
    /// What its owner calls it; at most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(crate::rules::chars(0, crate::limits::DEVICE_NAME_MAX_CHARS))))]
    #[cfg_attr(feature = "codegen", schemars(length(max = crate::limits::DEVICE_NAME_MAX_CHARS)))]
    pub name: Option<String>,
}
