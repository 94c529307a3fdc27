//! Presence across nodes: what this node says to the others over the bus, asks them, and hears of them.
//!
//! A node that has a watcher of a member hears [`Channel::Watchers`] of that member, and once it does, asks on
//! [`Channel::Member`], which every node hears that has the member connected. After something may have been lost it asks again,
//! and asks each node that it believes to have a member for those by name, because one that has them no more does not
//! hear the member's channel.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use protocol::{MemberId, Timestamp, model::DeviceStatus, rest::Audience};
use tokio::{sync::Notify, time::sleep};

use super::Watching;
use crate::{
    cluster::{
        Channel, NodeId, Uplink,
        event::{Note, Relayed},
    },
    hub::Frame,
    presence::Peers,
    store::turns::Caller,
};

/// Channels whose subscription is waited for at the same time.
const SUBSCRIBED_AT_ONCE: usize = 256;
/// Members who are asked about again at once, and of whom an answer is given at once at most: no node asks about more.
const ASKED_AT_ONCE: usize = 256;
/// The pause after those.
const PAUSE: Duration = Duration::from_millis(10);
/// Members whose records are read again at once.
const READ_AT_ONCE: usize = 100;
/// The pause before the store is asked again that could not be read.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// What presence needs of other nodes.
pub(super) struct Elsewhere {
    uplink: Uplink,
    /// Members who are watched here from now on, or no more: each is in it once.
    changed: Mutex<HashSet<MemberId>>,
    somebody_changed: Notify,
    /// Everybody who is watched is to be asked about again.
    again: Notify,
}

impl Elsewhere {
    pub(super) fn new(uplink: Uplink) -> Self {
        let (changed, somebody_changed, again) = (Mutex::default(), Notify::new(), Notify::new());
        Self { uplink, changed, somebody_changed, again }
    }

    pub(super) fn tell_audience(&self, member: MemberId, version: u64, audience: Audience) {
        self.uplink.publish(Channel::Watchers(member), || Note::Audience { version, audience }.into());
    }

    fn take_changed(&self) -> HashSet<MemberId> {
        std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Peers for Elsewhere {
    fn are_there(&self) -> bool {
        self.uplink.bus().is_some()
    }

    fn say(&self, member: MemberId, status: Option<DeviceStatus>, last_seen: Option<Timestamp>) {
        self.uplink.publish(Channel::Watchers(member), || Note::Presence { status, last_seen }.into());
    }

    fn watched(&self, member: MemberId) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(member);
        self.somebody_changed.notify_one();
    }
}

impl Watching {
    /// Another node has said something about a member, on the member's channel or that of their watchers. Never waits.
    pub fn heard(&self, from: NodeId, member: MemberId, note: &Note) {
        match note {
            Note::Met { members } => self.presence.met(members),
            Note::Audience { version, audience } => self.set_audience_here(member, *version, *audience),
            Note::PresenceAsked => self.presence.asked(member),
            Note::Presence { status, last_seen } => self.presence.heard(from, member, *status, *last_seen),
            _ => {}
        }
    }

    /// Another node has a frame for those who watch a member. Those who talk to the member get it on a channel of their own, as do
    /// the member's devices. Never waits.
    pub fn heard_frame(&self, member: MemberId, frame: Relayed) {
        let watchers = self.presence.strangers(member);
        if !watchers.is_empty()
            && let Some(frame) = Frame::of_another_node(frame)
        {
            self.events.frame_to_connections(&watchers, &frame);
        }
    }

    /// Another node asks whether members are here still. Never waits.
    pub fn doubted(&self, members: &[MemberId]) {
        members.iter().take(ASKED_AT_ONCE).for_each(|member| self.presence.doubted(*member));
    }

    /// Another node is gone, or has been silent for too long: what it said of its members holds for a grace period, and then no
    /// more, unless it says it again. Never waits.
    pub fn node_gone(&self, node: NodeId) {
        self.presence.node_gone(node);
    }

    /// Something that other nodes said may not have been heard: everybody who is watched here is asked about again. Never waits.
    pub fn ask_again(&self) {
        self.elsewhere.again.notify_one();
    }

    /// Sends a frame to those on other nodes who watch a member. Never waits.
    pub fn tell_elsewhere(&self, member: MemberId, frame: impl FnOnce() -> Frame) {
        self.elsewhere.uplink.publish(Channel::Watchers(member), || frame().relayed(None));
    }

    /// Hears the channels of the watchers of those who are watched here, and asks how they are, for ever. For one task only.
    pub(super) async fn follow(&self) {
        loop {
            // One after the other for each member: whatever was wanted last is done last.
            let changed = self.elsewhere.take_changed();
            stream::iter(changed).for_each_concurrent(SUBSCRIBED_AT_ONCE, |member| self.follow_one(member)).await;
            self.elsewhere.somebody_changed.notified().await;
        }
    }

    async fn follow_one(&self, member: MemberId) {
        let Some(bus) = self.elsewhere.uplink.bus() else { return };
        if !self.presence.is_watched(member) {
            bus.unsubscribe(Channel::Watchers(member));
            return;
        }
        // If it is not heard now, something is in doubt, and everybody is asked about again after that.
        bus.subscribe(Channel::Watchers(member)).await;
        self.elsewhere.uplink.publish(Channel::Member(member), || Note::PresenceAsked.into());
    }

    /// Asks about everybody again whenever that is wanted, for ever. For one task only.
    pub(super) async fn look_again(&self) {
        loop {
            self.elsewhere.again.notified().await;
            let watched = self.presence.all_watched();
            let mut complete = true;
            // First, because what nodes said that were silent holds for a grace period only.
            for some in watched.chunks(ASKED_AT_ONCE) {
                self.ask_about(some);
                sleep(PAUSE).await;
            }
            for some in watched.chunks(READ_AT_ONCE) {
                complete &= self.refresh(some).await;
                sleep(PAUSE).await;
            }
            if !complete {
                sleep(STORE_PAUSE).await;
                self.ask_again();
            }
        }
    }

    /// Reads again who may see the presence of members, and when they were last seen. False if that failed.
    async fn refresh(&self, members: &[MemberId]) -> bool {
        match self.members.last_seen(Caller::System, members.to_vec()).await {
            Ok(known) => {
                self.presence.refresh(&known);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "who may see the presence of members who are watched could not be read again");
                false
            }
        }
    }

    fn ask_about(&self, members: &[MemberId]) {
        let mut believed: BTreeMap<NodeId, Vec<MemberId>> = BTreeMap::new();
        for &member in members {
            // Subscribes if that is not so, and asks.
            self.elsewhere.watched(member);
            for node in self.presence.claimants(member) {
                believed.entry(node).or_default().push(member);
            }
        }
        for (node, members) in believed {
            self.elsewhere.uplink.publish(Channel::Node(node), || Note::PresenceDoubted { members }.into());
        }
    }
}
