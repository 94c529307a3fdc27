//! Members: the own record, what others see, the directory.

use garde::Validate;
use serde::{Deserialize, Serialize};

use super::{not_null, object, present};
use crate::{
    MemberId, Timestamp, limits,
    model::{Tier, UserType},
    rules,
};

/// How to reach a member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ContactInfo {
    /// The phone number: at most 32 characters.
    #[garde(inner(custom(rules::chars(1, limits::PHONE_MAX_CHARS)), custom(rules::shown)))]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 32, example = "+351 912 345 678"))]
    pub phone: Option<String>,
    /// Where the member works: at most 100 characters.
    #[garde(inner(custom(rules::chars(1, limits::CONTACT_MAX_CHARS)), custom(rules::shown)))]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 100, example = "Acme"))]
    pub company: Option<String>,
    /// What the member does there: at most 100 characters.
    #[garde(inner(custom(rules::chars(1, limits::CONTACT_MAX_CHARS)), custom(rules::shown)))]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 100, example = "Engineer"))]
    pub position: Option<String>,
}

/// Who may see a contact detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SharedWith {
    /// Every member of the club.
    Members,
    /// Nobody but the member and the administrators.
    Nobody,
}

impl SharedWith {
    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::Nobody => "nobody",
        }
    }
}

/// Who may see a member's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Every member of the club.
    Members,
    /// Those who have a conversation with the member.
    Partners,
    /// Nobody but the member.
    Nobody,
}

impl Audience {
    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::Partners => "partners",
            Self::Nobody => "nobody",
        }
    }
}

/// A language that mails are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// English.
    En,
    /// Portuguese.
    Pt,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::En, Self::Pt];

    /// The name on the wire and in the database: that of ISO 639.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Pt => "pt",
        }
    }
}

/// Which contact details a member shares, and with whom the presence. A detail that is not shared is not found by search either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Visibility {
    /// The e-mail address; `nobody` unless the member says otherwise.
    pub email: SharedWith,
    /// The phone number; `nobody` unless the member says otherwise.
    pub phone: SharedWith,
    /// Where the member works; `members` unless the member says otherwise.
    pub company: SharedWith,
    /// What the member does there; `members` unless the member says otherwise.
    pub position: SharedWith,
    /// Who sees whether the member is there and when they were last seen; `partners` unless the member says otherwise.
    /// With `members`, everybody may also show them that they are typing; partners always may.
    pub presence: Audience,
}

impl Default for Visibility {
    fn default() -> Self {
        let (email, phone) = (SharedWith::Nobody, SharedWith::Nobody);
        let (company, position) = (SharedWith::Members, SharedWith::Members);
        Self { email, phone, company, position, presence: Audience::Partners }
    }
}

/// The whole record of a member, as they see themselves. Never carries the password or its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Member {
    /// The id of the member.
    #[serde(rename = "_id")]
    pub id: MemberId,
    /// The name to show.
    #[cfg_attr(feature = "openapi", schema(example = "Ana Lima"))]
    pub name: String,
    /// The e-mail address, as it was given.
    #[cfg_attr(feature = "openapi", schema(example = "ana@example.com"))]
    pub email: String,
    /// The kind of membership.
    pub tier: Tier,
    /// How to reach the member.
    pub contact_info: ContactInfo,
    /// Which contact details other members see, and who sees the presence.
    pub visibility: Visibility,
    /// Where the picture is.
    #[cfg_attr(
        feature = "openapi",
        schema(
            required = true,
            format = "uri-reference",
            example = "/api/photos/5d2f0c9b1a7e4f3386b5d0c2e9a8174f6b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e.jpg"
        )
    )]
    pub profile_image_url: Option<String>,
    /// What the member may do.
    pub user_type: UserType,
    /// When the member registered.
    pub created_at: Timestamp,
    /// When the profile changed last.
    pub updated_at: Timestamp,
    /// When the member logged in last.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub last_login: Option<Timestamp>,
    /// Whether the member may sign in.
    pub is_active: bool,
    /// Until when the member may not sign in all the same; absent if they were not suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "codegen", ts(optional))]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub suspended_until: Option<Timestamp>,
    /// The language of mails to the member; null: that of the server.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub language: Option<Language>,
    /// When the member showed with a link from a mail that the address is theirs.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub email_verified_at: Option<Timestamp>,
}

