//! A WebSocket connection: one task, around a state machine that knows nothing of sockets.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`stranger`] | what can be said before hello, without I/O: hello |
//! | [`machine`] | the protocol after it as a plain state machine: frames, answers and ticks in, actions out |
//! | [`silence`] | how long the other side may say nothing |
//! | [`in_flight`] | the requests that are being worked on |
//! | [`typing`] | what a connection is typing in, and until when |
//! | [`order`] | keeping the order of messages of which one was refused |
//! | [`window`] | counting events within a minute |
//! | [`task`] | the task: waiting for hello, signing in, closing |
//! | [`open`] | a signed-in connection at work: what it does when its outbox, its socket or its timer wakes it |
//! | [`transport`] | what both have: the socket, the outbox, the place |
//! | [`socket`] | hearing and sending, with deadlines; answering pings, closing properly |
//! | [`frames`] | the frames of WebSocket, without I/O |
//! | [`reading`], [`writing`] | reading and writing through buffers that all connections share |
//! | [`backpressure`] | requests that find no room on their way to the store |
//! | [`meter`] | counting frames that are no whole message |
//! | [`pace`] | when a slow client is too slow |
//! | [`dispatch`] | calls of the machine as calls of `service` |
//! | [`sync`] | the sync after hello, cut into frames |
//!
//! The rules here are those of a connection: its states and deadlines, its order, what it may ask for at the same time and how
//! much. The rules of the club live in `service`.

mod backpressure;
mod charge;
pub mod dispatch;
mod frames;
mod in_flight;
pub mod machine;
mod meter;
mod open;
mod order;
mod pace;
mod reading;
mod silence;
mod socket;
mod stranger;
mod sync;
pub mod task;
mod transport;
mod typing;
mod window;
mod writing;

use std::{sync::Arc, time::Duration};

use protocol::MemberId;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    budget::Budget,
    clock::Clock,
    hub::OutboxLimits,
    service::{
        connections::Connections, events::Events, hellos::Hellos, limiter::Limiter, messaging::Messaging, push::Push,
        watching::Watching,
    },
    telemetry::Metrics,
};

/// The waits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long to wait for hello.
    pub hello: Duration,
    /// How often a client is asked to say something.
    pub heartbeat: Duration,
    /// How long a client may take no byte of what is written before it counts as too slow.
    pub write: Duration,
    /// How long to wait for what is under way, and then for the other side, when a connection is closed.
    pub close: Duration,
}

impl Timing {
    /// How long a client may be silent.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.heartbeat * 5 / 2
    }
}

/// The waits of tests.
#[cfg(test)]
const TIMING: Timing = Timing {
    hello: Duration::from_secs(10),
    heartbeat: Duration::from_secs(30),
    write: Duration::from_secs(10),
    close: Duration::from_secs(2),
};

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What every connection needs.
pub struct Context {
    /// Signs connections in and out.
    pub connections: Connections,
    /// Conversations.
    pub messaging: Arc<Messaging>,
    /// Pushes to devices.
    pub push: Arc<Push>,
    /// Presence.
    pub watching: Arc<Watching>,
    /// Tells others.
    pub events: Events,
    /// Frames of a member, over all their connections.
    pub frames: Limiter<MemberId>,
    /// `typing` of a member, over all their connections.
    pub typing: Limiter<MemberId>,
    /// `presence.set` of a member, over all their connections.
    pub statuses: Limiter<MemberId>,
    /// How often connections may be opened.
    pub hellos: Arc<Hellos>,
    /// The waits.
    pub timing: Timing,
    /// The bounds of an outbox.
    pub outbox: OutboxLimits,
    /// The memory for what waits for clients.
    pub budget: Arc<Budget>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The tasks of all connections, so that a shutdown can wait for them.
    pub tasks: TaskTracker,
    /// Cancelled when the server is going to stop: nobody signs in any more.
    pub draining: CancellationToken,
}

impl Context {
    fn now(&self) -> machine::Moment {
        machine::Moment { instant: Instant::now(), time: self.clock.now() }
    }
}
