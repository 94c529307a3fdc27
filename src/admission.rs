//! Who may have a connection, while there is room for so many only.
//!
//! A connection holds a [`Place`] from the moment it is accepted. Until its client has signed in (a WebSocket that has
//! said hello), it is a stranger's: strangers are limited by address, by network and in total, and one of them is closed
//! to make room when places run out. A signed-in connection counts towards the total alone, and is never closed for
//! another: members are limited by `MAX_CONNECTIONS_PER_MEMBER`.
//!
//! Called by `http` (to admit) and `session` (when somebody signs in). Nothing here waits.

mod stranger;
mod strangers;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use tokio::time::Instant;

pub use self::stranger::Stranger;
use self::strangers::{Oldest, Strangers};
use crate::{hub::Outbox, sources::subscriber, telemetry::Metrics};

/// A stranger that has waited for longer may be closed for one that has as many connections: a client says hello, or
/// asks for something, at once.
const PATIENCE: Duration = Duration::from_secs(3);

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
    /// Its memory is needed: at once.
    FreeMemory,
}

/// All places.
pub struct Places {
    limits: Limits,
    /// Peers that stand for many clients: not they are limited, but the clients behind them, once these are known.
    proxies: Arc<[IpNet]>,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    taken: usize,
    strangers: Strangers,
}

/// A place among the connections that there is room for. Whatever keeps the connection open has a clone; the place is
/// free when the last one is dropped.
#[derive(Clone)]
pub struct Place(Arc<Held>);

/// Small, because there is one for every idle connection.
struct Held {
    places: Arc<Places>,
    /// Until somebody signs in.
    stranger: Mutex<Option<Arc<Stranger>>>,
}

impl Places {
    /// As many free places as the limits allow.
    #[must_use]
    pub fn new(limits: Limits, proxies: Arc<[IpNet]>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limits, proxies, state: Mutex::default(), metrics })
    }

    /// A place for a new connection. When there is none, the oldest stranger of the address that has the most is closed
    /// for it: if that address has more than the newcomer's, or if that stranger has been silent for a while.
    ///
    /// # Errors
    /// The limit that was reached.
    pub fn admit(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Result<Place, NoRoom> {
        let peer = peer.to_canonical();
        let from = (!self.is_proxy(peer)).then(|| address(peer));
        let mut state = self.lock();
        if let Some(from) = from {
            self.check(&state.strangers, from)?;
        }
        let full = state.taken >= self.limits.total || state.strangers.len() >= self.limits.strangers();
        let evicted = if full { Some(evict(&mut state, from, now).ok_or(NoRoom::Total)?) } else { None };
        state.taken += 1;
        let stranger = state.strangers.add(from, now);
        drop(state);
        if let Some(evicted) = evicted {
            self.metrics.connections_evicted.inc();
            evicted.end(Order::MakeRoom);
        }
        Ok(Place(Arc::new(Held { places: Arc::clone(self), stranger: Mutex::new(Some(stranger)) })))
    }

    /// The connections that hold bytes of answers, with how many.
    #[must_use]
    pub fn unsent(&self) -> Vec<(usize, Arc<Stranger>)> {
        let state = self.lock();
        let holding = state.strangers.iter().map(|stranger| (stranger.unsent(), stranger));
        holding.filter(|(bytes, _)| *bytes > 0).map(|(bytes, stranger)| (bytes, Arc::clone(stranger))).collect()
    }

    fn check(&self, strangers: &Strangers, from: IpAddr) -> Result<(), NoRoom> {
        let Limits { per_address, per_network, .. } = self.limits;
        if per_address > 0 && strangers.of_address(from) >= per_address {
            return Err(NoRoom::Address);
        }
        if per_network > 0 && strangers.of_network(from) >= per_network {
            return Err(NoRoom::Network);
        }
        Ok(())
    }

    fn is_proxy(&self, peer: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&peer))
    }

    /// Held for some look-ups and never across a call that could panic, so it cannot be poisoned.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a stranger's place for a newcomer from an address.
fn evict(state: &mut State, from: Option<IpAddr>, now: Instant) -> Option<Arc<Stranger>> {
    let Oldest { ticket, of, since } = state.strangers.oldest_of_the_largest()?;
    let newcomers = from.map_or(0, |from| state.strangers.of_address(from)) + 1;
    if of <= newcomers && now.saturating_duration_since(since) < PATIENCE {
        return None;
    }
    state.taken -= 1;
    state.strangers.remove(ticket).map(|waiting| waiting.stranger)
}

impl Place {
    /// Says that the connection, which came through a proxy, is of a client at this address.
    ///
    /// # Errors
    /// When the client has as many connections as it may.
    pub fn belongs_to(&self, client: IpAddr) -> Result<(), NoRoom> {
        let Some(stranger) = self.stranger() else { return Ok(()) };
        let (places, client) = (&self.0.places, client.to_canonical());
        if places.is_proxy(client) {
            return Ok(());
        }
        let from = address(client);
        let mut state = places.lock();
        if !state.strangers.is_of_nobody(stranger.ticket) {
            return Ok(());
        }
        places.check(&state.strangers, from)?;
        state.strangers.give(stranger.ticket, from);
        Ok(())
    }

    /// Somebody has signed in on the connection: the place is a member's from now on. One that was taken away already
    /// stays so, and its connection is about to be closed.
    pub fn signed_in(&self) {
        let mut held = self.0.stranger();
        if let Some(stranger) = &*held
            && self.0.places.lock().strangers.remove(stranger.ticket).is_some()
        {
            *held = None;
        }
    }

    /// Closes the connection through this outbox when its place is needed.
    pub fn closes_through(&self, outbox: &Arc<Outbox>) {
        if let Some(stranger) = self.stranger() {
            stranger.closes_through(outbox);
        }
    }

    /// Waits until the connection has to end; for ever, once somebody has signed in. Only one task may wait.
    pub async fn ended(&self) -> Order {
        match self.stranger() {
            Some(stranger) => stranger.ended().await,
            None => std::future::pending().await,
        }
    }

    /// The connection that has the place, if nobody has signed in on it.
    #[must_use]
    pub fn stranger(&self) -> Option<Arc<Stranger>> {
        self.0.stranger().clone()
    }
}

impl Held {
    fn stranger(&self) -> MutexGuard<'_, Option<Arc<Stranger>>> {
        self.stranger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let stranger = self.stranger().take();
        let mut state = self.places.lock();
        // A stranger's place that was given to somebody else is not there to be freed.
        if stranger.is_none_or(|stranger| state.strangers.remove(stranger.ticket).is_some()) {
            state.taken -= 1;
        }
    }
}

/// What counts as one address: the same as for rate limits.
fn address(peer: IpAddr) -> IpAddr {
    subscriber(peer)
}

#[cfg(test)]
mod tests;
