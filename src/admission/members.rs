//! The connections that members have, by address and by network.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use super::{Crowd, NoRoom};
use crate::sources::network;

/// The connections that members have, and from where. Every operation costs a logarithm of how many addresses there are.
pub(super) struct Members {
    bounds: Bounds,
    len: usize,
    addresses: Counts,
    networks: Counts,
}

/// What one address and one network may have once places are scarce.
struct Bounds {
    /// Places are scarce from so many members' connections on.
    scarce: usize,
    address: usize,
    network: usize,
}

/// How many connections each address, or network, has.
#[derive(Default)]
struct Counts {
    of: HashMap<IpAddr, usize>,
    /// The same, by how many.
    sizes: BTreeSet<(usize, IpAddr)>,
}

impl Members {
    /// None yet, of as many connections as there may be in total.
    pub(super) fn new(total: usize) -> Self {
        // A club behind one NAT has some hundreds from one address, also on a server with few places.
        let bounds =
            Bounds { scarce: total - total / 32, address: (total / 8).max(256), network: (total / 4).max(512) };
        Self { bounds, len: 0, addresses: Counts::default(), networks: Counts::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether one more from there may be a member's.
    pub(super) fn check(&self, from: IpAddr) -> Result<(), NoRoom> {
        if self.len < self.bounds.scarce {
            return Ok(());
        }
        if self.addresses.get(from) >= self.bounds.address {
            return Err(NoRoom::Address);
        }
        if self.networks.get(network(from)) >= self.bounds.network {
            return Err(NoRoom::Network);
        }
        Ok(())
    }

    /// Adds one. Says which address or network has to give one up for it.
    pub(super) fn add(&mut self, from: Option<IpAddr>) -> Option<Crowd> {
        let scarce = self.len >= self.bounds.scarce;
        self.len += 1;
        if let Some(from) = from {
            self.addresses.change(from, |count| count + 1);
            self.networks.change(network(from), |count| count + 1);
        }
        if !scarce {
            return None;
        }
        let address = self.addresses.largest().filter(|(count, _)| *count > self.bounds.address);
        let network = self.networks.largest().filter(|(count, _)| *count > self.bounds.network);
        address.map(|(_, address)| Crowd::Address(address)).or(network.map(|(_, network)| Crowd::Network(network)))
    }

    pub(super) fn remove(&mut self, from: Option<IpAddr>) {
        self.len -= 1;
        if let Some(from) = from {
            self.addresses.change(from, |count| count - 1);
            self.networks.change(network(from), |count| count - 1);
        }
    }

    /// Whether nothing is kept about anybody.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let counts = [&self.addresses, &self.networks];
        self.len == 0 && counts.iter().all(|counts| counts.of.is_empty() && counts.sizes.is_empty())
    }
}

impl Counts {
    fn get(&self, key: IpAddr) -> usize {
        self.of.get(&key).copied().unwrap_or(0)
    }

    fn largest(&self) -> Option<(usize, IpAddr)> {
        self.sizes.last().copied()
    }

    fn change(&mut self, key: IpAddr, change: impl FnOnce(usize) -> usize) {
        let before = self.get(key);
        let after = change(before);
        self.sizes.remove(&(before, key));
        if after == 0 {
            self.of.remove(&key);
        } else {
            self.of.insert(key, after);
            self.sizes.insert((after, key));
        }
    }
}
