//! The way from the acknowledgement of a message to its push: what lies between nodes, without what the store takes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use protocol::ClientMessageId;
use tokio::time::Instant;

/// Messages of which one of both has come. With more, all are forgotten: what is not pushed but swept stays here.
const OPEN: usize = 100_000;

/// Messages that are acknowledged and not pushed yet, or the other way round.
#[derive(Default)]
pub(crate) struct Hops(Mutex<HashMap<ClientMessageId, Instant>>);

impl Hops {
    /// A message was acknowledged. Returns the time to its push, if that came before: none.
    pub(crate) fn acknowledged(&self, id: ClientMessageId) -> Option<Duration> {
        self.second(id).map(|_| Duration::ZERO)
    }

    /// A message was pushed. Returns the time since its acknowledgement, if that came before.
    pub(crate) fn pushed(&self, id: ClientMessageId) -> Option<Duration> {
        self.second(id).map(|first| first.elapsed())
    }

    fn second(&self, id: ClientMessageId) -> Option<Instant> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = open.remove(&id);
        if first.is_none() {
            if open.len() >= OPEN {
                open.clear();
            }
            open.insert(id, Instant::now());
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_push_is_timed_from_its_acknowledgement() {
        let (hops, one, two) =
            (Hops::default(), ClientMessageId::from_bytes([1; 16]), ClientMessageId::from_bytes([2; 16]));
        assert_eq!((hops.acknowledged(one), hops.pushed(two)), (None, None));
        tokio::time::advance(Duration::from_millis(3)).await;
        assert_eq!(hops.pushed(one), Some(Duration::from_millis(3)));
        assert_eq!(hops.acknowledged(two), Some(Duration::ZERO), "pushed before");
    }
}
