//! Accounts: register, log in, refresh, log out.

use garde::Validate;
use serde::{Deserialize, Serialize};

use super::{members::Member, object, sessions::DeviceInfo};
use crate::{Timestamp, limits, rules};

/// The most characters of a `device_proof`.
pub(crate) const DEVICE_PROOF_MAX_CHARS: usize = 128;

/// The fewest characters of an `attempt`.
pub(crate) const ATTEMPT_MIN_CHARS: usize = 16;
/// The most characters of an `attempt`.
pub(crate) const ATTEMPT_MAX_CHARS: usize = 64;

/// `POST /api/auth/register`. Tier and role cannot be chosen.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(example = json!({ "name": "Ana Lima", "email": "ana@example.com", "password": "correct horse" })))]
#[serde(default)]
pub struct RegisterRequest {
    /// The name to show: 1 to 100 characters after trimming, at least one of them a letter or digit.
    #[garde(custom(rules::given), custom(rules::name))]
    #[cfg_attr(feature = "openapi", schema(required = true, min_length = 1, max_length = 100, example = "Ana Lima"))]
    pub name: String,
    /// The e-mail address; unique regardless of case.
    #[garde(custom(rules::given), custom(rules::email))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Email, max_length = 254, example = "ana@example.com"))]
    pub email: String,
    /// At least 8 characters and at most 71 bytes, none of the most common ones, not the name or e-mail address.
    #[garde(custom(rules::given), custom(rules::password))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Password, min_length = 8, max_length = 71, example = "correct horse"))]
    pub password: String,
    /// The device that the session is started on, for the list of sessions.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    #[cfg_attr(feature = "codegen", ts(optional))]
    pub device: Option<DeviceInfo>,
    /// The code of an invitation; in any case, with or without its hyphens. Whether one is needed, `GET /api/club` says. One that is
    /// given has to be good.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(rules::chars(0, super::invitations::CODE_MAX_CHARS))))]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    #[cfg_attr(feature = "openapi", schema(max_length = 64))]
    pub invitation: Option<String>,
}

/// The answer to a registration that waits for an administrator: no tokens. The member logs in once it is approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegistrationPending {
    /// Always `pending`.
    pub status: Waiting,
}

/// What has become of a registration that is not decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// It waits for an administrator.
    #[default]
    Pending,
    /// The address has to be shown to be the member's, with the link in a mail that is on its way. Where mail is sent everybody is
    /// answered this, whether the address was free or taken.
    VerifyEmail,
}

/// `POST /api/auth/login`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct LoginRequest {
    /// The e-mail address, in any case.
    #[garde(custom(rules::given))]
    #[cfg_attr(feature = "openapi", schema(required = true, min_length = 1, example = "ana@example.com"))]
    pub email: String,
    /// The password.
    #[garde(custom(rules::given))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Password, min_length = 1, example = "correct horse"))]
    pub password: String,
    /// The `device_proof` of an earlier login of the member on this device: wrong passwords of others do not keep it out, and
    /// the member is not told of a new device. One that is not good has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(rules::chars(0, DEVICE_PROOF_MAX_CHARS))))]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    #[cfg_attr(feature = "openapi", schema(max_length = 128))]
    pub device_proof: Option<String>,
    /// For a member with a second factor: the six digits of their authenticator app, or a recovery code, in any case and with or
    /// without its hyphens. Without it they are answered `second_factor_required`, and the login is sent again with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(rules::chars(0, super::second_factor::CODE_MAX_CHARS))))]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    #[cfg_attr(feature = "openapi", schema(max_length = 64))]
    pub second_factor: Option<String>,
    /// The device that the session is started on, for the list of sessions.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    #[cfg_attr(feature = "codegen", ts(optional))]
    pub device: Option<DeviceInfo>,
}

/// `PUT /api/members/me/password`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct PasswordChange {
    /// The present password.
    #[garde(custom(rules::given))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Password, min_length = 1, example = "correct horse"))]
    pub current_password: String,
    /// The new one: at least 8 characters and at most 71 bytes, none of the most common ones, not the name or e-mail address.
    #[garde(custom(rules::given), custom(rules::password))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Password, min_length = 8, max_length = 71, example = "battery staple"))]
    pub new_password: String,
}

/// `POST /api/members/me/email`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct EmailChange {
    /// The new e-mail address; unique regardless of case.
    #[garde(custom(rules::given), custom(rules::email))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Email, max_length = 254, example = "ana@example.org"))]
    pub email: String,
    /// The present password.
    #[garde(custom(rules::given))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Password, min_length = 1, example = "correct horse"))]
    pub password: String,
    /// A code of the second factor, of who has one: the six digits of the authenticator app, or a recovery code. It is used up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(rules::chars(0, super::second_factor::CODE_MAX_CHARS))))]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    #[cfg_attr(feature = "openapi", schema(max_length = 64, example = "492 039"))]
    pub code: Option<String>,
}

