//! The connections that nobody has signed in on, by address and by network.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use tokio::time::Instant;

use super::Stranger;
use crate::sources::network;

/// The connections that nobody has signed in on. Every operation costs a logarithm of how many there are at most, but
/// looking at all of them.
#[derive(Default)]
pub(super) struct Strangers {
    next: u64,
    all: HashMap<u64, Waiting>,
    /// By address, the oldest first.
    addresses: HashMap<IpAddr, BTreeSet<u64>>,
    networks: HashMap<IpAddr, BTreeSet<u64>>,
    /// The addresses by how many they have.
    sizes: BTreeSet<(usize, IpAddr)>,
}

/// One of them.
pub(super) struct Waiting {
    pub(super) stranger: Arc<Stranger>,
    /// Nobody's, while only the proxy is known that it came through.
    pub(super) from: Option<IpAddr>,
    since: Instant,
}

/// The oldest connection of an address or a network.
pub(super) struct Oldest {
    pub(super) ticket: u64,
    /// How many that address or network has.
    pub(super) of: usize,
    pub(super) since: Instant,
}

impl Strangers {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Stranger>> {
        self.all.values().map(|waiting| &waiting.stranger)
    }

    pub(super) fn of_address(&self, from: IpAddr) -> usize {
        self.addresses.get(&from).map_or(0, BTreeSet::len)
    }

    pub(super) fn of_network(&self, from: IpAddr) -> usize {
        self.networks.get(&network(from)).map_or(0, BTreeSet::len)
    }

    pub(super) fn add(&mut self, from: Option<IpAddr>, since: Instant) -> Arc<Stranger> {
        let ticket = self.next;
        self.next += 1;
        let stranger = Arc::new(Stranger::new(ticket));
        self.all.insert(ticket, Waiting { stranger: Arc::clone(&stranger), from: None, since });
        if let Some(from) = from {
            self.give(ticket, from);
        }
        stranger
    }

    /// Whether it is there, and only a proxy is known that it came through.
    pub(super) fn is_of_nobody(&self, ticket: u64) -> bool {
        self.all.get(&ticket).is_some_and(|waiting| waiting.from.is_none())
    }

    /// The address of one, if it is known.
    pub(super) fn from(&self, ticket: u64) -> Option<IpAddr> {
        self.all.get(&ticket)?.from
    }

    /// Counts one that is nobody's towards an address.
    pub(super) fn give(&mut self, ticket: u64, from: IpAddr) {
        let Some(waiting) = self.all.get_mut(&ticket) else { return };
        waiting.from = Some(from);
        self.change(from, |tickets| {
            tickets.insert(ticket);
        });
        self.networks.entry(network(from)).or_default().insert(ticket);
    }

    pub(super) fn remove(&mut self, ticket: u64) -> Option<Waiting> {
        let waiting = self.all.remove(&ticket)?;
        if let Some(from) = waiting.from {
            self.change(from, |tickets| {
                tickets.remove(&ticket);
            });
            if let Some(tickets) = self.networks.get_mut(&network(from)) {
                tickets.remove(&ticket);
                if tickets.is_empty() {
                    self.networks.remove(&network(from));
                }
            }
        }
        Some(waiting)
    }

    pub(super) fn oldest_of_the_largest(&self) -> Option<Oldest> {
        let (_, from) = *self.sizes.last()?;
        self.oldest(self.addresses.get(&from))
    }

    pub(super) fn oldest_of_address(&self, from: IpAddr) -> Option<Oldest> {
        self.oldest(self.addresses.get(&from))
    }

    pub(super) fn oldest_of_network(&self, from: IpAddr) -> Option<Oldest> {
        self.oldest(self.networks.get(&network(from)))
    }

    fn oldest(&self, tickets: Option<&BTreeSet<u64>>) -> Option<Oldest> {
        let tickets = tickets?;
        let ticket = *tickets.first()?;
        Some(Oldest { ticket, of: tickets.len(), since: self.all.get(&ticket)?.since })
    }

    /// Changes the connections of an address, and its place among the others.
    fn change(&mut self, from: IpAddr, change: impl FnOnce(&mut BTreeSet<u64>)) {
        let tickets = self.addresses.entry(from).or_default();
        self.sizes.remove(&(tickets.len(), from));
        change(tickets);
        match tickets.len() {
            0 => drop(self.addresses.remove(&from)),
            count => drop(self.sizes.insert((count, from))),
        }
    }

    /// Whether nothing is kept about anybody.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.addresses.is_empty() && self.networks.is_empty() && self.sizes.is_empty()
    }
}
