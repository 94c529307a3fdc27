//! The hub: which connections of which member are on this node, and the way into each of them.
//!
//! Called by `service` (to deliver) and by `session` (to empty its own outbox). It knows no rules: who may get what was
//! decided before. Delivering never waits: an [`Outbox`] takes a frame or cuts its connection.

mod connection;
mod frame;
mod outbox;

use std::sync::Arc;

use dashmap::{DashMap, Entry};
use protocol::{CloseCode, ConnectionId, MemberId, SessionId};
use smallvec::{SmallVec, smallvec};

pub use connection::Connection;
pub use frame::Frame;
pub use outbox::{Close, Delivery, Outbox, OutboxLimits, Reply};

use crate::telemetry::Metrics;

/// The connections of one member. Nearly always one.
pub type Connections = SmallVec<[Arc<Connection>; 1]>;

/// The member has as many connections as allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyConnections;

/// What registering a connection has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// Whether it is the member's first.
    pub first: bool,
    /// The connection of the same device whose place it took.
    pub replaced: Option<ConnectionId>,
}

/// The connections of this node, by member.
pub struct Hub {
    members: DashMap<MemberId, Connections>,
    max_per_member: usize,
    metrics: Arc<Metrics>,
}

impl Hub {
    /// An empty hub that allows this many connections of one member.
    #[must_use]
    pub fn new(max_per_member: usize, metrics: Arc<Metrics>) -> Self {
        Self { members: DashMap::new(), max_per_member, metrics }
    }

    /// Adds a signed-in connection; events are queued for it from now on. An older connection of the same device is
    /// told to close with 4409.
    ///
    /// # Errors
    /// When the member has as many connections as allowed, on other devices.
    pub fn register(&self, connection: Arc<Connection>) -> Result<Registered, TooManyConnections> {
        match self.members.entry(connection.member) {
            Entry::Vacant(vacant) => {
                vacant.insert(smallvec![connection]);
                self.metrics.members_connected.inc();
                Ok(Registered { first: true, replaced: None })
            }
            Entry::Occupied(mut occupied) => {
                let connections = occupied.get_mut();
                let full = connections.len() >= self.max_per_member;
                let replaced = match connections.iter_mut().find(|known| known.device == connection.device) {
                    Some(older) => {
                        older.outbox.close(Close::with(CloseCode::Replaced));
                        Some(std::mem::replace(older, connection).id)
                    }
                    None if full => return Err(TooManyConnections),
                    None => {
                        connections.push(connection);
                        None
                    }
                };
                Ok(Registered { first: false, replaced })
            }
        }
    }

    /// Removes a connection, unless it was replaced before.
    pub fn remove(&self, connection: &Connection) {
        let Entry::Occupied(mut occupied) = self.members.entry(connection.member) else { return };
        let connections = occupied.get_mut();
        // Only itself: a newer connection of the same device is somebody else.
        connections.retain(|known| known.id != connection.id);
        if connections.is_empty() {
            occupied.remove();
            self.metrics.members_connected.dec();
        }
    }

    /// Queues a frame for every connection of a member but one. Returns for how many.
    pub fn deliver(&self, member: MemberId, frame: &Frame, except: Option<ConnectionId>) -> usize {
        let Some(connections) = self.members.get(&member) else { return 0 };
        let others = connections.iter().filter(|connection| Some(connection.id) != except);
        others.map(|connection| connection.outbox.push(Delivery::Event(frame.clone()))).count()
    }

    /// The connections of a member.
    #[must_use]
    pub fn connections_of(&self, member: MemberId) -> Connections {
        self.members.get(&member).map(|connections| connections.clone()).unwrap_or_default()
    }

    /// Whether a member has a connection.
    #[must_use]
    pub fn is_connected(&self, member: MemberId) -> bool {
        self.members.contains_key(&member)
    }

    /// Closes the connections of a member that belong to a session, or all of them. Returns how many.
    pub fn close(&self, member: MemberId, session: Option<SessionId>, close: Close) -> usize {
        let connections = self.connections_of(member);
        let concerned = connections.iter().filter(|known| session.is_none_or(|session| session == known.session));
        concerned.map(|connection| connection.outbox.close(close)).count()
    }

    /// Closes every connection, each with what `close` says for it.
    pub fn close_all(&self, mut close: impl FnMut(&Connection) -> Close) {
        for connections in &self.members {
            for connection in connections.iter() {
                connection.outbox.close(close(connection));
            }
        }
    }

    /// The outboxes that bytes are charged for, with how many.
    #[must_use]
    pub fn holding(&self) -> Vec<(usize, Arc<Outbox>)> {
        let mut holding = Vec::new();
        for connections in &self.members {
            let outboxes = connections.iter().map(|connection| (connection.outbox.charged(), &connection.outbox));
            let charged = outboxes.filter(|(bytes, _)| *bytes > 0);
            holding.extend(charged.map(|(bytes, outbox)| (bytes, Arc::clone(outbox))));
        }
        holding
    }

    /// How many members have a connection.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.len()
    }
}
