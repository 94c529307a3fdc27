//! Request and response bodies of the REST API.

pub mod ai;

use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    MemberId, Timestamp, codec, limits,
    model::{Tier, UserType},
    rules,
};

/// `POST /api/auth/register`. Tier and role cannot be chosen.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[serde(default)]
pub struct RegisterRequest {
    /// The name to show: 1 to 100 characters after trimming.
    #[garde(custom(rules::given), custom(rules::name))]
    pub name: String,
    /// The e-mail address; unique regardless of case.
    #[garde(custom(rules::given), custom(rules::email))]
    pub email: String,
    /// At least 8 characters and at most 71 bytes.
    #[garde(custom(rules::given), custom(rules::password))]
    pub password: String,
}

/// `POST /api/auth/login`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[serde(default)]
pub struct LoginRequest {
    /// The e-mail address, in any case.
    #[garde(custom(rules::given))]
    pub email: String,
    /// The password.
    #[garde(custom(rules::given))]
    pub password: String,
}

/// `POST /api/auth/refresh`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[serde(default)]
pub struct RefreshRequest {
    /// The newest refresh token of the session. It is used up by this request.
    #[garde(custom(rules::given))]
    pub refresh_token: String,
}

/// `POST /api/auth/logout`. The body may be left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct LogoutRequest {
    /// Whether to log out every session of the member instead of this one.
    pub all: bool,
}

/// The answer to register, login and refresh.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
pub struct AuthResponse {
    /// The signed-in member.
    pub member: Member,
    /// For `Authorization: Bearer` and for `hello`. A JWT; opaque to clients.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: TokenType,
    /// When the access token expires.
    pub expires_at: Timestamp,
    /// For `POST /api/auth/refresh`, once.
    pub refresh_token: String,
    /// When the refresh token expires.
    pub refresh_expires_at: Timestamp,
}

/// The only type of access token (RFC 6750).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
pub enum TokenType {
    /// Whoever has it may use it.
    #[default]
    Bearer,
}

/// How to reach a member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[serde(default)]
pub struct ContactInfo {
    /// The phone number.
    pub phone: Option<String>,
    /// Where the member works.
    pub company: Option<String>,
    /// What the member does there.
    pub position: Option<String>,
}

/// The whole record of a member, as they see themselves. Never carries the password or its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
pub struct Member {
    /// The id of the member.
    #[serde(rename = "_id")]
    pub id: MemberId,
    /// The name to show.
    pub name: String,
    /// The e-mail address, as it was given.
    pub email: String,
    /// The kind of membership.
    pub tier: Tier,
    /// How to reach the member.
    pub contact_info: ContactInfo,
    /// Where the picture is.
    pub profile_image_url: Option<String>,
    /// What the member may do.
    pub user_type: UserType,
    /// When the member registered.
    pub created_at: Timestamp,
    /// When the profile changed last.
    pub updated_at: Timestamp,
    /// When the member logged in last.
    pub last_login: Option<Timestamp>,
    /// Whether the member may sign in.
    pub is_active: bool,
}

impl Member {
    /// Applies a patch that was checked.
    pub fn apply(&mut self, patch: MemberPatch) {
        let set = |field: &mut Option<String>, change: Option<Option<String>>| {
            if let Some(value) = change {
                *field = value;
            }
        };
        if let Some(name) = patch.name {
            name.trim().clone_into(&mut self.name);
        }
        if let Some(contact) = patch.contact_info {
            set(&mut self.contact_info.phone, contact.phone);
            set(&mut self.contact_info.company, contact.company);
            set(&mut self.contact_info.position, contact.position);
        }
        set(&mut self.profile_image_url, patch.profile_image_url);
    }
}

/// `PATCH /api/members/me`: a JSON merge patch (RFC 7396). An absent field stays, `null` removes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(optional_fields))]
#[serde(default)]
pub struct MemberPatch {
    /// The name to show: 1 to 100 characters after trimming. Cannot be removed.
    #[serde(deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(rules::name)))]
    pub name: Option<String>,
    /// How to reach the member.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub contact_info: Option<ContactInfoPatch>,
    /// Where the picture is: an `http` or `https` URL of at most 2,048 characters.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[garde(inner(inner(custom(rules::image_url))))]
    #[cfg_attr(feature = "codegen", ts(as = "Option<String>", optional = nullable))]
    pub profile_image_url: Option<Option<String>>,
}

/// The contact details of a [`MemberPatch`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(optional_fields))]
#[serde(default)]
pub struct ContactInfoPatch {
    /// The phone number: at most 32 characters.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[garde(inner(inner(length(chars, min = 1, max = limits::PHONE_MAX_CHARS))))]
    #[cfg_attr(feature = "codegen", ts(as = "Option<String>", optional = nullable))]
    pub phone: Option<Option<String>>,
    /// Where the member works: at most 100 characters.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[garde(inner(inner(length(chars, min = 1, max = limits::CONTACT_MAX_CHARS))))]
    #[cfg_attr(feature = "codegen", ts(as = "Option<String>", optional = nullable))]
    pub company: Option<Option<String>>,
    /// What the member does there: at most 100 characters.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[garde(inner(inner(length(chars, min = 1, max = limits::CONTACT_MAX_CHARS))))]
    #[cfg_attr(feature = "codegen", ts(as = "Option<String>", optional = nullable))]
    pub position: Option<Option<String>>,
}

/// A field that is there: `null` and a value are both something else than absent.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// A field that may be absent but not `null`.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// An object that may be absent but not `null`.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    codec::object(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parse_body;

    fn fields<T: serde::de::DeserializeOwned + Validate<Context = ()>>(body: serde_json::Value) -> Vec<String> {
        parse_body::<T>(body).err().unwrap().into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn every_bad_field_is_named() {
        assert_eq!(fields::<RegisterRequest>(json!({})), ["email", "name", "password"]);
        let body = json!({ "name": 5, "email": "nobody", "password": "short" });
        assert_eq!(fields::<RegisterRequest>(body), ["email", "name", "password"]);
        let body = json!({ "name": "Ana", "email": ["x"], "password": null });
        assert_eq!(fields::<RegisterRequest>(body), ["email", "password"]);
        assert_eq!(fields::<RegisterRequest>(json!([])), [""]);
    }

    #[test]
    fn a_password_over_71_bytes_is_refused_rather_than_cut() {
        let body = json!({ "name": "Ana", "email": "ana@example.com", "password": "é".repeat(37) });
        assert_eq!(fields::<RegisterRequest>(body), ["password"]);
    }

    #[test]
    fn a_patch_tells_absent_from_null() {
        let patch: MemberPatch = parse_body(json!({ "contact_info": { "phone": null, "company": "Acme" } })).unwrap();
        let contact = patch.contact_info.unwrap();
        assert_eq!(contact.phone, Some(None));
        assert_eq!(contact.company, Some(Some("Acme".to_owned())));
        assert_eq!(contact.position, None);
        assert_eq!(patch.name, None);
        let body = json!({ "name": null, "contact_info": { "phone": 5 }, "profile_image_url": "javascript:x" });
        assert_eq!(fields::<MemberPatch>(body), ["contact_info.phone", "name", "profile_image_url"]);
        assert_eq!(fields::<MemberPatch>(json!({ "contact_info": [] })), ["contact_info"]);
    }
}
