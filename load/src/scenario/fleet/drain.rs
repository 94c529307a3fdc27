//! One node leaves, and its connections go to the others: how fast, and how evenly.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use protocol::{ClientFrame, Cursor, ServerFrame, client::Ping};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rustix::process::Signal;
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use super::Options;
use crate::{
    fleet::Fleet,
    link::{Link, Opening},
    recorder::{Count, Tally, Timing},
    target::Account,
    trial::Trial,
};

/// Devices of each member.
const DEVICES: [&str; 5] = ["idle-1", "idle-2", "idle-3", "idle-4", "idle-5"];
/// Connections that are being opened at the same time, before anything happens.
const OPENING: usize = 64;
/// How long it may take until everybody is elsewhere.
const LIMIT: Duration = Duration::from_secs(300);

/// How many members it takes.
pub(super) fn members(options: &Options) -> usize {
    connections(options).div_ceil(DEVICES.len())
}

fn connections(options: &Options) -> usize {
    usize::try_from(options.connected * options.fleet.nodes).unwrap_or_default()
}

/// What all connections share.
struct Drain {
    addrs: Vec<SocketAddr>,
    /// When connections were opened again.
    hellos: Mutex<Vec<Instant>>,
    /// Those that are at the node that leaves.
    left: AtomicUsize,
    doors: Arc<Semaphore>,
}

