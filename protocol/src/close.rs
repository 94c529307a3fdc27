//! Close codes: why the server ended a connection, and whether to come back.

use serde::{Deserialize, Serialize};

/// Whether a client connects again after a close code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ComeBack {
    /// Yes, with exponential backoff and full jitter.
    Yes,
    /// Yes, after `retry_after_ms` of the `goodbye`, without further jitter: the server spreads it.
    AfterDelay,
    /// Yes, after a refresh of the token or a new login.
    AfterLogin,
    /// No: the same would happen again.
    No,
}

impl ComeBack {
    /// The answer in words, as the documentation prints it.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Yes => "yes, with backoff",
            Self::AfterDelay => "yes, after `retry_after_ms`",
            Self::AfterLogin => "after a refresh or a new login",
            Self::No => "no",
        }
    }
}

macro_rules! close_codes {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal, $reason:literal, $come_back:ident;)*) => {
        /// A WebSocket close code (RFC 6455, section 7.4; 4000 to 4999 are the application's).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CloseCode {
            $($(#[doc = $doc])* $name,)*
        }

        impl CloseCode {
            /// Every close code, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// The short reason that goes with the number: a stable word, not a sentence.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }

            /// Whether to come back.
            #[must_use]
            pub const fn come_back(self) -> ComeBack {
                match self { $(Self::$name => ComeBack::$come_back,)* }
            }

            /// What it means, in a sentence or two.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)*).trim_ascii(),)* }
            }
        }
    };
}

close_codes! {
    /// The server is draining or restarting.
    GoingAway = 1001, "going_away", AfterDelay;
    /// The bytes are not WebSocket frames as RFC 6455 has them.
    ProtocolError = 1002, "protocol_error", No;
    /// A binary frame; the protocol is text.
    UnsupportedData = 1003, "unsupported_data", No;
    /// A text frame that is not UTF-8.
    InvalidUtf8 = 1007, "invalid_utf8", No;
    /// A frame over the size limit.
    TooLarge = 1009, "too_large", No;
    /// The server is at its limit, or its store does not answer: hello was refused.
    TryAgainLater = 1013, "overloaded", AfterDelay;
    /// Not the protocol: no JSON, no hello first, too many bad frames.
    NotTheProtocol = 4400, "not_the_protocol", No;
    /// The token is missing, invalid, expired or revoked.
    Unauthorized = 4401, "unauthorized", AfterLogin;
    /// The member was deactivated, or suspended until a time.
    Deactivated = 4403, "deactivated", No;
    /// No hello, or no heartbeat, in time.
    TimedOut = 4408, "timed_out", Yes;
    /// The same device connected again elsewhere: the newer connection wins.
    Replaced = 4409, "replaced", No;
    /// An administrator closed the connections of the member, or a new password or second factor has replaced the tokens of the session.
    Disconnected = 4410, "disconnected", Yes;
    /// The connection could not keep up with what it was sent; sync finds what it missed.
    SlowConsumer = 4413, "slow_consumer", Yes;
    /// Too many connections, too many hellos, or too much too fast after errors said so.
    TooMuch = 4429, "too_much", AfterDelay;
    /// A fault of the server.
    Internal = 4500, "internal", Yes;
}

impl CloseCode {
    /// The close code with this number.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.number() == number)
    }
}

impl Serialize for CloseCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.number())
    }
}

impl<'de> Deserialize<'de> for CloseCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u16::deserialize(deserializer)?;
        Self::from_number(number).ok_or_else(|| serde::de::Error::custom("not a close code of this protocol"))
    }
}

#[cfg(feature = "codegen")]
impl schemars::JsonSchema for CloseCode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CloseCode".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let numbers: Vec<u16> = Self::ALL.iter().map(|code| code.number()).collect();
        schemars::json_schema!({
            "type": "integer",
            "enum": numbers,
            "description": "Why the connection ends; see the table of close codes.",
        })
    }
}
