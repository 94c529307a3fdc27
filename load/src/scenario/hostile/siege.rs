//! One attack after the other: a quiet while to compare with, the attack, and the ten seconds after it, of which the first
//! are the quiet while before the next one.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    attacks::Attack,
    cast::Cast,
    field::{Attackers, Field},
    probe::{Probes, What},
    verdict::Limits,
    watch::{Back, Peak, resident, series},
};
use crate::{
    proc::Watched,
    recorder::{Count, Timing},
    report::attacks::{AttackOutcome, Check, Memory, Others, line},
    server::Server,
    trial::Trial,
};

/// Before the first quiet while: caches fill.
const WARM_UP: Duration = Duration::from_secs(3);
/// After an attack, before the others are listened to again.
const SETTLE: Duration = Duration::from_secs(1);
/// How long the others are listened to between two attacks.
const QUIET: Duration = Duration::from_secs(4);
const QUIET_QUICK: Duration = Duration::from_millis(800);
/// When memory has to be back.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// A siege.
pub(super) struct Siege<'a> {
    trial: &'a Trial,
    server: &'a Server,
    watched: Watched,
    metrics: std::net::SocketAddr,
    cast: Cast,
    limits: Limits,
    quick: bool,
    attackers: Attackers,
    probes: Probes,
    quiet: Vec<Others>,
    at_start: u64,
}

/// A stage that is over.
struct Stage {
    name: String,
    from: Instant,
    to: Instant,
}

impl<'a> Siege<'a> {
    pub(super) fn lay(
        trial: &'a Trial,
        server: &'a Server,
        cast: Cast,
        limits: Limits,
        quick: bool,
    ) -> Result<Self, String> {
        let metrics = server.metrics_addr().ok_or("the server has no metrics")?;
        let watched = trial.watched.clone().ok_or("the server cannot be looked at")?;
        let probes = Probes::start(trial.target.addr, &cast);
        let (attackers, quiet) = (Attackers::start()?, Vec::new());
        Ok(Self { trial, server, watched, metrics, cast, limits, quick, attackers, probes, quiet, at_start: 0 })
    }

    /// Warms up, and listens for the first time.
    pub(super) async fn begin(&mut self) -> Result<(), String> {
        let warm_up = if self.quick { SETTLE } else { WARM_UP };
        self.trial.warm_up(warm_up).await;
        self.listen().await;
        self.at_start = resident(&self.watched)?;
        Ok(())
    }

    /// Makes an attack; once more if what it did may have been noise.
    pub(super) async fn attack(&mut self, attack: Attack, time: Duration) -> Result<(), String> {
        for attempt in 1.. {
            let outcome = self.once(attack, time, attempt).await?;
            println!("{}", line(&outcome));
            if !attack.repeats() || !self.limits.may_be_noise(&outcome) {
                self.trial.attack(outcome);
                break;
            }
        }
        Ok(())
    }

    /// Notes what is left of all of it.
    pub(super) fn end(&self) -> Result<(), String> {
        self.trial.figure("memory before the first attack", mebibytes(self.at_start), "MiB");
        self.trial.figure("memory after the last one", mebibytes(resident(&self.watched)?), "MiB");
        self.trial.figure("log of the server", mebibytes(self.server.log_bytes() / 1024), "MiB");
        Ok(())
    }

