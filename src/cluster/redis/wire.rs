//! The names of channels in Redis, and what is published there.

use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use protocol::MemberId;

use crate::cluster::{Beat, Channel, Event, NodeId};

/// The version of what is published: another one is passed over.
const EVENTS: u8 = 1;
/// The same of a beat.
const BEAT: u8 = 2;
/// Bytes of the longest name behind its prefix: a letter and an id.
const LONGEST: usize = 25;
/// Bytes before the events: version and node.
pub(super) const HEAD: usize = 13;

/// The names of the channels of one club.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    /// Those of a database: several clubs may share a Redis.
    pub(super) fn new(store: [u8; 8]) -> Self {
        Self { prefix: format!("members-book:{:016x}:", u64::from_be_bytes(store)) }
    }

    /// How all names begin.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of a channel.
    pub(super) fn of(&self, channel: Channel) -> String {
        let mut name = String::with_capacity(self.prefix.len() + LONGEST);
        name.push_str(&self.prefix);
        // Writing to a string cannot fail.
        let _ = match channel {
            Channel::Member(member) => write!(name, "m{member}"),
            Channel::Watchers(member) => write!(name, "w{member}"),
            Channel::Node(node) => write!(name, "n{node}"),
            Channel::Everybody => name.write_str("all"),
        };
        name
    }

    /// The channel of a name; nothing for one of somebody else.
    pub(super) fn channel(&self, name: &[u8]) -> Option<Channel> {
        let name = std::str::from_utf8(name.strip_prefix(self.prefix.as_bytes())?).ok()?;
        if name == "all" {
            return Some(Channel::Everybody);
        }
        let (kind, id) = name.split_at_checked(1)?;
        let id: MemberId = id.parse().ok()?;
        match kind {
            "m" => Some(Channel::Member(id)),
            "w" => Some(Channel::Watchers(id)),
            "n" => Some(Channel::Node(NodeId(*id.as_bytes()))),
            _ => None,
        }
    }
}

/// Begins what is published by a node: events follow.
pub(super) fn begin(node: NodeId) -> BytesMut {
    let mut payload = BytesMut::with_capacity(512);
    payload.put_u8(EVENTS);
    payload.put_slice(&node.0);
    payload
}

/// A beat as it is published.
pub(super) fn beat(node: NodeId, beat: &Beat) -> BytesMut {
    let mut payload = BytesMut::with_capacity(256);
    payload.put_u8(BEAT);
    payload.put_slice(&node.0);
    // Cannot fail: numbers and a flag.
    payload.put_slice(&serde_json::to_vec(beat).unwrap_or_default());
    payload
}

/// What was published.
pub(super) enum Published {
    /// Events, to be taken with [`Event::decode_next`].
    Events(Bytes),
    /// A beat.
    Beat(Beat),
}

/// Reads what a node has published; nothing if it is of another version.
pub(super) fn read(mut payload: Bytes) -> Option<(NodeId, Published)> {
    let rest = payload.split_off(HEAD.min(payload.len()));
    let (&version, node) = payload.split_first()?;
    let node = NodeId(node.try_into().ok()?);
    let published = match version {
        EVENTS => Published::Events(rest),
        BEAT => Published::Beat(serde_json::from_slice(&rest).ok()?),
        _ => return None,
    };
    Some((node, published))
}

/// Takes the events of what was published, in their order; nothing for one that this version does not know, or that is cut off.
pub(super) fn events(mut events: Bytes) -> impl Iterator<Item = Option<Event>> {
    std::iter::from_fn(move || {
        if events.is_empty() {
            return None;
        }
        Some(Event::decode_next(&mut events).unwrap_or_else(|| {
            events.clear();
            None
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::event::{Note, Relayed},
        position::{Epoch, Position, StreamPosition},
    };

    const NODE: NodeId = NodeId([7; 12]);

    #[test]
    fn a_name_leads_back_to_its_channel_in_its_own_club() {
        let (ours, theirs) = (Names::new([1; 8]), Names::new([2; 8]));
        let member = MemberId::from_bytes([9; 12]);
        for channel in [Channel::Member(member), Channel::Watchers(member), Channel::Node(NODE), Channel::Everybody] {
            let name = ours.of(channel);
            assert_eq!(ours.channel(name.as_bytes()), Some(channel));
            assert_eq!(theirs.channel(name.as_bytes()), None);
        }
        assert_eq!(ours.channel(format!("{}x", ours.prefix).as_bytes()), None);
    }

    #[test]
    fn what_is_published_is_read_and_what_is_newer_is_passed_over() {
        let (one, two) = (
            Event::Frame(Relayed { index: 1, entry: None, text: Bytes::from_static(b"{}") }),
            Event::from(Note::Met { members: Vec::new() }),
        );
        let mut payload = begin(NODE);
        [&one, &two].into_iter().for_each(|event| event.encode(&mut payload));
        let Some((NODE, Published::Events(read_back))) = read(payload.freeze()) else { panic!() };
        assert_eq!(events(read_back).collect::<Vec<_>>(), [Some(one.clone()), Some(two)]);
        let mut cut_off = BytesMut::new();
        [&one, &one].into_iter().for_each(|event| event.encode(&mut cut_off));
        cut_off.truncate(cut_off.len() - 1);
        assert_eq!(events(cut_off.freeze()).collect::<Vec<_>>(), [Some(one), None]);
        let sent = Beat::at(3, StreamPosition { epoch: Epoch([5; 8]), position: Position(42) });
        let Some((NODE, Published::Beat(beat_back))) = read(beat(NODE, &sent).freeze()) else { panic!() };
        assert_eq!(beat_back, sent);
        assert!(read(Bytes::from_static(b"\x09123456789012rest")).is_none() && read(Bytes::new()).is_none());
    }
}
