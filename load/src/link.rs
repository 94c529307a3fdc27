//! One signed-in connection: hello, welcome, sync, and then frames both ways.

use std::{net::IpAddr, time::Duration};

use protocol::{
    ClientFrame, Cursor, Envelope, RequestId, ServerFrame,
    client::{ConversationsList, Hello},
    limits::PAGE_MAX,
    model::{Conversation, Device, Platform},
    server::{SyncDone, Welcome},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use crate::wire::{Ended, Wire, broken, connect};

/// How long opening a connection, hello and sync may take together.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that is signed in and synced.
pub(crate) struct Link<S = TcpStream> {
    pub(crate) wire: Wire<S>,
    pub(crate) welcome: Welcome,
    /// The conversations of the sync.
    pub(crate) synced: Vec<Conversation>,
    pub(crate) done: SyncDone,
}

/// How to open a connection.
#[derive(Clone)]
pub(crate) struct Opening {
    /// Where the server listens.
    pub(crate) addr: std::net::SocketAddr,
    /// Where the connection comes from, if that matters.
    pub(crate) from: Option<IpAddr>,
    pub(crate) device: &'static str,
    /// Bytes read at once.
    pub(crate) chunk: usize,
    /// Bytes that the kernel keeps for a client that does not read, if that matters.
    pub(crate) kernel_buffer: Option<u32>,
    /// How long opening a connection, hello and sync may take together.
    pub(crate) patience: Duration,
}

impl Opening {
    /// A connection of a client that talks.
    pub(crate) fn new(addr: std::net::SocketAddr) -> Self {
        Self { addr, from: None, device: "load", chunk: 16 * 1024, kernel_buffer: None, patience: PATIENCE }
    }

    /// The same on another device.
    pub(crate) fn on(self, device: &'static str) -> Self {
        Self { device, ..self }
    }

    /// Connects, says hello and syncs.
    pub(crate) async fn open(&self, token: &str, cursor: Option<Cursor>) -> Result<Link, Ended> {
        let opening = async {
            let wire = self.socket("/ws").await?;
            Link::sign_in(wire, token, self.device, cursor).await
        };
        timeout(self.patience, opening).await.map_err(broken)?
    }

    /// Connects and asks for the upgrade.
    pub(crate) async fn socket(&self, path: &str) -> Result<Wire<TcpStream>, Ended> {
        let stream = connect(self.addr, self.from, self.kernel_buffer).await.map_err(broken)?;
        let mut wire = Wire::new(stream, self.chunk);
        wire.upgrade(&self.addr.to_string(), path).await?;
        Ok(wire)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// Says hello over a WebSocket, and syncs.
    pub(crate) async fn sign_in(
        mut wire: Wire<S>,
        token: &str,
        device: &str,
        cursor: Option<Cursor>,
    ) -> Result<Self, Ended> {
        let device = Device { id: device.parse().map_err(broken)?, platform: Platform::Other, name: None };
        let expects_changes = cursor.is_some();
        let hello = ClientFrame::Hello(Hello { token: token.to_owned(), device, cursor });
        wire.queue(&[&hello.encode(None)]);
        let welcome = match decode(&wire.next().await?)?.frame {
            ServerFrame::Welcome(welcome) => welcome,
            ServerFrame::Error(error) => return Err(Ended::Broken(error.message)),
            ServerFrame::Goodbye(goodbye) => return Err(Ended::Closed(goodbye.code.number())),
            other => return Err(Ended::Foreign(format!("{} instead of welcome", other.frame_type()))),
        };
        let mut synced = Vec::new();
        let done = loop {
            match decode(&wire.next().await?)?.frame {
                ServerFrame::Sync(sync) => synced.extend(sync.conversations),
                ServerFrame::SyncDone(done) => break done,
                ServerFrame::Error(error) => return Err(Ended::Broken(error.message)),
                ServerFrame::Goodbye(goodbye) => return Err(Ended::Closed(goodbye.code.number())),
                other => return Err(Ended::Foreign(format!("{} within the sync", other.frame_type()))),
            }
        };
        // With a cursor the sync may still be full, when too much has changed since.
        if !expects_changes && !done.full {
            return Err(Ended::Foreign("a sync without a cursor is not full".to_owned()));
        }
        Ok(Self { wire, welcome, synced, done })
    }

    /// The next frame, waiting for it. Can be abandoned at any time.
    pub(crate) async fn next(&mut self) -> Result<Envelope, Ended> {
        decode(&self.wire.next().await?)
    }

    /// Queues a request for the next turn.
    pub(crate) fn queue(&mut self, id: &str, frame: &ClientFrame) -> Result<(), Ended> {
        let id: RequestId = id.parse().map_err(broken)?;
        self.wire.queue(&[&frame.encode(Some(&id))]);
        Ok(())
    }

    /// All conversations of the member, page by page; pushes that come meanwhile are handed to `push`.
    pub(crate) async fn all_conversations(
        &mut self,
        mut push: impl FnMut(Envelope),
    ) -> Result<Vec<Conversation>, Ended> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let list = ConversationsList { limit: Some(PAGE_MAX), after, ..<_>::default() };
            match self.ask(&ClientFrame::ConversationsList(list), &mut push).await? {
                ServerFrame::Conversations(page) => {
                    all.extend(page.conversations);
                    after = page.next;
                }
                ServerFrame::Error(error) if error.retry_after_ms.is_some() => {
                    return Err(Ended::Broken(error.message));
                }
                other => return Err(Ended::Foreign(format!("{} instead of conversations", other.frame_type()))),
            }
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// The states of the conversations: those of the sync, and then all of them when it has no room for all. What is told
    /// twice is newer the second time. Pushes that came meanwhile come back too.
    pub(crate) async fn states(&mut self) -> Result<(Vec<Conversation>, Vec<Envelope>), Ended> {
        let (mut states, mut pushes) = (std::mem::take(&mut self.synced), Vec::new());
        if self.done.full && self.done.more {
            states.extend(self.all_conversations(|push| pushes.push(push)).await?);
        }
        Ok((states, pushes))
    }

    /// Sends a request and waits for its reply; pushes that come before it are handed to `push`.
    pub(crate) async fn ask(
        &mut self,
        frame: &ClientFrame,
        mut push: impl FnMut(Envelope),
    ) -> Result<ServerFrame, Ended> {
        self.queue("ask", frame)?;
        loop {
            let envelope = self.next().await?;
            if envelope.id.as_ref().is_some_and(|id| id.as_str() == "ask") {
                return Ok(envelope.frame);
            }
            push(envelope);
        }
    }
}

/// Reads a frame the long way.
pub(crate) fn decode(text: &str) -> Result<Envelope, Ended> {
    Envelope::decode(text).map_err(|error| Ended::Foreign(format!("{error}: {text}")))
}
