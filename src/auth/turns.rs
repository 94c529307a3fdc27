//! Whose turn it is: bounded queues that are fair between providers, between the networks of one, and between the addresses of one of these.
//!
//! Work for familiar sources (a member who logs in from where they did before) has a queue of its own, which gets every
//! second turn while there is such work. Strangers, however many, cannot take that.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::{IpAddr, Ipv6Addr},
};

use crate::sources::{network, provider};

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
    /// The queue has no room, and nobody has more in it than this address.
    Queue,
}

/// Both queues.
pub(super) struct Turns<T> {
    familiar: Ring<T>,
    strangers: Ring<T>,
    strangers_next: bool,
}

/// A queue. Whoever has items in it takes turns at each level: providers, in these networks, in these addresses.
struct Ring<T> {
    all: Group<T>,
}

/// What has items in the queue: all, a provider, a network, or an address, which alone has items of its own.
struct Group<T> {
    /// The first address of it.
    of: IpAddr,
    /// The items in it, those of its parts included.
    len: usize,
    /// Its parts, in the order of their turns.
    parts: VecDeque<Group<T>>,
    items: VecDeque<T>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        let ring = || Ring { all: Group::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) };
        Self { familiar: ring(), strangers: ring(), strangers_next: false }
    }
}

impl<T> Turns<T> {
    /// Adds an item. In a full queue it takes the place of the newest item of the provider, network or address that has the most, if that has
    /// more than its own, or of one that chance hits if none has; the replaced item is dropped.
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
        let levels = [provider(address), network(address), address];
        let [_, of_network, of_address] = self.all.lens(levels);
        if of_network >= NETWORK_MAX || of_address >= ADDRESS_MAX {
            return Err(Full::Source);
        }
        if self.all.len >= QUEUE_MAX && !self.all.make_room(&levels) {
            return Err(Full::Queue);
        }
        self.all.push(&levels, item);
        Ok(())
    }

    fn pop(&mut self) -> Option<T> {
        self.all.pop()
    }
}

impl<T> Group<T> {
    const fn new(of: IpAddr) -> Self {
        Self { of, len: 0, parts: VecDeque::new(), items: VecDeque::new() }
    }

    fn part(&self, of: IpAddr) -> Option<&Self> {
        self.parts.iter().find(|part| part.of == of)
    }

    /// How many items there are at each level above and at an address.
    fn lens<const N: usize>(&self, levels: [IpAddr; N]) -> [usize; N] {
        let mut group = Some(self);
        levels.map(|of| {
            group = group.and_then(|group| group.part(of));
            group.map_or(0, |group| group.len)
        })
    }

    fn push(&mut self, levels: &[IpAddr], item: T) {
        self.len += 1;
        let Some((of, rest)) = levels.split_first() else { return self.items.push_back(item) };
        match self.parts.iter_mut().find(|part| part.of == *of) {
            Some(part) => part.push(rest, item),
            None => {
                let mut part = Self::new(*of);
                part.push(rest, item);
                self.parts.push_back(part);
            }
        }
    }

    fn pop(&mut self) -> Option<T> {
        let item = match self.parts.pop_front() {
            None => self.items.pop_front()?,
            Some(mut part) => {
                let item = part.pop()?;
                if part.len > 0 {
                    self.parts.push_back(part);
                }
                item
            }
        };
        self.len -= 1;
        Some(item)
    }

    /// Drops an item for one of these levels: of the part that has the most, if that has more than the newcomer's part with the newcomer; else
    /// of the newcomer's own part. If that has none, nobody has more than one: then whoever chance hits, or as many parts as there is room
    /// for would keep everybody else out. False if only the newcomer's own address has to give.
    fn make_room(&mut self, levels: &[IpAddr]) -> bool {
        let Some((of, rest)) = levels.split_first() else { return false };
        let own = self.part(*of).map_or(0, |part| part.len);
        let most = self.parts.iter().map(|part| part.len).max().unwrap_or(0);
        if most > own + 1 || own == 0 {
            return self.drop_newest();
        }
        let Some(part) = self.parts.iter_mut().find(|part| part.of == *of) else { return false };
        let has_room = part.make_room(rest);
        self.len -= usize::from(has_room);
        has_room
    }

    /// Drops the newest item of a part that has the most, whichever chance hits of these. False if there is none.
    fn drop_newest(&mut self) -> bool {
        let most = self.parts.iter().map(|part| part.len).max().unwrap_or(0);
        let largest: Vec<usize> =
            (0..).zip(&self.parts).filter(|(_, part)| part.len == most).map(|(at, _)| at).collect();
        let hit = largest.get(drawn(largest.len())).copied();
        let has_dropped = match hit.and_then(|at| self.parts.get_mut(at)) {
            Some(part) => part.drop_newest(),
            None => self.items.pop_back().is_some(),
        };
        self.parts.retain(|part| part.len > 0);
        self.len -= usize::from(has_dropped);
        has_dropped
    }
}

/// A number below a bound, or 0, that nobody can foresee: the standard library keys each of its hashes with one.
fn drawn(below: usize) -> usize {
    let drawn = usize::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or(0);
    drawn.checked_rem(below).unwrap_or(0)
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
            (turns.strangers.all.len, turns.strangers.all.parts.iter().map(|part| part.len).sum()),
            (QUEUE_MAX, QUEUE_MAX)
        );
        let order = order(&mut turns);
        assert!(
            order[..4].contains(&"late".to_owned()),
            "who comes late to a full queue waits for a turn of each provider"
        );
    }

    /// Found by an attacker: 256 networks with one item each kept every device out that was not known.
    #[test]
    fn as_many_sources_as_there_are_places_keep_nobody_out() {
        for spread in
            [|number: usize| format!("{}.{}.0.1", 10 + number / 200, number % 200), |number| format!("10.1.{number}.1")]
        {
            let mut turns = Turns::default();
            (0..QUEUE_MAX).for_each(|number| turns.push(from(&spread(number)), "attacker".to_owned()).unwrap());
            for address in ["192.0.2.1", "198.51.100.1", "10.1.250.9"] {
                turns.push(from(address), "newcomer".to_owned()).unwrap();
            }
            assert_eq!(turns.strangers.all.len, QUEUE_MAX);
            let order = order(&mut turns);
            assert_eq!(order.len(), QUEUE_MAX);
            // The last one may have hit another by chance.
            assert!(order.iter().filter(|item| *item == "newcomer").count() >= 1, "{order:?}");
        }
    }

    /// One provider gives a /48 of IPv6 to whoever asks, and has 65,536 of them.
    #[test]
    fn the_networks_of_one_provider_share_its_turns_and_its_places() {
        let mut turns = Turns::default();
        let fill = |turns: &mut Turns<String>| {
            for number in 0..QUEUE_MAX {
                // Whose address alone would have to give is refused.
                let _ = turns.push(from(&format!("2001:db8:{number:x}::1")), "attacker".to_owned());
            }
        };
        fill(&mut turns);
        for number in 0..20 {
            turns.push(from(&format!("192.0.{number}.1")), "member".to_owned()).unwrap();
        }
        // What comes after them takes its own provider's places.
        fill(&mut turns);
        let order = order(&mut turns);
        assert_eq!((order.len(), order.iter().filter(|item| *item == "member").count()), (QUEUE_MAX, 20));
        assert!(order[..40].iter().filter(|item| *item == "member").count() >= 19, "every second turn is theirs");
    }
}
