//! A bare relay: what the machine can do when nothing is parsed, looked up or indexed.
//!
//! It speaks WebSocket over the same sockets as the server. What a client sends goes back to it, and on to the member it is
//! for, byte for byte: as many bytes as an acknowledgement and a push have. Of a frame it reads that member and no more. With `--fsync` every frame is appended
//! to a file, which is synced before the frame goes anywhere; what arrived during one sync is synced together by the next.
//! Its figures are the yardstick of `--compare baseline`.

use std::{
    collections::HashMap,
    fs::File,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use clap::Args;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Message, Utf8Bytes,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::WebSocketConfig,
    },
};

use crate::scan::scan_receiver;

/// Frames read before they are answered.
const READ_BUDGET: usize = 64;
/// Frames that wait for the file.
const QUEUE: usize = 65_536;

/// Runs the bare relay.
#[derive(Args)]
pub(crate) struct Options {
    /// Where to listen.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Where to listen.
    #[arg(long, env = "PORT", default_value_t = 8001)]
    port: u16,
    /// Append every frame to this file, and sync it before the frame goes anywhere.
    #[arg(long)]
    fsync: Option<PathBuf>,
}

/// What goes out on one connection.
#[derive(Default)]
struct Outbox {
    queue: Mutex<Vec<Utf8Bytes>>,
    filled: Notify,
}

impl Outbox {
    fn push(&self, frame: Utf8Bytes) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
        self.filled.notify_one();
    }

    fn take(&self) -> Vec<Utf8Bytes> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The outboxes of all members, by their ids.
#[derive(Default)]
struct Outboxes(Mutex<HashMap<String, Arc<Outbox>>>);

impl Outboxes {
    /// The outbox of a member, who may yet have to connect.
    fn of(&self, member: &str) -> Arc<Outbox> {
        let mut outboxes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(outboxes.entry(member.to_owned()).or_default())
    }
}

/// The outboxes that a connection has sent to: those of all are locked once for each.
struct Known {
    all: Arc<Outboxes>,
    sent_to: HashMap<String, Arc<Outbox>>,
    /// In a conversation of two it is the same member again and again.
    last_member: String,
    last: Option<Arc<Outbox>>,
}

impl Known {
    fn receiver(&mut self, frame: &str) -> Option<&Arc<Outbox>> {
        let member = scan_receiver(frame)?;
        if self.last_member != member {
            let outbox = match self.sent_to.get(member) {
                Some(outbox) => Arc::clone(outbox),
                None => {
                    let outbox = self.all.of(member);
                    self.sent_to.insert(member.to_owned(), Arc::clone(&outbox));
                    outbox
                }
            };
            self.last_member.clear();
            self.last_member.push_str(member);
            self.last = Some(outbox);
        }
        self.last.as_ref()
    }
}

/// A frame on its way into the file and then to both.
struct Written {
    frame: Utf8Bytes,
    to: [Arc<Outbox>; 2],
}

/// Relays until the process is ended.
pub(crate) async fn run(options: Options) -> Result<bool, String> {
    let listener = TcpListener::bind(SocketAddr::new(options.host, options.port)).await;
    let listener = listener.map_err(|error| error.to_string())?;
    let file = match options.fsync {
        Some(path) => {
            let file = File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let (sender, receiver) = mpsc::sync_channel(QUEUE);
            std::thread::spawn(move || write(file, &receiver));
            Some(sender)
        }
        None => None,
    };
    // What whoever started it waits for.
    println!("  docs     a bare relay, load/src/relay.rs");
    let all = Arc::new(Outboxes::default());
    loop {
        let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
        tokio::spawn(serve(stream, Arc::clone(&all), file.clone()));
    }
}

/// Writes and syncs what has gathered, then lets it go.
fn write(mut file: File, queue: &mpsc::Receiver<Written>) {
    let mut batch = Vec::new();
    let mut bytes = Vec::new();
    while let Ok(first) = queue.recv() {
        batch.push(first);
        batch.extend(queue.try_iter());
        bytes.clear();
        for written in &batch {
            bytes.extend_from_slice(written.frame.as_bytes());
            bytes.push(b'\n');
        }
        if let Err(error) = file.write_all(&bytes).and_then(|()| file.sync_data()) {
            eprintln!("load relay: {error}");
            return;
        }
        for Written { frame, to: [one, other] } in batch.drain(..) {
            one.push(frame.clone());
            other.push(frame);
        }
    }
}

async fn serve(stream: TcpStream, all: Arc<Outboxes>, file: Option<mpsc::SyncSender<Written>>) {
    // The path says which member it is: `/000000000000000000000012`.
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "the library's own type")]
    let handshake = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        request.uri().path().clone_into(&mut path);
        if let Some(offered) = request.headers().get("sec-websocket-protocol") {
            response.headers_mut().insert("sec-websocket-protocol", offered.clone());
        }
        Ok(response)
    };
    let _ = stream.set_nodelay(true);
    let config = WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(8 * 1024);
    let Ok(socket) = accept_hdr_async_with_config(stream, handshake, Some(config)).await else { return };
    let mine = all.of(path.trim_start_matches('/'));
    // However it ends, the connection is over.
    let known = Known { all, sent_to: HashMap::new(), last_member: String::new(), last: None };
    let _ = relay(socket, &mine, known, file).await;
}

async fn relay(
    mut socket: WebSocketStream<TcpStream>,
    mine: &Arc<Outbox>,
    mut known: Known,
    file: Option<mpsc::SyncSender<Written>>,
) -> Result<(), Box<dyn std::error::Error>> {
    loop {
        let first = tokio::select! {
            first = socket.next() => first,
            () = mine.filled.notified() => {
                for frame in mine.take() {
                    socket.feed(Message::Text(frame)).await?;
                }
                socket.flush().await?;
                continue;
            }
        };
        let mut next = first;
        let mut read = 0;
        while let Some(message) = next.take() {
            if let Message::Text(frame) = message? {
                let theirs = known.receiver(&frame).ok_or("a frame that is for nobody")?;
                match &file {
                    Some(file) => {
                        let to = [Arc::clone(mine), Arc::clone(theirs)];
                        // A full queue holds this thread up, and with it those who send too much.
                        file.send(Written { frame, to })?;
                    }
                    None => {
                        theirs.push(frame.clone());
                        socket.feed(Message::Text(frame)).await?;
                    }
                }
            }
            read += 1;
            if read == READ_BUDGET {
                break;
            }
            next = match socket.next().now_or_never() {
                Some(None) => return Ok(()),
                Some(message) => message,
                None => None,
            };
        }
        if read == 0 {
            return Ok(());
        }
        socket.flush().await?;
    }
}
