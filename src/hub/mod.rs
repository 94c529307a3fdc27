//! The hub: which connections of which member are on this node, and the way into each of them.
//!
//! Called by `service` (to deliver) and by `connection` (to empty its own outbox). It knows no rules: who may get what was
//! decided before. Delivering never waits: an [`Outbox`] takes a frame or cuts its connection.

mod connection;
mod frame;
mod outbox;
mod reply;
mod watched;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, Entry};
use protocol::{CloseCode, ConnectionId, DeviceId, MemberId, SessionId, Timestamp};
use smallvec::{SmallVec, smallvec};

pub use connection::Connection;
pub use frame::{EntryFrame, Frame};
pub use outbox::{Close, Delivery, Outbox, OutboxLimits};
pub use reply::{Answer, Reply, Ticket};
pub use watched::Watched;

use crate::{position::Epoch, telemetry::Metrics};

/// Two connections of one device, made at two nodes within this time, may each have been made before the other was heard of.
pub const JUST_NOW: Duration = Duration::from_secs(2);

/// When a connection was made, by the clock of its node, and its id.
pub type Opened = (Timestamp, ConnectionId);

/// What a member has here whose device has connected to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elsewhere {
    /// How many connections of other devices that were made earlier.
    pub earlier: usize,
    /// One of that device that is later still.
    pub later: Option<Opened>,
}

/// The connections of one member. Nearly always one.
pub type MemberConnections = SmallVec<[Arc<Connection>; 1]>;

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
    members: DashMap<MemberId, MemberConnections>,
    /// Connections that were replaced or signed out and have not ended yet: memory is charged for them all the same.
    leaving: DashMap<ConnectionId, Arc<Outbox>>,
    /// How often connections of a member or a session were ordered to close.
    orders: AtomicU64,
    max_per_member: usize,
    metrics: Arc<Metrics>,
}

