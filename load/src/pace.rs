//! Open-loop sending: when each message is due is fixed before, whatever the server does.
//!
//! A latency counts from the moment at which a message was due. A client that waited for a slow answer before it sent the
//! next message would leave out just the messages that a slow server hurts most (coordinated omission).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{sync::mpsc, time::Instant};

use crate::recorder::{Count, Recorder};

/// Sends of one client that may be due at the same time; more are counted and left out.
const DUE: usize = 4_096;
/// Waits shorter than this are not worth going to sleep for.
const SHORT: Duration = Duration::from_micros(40);

/// Tells clients when to send, from a thread of its own: the timers of the runtime are good to a millisecond only.
pub(crate) struct Pacer {
    /// Until it has begun.
    begin: Option<SyncSender<()>>,
    stop: Arc<AtomicBool>,
    clients: Arc<[mpsc::Sender<Order>]>,
    thread: Option<JoinHandle<()>>,
}

/// What a client is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// Send a message that is due at this time.
    Send(Instant),
    /// Drop the connection, and come back.
    Cut,
}

/// What a client is to do, and when.
pub(crate) type Due = mpsc::Receiver<Order>;

impl Pacer {
    /// Once it has begun: `rate` sends a second, spread evenly over time and at random over the clients.
    pub(crate) fn prepare(
        rate: f64,
        clients: usize,
        seed: u64,
        recorder: Arc<Recorder>,
    ) -> Result<(Self, Vec<Due>), String> {
        let (senders, due): (Vec<_>, Vec<_>) = (0..clients).map(|_| mpsc::channel(DUE)).unzip();
        let (stop, clients): (_, Arc<[_]>) = (Arc::new(AtomicBool::new(false)), senders.into());
        let (stopped, senders) = (Arc::clone(&stop), Arc::clone(&clients));
        let gap = Duration::from_secs_f64(1.0 / rate.max(1e-3));
        let (begin, begun) = sync_channel(1);
        let work = move || {
            // Otherwise it is stopped before it has begun.
            if begun.recv().is_ok() {
                run(&senders, gap, seed, &recorder, &stopped);
            }
        };
        let thread = std::thread::Builder::new().name("pacer".to_owned()).spawn(work);
        let thread = Some(thread.map_err(|error| error.to_string())?);
        Ok((Self { begin: Some(begin), stop, clients, thread }, due))
    }

    /// The first send is due now.
    pub(crate) fn begin(&mut self) {
        if let Some(begin) = self.begin.take() {
            // There is room for one, and nobody else sends.
            let _ = begin.try_send(());
        }
    }

    /// Lets every client drop its connection.
    pub(crate) async fn cut(&self) {
        for client in &*self.clients {
            // A client that has ended has nothing to drop.
            let _ = client.send(Order::Cut).await;
        }
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.begin = None;
        if let Some(thread) = self.thread.take() {
            // It notices within one gap.
            let _ = thread.join();
        }
    }
}

fn run(clients: &[mpsc::Sender<Order>], gap: Duration, seed: u64, recorder: &Arc<Recorder>, stop: &AtomicBool) {
    let mut random = StdRng::seed_from_u64(seed);
    let tally = recorder.tally(0);
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let wait = due.saturating_duration_since(now);
        if wait > SHORT {
            #[expect(clippy::disallowed_methods, reason = "it is a thread of its own, and has nothing else to do")]
            std::thread::sleep(wait.min(Duration::from_millis(100)));
            continue;
        }
        let client = random.random_range(0..clients.len().max(1));
        if let Some(client) = clients.get(client)
            && client.try_send(Order::Send(due)).is_err()
        {
            tally.count(Count::Unsent);
        }
        due += gap;
    }
}
