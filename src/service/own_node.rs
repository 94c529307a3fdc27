//! This node, as administrators see it.

use std::{sync::Arc, time::Duration};

use protocol::{Timestamp, rest::NodeStats};

use super::clock_watch::ClockWatch;
use crate::{
    clock::Clock,
    cluster::{Doubt, NodeId},
    telemetry::Metrics,
};

/// Why a server is degraded whose clock is wrong.
const CLOCK_SKEW: &str = "clock_skew";

/// What is known of this node.
pub struct OwnNode {
    /// Its name, for people.
    pub name: String,
    /// When it started.
    pub started_at: Timestamp,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Whether that is right.
    pub clock_watch: Arc<ClockWatch>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

impl OwnNode {
    /// Why it is degraded: what may have been missed, and a clock that is wrong.
    #[must_use]
    pub fn reasons(&self, doubts: &[Doubt]) -> Vec<&'static str> {
        let off = self.clock_watch.is_off().then_some(CLOCK_SKEW);
        doubts.iter().map(|doubt| doubt.name()).chain(off).collect()
    }

    /// How it is. It has an id where others may use its store.
    #[must_use]
    pub fn stats(&self, id: Option<NodeId>, doubts: &[Doubt]) -> NodeStats {
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        NodeStats {
            id: id.map(|id| id.to_string()),
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            uptime_seconds: Duration::as_secs(&self.clock.now().since(self.started_at)),
            connections: number(self.metrics.connections.get()),
            members_connected: number(self.metrics.members_connected.get()),
            messages_since_start: self.metrics.messages_stored.get(),
            doubts: self.reasons(doubts).into_iter().map(str::to_owned).collect(),
        }
    }
}
