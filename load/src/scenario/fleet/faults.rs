//! What fails, in which order, and how long it takes until everything is as fast as before.

use std::{sync::Arc, time::Duration};

use clap::Args;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::{
    fleet::{self, Fleet, proxy::Weather},
    recorder::Timing,
    scenario::nodes::Nodes,
    server::Server,
    trial::Trial,
};

/// What is killed is gone for up to so long.
const GONE: Duration = Duration::from_secs(3);
/// How long a node may take to end by itself.
const DRAIN: Duration = Duration::from_secs(120);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);
/// How often a node is started again before that is given up.
const STARTS: usize = 10;

/// How often what fails. The order is random, by the seed.
#[derive(Args, Clone)]
#[group(skip)]
#[command(next_help_heading = "Faults")]
pub(super) struct Options {
    /// A node is killed with SIGKILL, and started again.
    #[arg(long, default_value_t = 0)]
    node_kills: u32,
    /// A node is stopped with SIGSTOP, and goes on as if nothing had been.
    #[arg(long, default_value_t = 0)]
    node_stops: u32,
    /// How long, in seconds.
    #[arg(long, default_value_t = 20.0)]
    stop_time: f64,
    /// All Redis servers are killed, and started again, empty.
    #[arg(long, default_value_t = 0)]
    redis_kills: u32,
    /// Between one node and Redis, or all nodes and Redis, nothing goes through, or connections break.
    #[arg(long, default_value_t = 0)]
    redis_partitions: u32,
    /// How long, in seconds.
    #[arg(long, default_value_t = 15.0)]
    partition_time: f64,
    /// Everything between nodes and Redis goes through 200 ms later, as long as a partition would last.
    #[arg(long, default_value_t = 0)]
    redis_delays: u32,
    /// The database is killed with SIGKILL, and started again.
    #[arg(long, default_value_t = 0)]
    database_kills: u32,
    /// A rolling deploy: one node after the other is ended with SIGTERM, and started again.
    #[arg(long, default_value_t = 0)]
    deploys: u32,
    /// Seconds between the end of one fault and the next, beyond those until everything is fast again.
    #[arg(long, default_value_t = 3.0)]
    spacing: f64,
    /// Deliveries across nodes are fast again when they take no longer than this, in milliseconds, or twice the p99 of the
    /// calm before, if that is more.
    #[arg(long, default_value_t = 50)]
    fast: u64,
    /// Seconds after a fault within which they have to be.
    #[arg(long, default_value_t = 90.0)]
    recovery: f64,
}

/// Something that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    NodeKill,
    NodeStop,
    RedisKill,
    RedisPartition,
    RedisDelay,
    DatabaseKill,
    Deploy,
}

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Self::NodeKill => "node killed",
            Self::NodeStop => "node stopped",
            Self::RedisKill => "Redis killed",
            Self::RedisPartition => "Redis partitioned",
            Self::RedisDelay => "Redis delayed",
            Self::DatabaseKill => "database killed",
            Self::Deploy => "rolling deploy",
        }
    }
}

impl Options {
    /// What fails, in its order.
    pub(super) fn schedule(&self, seed: u64) -> Vec<Fault> {
        let counts = [
            (Fault::NodeKill, self.node_kills),
            (Fault::NodeStop, self.node_stops),
            (Fault::RedisKill, self.redis_kills),
            (Fault::RedisPartition, self.redis_partitions),
            (Fault::RedisDelay, self.redis_delays),
            (Fault::DatabaseKill, self.database_kills),
            (Fault::Deploy, self.deploys),
        ];
        let mut all: Vec<Fault> = Vec::new();
        for (fault, count) in counts {
            all.extend((0..count).map(|_| fault));
        }
        all.shuffle(&mut StdRng::seed_from_u64(seed));
        all
    }
}

/// Lets everything fail, one after the other, and waits after each until everything is fast again.
pub(super) async fn run(
    options: &Options,
    schedule: Vec<Fault>,
    fleet: &Arc<Fleet>,
    nodes: &Nodes,
    trial: &Trial,
) -> Result<(), String> {
    let calm = trial.recorder.p99_of("calm", Timing::Across).map_or(Duration::ZERO, |p99| p99 * 2);
    let fast = calm.max(Duration::from_millis(options.fast));
    nodes.call_slow(fast);
    trial.figure("a delivery across nodes is fast up to", fast.as_secs_f64() * 1000.0, "ms");
    let mut random = StdRng::seed_from_u64(trial.seed ^ 0xFA17);
    let (count, mut spans) = (schedule.len(), Spans::default());
    for (number, fault) in schedule.into_iter().enumerate() {
        eprintln!("fault {} of {count}: {} …", number + 1, fault.name());
        // From then on everything could be as before.
        let lifted = inject(options, fault, fleet, &mut random, trial).await?;
        let whole = whole(nodes, lifted, Duration::from_secs_f64(options.recovery)).await;
        match whole {
            Some(whole) => spans.0.push((fault, whole)),
            None => trial.recorder.broken(format!("not fast again {} s after: {}", options.recovery, fault.name())),
        }
        let whole = whole.map_or_else(|| "never".to_owned(), |whole| format!("after {:.1} s", whole.as_secs_f64()));
        let line = trial.line("faults", trial.started.elapsed(), Duration::ZERO);
        eprintln!("fault {} of {count}: {}: whole {whole}; {line}", number + 1, fault.name());
        tokio::time::sleep(Duration::from_secs_f64(options.spacing)).await;
    }
    spans.report(trial);
    Ok(())
}

