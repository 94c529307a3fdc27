//! Request and response bodies of the REST API, one module per group of endpoints.

pub mod admin;
pub mod ai;
pub mod auth;
pub mod club;
pub mod export;
pub mod invitations;
pub mod members;
pub mod messages;
pub mod push;
pub mod second_factor;
pub mod sessions;
pub mod setup;

use std::{fmt::Display, str::FromStr};

use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize, de};

pub use self::{
    admin::{
        ActiveChange, AddressAllowed, AddressRequest, AdminMember, AdminMemberPage, AdminMembersQuery, AuditAction,
        AuditActions, AuditEntry, AuditPage, AuditQuery, Disconnected, MailStats, MemberStatus, NodeStats, RoleChange,
        ServerStats, StoreStats, SuspensionChange, TierChange,
    },
    auth::{
        AuthResponse, DeviceProof, EmailChange, ForgotPasswordRequest, LoginRequest, LogoutRequest, PasswordChange,
        RefreshRequest, RegisterRequest, RegistrationPending, ResetPasswordRequest, TokenType, VerifyEmailRequest,
        Waiting,
    },
    club::{ClubInfo, ClubPush, InvitationPolicy, RegistrationPolicy},
    export::{Export, ExportedConversation, ExportedEmailChange, ExportedSecondFactor, ExportedSession},
    invitations::{
        AdminInvitation, AdminInvitationPage, CheckedInvitation, Invitation, InvitationCheck, InvitationPage,
        InvitationRequest, NamedMember, NewInvitation,
    },
    members::{
        Audience, ContactInfo, ContactInfoPatch, Directory, DirectoryQuery, Language, Member, MemberPatch,
        MemberReplacement, Profile, SearchQuery, SharedWith, Visibility, VisibilityPatch,
    },
    messages::{
        ConfiguredConversation, ConversationList, ConversationSummary, ConversationUnread, ConversationsQuery,
        HistoryQuery, MessageDocument, MessagePage, MessageStatus, SendRequest, Unread,
    },
    push::{
        PUSH_ADDRESS_MAX_CHARS, PUSH_TOKEN_MAX_CHARS, PushAddress, PushContent, PushDevice, PushKeys, PushPatch,
        PushRegistration, PushService, PushSettings, QuietHours,
    },
    second_factor::{
        RecoveryCodes, RecoveryCodesRequest, SecondFactor, SecondFactorConfirmation, SecondFactorDisabling,
        SecondFactorEnabled, SecondFactorEnrolment, SecondFactorRequest, StepUpRequest,
    },
    sessions::{DeviceInfo, Session, SessionList, SessionRename},
    setup::{SetupRequest, SetupState},
};
use crate::{codec, limits, rules};

/// Which page of a list: how many items, and from where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(default)]
pub struct PageQuery {
    /// How many items at most: 1 to 100, 50 if it is left out.
    #[serde(deserialize_with = "page_limit")]
    #[garde(inner(custom(rules::whole(1, limits::PAGE_MAX))))]
    #[cfg_attr(feature = "openapi", param(minimum = 1, maximum = 100, nullable = false))]
    pub limit: Option<u32>,
    /// `next` of the page before; the first page without it.
    #[garde(inner(custom(rules::chars(0, limits::PAGE_CURSOR_MAX_CHARS))))]
    #[cfg_attr(feature = "openapi", param(max_length = 512, nullable = false))]
    pub cursor: Option<String>,
}

/// How many items a page has when the request asks for `limit`.
#[must_use]
pub fn page_size(limit: Option<u32>) -> usize {
    usize::try_from(limit.unwrap_or(limits::PAGE_DEFAULT)).unwrap_or(usize::MAX)
}

/// A parameter of a URL, which is text whatever it means.
fn from_text<'de, D: Deserializer<'de>, T: FromStr>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T::Err: Display,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(de::Error::custom)
}

/// [`from_text`] for how many items a page has.
fn page_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    whole_from_text(deserializer, 1, limits::PAGE_MAX)
}

/// [`from_text`] for a place in a conversation.
fn seq<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    whole_from_text(deserializer, 0, limits::INTEGER_MAX)
}

