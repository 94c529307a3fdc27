//! The one place where events go to the hub. With several nodes, the bus between them starts here.

use std::sync::Arc;

use protocol::{ConnectionId, MemberId, ServerFrame};

use crate::{
    hub::{Connection, Delivery, Frame, Hub},
    telemetry::Metrics,
};

/// Hears of members who have a conversation with each other from now on.
type Met = dyn Fn(&[MemberId]) + Send + Sync;

/// Publishes events. An event is encoded once, however many receive it, and not at all if nobody does.
#[derive(Clone)]
pub struct Events {
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    met: Option<Arc<Met>>,
}

impl Events {
    /// Events of this node.
    #[must_use]
    pub fn new(hub: Arc<Hub>, metrics: Arc<Metrics>) -> Self {
        Self { hub, metrics, met: None }
    }

    /// The same, with somebody who hears of the first message of a conversation.
    #[must_use]
    pub fn with_met(self, met: impl Fn(&[MemberId]) + Send + Sync + 'static) -> Self {
        Self { met: Some(Arc::new(met)), ..self }
    }

    /// The first message between members is published.
    pub fn met(&self, members: &[MemberId]) {
        if let Some(met) = &self.met {
            met(members);
        }
    }

    /// Publishes an event to every connection of members but one.
    pub fn to_members(&self, members: &[MemberId], except: Option<ConnectionId>, event: &ServerFrame) {
        let mut frame = None;
        let mut reached = 0;
        for member in members.iter().filter(|member| self.hub.is_connected(**member)) {
            let frame = frame.get_or_insert_with(|| Frame::push(event));
            reached += self.hub.deliver(*member, frame, except);
        }
        self.count(reached);
    }

    /// Publishes an event to connections.
    pub fn to_connections(&self, connections: &[Arc<Connection>], event: &ServerFrame) {
        if connections.is_empty() {
            return;
        }
        let frame = Frame::push(event);
        for connection in connections {
            connection.outbox.push(Delivery::Event(frame.clone()));
        }
        self.count(connections.len());
    }

    fn count(&self, reached: usize) {
        self.metrics.fan_out.observe(f64::from(u32::try_from(reached).unwrap_or(u32::MAX)));
    }
}