/// How long it took after each fault.
#[derive(Default)]
struct Spans(Vec<(Fault, Duration)>);

impl Spans {
    fn report(&self, trial: &Trial) {
        let mut seen: Vec<Fault> = Vec::new();
        for (fault, _) in &self.0 {
            if seen.contains(fault) {
                continue;
            }
            seen.push(*fault);
            let mut of_it: Vec<f64> =
                self.0.iter().filter(|(other, _)| other == fault).map(|(_, span)| span.as_secs_f64()).collect();
            of_it.sort_by(f64::total_cmp);
            let name = fault.name();
            let count = u32::try_from(of_it.len()).unwrap_or(u32::MAX);
            trial.figure(&format!("{name}: times"), f64::from(count), "");
            if let (Some(median), Some(most)) = (of_it.get(of_it.len() / 2), of_it.last()) {
                trial.figure(&format!("{name}: until fast again, median"), *median, "s");
                trial.figure(&format!("{name}: until fast again, at most"), *most, "s");
            }
        }
    }
}

/// How long after a moment deliveries across nodes were fast again.
async fn whole(nodes: &Nodes, lifted: Instant, limit: Duration) -> Option<Duration> {
    while lifted.elapsed() < limit {
        if let Some(whole) = nodes.whole_after(lifted) {
            return Some(whole);
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}

/// Lets something fail. Returns since when everything could be as before: for a node that is killed, its death, because the
/// others are there.
async fn inject(
    options: &Options,
    fault: Fault,
    fleet: &Arc<Fleet>,
    random: &mut StdRng,
    trial: &Trial,
) -> Result<Instant, String> {
    let node = fleet.nodes.get(random.random_range(0..fleet.nodes.len().max(1))).ok_or("no node")?;
    let gone = GONE.mul_f64(random.random());
    match fault {
        Fault::NodeKill => {
            node.kill();
            let killed = Instant::now();
            tokio::time::sleep(gone).await;
            start_again(node, trial).await?;
            return Ok(killed);
        }
        Fault::NodeStop => {
            node.signal(Signal::STOP);
            tokio::time::sleep(Duration::from_secs_f64(options.stop_time)).await;
            node.signal(Signal::CONT);
            // A node that finds itself out may end, and whoever watches over it starts it again.
            tokio::time::sleep(Duration::from_secs(1)).await;
            if node.has_ended() {
                start_again(node, trial).await?;
            }
        }
        Fault::RedisKill => {
            fleet.redis.iter().for_each(fleet::companion::Companion::kill);
            tokio::time::sleep(gone).await;
            for redis in &fleet.redis {
                redis.start().await?;
            }
        }
        Fault::RedisPartition => {
            let weather = if random.random() { Weather::Silent } else { Weather::Cut };
            between_redis(fleet, random, weather, options.partition_time).await;
        }
        Fault::RedisDelay => {
            let late = Weather::Late(Duration::from_millis(200));
            between_redis(fleet, random, late, options.partition_time).await;
        }
        Fault::DatabaseKill => {
            let database = fleet.database.as_ref().ok_or("--database-kills needs a database of our own")?;
            database.kill();
            tokio::time::sleep(gone).await;
            database.start().await?;
        }
        Fault::Deploy => {
            for node in &fleet.nodes {
                node.signal(Signal::TERM);
                let told = Instant::now();
                while !node.has_ended() && told.elapsed() < DRAIN {
                    tokio::time::sleep(LOOK).await;
                }
                if !node.has_ended() {
                    trial.recorder.broken(format!("a node had not ended {} s after SIGTERM", DRAIN.as_secs()));
                }
                node.kill();
                start_again(node, trial).await?;
            }
        }
    }
    Ok(Instant::now())
}

/// Something is between one node, or all nodes, and Redis for a time.
async fn between_redis(fleet: &Fleet, random: &mut StdRng, weather: Weather, seconds: f64) {
    let one = random.random_range(0..=fleet.proxies.len());
    let proxies = || fleet.proxies.iter().enumerate().filter(|(node, _)| one == fleet.proxies.len() || *node == one);
    let set = |weather| proxies().flat_map(|(_, proxies)| proxies).for_each(|proxy| proxy.set(weather));
    set(weather);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    set(Weather::Fair);
}

/// Starts a node that is gone, as whoever watches over it does: again and again.
async fn start_again(node: &Arc<Server>, trial: &Trial) -> Result<(), String> {
    let mut problem = String::new();
    for _ in 0..STARTS {
        match fleet::start(node).await {
            Ok(()) => return Ok(()),
            Err(error) => problem = error,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    trial.recorder.broken(format!("a node did not start again: {problem}"));
    Err(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_faults_follows_from_the_seed() {
        let options = Options {
            node_kills: 3,
            node_stops: 2,
            stop_time: 1.0,
            redis_kills: 2,
            redis_partitions: 1,
            partition_time: 1.0,
            redis_delays: 0,
            database_kills: 2,
            deploys: 1,
            spacing: 0.0,
            fast: 50,
            recovery: 90.0,
        };
        let schedule = options.schedule(7);
        assert_eq!((schedule.len(), options.schedule(7) == schedule), (11, true));
        assert_ne!(options.schedule(8), schedule);
        assert_eq!(schedule.iter().filter(|fault| **fault == Fault::NodeKill).count(), 3);
    }
}