/// Opens the connections, drains the first node, and looks.
pub(super) async fn run(options: &Options, fleet: &Arc<Fleet>, trial: &mut Trial) -> Result<(), String> {
    let count = connections(options);
    let drain = Arc::new(Drain {
        addrs: fleet.addrs(),
        hellos: Mutex::default(),
        left: AtomicUsize::new(0),
        doors: Arc::new(Semaphore::new(OPENING)),
    });
    let mut idle = JoinSet::new();
    for number in 0..count {
        let account = trial.accounts.get(number / DEVICES.len()).ok_or("too few members")?.clone();
        let idler = Idler {
            drain: Arc::clone(&drain),
            tally: trial.recorder.tally(number),
            random: StdRng::seed_from_u64(trial.seed.wrapping_add(number as u64)),
            account,
            device: DEVICES.get(number % DEVICES.len()).copied().unwrap_or_default(),
            node: number % drain.addrs.len().max(1),
            cursor: None,
        };
        let door = Arc::clone(&drain.doors).acquire_owned().await.map_err(|error| error.to_string())?;
        idle.spawn(idler.stay(door));
    }
    // All are open when every door is free again.
    drop(drain.doors.acquire_many(u32::try_from(OPENING).unwrap_or(u32::MAX)).await);
    drain.hellos.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let leaving = drain.left.load(Ordering::Relaxed);
    trial.recorder.begin("drain");
    let (node, told) = (fleet.nodes.first().ok_or("no node")?, Instant::now());
    node.signal(Signal::TERM);
    while drain.left.load(Ordering::Relaxed) > 0 && told.elapsed() < LIMIT {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = told.elapsed();
    trial.recorder.halt();
    let still = drain.left.load(Ordering::Relaxed);
    if still > 0 {
        trial.recorder.broken(format!("{still} of {leaving} connections are nowhere {} s later", took.as_secs()));
    }
    let hellos = std::mem::take(&mut *drain.hellos.lock().unwrap_or_else(PoisonError::into_inner));
    let seconds: Vec<Duration> = hellos.iter().map(|at| at.saturating_duration_since(told)).collect();
    report(trial, leaving, took, &seconds);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn report(trial: &Trial, leaving: usize, took: Duration, hellos: &[Duration]) {
    let (peak, mean) = peak_and_mean(hellos);
    trial.figure("connections of the node that left", leaving as f64, "");
    trial.figure("until all of them were synced elsewhere", took.as_secs_f64(), "s");
    trial.figure("hellos of a second, at most", peak, "");
    trial.figure("hellos of a second, mean", mean, "");
    trial.figure("peak of hellos by their mean", peak / mean.max(1e-9), "");
}

/// The most hellos of a second, and their mean between the first and the last.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn peak_and_mean(hellos: &[Duration]) -> (f64, f64) {
    let (Some(first), Some(last)) = (hellos.iter().min(), hellos.iter().max()) else { return (0.0, 0.0) };
    let seconds = last.saturating_sub(*first).as_secs_f64().max(1.0);
    let mut sorted = hellos.to_vec();
    sorted.sort_unstable();
    // The second that begins with each of them.
    let peak = (0..sorted.len()).map(|from| {
        let end = sorted.get(from).map_or(Duration::ZERO, |at| *at + Duration::from_secs(1));
        sorted.partition_point(|at| *at < end) - from
    });
    (peak.max().unwrap_or_default() as f64, hellos.len() as f64 / seconds)
}

struct Idler {
    drain: Arc<Drain>,
    tally: Tally,
    random: StdRng,
    account: Account,
    device: &'static str,
    node: usize,
    cursor: Option<Cursor>,
}

impl Idler {
    /// Keeps a connection, and opens it at another node when it ends, as the protocol asks.
    async fn stay(mut self, door: tokio::sync::OwnedSemaphorePermit) {
        let mut door = Some(door);
        let mut left = false;
        let mut wait = Duration::from_millis(500);
        loop {
            match self.open().await {
                Some(link) => {
                    if door.take().is_some() && self.node == 0 {
                        self.drain.left.fetch_add(1, Ordering::Relaxed);
                        left = true;
                    } else if std::mem::take(&mut left) {
                        self.drain.left.fetch_sub(1, Ordering::Relaxed);
                    }
                    let back = self.listen(link).await;
                    self.tally.count(Count::Lost);
                    wait = Duration::from_millis(500);
                    let jitter: f64 = self.random.random();
                    tokio::time::sleep(back.unwrap_or(wait.mul_f64(jitter))).await;
                }
                None => {
                    self.tally.count(Count::Refused);
                    let jitter: f64 = self.random.random();
                    tokio::time::sleep(wait.mul_f64(jitter)).await;
                    wait = (wait * 2).min(Duration::from_secs(30));
                }
            }
            let nodes = self.drain.addrs.len();
            self.node = (self.node + self.random.random_range(1..nodes.max(2))) % nodes.max(1);
        }
    }

    async fn open(&mut self) -> Option<Link> {
        let addr = *self.drain.addrs.get(self.node)?;
        let opening = Opening { chunk: 512, ..Opening::new(addr).on(self.device) };
        let began = Instant::now();
        let link = opening.open(&self.account.token, self.cursor.clone()).await.ok()?;
        self.drain.hellos.lock().unwrap_or_else(PoisonError::into_inner).push(began);
        self.tally.count(Count::Connected);
        self.tally.time(Timing::Sync, began.elapsed());
        self.cursor = Some(link.done.cursor.clone());
        Some(link)
    }

    /// Listens until the connection ends. Returns how long the server asked to stay away.
    async fn listen(&mut self, mut link: Link) -> Option<Duration> {
        let heartbeat = Duration::from_millis(link.welcome.heartbeat_ms.into());
        let ping = ClientFrame::Ping(Ping {}).encode(None);
        let mut beat = Instant::now() + heartbeat.mul_f64(self.random.random());
        let mut back = None;
        link.wire.shrink();
        loop {
            tokio::select! {
                next = link.next() => match next.map(|envelope| envelope.frame) {
                    Ok(ServerFrame::Pong(pong)) => {
                        self.tally.count(Count::Beats);
                        self.cursor = Some(pong.cursor);
                        link.wire.shrink();
                    }
                    Ok(ServerFrame::Sync(sync)) => self.cursor = Some(sync.cursor),
                    Ok(ServerFrame::Goodbye(goodbye)) => back = goodbye.retry_after_ms.map(Duration::from_millis),
                    Ok(_) => {}
                    Err(_) => return back,
                },
                () = tokio::time::sleep_until(beat) => {
                    beat += heartbeat;
                    link.wire.queue(&[&ping]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_that_of_any_second() {
        let hellos: Vec<Duration> = [0, 1_000, 1_900, 1_950, 2_100, 4_000].map(Duration::from_millis).to_vec();
        assert_eq!(peak_and_mean(&hellos), (3.0, 1.5));
        assert_eq!(peak_and_mean(&[]), (0.0, 0.0));
    }
}
