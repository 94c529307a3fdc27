//! What the clients do.
//!
//! A scenario says what it needs and what it does; [`execute`] gets it ready, runs it, as often as asked and against the
//! relay too if asked, and reports. Every scenario checks the rules of the protocol as it goes: one broken rule, and the
//! program ends with 1.

pub(crate) mod baseline;
mod books;
pub(crate) mod chat;
pub(crate) mod club;
pub(crate) mod fan_out;
pub(crate) mod fleet;
pub(crate) mod full_sync;
pub(crate) mod graph;
pub(crate) mod guard;
pub(crate) mod history;
mod hops;
pub(crate) mod hostile;
pub(crate) mod idle;
pub(crate) mod instructions;
mod listening;
pub(crate) mod login_storm;
pub(crate) mod nodes;
pub(crate) mod peers;
pub(crate) mod push;
pub(crate) mod reconnect_storm;
pub(crate) mod slow_readers;
mod talk;
mod talker;
mod wandering;

use std::{path::PathBuf, time::Duration};

use chat::TalkOptions;
use clap::{Args, ValueEnum};
use rand::Rng as _;

use crate::{
    client_ids::ClientIds,
    report::{self, Outcome, table},
    trial::{Against, Needs, Trial, Where},
};

/// What every scenario can be told.
#[derive(Args, Clone)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) place: Where,
    /// How often it is run; the report has the median.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20), help_heading = "Run")]
    pub(crate) rounds: u32,
    /// The seed of everything random, to repeat a run. [default: a random one]
    #[arg(long, help_heading = "Run")]
    pub(crate) seed: Option<u64>,
    /// Which version of UUID the ids of messages are: v4 is what `crypto.randomUUID()` makes.
    #[arg(long, value_enum, default_value_t, help_heading = "Run")]
    pub(crate) client_ids: ClientIds,
    /// When to give up, in seconds, for each round.
    #[arg(long, default_value_t = 600, help_heading = "Run")]
    pub(crate) timeout: u64,
    /// The folder for the JSON file and the page of this run.
    #[arg(long, default_value = "load-results", help_heading = "Report")]
    pub(crate) out: PathBuf,
    /// A name for this run in reports. [default: what it ran against]
    #[arg(long, help_heading = "Report")]
    pub(crate) label: Option<String>,
}

impl Common {
    /// The seed that was given, or one that is drawn.
    fn seed(&self) -> u64 {
        draw_seed(self.seed)
    }

    /// The same with a server of our own.
    fn spawning(&self) -> Self {
        Self { place: Where { spawn: true, ..self.place.clone() }, ..self.clone() }
    }
}

/// The seed that was given, or one that is drawn.
fn draw_seed(given: Option<u64>) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a seed is drawn when none is given, and printed")]
    given.unwrap_or_else(|| rand::rng().random_range(0..1_000_000))
}

/// What to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compare {
    /// The bare relay with a file that is synced before every acknowledgement.
    Baseline,
}

/// One run of a round.
pub(crate) struct Run {
    pub(crate) against: Against,
    pub(crate) needs: Needs,
    /// What tells it from the other runs of the round, beside what it is put up against.
    pub(crate) label: Option<String>,
}

/// Something that clients do.
pub(crate) trait Scenario {
    /// Its name on the command line.
    const NAME: &'static str;

    /// What every scenario can be told.
    fn common(&self) -> &Common;

    /// What has to be there.
    fn needs(&self) -> Needs;

    /// What to do in every round, in this order.
    fn runs(&self) -> Vec<Run> {
        vec![Run { against: Against::Server, needs: self.needs(), label: None }]
    }

    /// Does it. An error is for what keeps it from being done; broken rules are recorded.
    async fn run(&self, trial: &mut Trial) -> Result<(), String>;
}

/// Runs a scenario and reports. True if no rule was broken and every attack was withstood.
pub(crate) async fn execute(scenario: &impl Scenario) -> Result<bool, String> {
    let common = scenario.common();
    let mut outcomes = Vec::new();
    let seed = common.seed();
    for round in 0..u64::from(common.rounds) {
        for run in scenario.runs() {
            outcomes.push(once(scenario, run, seed + round).await?);
        }
    }
    conclude(&common.out, name(scenario), &outcomes)
}

/// Something that chat is done with, in turns with others.
struct Case {
    name: String,
    talk: TalkOptions,
}

/// Chat in each case, against each of some servers, in turns in each round.
async fn in_turns(common: &Common, cases: &[Case], against: &[Against]) -> Result<Vec<Outcome>, String> {
    let seed = common.seed();
    let mut outcomes = Vec::new();
    for round in 0..u64::from(common.rounds) {
        for Case { name, talk } in cases {
            let chat = chat::Options::new(common.clone(), talk.clone());
            for against in against {
                let run = Run { against: *against, needs: chat.needs(), label: Some(name.clone()) };
                outcomes.push(once(&chat, run, seed + round).await?);
            }
        }
    }
    Ok(outcomes)
}

/// Reports. True if no rule was broken and every attack was withstood.
fn conclude(out: &std::path::Path, name: &str, outcomes: &[Outcome]) -> Result<bool, String> {
    table::print(outcomes);
    #[expect(clippy::disallowed_methods, reason = "this program has no injected clock")]
    let second = jiff::Timestamp::now().as_second();
    let path = report::write(out, &format!("{name}-{second}"), outcomes)?;
    println!("{} and {}", path.display(), path.with_extension("html").display());
    Ok(outcomes.iter().all(Outcome::passed))
}

const fn name<S: Scenario>(_: &S) -> &'static str {
    S::NAME
}

async fn once<S: Scenario>(scenario: &S, run: Run, seed: u64) -> Result<Outcome, String> {
    let (common, Run { against, needs, label }) = (scenario.common(), run);
    let mut trial = Trial::open(&common.place, against, &needs, seed, common.client_ids).await?;
    let ids = common.client_ids.name();
    println!("{} against {} ({}), seed {seed}, client ids {ids}", S::NAME, against.name(), trial.target.addr);
    let limit = Duration::from_secs(common.timeout);
    match tokio::time::timeout(limit, scenario.run(&mut trial)).await {
        Ok(ran) => ran?,
        Err(_) => trial.recorder.broken(format!("not done within {} s", common.timeout)),
    }
    let name = match (&common.label, against) {
        (Some(label), Against::Server) => label.clone(),
        _ => against.name().to_owned(),
    };
    let whole = label.as_ref().map_or_else(|| name.clone(), |label| format!("{name}, {label}"));
    Ok(trial.finish(S::NAME, whole, label))
}
