//! A message as it is sent.

use protocol::{ConversationId, MemberId, MessageId, rest::PushAddress};
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    push::{Notice, Parcel, What},
    store::push::{AddressHash, RegistrationId},
};

/// Longest message in JSON, in bytes.
pub(super) const MAX_BYTES: usize = 4_096;
/// Longest text that is shown, in characters: no lock screen shows more.
const BODY_MAX_CHARS: usize = 1_000;
/// The channel of Android that messages are shown in; the app makes it.
const CHANNEL: &str = "messages";

/// A message.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    pub(super) to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    data: Data,
    badge: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    sound: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_id: Option<&'static str>,
    priority: &'static str,
    ttl: u64,
    /// What is pushed later with the same one takes its place, on iOS.
    collapse_id: String,
    /// The same on Android.
    tag: String,
    #[serde(rename = "_contentAvailable", skip_serializing_if = "Option::is_none")]
    content_available: Option<bool>,
    #[serde(skip)]
    pub(super) hash: AddressHash,
    #[serde(skip)]
    pub(super) registration: RegistrationId,
    #[serde(skip)]
    pub(super) composed: Instant,
    /// Whose device it is for.
    #[serde(skip)]
    pub(super) member: MemberId,
    #[serde(skip)]
    without_text: Option<String>,
}

/// What the app reads.
#[derive(Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Data {
    /// There are messages.
    Message {
        #[serde(skip_serializing_if = "Option::is_none")]
        conversation: Option<ConversationId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<MessageId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        sender: Option<MemberId>,
    },
    /// Only the number at the icon has changed.
    Badge { unread: u32 },
}

impl Message {
    pub(super) fn new(parcel: Parcel) -> Self {
        let Parcel { member, address, registration, what, badge, ttl, composed } = parcel;
        let hash = AddressHash::of(&address);
        let to = match address {
            PushAddress::Expo { token } => token,
            PushAddress::Web { .. } => String::new(),
        };
        match what {
            What::Badge => Self {
                to,
                title: None,
                body: None,
                data: Data::Badge { unread: badge },
                badge,
                sound: None,
                channel_id: None,
                // A silent one of a higher priority is held against the app.
                priority: "normal",
                ttl: ttl.as_secs(),
                collapse_id: "badge".to_owned(),
                tag: "badge".to_owned(),
                content_available: Some(true),
                hash,
                registration,
                composed,
                member,
                without_text: None,
            },
            What::Messages(notice) => {
                Self::of_notice(to, (hash, registration, composed, member), *notice, (badge, ttl.as_secs()))
            }
        }
    }

    fn of_notice(
        to: String,
        (hash, registration, composed, to_member): (AddressHash, RegistrationId, Instant, MemberId),
        notice: Notice,
        (badge, ttl): (u32, u64),
    ) -> Self {
        let topic = notice.topic_name();
        let Notice { conversation, seq, message, title, body, without_text, .. } = notice;
        // The id of a conversation is a hash of its members: where nothing is to be known of a message, that is not either.
        let known = message.is_some().then_some((conversation, seq));
        let tag = known.map_or(topic, |(conversation, _)| conversation.to_string());
        let ((conversation, seq), (message_id, sender)) = (known.unzip(), message.unzip());
        let mut message = Self {
            to,
            title,
            without_text: (without_text != body).then_some(without_text),
            body: Some(first_chars(body, BODY_MAX_CHARS)),
            data: Data::Message { conversation, seq, message_id, sender },
            badge,
            sound: Some("default"),
            channel_id: Some(CHANNEL),
            priority: "high",
            ttl,
            collapse_id: tag.clone(),
            tag,
            content_available: None,
            hash,
            registration,
            composed,
            member: to_member,
        };
        message.fit();
        message
    }

