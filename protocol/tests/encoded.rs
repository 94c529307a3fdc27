//! What is written and read the short way is what the general way writes and reads.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use proptest::prelude::*;
use protocol::{
    ClientMessageId, ConversationId, Envelope, MemberId, MessageId, Request, RequestId, ServerFrame, Timestamp,
    encoded,
    limits::INTEGER_MAX,
    model::{ConversationInfo, ConversationKind, Entry, Message},
    server::{EntryPush, MessageAccepted},
};
use serde_json::{Map, Value};

fn ids() -> impl Strategy<Value = Option<RequestId>> {
    let id = "[\\x01-\\x7f\u{e9}\u{1f600}]{1,64}".prop_map(|id| id.parse().unwrap());
    prop::option::of(id)
}

fn conversations() -> impl Strategy<Value = Option<ConversationInfo>> {
    let members = prop::collection::vec(any::<[u8; 12]>().prop_map(MemberId::from_bytes), 0..4);
    prop::option::of(members.prop_map(|members| ConversationInfo { kind: ConversationKind::Direct, members }))
}

prop_compose! {
    fn messages()(
        (id, conversation, sender, client_id) in any::<([u8; 12], [u8; 12], [u8; 12], [u8; 16])>(),
        (seq, content, at) in (1..=INTEGER_MAX, prop_oneof![any::<String>(), "[ -~é]{0,300}"], 0_i64..250_000_000_000_000),
        reply_to in prop::option::of(1..=INTEGER_MAX),
    ) -> Message {
        Message {
            id: MessageId::from_bytes(id),
            conversation: ConversationId::from_bytes(conversation),
            seq,
            sender: MemberId::from_bytes(sender),
            client_id: ClientMessageId::from_bytes(client_id),
            content,
            at: Timestamp::from_millis(at),
            reply_to,
        }
    }
}

/// A frame by serde_json's own values: what a reader of JSON makes of it.
fn value(frame_type: &str, id: Option<&RequestId>, body: &impl serde::Serialize) -> Value {
    let mut frame = Map::new();
    frame.insert("type".to_owned(), frame_type.into());
    frame.extend(id.map(|id| ("id".to_owned(), id.as_str().into())));
    let Value::Object(body) = serde_json::to_value(body).unwrap() else { panic!() };
    frame.extend(body);
    Value::Object(frame)
}

proptest! {
    /// An acknowledgement and a push that share their bytes are those that are written each on its own.
    #[test]
    fn a_message_that_is_encoded_once_is_the_same_in_both_frames(
        message in messages(), conversation in conversations(), id in ids(), duplicate: bool,
    ) {
        let push = EntryPush { entry: Entry::Message(message.clone()), conversation };
        let (text, place) = encoded::entry(&push);
        prop_assert_eq!(&text, &ServerFrame::EntryPush(push.clone()).encode(None));
        prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value("entry", None, &push));
        let accepted = MessageAccepted { message, duplicate };
        let shared = encoded::accepted(id.as_ref(), &text[place], duplicate);
        prop_assert_eq!(serde_json::from_str::<Value>(&shared).unwrap(), value("message.accepted", id.as_ref(), &accepted));
        let accepted = ServerFrame::MessageAccepted(accepted);
        prop_assert_eq!(&shared, &accepted.encode(id.as_ref()));
        prop_assert_eq!(Envelope::decode(&shared).unwrap(), Envelope { id, frame: accepted });
    }

    /// Where the type and the id stand among the fields makes no difference, nor does what is twice or unknown: the frame is the
    /// same, or so is the error.
    #[test]
    fn the_order_of_fields_makes_no_difference(
        fields in prop::sample::subsequence(FIELDS.to_vec(), 0..=FIELDS.len()).prop_shuffle(),
    ) {
        let written = |fields: &[&str]| format!("{{{}}}", fields.join(","));
        let decoded = Request::decode(&written(&fields));
        // With the type at the end no frame is read in one pass.
        let mut late = fields.clone();
        late.sort_by_key(|field| field.starts_with("\"type\""));
        let expected = Request::decode(&written(&late));
        match (decoded, expected) {
            (Ok(one), Ok(other)) => prop_assert_eq!(one, other),
            (Err(one), Err(other)) => prop_assert_eq!((one.id.is_some(), one.code), (other.id.is_some(), other.code)),
            (one, other) => prop_assert!(false, "{one:?} {other:?}"),
        }
    }
}

const FIELDS: &[&str] = &[
    r#""type":"message.send""#,
    r#""type":"ping""#,
    r#""id":"r1""#,
    r#""\u0069d":"r2""#,
    r#""id":null"#,
    r#""to":"0123456789abcdef01234567""#,
    r#""conversation":"0123456789abcdef01234567""#,
    r#""client_id":"01890a5d-ac96-774b-bcce-b302099a8057""#,
    r#""content":"a \"quoted\" \u00e9""#,
    r#""reply_to":5"#,
    r#""future":{"type":[1],"id":2}"#,
];
