//! Sessions that end over one node while their socket is at another: no socket may outlive its session for long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol::{ClientFrame, client::Ping};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    fleet::Fleet,
    link::{Link, Opening},
    recorder::{Tally, Timing},
    target::Account,
    trial::Trial,
};

/// How long a socket may outlive its session.
const LIFE: Duration = Duration::from_secs(35);
/// How long before what failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a member rests between two sessions, in milliseconds: logins are dear, and are not what is measured.
const REST: std::ops::Range<u64> = 2_000..6_000;
/// A client that says nothing would be closed for that.
const BEAT: Duration = Duration::from_secs(5);

/// Members whose sessions end.
pub(super) struct Revoking {
    stop: Arc<AtomicBool>,
    revoked: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Revoking {
    /// Each of these members logs in, connects to one node, and is logged out over another, again and again.
    pub(super) fn start(fleet: &Arc<Fleet>, trial: &Trial, accounts: Vec<Account>) -> Self {
        let (stop, revoked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for (number, account) in accounts.into_iter().enumerate() {
            let member = Member {
                fleet: Arc::clone(fleet),
                tally: trial.recorder.tally(number),
                random: StdRng::seed_from_u64(trial.seed.wrapping_add(number as u64)),
                account,
            };
            let (stop, revoked) = (Arc::clone(&stop), Arc::clone(&revoked));
            tasks.spawn(async move {
                let mut member = member;
                while !stop.load(Ordering::Relaxed) {
                    if member.turn().await.is_some() {
                        revoked.fetch_add(1, Ordering::Relaxed);
                    }
                    let rest = Duration::from_millis(member.random.random_range(REST));
                    tokio::time::sleep(rest).await;
                }
            });
        }
        Self { stop, revoked, tasks }
    }

    /// Waits for what has been begun.
    pub(super) async fn finish(mut self, trial: &Trial) {
        self.stop.store(true, Ordering::Relaxed);
        let ending = async { while self.tasks.join_next().await.is_some() {} };
        // Every step of a turn has a limit of its own.
        if tokio::time::timeout(LIFE * 3, ending).await.is_err() {
            trial.recorder.broken("the sessions that are revoked could not be followed to their end");
        }
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        trial.figure("sessions ended while connected elsewhere", self.revoked.load(Ordering::Relaxed) as f64, "");
    }
}

struct Member {
    fleet: Arc<Fleet>,
    tally: Tally,
    random: StdRng,
    account: Account,
}

impl Member {
    /// One session, from its login to the end of its socket. None if a fault came in between.
    async fn turn(&mut self) -> Option<()> {
        let nodes = self.fleet.targets.len();
        let here = self.random.random_range(0..nodes.max(1));
        let there = (here + self.random.random_range(1..nodes.max(2))) % nodes.max(1);
        let (here, there) = (self.fleet.targets.get(here)?, self.fleet.targets.get(there)?);
        self.account = there.begin_session(&self.account).await.ok()?;
        let opening = Opening { patience: Duration::from_secs(10), ..Opening::new(here.addr).on("revoked") };
        let mut link = opening.open(&self.account.token, None).await.ok()?;
        tokio::time::sleep(Duration::from_millis(self.random.random_range(100..2_000))).await;
        let asked = Instant::now();
        // An answer that got lost is asked for again: the session is over then, and that is said as well.
        while !there.log_out(&self.account).await.unwrap_or(false) {
            if asked.elapsed() > LIFE {
                return None;
            }
            tokio::time::sleep(AGAIN).await;
        }
        let over = Instant::now();
        if tokio::time::timeout(LIFE, outlive(&mut link)).await.is_err() {
            self.tally.broken(format!("a socket of a session that is over lives after {} s", LIFE.as_secs()));
        }
        self.tally.time(Timing::Revoked, over.elapsed());
        Some(())
    }
}

/// Listens until the connection ends.
async fn outlive(link: &mut Link) {
    let ping = ClientFrame::Ping(Ping {}).encode(None);
    let mut beats = tokio::time::interval(BEAT);
    loop {
        tokio::select! {
            next = link.next() => if next.is_err() { return },
            _ = beats.tick() => link.wire.queue(&[&ping]),
        }
    }
}