/// `POST /api/auth/password/forgot`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ForgotPasswordRequest {
    /// The e-mail address of the member, in any case.
    #[garde(custom(rules::given), custom(rules::email))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Email, max_length = 254, example = "ana@example.com"))]
    pub email: String,
}

/// `POST /api/auth/password/reset`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ResetPasswordRequest {
    /// What the link in the mail has as `token`. It is used up by this request.
    #[garde(custom(rules::given), custom(rules::chars(1, limits::LINK_TOKEN_MAX_CHARS)))]
    #[cfg_attr(
        feature = "openapi",
        schema(required = true, min_length = 1, max_length = 128, example = "p43dTn0d2mVqS1rXq0C9yQ")
    )]
    pub token: String,
    /// The new password: at least 8 characters and at most 71 bytes, none of the most common ones, not the name or e-mail address.
    #[garde(custom(rules::given), custom(rules::password))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Password, min_length = 8, max_length = 71, example = "battery staple"))]
    pub new_password: String,
}

/// `POST /api/auth/email/verify`. An account that nobody has signed in to needs the password that it was registered with, and a link that
/// changes the address the present one.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct VerifyEmailRequest {
    /// What the link in the mail has as `token`. It is used up by this request.
    #[garde(custom(rules::given), custom(rules::chars(1, limits::LINK_TOKEN_MAX_CHARS)))]
    #[cfg_attr(
        feature = "openapi",
        schema(required = true, min_length = 1, max_length = 128, example = "p43dTn0d2mVqS1rXq0C9yQ")
    )]
    pub token: String,
    /// The member's password. Needed of an account that was never signed in to, and with a link that changes the address: `validation_failed`
    /// for this field says so, and leaves the link good. Of no effect with any other link.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(format = Password, example = "correct horse"))]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    #[garde(skip)]
    pub password: Option<String>,
}

/// `POST /api/auth/refresh`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RefreshRequest {
    /// The newest refresh token of the session. It stays good until its successor, or an access token that came with that, is
    /// first used: until then the request may be repeated with the same `attempt`, and has the same successor.
    #[garde(custom(rules::given))]
    #[cfg_attr(feature = "openapi", schema(required = true, min_length = 1, example = "p43dTn0d2mVqS1rXq0C9yQ"))]
    pub refresh_token: String,
    /// What the client calls this exchange: 16 to 64 of A to Z, a to z, 0 to 9, `-` and `_`. Drawn at random for each refresh token and stored
    /// beside it before the first request, so that every repetition, in another tab and after a restart too, has the same. With another one, or
    /// with one only once, a second exchange of the token counts as theft: the session is revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(rules::attempt)))]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    #[cfg_attr(
        feature = "openapi",
        schema(min_length = 16, max_length = 64, pattern = "^[A-Za-z0-9_-]+$", example = "mE2xq7Yh0sLr4ZpD8cVbKw")
    )]
    pub attempt: Option<String>,
}

/// `POST /api/auth/logout`. The body may be left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
#[garde(allow_unvalidated)]
pub struct LogoutRequest {
    /// Whether to log out every session of the member instead of this one.
    #[cfg_attr(feature = "openapi", schema(example = false))]
    pub all: bool,
}

/// The answer to register, login and refresh.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuthResponse {
    /// The signed-in member.
    pub member: Member,
    /// For `Authorization: Bearer` and for `hello`. A JWT; opaque to clients.
    #[cfg_attr(feature = "openapi", schema(example = "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"))]
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: TokenType,
    /// When the access token expires.
    pub expires_at: Timestamp,
    /// For `POST /api/auth/refresh`; keep it in the place of the one before.
    #[cfg_attr(feature = "openapi", schema(example = "p43dTn0d2mVqS1rXq0C9yQ"))]
    pub refresh_token: String,
    /// When the refresh token expires: not later than its session ends.
    pub refresh_expires_at: Timestamp,
    /// For `device_proof` of the next login on this device, also after a log-out and until the password is replaced. Not in the
    /// answer to a refresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "codegen", ts(optional))]
    #[cfg_attr(feature = "openapi", schema(nullable = false, example = "q83vASNFZ4kBI0VniQBAm83vASNFZ4mrze8BIw"))]
    pub device_proof: Option<String>,
}

/// The answer to a new password, which ends what proved every device of before.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceProof {
    /// For `device_proof` of the next login on this device; keep it in the place of the one before.
    #[cfg_attr(feature = "openapi", schema(example = "q83vASNFZ4kBI0VniQBAm83vASNFZ4mrze8BIw"))]
    pub device_proof: String,
}

/// The only type of access token (RFC 6750).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TokenType {
    /// Whoever has it may use it.
    #[default]
    Bearer,
}
