//! Whose turn it is: bounded queues that are fair between networks, and within a network between addresses.
//!
//! Work for familiar sources (a member who logs in from where they did before) has a queue of its own, which gets every
//! second turn while there is such work. Strangers, however many, cannot take that.

use std::{collections::VecDeque, net::IpAddr};

use crate::sources::network;

/// Items in one queue.
const QUEUE_MAX: usize = 256;
/// Of these, items from one network (/24 of IPv4, /48 of IPv6).
const NETWORK_MAX: usize = 128;
/// Of these, items from one address.
const ADDRESS_MAX: usize = 64;

/// Where work comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The address; one for a whole subscriber of IPv6 ([`crate::sources::subscriber`]).
    pub address: IpAddr,
    /// Whether the same member has logged in from there before.
    pub familiar: bool,
}

/// Why an item was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Its address or network has as many items in the queue as it may.
    Source,
    /// The queue has no room, and no network has more in it than this one.
    Queue,
}

/// Both queues.
pub(super) struct Turns<T> {
    familiar: Ring<T>,
    strangers: Ring<T>,
    strangers_next: bool,
}

/// A queue: networks that have items, in the order of their turns.
struct Ring<T> {
    networks: VecDeque<Network<T>>,
    len: usize,
}

struct Network<T> {
    network: IpAddr,
    addresses: VecDeque<Address<T>>,
    len: usize,
}

struct Address<T> {
    address: IpAddr,
    items: VecDeque<T>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        let ring = || Ring { networks: VecDeque::new(), len: 0 };
        Self { familiar: ring(), strangers: ring(), strangers_next: false }
    }
}

impl<T> Turns<T> {
    /// Adds an item. In a full queue it takes the place of the newest item of the network that has the most, if that has
    /// more than its own; the replaced item is dropped.
    ///
    /// # Errors
    /// When it was not added.
    pub(super) fn push(&mut self, from: Source, item: T) -> Result<(), Full> {
        let ring = if from.familiar { &mut self.familiar } else { &mut self.strangers };
        ring.push(from.address, item)
    }

    /// Takes the item whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let strangers_first = self.strangers_next;
        self.strangers_next = !strangers_first;
        if strangers_first {
            self.strangers.pop().or_else(|| self.familiar.pop())
        } else {
            self.familiar.pop().or_else(|| self.strangers.pop())
        }
    }
}