    async fn once(&mut self, attack: Attack, time: Duration, attempt: u32) -> Result<AttackOutcome, String> {
        let without = self.without();
        let mut memory = Memory { before: resident(&self.watched)?, ..Memory::default() };
        let stored_before = self.server.store_bytes();
        let series_before = series(self.metrics).await?;
        let nonce = u64::try_from(self.trial.started.elapsed().as_micros()).unwrap_or_default();
        let (addr, random) = (self.trial.target.addr, (self.trial.seed, nonce));
        let field = Field::new(addr, self.cast.clone(), random, self.trial.client_ids, time);
        let again = if attempt > 1 { format!(" ({attempt})") } else { String::new() };

        let peak = Peak::start(self.watched.clone());
        let making = self.attackers.handle()?.spawn(attack.make(field.clone()));
        let stage = self.stage(&format!("{}{again}", attack.name()), time).await;
        making.abort();
        let made = making.await;
        memory.during = peak.most();
        drop(peak);
        let achieved = field.achieved();

        let back = self.limits.back();
        memory.stored = self.server.store_bytes().saturating_sub(stored_before) / 1024;
        self.recover(&back, &mut memory, stage.to).await?;
        field.let_go();
        self.probes.over(stage.to).await;
        let seconds = stage.to.duration_since(stage.from).as_secs_f64();
        let with = self.others(&stage);
        let mut checks = attack.checks(&achieved, seconds);
        if attack == Attack::Labels {
            let more = series(self.metrics).await?.saturating_sub(series_before);
            checks.push(failure("further series of the metrics", count(more), self.limits.series_max));
        }
        if let Ok(Err(problem)) = made {
            checks.push(failure(&format!("the attack could not be made ({problem})"), 1.0, 0.0));
        }
        let outcome = AttackOutcome {
            name: attack.name(),
            what: attack.what(),
            seconds,
            attempts: attempt,
            without,
            with,
            memory,
            achieved,
            checks,
        };
        let mut checks = self.limits.judge(&outcome, self.quick);
        checks.extend(outcome.checks);
        Ok(AttackOutcome { checks, ..outcome })
    }

    /// After an attack: listens to the others, and waits until memory is back or had its time.
    async fn recover(&mut self, back: &Back, memory: &mut Memory, ended: Instant) -> Result<(), String> {
        sleep(SETTLE).await;
        self.listen().await;
        if self.quick {
            // Whether memory comes back takes longer than there is time for here.
            memory.after = resident(&self.watched)?;
            return Ok(());
        }
        back.wait(&self.watched, memory, ended, ended + BACK_WITHIN).await
    }

    /// Listens to the others while nobody attacks.
    async fn listen(&mut self) {
        let time = if self.quick { QUIET_QUICK } else { QUIET };
        let stage = self.stage(&format!("quiet {}", self.quiet.len() + 1), time).await;
        let others = self.others(&stage);
        self.quiet.push(others);
    }

    async fn stage(&self, name: &str, time: Duration) -> Stage {
        let from = Instant::now();
        self.trial.measure(name, time).await;
        Stage { name: name.to_owned(), from, to: Instant::now() }
    }

    /// What it was like right before. Its p99 is the median of all quiet whiles if that is less: an attack before may still
    /// have been felt.
    fn without(&self) -> Others {
        let mut all: Vec<u64> = self.quiet.iter().map(|others| others.p99).collect();
        all.sort_unstable();
        let last = self.quiet.last().cloned().unwrap_or_default();
        let median = all.get(all.len() / 2).copied().unwrap_or(last.p99);
        Others { p99: last.p99.min(median), ..last }
    }

    /// How the others fared in a stage.
    fn others(&self, stage: &Stage) -> Others {
        let outcome = self.trial.recorder.outcome();
        let Some(found) = outcome.iter().find(|outcome| outcome.name == stage.name) else { return Others::default() };
        let counted = |what: Count| found.counts.get(what.name()).copied().unwrap_or_default();
        let delivery = found.timings.get(Timing::Delivery.name());
        let messages = delivery.map_or(0, |delivery| delivery.count);
        let mut others = Others {
            messages,
            p50: delivery.map_or(0, |delivery| delivery.p50),
            p99: delivery.map_or(0, |delivery| delivery.p99),
            p999: delivery.map_or(0, |delivery| delivery.p999),
            unanswered: counted(Count::Sent).saturating_sub(messages),
            lost: counted(Count::Lost),
            hello: self.probes.between(What::Hello, stage.from, stage.to),
            login: self.probes.between(What::Login, stage.from, stage.to),
            health: self.probes.between(What::Health, stage.from, stage.to),
        };
        if others.unanswered * 100 > counted(Count::Sent) && Instant::now() > stage.to + SETTLE {
            // More than one in a hundred has not come at all, so the p99 is at least what has passed since.
            let since = u64::try_from(stage.to.elapsed().as_micros()).unwrap_or(u64::MAX);
            others.p99 = others.p99.max(since);
            others.p999 = others.p999.max(since);
        }
        others
    }
}

fn failure(name: &str, value: f64, limit: f64) -> Check {
    Check { name: name.to_owned(), value, limit, unit: String::new(), binding: true }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn count(value: u64) -> f64 {
    value as f64
}

fn mebibytes(kib: u64) -> f64 {
    count(kib) / 1024.0
}
