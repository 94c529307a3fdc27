//! Frames from a client to the server.

use std::collections::HashSet;

use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    ClientMessageId, ConversationId, Cursor, DecodeError, MemberId, RequestId,
    codec::frames,
    limits::{INTEGER_MAX, PAGE_MAX, WATCH_MAX},
    model::{ConversationSettings, Device, DeviceStatus, Platform},
    rest::PushAddress,
    rules,
};

frames! {
    /// Every frame that a client may send.
    pub enum ClientFrame {
        /// The first frame of a connection: who is there. Reply: `welcome`, even without an `id`.
        "hello" => Hello, reply "welcome";
        /// Sends a message. Reply: `message.accepted`, once it is durable.
        "message.send" => MessageSend, reply "message.accepted";
        /// Everything in a conversation up to `seq` has reached this device. Reply: `ok`.
        "message.delivered" => MessageDelivered, reply "ok";
        /// Everything in a conversation up to `seq` was read. Reply: `ok` with `unread`.
        "message.read" => MessageRead, reply "ok";
        /// The member is typing, or has stopped. No reply.
        "typing" => Typing;
        /// What this device shows of its member. Reply: `ok`.
        "presence.set" => PresenceSet, reply "ok";
        /// Asks for the presence of members, now and whenever it changes. Reply: `presence.snapshot`.
        "presence.watch" => PresenceWatch, reply "presence.snapshot";
        /// No longer asks for the presence of members. Reply: `ok`.
        "presence.unwatch" => PresenceUnwatch, reply "ok";
        /// Sets the member's own settings of a conversation. Reply: `conversation.settings`, once they are durable.
        "conversation.configure" => ConversationConfigure, reply "conversation.settings";
        /// Asks for the member's conversations, newest first. Reply: `conversations`.
        "conversations.list" => ConversationsList, reply "conversations";
        /// Asks for entries of a conversation. Reply: `history`.
        "history.get" => HistoryGet, reply "history";
        /// Brings a fresh access token before the old one expires. Reply: `ok` with `expires_at`.
        "auth.renew" => AuthRenew, reply "ok";
        /// Has messages pushed to this device when it does not take them in time. Reply: `ok`.
        "push.register" => PushRegister, reply "ok";
        /// No longer has messages pushed to this device. Reply: `ok`.
        "push.unregister" => PushUnregister, reply "ok";
        /// The heartbeat, every `heartbeat_ms`. Reply: `pong`, even without an `id`.
        "ping" => Ping, reply "pong";
    }
}

/// A frame from a client, with the id under which its reply comes back.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The id of the request. Without one there is no reply unless it fails.
    pub id: Option<RequestId>,
    /// What is asked.
    pub frame: ClientFrame,
}

impl Request {
    /// Reads a frame and checks the rules of its fields.
    ///
    /// # Errors
    /// `malformed` for what is not a JSON object with a `type`, `unknown_type`, or `validation_failed` with the path
    /// of the first bad field. The error carries the request's `id` if it could be read.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        ClientFrame::decode_parts(text).map(|(id, frame)| Self { id, frame })
    }

    /// Writes the frame.
    #[must_use]
    pub fn encode(&self) -> String {
        self.frame.encode(self.id.as_ref())
    }
}

/// `hello`: the first frame of a connection, within ten seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
#[cfg_attr(feature = "codegen", schemars(transform = token_is_required))]
#[garde(allow_unvalidated)]
pub struct Hello {
    /// The access token from login or refresh.
    #[serde(default, deserialize_with = "empty_if_null")]
    pub token: String,
    /// The device.
    #[serde(deserialize_with = "crate::codec::object")]
    #[garde(dive)]
    pub device: Device,
    /// The newest cursor that this device has kept. Without one the sync is the full state.
    #[serde(default, deserialize_with = "any_cursor", skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
}

/// A cursor that no server makes.
const UNKNOWN_CURSOR: &str = "?";

/// What cannot be a cursor of ours is no error: it is one that the server does not know, so the sync is the full state with `reset`.
fn any_cursor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cursor>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().or_else(|_| UNKNOWN_CURSOR.parse()).ok()))
}

