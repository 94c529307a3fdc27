//! Which orders of administrators to disconnect a member this node has heard of.
//!
//! An order is an entry of the audit log, and every node is told of it. A node that finds the entry (`service::session_check`)
//! has to know whether it heard of it: if so, a connection that the member has opened since stays.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use protocol::{MemberId, Timestamp};

use crate::clock::Clock;

/// Orders that are kept, the newest. For one that is forgotten, a connection too many is closed.
const KEPT: usize = 1_024;
/// How far the time of an entry and that at which it was heard of may be apart: the way between nodes, and what their clocks
/// differ by.
const APART: Duration = Duration::from_secs(10);

/// Orders that were heard of and not yet found in the audit log.
pub struct Kicks {
    heard: Mutex<VecDeque<(MemberId, Timestamp)>>,
    clock: Arc<dyn Clock>,
}

impl Kicks {
    /// None yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { heard: Mutex::default(), clock }
    }

    /// Keeps that the connections of a member were closed by an order, just now.
    pub fn hear(&self, member: MemberId) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() >= KEPT {
            heard.pop_front();
        }
        heard.push_back((member, self.clock.now()));
    }

    /// Whether the order of an entry was heard of. Each that was heard of is one entry.
    pub fn was_heard(&self, member: MemberId, at: Timestamp) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(of, when): &(MemberId, Timestamp)| *of == member && apart(*when, at) <= APART;
        let found = heard.iter().position(is_it);
        found.and_then(|found| heard.remove(found)).is_some()
    }
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const ANA: MemberId = MemberId::from_bytes([1; 12]);
    const BEN: MemberId = MemberId::from_bytes([2; 12]);

    #[test]
    fn each_order_that_was_heard_of_is_one_entry_of_its_time() {
        let start = Timestamp::from_millis(1_000_000);
        let clock = ManualClock::at(start);
        let kicks = Kicks::new(Arc::new(clock.clone()));
        kicks.hear(ANA);
        assert!(!kicks.was_heard(BEN, start));
        assert!(!kicks.was_heard(ANA, start.after(APART * 2)), "another one");
        // The clock of the node that wrote it is ahead.
        assert!(kicks.was_heard(ANA, start.after(Duration::from_secs(3))));
        assert!(!kicks.was_heard(ANA, start), "a second one, of which nothing was heard");
        for _ in 0..=KEPT {
            kicks.hear(BEN);
        }
        assert_eq!(kicks.heard.lock().unwrap().len(), KEPT);
    }
}
