//! Connections to the push services of browsers: never into the own network, and none that says more than a push service has to say.
//!
//! A member says where they lead. Whoever is there could answer with informational heads without end, which the HTTP library reads as long as
//! they come, hardly letting anybody else run: so it is counted below it how much comes.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Uri,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::ClientConfig;
use rustls_platform_verifier::ConfigVerifierExt as _;
use tokio::net::{TcpStream, lookup_host};
use tower::Service;

use super::reach::is_public;
use crate::tls;

/// The most that is read of one answer, in bytes, TLS included: a push service says some hundred.
pub(super) const ANSWER_MAX_BYTES: usize = 64 * 1024;
/// How long a connection is kept that nobody uses.
const IDLE: std::time::Duration = std::time::Duration::from_secs(30);
/// Connections to one push service that are kept.
const IDLE_MAX: usize = 8;

/// A client over such connections.
pub(super) type Web = Client<HttpsConnector<Connector>, Full<Bytes>>;

/// Makes one. `anywhere` lets it reach the own network: for tests.
///
/// # Errors
/// When TLS cannot be set up.
pub(super) fn client(anywhere: bool) -> Result<Web, rustls::Error> {
    tls::install();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(ClientConfig::with_platform_verifier()?)
        // What may be plain HTTP is decided by `reach`.
        .https_or_http()
        .enable_http1()
        .wrap_connector(Connector { anywhere });
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_MAX)
        .build(connector))
}

/// How much of the answer that is read now has come over a connection. In the extensions of each answer.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<AtomicUsize>);

impl Heard {
    /// An answer is there: the next one counts from zero.
    pub(super) fn answered(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Connects.
#[derive(Clone)]
pub(super) struct Connector {
    anywhere: bool,
}

impl Service<Uri> for Connector {
    type Response = Counted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Counted>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let anywhere = self.anywhere;
        Box::pin(async move {
            let host = uri.host().ok_or_else(|| io::Error::other("no host"))?.trim_matches(['[', ']']);
            let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
            let found = lookup_host((host, port)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| anywhere || is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(io::Error::other("the name leads to no public address"));
            }
            let stream = TcpStream::connect(&*public).await?;
            stream.set_nodelay(true)?;
            Ok(Counted { stream: TokioIo::new(stream), heard: Heard::default() })
        })
    }
}

/// A connection that ends when too much comes over it.
pub(super) struct Counted {
    stream: TokioIo<TcpStream>,
    heard: Heard,
}

impl Connection for Counted {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.heard.clone())
    }
}

impl Read for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let room = into.remaining();
        // Never more than may come: what is beyond it is not even looked at.
        if self.heard.0.load(Ordering::Relaxed) >= ANSWER_MAX_BYTES {
            return Poll::Ready(Err(io::Error::other("it answers more than a push service has to say")));
        }
        let mut chunk = [0; CHUNK];
        let mut read = tokio::io::ReadBuf::new(chunk.get_mut(..room.min(CHUNK)).unwrap_or_default());
        let polled = tokio::io::AsyncRead::poll_read(Pin::new(self.stream.inner_mut()), cx, &mut read);
        if polled.is_ready() {
            self.heard.0.fetch_add(read.filled().len(), Ordering::Relaxed);
            into.put_slice(read.filled());
        }
        polled
    }
}

/// What is read at once, in bytes.
const CHUNK: usize = 4_096;

impl Write for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
