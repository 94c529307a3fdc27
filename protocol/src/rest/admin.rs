//! Administration.

use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use super::{from_text, members::Member};
use crate::{
    InvitationId, MemberId, Timestamp,
    model::{Tier, UserType},
    rules,
};

/// `GET /api/admin/members`: which members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[garde(allow_unvalidated)]
#[serde(default)]
pub struct AdminMembersQuery {
    /// Only members of this tier.
    #[cfg_attr(feature = "openapi", param(inline, nullable = false))]
    pub tier: Option<Tier>,
    /// Only members of this type.
    #[cfg_attr(feature = "openapi", param(inline, nullable = false))]
    pub user_type: Option<UserType>,
    /// Only active members, or only those who are not.
    #[serde(deserialize_with = "from_text")]
    #[cfg_attr(feature = "openapi", param(nullable = false))]
    pub is_active: Option<bool>,
    /// Only members of this status. Without it there are all but those who are `pending` or `unverified`; with `is_active` those of whom both are true.
    #[cfg_attr(feature = "openapi", param(inline, nullable = false))]
    pub status: Option<MemberStatus>,
}

/// `GET /api/admin/audit`: which entries. Of several conditions all must be true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[garde(allow_unvalidated)]
#[serde(default)]
pub struct AuditQuery {
    /// Only entries of this action.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(inline, nullable = false))]
    pub action: Option<AuditAction>,
    /// No entries of these actions, with commas between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(nullable = false, value_type = String, example = "member_read,exported"))]
    pub not_action: Option<AuditActions>,
    /// Only entries of what this member has done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(nullable = false))]
    pub actor_id: Option<MemberId>,
    /// Only entries of what was done to this member.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(nullable = false))]
    pub target_id: Option<MemberId>,
    /// Only entries of this time or later (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(nullable = false))]
    pub since: Option<Timestamp>,
    /// Only entries of before this time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(nullable = false))]
    pub until: Option<Timestamp>,
}

/// Whether a member may sign in, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum MemberStatus {
    /// They may.
    Active,
    /// Not before a time.
    Suspended,
    /// Not until an administrator activates them.
    Deactivated,
    /// Not yet: they have registered, and wait for an administrator.
    Pending,
    /// Not yet: they have registered, and have not shown that the e-mail address is theirs. Nobody else knows of them, and after 48 hours
    /// they are removed.
    Unverified,
}

/// A member, as administrators see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AdminMember {
    /// The whole record.
    #[serde(flatten)]
    pub member: Member,
    /// Whether they may sign in, and why not.
    pub status: MemberStatus,
    /// Why they are suspended, if they are and a reason was given. Only administrators see it, until the member logs in again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "codegen", ts(optional))]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub suspension_reason: Option<String>,
    /// Who invited them, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "codegen", ts(optional))]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub invited_by: Option<MemberId>,
    /// The invitation that they came by, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "codegen", ts(optional))]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub invitation_id: Option<InvitationId>,
    /// Whether they have a second factor.
    pub second_factor: bool,
    /// How many devices are connected now, to all nodes.
    pub connections: u32,
    /// Whether a node did not say in time how many are connected to it: there may be more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    pub connections_partial: bool,
}

/// A page of members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AdminMemberPage {
    /// The members, by name.
    pub members: Vec<AdminMember>,
    /// For `cursor` of the next page, if there is one.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub next: Option<String>,
}

/// `PUT /api/admin/members/{id}/tier`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct TierChange {
    /// The new tier.
    #[garde(custom(rules::some))]
    #[cfg_attr(feature = "openapi", schema(required = true, nullable = false))]
    #[cfg_attr(feature = "codegen", ts(as = "Tier"))]
    pub tier: Option<Tier>,
}

/// `PUT /api/admin/members/{id}/active`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ActiveChange {
    /// Whether the member may sign in.
    #[garde(custom(rules::some))]
    #[cfg_attr(feature = "openapi", schema(required = true, nullable = false))]
    #[cfg_attr(feature = "codegen", ts(as = "bool"))]
    pub is_active: Option<bool>,
}

/// `PUT /api/admin/members/{id}/suspension`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct SuspensionChange {
    /// Until when the member may not sign in: in the future, and at most ten years from now.
    #[garde(custom(rules::some))]
    #[cfg_attr(feature = "openapi", schema(required = true, nullable = false))]
    #[cfg_attr(feature = "codegen", ts(as = "Timestamp"))]
    pub until: Option<Timestamp>,
    /// Why, for other administrators: at most 500 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(rules::chars(0, 500)), custom(rules::shown)))]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    #[cfg_attr(feature = "openapi", schema(max_length = 500, example = "wrote to everybody"))]
    pub reason: Option<String>,
}

/// `PUT /api/admin/members/{id}/role`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RoleChange {
    /// What the member may do.
    #[garde(custom(rules::some))]
    #[cfg_attr(feature = "openapi", schema(required = true, nullable = false))]
    #[cfg_attr(feature = "codegen", ts(as = "UserType"))]
    pub user_type: Option<UserType>,
}

