//! Ids. On the wire they are opaque strings: a client stores and compares them, and reads nothing out of them.

#[cfg(feature = "codegen")]
use std::borrow::Cow;
use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

use crate::limits;

/// Why a string is not an id of the asked kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(&'static str);

impl InvalidId {
    pub(crate) const fn new(problem: &'static str) -> Self {
        Self(problem)
    }
}

/// Reads a string as what it stands for, without a copy of it.
struct Parsed<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Deserialises something that is a string on the wire.
pub(crate) fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_str(Parsed(PhantomData))
}

/// Serialises and deserialises through the string form, which `$text` makes: formatting it would cost more than all else.
macro_rules! serde_as_string {
    ($name:ident, |$value:ident| $text:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let $value = self;
                serializer.serialize_str(AsRef::<str>::as_ref(&$text))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::ids::parsed(deserializer)
            }
        }
    };
}
pub(crate) use serde_as_string;

/// Describes an id to the schema generators: a string with a pattern.
macro_rules! describe_as_string {
    ($name:ident, $schema:tt) => {
        #[cfg(feature = "openapi")]
        crate::openapi::describe!($name, $schema);

        #[cfg(feature = "codegen")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

/// A short ASCII text that is made on the stack.
pub(crate) struct Digits<const LENGTH: usize>(pub(crate) [u8; LENGTH]);

impl<const LENGTH: usize> Digits<LENGTH> {
    /// Twice as many hexadecimal digits as there are bytes.
    fn hex(bytes: &[u8]) -> Self {
        let mut digits = [b'0'; LENGTH];
        // Cannot fail: every target here has exactly twice the length of its source.
        let _ = hex::encode_to_slice(bytes, &mut digits);
        Self(digits)
    }
}

impl<const LENGTH: usize> AsRef<str> for Digits<LENGTH> {
    fn as_ref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

macro_rules! object_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// Twelve bytes, as in the database; 24 lower-case hexadecimal digits on the wire.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(type = "string"))]
        pub struct $name([u8; 12]);

        impl $name {
            /// Wraps the twelve bytes of an id.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 12]) -> Self {
                Self(bytes)
            }

            /// The twelve bytes of the id.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 12] {
                &self.0
            }

            /// As it is on the wire.
            pub(crate) fn digits(&self) -> Digits<24> {
                Digits::hex(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.digits().as_ref())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                const PROBLEM: InvalidId = InvalidId(concat!("a ", $what, " id is 24 lower-case hexadecimal digits"));
                let mut bytes = [0_u8; 12];
                // Clients compare ids as texts, so each has one form.
                if hex::decode_to_slice(text, &mut bytes).is_err() || text.bytes().any(|digit| digit.is_ascii_uppercase()) {
                    return Err(PROBLEM);
                }
                Ok(Self(bytes))
            }
        }

        serde_as_string!($name, |id| id.digits());
        describe_as_string!($name, {
            "type": "string",
            "pattern": "^[0-9a-f]{24}$",
            "examples": ["6b033ff858dd68a2edc96e77"],
            "description": concat!("The opaque id of a ", $what, "."),
        });
    };
}

object_id! {
    /// A member of the club.
    MemberId, "member"
}
object_id! {
    /// A message, unique over all conversations.
    MessageId, "message"
}
object_id! {
    /// A conversation. That of two members follows from their ids, so every node computes the same one.
    ConversationId, "conversation"
}
object_id! {
    /// A signed-in session: one login on one device, with its family of refresh tokens.
    SessionId, "session"
}
object_id! {
    /// An invitation. It grows with time.
    InvitationId, "invitation"
}
object_id! {
    /// A recommendation. That of one thing to one member follows from both, so it is the same every time.
    RecommendationId, "recommendation"
}
object_id! {
    /// One WebSocket connection. New with every `hello`; useful in support requests and logs.
    ConnectionId, "connection"
}

/// The id that a client gives to a message before it sends it: a UUID (RFC 9562).
///
/// (conversation, sender, `client_id`) is unique for ever, which makes a retry safe at any time. Version 7 (time
/// ordered) is recommended: it keeps the server's index compact. Upper and lower case are the same id; it is written in
/// lower case, as RFC 9562 wants it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(type = "string"))]
pub struct ClientMessageId(uuid::Uuid);

