//! Members talk in pairs.

use std::{sync::Arc, time::Duration};

use clap::Args;
use rand::Rng as _;
use tokio::{sync::Barrier, task::JoinSet, time::Instant};

use super::{
    Where, progress, register,
    talker::{Talk, Talker},
};
use crate::{report, server::Server, stats::Stats};

/// Members talk in pairs, say delivered and read, lose their connection at random, and check every rule.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Where,
    /// Members; every two of them are a pair.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..))]
    members: u32,
    /// Messages of all members together.
    #[arg(long, default_value_t = 2000)]
    messages: usize,
    /// Messages of one member that are on their way at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    window: u32,
    /// Characters of a message.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Connections dropped on purpose, in a thousand frames.
    #[arg(long, default_value_t = 3.0)]
    drops: f64,
    /// With --spawn: kill the server with SIGKILL this often while they talk, and start it again.
    #[arg(long, default_value_t = 0, requires = "spawn")]
    kills: u32,
    /// How long a client tries to come back to a server that is gone, in seconds.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// When to give up, in seconds.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// The seed of everything random, to repeat a run.
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the scenario; true if no rule was broken.
pub(crate) async fn run(options: Options) -> Result<bool, String> {
    #[expect(clippy::disallowed_methods, reason = "a seed is drawn when none is given, and printed")]
    let seed = options.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    let (target, server) = options.target.open().await?;
    println!("chat: {} members, {} messages, seed {seed}, against {}", options.members, options.messages, target.addr);
    let members = usize::try_from(options.members - options.members % 2).map_err(|error| error.to_string())?;
    let mut accounts = register(&target, members).await?;

    let talk = Arc::new(Talk {
        target,
        stats: Stats::new(),
        bar: progress("talking", options.messages),
        window: usize::try_from(options.window).map_err(|error| error.to_string())?,
        size: options.size,
        drops_per_million: per_million(options.drops),
        patience: Duration::from_secs(options.patience),
        started: Instant::now(),
        start: Barrier::new(members + 1),
    });
    let mut talkers = JoinSet::new();
    let share = |number: usize| options.messages / members + usize::from(number < options.messages % members);
    let mut number = 0;
    while let (Some(one), Some(other)) = (accounts.pop(), accounts.pop()) {
        let (of_one, of_other) = (share(number), share(number + 1));
        let seed = seed.wrapping_add(number as u64);
        let again =
            |account: &crate::target::Account| crate::target::Account { id: account.id, auth: account.auth.clone() };
        talkers.spawn(Talker::new(Arc::clone(&talk), again(&one), &other, of_one, of_other, seed).run());
        talkers.spawn(Talker::new(Arc::clone(&talk), other, &one, of_other, of_one, seed + 1).run());
        number += 2;
    }
    talk.start.wait().await;
    let started = Instant::now();
    let killing = server.map(|server| tokio::spawn(kill(server, Arc::clone(&talk), options.kills, options.messages)));
    let finished = tokio::time::timeout(Duration::from_secs(options.timeout), async {
        while let Some(talker) = talkers.join_next().await {
            match talker {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => talk.stats.broken(problem),
                Err(error) => talk.stats.broken(format!("a client panicked: {error}")),
            }
        }
    });
    if finished.await.is_err() {
        talk.stats.broken(format!("{} clients were not done in time", talkers.len()));
    }
    let took = started.elapsed();
    talk.bar.finish_and_clear();
    let kills = match killing {
        Some(killing) => killing.await.map_err(|error| error.to_string())??,
        None => 0,
    };
    Ok(report::print(&talk.stats, took, &[("servers killed and started again", kills.to_string())]))
}

/// Kills the server whenever a further share of the messages is through.
async fn kill(server: Arc<Server>, talk: Arc<Talk>, kills: u32, messages: usize) -> Result<u32, String> {
    for number in 1..=kills {
        let due = messages as u64 * u64::from(number) / (u64::from(kills) + 1);
        while talk.bar.position() < due {
            if talk.bar.is_finished() {
                return Ok(number - 1);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let server = Arc::clone(&server);
        tokio::task::spawn_blocking(move || server.kill_and_start()).await.map_err(|error| error.to_string())??;
    }
    // The server goes on until everybody is done.
    while !talk.bar.is_finished() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(kills)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn per_million(per_thousand: f64) -> u32 {
    (per_thousand * 1000.0).clamp(0.0, 1_000_000.0) as u32
}
