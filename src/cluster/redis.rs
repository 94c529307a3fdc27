//! The bus over Redis: publish and subscribe, nothing stored.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`address`] | where links lead: servers, or sentinels that name one |
//! | [`inbound`] | what has come and was not looked at: bounded, without a hole |
//! | [`link`] | one link: connected, lost, connected again |
//! | [`outgoing`] | what is to be published: gathered, bounded, the beat last |
//! | [`pipelines`] | what was sent and is not answered: in its order, bounded |
//! | [`subscriptions`] | the channels that are wanted, and those that are heard |
//! | [`wire`] | names of channels, and the form of what is published |
//!
//! A link has one connection, to publish and to hear: the answer to a publication and what comes back of it are read together. It
//! is up while that works, all that the node wants to hear is subscribed to, and its own beats come back within two seconds; when they
//! take longer than half a second, or an answer does, it is late, and the node looks into the store meanwhile. Several servers share the members by a hash of their ids; each
//! gets every beat.

mod address;
mod inbound;
mod link;
mod outgoing;
mod pipelines;
mod subscriptions;
mod wire;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use address::Address;

use self::{link::Link, outgoing::Outgoing, subscriptions::Subscriptions, wire::Names};
use super::{Beat, Bus, Channel, Event, Inbox, NodeId};
use crate::{ids::Ids, supervisor::Supervisor, telemetry::Metrics};

/// How long a subscription may take to be confirmed.
const CONFIRMED: Duration = Duration::from_millis(500);
/// How long the end may take.
const ENDED: Duration = Duration::from_secs(3);

/// The bus over Redis.
pub struct Redis {
    links: Vec<Arc<Link>>,
    names: Names,
    node: NodeId,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

/// What the bus needs.
pub struct Options {
    /// Where each link leads.
    pub addresses: Vec<Address>,
    /// This node.
    pub node: NodeId,
    /// The bytes of the id of the database: several clubs may share a Redis.
    pub store: [u8; 8],
}

impl Redis {
    /// Opens the bus: returns at once, and connects in the background.
    #[must_use]
    pub fn open(
        options: Options,
        inbox: &Arc<dyn Inbox>,
        ids: &Arc<Ids>,
        metrics: &Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Arc<Self> {
        let Options { addresses, node, store } = options;
        let (names, stop, count) = (Names::new(store), CancellationToken::new(), addresses.len());
        let links = addresses.into_iter().enumerate().map(|(number, address)| {
            Arc::new(Link {
                number,
                links: count,
                node,
                address,
                names: names.clone(),
                outgoing: Outgoing::new(node),
                subscriptions: Subscriptions::default(),
                inbox: Arc::clone(inbox),
                ids: Arc::clone(ids),
                metrics: Arc::clone(metrics),
                told_up: std::sync::Mutex::default(),
                beats: std::sync::Mutex::default(),
                unanswered: Arc::default(),
                late: std::sync::atomic::AtomicBool::new(false),
                warned: std::sync::Mutex::default(),
                stop: stop.clone(),
                flushed: tokio::sync::Notify::new(),
            })
        });
        let links: Vec<Arc<Link>> = links.collect();
        for link in &links {
            for channel in [Channel::Everybody, Channel::Node(node)] {
                drop(link.subscriptions.want(channel));
            }
            let link = Arc::clone(link);
            // It ends when the bus is closed, which is before the store is.
            drop(supervisor.until(stop.clone(), "bus", async move { link.run().await }));
        }
        Arc::new(Self { links, names, node, metrics: Arc::clone(metrics), stop })
    }

    /// The link of a channel.
    fn link(&self, channel: Channel) -> Option<&Arc<Link>> {
        let number = match channel {
            Channel::Member(member) | Channel::Watchers(member) => {
                // The last bytes of an id count up.
                let [.., a, b] = *member.as_bytes();
                usize::from(u16::from_be_bytes([a, b])).checked_rem(self.links.len())?
            }
            Channel::Node(_) | Channel::Everybody => 0,
        };
        self.links.get(number)
    }
}

#[async_trait]
impl Bus for Redis {
    fn links(&self) -> usize {
        self.links.len()
    }

    fn describe(&self) -> String {
        let addresses: Vec<String> = self.links.iter().map(|link| link.address.describe()).collect();
        format!("Redis, {}; channels {}*", addresses.join(", "), self.names.prefix())
    }

    fn publish(&self, channel: Channel, event: Event) {
        let Some(link) = self.link(channel) else { return };
        if link.outgoing.push(channel, &event) {
            self.metrics.bus_event("sent", event.kind());
        } else {
            self.metrics.bus_dropped.inc();
        }
    }

    fn lose(&self) {
        for link in &self.links {
            link.outgoing.lose();
        }
    }

    fn beat(&self, beat: Beat) {
        for link in &self.links {
            link.outgoing.beat(beat);
        }
    }

    async fn subscribe(&self, channel: Channel) -> bool {
        let Some(link) = self.link(channel) else { return false };
        let confirmed = link.subscriptions.want(channel);
        match timeout(CONFIRMED, confirmed).await {
            Ok(confirmed) => confirmed.unwrap_or(false),
            // It may be heard since just now.
            Err(_) => !link.late(channel),
        }
    }

    fn unsubscribe(&self, channel: Channel) {
        if channel != Channel::Everybody
            && channel != Channel::Node(self.node)
            && let Some(link) = self.link(channel)
        {
            link.subscriptions.drop_channel(channel);
        }
    }

    async fn close(&self) {
        self.stop.cancel();
        let ended = join_all(self.links.iter().map(|link| link.flushed.notified()));
        if timeout(ENDED, ended).await.is_err() {
            tracing::warn!("the bus was not closed in time");
        }
    }
}