/// `null` is the same as no token.
fn empty_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A hello without a token is read, so that it is told `token_missing` and not that it is malformed.
#[cfg(feature = "codegen")]
fn token_is_required(schema: &mut schemars::Schema) {
    if let Some(required) = schema.get_mut("required").and_then(serde_json::Value::as_array_mut) {
        required.insert(0, "token".into());
    }
}

/// `message.send`: sends a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
#[garde(allow_unvalidated)]
pub struct MessageSend {
    /// The member to write to. The direct conversation is made with its first message. Either this or `conversation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(custom(exactly_one_with(self.conversation.is_some())))]
    pub to: Option<MemberId>,
    /// The conversation to write in. Either this or `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    /// Made by the client before the first attempt and kept for every retry.
    pub client_id: ClientMessageId,
    /// The text: 1 to 4,000 characters after trimming. White space at its ends is removed, nothing else changed.
    pub content: String,
    /// The `seq` of the message of the same conversation that this one answers. One that is not there is `message_not_found`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::codec::optional_integer")]
    #[garde(inner(range(max = INTEGER_MAX)))]
    #[cfg_attr(feature = "codegen", ts(type = "number"), schemars(range(min = 1, max = INTEGER_MAX)))]
    pub reply_to: Option<u64>,
}

/// `message.delivered`: everything up to `seq` has reached this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct MessageDelivered {
    /// The conversation.
    pub conversation: ConversationId,
    /// The watermark. An older one changes nothing; one beyond the newest entry counts as the newest entry.
    #[serde(deserialize_with = "crate::codec::integer")]
    #[garde(range(max = INTEGER_MAX))]
    #[cfg_attr(feature = "codegen", ts(type = "number"), schemars(range(max = INTEGER_MAX)))]
    pub seq: u64,
}

/// `message.read`: everything up to `seq` was read; that it was delivered follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct MessageRead {
    /// The conversation.
    pub conversation: ConversationId,
    /// The watermark. An older one changes nothing; one beyond the newest entry counts as the newest entry.
    #[serde(deserialize_with = "crate::codec::integer")]
    #[garde(range(max = INTEGER_MAX))]
    #[cfg_attr(feature = "codegen", ts(type = "number"), schemars(range(max = INTEGER_MAX)))]
    pub seq: u64,
}

/// `typing`: the member is typing, or has stopped. Lasts six seconds; repeat it while it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
#[garde(allow_unvalidated)]
pub struct Typing {
    /// The conversation. Either this or `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    /// The member that is being written to; without a conversation, told only if they let everybody see their presence.
    /// Either this or `conversation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(custom(exactly_one_with(self.conversation.is_some())))]
    pub to: Option<MemberId>,
    /// Whether the member is typing.
    pub active: bool,
}

/// `presence.set`: what this device shows of its member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct PresenceSet {
    /// `online` or `away`. The member is away only when all their devices are.
    pub status: DeviceStatus,
}

/// `presence.watch`: asks for the presence of members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
pub struct PresenceWatch {
    /// The members, each once; at most 500 on one connection, those of earlier frames counted.
    #[garde(custom(bearable), custom(each_once))]
    #[cfg_attr(feature = "codegen", schemars(length(min = 1, max = WATCH_MAX)))]
    pub members: Vec<MemberId>,
}

/// `presence.unwatch`: no longer asks for the presence of members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
pub struct PresenceUnwatch {
    /// The members. Those that were not watched are passed over.
    #[garde(custom(bearable))]
    #[cfg_attr(feature = "codegen", schemars(length(min = 1, max = WATCH_MAX)))]
    pub members: Vec<MemberId>,
}

