//! This node among others: what it says to them, what it hears of them, and how it finds what it may have missed.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`aftermath`] | what is looked at again when doubts begin, last, and end |
//! | [`counts`] | how many connections members have elsewhere, when one more is opened here |
//! | [`inbox`] | what other nodes publish, delivered here |
//! | [`profiles`] | profiles that changed while something was in doubt |
//! | [`questions`] | what this node asks the others |
//! | [`standing`] | which devices are connected here, said again after nobody may have heard it |
//! | [`sweep`] | reading from the store what may have been missed, and delivering that |
//! | [`told`] | what was delivered while sweeping, so that it is not delivered again |
//!
//! Only a store that nodes share has this ([`crate::store::fleet`]). One task follows the listing of nodes and beats on the bus;
//! another one sweeps while anything is in doubt.

mod aftermath;
mod counts;
mod inbox;
mod profiles;
mod questions;
mod standing;
mod sweep;
mod told;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

pub use told::Told;

use self::{aftermath::Aftermath, counts::Counts, profiles::ProfilesTold, questions::Questions};
use super::{
    awaited::Awaited, delivered::Delivered, effects::Effects, hellos::Hellos, messaging::Messaging, own_node::OwnNode,
    push::Push, session_check::SessionCheck, shared_limits::SharedLimits, watching::Watching,
};
use crate::{
    clock::Clock,
    cluster::{Beat, Bus, Doubt, Floor, Inbox, NodeId, Roster, Subscriptions, Uplink},
    hub::Hub,
    ids::Ids,
    position::StreamPosition,
    store::{
        ConversationLog, FleetStore,
        conversations::StoreId,
        fleet::{ListedNode, Listing, SecretId},
    },
    telemetry::Metrics,
};

/// How often a node beats on the bus, and looks whether something is in doubt.
const BEAT: Duration = Duration::from_millis(500);

/// How often it is said that others are on the bus who are none of this club.
const REMIND: Duration = Duration::from_secs(3_600);

/// How long doubts are expected after the start of a node.
const STARTING: Duration = Duration::from_secs(10);

/// Opens the bus, once it is known which node of which database this is.
pub trait OpenBus: Send + Sync {
    /// How many links it is going to have.
    fn links(&self) -> usize;

    /// Opens it: returns at once, and connects in the background.
    fn open(&self, node: NodeId, store: StoreId, inbox: Arc<dyn Inbox>) -> Arc<dyn Bus>;
}

/// What the fleet needs of the rest of the server.
pub struct Parts {
    /// What the store tells of other nodes.
    pub store: Arc<dyn FleetStore>,
    /// The store's horizon.
    pub log: Arc<dyn ConversationLog>,
    /// Opens the bus, if there is to be one.
    pub bus: Option<Arc<dyn OpenBus>>,
    /// The way to it, for everybody who publishes.
    pub uplink: Uplink,
    /// How far cursors may go.
    pub floor: Arc<Floor>,
    /// What was delivered while sweeping.
    pub told: Arc<Told>,
    /// Which entries were pushed here already.
    pub delivered: Arc<Delivered>,
    /// Which entries their authors have not told of yet.
    pub awaited: Arc<Awaited>,
    /// Who is connected here.
    pub hub: Arc<Hub>,
    /// Makes cursors, and knows what this node has published.
    pub messaging: Arc<Messaging>,
    /// The channels of the members who are here.
    pub subscriptions: Arc<Subscriptions>,
    /// Presence.
    pub watching: Arc<Watching>,
    /// Closes connections.
    pub effects: Arc<Effects>,
    /// Looks for sessions that ended without this node being told.
    pub session_check: Arc<SessionCheck>,
    /// Who is kept out.
    pub hellos: Arc<Hellos>,
    /// Pushes to devices.
    pub push: Arc<Push>,
    /// What is limited for all nodes together.
    pub limits: Arc<SharedLimits>,
    /// This node, as administrators see it.
    pub own: Arc<OwnNode>,
    /// Which secret this node signs with.
    pub secret: SecretId,
    /// Whether photos are in a folder.
    pub photos_in_folder: bool,
    /// The most connections of one member.
    pub max_per_member: usize,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Spreads those who come back.
    pub ids: Arc<Ids>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// This node among others.
pub struct Fleet {
    parts: Parts,
    roster: Mutex<Roster>,
    counts: Counts,
    questions: Questions,
    profiles_told: ProfilesTold,
    /// Something is in doubt.
    doubted: Notify,
    /// Others may not know who is connected here.
    standing: Notify,
    aftermath: Aftermath,
    /// The horizon of the store when this node looked at its epoch last.
    horizon: Mutex<StreamPosition>,
    /// When this node started.
    started: Instant,
    warned_of_photos: AtomicBool,
    /// The nodes that sign with another secret, of which a warning was given.
    other_secrets: Mutex<HashSet<NodeId>>,
    /// When there was a warning last of nodes that are none of this database.
    warned_of_strangers: Mutex<Option<Instant>>,
    /// Its tasks are to end: everything that was stored here has been published.
    stop: CancellationToken,
}

impl Fleet {
    /// A node that knows nobody yet.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let links = parts.bus.as_ref().map_or(0, |bus| bus.links());
        if links > 0 {
            parts.uplink.expect();
        }
        let roster = Mutex::new(Roster::new(links));
        let uplink = parts.uplink.clone();
        let (counts, questions, profiles_told) = (Counts::default(), Questions::default(), ProfilesTold::default());
        let (doubted, standing, stop) = (Notify::new(), Notify::new(), CancellationToken::new());
        let fleet = Arc::new(Self {
            parts,
            roster,
            counts,
            questions,
            profiles_told,
            doubted,
            standing,
            aftermath: Aftermath::default(),
            horizon: Mutex::new(StreamPosition::NOWHERE),
            started: Instant::now(),
            warned_of_photos: AtomicBool::new(false),
            other_secrets: Mutex::default(),
            warned_of_strangers: Mutex::default(),
            stop,
        });
        let own = Arc::downgrade(&fleet);
        uplink.when_unsure(move |place| {
            if let Some(fleet) = own.upgrade() {
                fleet.change(|roster, now| roster.unsure(place, now));
            }
        });
        fleet
    }

