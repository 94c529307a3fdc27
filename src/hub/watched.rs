//! Whom a connection watches.

use std::collections::{HashMap, HashSet};

use protocol::MemberId;

/// A member who is watched, or about whom the store is being asked.
#[derive(Debug)]
struct Entry {
    /// Tells it from a place that the same member had before.
    number: u64,
    /// Requests that are not answered yet.
    asking: usize,
    /// Whether a request was answered with the member.
    answered: bool,
}

/// The members of one request, with their places.
#[derive(Debug)]
pub struct WatchRequest(Vec<(MemberId, u64)>);

/// The members that a connection watches. Requests may overlap: a place is kept as long as one of them needs it.
#[derive(Debug, Default)]
pub struct Watched {
    places: HashMap<MemberId, Entry>,
    last_number: u64,
}

impl Watched {
    /// Takes places for the members of a request; none if there were more than `max` then.
    pub fn ask(&mut self, members: &[MemberId], max: usize) -> Option<WatchRequest> {
        let members: HashSet<MemberId> = members.iter().copied().collect();
        let new = members.iter().filter(|member| !self.places.contains_key(member)).count();
        if self.places.len() + new > max {
            return None;
        }
        self.last_number += 1;
        let number = self.last_number;
        let asked = members.into_iter().map(|member| {
            let place = self.places.entry(member).or_insert(Entry { number, asking: 0, answered: false });
            place.asking += 1;
            (member, place.number)
        });
        Some(WatchRequest(asked.collect()))
    }

    /// A request is answered with those of its members who are in `found`. Returns those whose places nobody needs any more.
    pub fn settle(&mut self, WatchRequest(asked): WatchRequest, found: &HashSet<MemberId>) -> Vec<MemberId> {
        let gone = asked.into_iter().filter_map(|(member, number)| {
            let place = self.places.get_mut(&member).filter(|place| place.number == number)?;
            place.asking = place.asking.saturating_sub(1);
            place.answered |= found.contains(&member);
            let needed = place.answered || place.asking > 0;
            (!needed).then(|| self.places.remove(&member)).flatten().map(|_| member)
        });
        gone.collect()
    }

    /// Watches members no longer, whatever is still being asked.
    pub fn forget(&mut self, members: &[MemberId]) {
        for member in members {
            self.places.remove(member);
        }
    }

    /// All members.
    pub fn into_members(self) -> impl Iterator<Item = MemberId> {
        self.places.into_keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: MemberId = MemberId::from_bytes([1; 12]);
    const BEN: MemberId = MemberId::from_bytes([2; 12]);
    const MAX: usize = 2;

    fn watched(watched: Watched) -> HashSet<MemberId> {
        watched.into_members().collect()
    }

    #[test]
    fn a_request_that_fails_takes_nobody_from_one_that_was_answered() {
        for failing_ends_first in [false, true] {
            let mut members = Watched::default();
            let failing = members.ask(&[ANA, BEN], MAX).unwrap();
            let good = members.ask(&[ANA], MAX).unwrap();
            let found = HashSet::from([ANA]);
            if failing_ends_first {
                assert_eq!(members.settle(failing, &HashSet::new()), [BEN]);
                assert_eq!(members.settle(good, &found), []);
            } else {
                assert_eq!(members.settle(good, &found), []);
                assert_eq!(members.settle(failing, &HashSet::new()), [BEN]);
            }
            assert_eq!(watched(members), found);
        }
    }

    #[test]
    fn one_who_was_watched_before_stays_and_one_whom_nobody_finds_goes() {
        let mut members = Watched::default();
        let first = members.ask(&[ANA, ANA], MAX).unwrap();
        assert_eq!(members.settle(first, &HashSet::from([ANA])), []);
        let (one, two) = (members.ask(&[ANA, BEN], MAX).unwrap(), members.ask(&[BEN], MAX).unwrap());
        assert!(members.ask(&[MemberId::from_bytes([3; 12])], MAX).is_none(), "what is being asked counts");
        assert_eq!(members.settle(one, &HashSet::new()), []);
        assert_eq!(members.settle(two, &HashSet::new()), [BEN]);
        assert_eq!(watched(members), HashSet::from([ANA]));
    }

    #[test]
    fn an_unwatch_in_between_ends_what_was_asked_before_and_not_what_is_asked_after() {
        let mut members = Watched::default();
        let before = members.ask(&[ANA, BEN], MAX).unwrap();
        members.forget(&[ANA, BEN]);
        let after = members.ask(&[ANA], MAX).unwrap();
        assert_eq!(members.settle(before, &HashSet::from([BEN])), []);
        assert_eq!(members.settle(after, &HashSet::from([ANA])), []);
        assert_eq!(watched(members), HashSet::from([ANA]));
    }
}
