//! What a member takes with them: everything that is stored about them.

use serde::{Deserialize, Serialize};

use super::{
    admin::AuditEntry, ai::Recommendation, invitations::Invitation, members::Member, messages::MessageDocument,
    push::PushSettings, sessions::DeviceInfo,
};
use crate::{
    ConversationId, InvitationId, MemberId, SessionId, Timestamp,
    model::{ConversationKind, ConversationSettings, Watermarks},
};

/// `GET /api/members/me/export`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Export {
    /// When it was made.
    pub exported_at: Timestamp,
    /// The whole record.
    pub member: Member,
    /// Who invited the member, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    pub invited_by: Option<MemberId>,
    /// The invitation that the member came by, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    pub invitation_id: Option<InvitationId>,
    /// The invitations that the member has made and that are still known.
    pub invitations: Vec<Invitation>,
    /// When the last device of the member left; unknown until the first did.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub last_seen: Option<Timestamp>,
    /// The second factor of the member, if there is one; its secrets are not told.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub second_factor: Option<ExportedSecondFactor>,
    /// The e-mail addresses that the member has asked for and that are still known, the newest first: those of the last day, whatever became of
    /// them. There are 12 at most.
    pub email_changes: Vec<ExportedEmailChange>,
    /// Every session that is still known.
    pub sessions: Vec<ExportedSession>,
    /// What of messages is pushed to the member, and to which devices; not to which addresses.
    pub push: PushSettings,
    /// What was recommended to the member, and what became of it.
    pub recommendations: Vec<Recommendation>,
    /// What the audit log has of the member, the newest first. With the address that a request came from only where the
    /// member made it.
    pub audit: Vec<AuditEntry>,
    /// Every conversation.
    pub conversations: Vec<ExportedConversation>,
}

/// A second factor, as the export has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExportedSecondFactor {
    /// When it was turned on.
    pub enabled_at: Timestamp,
    /// How many recovery codes are not used yet.
    pub recovery_codes_left: u32,
}

/// An e-mail address that the member has asked for, as the export has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExportedEmailChange {
    /// The address.
    #[cfg_attr(feature = "openapi", schema(example = "ana@example.org"))]
    pub email: String,
    /// When the member asked for it.
    pub asked_at: Timestamp,
}

/// A session, as the export has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExportedSession {
    /// The id of the session.
    #[serde(rename = "_id")]
    pub id: SessionId,
    /// When the member logged in.
    pub created_at: Timestamp,
    /// When it ended, if it did.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub revoked_at: Option<Timestamp>,
    /// What it said of its device.
    pub device: DeviceInfo,
    /// The address that it was started from, if that is known.
    #[cfg_attr(feature = "openapi", schema(required = true, example = "192.0.2.7"))]
    pub address: Option<String>,
    /// The address that its refresh token was exchanged from last, if that is known.
    #[cfg_attr(feature = "openapi", schema(required = true, example = "198.51.100.24"))]
    pub last_address: Option<String>,
    /// When it was last used, to about the life of an access token.
    pub last_used_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
}

/// A conversation, as the export has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExportedConversation {
    /// The id of the conversation.
    #[serde(rename = "_id")]
    pub id: ConversationId,
    /// What it is.
    pub kind: ConversationKind,
    /// Its members with their watermarks.
    pub members: Vec<Watermarks>,
    /// What the member has set of it.
    pub settings: ConversationSettings,
    /// All its messages, the oldest first.
    pub messages: Vec<MessageDocument>,
}
