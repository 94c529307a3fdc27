//! Many members are signed in and say nothing but heartbeats.

mod in_process;
mod near;
pub(crate) mod part;
mod pipe;
mod talk;

use std::{sync::Arc, time::Duration};

use clap::Args;
use tokio::time::Instant;

use self::part::Part;
use super::{
    Common, Run, Scenario,
    chat::{Crowd, TalkOptions},
};
use crate::{
    herd::Herd,
    proc::{cpu_seconds, resident_kib},
    recorder::Count,
    trial::{Against, Needs, Trial},
};

/// Pairs who talk through the crowd at the end.
const PAIRS: u32 = 5;
/// Messages a second of all of them together.
const RATE: f64 = 500.0;
/// Many members are signed in and say nothing but heartbeats: what do they cost, and do messages get through them?
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Connections, each of a member of its own.
    #[arg(long, short, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..))]
    n: u32,
    /// Memory is looked at after each of so many equal parts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=20))]
    steps: u32,
    /// How long they stay, in seconds: longer than a heartbeat, so that everybody has one.
    #[arg(long, default_value_t = 35.0)]
    hold: f64,
    /// Seconds that memory may settle before it is looked at: an allocator keeps for a while what connecting took, jemalloc
    /// for 10 s.
    #[arg(long, default_value_t = 12.0)]
    settle: f64,
    /// Seconds of messages through the crowd at the end.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Connections of one client process: fewer than it may have open files. More are opened by further processes.
    #[arg(long, default_value_t = 18_000, value_parser = clap::value_parser!(u32).range(10..))]
    per_process: u32,
    /// No sockets: the server runs in this process, and every connection is a pair of buffers in memory. The task of a
    /// connection, its session, the hub and the timers are those of the server.
    #[arg(long, conflicts_with_all = ["spawn", "pid"])]
    in_process: bool,
    /// With --in-process: stop when this process has so much memory, in GiB.
    #[arg(long, default_value_t = 20.0, requires = "in_process")]
    memory: f64,
    /// With --in-process: a setting of the server, such as HEARTBEAT_INTERVAL is given as heartbeat-interval=30s.
    #[arg(long = "server-set", requires = "in_process", value_name = "NAME=VALUE")]
    server_settings: Vec<String>,
}

impl Scenario for Options {
    const NAME: &'static str = "idle";

    fn common(&self) -> &Common {
        &self.common
    }

    fn needs(&self) -> Needs {
        let n = usize::try_from(self.n).unwrap_or_default();
        let talkers = usize::try_from(PAIRS * 2).unwrap_or_default();
        Needs { members: n + talkers, ..Needs::default() }
    }

    fn runs(&self) -> Vec<Run> {
        let against = if self.in_process { Against::Nothing } else { Against::Server };
        vec![Run { against, needs: self.needs(), label: None }]
    }

    async fn run(&self, trial: &mut Trial) -> Result<(), String> {
        if self.in_process { in_process::run(self, trial).await } else { self.run_with_sockets(trial).await }
    }
}

/// Memory at some number of connections.
#[derive(Clone, Copy)]
struct Weighed {
    connections: f64,
    kib: f64,
}

/// What each further connection costs, from the first look to the last.
fn slope(weighed: &[Weighed]) -> Option<f64> {
    let (first, last) = (weighed.first()?, weighed.last()?);
    let connections = last.connections - first.connections;
    (connections > 0.0).then(|| (last.kib - first.kib) / connections)
}

impl Options {
    async fn run_with_sockets(&self, trial: &mut Trial) -> Result<(), String> {
        let pid = trial.pid()?;
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let resident = || resident_kib(pid).map(|kib| kib as f64).ok_or("the memory of the server cannot be read");
        let n = usize::try_from(self.n).map_err(|error| error.to_string())?;
        let mut idle = trial.accounts.split_off(trial.accounts.len().saturating_sub(n));
        let own = idle.len().min(usize::try_from(self.per_process).unwrap_or(usize::MAX));
        let mut herd = Herd::new(Arc::clone(&trial.recorder), trial.target.addr, 0);
        let mut parts = Vec::new();
        let empty = resident()?;
        trial.figure("resident memory without connections", empty / 1024.0, "MiB");

        let mut weighed = Vec::new();
        let (mut opened, mut connecting) = (0, Duration::ZERO);
        for step in 1..=self.steps {
            let target = n * usize::try_from(step).unwrap_or_default() / usize::try_from(self.steps).unwrap_or(1);
            let batch: Vec<_> = idle.drain(..(target - opened).min(idle.len())).collect();
            let (mine, others): (Vec<_>, Vec<_>) = batch.into_iter().enumerate().partition(|(i, _)| opened + i < own);
            let strip =
                |accounts: Vec<(usize, _)>| accounts.into_iter().map(|(_, account)| account).collect::<Vec<_>>();
            let started = Instant::now();
            herd.open(strip(mine)).await;
            for accounts in strip(others).chunks(usize::try_from(self.per_process).unwrap_or(usize::MAX)) {
                let number = parts.len() + 1;
                parts.push(Part::start(trial.target.addr, number, accounts).await?);
            }
            connecting += started.elapsed();
            opened = target;
            tokio::time::sleep(Duration::from_secs_f64(self.settle)).await;
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let look = Weighed { connections: opened as f64, kib: resident()? };
            trial.figure(&format!("resident memory with {opened} connections"), look.kib / 1024.0, "MiB");
            eprintln!("{opened} connections, {:.1} MiB", look.kib / 1024.0);
            weighed.push(look);
        }
        let connections = f64::from(self.n);
        trial.figure("resident memory of one connection, slope", slope(&weighed).unwrap_or_default(), "KiB");
        let all = weighed.last().map_or(0.0, |last| (last.kib - empty) / connections);
        trial.figure("resident memory of one connection, overall", all, "KiB");
        trial.figure("connects a second", connections / connecting.as_secs_f64(), "");

        let (cpu, started) = (cpu_seconds(pid), Instant::now());
        trial.measure("heartbeats", Duration::from_secs_f64(self.hold)).await;
        if let (Some(before), Some(after)) = (cpu, cpu_seconds(pid)) {
            let share = (after - before) / started.elapsed().as_secs_f64();
            trial.figure("processor time of heartbeats", share * 100.0, "% of a core");
        }
        let talk = TalkOptions { pairs: PAIRS, rate: Some(RATE), ..TalkOptions::default() };
        let crowd = Crowd::gather(&talk, trial, None, Duration::from_secs(60)).await?;
        trial.measure("messages through them", Duration::from_secs_f64(self.seconds)).await;
        crowd.finish(trial, Duration::from_secs(60)).await?;

        let mut alive = herd.alive();
        for part in parts {
            alive += part.finish(&trial.recorder).await?;
        }
        let lost = trial.recorder.total(Count::Lost);
        if alive != n {
            trial.recorder.broken(format!("{alive} of {n} connections are open at the end, {lost} were lost"));
        }
        Ok(())
    }
}
