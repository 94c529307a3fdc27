//! Telling others of changed profiles: those who watch a member, and those who have a conversation with them.
//!
//! They are told of a change at once, and then at most once per interval and member, with the newest profile last. A task
//! of its own does it, so that nobody who changes a profile waits for it, and nothing is lost when they hang up.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use protocol::{MemberId, ServerFrame, Timestamp, model::MemberCard, server::MemberPush};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{events::Events, watching::Watching};
use crate::{hub::Frame, store::ConversationStore};

/// Members whose partners are looked up at the same time.
const LOOK_UPS: usize = 8;

/// A member whose profile changed lately.
struct PendingCard {
    /// The newest profile, if others have not been told of it.
    next: Option<MemberCard>,
    /// When the newest profile that came was stored.
    newest: Timestamp,
    /// When others may be told again.
    due: Instant,
}

/// Members whose profiles changed lately: one slot each, until an interval has passed in which nothing changed.
#[derive(Default)]
struct Pending {
    members: HashMap<MemberId, PendingCard>,
    /// The same members in the order in which they are due.
    order: BTreeSet<(Instant, MemberId)>,
}

impl Pending {
    /// A profile has changed. Returns whether that is due at once. Of two that change it at the same time the later one may
    /// come first; what it replaced is not told after it.
    fn submit(&mut self, card: MemberCard, now: Instant) -> bool {
        let member = card.id;
        let mut at_once = false;
        let slot = self.members.entry(member).or_insert_with(|| {
            at_once = true;
            self.order.insert((now, member));
            PendingCard { next: None, newest: card.updated_at, due: now }
        });
        if card.updated_at >= slot.newest {
            slot.newest = card.updated_at;
            slot.next = Some(card);
        }
        at_once
    }

    /// What is older than this is not told any more.
    fn supersede(&mut self, member: MemberId, at: Timestamp) {
        if let Some(slot) = self.members.get_mut(&member).filter(|slot| slot.newest < at) {
            (slot.newest, slot.next) = (at, None);
        }
    }

    /// What others are to be told by `now`.
    fn take_due(&mut self, now: Instant, interval: Duration) -> Vec<MemberCard> {
        let mut cards = Vec::new();
        while let Some((due, member)) = self.order.first().copied().filter(|(due, _)| *due <= now) {
            self.order.remove(&(due, member));
            let Some(slot) = self.members.get_mut(&member) else { continue };
            match slot.next.take() {
                Some(card) => {
                    // Never the same moment again, or this would not end.
                    slot.due = (now + interval).max(now + Duration::from_nanos(1));
                    self.order.insert((slot.due, member));
                    cards.push(card);
                }
                None => drop(self.members.remove(&member)),
            }
        }
        cards
    }
}

/// A profile that watchers at this node were told of.
struct Told {
    member: MemberId,
    /// Who has a conversation with the member.
    partners: Vec<MemberId>,
    push: ServerFrame,
}

/// Tells others of changed profiles.
pub struct Announcements {
    conversations: Arc<dyn ConversationStore>,
    watching: Arc<Watching>,
    events: Events,
    interval: Duration,
    slots: Mutex<Pending>,
    submitted: Notify,
}

impl Announcements {
    /// Announcements with at least `interval` between two of one member.
    #[must_use]
    pub fn new(
        conversations: Arc<dyn ConversationStore>,
        watching: Arc<Watching>,
        events: Events,
        interval: Duration,
    ) -> Self {
        Self { conversations, watching, events, interval, slots: Mutex::default(), submitted: Notify::new() }
    }

    /// Others are to be told of a profile as it is now. Never waits.
    pub fn submit(&self, card: MemberCard) {
        if self.lock().submit(card, Instant::now()) {
            self.submitted.notify_one();
        }
    }

    /// Another node tells of a profile, as it was stored at a time: what is older is not told any more.
    pub fn supersede(&self, member: MemberId, at: Timestamp) {
        self.lock().supersede(member, at);
    }

    /// Tells others until `stop`. For one task only.
    pub async fn run(&self, stop: CancellationToken) {
        let _: Option<()> = stop.run_until_cancelled(self.work()).await;
    }

