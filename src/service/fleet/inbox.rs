//! What other nodes publish, delivered here. Called by the bus, in its order, and never waits.

use protocol::{CloseCode, ConnectionId, DeviceId, MemberId};

use super::Fleet;
use crate::{
    cluster::{
        Beat, Channel, Event, Inbox, Loss, NodeId,
        event::{EntryPlace, Note},
    },
    hub::{Close, Frame},
};

/// When to come back for whom there are too many connections of one member, in milliseconds.
const TOO_MANY_WAIT_MS: u64 = 60_000;

impl Inbox for Fleet {
    fn event(&self, from: NodeId, channel: Channel, event: Event) {
        match (channel, event) {
            (Channel::Member(member), Event::Frame(frame)) => {
                if let Some(EntryPlace { conversation, seq, at }) = frame.entry {
                    self.parts.log.told(conversation, seq, seq, at);
                    if !self.parts.delivered.first(conversation, member, seq) {
                        return;
                    }
                }
                let Some(frame) = Frame::of_another_node(frame) else { return };
                self.parts.hub.deliver(member, || frame.clone(), None);
            }
            (Channel::Watchers(member), Event::Frame(frame)) => self.parts.watching.heard_frame(member, frame),
            (Channel::Member(member) | Channel::Watchers(member), Event::Note(note)) => self.note(from, member, &note),
            (Channel::Node(_) | Channel::Everybody, Event::Note(note)) => self.say(from, &note),
            (Channel::Node(_) | Channel::Everybody, Event::Frame(_)) => {}
        }
    }

    fn beat(&self, link: usize, from: NodeId, beat: Beat) {
        self.change(|roster, now| roster.beat(link, from, beat, now));
    }

    fn up(&self, link: usize) {
        tracing::info!(link, "the bus is reached");
        self.change(|roster, now| roster.up(link, now));
    }

    fn lost(&self, link: usize, loss: Loss) {
        tracing::warn!(link, ?loss, "the bus has lost something, or is away");
        self.change(|roster, now| roster.lost(link, loss, now));
    }
}

impl Fleet {
    /// What is said about a member.
    fn note(&self, from: NodeId, member: MemberId, note: &Note) {
        match note {
            Note::Close { session, code } => {
                let Some(code) = CloseCode::from_number(*code) else { return };
                self.parts.effects.close_here(member, *session, code);
            }
            Note::DeviceConnected { device, connection } => {
                self.device_connected(from, member, device, *connection);
            }
            _ => self.parts.watching.heard(from, member, note),
        }
    }

    /// What is said to this node, or to all.
    fn say(&self, _from: NodeId, note: &Note) {
        if let Note::PresenceDoubted { members } = note {
            self.parts.watching.doubted(members);
        }
        if let Note::ConnectionCount { member, count } = note {
            let here = self.parts.hub.connections_of(*member).len();
            let elsewhere = usize::try_from(*count).unwrap_or(usize::MAX);
            if here.saturating_add(elsewhere) > self.parts.max_per_member {
                let retry_after_ms = Some(TOO_MANY_WAIT_MS);
                let close = Close { code: CloseCode::TooMuch, retry_after_ms };
                self.parts.hub.close_newest(|connection| connection.member == *member, close);
            }
        }
    }

    /// A device has connected elsewhere: what it has here is replaced, and the other node hears how many connections the member
    /// has here.
    fn device_connected(&self, from: NodeId, member: MemberId, device: &DeviceId, connection: ConnectionId) {
        let left = self.parts.hub.replaced_elsewhere(member, device, connection, self.parts.clock.now());
        if left > 0 {
            let count = u32::try_from(left).unwrap_or(u32::MAX);
            self.parts.uplink.publish(Channel::Node(from), || Note::ConnectionCount { member, count }.into());
        }
    }
}