/// `conversations.list`: asks for the member's conversations, the one with the newest entry first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
#[garde(allow_unvalidated)]
pub struct ConversationsList {
    /// How many: 1 to 100; 50 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::codec::optional_count")]
    #[garde(inner(custom(rules::whole(1, PAGE_MAX))))]
    #[cfg_attr(feature = "codegen", schemars(range(min = 1, max = PAGE_MAX)))]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(custom(rules::chars(1, crate::limits::CURSOR_MAX_CHARS))))]
    #[cfg_attr(feature = "codegen", schemars(length(min = 1, max = crate::limits::CURSOR_MAX_CHARS)))]
    pub after: Option<String>,
    /// Only those that the member has archived, or with `false` only those that they have not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Only those that the member has at the top of the list, or with `false` only those that they have not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
    /// Only those with messages that the member has not read, or with `false` only those without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<bool>,
}

/// `conversation.configure`: sets the member's own settings of a conversation, all of them. The same ones again change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct ConversationConfigure {
    /// The conversation.
    pub conversation: ConversationId,
    /// The settings.
    #[serde(deserialize_with = "crate::codec::object")]
    pub settings: ConversationSettings,
}

/// `history.get`: asks for entries of a conversation. Without `before` and `after`: the newest ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS), ts(optional_fields))]
#[garde(allow_unvalidated)]
pub struct HistoryGet {
    /// The conversation.
    pub conversation: ConversationId,
    /// The newest entries with a smaller `seq` than this one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::codec::optional_integer")]
    #[garde(inner(range(max = INTEGER_MAX)), custom(at_most_one_with(self.after.is_some())))]
    #[cfg_attr(feature = "codegen", ts(type = "number"), schemars(range(max = INTEGER_MAX)))]
    pub before: Option<u64>,
    /// The oldest entries with a larger `seq` than this one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::codec::optional_integer")]
    #[garde(inner(range(max = INTEGER_MAX)))]
    #[cfg_attr(feature = "codegen", ts(type = "number"), schemars(range(max = INTEGER_MAX)))]
    pub after: Option<u64>,
    /// How many at most: 1 to 100; 50 if not given. Fewer come when they are large; `more` says so.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::codec::optional_count")]
    #[garde(inner(custom(rules::whole(1, PAGE_MAX))))]
    #[cfg_attr(feature = "codegen", schemars(range(min = 1, max = PAGE_MAX)))]
    pub limit: Option<u32>,
}

/// `auth.renew`: a fresh access token of the same session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct AuthRenew {
    /// The access token.
    pub token: String,
}

/// `push.register`: where pushes for this device are sent. The address belongs to the member and the device that registered it last, and
/// until the session of this connection ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
#[garde(allow_unvalidated)]
pub struct PushRegister {
    /// Where pushes are sent.
    #[garde(dive)]
    pub address: PushAddress,
    /// What the device is.
    pub platform: Platform,
}

/// `push.unregister`: nothing is pushed to this device any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
pub struct PushUnregister {}

/// `ping`: the heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Validate)]
#[cfg_attr(feature = "codegen", derive(schemars::JsonSchema, ts_rs::TS))]
pub struct Ping {}

fn exactly_one_with<T>(other_is_given: bool) -> impl FnOnce(&Option<T>, &()) -> garde::Result {
    move |value, ()| match (value.is_some(), other_is_given) {
        (true, false) | (false, true) => Ok(()),
        (true, true) => Err(garde::Error::new("give either to or conversation, not both")),
        (false, false) => Err(garde::Error::new("give either to or conversation")),
    }
}

fn at_most_one_with<T>(other_is_given: bool) -> impl FnOnce(&Option<T>, &()) -> garde::Result {
    move |value, ()| {
        if value.is_some() && other_is_given {
            Err(garde::Error::new("give before or after, not both"))
        } else {
            Ok(())
        }
    }
}

#[expect(clippy::ptr_arg, reason = "garde hands the field itself to a custom rule")]
fn bearable(members: &Vec<MemberId>, (): &()) -> garde::Result {
    match members.len() {
        1..=WATCH_MAX => Ok(()),
        _ => Err(garde::Error::new(format!("1 to {WATCH_MAX} members"))),
    }
}