/// `PATCH /api/members/me` and `PATCH /api/members/{id}`: a JSON merge patch (RFC 7396). An absent field stays, `null` removes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(optional_fields))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({ "contact_info": { "company": "Acme", "phone": null }, "visibility": { "email": "members" } })))]
#[serde(default)]
pub struct MemberPatch {
    /// The name to show: 1 to 100 characters after trimming, at least one of them a letter or digit. Cannot be removed.
    #[serde(deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(rules::not_empty_name), custom(rules::name)))]
    #[cfg_attr(feature = "openapi", schema(nullable = false, min_length = 1, max_length = 100))]
    pub name: Option<String>,
    /// How to reach the member.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub contact_info: Option<ContactInfoPatch>,
    /// Which contact details other members see, and who sees the presence.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub visibility: Option<VisibilityPatch>,
    /// Where the picture is: the path of a photo that was uploaded, or its address at the `PUBLIC_URL` of the server.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[garde(inner(inner(custom(rules::image_url))))]
    #[cfg_attr(feature = "codegen", ts(as = "Option<String>", optional = nullable))]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = "uri-reference", max_length = 2048))]
    pub profile_image_url: Option<Option<String>>,
    /// The language of mails to the member; `null`: that of the server.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    #[cfg_attr(feature = "codegen", ts(as = "Option<Language>", optional = nullable))]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Language>))]
    pub language: Option<Option<Language>>,
    /// Not changed here: whatever is given is refused, so that nobody takes it for changed.
    #[serde(deserialize_with = "not_null", skip_serializing)]
    #[garde(custom(rules::email_elsewhere))]
    #[cfg_attr(feature = "codegen", ts(skip))]
    #[cfg_attr(feature = "openapi", schema(ignore))]
    pub email: Option<serde_json::Value>,
}

/// Contact details to change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(optional_fields))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ContactInfoPatch {
    /// The phone number: at most 32 characters.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[garde(inner(inner(custom(rules::chars(1, limits::PHONE_MAX_CHARS)), custom(rules::shown))))]
    #[cfg_attr(feature = "codegen", ts(as = "Option<String>", optional = nullable))]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, min_length = 1, max_length = 32))]
    pub phone: Option<Option<String>>,
    /// Where the member works: at most 100 characters.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[garde(inner(inner(custom(rules::chars(1, limits::CONTACT_MAX_CHARS)), custom(rules::shown))))]
    #[cfg_attr(feature = "codegen", ts(as = "Option<String>", optional = nullable))]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, min_length = 1, max_length = 100))]
    pub company: Option<Option<String>>,
    /// What the member does there: at most 100 characters.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[garde(inner(inner(custom(rules::chars(1, limits::CONTACT_MAX_CHARS)), custom(rules::shown))))]
    #[cfg_attr(feature = "codegen", ts(as = "Option<String>", optional = nullable))]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, min_length = 1, max_length = 100))]
    pub position: Option<Option<String>>,
}

/// Visibility settings to change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(optional_fields))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct VisibilityPatch {
    /// The e-mail address.
    #[serde(deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub email: Option<SharedWith>,
    /// The phone number.
    #[serde(deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub phone: Option<SharedWith>,
    /// Where the member works.
    #[serde(deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub company: Option<SharedWith>,
    /// What the member does there.
    #[serde(deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub position: Option<SharedWith>,
    /// Who sees whether the member is there and when they were last seen.
    #[serde(deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub presence: Option<Audience>,
}

