//! Sessions: where a member is signed in.

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::{SessionId, Timestamp, model::Platform, rules};

/// What a member signs in with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct DeviceInfo {
    /// What it is called, for the list of sessions: 1 to 100 characters after trimming.
    #[garde(inner(custom(rules::device_name)))]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 100, example = "Chrome on Windows"))]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    pub name: Option<String>,
    /// What it is.
    #[garde(skip)]
    #[cfg_attr(feature = "codegen", ts(optional = nullable))]
    pub platform: Option<Platform>,
}

/// A session that is good: a device on which the member is signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// The id of the session.
    #[serde(rename = "_id")]
    pub id: SessionId,
    /// Whether it is the session of this request.
    pub is_current: bool,
    /// What it said of its device when it was started, or was called since.
    pub device: DeviceInfo,
    /// The address that it was started from; none of a session that was started by an earlier version of the server.
    #[cfg_attr(feature = "openapi", schema(required = true, example = "192.0.2.7"))]
    pub address: Option<String>,
    /// The address that its refresh token was exchanged from last; none of a session in which that has not been yet.
    #[cfg_attr(feature = "openapi", schema(required = true, example = "198.51.100.24"))]
    pub last_address: Option<String>,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it was last used, to about the life of an access token.
    pub last_used_at: Timestamp,
    /// When it ends at the latest, however often its tokens are refreshed.
    pub expires_at: Timestamp,
}

/// Where a member is signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionList {
    /// The sessions that are good, at most 100, the one that was used last first.
    pub sessions: Vec<Session>,
}

/// `PATCH /api/members/me/sessions/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct SessionRename {
    /// What its device is to be called: 1 to 100 characters after trimming.
    #[garde(custom(rules::given), custom(rules::device_name))]
    #[cfg_attr(
        feature = "openapi",
        schema(required = true, min_length = 1, max_length = 100, example = "The old laptop")
    )]
    pub name: String,
}