    /// Cuts the text until the message is not too long.
    fn fit(&mut self) {
        let over = serde_json::to_vec(self).map_or(0, |json| json.len()).saturating_sub(MAX_BYTES);
        if over > 0
            && let Some(body) = self.body.take()
        {
            let mut saved = 0;
            let is_cut = |(_, char): &(usize, char)| {
                let is_enough = saved >= over + ELLIPSIS.len();
                saved += bytes_in_json(*char);
                is_enough
            };
            let end = body.char_indices().rev().find(is_cut).map_or(0, |(place, char)| place + char.len_utf8());
            self.body = Some(cut(body, end));
        }
    }

    /// The same message without the text of what was written; nothing if it has none.
    pub(super) fn without_text(&self) -> Option<Self> {
        let body = self.without_text.clone()?;
        Some(Self { body: Some(body), without_text: None, ..self.clone() })
    }
}

/// What ends a text that was cut.
const ELLIPSIS: &str = "…";

/// So many characters of a text at most, and an ellipsis if it is cut.
fn first_chars(text: String, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text,
        Some((end, _)) => cut(text, end),
    }
}

/// A text up to the beginning of one of its characters, and an ellipsis.
fn cut(mut text: String, end: usize) -> String {
    text.truncate(end);
    text.push_str(ELLIPSIS);
    text
}

/// How many bytes a character has in JSON, as this server writes it.
const fn bytes_in_json(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\u{0}'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn notice(body: &str) -> Parcel {
        let conversation = ConversationId::from_bytes([1; 12]);
        let message = Some((MessageId::from_bytes([2; 12]), MemberId::from_bytes([3; 12])));
        let (title, body) = (Some("Ana".to_owned()), body.to_owned());
        let without_text = "New message".to_owned();
        let notice = Notice { conversation, topic: [9; 16], seq: 7, message, title, body, without_text };
        let address = PushAddress::Expo { token: "ExponentPushToken[x]".to_owned() };
        let (member, composed) = (MemberId::from_bytes([9; 12]), Instant::now());
        Parcel {
            member,
            composed,
            address,
            registration: RegistrationId::default(),
            what: What::Messages(Box::new(notice)),
            badge: 4,
            ttl: Duration::from_secs(60),
        }
    }

    fn written(message: &Message) -> Value {
        serde_json::to_value(message).unwrap()
    }

    #[test]
    fn a_message_says_what_the_app_needs_and_is_replaced_by_the_next_of_its_conversation() {
        let conversation = "010101010101010101010101";
        assert_eq!(
            written(&Message::new(notice("Hello"))),
            json!({
                "to": "ExponentPushToken[x]", "title": "Ana", "body": "Hello", "badge": 4, "sound": "default",
                "channelId": "messages", "priority": "high", "ttl": 60, "collapseId": conversation, "tag": conversation,
                "data": {
                    "kind": "message", "conversation": conversation, "seq": 7,
                    "message_id": "020202020202020202020202", "sender": "030303030303030303030303",
                },
            })
        );
    }

    #[test]
    fn a_badge_is_silent() {
        let parcel = Parcel { what: What::Badge, badge: 0, ..notice("") };
        let written = written(&Message::new(parcel));
        assert_eq!((&written["_contentAvailable"], &written["badge"]), (&json!(true), &json!(0)));
        assert!(written.get("title").is_none() && written.get("body").is_none() && written.get("sound").is_none());
    }

    #[test]
    fn a_long_text_is_cut_in_whole_characters_until_the_message_fits() {
        for text in ["x", "é", "😀", "\u{1}", "\""] {
            let message = Message::new(notice(&text.repeat(4_000)));
            let bytes = serde_json::to_vec(&message).unwrap().len();
            assert!(bytes <= MAX_BYTES, "{text:?}: {bytes}");
            let body = message.body.unwrap();
            assert!(body.ends_with('…') && body.chars().count() <= BODY_MAX_CHARS + 1, "{text:?}");
            assert!(body.chars().count() > 400, "{text:?}: {}", body.chars().count());
        }
    }

    #[test]
    fn what_is_too_long_for_a_service_can_be_said_without_its_text_once() {
        let shorter = Message::new(notice("Hello")).without_text().unwrap();
        assert_eq!(shorter.body.as_deref(), Some("New message"));
        assert!(shorter.without_text().is_none());
    }
}