impl Hub {
    /// An empty hub that allows this many connections of one member.
    #[must_use]
    pub fn new(max_per_member: usize, metrics: Arc<Metrics>) -> Self {
        Self { members: DashMap::new(), leaving: DashMap::new(), orders: AtomicU64::new(0), max_per_member, metrics }
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
                        self.leaving.insert(older.id, Arc::clone(&older.outbox));
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

    /// Signs a connection out, whether it was replaced before or not: nothing is delivered to it any more. What it holds is
    /// known until it is [forgotten](Self::forget).
    pub fn remove(&self, connection: &Connection) {
        self.leaving.insert(connection.id, Arc::clone(&connection.outbox));
        let Entry::Occupied(mut occupied) = self.members.entry(connection.member) else { return };
        let connections = occupied.get_mut();
        // Only itself: a newer connection of the same device is somebody else.
        connections.retain(|known| known.id != connection.id);
        if connections.is_empty() {
            occupied.remove();
            self.metrics.members_connected.dec();
        }
    }

    /// Forgets a connection that has ended.
    pub fn forget(&self, connection: &Connection) {
        self.leaving.remove(&connection.id);
    }

    /// Queues a frame for every connection of a member but one; `frame` is not called if there is none. Returns for how many.
    pub fn deliver(&self, member: MemberId, mut frame: impl FnMut() -> Frame, except: Option<ConnectionId>) -> usize {
        let Some(connections) = self.members.get(&member) else { return 0 };
        let others = connections.iter().filter(|connection| Some(connection.id) != except);
        others.map(|connection| connection.outbox.push(Delivery::Event(frame()))).count()
    }

    /// The connections of a member.
    #[must_use]
    pub fn connections_of(&self, member: MemberId) -> MemberConnections {
        self.members.get(&member).map(|connections| connections.clone()).unwrap_or_default()
    }

    /// Whether a member has a connection.
    #[must_use]
    pub fn is_connected(&self, member: MemberId) -> bool {
        self.members.contains_key(&member)
    }

    /// Closes the connections of a member that belong to a session, or all of them. Returns how many.
    pub fn close(&self, member: MemberId, session: Option<SessionId>, close: Close) -> usize {
        self.close_if(member, |known| session.is_none_or(|session| session == known.session), close)
    }

    /// Closes the connections of a member that are meant. Returns how many.
    pub fn close_if(&self, member: MemberId, is_meant: impl Fn(&Connection) -> bool, close: Close) -> usize {
        // Before anybody is looked for: see `orders_to_close`.
        self.orders.fetch_add(1, Ordering::Relaxed);
        let connections = self.connections_of(member);
        let concerned = connections.iter().filter(|known| is_meant(known));
        concerned.map(|connection| connection.outbox.close(close)).count()
    }

    /// How often [`Self::close_if`] was called. Whoever checks that a member may connect, and then registers the connection, was
    /// overtaken by an order that found nothing to close if the number is another one afterwards: the lock that both take
    /// for the member puts one before the other, so the order has either found the connection or is counted here.
    #[must_use]
    pub fn orders_to_close(&self) -> u64 {
        self.orders.load(Ordering::Relaxed)
    }

    /// A device of a member has connected to another node, at a time by the clock of that: the connection that it has here closes,
    /// unless it was made just now and is the later one of the two, as far as clocks can tell.
    pub fn replaced_elsewhere(
        &self,
        member: MemberId,
        device: &DeviceId,
        by: Opened,
        now: Timestamp,
        close: Close,
    ) -> Elsewhere {
        let mut elsewhere = Elsewhere { earlier: 0, later: None };
        for known in self.connections_of(member).iter().filter(|known| known.outbox.closing().is_none()) {
            let opened = (known.opened_at(), known.id);
            if known.device != *device {
                elsewhere.earlier += usize::from(opened < by);
            } else if now.since(known.opened_at()) < JUST_NOW && opened > by {
                elsewhere.later = Some(opened);
            } else {
                known.outbox.close(close);
            }
        }
        elsewhere
    }

    /// Closes the newest connection of those that are meant and are not being closed already.
    pub fn close_newest(&self, is_meant: impl Fn(&Connection) -> bool, close: Close) {
        let mut newest: Option<Arc<Connection>> = None;
        for connections in &self.members {
            for known in connections.iter().filter(|known| is_meant(known) && known.outbox.closing().is_none()) {
                if newest.as_ref().is_none_or(|newest| newest.id < known.id) {
                    newest = Some(Arc::clone(known));
                }
            }
        }
        if let Some(newest) = newest {
            newest.outbox.close(close);
        }
    }

    /// Closes every connection, each with what `close` says for it.
    pub fn close_all(&self, mut close: impl FnMut(&Connection) -> Close) {
        for connections in &self.members {
            for connection in connections.iter() {
                connection.outbox.close(close(connection));
            }
        }
    }

    /// What was synced in one epoch is as good as if it had been in the other one. Of those whose sync is under way, it is said at its end.
    pub fn carry_over(&self, from: Epoch, to: Epoch) {
        for connections in &self.members {
            connections.iter().filter(|each| each.synced() == from).for_each(|each| each.synced_in(to));
        }
    }

    /// Something of every signed-in connection. `of` is called while a part of the hub is locked: it has to be short.
    #[must_use]
    pub fn signed_in<T>(&self, of: impl Fn(&Connection) -> T) -> Vec<T> {
        let mut found = Vec::with_capacity(self.members.len());
        for connections in &self.members {
            found.extend(connections.iter().map(|connection| of(connection)));
        }
        found
    }

    /// The same of the connections of one member.
    #[must_use]
    pub fn of_member<T>(&self, member: MemberId, of: impl Fn(&Connection) -> T) -> Vec<T> {
        self.members
            .get(&member)
            .map_or_else(Vec::new, |connections| connections.iter().map(|connection| of(connection)).collect())
    }

    /// The outboxes that bytes are charged for, with how many; those of replaced connections too, until they end.
    #[must_use]
    pub fn holding(&self) -> Vec<(usize, Arc<Outbox>)> {
        let mut holding = Vec::new();
        for connections in &self.members {
            let outboxes = connections.iter().map(|connection| (connection.outbox.charged(), &connection.outbox));
            let charged = outboxes.filter(|(bytes, _)| *bytes > 0);
            holding.extend(charged.map(|(bytes, outbox)| (bytes, Arc::clone(outbox))));
        }
        let leaving = self.leaving.iter().map(|outbox| (outbox.charged(), Arc::clone(&outbox)));
        holding.extend(leaving.filter(|(bytes, _)| *bytes > 0));
        holding
    }

    /// How many members have a connection.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.len()
    }
}

