//! This node, as administrators see it.

use std::{sync::Arc, time::Duration};

use protocol::{Timestamp, rest::NodeStats};

use crate::{
    clock::Clock,
    cluster::{Doubt, NodeId},
    telemetry::Metrics,
};

/// What is known of this node.
pub struct OwnNode {
    /// Its name, for people.
    pub name: String,
    /// When it started.
    pub started_at: Timestamp,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

impl OwnNode {
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
            doubts: doubts.iter().map(|doubt| doubt.name().to_owned()).collect(),
        }
    }
}