/// Reads a number, and says of what is none what it has to be. The rule of the field checks the bounds.
fn whole_from_text<'de, D: Deserializer<'de>, T: FromStr + Display>(
    deserializer: D,
    least: T,
    most: T,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| de::Error::custom(rules::not_whole(least, most)))
}

/// A field that is there: `null` and a value are both something else than absent.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// A field that may be absent but not `null`.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A number of things that may be absent but not `null`.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    // A number that is too large is refused by the range of its field.
    codec::integer(deserializer).map(|value| Some(u32::try_from(value).unwrap_or(u32::MAX)))
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

    fn fields<T: de::DeserializeOwned + Validate<Context = ()>>(body: serde_json::Value) -> Vec<String> {
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

    fn problem<T: de::DeserializeOwned + Validate<Context = ()>>(body: serde_json::Value) -> String {
        parse_body::<T>(body).err().unwrap().remove(0).message
    }

    #[test]
    fn what_is_wrong_with_a_value_is_said_in_the_words_of_json() {
        assert_eq!(problem::<MemberPatch>(json!({ "name": 5 })), "must be a string, not a number");
        assert_eq!(problem::<MemberPatch>(json!({ "name": null })), "must be a string, not null");
        assert_eq!(problem::<MemberPatch>(json!({ "name": "" })), "1 to 100 characters");
        assert_eq!(
            problem::<RegisterRequest>(json!({ "name": "", "email": "a@b.example", "password": "correct" })),
            "required"
        );
        assert_eq!(problem::<TierChange>(json!({ "tier": "Gold" })), "must be one of Disruption, Infinity, Sócio");
        assert_eq!(problem::<ActiveChange>(json!({ "is_active": "yes" })), "must be true or false, not a string");
        assert_eq!(problem::<MemberPatch>(json!({ "contact_info": [] })), "must be an object, not an array");
    }

    #[test]
    fn what_may_have_no_value_takes_null_and_what_always_has_one_does_not() {
        assert_eq!(parse_body::<InvitationRequest>(json!({ "note": null })), Ok(InvitationRequest::default()));
        let until = "2027-01-01T00:00:00.000Z";
        let suspension = |body| parse_body::<SuspensionChange>(body).unwrap();
        assert_eq!(suspension(json!({ "until": until, "reason": null })), suspension(json!({ "until": until })));
        let none = json!({ "contact_info": { "phone": null, "company": null, "position": null }, "profile_image_url": null, "language": null });
        assert!(parse_body::<MemberPatch>(none).is_ok());
        let always = json!({ "name": null, "contact_info": null, "visibility": null });
        assert_eq!(fields::<MemberPatch>(always), ["contact_info", "name", "visibility"]);
        assert_eq!(fields::<MemberPatch>(json!({ "visibility": { "email": null } })), ["visibility.email"]);
        assert_eq!(fields::<InvitationRequest>(json!({ "tier": null, "uses": null })), ["tier", "uses"]);
        assert_eq!(fields::<LoginRequest>(json!({ "email": "a", "password": "b", "device": null })), ["device"]);
    }

    #[test]
    fn a_number_in_a_url_is_told_its_bounds() {
        for wrong in ["abc", "", "-1", "1.5", "0", "101", "99999999999999999999"] {
            let said = "must be a whole number from 1 to 100";
            assert_eq!(problem::<PageQuery>(json!({ "limit": wrong })), said, "{wrong}");
            assert_eq!(problem::<HistoryQuery>(json!({ "limit": wrong })), said, "{wrong}");
        }
        for field in ["before", "after"] {
            let said = "must be a whole number from 0 to 9007199254740991";
            for wrong in ["abc", "-1", "9007199254740992"] {
                assert_eq!(problem::<HistoryQuery>(json!({ field: wrong })), said, "{field} {wrong}");
            }
        }
    }

    #[test]
    fn a_length_has_its_unit() {
        let long = "x".repeat(1000);
        assert_eq!(problem::<PageQuery>(json!({ "cursor": long })), "at most 512 characters");
        let contact = |field: &str| problem::<MemberPatch>(json!({ "contact_info": { field: long } }));
        assert_eq!((contact("phone"), contact("company")), ("1 to 32 characters".into(), "1 to 100 characters".into()));
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
