//! What crosses nodes, and its form on the bus.
//!
//! An event is a kind, a length and a body, so that a node passes over what a newer one says, and knows that it does: it sweeps
//! then. The frames of clients go as they are, encoded once for all connections of all nodes; everything else is rare, and
//! is JSON.

use std::net::IpAddr;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use protocol::{
    ConnectionId, ConversationId, DeviceId, MemberId, SessionId, Timestamp,
    model::DeviceStatus,
    rest::{Audience, NodeStats},
};
use serde::{Deserialize, Serialize};

/// The kind of [`Event::Frame`].
const FRAME: u8 = 1;
/// The kind of [`Event::Note`].
const NOTE: u8 = 2;
/// The kind of [`Event::Frame`] that tells of an entry. A new form is a new kind: 3 was one of before.
const ENTRY: u8 = 4;
/// Bytes of the place of an entry: conversation, number, time, sender.
const PLACE: usize = 40;
/// In the place of a sender, if there is none.
const NOBODY: MemberId = MemberId::from_bytes([0; 12]);
/// Bytes before a body: kind and length.
const HEAD: usize = 5;

/// Something that other nodes are to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A frame for every connection of the member of the channel, or for those who watch them.
    Frame(Relayed),
    /// Anything else.
    Note(Box<Note>),
}

/// A frame of the protocol of clients, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// The place of its type in `ServerFrame::TYPES`, for the metrics.
    pub index: u8,
    /// The entry of a log that it tells of, if it does.
    pub entry: Option<EntryPlace>,
    /// The frame: UTF-8.
    pub text: Bytes,
}

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPlace {
    /// The conversation.
    pub conversation: ConversationId,
    /// The number of the entry.
    pub seq: u64,
    /// When it was stored.
    pub at: Timestamp,
    /// Who sent it over a connection: nodes that they are connected to count it for their limit.
    pub sender: Option<MemberId>,
}

/// What is said between nodes beside frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// Members have a conversation with each other from now on.
    Met {
        /// They.
        members: Vec<MemberId>,
    },
    /// Connections of the member of the channel close: those of one session, which is over, or all.
    Close {
        /// The session.
        session: Option<SessionId>,
        /// The close code.
        code: u16,
    },
    /// A device of the member of the channel has connected: an older connection of the same device closes.
    DeviceConnected {
        /// The device.
        device: DeviceId,
        /// Its connection.
        connection: ConnectionId,
        /// When, by the clock of the node that says so.
        at: Timestamp,
    },
    /// The same device is connected still, since then: said again after a time in which others may not have heard it.
    DeviceIsThere {
        /// The device.
        device: DeviceId,
        /// Its connection.
        connection: ConnectionId,
        /// When it was made, by the clock of the node that says so.
        at: Timestamp,
    },
    /// The answer of a node that has a later connection of the device that has connected to the node of the channel.
    DeviceIsElsewhere {
        /// The member.
        member: MemberId,
        /// The device.
        device: DeviceId,
        /// Its connection.
        connection: ConnectionId,
        /// When, by the clock of the node that says so.
        at: Timestamp,
    },
    /// How many connections a member has at the node that says so that are earlier than one at the node of the channel.
    ConnectionCount {
        /// The member.
        member: MemberId,
        /// The one.
        connection: ConnectionId,
        /// How many.
        count: u32,
    },
    /// Somebody has begun to watch the member of the channel: whoever has them connected says how they are.
    PresenceAsked,
    /// Whether devices of these members are connected still to the node of the channel is not certain: it says how each of them
    /// is, or that none is.
    PresenceDoubted {
        /// They.
        members: Vec<MemberId>,
    },
    /// What a node has to say of the presence of the member of the channel.
    Presence {
        /// What the devices that are connected to the node show; nothing: none is connected to it any more.
        status: Option<DeviceStatus>,
        /// When the last of them was, if none is connected. With a status as well: that is what they showed, and it holds until they
        /// had time to come back, while no other device of the member shows anything.
        last_seen: Option<Timestamp>,
    },
    /// The presence of the member of the channel is for others than before.
    Audience {
        /// The version of the profile that says so.
        version: u64,
        /// For whom.
        audience: Audience,
    },
    /// A question to all nodes, to be answered on the channel of the node that asks.
    Ask {
        /// The number of the question.
        number: u64,
        /// What.
        question: Question,
    },
    /// The answer of one node to a question.
    Answer {
        /// The number of the question.
        number: u64,
        /// What it has to say.
        answer: Answer,
    },
    /// The profile of a member has changed: what is remembered of them is not so any more.
    ProfileChanged {
        /// The member.
        member: MemberId,
        /// When: what others were to be told that is older is not told.
        at: Timestamp,
    },
    /// The devices of a member that are registered for pushes, or what they show, are not what others may remember.
    PushDevices {
        /// The member.
        member: MemberId,
    },
    /// A member is kept out for a while.
    KeptOut {
        /// The member.
        member: MemberId,
        /// For how long, in milliseconds.
        wait_ms: u64,
    },
    /// The node has allowed something of which there is so much in the whole club.
    Spent {
        /// What, and by whom.
        by: Spent,
    },
    /// A [`Spent::Guess`] does not count after all.
    GivenBack {
        /// The hash of whose allowance that is.
        allowance: u64,
    },
    /// The right password was given, or another one set: wrong ones of before do not count any more.
    Forgiven {
        /// The hash of whose allowance that is.
        allowance: u64,
    },
}

