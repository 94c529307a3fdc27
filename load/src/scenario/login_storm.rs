//! Members log in with their passwords while others talk.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Args;
use tokio::{task::JoinSet, time::Instant};

use super::{
    Common, Scenario,
    chat::{Crowd, TalkOptions},
};
use crate::{
    recorder::{Count, Timing},
    report::Distribution,
    trial::{Needs, Trial},
};

/// How long to wait when the server asks to come back later.
const LATER: Duration = Duration::from_secs(1);

/// Members log in with their passwords, as fast as the server takes them, while others talk at a steady rate.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    talk: TalkOptions,
    /// Members who log in at the same time.
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// The bcrypt cost of the passwords.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(4..=16))]
    cost: u32,
}

impl Scenario for Options {
    const NAME: &'static str = "login-storm";

    fn common(&self) -> &Common {
        &self.common
    }

    fn needs(&self) -> Needs {
        Needs { members: self.talk.members() + self.clients, bcrypt_cost: Some(self.cost), ..Needs::default() }
    }

    async fn run(&self, trial: &mut Trial) -> Result<(), String> {
        let talk = TalkOptions { rate: Some(self.talk.rate.unwrap_or(500.0)), ..self.talk.clone() };
        let crowd = Crowd::gather(&talk, trial, None, Duration::from_secs(60)).await?;
        trial.warm_up(Duration::from_secs_f64(self.talk.warm_up)).await;
        trial.measure("quiet", Duration::from_secs_f64(self.talk.seconds)).await;
        let logins = Logins::start(trial, self.clients, Duration::ZERO);
        trial.measure("storm", Duration::from_secs_f64(self.talk.seconds)).await;
        logins.finish(trial).await;
        let stages = trial.recorder.outcome();
        let p99 = |stage: &str| {
            let stage = stages.iter().find(|outcome| outcome.name == stage)?;
            stage.timings.get(Timing::Delivery.name()).map(|Distribution { p99, .. }| *p99)
        };
        if let (Some(quiet), Some(storm)) = (p99("quiet"), p99("storm")) {
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            trial.figure("p99 of delivery, storm to quiet", storm as f64 / quiet.max(1) as f64, "times");
        }
        crowd.finish(trial, Duration::from_secs(60)).await
    }
}

/// Members who log in again and again.
pub(crate) struct Logins {
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Logins {
    /// Takes the last accounts of the trial; each waits for `pause` between two logins.
    pub(crate) fn start(trial: &mut Trial, clients: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let first = trial.accounts.len().saturating_sub(clients);
        let mut running = JoinSet::new();
        for (number, account) in trial.accounts.split_off(first).into_iter().enumerate() {
            let (target, tally, stop) = (trial.target.clone(), trial.recorder.tally(number), Arc::clone(&stop));
            running.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    match target.log_in(&account).await {
                        Ok(None) => {
                            tally.time(Timing::Login, started.elapsed());
                            tally.count(Count::Logins);
                            tokio::time::sleep(pause).await;
                        }
                        Ok(Some(wait)) => {
                            tally.count(Count::PutOff);
                            // As a client does that wants to be let in, but for the end of the trial.
                            let until = Instant::now() + wait;
                            while Instant::now() < until && !stop.load(Ordering::Relaxed) {
                                tokio::time::sleep(LATER.min(wait)).await;
                            }
                        }
                        Err(problem) => {
                            tally.broken(problem);
                            tokio::time::sleep(LATER).await;
                        }
                    }
                }
            });
        }
        Self { stop, clients: running }
    }

    /// Lets those who are at it finish.
    pub(crate) async fn finish(mut self, trial: &Trial) {
        self.stop.store(true, Ordering::Relaxed);
        let done = async { while self.clients.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(90), done).await.is_err() {
            trial.recorder.broken("a login was not answered in time");
        }
    }
}
