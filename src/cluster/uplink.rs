//! What the rest of the server has of the bus: a way out that may not be there, and the channels of the members who are here.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use dashmap::{DashMap, Entry};
use protocol::MemberId;
use tokio::{sync::watch, time::timeout};

use super::{Bus, Channel, Event};

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
    /// Hears that something may have been stored here that nobody was told of.
    unsure: OnceLock<Box<dyn Fn() + Send + Sync>>,
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

    /// The same, and waits for one that is about to be opened.
    async fn opened(&self) -> Option<&Arc<dyn Bus>> {
        if self.bus().is_none() && *self.0.expected.borrow() {
            let mut expected = self.0.expected.subscribe();
            // If it is not opened, it is as if it were down.
            let _ = timeout(OPENED, expected.wait_for(|expected| !expected)).await;
        }
        self.bus()
    }

    /// Sets who hears of [`Self::unsure`]; only once.
    pub fn when_unsure(&self, hear: impl Fn() + Send + Sync + 'static) {
        // A node has one fleet.
        let _ = self.0.unsure.set(Box::new(hear));
    }

    /// Something may have been stored here that nobody was told of, on this node and on others: all of them look in the store. To
    /// be called before it is said that everything up to it was published.
    pub fn unsure(&self) {
        if let Some(hear) = self.0.unsure.get() {
            hear();
        }
        self.lose();
    }

    /// The same, where those who are connected here were told.
    pub fn lose(&self) {
        if let Some(bus) = self.bus() {
            bus.lose();
        }
    }

    /// Publishes an event, if there is a bus. Never waits.
    pub fn publish(&self, channel: Channel, event: impl FnOnce() -> Event) {
        if let Some(bus) = self.bus() {
            bus.publish(channel, event());
        }
    }
}

/// The members whose channels this node hears: those who are connected here.
pub struct Subscriptions {
    uplink: Uplink,
    /// How many hold each.
    holders: DashMap<MemberId, u32>,
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
            self.subscriptions.release(self.member);
        }
    }
}

impl Subscriptions {
    /// Nobody's channel is heard.
    #[must_use]
    pub fn new(uplink: Uplink) -> Self {
        Self { uplink, holders: DashMap::new() }
    }

    /// Hears the channel of a member. When it returns, everything that is published there from then on arrives, or the bus has
    /// said that something may be missing.
    pub async fn hold(&self, member: MemberId) -> Held<'_> {
        let bus = self.uplink.opened().await;
        let held = Held { subscriptions: self, member, kept: bus.is_none() };
        if let Some(bus) = bus {
            *self.holders.entry(member).or_insert(0) += 1;
            bus.subscribe(Channel::Member(member)).await;
        }
        held
    }

    /// Whoever held it does not any more.
    pub fn release(&self, member: MemberId) {
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
}
