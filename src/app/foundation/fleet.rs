//! This node among others: the bus of the settings, and what tells, hears and checks what others do.

use std::sync::Arc;

use tokio::sync::Notify;

use super::Foundation;
use crate::{
    app::Drain,
    cluster::{
        Bus, Inbox, NodeId,
        redis::{self, Address, Redis},
    },
    config::settings::ClusterSettings,
    connection,
    ids::Ids,
    service::{
        effects::Effects,
        fleet::{self, Fleet, OpenBus},
        session_check::SessionCheck,
    },
    store::{conversations::StoreId, fleet::SecretId},
    supervisor::Supervisor,
    telemetry::Metrics,
};

impl Foundation {
    /// The bus of the settings, if they name one.
    fn redis(&self) -> Option<Arc<dyn OpenBus>> {
        let open = OpenRedis {
            addresses: self.links.clone(),
            ids: Arc::clone(&self.ids),
            metrics: Arc::clone(&self.metrics),
            supervisor: self.supervisor.clone(),
        };
        (!open.addresses.is_empty()).then(|| Arc::new(open) as _)
    }

    /// Where the links of the bus lead, for people; none without one.
    pub(in crate::app) fn bus(&self) -> Vec<String> {
        self.links.iter().map(Address::describe).collect()
    }

    /// This node among others, if its store is one that nodes share.
    pub(in crate::app) fn fleet(
        &self,
        connection: &connection::Context,
        effects: &Arc<Effects>,
        session_check: Arc<SessionCheck>,
        secret: SecretId,
    ) -> Option<Arc<Fleet>> {
        let store = self.store.fleet.clone()?;
        store.signs_with(secret);
        Some(Fleet::new(fleet::Parts {
            store,
            log: Arc::clone(&self.store.log),
            bus: self.world.bus.clone().or_else(|| self.redis()),
            uplink: self.uplink.clone(),
            floor: Arc::clone(&self.floor),
            told: Arc::clone(&self.told),
            delivered: Arc::clone(&self.delivered),
            awaited: Arc::clone(&self.awaited),
            hub: Arc::clone(&self.hub),
            messaging: Arc::clone(&connection.messaging),
            subscriptions: Arc::clone(&self.subscriptions),
            watching: Arc::clone(&connection.watching),
            effects: Arc::clone(effects),
            session_check,
            hellos: Arc::clone(&connection.hellos),
            push: Arc::clone(&connection.push),
            limits: Arc::clone(&self.limits),
            own: Arc::clone(&self.own),
            secret,
            photos_in_folder: self.settings.photos.aws_s3_bucket.is_none(),
            max_per_member: self.settings.connections.max_connections_per_member,
            clock: Arc::clone(&self.world.clock),
            ids: Arc::clone(&self.ids),
            metrics: Arc::clone(&self.metrics),
        }))
    }

    /// How the server leaves the fleet. Where the store is its alone, there is no other node to which connections can go.
    pub(in crate::app) fn drain(&self, fleet: Option<Arc<Fleet>>) -> Drain {
        let has_others = Box::new(move || fleet.as_ref().is_some_and(|fleet| fleet.has_others()));
        Drain { has_others, begun: self.draining.clone(), time: self.settings.listen.drain_time }
    }

    /// The check of sessions.
    pub(in crate::app) fn session_check(&self, effects: &Arc<Effects>) -> Arc<SessionCheck> {
        Arc::new(SessionCheck {
            hub: Arc::clone(&self.hub),
            sessions: Arc::clone(&self.store.sessions),
            audit: Arc::clone(&self.store.audit),
            effects: Arc::clone(effects),
            clock: Arc::clone(&self.world.clock),
            metrics: Arc::clone(&self.metrics),
            wanted: Notify::new(),
        })
    }
}

/// Where the links of the bus lead; none without one.
pub(super) fn links(settings: &ClusterSettings) -> Result<Vec<Address>, String> {
    let Some(urls) = &settings.redis_url else { return Ok(Vec::new()) };
    Address::parse(urls, settings.redis_sentinel_master.as_deref())
}

/// Opens the bus of the settings.
struct OpenRedis {
    addresses: Vec<Address>,
    ids: Arc<Ids>,
    metrics: Arc<Metrics>,
    supervisor: Supervisor,
}

impl OpenBus for OpenRedis {
    fn links(&self) -> usize {
        self.addresses.len()
    }

    fn open(&self, node: NodeId, StoreId(store): StoreId, inbox: Arc<dyn Inbox>) -> Arc<dyn Bus> {
        let options = redis::Options { addresses: self.addresses.clone(), node, store };
        Redis::open(options, &inbox, &self.ids, &self.metrics, &self.supervisor)
    }
}
