//! Who may have a connection, while there is room for so many only.
//!
//! A connection holds a [`Place`] from the moment it is accepted. Until its client has signed in (a WebSocket that has
//! said hello), it is a stranger's: strangers are limited by address, by network and in total, and one of them is closed
//! to make room when places run out. Members are limited by `MAX_CONNECTIONS_PER_MEMBER`; only when hardly any place is
//! left, an address or a network that holds many more than others do gives some of them up to who signs in from elsewhere.
//!
//! Called by `http` (to admit) and `connection` (when somebody signs in). Nothing here waits.

mod members;
mod stranger;
mod strangers;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use tokio::time::Instant;

pub use self::stranger::Stranger;
use self::{
    members::Members,
    strangers::{Oldest, Strangers},
};
use crate::{
    hub::Outbox,
    sources::{network, subscriber},
    telemetry::Metrics,
};

/// A stranger that has waited for longer may be closed for one that has as many connections: a client says hello, or
/// asks for something, at once.
const PATIENCE: Duration = Duration::from_secs(3);
/// Strangers that were closed to make room and whose sockets are still open: of more, the oldest is cut. Their files are
/// among those that are kept in reserve.
pub const LEAVING_MAX: usize = 128;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of all clients together.
    pub total: usize,
    /// Of one address (one /64 of IPv6) that has not signed in with them. Zero: no limit.
    pub per_address: usize,
    /// The same of one network: a /24 of IPv4, a /48 of IPv6. Zero: no limit.
    pub per_network: usize,
}

impl Limits {
    /// How many strangers there may be: three quarters of all, so that they never hold everything.
    fn strangers(&self) -> usize {
        self.total - self.total / 4
    }
}

/// There is no room for one more connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// Its address has as many as it may.
    Address,
    /// Its network has as many as it may.
    Network,
    /// All together have.
    Total,
}

impl NoRoom {
    /// The limit that was reached, for the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Network => "network",
            Self::Total => "total",
        }
    }
}

/// Why a connection has to end that did nothing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Its place is needed: a request that is being answered may be finished.
    MakeRoom,
    /// Its memory or its file is needed: at once.
    Cut,
}

/// Those who have the most members' connections, and have to give one up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    /// An address.
    Address(IpAddr),
    /// A network.
    Network(IpAddr),
}

impl Crowd {
    /// Whether a connection from there is one of theirs.
    #[must_use]
    pub fn has(self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        match self {
            Self::Address(address) => subscriber(from) == address,
            Self::Network(of) => network(from) == of,
        }
    }
}

/// All places.
pub struct Places {
    limits: Limits,
    /// Peers that stand for many clients: not they are limited, but the clients behind them, once these are known.
    proxies: Arc<[IpNet]>,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

struct State {
    strangers: Strangers,
    /// Strangers that were closed to make room, until their sockets are.
    leaving: BTreeMap<u64, Arc<Stranger>>,
    members: Members,
}

/// A place among the connections that there is room for. Whatever keeps the connection open has a clone; the place is
/// free when the last one is dropped.
#[derive(Clone)]
pub struct Place(Arc<Held>);

/// Small, because there is one for every idle connection.
struct Held {
    places: Arc<Places>,
    standing: Mutex<Standing>,
}

/// Whose a place is.
enum Standing {
    /// Nobody has signed in.
    Stranger(Arc<Stranger>),
    /// A member's, whose address is known unless only a proxy's is.
    Member(Option<IpAddr>),
}

impl Places {
    /// As many free places as the limits allow.
    #[must_use]
    pub fn new(limits: Limits, proxies: Arc<[IpNet]>, metrics: Arc<Metrics>) -> Arc<Self> {
        let state =
            State { strangers: Strangers::default(), leaving: BTreeMap::new(), members: Members::new(limits.total) };
        Arc::new(Self { limits, proxies, state: Mutex::new(state), metrics })
    }

    /// A place for a new connection. When its address or network has as many strangers as it may, the oldest of these is
    /// closed for it, if it has been silent for a while. When there is no place at all, the oldest stranger of the address
    /// that has the most is: if that address has more than the newcomer's, or if that stranger has been silent for a while.
    ///
    /// # Errors
    /// The limit that was reached.
    pub fn admit(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Result<Place, NoRoom> {
        let peer = peer.to_canonical();
        let from = (!self.is_proxy(peer)).then(|| subscriber(peer));
        let mut state = self.lock();
        let mut evicted = match from {
            Some(from) => self.room_at(&state.strangers, from, now)?,
            None => None,
        };
        let full = state.taken() >= self.limits.total || state.strangers.len() >= self.limits.strangers();
        if full && evicted.is_none() {
            evicted = Some(state.oldest_of_all(from, now).ok_or(NoRoom::Total)?);
        }
        let orders = evicted.map(|ticket| state.evict(ticket));
        let stranger = state.strangers.add(from, now);
        drop(state);
        if let Some(orders) = orders {
            self.give(orders);
        }
        Ok(Place(Arc::new(Held { places: Arc::clone(self), standing: Mutex::new(Standing::Stranger(stranger)) })))
    }

    /// The connections that hold bytes of answers, with how many.
    #[must_use]
    pub fn unsent(&self) -> Vec<(usize, Arc<Stranger>)> {
        let state = self.lock();
        let all = state.strangers.iter().chain(state.leaving.values());
        let holding = all.map(|stranger| (stranger.unsent(), stranger)).filter(|(bytes, _)| *bytes > 0);
        holding.map(|(bytes, stranger)| (bytes, Arc::clone(stranger))).collect()
    }

    /// Who has to be closed so that one more stranger from there is not too many; nobody, if it is not.
    fn room_at(&self, strangers: &Strangers, from: IpAddr, now: Instant) -> Result<Option<u64>, NoRoom> {
        let Limits { per_address, per_network, .. } = self.limits;
        let (oldest, reached) = if per_address > 0 && strangers.of_address(from) >= per_address {
            (strangers.oldest_of_address(from), NoRoom::Address)
        } else if per_network > 0 && strangers.of_network(from) >= per_network {
            (strangers.oldest_of_network(from), NoRoom::Network)
        } else {
            return Ok(None);
        };
        oldest.filter(|oldest| is_silent(oldest.since, now)).map(|oldest| Some(oldest.ticket)).ok_or(reached)
    }

    fn give(&self, orders: Orders) {
        self.metrics.connections_evicted.inc();
        if let Some(evicted) = orders.evicted {
            evicted.end(Order::MakeRoom);
        }
        if let Some(too_many) = orders.cut {
            too_many.end(Order::Cut);
        }
    }

    fn is_proxy(&self, peer: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&peer))
    }

