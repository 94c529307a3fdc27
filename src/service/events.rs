//! The one place where events go to the hub, and to the bus between nodes.

use std::sync::Arc;

use protocol::{ConnectionId, MemberId, ServerFrame, server::EntryPush};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    awaited::{Awaited, Telling},
    delivered::Delivered,
};
use crate::{
    cluster::{
        Channel, Subscriptions, Uplink,
        event::{EntryPlace, Note},
    },
    hub::{Connection, Delivery, EntryFrame, Frame, Hub},
    position::StreamPosition,
    telemetry::Metrics,
};

/// Hears of members who have a conversation with each other from now on.
type Met = dyn Fn(&[MemberId]) + Send + Sync;

/// Who stored an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// This node: the others hear of it from here.
    ThisNode,
    /// Another one, which tells the others, or they sweep ([`super::awaited`]). Here it is told as well, so that what comes after
    /// it in the log does not come first.
    AnotherNode {
        /// It is stored beyond.
        floor: StreamPosition,
    },
}

/// Publishes events. An event is encoded once, however many receive it and on whatever nodes, and not at all if nobody does.
#[derive(Clone)]
pub struct Events {
    hub: Arc<Hub>,
    uplink: Uplink,
    /// Only on a node among others.
    others: Option<Others>,
    metrics: Arc<Metrics>,
    met: Option<Arc<Met>>,
}

/// What is known of entries that other nodes tell of.
#[derive(Clone)]
struct Others {
    delivered: Arc<Delivered>,
    awaited: Arc<Awaited>,
    subscriptions: Arc<Subscriptions>,
}

impl Events {
    /// Events of this node, which other nodes hear over its bus.
    #[must_use]
    pub fn new(hub: Arc<Hub>, uplink: Uplink, metrics: Arc<Metrics>) -> Self {
        Self { hub, uplink, others: None, metrics, met: None }
    }

    /// The same on a node among others, which may hear of an entry more than once.
    #[must_use]
    pub fn among_others(
        self,
        delivered: Arc<Delivered>,
        awaited: Arc<Awaited>,
        subscriptions: Arc<Subscriptions>,
    ) -> Self {
        Self { others: Some(Others { delivered, awaited, subscriptions }), ..self }
    }

    /// The same, with somebody who hears of the first message of a conversation.
    #[must_use]
    pub fn with_met(self, met: impl Fn(&[MemberId]) + Send + Sync + 'static) -> Self {
        Self { met: Some(Arc::new(met)), ..self }
    }

    /// The first message between members is published.
    pub fn met(&self, members: &[MemberId]) {
        if let Some(met) = &self.met {
            met(members);
        }
        for member in members {
            self.uplink.publish(Channel::Member(*member), || Note::Met { members: members.to_vec() }.into());
        }
    }

    /// Something may have been stored beyond a place that nobody was told of.
    pub fn unsure(&self, place: StreamPosition) {
        self.uplink.unsure(place);
    }

    /// Publishes an event to every connection of members but one.
    pub fn to_members(&self, members: &[MemberId], except: Option<ConnectionId>, event: &ServerFrame) {
        let mut frame = None;
        let mut frame = || frame.get_or_insert_with(|| Frame::push(event)).clone();
        self.deliver(members, except, &mut frame);
        self.publish(members, None, &mut frame);
    }

    /// The same, on this node only.
    pub fn to_members_here(&self, members: &[MemberId], event: &ServerFrame) {
        let mut frame = None;
        self.deliver(members, None, &mut || frame.get_or_insert_with(|| Frame::push(event)).clone());
    }

    /// Publishes a message to every connection of members but one, as far as it was not published here before. Returns it as it was
    /// encoded, if anybody got it.
    pub fn message_to_members(
        &self,
        members: &[MemberId],
        except: Option<ConnectionId>,
        entry: EntryPlace,
        author: Author,
        push: impl Fn() -> EntryPush,
    ) -> Option<EntryFrame> {
        let EntryPlace { conversation, seq, .. } = entry;
        let place = (conversation, seq);
        let mut message = None;
        let mut frame = || message.get_or_insert_with(|| EntryFrame::push(&push())).frame().clone();
        if let (Author::AnotherNode { floor }, Some(Others { awaited, subscriptions, .. })) = (author, &self.others) {
            let is_heard = members.iter().any(|member| subscriptions.hears(*member));
            let telling = || Telling { members: members.into(), event: frame().relayed(Some(entry)) };
            let telling = (!is_heard && self.uplink.bus().is_some()).then(telling);
            // Before it is known whether the author was heard already: it may be heard at any moment.
            awaited.expect(place, floor, telling, Instant::now());
        }
        let first: SmallVec<[MemberId; 2]> = match &self.others {
            None => members.into(),
            Some(Others { delivered, .. }) => {
                let is_first = |member: &&MemberId| delivered.first(conversation, **member, seq);
                members.iter().filter(is_first).copied().collect()
            }
        };
        self.deliver(&first, except, &mut frame);
        match (author, &self.others) {
            // To all, whoever had it here before: each node knows what it has pushed itself.
            (Author::ThisNode, _) => self.publish(members, Some(entry), &mut frame),
            // Where it was pushed to one of them before, its author was heard.
            (Author::AnotherNode { .. }, Some(Others { awaited, .. })) if first.len() < members.len() => {
                awaited.heard(place);
            }
            (Author::AnotherNode { .. }, _) => {}
        }
        message
    }

    fn deliver(&self, members: &[MemberId], except: Option<ConnectionId>, frame: &mut impl FnMut() -> Frame) {
        let reached = members.iter().map(|member| self.hub.deliver(*member, &mut *frame, except)).sum();
        self.count(reached);
    }

    fn publish(&self, members: &[MemberId], entry: Option<EntryPlace>, frame: &mut impl FnMut() -> Frame) {
        for member in members {
            self.uplink.publish(Channel::Member(*member), || frame().relayed(entry));
        }
    }

    /// Publishes an event to connections.
    pub fn to_connections(&self, connections: &[Arc<Connection>], event: &ServerFrame) {
        if connections.is_empty() {
            return;
        }
        self.frame_to_connections(connections, &Frame::push(event));
    }

    /// Publishes an event that is encoded already to connections.
    pub fn frame_to_connections(&self, connections: &[Arc<Connection>], frame: &Frame) {
        for connection in connections {
            connection.outbox.push(Delivery::Event(frame.clone()));
        }
        self.count(connections.len());
    }

    fn count(&self, reached: usize) {
        self.metrics.fan_out.observe(f64::from(u32::try_from(reached).unwrap_or(u32::MAX)));
    }
}
