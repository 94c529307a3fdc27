//! Accepting connections, as many as there is room for.
//!
//! A process has a limit of open files, and every connection is one. Some are kept in reserve for the store; when the
//! others are used up, a new connection is answered 503 at once instead of waiting in a queue that nobody empties.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::telemetry::Metrics;

/// How long a client may take to send the head of a request, and how long an idle connection stays.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const HEAD_MAX_BYTES: usize = 16 * 1024;
/// How long to wait after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Refusals that are being written at the same time; more are dropped without one.
const REFUSALS: usize = 32;
/// Bytes that may lie unsent in the kernel before a socket counts as full: a slow reader is noticed early, and costs
/// the kernel little.
/// The kernel says that a socket takes more when half of this is sent: at 2 kB/s every 4 s.
const UNSENT_BYTES: u32 = 16 * 1024;

const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
Retry-After: 5\r\nConnection: close\r\nContent-Length: 178\r\n\r\n\
{\"type\":\"urn:members-book:problem:overloaded\",\"title\":\"Overloaded\",\"status\":503,\
\"detail\":\"The server holds as many connections as it may. Try again later.\",\"code\":\"overloaded\"}  ";

/// A place among the connections that there is room for. Held by whatever keeps the connection open.
#[derive(Clone)]
pub struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// What accepting needs.
pub struct Server {
    /// What answers requests.
    pub router: Router,
    /// How many connections there is room for.
    pub max_connections: usize,
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
        let places = Arc::new(Semaphore::new(self.max_connections));
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        let mut short_of_files = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    short_of_files = false;
                    match Arc::clone(&places).try_acquire_owned() {
                        Ok(permit) => self.spawn(stream, peer, Place { _permit: Arc::new(permit) }),
                        Err(_) => self.refuse(stream, &refusals),
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
        let service = TowerToHyperService::new(tower::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(place.clone());
            router.clone().oneshot(request)
        }));
        let shutdown = self.shutdown.clone();
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
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = result {
                tracing::debug!(%peer, %error, "HTTP connection failed");
            }
        });
    }

    fn refuse(&self, mut stream: TcpStream, refusals: &Arc<Semaphore>) {
        self.metrics.connections_refused.inc();
        let Ok(permit) = Arc::clone(refusals).try_acquire_owned() else { return };
        tokio::spawn(async move {
            // Whoever does not take it in time gets a closed socket.
            let _ = timeout(Duration::from_secs(1), async {
                let mut sink = [0; 1024];
                // Clients do not expect an answer before they have asked.
                let _ = stream.read(&mut sink).await?;
                stream.write_all(REFUSAL).await?;
                stream.shutdown().await?;
                // What else the client has sent is read, or closing would take the answer back.
                while stream.read(&mut sink).await? > 0 {}
                Ok::<(), io::Error>(())
            })
            .await;
            drop(permit);
        });
    }
}

/// Whether an accept failed because of the one connection that was about to be accepted.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_a_whole_http_response() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        let problem: protocol::Problem = serde_json::from_str(body).unwrap();
        assert_eq!(problem.code.http_status(), problem.status);
        assert_eq!(problem.code.problem_type(), problem.problem_type);
    }
}
