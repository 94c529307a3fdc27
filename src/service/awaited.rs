//! Entries that this node found in the log before their author told of them.
//!
//! Nearly always the author tells a moment later. If it does not, it does not know that they are stored (its batch failed, after it
//! had written), or is gone: then nobody else has heard of them, and this node says that something was lost, so that the others sweep.
//! Until one of both is so, nobody's cursor passes them: what this node says of how far it has published stays behind.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol::ConversationId;
use tokio::time::Instant;

use crate::{cluster::Uplink, position::StreamPosition};

/// How long the author is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Entries that are waited for. With more, the others sweep at once.
const WAITED_FOR: usize = 10_000;

/// A conversation, and the number of an entry.
type Place = (ConversationId, u64);

/// Entries whose author is waited for.
pub struct Awaited {
    uplink: Uplink,
    entries: Mutex<HashMap<Place, (StreamPosition, Instant)>>,
}

impl Awaited {
    /// None.
    #[must_use]
    pub fn new(uplink: Uplink) -> Self {
        Self { uplink, entries: Mutex::default() }
    }

    /// An entry was found in the log, and told here. `floor`: it is stored beyond.
    pub fn expect(&self, place: Place, floor: StreamPosition, now: Instant) {
        if self.uplink.bus().is_none() {
            // Whoever there is sweeps.
            return;
        }
        let mut entries = self.entries();
        if entries.len() < WAITED_FOR {
            entries.entry(place).or_insert((floor, now));
        } else {
            drop(entries);
            self.uplink.lose();
        }
    }

    /// The author has told of an entry.
    pub fn heard(&self, place: Place) {
        self.entries().remove(&place);
    }

    /// This node stops: what is still waited for is told as a loss. To be called before its last beat.
    pub fn stop(&self) {
        let is_any = !std::mem::take(&mut *self.entries()).is_empty();
        if is_any {
            self.uplink.lose();
        }
    }

    /// Waits for nobody any more: the log may have gone back, and with it what was waited for.
    pub fn forget(&self) {
        self.entries().clear();
    }

    /// The others are told of a loss if an author has told nothing for too long. To be called before each beat.
    pub fn give_up(&self, now: Instant) {
        let mut entries = self.entries();
        let before = entries.len();
        entries.retain(|_, (_, since)| now.saturating_duration_since(*since) < PATIENCE);
        let is_late = entries.len() < before;
        drop(entries);
        if is_late {
            self.uplink.lose();
        }
    }

    /// The lowest of what is waited for lies beyond.
    #[must_use]
    pub fn floor(&self) -> Option<StreamPosition> {
        self.entries().values().map(|(floor, _)| *floor).min_by_key(|floor| floor.position)
    }

    /// Held for some instructions, and never across a call that could panic.
    fn entries(&self) -> MutexGuard<'_, HashMap<Place, (StreamPosition, Instant)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use async_trait::async_trait;

    use super::*;
    use crate::{
        cluster::{Beat, Bus, Channel, Event},
        position::{Epoch, Position},
    };

    /// Counts what is said to be lost.
    #[derive(Default)]
    struct Losses(AtomicUsize);

    #[async_trait]
    impl Bus for Losses {
        fn links(&self) -> usize {
            1
        }

        fn describe(&self) -> String {
            String::new()
        }

        fn publish(&self, _: Channel, _: Event) {}

        fn lose(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn beat(&self, _: Beat) {}

        async fn subscribe(&self, _: Channel) -> bool {
            true
        }

        fn unsubscribe(&self, _: Channel) {}

        async fn close(&self) {}
    }

    #[test]
    fn an_author_who_says_nothing_is_told_as_a_loss_and_beats_stay_behind_until_then() {
        let (uplink, losses, start) = (Uplink::default(), Arc::<Losses>::default(), Instant::now());
        let awaited = Awaited::new(uplink.clone());
        let one = ConversationId::from_bytes([1; 12]);
        let floor = |position| StreamPosition { epoch: Epoch([1; 8]), position: Position(position) };
        awaited.expect((one, 1), floor(5), start);
        assert_eq!(awaited.floor(), None, "without a bus the others sweep anyway");
        uplink.connect(Arc::clone(&losses) as _);
        awaited.expect((one, 1), floor(5), start);
        awaited.expect((one, 2), floor(7), start);
        assert_eq!(awaited.floor(), Some(floor(5)));
        awaited.heard((one, 1));
        awaited.give_up(start + PATIENCE / 2);
        assert_eq!((awaited.floor(), losses.0.load(Ordering::Relaxed)), (Some(floor(7)), 0));
        awaited.give_up(start + PATIENCE);
        assert_eq!((awaited.floor(), losses.0.load(Ordering::Relaxed)), (None, 1));
        awaited.stop();
        assert_eq!(losses.0.load(Ordering::Relaxed), 1, "nothing is waited for");
        awaited.expect((one, 3), floor(9), start);
        awaited.stop();
        assert_eq!(losses.0.load(Ordering::Relaxed), 2, "nobody would hear of it any more");
    }
}