/// `PUT /api/members/{id}`: the whole of what can be changed. What is left out is removed, or back to its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({
    "name": "Ana Lima",
    "contact_info": { "phone": "+351 912 345 678", "company": "Acme", "position": "Engineer" },
    "visibility": { "email": "members", "phone": "nobody", "company": "members", "position": "members", "presence": "partners" },
    "profile_image_url": "/api/photos/5d2f0c9b1a7e4f3386b5d0c2e9a8174f6b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e.jpg"
})))]
#[serde(default)]
pub struct MemberReplacement {
    /// The name to show: 1 to 100 characters after trimming, at least one of them a letter or digit.
    #[garde(custom(rules::given), custom(rules::name))]
    #[cfg_attr(feature = "openapi", schema(required = true, min_length = 1, max_length = 100, example = "Ana Lima"))]
    pub name: String,
    /// How to reach the member.
    #[serde(deserialize_with = "crate::codec::object")]
    #[garde(dive)]
    pub contact_info: ContactInfo,
    /// Which contact details other members see, and who sees the presence.
    #[serde(deserialize_with = "crate::codec::object")]
    #[garde(skip)]
    pub visibility: Visibility,
    /// Where the picture is: the path of a photo that was uploaded, or its address at the `PUBLIC_URL` of the server.
    #[garde(inner(custom(rules::image_url)))]
    #[cfg_attr(feature = "openapi", schema(format = "uri-reference", max_length = 2048))]
    pub profile_image_url: Option<String>,
}

impl From<MemberReplacement> for MemberPatch {
    fn from(whole: MemberReplacement) -> Self {
        let MemberReplacement { name, contact_info, visibility, profile_image_url } = whole;
        let ContactInfo { phone, company, position } = contact_info;
        let Visibility { email, phone: phone_to, company: company_to, position: position_to, presence } = visibility;
        Self {
            name: Some(name),
            contact_info: Some(ContactInfoPatch {
                phone: Some(phone),
                company: Some(company),
                position: Some(position),
            }),
            visibility: Some(VisibilityPatch {
                email: Some(email),
                phone: Some(phone_to),
                company: Some(company_to),
                position: Some(position_to),
                presence: Some(presence),
            }),
            profile_image_url: Some(profile_image_url),
            // Not of the profile: it stays.
            language: None,
            email: None,
        }
    }
}

/// A member, as another one sees them: contact details only as far as they are shared. The member themselves and
/// administrators see all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Profile {
    /// The id of the member.
    #[serde(rename = "_id")]
    pub id: MemberId,
    /// The name to show; `Former member` for one who has left.
    #[cfg_attr(feature = "openapi", schema(example = "Ana Lima"))]
    pub name: String,
    /// The e-mail address, if it is shared.
    #[cfg_attr(feature = "openapi", schema(required = true, example = "ana@example.com"))]
    pub email: Option<String>,
    /// The kind of membership.
    pub tier: Tier,
    /// How to reach the member, as far as it is shared.
    pub contact_info: ContactInfo,
    /// Where the picture is.
    #[cfg_attr(
        feature = "openapi",
        schema(
            required = true,
            format = "uri-reference",
            example = "/api/photos/5d2f0c9b1a7e4f3386b5d0c2e9a8174f6b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e.jpg"
        )
    )]
    pub profile_image_url: Option<String>,
    /// What the member may do.
    pub user_type: UserType,
    /// When the member registered.
    pub created_at: Timestamp,
    /// When the profile changed last.
    pub updated_at: Timestamp,
    /// Whether the member can be written to; false for one who was deactivated or has left.
    pub is_active: bool,
}

/// A page of the directory or of a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Directory {
    /// The members.
    pub members: Vec<Profile>,
    /// For `cursor` of the next page, if there is one.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub next: Option<String>,
}

/// `GET /api/members`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[garde(allow_unvalidated)]
#[serde(default)]
pub struct DirectoryQuery {
    /// Only members of this tier.
    #[cfg_attr(feature = "openapi", param(inline, nullable = false))]
    pub tier: Option<Tier>,
}

/// `GET /api/members/search`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(default)]
pub struct SearchQuery {
    /// What to look for in name, company and position: 1 to 100 characters with at least one letter or digit.
    /// Accents and case do not matter, and the beginning of a word is enough.
    #[garde(custom(rules::given), custom(rules::search))]
    #[cfg_attr(feature = "openapi", param(required = true, min_length = 1, max_length = 100, example = "lima"))]
    pub q: String,
}