/// What is limited for all nodes together, and who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spent {
    /// A member sent a message over REST. Others are heard of as entries.
    Message(MemberId),
    /// A member began a conversation.
    Beginning(MemberId),
    /// A member changed their profile.
    Profile(MemberId),
    /// A member refreshed tokens.
    Refresh(MemberId),
    /// Somebody tried to log in from an address.
    Login(IpAddr),
    /// Somebody registered from an address.
    Registration(IpAddr),
    /// Somebody tries a password or a code, by the hash of whose allowance that is.
    Guess(u64),
}

/// What a node asks all others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "snake_case")]
pub enum Question {
    /// How many connections each of these members has.
    Connections {
        /// They.
        members: Vec<MemberId>,
    },
    /// How it is.
    Stats,
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// How many connections the members have that were asked for, in their order.
    Connections {
        /// How many.
        counts: Vec<u32>,
    },
    /// How it is.
    Stats(Box<NodeStats>),
}

impl Event {
    /// Its kind, for the metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Frame(_) => "frame",
            Self::Note(note) => match **note {
                Note::Met { .. } => "met",
                Note::Close { .. } => "close",
                Note::DeviceConnected { .. } => "device_connected",
                Note::DeviceIsThere { .. } => "device_is_there",
                Note::DeviceIsElsewhere { .. } => "device_is_elsewhere",
                Note::ConnectionCount { .. } => "connection_count",
                Note::PresenceAsked => "presence_asked",
                Note::PresenceDoubted { .. } => "presence_doubted",
                Note::Presence { .. } => "presence",
                Note::Audience { .. } => "audience",
                Note::Ask { .. } => "ask",
                Note::Answer { .. } => "answer",
                Note::ProfileChanged { .. } => "profile_changed",
                Note::PushDevices { .. } => "push_devices",
                Note::KeptOut { .. } => "kept_out",
                Note::Spent { .. } => "spent",
                Note::GivenBack { .. } => "given_back",
                Note::Forgiven { .. } => "forgiven",
            },
        }
    }

    /// Appends it in the form of the bus.
    pub fn encode(&self, to: &mut BytesMut) {
        match self {
            Self::Frame(Relayed { index, entry: None, text }) => {
                put_head(to, FRAME, text.len() + 1);
                to.put_u8(*index);
                to.put_slice(text);
            }
            Self::Frame(Relayed { index, entry: Some(entry), text }) => {
                put_head(to, ENTRY, text.len() + 1 + PLACE);
                to.put_u8(*index);
                to.put_slice(entry.conversation.as_bytes());
                to.put_u64(entry.seq);
                to.put_i64(entry.at.as_millis());
                to.put_slice(entry.sender.unwrap_or(NOBODY).as_bytes());
                to.put_slice(text);
            }
            Self::Note(note) => {
                // Cannot fail: no map has keys that are no strings.
                let json = serde_json::to_vec(note).unwrap_or_default();
                put_head(to, NOTE, json.len());
                to.put_slice(&json);
            }
        }
    }

    /// Takes the next event off what was encoded: `None` at the end, or when what follows is no event.
    /// `Some(None)`: one that this version does not know.
    pub fn decode_next(from: &mut Bytes) -> Option<Option<Self>> {
        if from.len() < HEAD {
            return None;
        }
        let (kind, length) = (from.get_u8(), usize::try_from(from.get_u32()).ok()?);
        if from.len() < length {
            return None;
        }
        let mut body = from.split_to(length);
        Some(match kind {
            FRAME if !body.is_empty() => {
                let index = body.get_u8();
                Self::frame(index, None, body)
            }
            ENTRY if body.len() > PLACE => {
                let index = body.get_u8();
                let (mut conversation, mut sender) = ([0; 12], [0; 12]);
                body.copy_to_slice(&mut conversation);
                let conversation = ConversationId::from_bytes(conversation);
                let (seq, at) = (body.get_u64(), Timestamp::from_millis(body.get_i64()));
                body.copy_to_slice(&mut sender);
                let sender = Some(MemberId::from_bytes(sender)).filter(|sender| *sender != NOBODY);
                Self::frame(index, Some(EntryPlace { conversation, seq, at, sender }), body)
            }
            NOTE => serde_json::from_slice(&body).ok().map(|note| Self::Note(Box::new(note))),
            _ => None,
        })
    }

    fn frame(index: u8, entry: Option<EntryPlace>, text: Bytes) -> Option<Self> {
        std::str::from_utf8(&text).is_ok().then_some(Self::Frame(Relayed { index, entry, text }))
    }

    /// How many bytes [`Self::encode`] appends, about.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Frame(Relayed { text, .. }) => HEAD + 1 + PLACE + text.len(),
            Self::Note(note) => match &**note {
                Note::Met { members }
                | Note::PresenceDoubted { members }
                | Note::Ask { question: Question::Connections { members }, .. } => 256 + members.len() * 32,
                Note::Answer { answer: Answer::Connections { counts }, .. } => 256 + counts.len() * 8,
                Note::Answer { answer: Answer::Stats(_), .. } => 1_024,
                _ => 256,
            },
        }
    }
}

