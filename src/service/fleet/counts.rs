//! How many connections members have at other nodes, as those say when one more is opened here.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use protocol::ConnectionId;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::cluster::NodeId;

/// How long after one was opened the others have said how many they have.
const LATELY: Duration = Duration::from_secs(5);
/// Connections that are kept. With more, all are forgotten: then some more than there may be stay.
const KEPT: usize = 10_000;

/// What was said of the connections that were opened here within the last seconds.
#[derive(Default)]
pub(super) struct Counts {
    said: Mutex<HashMap<ConnectionId, Said>>,
}

/// What each node has said of a connection, and when the first did.
struct Said {
    by: SmallVec<[(NodeId, u32); 4]>,
    since: Instant,
}

impl Counts {
    /// A node has heard of a connection, and said how many earlier ones its member has there. Returns how many all have that have
    /// said so.
    pub(super) fn hear(&self, connection: ConnectionId, from: NodeId, count: u32, now: Instant) -> u32 {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= KEPT && !said.contains_key(&connection) {
            said.clear();
        }
        let Said { by, .. } = said.entry(connection).or_insert_with(|| Said { by: SmallVec::new(), since: now });
        // It may be asked again.
        by.retain(|(node, _)| *node != from);
        by.push((from, count));
        by.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Forgets what is old. To be called now and then.
    pub(super) fn tidy(&self, now: Instant) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, said| now.saturating_duration_since(said.since) < LATELY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_one_connection_adds_up_for_a_while() {
        let (counts, start) = (Counts::default(), Instant::now());
        let [one, other] = [1, 2].map(|id| ConnectionId::from_bytes([id; 12]));
        let [a, b] = [1, 2].map(|id| NodeId([id; 12]));
        assert_eq!((counts.hear(one, a, 3, start), counts.hear(other, a, 9, start)), (3, 9));
        assert_eq!(
            (counts.hear(one, b, 4, start), counts.hear(one, a, 3, start)),
            (7, 7),
            "what is said again is none more"
        );
        counts.tidy(start + LATELY / 2);
        assert_eq!(counts.hear(one, a, 1, start + LATELY / 2), 5);
        counts.tidy(start + LATELY);
        assert!(counts.said.lock().unwrap().is_empty());
    }
}