#[expect(clippy::ptr_arg, reason = "garde hands the field itself to a custom rule")]
fn each_once(members: &Vec<MemberId>, (): &()) -> garde::Result {
    let mut seen = HashSet::with_capacity(members.len());
    match members.iter().find(|member| !seen.insert(**member)) {
        Some(twice) => Err(garde::Error::new(format!("{twice} is given twice"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    const MEMBER: &str = "0123456789abcdef01234567";

    fn refused(text: &str) -> (ErrorCode, Option<String>, String) {
        let error = Request::decode(text).unwrap_err();
        (error.code, error.field, error.message)
    }

    #[test]
    fn what_is_not_a_json_object_is_malformed() {
        for text in [
            "",
            "nonsense",
            "[]",
            r#"["auth.renew"]"#,
            "5",
            "null",
            "\"hello\"",
            r#"{"type":"ping""#,
            r#"{"type":"ping"} x"#,
        ] {
            assert_eq!(refused(text).0, ErrorCode::Malformed, "{text}");
        }
    }

    #[test]
    fn a_frame_without_type_names_the_field() {
        assert_eq!(refused("{}"), (ErrorCode::ValidationFailed, Some("type".into()), "type: required".into()));
        assert_eq!(refused(r#"{"type":5}"#).1.as_deref(), Some("type"));
        assert_eq!(refused(r#"{"type":"ping","id":7}"#).1.as_deref(), Some("id"));
        assert_eq!(refused(r#"{"type":"ping","id":""}"#).1.as_deref(), Some("id"));
    }

    #[test]
    fn an_unknown_type_keeps_the_id() {
        let error = Request::decode(r#"{"type":"dance","id":"r1"}"#).unwrap_err();
        assert_eq!(error.code, ErrorCode::UnknownType);
        assert_eq!(error.id.unwrap().as_str(), "r1");
    }

    #[test]
    fn a_bad_field_is_named_with_its_path() {
        let hello = r#"{"type":"hello","token":"t","device":{"id":"d","platform":"fridge"}}"#;
        assert_eq!(refused(hello).1.as_deref(), Some("device.platform"));
        let hello = r#"{"type":"hello","token":"t","device":{"platform":"ios"}}"#;
        assert_eq!(
            refused(hello),
            (ErrorCode::ValidationFailed, Some("device.id".into()), "device.id: required".into())
        );
        let hello = r#"{"type":"hello","token":"t","device":["d","ios"]}"#;
        assert_eq!(refused(hello).1.as_deref(), Some("device"));
        let send = format!(r#"{{"type":"message.send","to":"{MEMBER}","client_id":"x","content":"hi"}}"#);
        assert_eq!(refused(&send).1.as_deref(), Some("client_id"));
    }

    #[test]
    fn a_field_is_named_once_and_a_length_has_its_unit() {
        let said = |text: &str| refused(text).2;
        let device = |device: String| said(&format!(r#"{{"type":"hello","token":"t","device":{device}}}"#));
        assert_eq!(device(r#"{"id":"","platform":"ios"}"#.into()), "device.id: a string of 1 to 64 characters");
        let name = format!(r#"{{"id":"d","platform":"ios","name":"{}"}}"#, "x".repeat(101));
        assert_eq!(device(name), "device.name: at most 100 characters");
        assert_eq!(said(r#"{"type":"ping","id":""}"#), "id: a string of 1 to 64 characters");
        let send = format!(r#"{{"type":"message.send","to":"{MEMBER}","client_id":"x","content":"hi"}}"#);
        assert!(said(&send).starts_with("client_id: a UUID such as "));
        assert_eq!(said(r#"{"type":"conversations.list","after":""}"#), "after: 1 to 128 characters");
        let limit = "limit: must be a whole number from 1 to 100";
        assert_eq!(said(r#"{"type":"conversations.list","limit":101}"#), limit);
        assert_eq!(said(r#"{"type":"presence.watch","members":[]}"#), "members: 1 to 500 members");
    }

    #[test]
    fn what_json_does_not_allow_in_a_text_is_said_in_plain_words() {
        let said = |content: &str| {
            let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
            refused(&format!(r#"{{"type":"message.send","to":"{MEMBER}","client_id":"{uuid}","content":"{content}"}}"#))
                .2
        };
        for lone in [r"\ud800", r"\ud800 x", r"\ud800\n", r"\ud800\ud800", r"\udc00"] {
            assert!(said(lone).contains("a lone surrogate escape"), "{lone}: {}", said(lone));
        }
        for raw in ["\n", "\t", "a\u{1}b"] {
            assert!(said(raw).contains("a control character must be escaped"), "{raw:?}: {}", said(raw));
        }
        assert!(said(r"\x").contains(r"an escape that JSON does not have"), "{}", said(r"\x"));
    }

    #[test]
    fn a_message_goes_to_a_member_or_into_a_conversation() {
        let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
        let neither = format!(r#"{{"type":"message.send","client_id":"{uuid}","content":"hi"}}"#);
        assert_eq!(refused(&neither).1.as_deref(), Some("to"));
        let both = format!(
            r#"{{"type":"message.send","to":"{MEMBER}","conversation":"{MEMBER}","client_id":"{uuid}","content":"hi"}}"#
        );
        assert_eq!(refused(&both).1.as_deref(), Some("to"));
    }

    #[test]
    fn pages_and_watermarks_have_bounds() {
        assert_eq!(refused(r#"{"type":"conversations.list","limit":0}"#).1.as_deref(), Some("limit"));
        assert_eq!(refused(r#"{"type":"conversations.list","limit":101}"#).1.as_deref(), Some("limit"));
        let read = format!(r#"{{"type":"message.read","conversation":"{MEMBER}","seq":9007199254740992}}"#);
        assert_eq!(refused(&read).1.as_deref(), Some("seq"));
        let history = format!(r#"{{"type":"history.get","conversation":"{MEMBER}","before":5,"after":1}}"#);
        assert_eq!(refused(&history).1.as_deref(), Some("before"));
        let watch = format!(r#"{{"type":"presence.watch","members":["{MEMBER}","{MEMBER}"]}}"#);
        assert_eq!(refused(&watch).1.as_deref(), Some("members"));
        assert_eq!(refused(r#"{"type":"presence.watch","members":[]}"#).1.as_deref(), Some("members"));
    }

    /// Found from outside: a text that is too long for a cursor was taken for none at all, so the sync came without `reset`.
    #[test]
    fn a_cursor_that_cannot_be_one_is_one_that_nobody_knows() {
        let read = |cursor: &str| {
            let hello = r#"{"type":"hello","token":"t","device":{"id":"d","platform":"ios"},"cursor":"#;
            let ClientFrame::Hello(Hello { cursor, .. }) =
                Request::decode(&format!("{hello}{cursor}}}")).unwrap().frame
            else {
                panic!("a hello is a hello");
            };
            cursor
        };
        for cursor in ["\"\"".to_owned(), format!("{:?}", "x".repeat(129)), format!("{:?}", "x".repeat(500))] {
            assert_eq!(read(&cursor).map(|cursor| cursor.to_string()).as_deref(), Some(UNKNOWN_CURSOR), "{cursor}");
        }
        assert_eq!(read("null"), None);
    }

    #[test]
    fn an_integer_may_be_written_as_any_number_that_is_one() {
        let read =
            |seq: &str| Request::decode(&format!(r#"{{"type":"message.read","conversation":"{MEMBER}","seq":{seq}}}"#));
        for (text, seq) in [("7.0", 7), ("7e0", 7), ("0.0", 0), ("-0.0", 0), ("-0", 0), ("1000000.0", 1_000_000)] {
            assert!(matches!(read(text).unwrap().frame, ClientFrame::MessageRead(read) if read.seq == seq), "{text}");
        }
        for text in ["1.5", "-1", "-1.0", "1e300", "9007199254740992.0", "\"7\"", "null"] {
            assert_eq!(read(text).unwrap_err().field.as_deref(), Some("seq"), "{text}");
        }
        let list = Request::decode(r#"{"type":"conversations.list","limit":10.0}"#).unwrap();
        assert_eq!(list.frame, ClientFrame::ConversationsList(ConversationsList { limit: Some(10), ..<_>::default() }));
        assert_eq!(refused(r#"{"type":"conversations.list","limit":1e9}"#).1.as_deref(), Some("limit"));
        let null = format!(r#"{{"type":"history.get","conversation":"{MEMBER}","before":null,"limit":null}}"#);
        assert!(Request::decode(&null).is_ok());
    }

    #[test]
    fn what_is_no_json_keeps_the_id_that_can_be_seen() {
        let error = Request::decode(r#"{"type":"ping","id":"r1""#).unwrap_err();
        assert_eq!((error.code, error.id.unwrap().as_str()), (ErrorCode::Malformed, "r1"));
        assert_eq!(Request::decode(r#"{"type":"ping","#).unwrap_err().id, None);
    }

    #[test]
    fn an_error_about_the_type_keeps_the_id() {
        for frame in [r#"{"id":"r1"}"#, r#"{"type":5,"id":"r1"}"#, r#"{"type":null,"x":{"id":"no"},"id":"r1"}"#] {
            let error = Request::decode(frame).unwrap_err();
            assert_eq!((error.field.as_deref(), error.id.unwrap().as_str()), (Some("type"), "r1"), "{frame}");
        }
    }

    /// Found from outside: `field` was missing, and the words were those of Rust.
    #[test]
    fn what_is_wrong_with_a_field_is_said_in_the_words_of_json() {
        let said = |frame: &str| {
            let error = Request::decode(frame).unwrap_err();
            (error.field.unwrap_or_default(), error.message)
        };
        for (frame, field, message) in [
            (r#"{"type":"presence.watch","members":{}}"#, "members", "members: must be an array, not an object"),
            (r#"{"type":"auth.renew","token":[]}"#, "token", "token: must be a string, not an array"),
            (r#"{"type":"auth.renew","token":"a","token":"b"}"#, "token", "token: given more than once"),
            (r#"{"type":"ping","type":"ping"}"#, "type", "type: given more than once"),
            (r#"{"type":"ping","id":"1","id":"2"}"#, "id", "id: given more than once"),
        ] {
            assert_eq!(said(frame), (field.to_owned(), message.to_owned()), "{frame}");
        }
    }

    #[test]
    fn the_id_of_a_refused_frame_is_found_without_decoding_it() {
        let id = |text: &str| crate::peek_id(text).map(|id| id.as_str().to_owned());
        let found = |text: &str| id(text).as_deref() == Some("r1");
        assert!(found(r#"{"type":"ping","id":"r1"}"#) && found(r#" { "id" : "r1" , "broken"#));
        assert!(found(r#"{"content":"\"id\":\"no\"","x":[{"id":"no"}],"id":"r1"}"#));
        assert!(found(r#"{"type":"id","n":1,"id":"r1"}"#), "a value is no name");
        // As every encoder may write it.
        assert!(found(r#"{"type":"ping","id":"\u0072\u0031"}"#));
        assert_eq!(id(r#"{"id":"\u0061\ud83d\ude00\"\/"}"#).as_deref(), Some("a😀\"/"));
        for none in ["", "{}", "nonsense", r#"{"id":5}"#, r#"{"id":""#, r#"{"x":{"id":"no"}}"#, r#"["id","no"]"#, "}"] {
            assert_eq!(id(none), None, "{none}");
        }
        let far = format!(r#"{{"content":"{}","id":"r1"}}"#, "é".repeat(600));
        assert_eq!(id(&far), None, "further back than is looked");
    }

    #[test]
    fn a_message_about_a_bad_field_does_not_repeat_all_of_it() {
        let platform = "x".repeat(10_000);
        let hello = format!(r#"{{"type":"hello","token":"t","device":{{"id":"d","platform":"{platform}"}}}}"#);
        assert!(refused(&hello).2.len() < 400);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let request = Request::decode(r#"{"future":{"a":[1]},"type":"ping","id":"r1"}"#).unwrap();
        assert_eq!(request.frame, ClientFrame::Ping(Ping {}));
    }
}
