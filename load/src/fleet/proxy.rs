//! A TCP proxy between a node and its Redis: what a network does to them is done here.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Bytes that are passed on at once.
const CHUNK: usize = 16 * 1024;
/// Connections through one proxy.
const CONNECTIONS: usize = 256;

/// What a network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Everything goes through.
    Fair,
    /// Nothing goes through and nobody is told: what was sent waits, new connections are not answered.
    Silent,
    /// Connections break, and new ones are refused.
    Cut,
    /// Everything goes through, so much later.
    Late(Duration),
}

/// A proxy in front of one server.
pub(crate) struct Proxy {
    addr: SocketAddr,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own.
    pub(crate) async fn start(upstream: SocketAddr) -> Result<Arc<Self>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
        let addr = listener.local_addr().map_err(|error| error.to_string())?;
        let (weather, forecast) = watch::channel(Weather::Fair);
        let task = tokio::spawn(listen(listener, upstream, forecast));
        Ok(Arc::new(Self { addr, weather, task }))
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on the network does this.
    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(listener: TcpListener, upstream: SocketAddr, forecast: watch::Receiver<Weather>) {
    // All end with this task.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if *forecast.borrow() != Weather::Cut && connections.len() < CONNECTIONS {
            connections.spawn(carry(client, upstream, forecast.clone()));
        }
    }
}

async fn carry(client: TcpStream, upstream: SocketAddr, mut forecast: watch::Receiver<Weather>) {
    // In silence a connection is accepted by the kernel, and then nothing.
    if forecast.wait_for(|weather| *weather != Weather::Silent).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    // Without it the proxy adds latency that no network has; failing costs no more than that.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut cut = forecast.clone();
    tokio::select! {
        () = pass(&mut from_client, &mut to_server, forecast.clone()) => {}
        () = pass(&mut from_server, &mut to_client, forecast.clone()) => {}
        _ = cut.wait_for(|weather| *weather == Weather::Cut) => {}
    }
}

async fn pass(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    mut forecast: watch::Receiver<Weather>,
) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        let weather = match forecast.wait_for(|weather| *weather != Weather::Silent).await {
            Ok(weather) => *weather,
            Err(_) => return,
        };
        if let Weather::Late(delay) = weather {
            tokio::time::sleep(delay).await;
        }
        let Some(bytes) = buffer.get(..read) else { return };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A server that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        addr
    }

    async fn said(stream: &mut TcpStream) -> bool {
        let mut byte = [0];
        stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut byte).await.is_ok()
    }

    #[tokio::test]
    async fn what_is_cut_breaks_and_what_is_silent_comes_later() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        assert!(said(&mut stream).await);

        proxy.set(Weather::Silent);
        let mut byte = [0];
        stream.write_all(b"x").await.unwrap();
        assert!(
            timeout(Duration::from_millis(100), stream.read_exact(&mut byte)).await.is_err(),
            "nothing goes through"
        );
        proxy.set(Weather::Fair);
        stream.read_exact(&mut byte).await.unwrap();

        proxy.set(Weather::Cut);
        assert!(!said(&mut stream).await);
        let mut refused = TcpStream::connect(proxy.addr()).await.unwrap();
        assert!(!said(&mut refused).await);
        proxy.set(Weather::Fair);
        assert!(said(&mut TcpStream::connect(proxy.addr()).await.unwrap()).await);
    }
}