/// `POST /api/admin/addresses/allow`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct AddressRequest {
    /// The e-mail address, in any case.
    #[garde(custom(rules::given), custom(rules::email))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Email, max_length = 254, example = "ana@example.com"))]
    pub email: String,
}

/// The answer to `POST /api/admin/addresses/allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddressAllowed {
    /// Whether nobody could register with it until now.
    pub was_barred: bool,
}

/// The answer to `POST /api/admin/members/{id}/disconnect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Disconnected {
    /// How many connections were closed, on all nodes.
    pub connections: u32,
    /// Whether a node did not say in time how many it has: there may be more, which close all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    pub connections_partial: bool,
}

/// One node, since it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NodeStats {
    /// Its id, as in logs; null where the database is of one node alone.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub id: Option<String>,
    /// Its name, for people: `NODE_NAME`, or that of its machine.
    pub name: String,
    /// The version of the server.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// How long it has been up, in seconds.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub uptime_seconds: u64,
    /// WebSocket connections.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub connections: u64,
    /// Members with a connection.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub members_connected: u64,
    /// Messages stored since it started.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub messages_since_start: u64,
    /// Why it sweeps the store, as in `/readyz`; empty while it need not.
    pub doubts: Vec<String>,
}

/// `GET /api/admin/stats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerStats {
    /// The version of the node that answers.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// How long it has been up, in seconds.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub uptime_seconds: u64,
    /// WebSocket connections of all `nodes`.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub connections: u64,
    /// Members with a connection, the sum of all `nodes`: who is connected to two of them is counted twice.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub members_connected: u64,
    /// Messages stored by all `nodes` since each of them started.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub messages_since_start: u64,
    /// The nodes: the one that answers, and those that told it in time how they are.
    pub nodes: Vec<NodeStats>,
    /// Nodes that live, as far as is known, and did not tell in time.
    pub nodes_silent: u32,
    /// The mail that waits.
    pub mail: MailStats,
    /// What is in the store.
    pub store: StoreStats,
}

/// The mail that waits to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MailStats {
    /// Whether mail reaches people: `SMTP_URL` is set.
    pub is_sent: bool,
    /// How many mails wait, over all `nodes`.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub waiting: u64,
    /// When the oldest of them was written; null while none waits. When this is long ago, the mail server takes none.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub oldest_at: Option<Timestamp>,
}

/// What is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoreStats {
    /// Which store it is, in words.
    pub description: String,
    /// Members, former ones included.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub members: u64,
    /// Members who may sign in.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub members_active: u64,
    /// Registrations that wait for an administrator; not among `members`.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub applications: u64,
    /// Conversations.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub conversations: u64,
    /// Messages.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub messages: u64,
    /// Its size, in bytes.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub bytes: u64,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuditAction {
    /// An administrator was created: on the command line, or the first one by themselves, with the setup code.
    AdminCreated,
    /// A member's tier was changed.
    TierChanged,
    /// A member was activated or deactivated.
    ActiveChanged,
    /// A member's role was changed.
    RoleChanged,
    /// A member's connections were closed.
    Disconnected,
    /// An administrator changed another member's profile.
    ProfileChanged,
    /// A member changed their password.
    PasswordChanged,
    /// A password was set with a link from a mail.
    PasswordReset,
    /// The e-mail address of a member was changed, by themselves or on the command line. Neither address is kept.
    EmailChanged,
    /// A member erased themselves.
    Erased,
    /// All sessions of a member were ended.
    SessionsEnded,
    /// A registration that waited was approved.
    ApplicationApproved,
    /// A registration that waited was rejected; its record is gone.
    ApplicationRejected,
    /// A member made an invitation; the target is themselves.
    InvitationCreated,
    /// An invitation was revoked; the target is who made it. With `because`: those that a change of the target has revoked.
    InvitationRevoked,
    /// Somebody registered by an invitation. Without an actor: with the address of a member, who was told; the target is nobody then.
    InvitationUsed,
    /// A use of an invitation was given back: the target registered by it and has not verified the address in time.
    InvitationReturned,
    /// A member was suspended until a time, or a suspension was ended.
    SuspensionChanged,
    /// A member turned their second factor on.
    SecondFactorEnabled,
    /// A member turned their second factor off.
    SecondFactorDisabled,
    /// The second factor of a member who had lost it was removed, by an administrator or on the command line.
    SecondFactorReset,
    /// A member replaced their recovery codes.
    RecoveryCodesReplaced,
    /// A recovery code was used.
    RecoveryCodeUsed,
    /// Somebody failed to log in as an administrator, who is the target; `wrong` says what was wrong.
    LoginFailed,
    /// An administrator has read what other members cannot see; `read` says what. The target is the member, and the administrator when
    /// it was of several.
    MemberRead,
    /// A member has exported everything about them.
    Exported,
    /// An administrator let somebody register again with the address of a member who had left; the target is the administrator.
    AddressAllowed,
    /// A link that sets a member's password was made on the command line.
    ResetLinkMade,
    /// What a restored backup had brought back was ended on the command line; the target is nobody.
    Restored,
}

