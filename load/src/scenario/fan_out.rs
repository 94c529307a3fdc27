//! One member is watched by many.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::Args;
use protocol::{
    ClientFrame, MemberId, ServerFrame,
    client::{PresenceSet, PresenceWatch},
    model::{DeviceStatus, PresenceStatus},
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use super::{Common, Scenario};
use crate::{
    link::{Link, Opening},
    recorder::{Count, Tally, Timing},
    target::Account,
    trial::{Needs, Trial},
};

/// How long the last watcher may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One member's presence and profile change while many watch: how long until the last of them knows?
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Watchers, each a member with a connection of its own.
    #[arg(long, default_value_t = 1000)]
    watchers: usize,
    /// Changes a second, presence and profile in turn; each is timed from when it was due.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Seconds before the measurement.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Seconds of the measurement.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

impl Scenario for Options {
    const NAME: &'static str = "fan-out";

    fn common(&self) -> &Common {
        &self.common
    }

    fn needs(&self) -> Needs {
        Needs { members: self.watchers + 1, ..Needs::default() }
    }

    async fn run(&self, trial: &mut Trial) -> Result<(), String> {
        let stage = Stage::set(trial, self.watchers, self.rate).await?;
        trial.warm_up(Duration::from_secs_f64(self.warm_up)).await;
        trial.measure("changes", Duration::from_secs_f64(self.seconds)).await;
        stage.finish(trial).await;
        Ok(())
    }
}

/// A change, and who still has to hear of it.
struct Change {
    due: Instant,
    left: AtomicUsize,
}

/// What has changed so far: presences and names, each in their order.
#[derive(Default)]
struct Changes {
    presences: Mutex<Vec<Arc<Change>>>,
    names: Mutex<Vec<Arc<Change>>>,
}

/// The one who is watched, and those who watch.
pub(crate) struct Stage {
    stop: Arc<AtomicBool>,
    changes: Arc<Changes>,
    subject: JoinHandle<Result<(), String>>,
    watchers: JoinSet<()>,
}

impl Stage {
    /// Takes the last accounts of the trial and begins.
    pub(crate) async fn set(trial: &mut Trial, watchers: usize, rate: f64) -> Result<Self, String> {
        let subject = trial.accounts.pop().ok_or("no members")?;
        trial.target.show_to_everybody(&subject).await?;
        let first = trial.accounts.len().saturating_sub(watchers);
        let opening = Opening { chunk: 2048, ..Opening::new(trial.target.addr) }.on("stage");
        let changes = Arc::new(Changes::default());
        let link = opening.open(&subject.token, None).await.map_err(|ended| ended.to_string())?;
        let mut watching = JoinSet::new();
        for (number, account) in trial.accounts.split_off(first).into_iter().enumerate() {
            let opened = opening.open(&account.token, None).await;
            let mut link = opened.map_err(|ended| format!("a watcher: {ended}"))?;
            let watch = ClientFrame::PresenceWatch(PresenceWatch { members: vec![subject.id] });
            let reply = link.ask(&watch, |_| ()).await.map_err(|ended| ended.to_string())?;
            if !matches!(&reply, ServerFrame::PresenceSnapshot(snapshot) if snapshot.members.len() == 1) {
                return Err(format!("{} instead of a snapshot", reply.frame_type()));
            }
            let (changes, tally) = (Arc::clone(&changes), trial.recorder.tally(number));
            watching.spawn(watch_on(link, subject.id, changes, tally));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let target = trial.target.clone();
        let part = Subject { account: subject, link, target, changes: Arc::clone(&changes), watchers: watching.len() };
        let subject = tokio::spawn(part.perform(rate, Arc::clone(&stop), trial.recorder.tally(0)));
        Ok(Self { stop, changes, subject, watchers: watching })
    }

    /// Stops, and sees to it that everybody has heard of everything.
    pub(crate) async fn finish(mut self, trial: &Trial) {
        self.stop.store(true, Ordering::Relaxed);
        match self.subject.await {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => trial.recorder.broken(problem),
            Err(error) => trial.recorder.broken(error.to_string()),
        }
        let last = Instant::now();
        let left = || {
            let of = |changes: &Mutex<Vec<Arc<Change>>>| -> usize {
                let changes = changes.lock().unwrap_or_else(PoisonError::into_inner);
                changes.iter().map(|change| change.left.load(Ordering::Relaxed)).sum()
            };
            of(&self.changes.presences) + of(&self.changes.names)
        };
        while left() > 0 && last.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if left() > 0 {
            trial.recorder.broken(format!("{} times a watcher was not told of a change", left()));
        }
        self.watchers.abort_all();
    }
}

/// The one who is watched.
struct Subject {
    account: Account,
    link: Link,
    target: crate::target::Target,
    changes: Arc<Changes>,
    watchers: usize,
}

impl Subject {
    async fn perform(mut self, rate: f64, stop: Arc<AtomicBool>, tally: Tally) -> Result<(), String> {
        let mut due = Instant::now();
        for number in 0.. {
            due += Duration::from_secs_f64(1.0 / rate.max(0.01));
            tokio::time::sleep_until(due).await;
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let change = Arc::new(Change { due, left: AtomicUsize::new(self.watchers) });
            tally.count(Count::Changes);
            let order = |changes: &Mutex<Vec<_>>| {
                let mut changes = changes.lock().unwrap_or_else(PoisonError::into_inner);
                changes.push(Arc::clone(&change));
                changes.len()
            };
            if number % 2 == 0 {
                let status = status(order(&self.changes.presences));
                let set = ClientFrame::PresenceSet(PresenceSet { status });
                match self.link.ask(&set, |_| ()).await.map_err(|ended| ended.to_string())? {
                    ServerFrame::Okay(_) => {}
                    other => return Err(format!("{} instead of ok", other.frame_type())),
                }
            } else {
                let name = format!("Load {}", order(&self.changes.names));
                self.target.rename(&self.account, &name).await?;
            }
        }
        Ok(())
    }
}

/// The first change is to away, the second back to online, and so on.
const fn status(change: usize) -> DeviceStatus {
    if change % 2 == 1 { DeviceStatus::Away } else { DeviceStatus::Online }
}

/// A watcher: hears of every change once, in its order.
async fn watch_on(mut link: Link, subject: MemberId, changes: Arc<Changes>, tally: Tally) {
    let (mut presences, mut names) = (0, 0);
    loop {
        let frame = match link.next().await {
            Ok(envelope) => envelope.frame,
            Err(ended) => return tally.broken(format!("a watcher: {ended}")),
        };
        let (list, number, timing) = match frame {
            ServerFrame::PresencePush(push) if push.member == subject => {
                presences += 1;
                let expected = match status(presences) {
                    DeviceStatus::Away => PresenceStatus::Away,
                    DeviceStatus::Online => PresenceStatus::Online,
                };
                if push.status != expected {
                    tally.broken(format!("change {presences} of a presence was told as {:?}", push.status));
                }
                (&changes.presences, presences, Timing::Presence)
            }
            ServerFrame::MemberPush(push) if push.member.id == subject => {
                names += 1;
                if push.member.name != format!("Load {names}") {
                    tally.broken(format!("change {names} of a name was told as {}", push.member.name));
                }
                (&changes.names, names, Timing::Profile)
            }
            other => return tally.broken(format!("{} was not asked for", other.frame_type())),
        };
        let change = list.lock().unwrap_or_else(PoisonError::into_inner).get(number - 1).map(Arc::clone);
        let Some(change) = change else { return tally.broken("a watcher was told of a change that there was not") };
        if change.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            tally.time(timing, change.due.elapsed());
        }
    }
}
