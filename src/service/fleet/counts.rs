//! How many connections members have at other nodes, as those say when one more is opened here.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use protocol::ConnectionId;
use tokio::time::Instant;

/// How long after one was opened the others have said how many they have.
const SAID: Duration = Duration::from_secs(5);
/// Connections that are kept. With more, all are forgotten: then some more than there may be stay.
const KEPT: usize = 10_000;

/// What was said of the connections that were opened here within the last seconds.
#[derive(Default)]
pub(super) struct Counts {
    said: Mutex<HashMap<ConnectionId, (u32, Instant)>>,
}

impl Counts {
    /// A node has heard of a connection, and said how many others its member has there. Returns how many all have that have said so.
    pub(super) fn hear(&self, connection: ConnectionId, count: u32, now: Instant) -> u32 {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= KEPT && !said.contains_key(&connection) {
            said.clear();
        }
        let (sum, _) = said.entry(connection).or_insert((0, now));
        *sum = sum.saturating_add(count);
        *sum
    }

    /// Forgets what is old. To be called now and then.
    pub(super) fn tidy(&self, now: Instant) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, (_, at)| now.saturating_duration_since(*at) < SAID);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_one_connection_adds_up_for_a_while() {
        let (counts, start) = (Counts::default(), Instant::now());
        let [one, other] = [1, 2].map(|id| ConnectionId::from_bytes([id; 12]));
        assert_eq!((counts.hear(one, 3, start), counts.hear(other, 9, start), counts.hear(one, 4, start)), (3, 9, 7));
        counts.tidy(start + SAID / 2);
        assert_eq!(counts.hear(one, 1, start + SAID / 2), 8);
        counts.tidy(start + SAID);
        assert!(counts.said.lock().unwrap().is_empty());
    }
}