impl ClientMessageId {
    /// Wraps a UUID.
    #[must_use]
    pub const fn from_uuid(uuid: uuid::Uuid) -> Self {
        Self(uuid)
    }

    /// The sixteen bytes of the UUID.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// From the sixteen bytes of the UUID.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }

    /// As it is on the wire.
    pub(crate) fn digits(&self) -> Digits<{ uuid::fmt::Hyphenated::LENGTH }> {
        let mut digits = [b'0'; uuid::fmt::Hyphenated::LENGTH];
        self.0.as_hyphenated().encode_lower(&mut digits);
        Digits(digits)
    }
}

impl fmt::Display for ClientMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for ClientMessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ClientMessageId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const EXPECTED: InvalidId = InvalidId("a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057");
        if text.len() != uuid::fmt::Hyphenated::LENGTH {
            return Err(EXPECTED);
        }
        uuid::Uuid::try_parse(text).map(Self).map_err(|_| EXPECTED)
    }
}

serde_as_string!(ClientMessageId, |id| id.digits());
describe_as_string!(ClientMessageId, {
    "type": "string",
    "format": "uuid",
    "examples": ["01890a5d-ac96-774b-bcce-b302099a8057"],
    "description": "A UUID made by the client, in either case; it comes back in lower case. Version 7 is recommended.",
});

macro_rules! short_string {
    ($(#[$doc:meta])* $name:ident, $max:expr, $error:literal, $schema:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(type = "string"))]
        pub struct $name(Box<str>);

        impl $name {
            /// The text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if (1..=$max).contains(&text.chars().count()) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId($error))
                }
            }
        }

        serde_as_string!($name, |id| &*id.0);
        describe_as_string!($name, $schema);
    };
}

short_string! {
    /// The id of one request, chosen by the client; its reply carries the same one.
    RequestId, limits::REQUEST_ID_MAX_CHARS, "a string of 1 to 64 characters", {
        "type": "string",
        "minLength": 1,
        "maxLength": (limits::REQUEST_ID_MAX_CHARS),
        "description": "Chosen by the client; the one reply to the request carries the same id.",
    }
}
short_string! {
    /// A device, named by the client once and kept: the same device connecting again replaces its old connection.
    DeviceId, limits::DEVICE_ID_MAX_CHARS, "a string of 1 to 64 characters", {
        "type": "string",
        "minLength": 1,
        "maxLength": (limits::DEVICE_ID_MAX_CHARS),
        "description": "Chosen by the client once per installation and kept.",
    }
}
short_string! {
    /// A place in the stream of changes, made by the server. Opaque; presented in `hello` to catch up from there.
    Cursor, limits::CURSOR_MAX_CHARS, "a string of 1 to 128 characters", {
        "type": "string",
        "minLength": 1,
        "maxLength": (limits::CURSOR_MAX_CHARS),
        "description": "Opaque; keep the newest one and present it in the next hello.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_ids_are_24_lower_case_hexadecimal_digits() {
        let id: MemberId = "0123456789abcdef01234567".parse().unwrap();
        assert_eq!(id.to_string(), "0123456789abcdef01234567");
        for wrong in ["", "0123", "0123456789ABCDEF01234567", "0123456789abcdef0123456g", "0123456789abcdef0123456789"]
        {
            assert!(wrong.parse::<MemberId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn client_ids_are_hyphenated_uuids() {
        let id: ClientMessageId = "01890A5D-AC96-774B-BCCE-B302099A8057".parse().unwrap();
        assert_eq!(id.to_string(), "01890a5d-ac96-774b-bcce-b302099a8057");
        for wrong in ["", "01890a5dac96774bbcceb302099a8057", "{01890a5d-ac96-774b-bcce-b302099a8057}"] {
            assert!(wrong.parse::<ClientMessageId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn request_ids_have_1_to_64_characters() {
        assert!("".parse::<RequestId>().is_err());
        assert!("é".repeat(64).parse::<RequestId>().is_ok());
        assert!("x".repeat(65).parse::<RequestId>().is_err());
    }
}