    /// Why something that others did may be missing here; empty while nothing may, as far as this node knows who they are.
    #[must_use]
    pub fn doubts(&self) -> Vec<Doubt> {
        self.roster().reasons()
    }

    /// Whether other nodes live, as far as is known.
    #[must_use]
    pub fn has_others(&self) -> bool {
        self.roster().others().next().is_some()
    }

    /// How many other nodes live, as far as is known.
    #[must_use]
    pub fn others(&self) -> usize {
        self.roster().others().count()
    }

    /// Follows the nodes, and beats, until it is closed. For one task only.
    pub async fn run(self: Arc<Self>) {
        let mut listing = self.parts.store.listing();
        listing.mark_changed();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = listing.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = listing.borrow_and_update().clone();
                    if let Some(now) = now {
                        self.listed(&now);
                    }
                }
                _ = beat.tick() => {
                    self.look_at_epoch();
                    let silent = self.change(|roster, now| {
                        roster.tick(now);
                        roster.take_silent(now)
                    });
                    silent.into_iter().for_each(|node| self.parts.watching.node_gone(node));
                    self.beat(false);
                    self.aftermath();
                    self.counts.tidy(Instant::now());
                    self.parts.subscriptions.end_lingering(Instant::now());
                }
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Says goodbye: everything that was stored here has been published.
    pub async fn close(&self) {
        self.stop.cancel();
        self.parts.awaited.stop();
        self.beat(true);
        if let Some(bus) = self.parts.uplink.bus() {
            bus.close().await;
        }
    }

    /// The nodes that live, as of now.
    fn listed(self: &Arc<Self>, listing: &Listing) {
        self.look_at_epoch();
        if listing.horizon.epoch != self.parts.log.horizon().epoch {
            // Of before: the next one is on its way.
            return;
        }
        if self.parts.uplink.bus().is_none()
            && let Some(bus) = &self.parts.bus
        {
            let bus = bus.open(listing.own, listing.store, Arc::clone(self) as _);
            tracing::info!(node = %listing.own, bus = bus.describe(), "other nodes are told over Redis");
            self.parts.uplink.connect(bus);
            self.parts.subscriptions.bus_opened();
        }
        let (before, gone, others) = self.change(|roster, now| {
            let before: HashSet<NodeId> = roster.others().collect();
            let gone = roster.listed(listing, now);
            (before, gone, roster.others().collect::<HashSet<_>>())
        });
        if before.is_empty() && !others.is_empty() {
            // What was published to nobody until now is lost to those: they hear of it at once.
            self.beat(false);
        }
        if !others.is_subset(&before) {
            // What a new node said first may have been taken for that of one that is gone.
            self.parts.watching.ask_again();
        }
        for node in gone {
            tracing::info!(%node, "another node is gone");
            self.parts.watching.node_gone(node);
        }
        self.warn_of_secrets(listing);
        self.warn_of_strangers();
        self.parts.metrics.fleet_nodes.set(i64::try_from(listing.others.len() + 1).unwrap_or(i64::MAX));
    }