impl From<Note> for Event {
    fn from(note: Note) -> Self {
        Self::Note(Box::new(note))
    }
}

fn put_head(to: &mut BytesMut, kind: u8, length: usize) {
    to.reserve(HEAD + length);
    to.put_u8(kind);
    // A frame has 256 KiB at most, and a note less.
    to.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: MemberId = MemberId::from_bytes([1; 12]);

    fn frame(text: &'static str) -> Event {
        Event::Frame(Relayed { index: 3, entry: None, text: Bytes::from_static(text.as_bytes()) })
    }

    fn decoded(mut bytes: Bytes) -> Vec<Option<Event>> {
        std::iter::from_fn(|| Event::decode_next(&mut bytes)).collect()
    }

    #[test]
    fn what_is_encoded_is_decoded_in_its_order() {
        let entry = EntryPlace {
            conversation: ConversationId::from_bytes([5; 12]),
            seq: 7,
            at: Timestamp::from_millis(1_700_000_000_000),
            sender: Some(ANA),
        };
        let events = [
            frame(r#"{"type":"entry"}"#),
            Event::Frame(Relayed { index: 2, entry: Some(entry), text: Bytes::from_static(b"{}") }),
            Note::Met { members: vec![ANA] }.into(),
            frame("{}"),
            Note::Close { session: None, code: 4403 }.into(),
            Note::DeviceConnected {
                device: "phone".parse().unwrap(),
                connection: ConnectionId::from_bytes([7; 12]),
                at: Timestamp::from_millis(7),
            }
            .into(),
            Note::Presence { status: Some(DeviceStatus::Away), last_seen: None }.into(),
            Note::Ask { number: 1, question: Question::Connections { members: vec![ANA] } }.into(),
            Note::Spent { by: Spent::Refresh(ANA) }.into(),
            Note::Spent { by: Spent::Login([127, 0, 0, 1].into()) }.into(),
            Note::GivenBack { allowance: 7 }.into(),
            Note::Forgiven { allowance: u64::MAX }.into(),
        ];
        let mut encoded = BytesMut::new();
        events.iter().for_each(|event| event.encode(&mut encoded));
        assert_eq!(decoded(encoded.freeze()), events.map(Some));
    }

    /// Nodes of two versions talk while one follows the other: what has changed here needs a kind, or a name, of its own.
    #[test]
    fn the_form_is_what_it_was() {
        let entry = EntryPlace {
            conversation: ConversationId::from_bytes([5; 12]),
            seq: 7,
            at: Timestamp::from_millis(0x0102),
            sender: Some(ANA),
        };
        let events: [Event; 3] = [
            Event::Frame(Relayed { index: 3, entry: None, text: Bytes::from_static(b"{}") }),
            Event::Frame(Relayed { index: 2, entry: Some(entry), text: Bytes::from_static(b"{}") }),
            Note::Close { session: None, code: 4403 }.into(),
        ];
        let mut encoded = BytesMut::new();
        events.iter().for_each(|event| event.encode(&mut encoded));
        let mut expected = b"\x01\0\0\0\x03\x03{}".to_vec();
        expected.extend(b"\x04\0\0\0\x2b\x02\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05\x05");
        expected.extend(b"\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\x01\x02");
        expected.extend(b"\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01{}");
        expected.extend(b"\x02\0\0\0\x2b{\"note\":\"close\",\"session\":null,\"code\":4403}");
        assert_eq!(encoded, expected);
    }

    #[test]
    fn what_a_newer_node_says_is_passed_over_and_what_is_cut_off_ends_it() {
        let mut encoded = BytesMut::new();
        put_head(&mut encoded, 99, 3);
        encoded.put_slice(b"abc");
        put_head(&mut encoded, NOTE, 21);
        encoded.put_slice(br#"{"note":"from_future"}"#.get(..21).unwrap());
        frame("{}").encode(&mut encoded);
        put_head(&mut encoded, FRAME, 2);
        encoded.put_slice(&[0, 0xff]);
        put_head(&mut encoded, FRAME, 100);
        encoded.put_slice(b"short");
        assert_eq!(decoded(encoded.freeze()), [None, None, Some(frame("{}")), None]);
    }
}
