//! Invitations: who brings whom in.

use garde::Validate;
use serde::{Deserialize, Serialize};

use super::{count, not_null};
use crate::{InvitationId, MemberId, Timestamp, model::Tier, rules};

/// The longest code that is looked at, in characters: there may be spaces in it.
pub(super) const CODE_MAX_CHARS: usize = 64;
/// Most uses of an invitation.
pub const USES_MAX: u32 = 1_000;
/// How long an invitation is good if nothing else is asked for, in seconds: 14 days.
pub const EXPIRES_IN_DEFAULT: u32 = 14 * 86_400;
/// How long it may be good, in seconds: 90 days.
pub const EXPIRES_IN_MAX: u32 = 90 * 86_400;
/// The longest note, in characters.
const NOTE_MAX_CHARS: usize = 200;

/// `POST /api/invitations`. A member who is no administrator may leave `tier` and `uses` as they are only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(optional_fields))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct InvitationRequest {
    /// The tier of who comes by it: the lowest one if it is left out.
    #[serde(deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub tier: Option<Tier>,
    /// How many may come by it: 1 to 1,000, 1 if it is left out.
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(rules::whole(1, USES_MAX))))]
    #[cfg_attr(feature = "openapi", schema(nullable = false, minimum = 1, maximum = 1000, example = 1))]
    pub uses: Option<u32>,
    /// For how long it is good, in seconds: a minute to 90 days, 14 days if it is left out.
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(rules::whole(60, EXPIRES_IN_MAX))))]
    #[cfg_attr(feature = "openapi", schema(nullable = false, minimum = 60, maximum = 7_776_000, example = 1_209_600))]
    pub expires_in: Option<u32>,
    /// What its maker wants to remember of it, such as whom it is for: at most 200 characters. Seen by them and by administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(rules::chars(0, NOTE_MAX_CHARS)), custom(rules::shown)))]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    #[cfg_attr(feature = "openapi", schema(max_length = 200, example = "for Eva, from the tennis club"))]
    pub note: Option<String>,
}

/// An invitation. Its code is shown once, when it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Invitation {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: InvitationId,
    /// The tier of who comes by it.
    pub tier: Tier,
    /// How many may come by it.
    pub uses: u32,
    /// How many have.
    pub used: u32,
    /// Who made it.
    pub created_by: MemberId,
    /// When.
    pub created_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// When it was revoked, if it was.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub revoked_at: Option<Timestamp>,
    /// What its maker wants to remember of it.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub note: Option<String>,
    /// Whether somebody can come by it now: it was not revoked, has not expired, and is not used up.
    pub is_open: bool,
}

/// The answer to `POST /api/invitations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewInvitation {
    /// The invitation.
    pub invitation: Invitation,
    /// Its code, for whoever is to register. It is not stored, and not shown again.
    #[cfg_attr(feature = "openapi", schema(example = "7K3Q-M9XW-PT4B-0HZC"))]
    pub code: String,
    /// Where the app takes the code: below `PUBLIC_URL`, or a path if that is not set.
    #[cfg_attr(
        feature = "openapi",
        schema(format = "uri-reference", example = "/app/register?invitation=7K3Q-M9XW-PT4B-0HZC")
    )]
    pub link: String,
}

/// A page of invitations, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InvitationPage {
    /// The invitations.
    pub invitations: Vec<Invitation>,
    /// For `cursor` of the next page, if there is one.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub next: Option<String>,
}

/// A member by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NamedMember {
    /// The id of the member.
    #[serde(rename = "_id")]
    pub id: MemberId,
    /// The name to show.
    pub name: String,
}

/// An invitation, as administrators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AdminInvitation {
    /// The invitation.
    #[serde(flatten)]
    pub invitation: Invitation,
    /// The name of who made it.
    pub created_by_name: String,
    /// Who came by it, the newest 20. Those who have left are not among them, and count in `used`.
    pub members: Vec<NamedMember>,
    /// How many have registered by it and have not verified the address yet. They count in `used`, and not any more when they are removed,
    /// 48 hours after they have registered.
    #[cfg_attr(feature = "codegen", ts(type = "number"))]
    pub unverified: u64,
}

/// A page of all invitations, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AdminInvitationPage {
    /// The invitations.
    pub invitations: Vec<AdminInvitation>,
    /// For `cursor` of the next page, if there is one.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub next: Option<String>,
}

/// `POST /api/invitations/check`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct InvitationCheck {
    /// The code; in any case, with or without its hyphens.
    #[garde(custom(rules::given), custom(rules::chars(0, CODE_MAX_CHARS)))]
    #[cfg_attr(
        feature = "openapi",
        schema(required = true, min_length = 1, max_length = 64, example = "7K3Q-M9XW-PT4B-0HZC")
    )]
    pub code: String,
}

/// What whoever has the code may know of an invitation that is good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckedInvitation {
    /// The name of who made it.
    pub invited_by: String,
    /// The tier of who comes by it.
    pub tier: Tier,
    /// Until when it is good.
    pub expires_at: Timestamp,
}