    /// Held for some look-ups and never across a call that could panic, so it cannot be poisoned.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom to tell, once the lock is given back.
struct Orders {
    evicted: Option<Arc<Stranger>>,
    cut: Option<Arc<Stranger>>,
}

impl State {
    /// The places that are taken; those of strangers that are being closed are not.
    fn taken(&self) -> usize {
        self.strangers.len() + self.members.len()
    }

    /// The stranger that is closed for a newcomer from an address, when there is no place at all.
    fn oldest_of_all(&self, from: Option<IpAddr>, now: Instant) -> Option<u64> {
        let Oldest { ticket, of, since } = self.strangers.oldest_of_the_largest()?;
        let newcomers = from.map_or(0, |from| self.strangers.of_address(from)) + 1;
        (of > newcomers || is_silent(since, now)).then_some(ticket)
    }

    /// Takes a stranger's place away. It is kept in mind until its socket is closed.
    fn evict(&mut self, ticket: u64) -> Orders {
        let evicted = self.strangers.remove(ticket).map(|waiting| waiting.stranger);
        self.leaving.extend(evicted.iter().map(|stranger| (ticket, Arc::clone(stranger))));
        let cut = if self.leaving.len() > LEAVING_MAX { self.leaving.pop_first() } else { None };
        Orders { evicted, cut: cut.map(|(_, stranger)| stranger) }
    }
}

/// Whether a stranger has waited for long enough to be closed for another.
fn is_silent(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) >= PATIENCE
}

impl Place {
    /// Says that the connection, which came through a proxy, is of a client at this address.
    ///
    /// # Errors
    /// When the client has as many connections as it may.
    pub fn belongs_to(&self, client: IpAddr, now: Instant) -> Result<(), NoRoom> {
        let Some(stranger) = self.stranger() else { return Ok(()) };
        let (places, client) = (&self.0.places, client.to_canonical());
        if places.is_proxy(client) {
            return Ok(());
        }
        let from = subscriber(client);
        let mut state = places.lock();
        if !state.strangers.is_of_nobody(stranger.ticket) {
            return Ok(());
        }
        let evicted = places.room_at(&state.strangers, from, now)?;
        let orders = evicted.map(|ticket| state.evict(ticket));
        state.strangers.give(stranger.ticket, from);
        drop(state);
        if let Some(orders) = orders {
            places.give(orders);
        }
        Ok(())
    }

    /// Whether somebody may sign in on the connection: when hardly any place is left, nobody from an address or a network
    /// that holds many.
    ///
    /// # Errors
    /// What holds too many.
    pub fn may_sign_in(&self) -> Result<(), NoRoom> {
        let Some(stranger) = self.stranger() else { return Ok(()) };
        let places = &self.0.places;
        let state = places.lock();
        let checked = state.strangers.from(stranger.ticket).map_or(Ok(()), |from| state.members.check(from));
        drop(state);
        checked.inspect_err(|reached| places.metrics.connection_refused(reached.name()))
    }

    /// Somebody has signed in on the connection: the place is a member's from now on. One that was taken away already
    /// stays so, and its connection is about to be closed. Returns who has to give a connection up, when hardly any place
    /// is left.
    pub fn signed_in(&self) -> Option<Crowd> {
        let mut standing = self.0.standing();
        let Standing::Stranger(stranger) = &*standing else { return None };
        let mut state = self.0.places.lock();
        let from = state.strangers.remove(stranger.ticket)?.from;
        let crowd = state.members.add(from);
        drop(state);
        *standing = Standing::Member(from);
        crowd
    }

    /// Closes the connection through this outbox when its place is needed.
    pub fn closes_through(&self, outbox: &Arc<Outbox>) {
        if let Some(stranger) = self.stranger() {
            stranger.closes_through(outbox);
        }
    }

    /// Waits until the connection has to end; for ever, once somebody has signed in. Only one task may wait, here or for
    /// [`Self::cut`].
    pub async fn ended(&self) -> Order {
        match self.stranger() {
            Some(stranger) => stranger.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Waits until the connection has to end at once.
    pub async fn cut(&self) {
        match self.stranger() {
            Some(stranger) => stranger.cut().await,
            None => std::future::pending().await,
        }
    }

    /// The connection that has the place, if nobody has signed in on it.
    #[must_use]
    pub fn stranger(&self) -> Option<Arc<Stranger>> {
        match &*self.0.standing() {
            Standing::Stranger(stranger) => Some(Arc::clone(stranger)),
            Standing::Member(_) => None,
        }
    }
}

impl Held {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let standing = self.standing.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.places.lock();
        match standing {
            Standing::Member(from) => state.members.remove(*from),
            Standing::Stranger(stranger) => {
                // One whose place was given to somebody else is among those that are leaving.
                if state.strangers.remove(stranger.ticket).is_none() {
                    state.leaving.remove(&stranger.ticket);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
