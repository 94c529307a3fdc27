//! What a bus is: channels that nodes publish to and subscribe to.
//!
//! A bus has one or several *links*, each to a server of its own; what concerns one member goes over one link always. On each
//! link, a node receives what another one publishes in the order in which it was published, or is told that something may be
//! missing ([`Inbox::lost`], [`Beat::losses`]). Every bus keeps these rules; the rest of the server depends on nothing else.

use async_trait::async_trait;
use protocol::MemberId;
use serde::{Deserialize, Serialize};

use super::event::Event;
use crate::position::StreamPosition;

pub use crate::ids::NodeId;

/// Where an event is published, and who hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Nodes to which a member is connected.
    Member(MemberId),
    /// Nodes at which somebody watches a member.
    Watchers(MemberId),
    /// One node.
    Node(NodeId),
    /// All nodes.
    Everybody,
}

/// What a node says of itself on every link, behind everything that it has published there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// How often the node has joined the fleet anew: a node that was taken for dead comes back with the next number.
    pub generation: u64,
    /// The bytes of the epoch of `position`.
    pub epoch: [u8; 8],
    /// Everything that the node has stored up to here has been published. Milliseconds, by the clock of the database.
    pub position: u64,
    /// How often something that the node published on this link may not have arrived, since it started. Filled in by the bus.
    pub losses: u64,
    /// Counts the beats of the node. Filled in by the bus.
    pub number: u64,
    /// Whether it is the last one: the node stops.
    pub last: bool,
    /// The number of the link. Filled in by the bus, as is the next.
    #[serde(default)]
    pub link: usize,
    /// How many links the node has: one that has others publishes where this one does not hear.
    #[serde(default)]
    pub links: usize,
    /// Whether the way from the node to the link's server and back takes long: what it publishes may come late. Filled in by the bus.
    #[serde(default)]
    pub late: bool,
}

impl Beat {
    /// A beat at a position.
    #[must_use]
    pub fn at(generation: u64, place: StreamPosition) -> Self {
        let StreamPosition { epoch, position } = place;
        Self {
            generation,
            epoch: epoch.0,
            position: position.0,
            losses: 0,
            number: 0,
            last: false,
            link: 0,
            links: 0,
            late: false,
        }
    }
}

/// Why events of others may be missing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The link went down.
    LinkDown,
    /// More has come than the node could take.
    Overflow,
    /// The node does not receive what it publishes itself, although the link seems to be up.
    Canary,
    /// Another node has said something that this version does not know. The link is up.
    Unknown,
}

/// What a bus tells its node. Nothing in it waits; each is called in the order of the link, by one task for each link.
pub trait Inbox: Send + Sync + 'static {
    /// Whether what a node says is wanted: it is one of those that share the store. To be asked before anything of what it has
    /// published is given, `events` or a beat; nothing is, if not.
    fn hears(&self, from: NodeId, events: bool) -> bool;

    /// Another node has published an event on a channel that this node hears.
    fn event(&self, from: NodeId, channel: Channel, event: Event);

    /// Another node has published its beat on a link. Everything that it published there before was given to [`Self::event`].
    fn beat(&self, link: usize, from: NodeId, beat: Beat);

    /// The link is up, and everything that this node subscribed to is heard again: what is published from now on arrives.
    fn up(&self, link: usize);

    /// What others publish on a link that is up may come later than a look into the store would find it; or that is over. It is over,
    /// too, when the link is lost, or up again.
    fn late(&self, link: usize, is_late: bool);

    /// What others published on the link may be missing; until [`Self::up`] is called nothing can be expected of it, unless it was
    /// one thing only that is [`Loss::Unknown`].
    fn lost(&self, link: usize, loss: Loss);
}

/// A way between nodes. Publishing never waits, and no answer to a client depends on it.
#[async_trait]
pub trait Bus: Send + Sync {
    /// How many links there are.
    fn links(&self) -> usize;

    /// One line for people: which kind, and where. No credentials.
    fn describe(&self) -> String;

    /// Publishes an event to the nodes that hear a channel; this one does not get it. What there is no room for is dropped, and
    /// counted in [`Beat::losses`].
    fn publish(&self, channel: Channel, event: Event);

    /// Something that concerns others may not have been published: they find that in [`Beat::losses`] of the next beat, on every link.
    fn lose(&self);

    /// Publishes a beat on every link, behind everything that was published before.
    fn beat(&self, beat: Beat);

    /// Hears a channel: returns true once everything that is published there from now on arrives; false if that is not so in
    /// time, or the link is down: then it is heard as soon as that is possible, before [`Inbox::up`].
    async fn subscribe(&self, channel: Channel) -> bool;

    /// Hears a channel no longer. Never waits.
    fn unsubscribe(&self, channel: Channel);

    /// Publishes what is queued, as far as that is possible in time, and ends.
    async fn close(&self);
}