#[cfg(test)]
mod tests {
    use protocol::ServerFrame;

    use super::*;
    use crate::{budget::Budget, ids};

    const ANA: MemberId = MemberId::from_bytes([9; 12]);

    fn hub(max_per_member: usize) -> (Hub, impl Fn(u8, &str) -> Arc<Connection>) {
        let metrics = Arc::new(Metrics::new());
        let budget = Arc::new(Budget::new(usize::MAX, Arc::clone(&metrics)));
        let connection = move |number: u8, device: &str| {
            let outbox = Arc::new(Outbox::new(OutboxLimits { frames: 10, bytes: 10_000 }, Arc::clone(&budget)));
            let (id, session) = (ConnectionId::from_bytes([number; 12]), SessionId::from_bytes([number; 12]));
            Arc::new(Connection::new(id, ANA, session, device.parse().unwrap(), outbox))
        };
        (Hub::new(max_per_member, metrics), connection)
    }

    fn closing(connection: &Connection) -> Option<u16> {
        connection.outbox.closing().map(|close| close.code.number())
    }

    fn event() -> Frame {
        Frame::push(&ServerFrame::Okay(protocol::server::Okay::default()))
    }

    #[test]
    fn a_device_has_one_connection_and_a_member_so_many_devices() {
        let (hub, connection) = hub(2);
        let (phone, tablet) = (connection(1, "phone"), connection(2, "tablet"));
        assert_eq!(hub.register(Arc::clone(&phone)), Ok(Registered { first: true, replaced: None }));
        assert_eq!(hub.register(Arc::clone(&tablet)), Ok(Registered { first: false, replaced: None }));
        assert_eq!(hub.register(connection(3, "laptop")), Err(TooManyConnections));
        let again = connection(4, "phone");
        assert_eq!(hub.register(Arc::clone(&again)), Ok(Registered { first: false, replaced: Some(phone.id) }));
        assert_eq!([&phone, &tablet, &again].map(|known| closing(known)), [Some(4409), None, None]);
        // However late the one that was replaced ends, the newer one stays.
        hub.remove(&phone);
        let left: Vec<_> = hub.connections_of(ANA).iter().map(|known| known.id).collect();
        assert_eq!(left, [again.id, tablet.id]);
        assert_eq!(hub.metrics.members_connected.get(), 1);
        hub.remove(&again);
        hub.remove(&tablet);
        assert_eq!((hub.members(), hub.metrics.members_connected.get(), hub.is_connected(ANA)), (0, 0, false));
    }

