//! A network between a node and its Redis, which the test governs.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Passes connections on to one address.
pub struct Proxy {
    addr: SocketAddr,
    network: Arc<Network>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Network {
    /// Nothing passes, on any connection.
    frozen: AtomicBool,
    connections: Mutex<Vec<Arc<Connection>>>,
}

#[derive(Default)]
struct Connection {
    /// The client subscribes on it.
    hears: AtomicBool,
    /// What comes is lost, and nobody is told.
    frozen: AtomicBool,
    /// What Redis publishes is lost, and its answers are not.
    unheard: AtomicBool,
    cut: CancellationToken,
}

impl Proxy {
    /// A network that passes everything on.
    pub async fn to(there: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, network) = (listener.local_addr().unwrap(), Arc::new(Network::default()));
        let task = tokio::spawn(Arc::clone(&network).serve(listener, there));
        Self { addr, network, task }
    }

    /// The URL of the Redis behind it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Loses everything from now on, on all connections, and tells nobody.
    pub fn freeze(&self) {
        self.network.frozen.store(true, Ordering::SeqCst);
        self.network.each(|connection| connection.frozen.store(true, Ordering::SeqCst));
    }

    /// Passes new connections on again. Those from before hang: when they would try again is up to the systems at both ends.
    pub fn thaw(&self) {
        self.network.frozen.store(false, Ordering::SeqCst);
    }

    /// Loses everything on the connections that hear.
    pub fn freeze_hearing(&self) {
        self.network.hearing(|connection| connection.frozen.store(true, Ordering::SeqCst));
    }

    /// Loses what is published on the connections that hear; answers pass.
    pub fn silence_hearing(&self) {
        self.network.hearing(|connection| connection.unheard.store(true, Ordering::SeqCst));
    }

    /// Ends the connections that hear.
    pub fn cut_hearing(&self) {
        self.network.hearing(|connection| connection.cut.cancel());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.network.each(|connection| connection.cut.cancel());
    }
}

impl Network {
    async fn serve(self: Arc<Self>, listener: TcpListener, there: SocketAddr) {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let Ok(server) = TcpStream::connect(there).await else { continue };
            let connection = Arc::new(Connection::default());
            self.connections.lock().unwrap().push(Arc::clone(&connection));
            connection.frozen.store(self.frozen.load(Ordering::SeqCst), Ordering::SeqCst);
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::spawn(Arc::clone(&connection).pass(from_client, to_server));
            tokio::spawn(connection.pass(from_server, to_client));
        }
    }

    fn each(&self, change: impl Fn(&Connection)) {
        self.connections.lock().unwrap().iter().for_each(|connection| change(connection));
    }

    /// Those that hear, of which there has to be one.
    fn hearing(&self, change: impl Fn(&Connection)) {
        let connections = self.connections.lock().unwrap();
        let open = connections.iter().filter(|connection| !connection.cut.is_cancelled());
        let hearing = open.filter(|connection| connection.hears.load(Ordering::SeqCst));
        let changed = hearing.map(|connection| change(connection)).count();
        assert!(changed > 0, "nobody subscribes");
    }
}

impl Connection {
    /// Passes on what comes from one side, until it ends or is cut: then both sides end.
    async fn pass(self: Arc<Self>, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let (mut bytes, mut held) = (vec![0; 64 * 1024], Vec::new());
        let passing = async {
            while let Ok(length @ 1..) = from.read(&mut bytes).await {
                let mut bytes = bytes[..length].to_vec();
                if bytes.windows(9).any(|word| word == b"SUBSCRIBE") {
                    self.hears.store(true, Ordering::SeqCst);
                }
                if self.unheard.load(Ordering::SeqCst) {
                    held.append(&mut bytes);
                    bytes = answers(&mut held);
                }
                if !self.frozen.load(Ordering::SeqCst) && to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        self.cut.run_until_cancelled(passing).await;
        self.cut.cancel();
    }
}

/// Takes all whole values, and leaves out what was published.
fn answers(held: &mut Vec<u8>) -> Vec<u8> {
    let mut answers = Vec::new();
    while let Some(end) = end_of_value(held) {
        let value = held.drain(..end).collect::<Vec<u8>>();
        if !value.starts_with(b">3\r\n$7\r\nmessage\r\n") {
            answers.extend(value);
        }
    }
    answers
}

/// Where the first value ends, if it is whole: a line, or as many strings and numbers as its line says.
fn end_of_value(bytes: &[u8]) -> Option<usize> {
    let end_of_line = |start: usize| {
        let rest = bytes.get(start..)?;
        rest.windows(2).position(|end| end == b"\r\n").map(|length| start + length + 2)
    };
    let number = |start: usize, end: usize| str::from_utf8(&bytes[start + 1..end - 2]).ok()?.parse::<usize>().ok();
    let mut end = end_of_line(0)?;
    let parts = if matches!(bytes[0], b'>' | b'*') { number(0, end)? } else { 0 };
    for _ in 0..parts {
        let start = end;
        end = end_of_line(start)?;
        if bytes[start] == b'$' {
            end += number(start, end)? + 2;
        }
    }
    (end <= bytes.len()).then_some(end)
}