    async fn work(&self) {
        loop {
            let next = self.lock().order.first().map(|(due, _)| *due);
            let submitted = self.submitted.notified();
            match next {
                None => submitted.await,
                // Whichever comes first.
                Some(due) => drop(timeout_at(due, submitted).await),
            }
            let cards = self.lock().take_due(Instant::now(), self.interval);
            stream::iter(cards).for_each_concurrent(LOOK_UPS, |card| self.tell(card)).await;
        }
    }

    async fn tell(&self, card: MemberCard) {
        let told = self.reach(card).await;
        self.watching.tell_elsewhere(told.member, || Frame::push(&told.push));
        self.events.to_members(&told.partners, None, &told.push);
    }

    /// Tells those who are connected to this node, the member's own devices too, of a profile that was changed elsewhere.
    pub async fn tell_here(&self, card: MemberCard) {
        let mut told = self.reach(card).await;
        told.partners.push(told.member);
        self.events.to_members_here(&told.partners, &told.push);
    }

    /// Tells those who watch the member at this node, and have no conversation with them. Returns whom else it concerns.
    async fn reach(&self, card: MemberCard) -> Told {
        let member = card.id;
        let partners = self.conversations.partners(member).await.unwrap_or_else(|error| {
            // The change is made. Who cannot be told now reads it with the next request.
            tracing::warn!(%error, %member, "a changed profile was not told to those who have a conversation with them");
            Vec::new()
        });
        let push = ServerFrame::MemberPush(MemberPush { member: card });
        let told: HashSet<MemberId> = partners.iter().copied().chain([member]).collect();
        let watchers = self.watching.watchers(member).into_iter();
        let watchers: Vec<_> = watchers.filter(|watcher| !told.contains(&watcher.member)).collect();
        self.events.to_connections(&watchers, &push);
        Told { member, partners, push }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use protocol::model::{Tier, UserType};

    use super::*;

    fn card(name: &str) -> MemberCard {
        MemberCard {
            id: MemberId::from_bytes([1; 12]),
            name: name.to_owned(),
            tier: Tier::Infinity,
            profile_image_url: None,
            user_type: UserType::Member,
            is_active: true,
            updated_at: Timestamp::from_millis(0),
        }
    }

    #[test]
    fn a_change_is_told_at_once_and_then_the_newest_once_per_interval() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut slots = Pending::default();
        let mut told = Vec::new();
        // A change every 10 ms for 10 s.
        for step in 0..1_000_u32 {
            let now = start + Duration::from_millis(10) * step;
            slots.submit(card(&step.to_string()), now);
            told.extend(slots.take_due(now, second).into_iter().map(|card| card.name));
        }
        assert_eq!((told.len(), told[0].as_str(), told[1].as_str()), (10, "0", "100"));
        let quiet = start + Duration::from_secs(20);
        assert_eq!(slots.take_due(quiet, second).pop().map(|card| card.name).as_deref(), Some("999"));
        assert!(slots.take_due(quiet + second, second).is_empty());
        assert!(slots.members.is_empty() && slots.order.is_empty(), "nothing is kept of who changes nothing");
    }

    #[test]
    fn what_was_replaced_is_not_told_after_what_replaced_it() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let at = |name, millis| MemberCard { updated_at: Timestamp::from_millis(millis), ..card(name) };
        let mut slots = Pending::default();
        let told = |slots: &mut Pending, now| slots.take_due(now, second).pop().map(|card| card.name);
        slots.submit(at("newer", 2), now);
        slots.submit(at("older", 1), now);
        assert_eq!(told(&mut slots, now).as_deref(), Some("newer"));
        slots.submit(at("older", 1), now);
        assert_eq!(told(&mut slots, now + second), None);
        // Another node has told of a newer one.
        slots.submit(at("first", 3), now + second);
        assert_eq!(told(&mut slots, now + second).as_deref(), Some("first"));
        slots.submit(at("waiting", 4), now + second);
        slots.supersede(MemberId::from_bytes([1; 12]), Timestamp::from_millis(5));
        assert_eq!(told(&mut slots, now + second * 3), None);
    }

    #[test]
    fn without_an_interval_every_change_is_told() {
        let mut now = Instant::now();
        let mut slots = Pending::default();
        for name in ["a", "b"] {
            slots.submit(card(name), now);
            now += Duration::from_millis(1);
            assert_eq!(slots.take_due(now, Duration::ZERO).pop().map(|card| card.name).as_deref(), Some(name));
            now += Duration::from_millis(1);
        }
    }
}
