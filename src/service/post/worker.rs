//! The workers: each takes what is due of a lane, and has it handed over.
//!
//! Each lane ([`Lane`]) has one, with a connection of its own: what hangs in one of them keeps none back in the others.

use std::{
    sync::{
        Mutex as StdMutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::{Mutex, Notify},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Post, SCATTER};
use crate::{
    mail::Transport,
    store::mail::{Expired, Lane, TakenMail},
};

/// How often it is looked for mails that nobody told of: those whose time has come, and those of other nodes.
const LOOK: Duration = Duration::from_secs(10);
/// When a mail that was taken is due again, if whoever took it does not tell: so much longer than it may take to hand it over.
pub(super) const LEASE: Duration = Duration::from_secs(60);
/// When a mail is tried again after it failed once; twice as long each time. Never for longer than [`Post::longest`]: what is due later than that
/// is taken for the trace of a wrong clock.
pub(super) const PAUSE: Duration = Duration::from_secs(2);
/// The longest time until then.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How long nothing is sent after no mail could be handed over; twice as long each time.
const REST: Duration = Duration::from_secs(1);
/// The longest time of that.
pub(super) const REST_MAX: Duration = Duration::from_secs(60);
/// How many mails in a row the mail server may be lost at until nothing is sent for a while.
const LOST_MAX: u32 = 2;
/// After so many more in a row nothing is sent for twice as long.
const LOST_DOUBLED: u32 = 8;
/// The longest time of that: others may be waiting behind them.
const LOST_REST_MAX: Duration = Duration::from_secs(5);
/// What nobody has taken yet is due a moment after it was written, and no clock of a node is further ahead than that.
const UNTAKEN: Duration = SCATTER.saturating_add(Duration::from_secs(2));
/// How far what nodes take the clock that they share to show may be apart, and more: answers of the database are slow, or it has moved to
/// a server with another clock.
const SKEW: Duration = Duration::from_secs(60);

/// Sends the mails of a lane, one after the other.
pub(super) struct Sender {
    /// Which ones.
    pub(super) lane: Lane,
    /// How.
    pub(super) transport: Mutex<Transport>,
    wanted: Notify,
    /// How many were handed over: of the places of a lane each has its turn.
    taken: AtomicUsize,
    /// What is being handed over.
    in_hand: StdMutex<Option<TakenMail>>,
}

impl Sender {
    /// One of a lane.
    pub(super) fn new(lane: Lane, transport: Transport) -> Self {
        Self {
            lane,
            transport: Mutex::new(transport),
            wanted: Notify::new(),
            taken: AtomicUsize::new(0),
            in_hand: StdMutex::default(),
        }
    }

    /// There may be something to send. Never waits.
    pub(super) fn wake(&self) {
        self.wanted.notify_one();
    }

    /// Held for some instructions, and never across a call that could panic.
    fn in_hand(&self) -> MutexGuard<'_, Option<TakenMail>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of trying a mail, when others can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The mail server was not asked for anything.
    Alone,
    /// It has answered: the mail was taken, refused, or refused for now.
    Answered,
    /// It was lost, at this mail.
    Lost,
}

/// Why no mail of a lane is sent for a while.
enum Stopped {
    /// No mail can be sent.
    ForAll(String),
    /// The mail server was lost at several in a row; another one may be sent.
    ForSome,
}

/// How it went in a lane until now.
#[derive(Debug, Default)]
struct Run {
    /// How often no mail could be sent, in a row.
    failures: u32,
    /// At how many mails in a row the mail server was lost.
    lost: u32,
}

impl Post {
    /// Sends mails until `stop`. For one task only.
    pub async fn run(&self, stop: CancellationToken) {
        if self.is_alone() {
            // Taken before a kill: nobody has them in hand.
            self.hasten(Duration::ZERO).await;
        }
        // Of a run that panicked.
        self.let_go().await;
        let lanes = join_all(self.senders.iter().map(|sender| self.work(sender)));
        let _: Option<Vec<()>> = stop.run_until_cancelled(lanes).await;
        self.let_go().await;
    }

    /// Says what is wrong with the settings before a member waits for a mail.
    async fn greet(&self, sender: &Sender) {
        if let Err(problem) = sender.transport.lock().await.greet().await {
            tracing::warn!(problem, "the mail server cannot be used as it is set up; mails wait until it can");
        }
    }

    /// What was being handed over is due again, for whoever sends mails next. It may have been taken by the mail server, and is sent once more then.
    async fn let_go(&self) {
        for sender in &self.senders {
            let taken = sender.in_hand().take();
            if let Some(taken) = taken
                && let Err(error) = self.store.postpone(taken, self.now()).await
            {
                tracing::debug!(%error, "a mail that was in hand is sent when its lease ends");
            }
        }
    }

    /// What lies further ahead than this is due now, and what nobody has taken yet. Returns when to look again, if it is
    /// not as before.
    async fn hasten(&self, longest: Duration) -> Option<Duration> {
        let now = self.now();
        match self.store.hasten(now.after(longest), now.after(longest.min(UNTAKEN)), now).await {
            Ok(0) => None,
            Ok(mails) => {
                tracing::info!(mails, "mails that nobody has in hand are due now");
                self.senders.iter().for_each(Sender::wake);
                Some(Duration::ZERO)
            }
            Err(error) => {
                tracing::debug!(%error, "mails are due later than they could be");
                Some(PAUSE)
            }
        }
    }

    /// The longest time until a mail is due that is in hand or waits for its next attempt.
    fn longest(&self) -> Duration {
        self.lease.max(PAUSE_MAX).saturating_add(if self.is_alone() { Duration::ZERO } else { SKEW })
    }

    async fn work(&self, sender: &Sender) {
        if sender.lane == Lane::Members {
            self.greet(sender).await;
        }
        let mut run = Run::default();
        loop {
            let rest = self.look(sender.lane).await;
            if rest.is_zero() {
                let sent = self.send_due(sender, &mut run).await;
                self.count().await;
                match sent {
                    Ok(()) => run.failures = 0,
                    Err(stopped) => self.pause(sender, stopped, &mut run).await,
                }
            } else if timeout(rest, sender.wanted.notified()).await.is_err() && rest >= LOOK {
                // For longer than that no connection is kept.
                sender.transport.lock().await.rest().await;
            }
        }
    }

    /// Sends nothing of a lane for a while.
    async fn pause(&self, sender: &Sender, stopped: Stopped, run: &mut Run) {
        sender.transport.lock().await.rest().await;
        match stopped {
            Stopped::ForAll(problem) => {
                let pause = REST.saturating_mul(1 << run.failures.min(16)).min(REST_MAX);
                run.failures += 1;
                let (lane, seconds) = (sender.lane.as_str(), pause.as_secs());
                tracing::warn!(lane, problem, seconds, "no mail can be sent; it is tried again");
                // Not to be woken: a further mail would fail too.
                sleep(pause).await;
            }
            // Each of them waits longer and longer; others may be waiting behind them. Where there are very many it is all.
            Stopped::ForSome => {
                let doubled = (run.lost / LOST_DOUBLED).min(16);
                let pause = REST.saturating_mul(1 << doubled).min(LOST_REST_MAX);
                // Whoever waits now may not be one of them.
                let _: Result<(), _> = timeout(pause, sender.wanted.notified()).await;
            }
        }
    }

    /// For how long nothing of a lane becomes due, or when to look again; zero if something is due.
    async fn look(&self, lane: Lane) -> Duration {
        // What is to be done once for all lanes is done with one of them. Whatever fails was logged and counted where it arose, and is found again.
        let is_first = lane == Lane::Members;
        if is_first {
            if self.is_off {
                let _ = self.store.expire(self.now(), Expired::All).await;
            }
            self.count().await;
            if let Ok(oldest) = self.store.oldest().await {
                let waited = oldest.map_or(0, |at| self.now().since(at).as_secs());
                self.metrics.mail_oldest_seconds.set(i64::try_from(waited).unwrap_or(i64::MAX));
            }
        }
        if self.is_off {
            return LOOK;
        }
        let Ok(next) = self.store.next(lane).await else { return PAUSE };
        // After the store was asked: before that the clock that nodes share may not be known yet.
        let ahead = next.map_or(LOOK, |due| due.since(self.now()));
        // A clock was ahead when it was written, taken or put off.
        let hastened = if is_first { self.hasten(self.longest()).await } else { None };
        ahead.min(hastened.unwrap_or(LOOK))
    }

    /// Counts what waits.
    async fn count(&self) {
        if let Ok(waiting) = self.store.waiting().await {
            self.metrics.mail_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        }
    }

    /// Sends what is due of a lane. Once the mail server has taken or refused one, failures begin anew.
    ///
    /// # Errors
    /// Why none are sent at the moment.
    async fn send_due(&self, sender: &Sender, run: &mut Run) -> Result<(), Stopped> {
        loop {
            let now = self.now();
            let taken = match self
                .store
                .take(sender.lane, sender.taken.load(Ordering::Relaxed), now, now.after(self.lease))
                .await
            {
                Ok(Some(taken)) => taken,
                Ok(None) => return Ok(()),
                Err(error) => return Err(Stopped::ForAll(error.to_string())),
            };
            *sender.in_hand() = Some(taken.clone());
            // A queue is long when a run is: whoever watches it must not wait for the end of that.
            self.count().await;
            let attempted = self.attempt(sender, taken).await;
            *sender.in_hand() = None;
            let attempted = attempted.map_err(Stopped::ForAll)?;
            if attempted != Attempt::Alone {
                sender.taken.fetch_add(1, Ordering::Relaxed);
            }
            match attempted {
                Attempt::Alone => {}
                Attempt::Answered => (run.failures, run.lost) = (0, 0),
                Attempt::Lost => {
                    run.lost += 1;
                    if run.lost >= LOST_MAX {
                        return Err(Stopped::ForSome);
                    }
                }
            }
        }
    }
}
