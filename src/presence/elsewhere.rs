//! Presence as one node of several: what this one says of its members, and what it hears of those of others.
//!
//! What a node says goes out under the lock of the member, so in the order in which it is so.

use std::sync::{Arc, atomic::Ordering};

use protocol::{MemberId, Timestamp, model::DeviceStatus};

use super::{
    Presence,
    state::{Facts, Showing},
};
use crate::{cluster::NodeId, hub::Connection, store::members::LastSeen};

/// The other nodes. Never waits, and never calls back into presence.
pub trait Peers: Send + Sync {
    /// Whether there may be any.
    fn are_there(&self) -> bool;

    /// They are told what the devices of a member show on this node; nothing, if there are none any more, with when the last was
    /// there. Both: the last has left then, and may come back.
    fn say(&self, member: MemberId, status: Option<DeviceStatus>, last_seen: Option<Timestamp>);

    /// Somebody here watches a member whom nobody watched, or nobody does any more.
    fn watched(&self, member: MemberId);
}

impl Presence {
    pub(super) fn peers(&self) -> Option<&dyn Peers> {
        self.peers.as_deref().filter(|peers| peers.are_there())
    }

    /// Says what the devices of a member show, or showed; nothing: there are none any more, and when the last was there.
    pub(super) fn say_so(&self, member: MemberId, showing: Option<Showing>, last_seen: Option<Timestamp>) {
        // Whose node stops is not gone: the others wait for them as long as a grace period.
        let keeps_quiet = showing.is_none() && self.stopping.load(Ordering::Relaxed);
        if let Some(peers) = self.peers().filter(|_| !keeps_quiet) {
            peers.say(member, showing.map(|showing| showing.status), showing.map_or(last_seen, |showing| showing.left));
        }
    }

    /// Another node has said what its devices of a member show. Kept only while somebody here watches the member.
    pub fn heard(&self, from: NodeId, member: MemberId, status: Option<DeviceStatus>, last_seen: Option<Timestamp>) {
        if self.is_watched(member) {
            self.update(member, |state, _| state.heard(from, status, last_seen));
        }
    }

    /// Another node asks how a member is: it is told, if a device of theirs is here.
    pub fn asked(&self, member: MemberId) {
        let Some(mut state) = self.members.get_mut(&member) else { return };
        if let Some(showing) = state.answer() {
            self.say_so(member, Some(showing), None);
        }
    }

    /// Another node asks whether a member is here still: it is told, whether they are or not.
    pub fn doubted(&self, member: MemberId) {
        // Under the lock, also of one who is not here: who arrives at this moment is told of after it.
        self.update(member, |state, _| self.say_so(member, state.answer(), None));
    }

    /// Another node is gone, or has been silent for too long: what it said of members holds for a grace period, and then no
    /// more, unless it says it again.
    pub fn node_gone(&self, node: NodeId) {
        let claimed = self.members.iter().filter(|state| state.claimants().any(|claimant| claimant == node));
        let claimed: Vec<MemberId> = claimed.map(|state| *state.key()).collect();
        for member in claimed {
            self.update(member, |state, now| state.node_gone(node, now, self.pace));
        }
    }

    /// Whether somebody here watches a member.
    #[must_use]
    pub fn is_watched(&self, member: MemberId) -> bool {
        self.members.get(&member).is_some_and(|state| state.is_watched())
    }

    /// Everybody whom somebody here watches.
    #[must_use]
    pub fn all_watched(&self) -> Vec<MemberId> {
        self.members.iter().filter(|state| state.is_watched()).map(|state| *state.key()).collect()
    }

    /// The nodes that have said that devices of a member are there.
    #[must_use]
    pub fn claimants(&self, member: MemberId) -> Vec<NodeId> {
        self.members.get(&member).map(|state| state.claimants().collect()).unwrap_or_default()
    }

    /// What the store knows of members who are watched, read again: this node may not have heard of a change.
    pub fn refresh(&self, members: &[LastSeen]) {
        for &LastSeen { member, at, audience, version } in members {
            if self.is_watched(member) {
                let facts = Facts { last_seen: at, audience, version };
                self.update(member, |state, _| self.tell_each(member, state.refresh(facts)));
            }
        }
    }

    /// Those who watch a member, are no device of theirs, and have no conversation with them as far as is known.
    #[must_use]
    pub fn strangers(&self, member: MemberId) -> Vec<Arc<Connection>> {
        self.members.get(&member).map(|state| state.strangers()).unwrap_or_default()
    }
}