    /// Warns of nodes on this bus that are none of this database, now and then: there may be many, and they may come again.
    fn warn_of_strangers(&self) {
        let strangers = self.roster().take_strangers();
        let Some(one) = strangers.first() else { return };
        let mut warned = self.warned_of_strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| at.elapsed() > REMIND) {
            *warned = Some(Instant::now());
            tracing::warn!(
                node = %one,
                nodes = strangers.len(),
                "a node on the bus is none of this database, and is not heard. A server on a copy of this database needs another Redis; if \
                 there is none, somebody else publishes in this one"
            );
        }
    }

    /// Warns once of each node that signs with another secret: members who go from one to the other are logged out. And once, if photos
    /// may be here alone.
    fn warn_of_secrets(&self, listing: &Listing) {
        let mut known = self.other_secrets.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = |other: &&ListedNode| !other.dead && other.secret.is_some_and(|its| its != self.parts.secret);
        let now: HashSet<NodeId> = listing.others.iter().filter(differs).map(|other| other.id).collect();
        for other in listing.others.iter().filter(|other| now.contains(&other.id) && !known.contains(&other.id)) {
            tracing::warn!(
                node = %other.id,
                name = other.name,
                "another node has another JWT_SECRET: each refuses the tokens of the other, unless it is a former one that it accepts. Set the same \
                 JWT_SECRET on all nodes"
            );
        }
        *known = now;
        let has_others = listing.others.iter().any(|other| !other.dead);
        if has_others && self.parts.photos_in_folder && !self.warned_of_photos.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "there are other nodes, and photos are in a folder: unless all nodes share it, others answer 404 for what is in it. \
                 Set AWS_S3_BUCKET"
            );
        }
    }

    /// In another epoch the log may have gone back: then entries that were pushed may be others now, and clients may know of some that
    /// are not there any more, so they come back and sync. Where places of before are still good, it has not.
    fn look_at_epoch(&self) {
        let current = self.parts.log.horizon();
        let before = std::mem::replace(&mut *self.horizon.lock().unwrap_or_else(PoisonError::into_inner), current);
        if before.epoch == current.epoch || before == StreamPosition::NOWHERE {
            return;
        }
        if self.parts.log.accepts(before) {
            self.parts.hub.carry_over(before.epoch, current.epoch);
            self.change(|roster, _| roster.carry_over(StreamPosition { epoch: current.epoch, ..before }));
            return;
        }
        self.parts.delivered.forget();
        self.parts.told.forget();
        self.parts.awaited.forget();
        self.profiles_told.forget();
        self.start_over();
    }

    fn beat(&self, last: bool) {
        self.parts.awaited.give_up(Instant::now());
        let Some(bus) = self.parts.uplink.bus() else { return };
        let generation = self.parts.store.listing().borrow().as_ref().map_or(0, |listing| listing.generation);
        // Read before it is queued: everything up to it is in the queue already.
        let published = self.parts.messaging.published_here();
        bus.beat(Beat { last, ..Beat::at(generation, published) });
    }

    /// Changes what is known of the others, and does what follows.
    fn change<T>(&self, change: impl FnOnce(&mut Roster, Instant) -> T) -> T {
        let now = Instant::now();
        let mut roster = self.roster();
        let was = roster.is_in_doubt();
        let result = change(&mut roster, now);
        self.parts.floor.set(roster.floor());
        let behind = self.parts.log.horizon().position.0.saturating_sub(roster.floor().position.0);
        let (is, news) = (roster.is_in_doubt(), roster.take_news());
        let doubts = if was == is { Vec::new() } else { roster.doubts().map(Doubt::name).collect() };
        // Under the lock, so that it is as the roster is.
        self.parts.told.activate(is);
        self.parts.uplink.set_alone(roster.is_alone());
        self.parts.limits.divide(roster.others().count() + 1, roster.is_heard());
        drop(roster);
        self.parts.metrics.fleet_floor_behind.set(i64::try_from(behind).unwrap_or(i64::MAX));
        self.parts.metrics.fleet_in_doubt.set(is.into());
        for doubt in news {
            self.parts.metrics.fleet_doubt(doubt.name());
        }
        if was != is {
            self.aftermath.turned();
        }
        match (was, is) {
            (false, true) => {
                // Those of a start are over in a second or two.
                if self.started.elapsed() < STARTING {
                    tracing::info!(?doubts, "the other nodes are not heard yet: the store is swept until they are");
                } else {
                    tracing::warn!(
                        ?doubts,
                        "events of other nodes may be missing: the store is swept until that is over"
                    );
                }
                self.doubted.notify_one();
            }
            (true, false) => {
                tracing::info!("no event of another node is missing any more");
                self.profiles_told.forget();
            }
            _ => {}
        }
        result
    }

    /// Held for some instructions, and never across a call that could panic.
    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
