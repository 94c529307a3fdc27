//! Setting a club up: its first administrator, made by whoever has the code that the server prints.

use garde::Validate;
use serde::{Deserialize, Serialize};

use super::{auth::RegisterRequest, object, sessions::DeviceInfo};
use crate::rules;

/// The answer to `GET /api/setup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetupState {
    /// Whether the club has no administrator yet. Once it is `false` it stays so.
    pub needed: bool,
}

/// `POST /api/setup`: makes the first administrator.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct SetupRequest {
    /// The setup code, which the server prints when it starts; in any case, with or without its hyphen.
    #[garde(custom(rules::given), custom(rules::chars(0, CODE_MAX_CHARS)))]
    #[cfg_attr(feature = "openapi", schema(required = true, min_length = 1, max_length = 64, example = "7K3QM-9XWPT"))]
    pub code: String,
    /// The name to show: 1 to 100 characters after trimming, at least one of them a letter or digit.
    #[garde(custom(rules::given), custom(rules::name))]
    #[cfg_attr(feature = "openapi", schema(required = true, min_length = 1, max_length = 100, example = "Rita Reis"))]
    pub name: String,
    /// The e-mail address; unique regardless of case.
    #[garde(custom(rules::given), custom(rules::email))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Email, max_length = 254, example = "rita@example.com"))]
    pub email: String,
    /// At least 8 characters and at most 71 bytes.
    #[garde(custom(rules::given), custom(rules::password))]
    #[cfg_attr(feature = "openapi", schema(required = true, format = Password, min_length = 8, max_length = 71, example = "correct horse"))]
    pub password: String,
    /// The device that the session is started on, for the list of sessions.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    #[cfg_attr(feature = "codegen", ts(optional))]
    pub device: Option<DeviceInfo>,
}

/// The longest code that is looked at, in characters: there may be spaces in it.
const CODE_MAX_CHARS: usize = 64;

impl SetupRequest {
    /// The code, and the account that is to be made.
    #[must_use]
    pub fn into_parts(self) -> (String, RegisterRequest) {
        let Self { code, name, email, password, device } = self;
        (code, RegisterRequest { name, email, password, device, ..RegisterRequest::default() })
    }
}
