//! Push: what a device is told while no connection of it says that a message has arrived.

use std::fmt;

use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{DeviceId, Timestamp, codec, model::Platform, rules};

/// Longest address of a push service, in characters.
pub const PUSH_ADDRESS_MAX_CHARS: usize = 1_024;

/// Longest token of Expo, in characters.
pub const PUSH_TOKEN_MAX_CHARS: usize = 275;

/// Where pushes for a device are sent. Who knows it can push to the device: it is in no log.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "service", rename_all = "snake_case")]
pub enum PushAddress {
    /// Expo's service, for apps.
    Expo {
        /// What `getExpoPushTokenAsync` of `expo-notifications` gives: `ExponentPushToken[…]`.
        #[cfg_attr(
            feature = "openapi",
            schema(max_length = 275, example = "ExponentPushToken[xxxxxxxxxxxxxxxxxxxxxx]")
        )]
        #[garde(custom(rules::push_token))]
        token: String,
    },
    /// The push service of a browser (RFC 8030): what `PushSubscription.toJSON()` gives.
    Web {
        /// An https URL of a public host with a name of several parts or an address, at port 443, without user and password.
        #[cfg_attr(feature = "openapi", schema(max_length = 1024, example = "https://push.example.com/s/abc"))]
        #[garde(custom(rules::push_endpoint))]
        endpoint: String,
        /// Its keys (RFC 8291).
        #[garde(dive)]
        keys: PushKeys,
    },
}

/// The keys with which what is sent to a browser is encrypted (RFC 8291).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PushKeys {
    /// The public key of the browser: an uncompressed point of P-256, in base64url.
    #[serde(deserialize_with = "required::p256dh")]
    #[garde(custom(rules::push_point))]
    pub p256dh: String,
    /// The secret of the subscription: 16 bytes, in base64url.
    #[serde(deserialize_with = "required::auth")]
    #[garde(custom(rules::push_secret))]
    pub auth: String,
}

/// `null` is a field that is left out, inside an address too.
mod required {
    use super::{Deserialize, Deserializer, de};

    macro_rules! fields {
        ($($name:ident: $type:ty),+) => {
            $(pub(super) fn $name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                Option::deserialize(deserializer)?.ok_or_else(|| de::Error::missing_field(stringify!($name)))
            })+
        };
    }

    fields!(p256dh: String, auth: String);
}

/// From the fields of both, whatever their order: serde's own way of reading an enum by a tag loses which field is wrong.
impl<'de> Deserialize<'de> for PushAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Keys(#[serde(deserialize_with = "codec::object")] PushKeys);

        #[derive(Deserialize)]
        struct Fields {
            service: Option<PushService>,
            token: Option<String>,
            endpoint: Option<String>,
            keys: Option<Keys>,
        }

        let Fields { service, token, endpoint, keys } = codec::object(deserializer)?;
        let missing = de::Error::missing_field;
        match service.ok_or_else(|| missing("service"))? {
            PushService::Expo => Ok(Self::Expo { token: token.ok_or_else(|| missing("token"))? }),
            PushService::Web => {
                let endpoint = endpoint.ok_or_else(|| missing("endpoint"))?;
                let Keys(keys) = keys.ok_or_else(|| missing("keys"))?;
                Ok(Self::Web { endpoint, keys })
            }
        }
    }
}

/// `PUT /api/members/me/devices/{id}/push`. The address belongs to the member and the device that registered it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PushRegistration {
    /// Where pushes are sent.
    #[garde(dive)]
    pub address: PushAddress,
    /// What the device is.
    #[garde(skip)]
    pub platform: Platform,
}

/// A device to which messages are pushed. Not where: only the push service and the server know that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PushDevice {
    /// The device, as it calls itself in `hello`.
    pub device: DeviceId,
    /// What it is.
    pub platform: Platform,
    /// Which service brings pushes to it.
    pub service: PushService,
    /// When it was registered last.
    pub registered_at: Timestamp,
}

/// Who brings pushes to devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PushService {
    /// Expo's.
    Expo,
    /// That of the browser.
    Web,
}

impl PushService {
    /// The name on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expo => "expo",
            Self::Web => "web",
        }
    }
}

impl fmt::Debug for PushAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PushAddress").field("service", &self.service()).finish_non_exhaustive()
    }
}

impl fmt::Debug for PushKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PushKeys").finish_non_exhaustive()
    }
}

impl PushAddress {
    /// Who brings pushes there.
    #[must_use]
    pub const fn service(&self) -> PushService {
        match self {
            Self::Expo { .. } => PushService::Expo,
            Self::Web { .. } => PushService::Web,
        }
    }
}

/// How much of a message a push shows. In order: the smaller of what the member and the club (`PUSH_CONTENT`) say holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PushContent {
    /// That there is a message.
    Nothing,
    /// Who has sent it.
    Sender,
    /// Who has sent it, and the beginning of its text.
    Full,
}

impl PushContent {
    /// The name on the wire and in the settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Sender => "sender",
            Self::Full => "full",
        }
    }
}

/// Hours in which nothing is pushed. What is not read by their end is pushed then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QuietHours {
    /// When they begin each day: `HH:MM`.
    #[garde(custom(rules::time_of_day))]
    #[cfg_attr(feature = "openapi", schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "22:00"))]
    pub from: String,
    /// When they end, on the next day if that is not later than `from`.
    #[garde(custom(rules::time_of_day))]
    #[cfg_attr(feature = "openapi", schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "07:30"))]
    pub until: String,
    /// The time zone that both are of: a name of the IANA database.
    #[garde(custom(rules::time_zone))]
    #[cfg_attr(feature = "openapi", schema(max_length = 64, example = "Europe/Lisbon"))]
    pub time_zone: String,
}

/// From an object only; serde's derive would take an array too.
impl<'de> Deserialize<'de> for QuietHours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            from: String,
            until: String,
            time_zone: String,
        }

        let Fields { from, until, time_zone } = codec::object(deserializer)?;
        Ok(Self { from, until, time_zone })
    }
}

/// What a member wants to be told by pushes, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PushSettings {
    /// How much of a message is shown.
    pub content: PushContent,
    /// When nothing is pushed.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    pub quiet_hours: Option<QuietHours>,
    /// The most that pushes of this club show, whatever `content` says. Missing in an export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    #[cfg_attr(feature = "codegen", ts(optional))]
    pub content_max: Option<PushContent>,
    /// The devices, the one that was registered last first.
    pub devices: Vec<PushDevice>,
}

/// `PATCH /api/members/me/push`: what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct PushPatch {
    /// How much of a message is shown.
    #[serde(deserialize_with = "super::not_null")]
    #[garde(skip)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    #[cfg_attr(feature = "codegen", ts(optional))]
    pub content: Option<PushContent>,
    /// When nothing is pushed; `null` for never.
    #[serde(deserialize_with = "super::present", skip_serializing_if = "Option::is_none")]
    #[garde(custom(rules::quiet_hours))]
    #[cfg_attr(feature = "codegen", ts(optional, type = "QuietHours | null"))]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<QuietHours>))]
    pub quiet_hours: Option<Option<QuietHours>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_not_shown() {
        let keys = PushKeys { p256dh: "the-secret".to_owned(), auth: "the-secret".to_owned() };
        let web = PushAddress::Web { endpoint: "https://push.example/the-secret".to_owned(), keys };
        let expo = PushAddress::Expo { token: "ExponentPushToken[the-secret]".to_owned() };
        for address in [web, expo] {
            let registration = PushRegistration { address, platform: Platform::Ios };
            assert!(!format!("{registration:?}").contains("the-secret"));
        }
    }
}
