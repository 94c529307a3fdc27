//! A client of the socket.

use std::{collections::VecDeque, net::SocketAddr};

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use protocol::{
    ClientFrame, ConversationId, Cursor, DeviceId, Envelope, MemberId, Request, RequestId, SUBPROTOCOL, ServerFrame,
    client::{Hello, HistoryGet, MessageDelivered, MessageRead, MessageSend, Ping, PresenceWatch, Typing},
    model::{Conversation, Device, Entry, Message, Platform, Presence},
    server::{self, EntryPush, Goodbye, History, Okay, Pong, PresencePush, Receipt, SyncDone, TypingPush, Welcome},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message as Raw, client::IntoClientRequest as _, handshake::client::Response, protocol::WebSocketConfig,
    },
};

use super::{client_id, within};

/// A connection to a server.
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    next_id: u64,
    /// Frames that came while something else was waited for.
    waiting: VecDeque<Envelope>,
    /// What welcome said.
    pub welcome: Option<Welcome>,
    /// The conversations of the sync after hello.
    pub synced: Vec<Conversation>,
    /// How that sync ended.
    pub sync_done: Option<SyncDone>,
}

/// A kind of frame that can be waited for.
pub trait Expect: Sized {
    /// The frame, if it is one of this kind.
    fn from_frame(frame: &ServerFrame) -> Option<Self>;
}

macro_rules! expect {
    ($($name:ident),*) => {
        $(impl Expect for $name {
            fn from_frame(frame: &ServerFrame) -> Option<Self> {
                match frame {
                    ServerFrame::$name(body) => Some(body.clone()),
                    _ => None,
                }
            }
        })*
    };
}

use server::{
    Applications, AuthExpiring, ConversationSettingsPush, Conversations, Error, MemberPush, MessageAccepted,
    PresenceSnapshot,
};

expect!(
    Welcome,
    SyncDone,
    EntryPush,
    Receipt,
    ConversationSettingsPush,
    TypingPush,
    PresencePush,
    MemberPush,
    Applications,
    AuthExpiring,
    Goodbye,
    Error,
    Okay,
    Pong,
    History,
    Conversations,
    PresenceSnapshot,
    MessageAccepted
);

