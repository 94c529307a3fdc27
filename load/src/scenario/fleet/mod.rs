//! Several nodes serve one club, and a client cannot tell: not even while nodes, Redis and the database fail.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`faults`] | which faults there are, in which order, and how long it takes until everything is as fast as before |
//! | [`revoked`] | sessions that end over one node while their socket is at another |
//! | [`compare`] | the same load within one node and across nodes |
//! | [`drain`] | one node leaves, and its connections go to the others |

mod compare;
mod drain;
mod faults;
mod revoked;

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;

use super::{
    chat::{Crowd, TalkOptions},
    conclude, draw_seed,
    nodes::Nodes,
};
use crate::{
    client_ids::ClientIds,
    fleet::{self, Fleet},
    proc::cpu_seconds,
    trial::{Against, Trial, register},
};

/// How long a client tries to come back.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long everybody may take at the end: to hear the rest, to come back, and to have the views compared.
const END: Duration = Duration::from_secs(600);
/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(3);

/// Several nodes on one database and one Redis: members are spread over them, talk, go from node to node, and check every rule;
/// meanwhile nodes, Redis and the database fail.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    fleet: fleet::Options,
    /// Members who talk, each with two others.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(4..))]
    members: u32,
    /// Conversations of all of them together. [default: as many as members]
    #[arg(long)]
    conversations: Option<u32>,
    /// Messages a second of all members together; all are said to be delivered and read, but for --compare. SecantusDB commits
    /// some dozens of each a second to disk.
    #[arg(long, default_value_t = 30.0)]
    rate: f64,
    /// Characters of a message.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(40..=4000))]
    size: u32,
    /// Connections dropped on purpose, in a thousand frames: each comes back at another node.
    #[arg(long, default_value_t = 2.0)]
    drops: f64,
    /// Seconds without a fault that are measured, before the faults; with --compare those of each part.
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    #[command(flatten)]
    faults: faults::Options,
    /// Sessions that are ended over one node while their socket is at another, at the same time, all the while.
    #[arg(long, default_value_t = 4)]
    revoking: usize,
    /// The same load within one node and across nodes, in turns, instead of faults.
    #[arg(long, conflicts_with = "drain")]
    compare: bool,
    /// With --compare: how often each.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// One node is drained while idle connections are at all of them, instead of faults.
    #[arg(long)]
    drain: bool,
    /// With --drain: idle connections at each node.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connected: u32,
    /// The seed of everything random, to repeat a run. [default: a random one]
    #[arg(long, help_heading = "Run")]
    seed: Option<u64>,
    /// When to give up, in seconds.
    #[arg(long, default_value_t = 3_600, help_heading = "Run")]
    timeout: u64,
    /// The folder for the JSON file and the page of this run.
    #[arg(long, default_value = "load-results", help_heading = "Report")]
    out: PathBuf,
}

impl Options {
    fn talk(&self) -> TalkOptions {
        TalkOptions {
            pairs: self.members / 2,
            conversations: Some(self.conversations.unwrap_or(self.members)),
            rate: Some(self.rate),
            receipts: true,
            size: self.size,
            drops: self.drops,
            ..TalkOptions::default()
        }
    }
}

/// Runs it and reports. True if no rule was broken.
pub(crate) async fn run(options: &Options) -> Result<bool, String> {
    let seed = draw_seed(options.seed);
    let fleet = Arc::new(Fleet::start(&options.fleet).await?);
    let talking = options.talk().members();
    let members = match (options.drain, options.compare) {
        (true, _) => drain::members(options),
        (_, true) => talking,
        _ => talking + options.revoking,
    };
    let target = fleet.targets.first().ok_or("no node")?.clone();
    let accounts = register(&target, members).await?;
    let mut trial = Trial::on(Against::Server, (target, None, accounts), None, seed, ClientIds::default());
    trial.nodes = fleet.addrs();
    trial.recorder.speak_up();
    println!("fleet of {} nodes ({}), seed {seed}", fleet.nodes.len(), trial.target.addr);
    let work = async {
        match (options.drain, options.compare) {
            (true, _) => drain::run(options, &fleet, &mut trial).await,
            (_, true) => compare::run(options, &fleet, &mut trial).await,
            _ => talk_through_faults(options, &fleet, &mut trial).await,
        }
    };
    match tokio::time::timeout(Duration::from_secs(options.timeout), work).await {
        Ok(ran) => ran?,
        Err(_) => trial.recorder.broken(format!("not done within {} s", options.timeout)),
    }
    let label = format!("{} nodes", fleet.nodes.len());
    conclude(&options.out, "fleet", &[trial.finish("fleet", label, None)])
}

async fn talk_through_faults(options: &Options, fleet: &Arc<Fleet>, trial: &mut Trial) -> Result<(), String> {
    let talk = options.talk();
    let apart = trial.accounts.split_off(talk.members().min(trial.accounts.len()));
    let crowd = Crowd::gather(&talk, trial, None, PATIENCE).await?;
    let shared = crowd.talk();
    trial.warm_up(WARM_UP).await;
    let spent = Spent::now(fleet, &shared.nodes);
    trial.measure("calm", Duration::from_secs_f64(options.seconds)).await;
    spent.report(fleet, &shared.nodes, trial, "calm");
    let revoking = revoked::Revoking::start(fleet, trial, apart);
    let storm = options.faults.schedule(trial.seed);
    if !storm.is_empty() {
        trial.recorder.begin("faults");
        faults::run(&options.faults, storm, fleet, &shared.nodes, trial).await?;
        trial.measure("after", Duration::from_secs_f64(options.seconds)).await;
    }
    revoking.finish(trial).await;
    crowd.finish(trial, END).await
}

/// What the nodes have spent, and accepted, at one moment.
struct Spent {
    seconds: Vec<f64>,
    accepted: Vec<u64>,
}

impl Spent {
    fn now(fleet: &Fleet, nodes: &Nodes) -> Self {
        let seconds = fleet.nodes.iter().map(|node| node.pid().and_then(cpu_seconds).unwrap_or_default());
        Self { seconds: seconds.collect(), accepted: nodes.accepted_by_each() }
    }

    /// Processor time of a message since then: of each node by the messages that it accepted, and of all. Returns that of all,
    /// in microseconds.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn report(&self, fleet: &Fleet, nodes: &Nodes, trial: &Trial, stage: &str) -> f64 {
        let now = Self::now(fleet, nodes);
        let (mut all_seconds, mut all_messages) = (0.0, 0.0);
        let each = self.seconds.iter().zip(&now.seconds).zip(self.accepted.iter().zip(&now.accepted));
        for (number, ((before, after), (accepted, now))) in each.enumerate() {
            let (seconds, messages) = ((after - before).max(0.0), now.saturating_sub(*accepted) as f64);
            let name = format!("{stage}: processor time of node {} by messages it accepted", number + 1);
            trial.figure(&name, seconds / messages.max(1.0) * 1e6, "us");
            all_seconds += seconds;
            all_messages += messages;
        }
        let micros = all_seconds / f64::max(all_messages, 1.0) * 1e6;
        trial.figure(&format!("{stage}: processor time of a message, all nodes together"), micros, "us");
        micros
    }
}
