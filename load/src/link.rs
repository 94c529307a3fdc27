//! One connection, from hello to its end.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use protocol::{
    ClientFrame, Cursor, Envelope, Request, RequestId, SUBPROTOCOL, ServerFrame,
    client::Hello,
    model::{Conversation, Device, Platform},
    server::{SyncDone, Welcome},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::WebSocketConfig},
};

/// How long opening a connection, hello and sync may take each.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a connection is no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// It could not be opened, or it broke.
    #[error("{0}")]
    Broken(String),
    /// The server closed it with this code.
    #[error("closed with {0}")]
    Closed(u16),
    /// The server said something that is not the protocol.
    #[error("not the protocol: {0}")]
    Foreign(String),
}

fn broken(error: impl std::fmt::Display) -> Ended {
    Ended::Broken(error.to_string())
}

/// A connection that is signed in and synced.
pub(crate) struct Link {
    socket: WebSocketStream<TcpStream>,
    pub(crate) welcome: Welcome,
    /// The conversations of the sync.
    pub(crate) synced: Vec<Conversation>,
    pub(crate) done: SyncDone,
}

impl Link {
    /// Connects, says hello and syncs.
    pub(crate) async fn open(
        addr: SocketAddr,
        token: &str,
        device: &str,
        cursor: Option<Cursor>,
        read_buffer: usize,
    ) -> Result<Self, Ended> {
        timeout(PATIENCE, Self::open_now(addr, token, device, cursor, read_buffer)).await.map_err(broken)?
    }

    async fn open_now(
        addr: SocketAddr,
        token: &str,
        device: &str,
        cursor: Option<Cursor>,
        read_buffer: usize,
    ) -> Result<Self, Ended> {
        let stream = TcpStream::connect(addr).await.map_err(broken)?;
        stream.set_nodelay(true).map_err(broken)?;
        let mut request = format!("ws://{addr}/ws").into_client_request().map_err(broken)?;
        request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().map_err(broken)?);
        let config = WebSocketConfig::default().read_buffer_size(read_buffer).write_buffer_size(read_buffer);
        let (mut socket, _) = client_async_with_config(request, stream, Some(config)).await.map_err(broken)?;
        let device = Device { id: device.parse().map_err(broken)?, platform: Platform::Other, name: None };
        let hello = ClientFrame::Hello(Hello { token: token.to_owned(), device, cursor });
        socket.send(Message::text(hello.encode(None))).await.map_err(broken)?;
        let welcome = match receive(&mut socket).await?.frame {
            ServerFrame::Welcome(welcome) => welcome,
            ServerFrame::Error(error) => return Err(Ended::Broken(error.message)),
            other => return Err(Ended::Foreign(format!("{} instead of welcome", other.frame_type()))),
        };
        let mut synced = Vec::new();
        let done = loop {
            match receive(&mut socket).await?.frame {
                ServerFrame::Sync(sync) => synced.extend(sync.conversations),
                ServerFrame::SyncDone(done) => break done,
                other => return Err(Ended::Foreign(format!("{} within the sync", other.frame_type()))),
            }
        };
        Ok(Self { socket, welcome, synced, done })
    }

    /// The next frame. Can be abandoned at any time.
    pub(crate) async fn next(&mut self) -> Result<Envelope, Ended> {
        receive(&mut self.socket).await
    }

    /// Queues a request.
    pub(crate) async fn queue(&mut self, id: RequestId, frame: ClientFrame) -> Result<(), Ended> {
        let text = Request { id: Some(id), frame }.encode();
        self.socket.feed(Message::text(text)).await.map_err(broken)
    }

    /// Sends what is queued.
    pub(crate) async fn flush(&mut self) -> Result<(), Ended> {
        self.socket.flush().await.map_err(broken)
    }
}

async fn receive(socket: &mut WebSocketStream<TcpStream>) -> Result<Envelope, Ended> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                return Envelope::decode(&text).map_err(|error| Ended::Foreign(format!("{error}: {text}")));
            }
            Some(Ok(Message::Close(frame))) => {
                return Err(frame.map_or_else(|| broken("closed"), |frame| Ended::Closed(frame.code.into())));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(broken(error)),
            None => return Err(broken("the connection is gone")),
        }
    }
}