impl<T> Ring<T> {
    fn push(&mut self, address: IpAddr, item: T) -> Result<(), Full> {
        let network = network(address);
        let known = self.networks.iter().find(|known| known.network == network);
        let of_network = known.map_or(0, |known| known.len);
        let of_address = known.and_then(|known| known.addresses.iter().find(|known| known.address == address));
        if of_network >= NETWORK_MAX || of_address.is_some_and(|known| known.items.len() >= ADDRESS_MAX) {
            return Err(Full::Source);
        }
        if self.len >= QUEUE_MAX && !self.drop_newest_of_larger_than(of_network) {
            return Err(Full::Queue);
        }
        self.len += 1;
        match self.networks.iter_mut().find(|known| known.network == network) {
            Some(known) => known.push(address, item),
            None => {
                let mut first = Network { network, addresses: VecDeque::new(), len: 0 };
                first.push(address, item);
                self.networks.push_back(first);
            }
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<T> {
        let mut network = self.networks.pop_front()?;
        let item = network.pop()?;
        self.len -= 1;
        if network.len > 0 {
            self.networks.push_back(network);
        }
        Some(item)
    }

    /// Makes room at the network with the most items, if it has more than `few`, one that is about to be added included.
    fn drop_newest_of_larger_than(&mut self, few: usize) -> bool {
        let largest = self.networks.iter_mut().max_by_key(|network| network.len);
        let Some(largest) = largest.filter(|largest| largest.len > few + 1) else { return false };
        largest.drop_newest();
        self.len -= 1;
        true
    }
}

impl<T> Network<T> {
    fn push(&mut self, address: IpAddr, item: T) {
        self.len += 1;
        match self.addresses.iter_mut().find(|known| known.address == address) {
            Some(known) => known.items.push_back(item),
            None => self.addresses.push_back(Address { address, items: VecDeque::from([item]) }),
        }
    }

    fn pop(&mut self) -> Option<T> {
        let mut address = self.addresses.pop_front()?;
        let item = address.items.pop_front()?;
        self.len -= 1;
        if !address.items.is_empty() {
            self.addresses.push_back(address);
        }
        Some(item)
    }

    /// Of the address that has the most. There is one with more than one item, or there are several addresses: a network
    /// is only asked when it has at least two.
    fn drop_newest(&mut self) {
        let largest =
            (0..self.addresses.len()).max_by_key(|at| self.addresses.get(*at).map_or(0, |known| known.items.len()));
        let Some(at) = largest else { return };
        if let Some(address) = self.addresses.get_mut(at) {
            address.items.pop_back();
            self.len -= 1;
            if address.items.is_empty() {
                self.addresses.remove(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Source {
        Source { address: address.parse().unwrap(), familiar: false }
    }

    fn familiar(address: &str) -> Source {
        Source { familiar: true, ..from(address) }
    }

    fn order(turns: &mut Turns<String>) -> Vec<String> {
        std::iter::from_fn(|| turns.pop()).collect()
    }

    #[test]
    fn addresses_take_turns_and_so_do_networks() {
        let mut turns = Turns::default();
        for number in 0..3 {
            for address in ["192.0.2.1", "192.0.2.2"] {
                turns.push(from(address), format!("{address} {number}")).unwrap();
            }
        }
        turns.push(from("192.0.2.3"), "neighbour".to_owned()).unwrap();
        turns.push(from("198.51.100.7"), "elsewhere".to_owned()).unwrap();
        let order = order(&mut turns);
        let place = |of: &str| order.iter().position(|item| item == of).unwrap();
        assert_eq!(order.len(), 8);
        assert!(place("elsewhere") <= 1, "{order:?}");
        assert!(place("neighbour") <= 4, "{order:?}");
        assert!(place("192.0.2.1 0") < place("192.0.2.1 1"), "{order:?}");
    }

    #[test]
    fn strangers_however_many_leave_every_second_turn_to_who_is_familiar() {
        let mut turns = Turns::default();
        for number in 0..QUEUE_MAX {
            turns.push(from(&format!("10.{}.{}.1", number / 200, number % 200)), "stranger".to_owned()).unwrap();
        }
        turns.push(familiar("192.0.2.1"), "Ana".to_owned()).unwrap();
        turns.push(familiar("192.0.2.2"), "Ben".to_owned()).unwrap();
        let order = order(&mut turns);
        assert!(order[..4].contains(&"Ana".to_owned()) && order[..4].contains(&"Ben".to_owned()));
        assert_eq!(order.len(), QUEUE_MAX + 2);
    }

    #[test]
    fn one_source_has_a_bound_and_makes_room_in_a_full_queue() {
        let mut turns = Turns::default();
        let fill = |turns: &mut Turns<String>, address: &str| {
            (0..).map_while(|_| turns.push(from(address), address.to_owned()).ok()).count()
        };
        assert_eq!(fill(&mut turns, "192.0.2.1"), ADDRESS_MAX);
        assert_eq!(turns.push(from("192.0.2.1"), String::new()), Err(Full::Source));
        assert_eq!(fill(&mut turns, "192.0.2.2"), NETWORK_MAX - ADDRESS_MAX);
        assert_eq!(turns.push(from("192.0.2.3"), String::new()), Err(Full::Source), "the network has its share");
        assert_eq!(fill(&mut turns, "198.51.100.1"), ADDRESS_MAX);
        assert_eq!(fill(&mut turns, "203.0.113.1"), ADDRESS_MAX);
        turns.push(from("10.0.0.1"), "late".to_owned()).unwrap();
        assert_eq!(
            (turns.strangers.len, turns.strangers.networks.iter().map(|network| network.len).sum()),
            (QUEUE_MAX, QUEUE_MAX)
        );
        let order = order(&mut turns);
        assert!(
            order[..4].contains(&"late".to_owned()),
            "who comes late to a full queue waits for a turn of each network"
        );
    }
}
