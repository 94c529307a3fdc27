//! Everybody comes back without a cursor: the dearest thing that many can ask for at once.

use std::{sync::Arc, time::Duration};

use clap::Args;
use tokio::{task::JoinSet, time::Instant};

use super::{Common, Scenario, graph::Graph};
use crate::{
    link::Opening,
    recorder::{Count, Recorder, Timing},
    trial::{Needs, Stored, Trial},
    wire::Ended,
};

/// Members who sync one after the other, before all do at once.
const ALONE: usize = 50;
/// The longest pause before somebody tries again, in milliseconds.
const PAUSE_MAX: u64 = 5_000;

/// All members come without a cursor at once, each with many conversations: until all of them have their full state.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Members.
    #[arg(long, short, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..))]
    n: u32,
    /// Conversations of each.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    each: u32,
    /// Messages of each conversation, on average: which one the next is in is drawn.
    #[arg(long, default_value_t = 30)]
    messages: u32,
    /// When to give up, in seconds.
    #[arg(long, default_value_t = 300)]
    patience: u64,
}

impl Options {
    fn graph(&self) -> Graph {
        let (members, each) = (self.n as usize, self.each as usize);
        Graph::new(members / 2, Some(members * each / 2))
    }
}

impl Scenario for Options {
    const NAME: &'static str = "full-sync";

    fn common(&self) -> &Common {
        &self.common
    }

    fn needs(&self) -> Needs {
        let graph = self.graph();
        let count = graph.conversations() as u64 * u64::from(self.messages);
        let messages = Stored { count, size: 200, among: Some(graph) };
        Needs { members: graph.members(), messages, ..Needs::default() }
    }

    async fn run(&self, trial: &mut Trial) -> Result<(), String> {
        let tokens: Arc<[String]> = trial.accounts.iter().map(|account| account.token.clone()).collect();
        let opening = Opening { chunk: 64 * 1024, ..Opening::new(trial.target.addr) };
        let recorder = Arc::clone(&trial.recorder);
        recorder.begin("alone");
        for number in (0..tokens.len()).step_by((tokens.len() / ALONE).max(1)) {
            sync(&recorder, &opening, &tokens, number, Instant::now() + Duration::from_secs(self.patience)).await?;
        }
        recorder.begin("all at once");
        let begun = Instant::now();
        let until = begun + Duration::from_secs(self.patience);
        let mut coming = JoinSet::new();
        for number in 0..tokens.len() {
            let (recorder, opening, tokens) = (Arc::clone(&recorder), opening.clone(), Arc::clone(&tokens));
            coming.spawn(async move { sync(&recorder, &opening, &tokens, number, until).await });
        }
        while let Some(come) = coming.join_next().await {
            come.map_err(|error| error.to_string())??;
        }
        let took = begun.elapsed().as_secs_f64();
        recorder.halt();
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        {
            trial.figure("members", tokens.len() as f64, "");
            trial.figure("conversations of each", f64::from(self.each), "");
            trial.figure("full syncs a second, all at once", tokens.len() as f64 / took, "");
        }
        trial.figure("until all were synced", took, "s");
        Ok(())
    }
}

/// One member connects and syncs, trying again as the protocol asks.
async fn sync(
    recorder: &Arc<Recorder>,
    opening: &Opening,
    tokens: &[String],
    number: usize,
    until: Instant,
) -> Result<(), String> {
    let tally = recorder.tally(number);
    let Some(token) = tokens.get(number) else { return Ok(()) };
    let (begun, mut pause) = (Instant::now(), 100);
    loop {
        match opening.open(token, None).await {
            Ok(_) => {
                tally.count(Count::Connected);
                tally.time(Timing::Sync, begun.elapsed());
                return Ok(());
            }
            Err(Ended::Foreign(rule)) => {
                tally.broken(rule);
                return Ok(());
            }
            Err(ended) if Instant::now() > until => return Err(format!("member {number} is not synced: {ended}")),
            Err(_) => {
                tally.count(Count::Refused);
                // Not all of them together again.
                let spread = u64::try_from(number).unwrap_or_default() * 7_919 % pause;
                tokio::time::sleep(Duration::from_millis(pause / 2 + spread)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
