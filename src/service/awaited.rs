//! Entries that this node found in the log before their author told of them.
//!
//! Nearly always the author tells a moment later. If it does not, it does not know that they are stored (its batch failed, after it
//! had written), or is gone: then nobody else has heard of them, and this node says that something was lost, so that the others sweep.
//! Until one of both is so, nobody's cursor passes them: what this node says of how far it has published stays behind.
//!
//! A node hears an author only on the channels of members who are here. Where none of the members of a conversation is, as when a message is
//! sent over REST, it cannot know whether the author has told: then it tells of the entry itself, when the author had time to. Whoever heard it
//! before passes it over ([`super::delivered`]).

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol::{ConversationId, MemberId};
use tokio::time::Instant;

use crate::{
    cluster::{Channel, Event, Uplink},
    position::StreamPosition,
};

/// How long the author is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Entries that are waited for. With more, the others sweep at once.
const WAITED_FOR: usize = 10_000;
/// Bytes of those that this node tells of itself, at most: the same.
const KEPT: usize = 1024 * 1024;

/// A conversation, and the number of an entry.
type Place = (ConversationId, u64);

/// What has to be told of an entry whose author is not heard here.
pub struct Telling {
    /// To whom.
    pub members: Box<[MemberId]>,
    /// What.
    pub event: Event,
}

impl Telling {
    fn bytes(&self) -> usize {
        match &self.event {
            Event::Frame(frame) => frame.text.len(),
            Event::Note(_) => 0,
        }
    }
}

/// An entry that is waited for.
struct Waiting {
    /// It is stored beyond.
    floor: StreamPosition,
    since: Instant,
    /// Nothing where its author is heard.
    telling: Option<Telling>,
}

/// Entries whose author is waited for.
pub struct Awaited {
    uplink: Uplink,
    entries: Mutex<HashMap<Place, Waiting>>,
}

impl Awaited {
    /// None.
    #[must_use]
    pub fn new(uplink: Uplink) -> Self {
        Self { uplink, entries: Mutex::default() }
    }

    /// An entry was found in the log, and told here. `floor`: it is stored beyond. `telling`: its author is not heard here.
    pub fn expect(&self, place: Place, floor: StreamPosition, telling: Option<Telling>, now: Instant) {
        if self.uplink.bus().is_none() {
            // Whoever there is sweeps.
            return;
        }
        let mut entries = self.entries();
        let kept = || entries.values().filter_map(|each| Some(each.telling.as_ref()?.bytes())).sum::<usize>();
        let has_room = telling.as_ref().is_none_or(|telling| kept() + telling.bytes() <= KEPT);
        if entries.len() < WAITED_FOR && has_room {
            entries.entry(place).or_insert(Waiting { floor, since: now, telling });
        } else {
            drop(entries);
            self.uplink.lose();
        }
    }

    /// The author has told of an entry.
    pub fn heard(&self, place: Place) {
        self.entries().remove(&place);
    }

    /// This node stops: nobody is waited for any longer. To be called before its last beat.
    pub fn stop(&self) {
        let late = std::mem::take(&mut *self.entries());
        self.tell(late.into_values().collect());
    }

    /// Waits for nobody any more: the log may have gone back, and with it what was waited for.
    pub fn forget(&self) {
        self.entries().clear();
    }

    /// The others are told of a loss if an author has told nothing for too long, or of the entry itself. To be called before each beat.
    pub fn give_up(&self, now: Instant) {
        let is_late = |waiting: &Waiting| now.saturating_duration_since(waiting.since) >= PATIENCE;
        let late = self.entries().extract_if(|_, waiting| is_late(waiting)).map(|(_, waiting)| waiting).collect();
        self.tell(late);
    }

    fn tell(&self, late: Vec<Waiting>) {
        let is_lost = late.iter().any(|waiting| waiting.telling.is_none());
        for Telling { members, event } in late.into_iter().filter_map(|waiting| waiting.telling) {
            for member in members {
                self.uplink.publish(Channel::Member(member), || event.clone());
            }
        }
        if is_lost {
            self.uplink.lose();
        }
    }

    /// The lowest of what is waited for lies beyond.
    #[must_use]
    pub fn floor(&self) -> Option<StreamPosition> {
        self.entries().values().map(|waiting| waiting.floor).min_by_key(|floor| floor.position)
    }

    /// Held for some instructions, and never across a call that could panic.
    fn entries(&self) -> MutexGuard<'_, HashMap<Place, Waiting>> {
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
        cluster::{Beat, Bus, event::Relayed},
        position::{Epoch, Position},
    };

    /// Counts what is said to be lost, and what is published.
    #[derive(Default)]
    struct Losses(AtomicUsize, AtomicUsize);

    #[async_trait]
    impl Bus for Losses {
        fn links(&self) -> usize {
            1
        }

        fn describe(&self) -> String {
            String::new()
        }

        fn publish(&self, _: Channel, _: Event) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }

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
        awaited.expect((one, 1), floor(5), None, start);
        assert_eq!(awaited.floor(), None, "without a bus the others sweep anyway");
        uplink.connect(Arc::clone(&losses) as _);
        awaited.expect((one, 1), floor(5), None, start);
        awaited.expect((one, 2), floor(7), None, start);
        assert_eq!(awaited.floor(), Some(floor(5)));
        awaited.heard((one, 1));
        awaited.give_up(start + PATIENCE / 2);
        assert_eq!((awaited.floor(), losses.0.load(Ordering::Relaxed)), (Some(floor(7)), 0));
        awaited.give_up(start + PATIENCE);
        assert_eq!((awaited.floor(), losses.0.load(Ordering::Relaxed)), (None, 1));
        awaited.stop();
        assert_eq!(losses.0.load(Ordering::Relaxed), 1, "nothing is waited for");
        awaited.expect((one, 3), floor(9), None, start);
        awaited.stop();
        assert_eq!(losses.0.load(Ordering::Relaxed), 2, "nobody would hear of it any more");
    }

    /// Found by a reviewer: an author who is not heard here was waited for in vain, and all others had to sweep.
    #[test]
    fn what_an_author_says_who_is_not_heard_here_is_told_by_this_node_and_is_no_loss() {
        let (uplink, bus, start) = (Uplink::default(), Arc::<Losses>::default(), Instant::now());
        let awaited = Awaited::new(uplink.clone());
        uplink.connect(Arc::clone(&bus) as _);
        let said = || (bus.0.load(Ordering::Relaxed), bus.1.load(Ordering::Relaxed));
        let place = |seq| (ConversationId::from_bytes([1; 12]), seq);
        let telling = |bytes| {
            let (members, text) = ([1, 2].map(|id| MemberId::from_bytes([id; 12])), vec![0; bytes].into());
            let event = Event::Frame(Relayed { index: 0, entry: None, text });
            Some(Telling { members: members.into(), event })
        };
        awaited.expect(place(1), StreamPosition::NOWHERE, telling(10), start);
        awaited.give_up(start + PATIENCE / 2);
        assert_eq!((awaited.floor(), said()), (Some(StreamPosition::NOWHERE), (0, 0)));
        awaited.give_up(start + PATIENCE);
        assert_eq!((awaited.floor(), said()), (None, (0, 2)));
        awaited.expect(place(2), StreamPosition::NOWHERE, telling(10), start);
        awaited.stop();
        assert_eq!(said(), (0, 4));
        // What is kept is bounded.
        awaited.expect(place(3), StreamPosition::NOWHERE, telling(KEPT), start);
        awaited.expect(place(4), StreamPosition::NOWHERE, telling(1), start);
        assert_eq!(said(), (1, 4));
    }
}