impl Client {
    /// Opens the socket and says nothing.
    pub async fn open(addr: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(addr)).await.unwrap();
        Self::over(stream).await
    }

    /// Opens the WebSocket over a connection that was made before.
    pub async fn over(stream: TcpStream) -> Self {
        let (socket, response) = upgrade(stream, Some(SUBPROTOCOL)).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], SUBPROTOCOL);
        Self { socket, next_id: 0, waiting: VecDeque::new(), welcome: None, synced: Vec::new(), sync_done: None }
    }

    /// Signs in and syncs.
    pub async fn hello(&mut self, member: MemberId, token: &str, device: &DeviceId, cursor: Option<Cursor>) {
        let device = Device { id: device.clone(), platform: Platform::Other, name: None };
        let hello = Hello { token: token.to_owned(), device, cursor };
        let welcome: Welcome = self.ask(ClientFrame::Hello(hello)).await;
        assert_eq!(welcome.member, member);
        self.welcome = Some(welcome);
        loop {
            match self.receive().await.frame {
                ServerFrame::Sync(sync) => self.synced.extend(sync.conversations),
                ServerFrame::SyncDone(done) => {
                    self.sync_done = Some(done);
                    return;
                }
                other => panic!("{} within the sync", other.frame_type()),
            }
        }
    }

    /// Says hello and waits for nothing.
    pub async fn say_hello(&mut self, token: &str, device: &str, cursor: Option<Cursor>) {
        let device = Device { id: device.parse().unwrap(), platform: Platform::Other, name: None };
        let hello = Hello { token: token.to_owned(), device, cursor };
        self.post(ClientFrame::Hello(hello)).await;
    }

    /// The cursor of the sync after hello.
    pub fn cursor(&self) -> Cursor {
        self.sync_done.clone().unwrap().cursor
    }

    /// Sends a frame without an id.
    pub async fn tell(&mut self, frame: ClientFrame) {
        self.send_text(&Request { id: None, frame }.encode()).await;
    }

    /// Sends a request and waits for its reply.
    pub async fn request(&mut self, frame: ClientFrame) -> ServerFrame {
        let id = self.post(frame).await;
        self.reply(&id).await
    }

    /// Sends a request and returns its id without waiting.
    pub async fn post(&mut self, frame: ClientFrame) -> RequestId {
        self.next_id += 1;
        let id: RequestId = self.next_id.to_string().parse().unwrap();
        self.send_text(&Request { id: Some(id.clone()), frame }.encode()).await;
        id
    }

    /// Waits for the reply with this id.
    pub async fn reply(&mut self, id: &RequestId) -> ServerFrame {
        self.find(&format!("a reply to {id}"), |envelope| {
            (envelope.id.as_ref() == Some(id)).then(|| envelope.frame.clone())
        })
        .await
    }

    /// Sends a request whose reply is of a certain kind.
    pub async fn ask<T: Expect>(&mut self, frame: ClientFrame) -> T {
        let reply = self.request(frame).await;
        T::from_frame(&reply).unwrap_or_else(|| panic!("unexpected reply: {reply:?}"))
    }

    /// Waits for a push of a certain kind.
    pub async fn expect<T: Expect>(&mut self) -> T {
        let what = std::any::type_name::<T>();
        self.find(what, |envelope| if envelope.id.is_none() { T::from_frame(&envelope.frame) } else { None }).await
    }

    /// Makes sure that no push of a certain kind has come, after everything that was on its way has.
    pub async fn expect_no<T: Expect + std::fmt::Debug>(&mut self) {
        self.ping().await;
        let found = self.waiting.iter().find_map(|envelope| T::from_frame(&envelope.frame));
        assert!(found.is_none(), "unexpected: {:?}", found.unwrap());
    }

    /// Sends a text message to a member and waits until it is accepted.
    pub async fn say(&mut self, to: MemberId, content: &str) -> Message {
        let accepted: MessageAccepted = self.ask(message_to(to, content)).await;
        accepted.message
    }

    /// Waits for a message.
    pub async fn hear(&mut self) -> Message {
        self.expect::<EntryPush>().await.entry.into_message().unwrap()
    }

    /// Says that everything up to `seq` was delivered.
    pub async fn delivered(&mut self, conversation: ConversationId, seq: u64) {
        let _: Okay = self.ask(ClientFrame::MessageDelivered(MessageDelivered { conversation, seq })).await;
    }

    /// Says that everything up to `seq` was read; returns how many are unread then.
    pub async fn read(&mut self, conversation: ConversationId, seq: u64) -> u64 {
        let ok: Okay = self.ask(ClientFrame::MessageRead(MessageRead { conversation, seq })).await;
        ok.unread.unwrap()
    }

    /// Says that the member is typing to another, or has stopped.
    pub async fn typing_to(&mut self, to: MemberId, active: bool) {
        self.tell(ClientFrame::Typing(Typing { to: Some(to), conversation: None, active })).await;
    }

    /// Watches members.
    pub async fn watch(&mut self, members: &[MemberId]) -> Vec<Presence> {
        let watch = ClientFrame::PresenceWatch(PresenceWatch { members: members.to_vec() });
        self.ask::<PresenceSnapshot>(watch).await.members
    }

    /// The newest entries of a conversation.
    pub async fn history(&mut self, conversation: ConversationId) -> Vec<Message> {
        let get = HistoryGet { conversation, before: None, after: None, limit: Some(100) };
        let history: History = self.ask(ClientFrame::HistoryGet(get)).await;
        history.entries.into_iter().map(|Entry::Message(message)| message).collect()
    }

    /// A heartbeat: afterwards everything that was on its way has arrived.
    pub async fn ping(&mut self) -> Pong {
        self.ask(ClientFrame::Ping(Ping {})).await
    }

    /// Waits for goodbye and the close code after it.
    pub async fn expect_close(&mut self) -> Goodbye {
        let goodbye: Goodbye = self.expect().await;
        let code = self.close_code().await;
        assert_eq!(code, Some(goodbye.code.number()), "goodbye tells the close code");
        goodbye
    }

    /// Waits for the end of the connection; its close code, if there is one.
    pub async fn close_code(&mut self) -> Option<u16> {
        within("the end of the connection", async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Raw::Close(frame))) => return frame.map(|frame| frame.code.into()),
                    Some(Ok(Raw::Text(text))) => self.waiting.push_back(Envelope::decode(&text).unwrap()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        })
        .await
    }

    /// Sends any text.
    pub async fn send_text(&mut self, text: &str) {
        self.send_raw(Raw::text(text)).await;
    }

    /// Sends anything.
    pub async fn send_raw(&mut self, message: Raw) {
        within("a write", self.socket.send(message)).await.unwrap();
    }

    /// The next frame, in the order in which they come.
    pub async fn next(&mut self) -> Envelope {
        match self.waiting.pop_front() {
            Some(envelope) => envelope,
            None => self.receive().await,
        }
    }

    /// The next frame, within the time that tests wait.
    pub async fn next_frame(&mut self) -> ServerFrame {
        within("a frame", self.next()).await.frame
    }

    /// Everything that has arrived by now.
    pub fn drain(&mut self) -> Vec<Envelope> {
        while let Some(Some(Ok(Raw::Text(text)))) = self.socket.next().now_or_never() {
            self.waiting.push_back(Envelope::decode(&text).unwrap());
        }
        self.waiting.drain(..).collect()
    }

    /// The stream below, to do what no client does.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    async fn find<T>(&mut self, what: &str, wanted: impl Fn(&Envelope) -> Option<T>) -> T {
        if let Some((place, found)) =
            self.waiting.iter().enumerate().find_map(|(place, envelope)| Some((place, wanted(envelope)?)))
        {
            self.waiting.remove(place);
            return found;
        }
        loop {
            let envelope = within(what, self.receive()).await;
            if let Some(found) = wanted(&envelope) {
                return found;
            }
            self.waiting.push_back(envelope);
        }
    }

    async fn receive(&mut self) -> Envelope {
        loop {
            match within("a frame", self.socket.next()).await {
                Some(Ok(Raw::Text(text))) => return Envelope::decode(&text).unwrap(),
                Some(Ok(Raw::Ping(_) | Raw::Pong(_))) => {}
                other => panic!("the connection ended: {other:?}; before that: {:?}", self.waiting),
            }
        }
    }
}