impl AuditAction {
    /// Every action.
    pub const ALL: &[Self] = &[
        Self::AdminCreated,
        Self::TierChanged,
        Self::ActiveChanged,
        Self::RoleChanged,
        Self::Disconnected,
        Self::ProfileChanged,
        Self::PasswordChanged,
        Self::PasswordReset,
        Self::EmailChanged,
        Self::Erased,
        Self::SessionsEnded,
        Self::ApplicationApproved,
        Self::ApplicationRejected,
        Self::InvitationCreated,
        Self::InvitationRevoked,
        Self::InvitationUsed,
        Self::InvitationReturned,
        Self::SuspensionChanged,
        Self::SecondFactorEnabled,
        Self::SecondFactorDisabled,
        Self::SecondFactorReset,
        Self::RecoveryCodesReplaced,
        Self::RecoveryCodeUsed,
        Self::LoginFailed,
        Self::MemberRead,
        Self::Exported,
        Self::AddressAllowed,
        Self::ResetLinkMade,
        Self::Restored,
    ];

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AdminCreated => "admin_created",
            Self::TierChanged => "tier_changed",
            Self::ActiveChanged => "active_changed",
            Self::RoleChanged => "role_changed",
            Self::Disconnected => "disconnected",
            Self::ProfileChanged => "profile_changed",
            Self::PasswordChanged => "password_changed",
            Self::PasswordReset => "password_reset",
            Self::EmailChanged => "email_changed",
            Self::Erased => "erased",
            Self::SessionsEnded => "sessions_ended",
            Self::ApplicationApproved => "application_approved",
            Self::ApplicationRejected => "application_rejected",
            Self::InvitationCreated => "invitation_created",
            Self::InvitationRevoked => "invitation_revoked",
            Self::InvitationUsed => "invitation_used",
            Self::InvitationReturned => "invitation_returned",
            Self::SuspensionChanged => "suspension_changed",
            Self::SecondFactorEnabled => "second_factor_enabled",
            Self::SecondFactorDisabled => "second_factor_disabled",
            Self::SecondFactorReset => "second_factor_reset",
            Self::RecoveryCodesReplaced => "recovery_codes_replaced",
            Self::RecoveryCodeUsed => "recovery_code_used",
            Self::LoginFailed => "login_failed",
            Self::MemberRead => "member_read",
            Self::Exported => "exported",
            Self::AddressAllowed => "address_allowed",
            Self::ResetLinkMade => "reset_link_made",
            Self::Restored => "restored",
        }
    }
}

/// Several actions, written with commas between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditActions(u64);

impl AuditActions {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether an action is among them.
    #[must_use]
    pub fn contains(self, action: AuditAction) -> bool {
        self.0 & Self::bit(action) != 0
    }

    fn bit(action: AuditAction) -> u64 {
        let number = AuditAction::ALL.iter().position(|known| *known == action);
        number.map_or(0, |number| 1 << number)
    }
}

impl FromIterator<AuditAction> for AuditActions {
    fn from_iter<I: IntoIterator<Item = AuditAction>>(actions: I) -> Self {
        Self(actions.into_iter().fold(0, |all, action| all | Self::bit(action)))
    }
}

impl Serialize for AuditActions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all: Vec<&str> =
            AuditAction::ALL.iter().filter(|action| self.contains(**action)).map(|action| action.as_str()).collect();
        serializer.serialize_str(&all.join(","))
    }
}

impl<'de> Deserialize<'de> for AuditActions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let action = |word: &str| {
            let found = AuditAction::ALL.iter().find(|action| action.as_str() == word.trim());
            found.copied().ok_or_else(|| D::Error::custom(format!("unknown action `{word}`")))
        };
        text.split(',').filter(|word| !word.trim().is_empty()).map(action).collect()
    }
}

/// Who did what to whom, when, from where. Never changed, but for what of a member who has left is removed, and never removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who; nobody for the command line, and for a login that failed.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub actor_id: Option<MemberId>,
    /// What.
    pub action: AuditAction,
    /// To whom; null if it is about no member in particular, as when a list was read.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub target_id: Option<MemberId>,
    /// What changed: `from` and `to`, or the names of the changed fields.
    #[cfg_attr(feature = "codegen", ts(type = "Record<string, unknown>"))]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub details: Value,
    /// The address that the request came from; none for the command line.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub address: Option<String>,
}

/// A page of the audit log, the newest entries first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// For `cursor` of the next page, if there is one.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub next: Option<String>,
}