    #[test]
    fn of_two_connections_of_a_device_at_two_nodes_the_later_one_stays() {
        // Its id says the second in which it was made.
        let made = ids::made_at(ConnectionId::from_bytes([2; 12]));
        let at = |millis| made.after(Duration::from_millis(millis));
        let by = |millis, id| (at(millis), ConnectionId::from_bytes([id; 12]));
        let known = |millis| {
            let (hub, connection) = hub(10);
            let tablet = connection(1, "tablet");
            let phone = Arc::into_inner(connection(2, "phone")).unwrap().opened([127, 0, 0, 1].into(), at(millis));
            let phone = Arc::new(phone);
            hub.register(Arc::clone(&phone)).unwrap();
            hub.register(tablet).unwrap();
            (hub, phone)
        };
        let close = Close::with(CloseCode::Replaced);
        // Which one was opened here and there, and the time now.
        for (here, there, now, later) in [
            (500, by(501, 1), 502, false),
            (500, by(499, 9), 502, true),
            (500, by(500, 1), 502, true),
            (500, by(500, 9), 502, false),
            // Its clock is behind.
            (500, by(400, 9), 2_500, false),
        ] {
            let (hub, phone) = known(here);
            let elsewhere = hub.replaced_elsewhere(ANA, &phone.device, there, at(now), close);
            let later = later.then_some((at(here), phone.id));
            assert_eq!(elsewhere, Elsewhere { earlier: 1, later }, "{here} {there:?}");
            assert_eq!(closing(&phone), later.is_none().then_some(4409));
        }
    }

    #[test]
    fn a_frame_goes_to_all_connections_of_its_member_but_one() {
        let (hub, connection) = hub(10);
        let (phone, tablet) = (connection(1, "phone"), connection(2, "tablet"));
        hub.register(Arc::clone(&phone)).unwrap();
        hub.register(Arc::clone(&tablet)).unwrap();
        assert_eq!(hub.deliver(ANA, event, Some(phone.id)), 1);
        assert_eq!(hub.deliver(ANA, event, None), 2);
        assert_eq!(hub.deliver(MemberId::from_bytes([1; 12]), || unreachable!("nobody gets it"), None), 0);
        assert_eq!((phone.outbox.take().len(), tablet.outbox.take().len()), (1, 2));
    }

    #[test]
    fn an_order_to_close_is_for_a_session_or_for_all_and_the_first_one_counts() {
        let (hub, connection) = hub(10);
        let (phone, tablet) = (connection(1, "phone"), connection(2, "tablet"));
        hub.register(Arc::clone(&phone)).unwrap();
        hub.register(Arc::clone(&tablet)).unwrap();
        assert_eq!(hub.close(ANA, Some(phone.session), Close::with(CloseCode::Unauthorized)), 1);
        assert_eq!((closing(&phone), closing(&tablet)), (Some(4401), None));
        hub.close_newest(|_| true, Close::with(CloseCode::TryAgainLater));
        assert_eq!(closing(&tablet), Some(1013), "the newest of those that are not being closed");
        assert_eq!(hub.close(ANA, None, Close::with(CloseCode::Deactivated)), 2);
        assert_eq!((closing(&phone), closing(&tablet)), (Some(4401), Some(1013)));
    }

    #[test]
    fn what_a_replaced_connection_holds_is_known_until_it_ends() {
        let (hub, connection) = hub(1);
        let (older, newer) = (connection(1, "phone"), connection(2, "phone"));
        hub.register(Arc::clone(&older)).unwrap();
        older.outbox.push(Delivery::Event(event()));
        let taken = older.outbox.take();
        hub.register(Arc::clone(&newer)).unwrap();
        let [(_, outbox)] = &hub.holding()[..] else { panic!("it is being written") };
        assert!(Arc::ptr_eq(outbox, &older.outbox));
        drop(taken);
        hub.remove(&older);
        assert_eq!(hub.holding().len(), 1, "it is still being written");
        hub.forget(&older);
        assert!(hub.holding().is_empty() && hub.leaving.is_empty());
        assert!(hub.is_connected(newer.member));
        older.outbox.end();
        assert_eq!(older.outbox.charged(), 0);
    }

    #[test]
    fn an_order_that_found_nobody_is_counted() {
        let (hub, _) = hub(1);
        let before = hub.orders_to_close();
        assert_eq!(hub.close(ANA, None, Close::with(CloseCode::Deactivated)), 0);
        assert_ne!(hub.orders_to_close(), before);
    }
}
