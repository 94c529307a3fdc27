//! What the rest of the server has of the bus: a way out that may not be there, and the channels of the members who are here.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dashmap::{DashMap, Entry};
use futures_util::FutureExt as _;
use protocol::MemberId;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{Bus, Channel, Event};
use crate::position::StreamPosition;

/// How long whoever connects waits for a bus that is about to be opened: it is when the database was reached.
const OPENED: Duration = Duration::from_secs(5);

/// The bus of this node, once it is open. A node without one publishes to nobody, which costs nothing.
#[derive(Clone, Default)]
pub struct Uplink(Arc<Way>);

#[derive(Default)]
struct Way {
    bus: OnceLock<Arc<dyn Bus>>,
    /// Whether there is going to be one, which is not open yet.
    expected: watch::Sender<bool>,
    /// Whether no other node is known that could hear anything.
    alone: AtomicBool,
    /// Hears that something may have been stored here that nobody was told of.
    unsure: OnceLock<Box<dyn Fn(StreamPosition) + Send + Sync>>,
}

impl Uplink {
    /// There is going to be a bus.
    pub fn expect(&self) {
        self.0.expected.send_replace(true);
    }

    /// Opens the way; only once.
    pub fn connect(&self, bus: Arc<dyn Bus>) {
        // A node has one bus from its start to its end.
        let _ = self.0.bus.set(bus);
        self.0.expected.send_replace(false);
    }

    /// The bus, if there is one.
    #[must_use]
    pub fn bus(&self) -> Option<&Arc<dyn Bus>> {
        self.0.bus.get()
    }

    fn is_expected(&self) -> bool {
        *self.0.expected.borrow()
    }

    /// Waits for one that is about to be opened.
    async fn opened(&self) {
        if self.bus().is_none() && *self.0.expected.borrow() {
            let mut expected = self.0.expected.subscribe();
            // If it is not opened, it is as if it were down.
            let _ = timeout(OPENED, expected.wait_for(|expected| !expected)).await;
        }
    }

    /// Sets who hears of [`Self::unsure`]; only once.
    pub fn when_unsure(&self, hear: impl Fn(StreamPosition) + Send + Sync + 'static) {
        // A node has one fleet.
        let _ = self.0.unsure.set(Box::new(hear));
    }

    /// Something may have been stored here beyond a place that nobody was told of, on this node and on others: all of them look in the
    /// store. To be called before it is said that everything up to it was published.
    pub fn unsure(&self, place: StreamPosition) {
        if let Some(hear) = self.0.unsure.get() {
            hear(place);
        }
        self.lose();
    }

    /// The same, where those who are connected here were told.
    pub fn lose(&self) {
        if let Some(bus) = self.bus() {
            bus.lose();
        }
    }

    /// Whether this node is the only one, as far as it knows.
    pub fn set_alone(&self, alone: bool) {
        self.0.alone.store(alone, Ordering::Release);
    }

    /// Publishes an event, if there is a bus. Never waits.
    ///
    /// A node that knows of no other one publishes nothing, which would cost it as much as if there were some: one that joins finds in
    /// its beats that something was lost, and looks in the store, until this node knows of it.
    pub fn publish(&self, channel: Channel, event: impl FnOnce() -> Event) {
        let Some(bus) = self.bus() else { return };
        if self.0.alone.load(Ordering::Acquire) {
            bus.lose();
        } else {
            bus.publish(channel, event());
        }
    }
}

/// How many members' channels are heard a while longer, at most.
const LINGERING: usize = 100_000;

/// The members whose channels this node hears: those who are connected here, or were a moment ago.
pub struct Subscriptions {
    uplink: Uplink,
    /// How many hold each.
    holders: DashMap<MemberId, u32>,
    /// How long a channel is heard when nobody is connected any more.
    linger: Duration,
    /// Who has left, and until when their channel is held, in this order.
    lingering: Mutex<VecDeque<(Instant, MemberId)>>,
}

/// Keeps the channel of a member heard until it is dropped.
pub struct Held<'a> {
    subscriptions: &'a Subscriptions,
    member: MemberId,
    kept: bool,
}

impl Held<'_> {
    /// Keeps it heard until [`Subscriptions::release`] is called instead.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.subscriptions.let_go(self.member);
        }
    }
}

impl Subscriptions {
    /// Nobody's channel is heard.
    #[must_use]
    pub fn new(uplink: Uplink, linger: Duration) -> Self {
        Self { uplink, holders: DashMap::new(), linger, lingering: Mutex::default() }
    }

    /// Hears the channel of a member. When it returns, everything that is published there from then on arrives, or the bus has
    /// said that something may be missing.
    pub async fn hold(&self, member: MemberId) -> Held<'_> {
        // Without a bus there is nothing to hear, but there may be one later.
        self.uplink.opened().await;
        // In this order: it is not expected any more once it is there.
        if self.uplink.is_expected() || self.uplink.bus().is_some() {
            *self.holders.entry(member).or_insert(0) += 1;
        }
        let held = Held { subscriptions: self, member, kept: false };
        // After it was counted: either this finds a bus that is opened just now, or `bus_opened` finds this.
        if let Some(bus) = self.uplink.bus() {
            bus.subscribe(Channel::Member(member)).await;
        }
        held
    }

    /// Whether the channel of a member is heard, as far as the bus hears anything.
    #[must_use]
    pub fn hears(&self, member: MemberId) -> bool {
        self.holders.contains_key(&member)
    }

    /// Whoever held it does not any more: it is heard for a while longer, for who is asked about, or comes back.
    pub fn release(&self, member: MemberId) {
        if !self.holders.contains_key(&member) {
            return;
        }
        let mut lingering = self.lingering();
        if lingering.len() < LINGERING {
            lingering.push_back((Instant::now() + self.linger, member));
        } else {
            drop(lingering);
            self.let_go(member);
        }
    }

    /// Ends what was heard a while longer. To be called now and then.
    pub fn end_lingering(&self, now: Instant) {
        loop {
            let Some((_, member)) = self.lingering().pop_front_if(|(until, _)| *until <= now) else { return };
            self.let_go(member);
        }
    }

    /// There is a bus from now on: what was held before is heard as soon as its links are up.
    pub fn bus_opened(&self) {
        let Some(bus) = self.uplink.bus() else { return };
        let held: Vec<MemberId> = self.holders.iter().map(|holders| *holders.key()).collect();
        for member in held {
            // Links are not up yet, so it is known to the bus after the first look, and nobody has to wait.
            let _ = bus.subscribe(Channel::Member(member)).now_or_never();
        }
    }

    fn let_go(&self, member: MemberId) {
        let Entry::Occupied(mut entry) = self.holders.entry(member) else { return };
        let holders = entry.get_mut();
        *holders = holders.saturating_sub(1);
        if *holders > 0 {
            return;
        }
        // Under the lock of the entry: whoever holds it next subscribes after this.
        if let Some(bus) = self.uplink.bus() {
            bus.unsubscribe(Channel::Member(member));
        }
        entry.remove();
    }

    /// Held for some instructions, and never across a call that could panic.
    fn lingering(&self) -> MutexGuard<'_, VecDeque<(Instant, MemberId)>> {
        self.lingering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
