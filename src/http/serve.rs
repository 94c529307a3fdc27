//! Accepting connections, as many as there is room for.
//!
//! A process has a limit of open files, and every connection is one. Some are kept in reserve for the store; who may have
//! the others is decided by [`crate::admission`]. A connection too many is not left waiting in a queue that nobody
//! empties: it is answered at once, 503 or how the server is, see [`super::refusal`].

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{progress::Progress, refusal::Refusals};
use crate::{
    admission::{Order, Place, Places},
    telemetry::Metrics,
};

/// How long a client may take to send the head of a request, and how long an idle connection stays.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
pub(super) const HEAD_MAX_BYTES: usize = 16 * 1024;
/// How long to wait after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes that may lie unsent in the kernel before a socket counts as full: a slow reader is noticed early, and costs
/// the kernel little. The kernel says that a socket takes more when half of this is sent: at 2 kB/s every 4 s.
const UNSENT_BYTES: u32 = 16 * 1024;

/// What accepting needs.
pub struct Server {
    /// What answers requests.
    pub router: Router,
    /// What answers the requests of connections that there is no room for.
    pub refusing: Router,
    /// The connections that there is room for.
    pub places: Arc<Places>,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
    /// How long a connection whose place is needed may finish what it is answering.
    pub close_timeout: Duration,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The tasks of HTTP connections, so that a shutdown can wait for them.
    pub tasks: TaskTracker,
    /// Cancelled when the server is going to stop.
    pub shutdown: CancellationToken,
}

impl Server {
    /// Accepts until the shutdown.
    pub async fn run(self, listener: TcpListener) {
        let mut refusals = Refusals::new(self.refusing.clone());
        let mut short_of_files = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    short_of_files = false;
                    match self.places.admit(peer.ip(), Instant::now()) {
                        Ok(place) => self.spawn(stream, peer, place),
                        Err(reached) => {
                            self.metrics.connection_refused(reached.name());
                            refusals.refuse(stream, peer);
                        }
                    }
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut short_of_files, true) {
                        tracing::error!(%error, "cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn spawn(&self, stream: TcpStream, peer: SocketAddr, place: Place) {
        // Both are for latency only, and a socket that is gone already is found out soon enough.
        let socket = SockRef::from(&stream);
        let _ = socket.set_tcp_nodelay(true);
        let _ = socket.set_tcp_notsent_lowat(UNSENT_BYTES);
        let router = self.router.clone();
        let theirs = place.clone();
        let service = TowerToHyperService::new(tower::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(theirs.clone());
            router.clone().oneshot(request)
        }));
        let stream = Progress::new(stream, self.write_timeout);
        let (shutdown, close_timeout) = (self.shutdown.clone(), self.close_timeout);
        self.tasks.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_MAX_BYTES)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            tokio::pin!(connection);
            let result = tokio::select! {
                result = &mut connection => result,
                limit = time_to_finish(&place, &shutdown, close_timeout) => {
                    // What it holds is given back when it is dropped.
                    let Some(limit) = limit else { return };
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        result = timeout(limit, connection) => result.unwrap_or(Ok(())),
                        () = place.cut() => return,
                    }
                }
            };
            if let Err(error) = result {
                tracing::debug!(%peer, %error, "HTTP connection failed");
            }
        });
    }
}

/// Waits until a connection has to end. Returns how long it may take to finish what it is answering; nothing if it may not.
async fn time_to_finish(place: &Place, shutdown: &CancellationToken, close_timeout: Duration) -> Option<Duration> {
    tokio::select! {
        order = place.ended() => match order {
            Order::Cut => None,
            Order::MakeRoom => Some(close_timeout),
        },
        // Whoever stops the server waits for its connections, and says for how long.
        () = shutdown.cancelled() => Some(Duration::MAX),
    }
}

/// Whether an accept failed because of the one connection that was about to be accepted.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
