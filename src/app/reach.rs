//! What a server that has started reaches, for whoever started it.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{App, background::Joined, foundation::Foundation};
use crate::telemetry::Metrics;

/// How long is waited to see whether something is reached.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);

/// What tells of this node among others.
pub(super) struct Reach {
    /// Its name, for people.
    node: String,
    /// Where the links of the bus lead; none without one.
    bus: Vec<String>,
    metrics: Arc<Metrics>,
}

impl Reach {
    pub(super) fn of(base: &Foundation) -> Self {
        Self { node: base.own.name.clone(), bus: base.bus(), metrics: Arc::clone(&base.metrics) }
    }

    fn links_up(&self) -> usize {
        usize::try_from(self.metrics.bus_links_up.get()).unwrap_or(0)
    }
}

impl App {
    /// Whether the store answers. Returns within 2 s.
    ///
    /// # Errors
    /// What is in the way, for people.
    pub async fn reaches_store(&self) -> Result<(), String> {
        let asked = timeout(PATIENCE, self.backend.check()).await;
        asked.map_or_else(|_| Err("it does not answer".to_owned()), |said| said.map_err(|error| error.to_string()))
    }

    /// The other servers and the way to them, in one line; nothing without `REDIS_URL`. Returns within 2 s.
    pub async fn describe_fleet(&self) -> Option<String> {
        let Reach { node, bus, .. } = &self.reach;
        if bus.is_empty() {
            return None;
        }
        let Some(fleet) = self.fleet.as_ref().map(Joined::node) else {
            return Some(
                "REDIS_URL has no effect with SQLite: several servers need MongoDB (docs/fleet.md)".to_owned(),
            );
        };
        let up = async {
            let mut looks = interval(LOOK);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while self.reach.links_up() < bus.len() {
                looks.tick().await;
            }
        };
        let is_up = timeout(PATIENCE, up).await.is_ok();
        let others = match fleet.others() {
            1 => "1 other".to_owned(),
            others => format!("{others} others"),
        };
        let state = if is_up { "reached" } else { "NOT REACHED; until then nodes find in the store what others did" };
        Some(format!("node {node}, {others}; Redis {} {state}", bus.join(", ")))
    }
}
