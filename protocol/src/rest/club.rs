//! What anybody may know of the club: who comes in.

use serde::{Deserialize, Serialize};

/// Who may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RegistrationPolicy {
    /// Anybody.
    Open,
    /// Whoever has an invitation.
    Invite,
    /// Whoever has an invitation; anybody else waits for an administrator.
    Approval,
    /// Nobody.
    Closed,
}

impl RegistrationPolicy {
    /// The name on the wire and in the settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Invite => "invite",
            Self::Approval => "approval",
            Self::Closed => "closed",
        }
    }
}

/// Who may invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum InvitationPolicy {
    /// Administrators.
    Admins,
    /// Every member.
    Members,
}

/// `GET /api/club`: which screen an app begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClubInfo {
    /// Who may register.
    pub registration: RegistrationPolicy,
    /// Who may invite.
    pub invitations: InvitationPolicy,
    /// Whether the club has no administrator yet, as `GET /api/setup` says.
    pub setup_needed: bool,
    /// Whether its mails reach people (`SMTP_URL`), so that who registers has to show first that the address is theirs. Not those of a
    /// server that writes them to its log: links in them work all the same.
    pub sends_mail: bool,
    /// What an app needs to know to have messages pushed to it.
    pub push: ClubPush,
}

/// Whether messages are pushed to devices that do not take them in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClubPush {
    /// Whether devices can be registered.
    pub enabled: bool,
    /// The key with which a browser subscribes (`applicationServerKey`): an uncompressed point of P-256, in base64url. None: nothing is pushed to browsers.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub web_key: Option<String>,
}
