//! What the nodes of a fleet say to each other about one member.

use std::cmp::Reverse;

use super::{DeviceStatus, Facts, Instant, NodeId, Pace, Shown, State, Timestamp, Whereabouts, is_away, together};

/// What a node says of a member whose devices are connected to it, or were a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::presence) struct Showing {
    /// What the devices show together, or showed.
    pub(in crate::presence) status: DeviceStatus,
    /// When the last of them left. They count until the grace period is over, but only while the member has no device anywhere: it is
    /// for nobody to be shown as offline in between.
    pub(in crate::presence) left: Option<Timestamp>,
}

impl Showing {
    /// Of several the one of the smallest [`rank`] is what the member shows: online if a device that is connected is, and if none is connected, what
    /// the one showed that left last.
    pub(super) fn order(self) -> Order {
        (self.left.is_some(), Reverse(self.left), is_away(self.status))
    }
}

/// Whether what was said counts still: not of devices that had left when the member was last seen for sure, because what those
/// showed that left later is over by then.
pub(super) fn counts((_, Reverse(left), _): Order, last_seen: Option<Timestamp>) -> bool {
    left.is_none() || left > last_seen
}

/// The smallest of several is what the member shows. Of devices that left at the same moment one that was away counts: who was away
/// already is not shown as online for the last seconds.
pub(super) fn rank((left, at, away): Order) -> Order {
    let known = at.0.is_some();
    (left, at, if left && known { !away } else { away })
}

/// Whether devices have left, when the last did if that is known, and whether they are away.
pub(super) type Order = (bool, Reverse<Option<Timestamp>>, bool);

/// What the devices of a member show on another node.
#[derive(Debug)]
struct Claim {
    node: NodeId,
    order: Order,
    /// The node is gone, and the member has until then to connect elsewhere.
    until: Option<Instant>,
}

/// What the devices of a member show on each other node that has any.
#[derive(Debug, Default)]
pub(super) struct Claims(Vec<Claim>);

impl Claims {
    /// What each of them says. Of a node that is gone, the devices have left.
    pub(super) fn orders(&self) -> impl Iterator<Item = Order> {
        self.0.iter().map(|Claim { order: (left, at, away), until, .. }| (*left || until.is_some(), *at, *away))
    }

    /// When [`Self::expire`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().filter_map(|claim| claim.until).min()
    }

    /// Drops the claims of nodes that have been gone for long enough. Returns when the last of their devices left, if one said so.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Timestamp> {
        let expired = self.0.extract_if(.., |claim| claim.until.is_some_and(|until| until <= now));
        expired.filter_map(|Claim { order: (_, Reverse(left), _), .. }| left).max()
    }

    fn set(&mut self, node: NodeId, showing: Option<Showing>) {
        self.0.retain(|claim| claim.node != node);
        self.0.extend(showing.map(|showing| Claim { node, order: showing.order(), until: None }));
    }
}

/// What other nodes were told of a member a moment ago.
#[derive(Debug)]
pub(super) struct Said {
    showing: Option<Showing>,
    at: Instant,
}

impl Said {
    /// Until when they are told nothing else.
    pub(super) fn until(&self, pace: Pace) -> Instant {
        self.at + pace.interval
    }
}

impl<W: Clone> State<W> {
    /// What this node says of the member: what its devices show together; nothing once the grace period is over.
    pub(in crate::presence) fn local(&self) -> Option<Showing> {
        match &self.whereabouts {
            Whereabouts::Here(devices) => Some(Showing { status: together(devices), left: None }),
            &Whereabouts::Leaving { status, at, .. } | &Whereabouts::Recording { status, at } => {
                Some(Showing { status, left: Some(at) })
            }
            Whereabouts::Gone => None,
        }
    }

    /// What other nodes are to be told now, after something may have changed; `before`: what [`Self::local`] was before it.
    /// Nothing while the interval since the last time has not ended, unless the member is gone: that comes once in a grace
    /// period at most.
    pub(in crate::presence) fn statement(
        &mut self,
        before: Option<Showing>,
        now: Instant,
        pace: Pace,
    ) -> Option<Option<Showing>> {
        let showing = self.local();
        let said = self.beside.as_ref().and_then(|beside| beside.said.as_ref());
        let (last, is_due) = said.map_or((before, true), |said| (said.showing, said.until(pace) <= now));
        let gone = showing.is_none() && before.is_some();
        if gone || (showing != last && is_due) {
            self.beside().said = Some(Said { showing, at: now });
            return Some(showing);
        }
        if is_due && let Some(beside) = &mut self.beside {
            beside.said = None;
            self.trim();
        }
        None
    }

    /// The answer to a node that asks how the member is.
    pub(in crate::presence) fn answer(&mut self) -> Option<Showing> {
        let showing = self.local();
        if let Some(said) = self.beside.as_mut().and_then(|beside| beside.said.as_mut()) {
            said.showing = showing;
        }
        showing
    }

    /// Another node has said what its devices show, or did until then. Kept only of a member who is watched here.
    pub(in crate::presence) fn heard(
        &mut self,
        node: NodeId,
        status: Option<DeviceStatus>,
        last_seen: Option<Timestamp>,
    ) {
        let Some(watched) = self.watched_mut() else { return };
        watched.claims.set(node, status.map(|status| Showing { status, left: last_seen }));
        // Of one who may come back it is not known yet.
        watched.last_seen = watched.last_seen.max(last_seen.filter(|_| status.is_none()));
    }

    /// The nodes that have devices of the member, as far as they have said so.
    pub(in crate::presence) fn claimants(&self) -> impl Iterator<Item = NodeId> {
        self.watched().into_iter().flat_map(|watched| watched.claims.0.iter().map(|claim| claim.node))
    }

    /// Another node is gone: what it said holds until the grace period is over, as if the devices had left now.
    pub(in crate::presence) fn node_gone(&mut self, node: NodeId, now: Instant, pace: Pace) {
        let Some(watched) = self.watched_mut() else { return };
        for claim in watched.claims.0.iter_mut().filter(|claim| claim.node == node) {
            claim.until.get_or_insert(now + pace.grace);
        }
    }

    /// What the store knows has been read again. Returns those who see something else from now on, and what.
    pub(in crate::presence) fn refresh(&mut self, facts: Facts) -> Vec<(W, Shown)> {
        let Facts { last_seen, audience, version } = facts;
        let Some(watched) = self.watched_mut() else { return Vec::new() };
        // Who has not asked the store yet is shown everything when it answers.
        if watched.audience.is_none() {
            return Vec::new();
        }
        watched.last_seen = watched.last_seen.max(last_seen);
        self.set_audience(version, audience)
    }
}