/// Upgrades a connection to a WebSocket, offering subprotocols or none.
pub async fn upgrade(
    stream: TcpStream,
    offers: Option<&str>,
) -> Result<(WebSocketStream<TcpStream>, Response), tungstenite::Error> {
    let mut request = format!("ws://{}/ws", stream.peer_addr().unwrap()).into_client_request().unwrap();
    if let Some(offers) = offers {
        request.headers_mut().insert("sec-websocket-protocol", offers.parse().unwrap());
    }
    let config = WebSocketConfig::default().read_buffer_size(8192);
    within("the upgrade", client_async_with_config(request, stream, Some(config))).await
}

/// The status of an attempt to upgrade a connection, from a browser page of an origin or from an app.
pub async fn upgrade_from(stream: TcpStream, origin: Option<&str>) -> u16 {
    let mut request = format!("ws://{}/ws", stream.peer_addr().unwrap()).into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    match within("the upgrade", client_async_with_config(request, stream, None)).await {
        Ok((_, response)) => response.status().as_u16(),
        Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

/// A WebSocket to a server, offering subprotocols or none.
pub async fn socket(
    addr: SocketAddr,
    offers: Option<&str>,
) -> Result<(WebSocketStream<TcpStream>, Response), tungstenite::Error> {
    upgrade(within("a connection", TcpStream::connect(addr)).await.unwrap(), offers).await
}

/// A WebSocket to a server that may be gone at any moment.
pub async fn try_socket(addr: SocketAddr) -> Result<(WebSocketStream<TcpStream>, Response), tungstenite::Error> {
    upgrade(within("a connection", TcpStream::connect(addr)).await?, Some(SUBPROTOCOL)).await
}

/// A message to a member, with an id of its own.
pub fn message_to(to: MemberId, content: &str) -> ClientFrame {
    ClientFrame::MessageSend(MessageSend {
        to: Some(to),
        conversation: None,
        client_id: client_id(),
        content: content.to_owned(),
        reply_to: None,
    })
}

/// A message to a member that answers another, with an id of its own.
pub fn answer_to(to: MemberId, content: &str, reply_to: u64) -> ClientFrame {
    match message_to(to, content) {
        ClientFrame::MessageSend(send) => ClientFrame::MessageSend(MessageSend { reply_to: Some(reply_to), ..send }),
        other => other,
    }
}

/// A message into a conversation, with an id of its own.
pub fn message_in(conversation: ConversationId, content: &str) -> ClientFrame {
    ClientFrame::MessageSend(MessageSend {
        to: None,
        conversation: Some(conversation),
        client_id: client_id(),
        content: content.to_owned(),
        reply_to: None,
    })
}
