//! What other nodes publish, delivered here. Called by the bus, in its order, and never waits.

use std::{sync::Arc, time::Duration};

use protocol::{CloseCode, ConnectionId, DeviceId, ErrorCode, MemberId, ServerFrame, server::Error};
use tokio::time::Instant;

use super::Fleet;
use crate::{
    cluster::{
        Beat, Channel, Event, Inbox, Loss, NodeId,
        event::{EntryPlace, Note},
    },
    hub::{Close, Connection, Delivery, Frame, JUST_NOW, Opened},
};

/// When to come back for whom there are too many connections of one member, in milliseconds.
const TOO_MANY_WAIT_MS: u64 = 60_000;
/// The longest that another node may have a member kept out, in milliseconds.
const KEPT_OUT_MAX_MS: u64 = 60_000;
/// The same for whom another node has a connection of the same device that seems to be later, in milliseconds.
const COME_BACK_MS: u64 = 1_000;

impl Inbox for Fleet {
    fn hears(&self, from: NodeId, events: bool) -> bool {
        let hears = self.roster().hears(from, events, Instant::now());
        if !hears {
            self.parts.metrics.bus_strangers.inc();
        }
        hears
    }

    fn event(&self, from: NodeId, channel: Channel, event: Event) {
        match (channel, event) {
            (Channel::Member(member), Event::Frame(frame)) => {
                if let Some(EntryPlace { conversation, seq, sender, .. }) = frame.entry {
                    if sender == Some(member) {
                        self.parts.limits.messages.taken_elsewhere(&member);
                    }
                    self.parts.log.told(conversation, seq, seq);
                    let is_first = self.parts.delivered.first(conversation, member, seq);
                    // Not before: who finds it in the log in between waits for its author.
                    self.parts.awaited.heard((conversation, seq));
                    if !is_first {
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

    fn late(&self, link: usize, is_late: bool) {
        tracing::debug!(link, is_late, "the bus is late, or in time again");
        self.change(|roster, now| roster.late(link, is_late, now));
    }

    fn lost(&self, link: usize, loss: Loss) {
        if loss == Loss::Unknown {
            tracing::debug!(link, "another node says what this version does not know");
        } else {
            tracing::warn!(link, ?loss, "the bus has lost something, or is away");
        }
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
            // What comes in a doubt may come late: that it comes now says nothing of what was first.
            Note::DeviceConnected { device, connection, at } if self.roster().is_in_doubt() => {
                self.device_is_there(from, member, device, (*at, *connection));
            }
            Note::DeviceConnected { device, connection, at } => {
                self.device_connected(from, member, device, (*at, *connection));
            }
            Note::DeviceIsThere { device, connection, at } => {
                self.device_is_there(from, member, device, (*at, *connection));
            }
            _ => {
                self.parts.watching.heard(from, member, note);
                // It is gone, and said this before: it holds for a grace period.
                if matches!(note, Note::Presence { .. }) && !self.roster().knows(from) {
                    self.parts.watching.node_gone(from);
                }
            }
        }
    }

    /// What is said to this node, or to all.
    fn say(&self, from: NodeId, note: &Note) {
        match note {
            Note::PresenceDoubted { members } => self.parts.watching.doubted(members),
            Note::ConnectionCount { member, connection, count } => self.counted(from, *member, *connection, *count),
            Note::DeviceIsElsewhere { member, device, connection, at } => {
                self.device_is_elsewhere(*member, device, (*at, *connection));
            }
            Note::Ask { number, question } => self.asked(from, *number, question),
            Note::Answer { number, answer } => self.questions.answer(*number, from, answer),
            Note::ProfileChanged { member, at } => {
                self.parts.store.forget_member(*member);
                self.parts.effects.announcements.supersede(*member, *at);
            }
            Note::PushDevices { member } => self.parts.push.changed_elsewhere(*member),
            Note::KeptOut { member, wait_ms } => {
                self.parts.hellos.keep_out(*member, Duration::from_millis((*wait_ms).min(KEPT_OUT_MAX_MS)));
            }
            Note::Spent { by } => self.parts.limits.spent(*by),
            Note::GivenBack { allowance } => self.parts.limits.given_back(*allowance),
            Note::Forgiven { allowance } => self.parts.limits.forgiven(*allowance),
            _ => {}
        }
    }

    /// How many connections a member has at another node that are earlier than one here.
    fn counted(&self, from: NodeId, member: MemberId, connection: ConnectionId, count: u32) {
        let connections = self.parts.hub.connections_of(member);
        let Some(one) = connections.iter().find(|known| known.id == connection) else { return };
        let is_earlier = |known: &&Arc<Connection>| (known.opened_at(), known.id) <= (one.opened_at(), one.id);
        let here = connections.iter().filter(|known| known.outbox.closing().is_none()).filter(is_earlier).count();
        let elsewhere = self.counts.hear(connection, from, count, Instant::now());
        if here.saturating_add(usize::try_from(elsewhere).unwrap_or(usize::MAX)) > self.parts.max_per_member {
            let close = Close { code: CloseCode::TooMuch, retry_after_ms: Some(TOO_MANY_WAIT_MS) };
            one.outbox.push(Delivery::Event(too_many()));
            one.outbox.close(close);
        }
    }

    /// A device has connected elsewhere: what it has here is replaced, or the other node hears that it is not. That also hears how
    /// many connections the member has here.
    fn device_connected(&self, from: NodeId, member: MemberId, device: &DeviceId, opened: Opened) {
        let (_, connection) = opened;
        let close = Close::with(CloseCode::Replaced);
        let here = self.parts.hub.replaced_elsewhere(member, device, opened, self.parts.clock.now(), close);
        let answer = |note| self.parts.uplink.publish(Channel::Node(from), || Event::from(note));
        if let Some((at, connection)) = here.later {
            answer(Note::DeviceIsElsewhere { member, device: device.clone(), connection, at });
        }
        if here.earlier > 0 {
            let count = u32::try_from(here.earlier).unwrap_or(u32::MAX);
            answer(Note::ConnectionCount { member, connection, count });
        }
    }

    /// A device is connected elsewhere, since then. If it is here too, the earlier one of both closes.
    fn device_is_there(&self, from: NodeId, member: MemberId, device: &DeviceId, (at, connection): Opened) {
        let connections = self.parts.hub.connections_of(member);
        let here = connections.iter().find(|known| known.device == *device && known.outbox.closing().is_none());
        match here {
            Some(here) if (here.opened_at(), here.id) > (at, connection) => {
                let (device, at, connection) = (device.clone(), here.opened_at(), here.id);
                let note = Note::DeviceIsElsewhere { member, device, connection, at };
                self.parts.uplink.publish(Channel::Node(from), || note.into());
            }
            _ => self.device_connected(from, member, device, (at, connection)),
        }
    }

    /// A device that is connected here has a connection elsewhere that is later, by the clocks of the nodes: made after this one, if
    /// that was before now. If it was not, clocks are not right, and if this one was made just now it is the one that the device
    /// uses: so it closes with a code to come back after, and is later then.
    fn device_is_elsewhere(&self, member: MemberId, device: &DeviceId, opened: Opened) {
        let now = self.parts.clock.now();
        let connections = self.parts.hub.connections_of(member);
        let known = connections.iter().find(|known| known.device == *device);
        let is_new = known.is_some_and(|known| now.since(known.opened_at()) < JUST_NOW);
        let (elsewhere, _) = opened;
        let close = if is_new && elsewhere > now {
            Close { code: CloseCode::GoingAway, retry_after_ms: Some(COME_BACK_MS) }
        } else {
            Close::with(CloseCode::Replaced)
        };
        self.parts.hub.replaced_elsewhere(member, device, opened, now, close);
    }
}

/// Why a connection closes that is one too many on several nodes.
fn too_many() -> Frame {
    let code = ErrorCode::TooManyConnections;
    let message = code.meaning().to_owned();
    let error = Error { code, message, field: None, retry_after_ms: Some(TOO_MANY_WAIT_MS) };
    Frame::push(&ServerFrame::Error(error))
}
