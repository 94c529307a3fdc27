//! Many connections that are signed in and say nothing but heartbeats.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{ClientFrame, Envelope, client::Ping};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    link::{Link, Opening},
    recorder::{Count, Recorder, Tally, Timing},
    target::Account,
    wire::Ended,
};

/// Connections that are being opened at the same time.
const OPENING: usize = 128;
/// Connections from one source address: fewer than there are ports.
const PER_ADDRESS: usize = 20_000;

/// Connections that are kept open.
pub(crate) struct Herd {
    recorder: Arc<Recorder>,
    opening: Opening,
    clients: JoinSet<()>,
    opened: usize,
    /// The number of the first source address.
    address: usize,
}

impl Herd {
    /// Nobody yet. `address` tells the source addresses of several herds apart.
    pub(crate) fn new(recorder: Arc<Recorder>, addr: std::net::SocketAddr, address: usize) -> Self {
        let opening = Opening { chunk: 512, ..Opening::new(addr) };
        Self { recorder, opening, clients: JoinSet::new(), opened: 0, address }
    }

    /// Opens a connection for each account; returns when all are open, with how long it took.
    pub(crate) async fn open(&mut self, accounts: Vec<Account>) -> Duration {
        let started = Instant::now();
        let places = Arc::new(Semaphore::new(OPENING));
        for account in accounts {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let mut opening = self.opening.clone();
            opening.from = source(opening.addr.ip(), self.address + self.opened / PER_ADDRESS);
            let tally = self.recorder.tally(self.opened);
            let seed = self.opened as u64;
            self.opened += 1;
            self.clients.spawn(async move {
                let began = Instant::now();
                match opening.open(&account.token, None).await {
                    Ok(link) => {
                        tally.count(Count::Connected);
                        tally.time(Timing::Sync, began.elapsed());
                        drop((place, account));
                        stay(link, &tally, seed).await;
                    }
                    Err(ended) => tally.broken(format!("a connection: {ended}")),
                }
            });
        }
        // All are open when every place is free again.
        drop(places.acquire_many(u32::try_from(OPENING).unwrap_or(u32::MAX)).await);
        started.elapsed()
    }

    /// Connections that are still there.
    pub(crate) fn alive(&mut self) -> usize {
        while self.clients.try_join_next().is_some() {}
        self.clients.len()
    }
}

/// A further address of this machine, for more connections than one address has ports. Only the loopback has them.
fn source(to: IpAddr, number: usize) -> Option<IpAddr> {
    let number = u8::try_from(number).ok().filter(|number| *number > 0)?;
    to.is_loopback().then(|| [127, 0, 1, number].into()).filter(|_| to.is_ipv4())
}

/// Keeps a connection with heartbeats, of which the first comes at a random time.
async fn stay(mut link: Link, tally: &Tally, seed: u64) {
    let heartbeat = Duration::from_millis(link.welcome.heartbeat_ms.into());
    let ping = ClientFrame::Ping(Ping {}).encode(None);
    let first = heartbeat.mul_f64(StdRng::seed_from_u64(seed).random());
    let mut next = Instant::now() + first;
    let mut asked: Option<Instant> = None;
    link.wire.shrink();
    loop {
        tokio::select! {
            text = link.wire.next() => match text {
                Ok(text) if text.starts_with(r#"{"type":"pong""#) => {
                    tally.count(Count::Beats);
                    if let Some(asked) = asked.take() {
                        tally.time(Timing::Beat, asked.elapsed());
                    }
                    link.wire.shrink();
                }
                Ok(text) if Envelope::decode(&text).is_ok() => {}
                Ok(text) => tally.broken(format!("not the protocol: {text}")),
                Err(ended) => return lost(tally, &ended),
            },
            () = sleep_until(next) => {
                if asked.is_some() {
                    tally.broken("a heartbeat was not answered before the next one");
                }
                asked = Some(next);
                next += heartbeat;
                link.wire.queue(&[&ping]);
            }
        }
    }
}

fn lost(tally: &Tally, ended: &Ended) {
    tally.count(Count::Lost);
    tally.broken(format!("an idle connection: {ended}"));
}
