//! What the nodes of a fleet say to each other about one member.

use super::{DeviceStatus, Facts, Instant, NodeId, Pace, Shown, State, Timestamp, Whereabouts, is_away, together};

/// What the devices of a member show on another node.
#[derive(Debug)]
struct Claim {
    node: NodeId,
    status: DeviceStatus,
    /// The node is gone, and the member has until then to connect elsewhere.
    until: Option<Instant>,
}

/// What the devices of a member show on each other node that has any.
#[derive(Debug, Default)]
pub(super) struct Claims(Vec<Claim>);

impl Claims {
    /// Online if a device of any node is.
    pub(super) fn best(&self) -> Option<DeviceStatus> {
        self.0.iter().map(|claim| claim.status).min_by_key(|status| is_away(*status))
    }

    /// When [`Self::expire`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().filter_map(|claim| claim.until).min()
    }

    /// Drops the claims of nodes that have been gone for long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|claim| claim.until.is_none_or(|until| until > now));
    }

    fn set(&mut self, node: NodeId, status: Option<DeviceStatus>) {
        self.0.retain(|claim| claim.node != node);
        self.0.extend(status.map(|status| Claim { node, status, until: None }));
    }
}

/// What other nodes were told of a member a moment ago.
#[derive(Debug)]
pub(super) struct Said {
    status: Option<DeviceStatus>,
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
    pub(in crate::presence) fn local(&self) -> Option<DeviceStatus> {
        match &self.whereabouts {
            Whereabouts::Here(devices) => Some(together(devices)),
            Whereabouts::Leaving { status, .. } | Whereabouts::Recording { status, .. } => Some(*status),
            Whereabouts::Gone => None,
        }
    }

    /// What other nodes are to be told now, after something may have changed; `before`: what [`Self::local`] was before it.
    /// Nothing while the interval since the last time has not ended, unless the member is gone: that comes once in a grace
    /// period at most.
    pub(in crate::presence) fn statement(
        &mut self,
        before: Option<DeviceStatus>,
        now: Instant,
        pace: Pace,
    ) -> Option<Option<DeviceStatus>> {
        let status = self.local();
        let said = self.beside.as_ref().and_then(|beside| beside.said.as_ref());
        let (last, is_due) = said.map_or((before, true), |said| (said.status, said.until(pace) <= now));
        let gone = status.is_none() && before.is_some();
        if gone || (status != last && is_due) {
            self.beside().said = Some(Said { status, at: now });
            return Some(status);
        }
        if is_due && let Some(beside) = &mut self.beside {
            beside.said = None;
            self.trim();
        }
        None
    }

    /// The answer to a node that asks how the member is.
    pub(in crate::presence) fn answer(&mut self) -> Option<DeviceStatus> {
        let status = self.local();
        if let Some(said) = self.beside.as_mut().and_then(|beside| beside.said.as_mut()) {
            said.status = status;
        }
        status
    }

    /// Another node has said what its devices show. Kept only of a member who is watched here.
    pub(in crate::presence) fn heard(
        &mut self,
        node: NodeId,
        status: Option<DeviceStatus>,
        last_seen: Option<Timestamp>,
    ) {
        let Some(watched) = self.watched_mut() else { return };
        watched.claims.set(node, status);
        watched.last_seen = watched.last_seen.max(last_seen);
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
