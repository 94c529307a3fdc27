//! Answering connections that there is no room for.
//!
//! Whoever watches over the process has to hear how it is when all places are taken, too; everybody else hears 503 with
//! a time to come back. Both are answers like any other, with request id, origins and security headers. What such a
//! connection may cost is little: one request, [`PATIENCE`], and the newest [`AT_ONCE`] of them. A newer one takes the
//! place of the oldest, so that connections that say nothing do not keep out those that ask.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};
use tower::ServiceExt as _;

use super::serve::HEAD_MAX_BYTES;

/// Connections that are being refused at the same time. They are in the reserve of files.
const AT_ONCE: usize = 64;
/// How long one may take, from its first byte to its last.
const PATIENCE: Duration = Duration::from_secs(1);

/// Connections that are being refused.
pub(super) struct Refusals {
    router: Router,
    /// The newest ones; some may have ended.
    newest: VecDeque<AbortHandle>,
}

impl Refusals {
    /// Refuses with the answers of this router.
    pub(super) fn new(router: Router) -> Self {
        Self { router, newest: VecDeque::with_capacity(AT_ONCE) }
    }

    /// Answers one request of a connection, and closes it.
    pub(super) fn refuse(&mut self, stream: TcpStream, peer: SocketAddr) {
        if self.newest.len() >= AT_ONCE
            && let Some(oldest) = self.newest.pop_front()
        {
            oldest.abort();
        }
        let router = self.router.clone();
        let refusing = tokio::spawn(async move {
            // Whoever does not take it in time gets a closed socket.
            if let Ok(Err(error)) = timeout(PATIENCE, serve_once(stream, peer, router)).await {
                tracing::debug!(%peer, %error, "a connection that there is no room for was not answered");
            }
        });
        self.newest.push_back(refusing.abort_handle());
    }
}

async fn serve_once(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let service = TowerToHyperService::new(tower::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    }));
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut stream = connection.without_shutdown().await?.io.into_inner();
    stream.shutdown().await?;
    drain(&mut stream).await?;
    Ok(())
}

/// What else the client has sent is read, or closing would take the answer back.
async fn drain(stream: &mut TcpStream) -> io::Result<()> {
    let mut sink = [0; 1024];
    while stream.read(&mut sink).await? > 0 {}
    Ok(())
}
