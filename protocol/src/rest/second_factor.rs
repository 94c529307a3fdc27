//! The second factor of a member: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for who has lost it.

use garde::Validate;
use serde::{Deserialize, Serialize};

use super::AuthResponse;
use crate::{Timestamp, rules};

/// The longest code that is looked at, in characters: there may be spaces and hyphens in it.
pub(crate) const CODE_MAX_CHARS: usize = 64;

/// The longest `enrolment`, in characters.
const ENROLMENT_MAX_CHARS: usize = 512;

/// `GET /api/members/me/second-factor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SecondFactor {
    /// Whether the member has one.
    pub enabled: bool,
    /// Since when.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub enabled_at: Option<Timestamp>,
    /// How many recovery codes are not used yet.
    pub recovery_codes_left: u32,
    /// Whether the club demands one of this member: of administrators, if it does.
    pub required: bool,
}

/// `POST /api/members/me/second-factor`: begins to turn one on.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct SecondFactorRequest {
    /// The present password.
    #[garde(custom(rules::given))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Password, min_length = 1, example = "correct horse"))]
    pub password: String,
}

/// What an authenticator app is to be given. Nothing is stored until a code of the app confirms it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SecondFactorEnrolment {
    /// The secret, in base32, to be typed into the app.
    #[cfg_attr(feature = "openapi", schema(example = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"))]
    pub secret: String,
    /// The same as a link, which opens the app where there is one on the device.
    #[cfg_attr(
        feature = "openapi",
        schema(example = "otpauth://totp/Members%20Book:ana%40example.com?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    )]
    pub uri: String,
    /// The link as a picture (QR code) to be scanned: a `data:` URL of a PNG.
    #[cfg_attr(feature = "openapi", schema(example = "data:image/png;base64,iVBORw0KGgo="))]
    pub qr: String,
    /// For `enrolment` of the confirmation. Opaque to clients.
    #[cfg_attr(feature = "openapi", schema(example = "q83vASNFZ4kBI0VniQBAm83vASNFZ4mrze8BIw"))]
    pub enrolment: String,
    /// Until when it can be confirmed.
    pub expires_at: Timestamp,
}

/// `POST /api/members/me/second-factor/confirm`: turns it on.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct SecondFactorConfirmation {
    /// `enrolment` of the answer that the app was given the secret of.
    #[garde(custom(rules::given), custom(rules::chars(0, ENROLMENT_MAX_CHARS)))]
    #[cfg_attr(
        feature = "openapi",
        schema(required = true, min_length = 1, max_length = 512, example = "q83vASNFZ4kBI0VniQBAm83vASNFZ4mrze8BIw")
    )]
    pub enrolment: String,
    /// The six digits that the app shows.
    #[garde(custom(rules::given), custom(rules::chars(0, CODE_MAX_CHARS)))]
    #[cfg_attr(feature = "openapi", schema(required = true, min_length = 1, max_length = 64, example = "492 039"))]
    pub code: String,
}

/// Codes for who has lost the authenticator app. They are shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecoveryCodes {
    /// Ten codes, each good once.
    #[cfg_attr(feature = "openapi", schema(example = json!(["7K3Q-M9XW-PTAB-2CDE"])))]
    pub recovery_codes: Vec<String>,
}

/// A second factor that was turned on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SecondFactorEnabled {
    /// Codes for who has lost the authenticator app: ten, each good once. They are shown this once.
    #[cfg_attr(feature = "openapi", schema(example = json!(["7K3Q-M9XW-PTAB-2CDE"])))]
    pub recovery_codes: Vec<String>,
    /// What this device proves itself with at the next login, in place of the one before, which is good no more.
    pub device_proof: String,
    /// What this session goes on with: its tokens of before are good no more.
    pub tokens: AuthResponse,
}

/// `POST /api/members/me/second-factor/recovery-codes`: ten new ones; those of before are good no more.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RecoveryCodesRequest {
    /// The six digits of the authenticator app, or a recovery code.
    #[garde(custom(rules::given), custom(rules::chars(0, CODE_MAX_CHARS)))]
    #[cfg_attr(feature = "openapi", schema(required = true, min_length = 1, max_length = 64, example = "492 039"))]
    pub code: String,
}

/// `POST /api/members/me/second-factor/disable`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct SecondFactorDisabling {
    /// The six digits of the authenticator app, or a recovery code.
    #[garde(custom(rules::given), custom(rules::chars(0, CODE_MAX_CHARS)))]
    #[cfg_attr(feature = "openapi", schema(required = true, min_length = 1, max_length = 64, example = "492 039"))]
    pub code: String,
    /// The present password.
    #[garde(custom(rules::given))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Password, min_length = 1, example = "correct horse"))]
    pub password: String,
}

/// `POST /api/auth/step-up`: proves again who is at the device. Who has a second factor gives `code`, who has none `password`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct StepUpRequest {
    /// The present password.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    #[cfg_attr(feature = "openapi", schema(format = Password, example = "correct horse"))]
    pub password: Option<String>,
    /// The six digits of the authenticator app, or a recovery code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(rules::chars(0, CODE_MAX_CHARS))))]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    #[cfg_attr(feature = "openapi", schema(max_length = 64, example = "492 039"))]
    pub code: Option<String>,
}
