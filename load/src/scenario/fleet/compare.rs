//! The same load within one node and across nodes, in turns: what the way between nodes costs.

use std::{collections::BTreeMap, time::Duration};

use super::{END, Options, PATIENCE, Spent, WARM_UP};
use crate::{
    fleet::Fleet,
    recorder::Timing,
    report::Distribution,
    scenario::{
        chat::{Crowd, TalkOptions},
        nodes::Placement,
    },
    trial::Trial,
};

/// Runs both parts in each round, and notes how they differ.
pub(super) async fn run(options: &Options, fleet: &Fleet, trial: &mut Trial) -> Result<(), String> {
    // Pairs and nothing else, which stay where they are: both ends of each are at one node, or at two.
    let talk = TalkOptions { conversations: None, drops: 0.0, receipts: false, ..options.talk() };
    let (accounts, seed) = (std::mem::take(&mut trial.accounts), trial.seed);
    let mut costs = BTreeMap::new();
    for round in 1..=options.rounds {
        for (placement, name) in parts(round) {
            trial.placement = placement;
            // Each member draws ids of messages from their own: one that is drawn twice would be a retry.
            trial.seed = trial.seed.wrapping_add(1_000_003);
            trial.accounts.clone_from(&accounts);
            let crowd = Crowd::gather(&talk, trial, None, PATIENCE).await?;
            trial.recorder.begin(&format!("before {name}"));
            trial.warm_up(WARM_UP).await;
            let shared = crowd.talk();
            let spent = Spent::now(fleet, &shared.nodes);
            trial.measure(&name, Duration::from_secs_f64(options.seconds)).await;
            costs.insert(name.clone(), spent.report(fleet, &shared.nodes, trial, &name));
            crowd.finish(trial, END).await?;
        }
    }
    trial.seed = seed;
    report(options.rounds, &costs, trial);
    Ok(())
}

/// Both parts of a round; every other one begins with the second.
fn parts(round: u32) -> [(Placement, String); 2] {
    let within = (Placement::Together, name("within one node", round));
    let across = (Placement::Across, name("across nodes", round));
    if round.is_multiple_of(2) { [across, within] } else { [within, across] }
}

fn name(part: &str, round: u32) -> String {
    format!("{part}, round {round}")
}

/// How much more across nodes, in each round, and the median of all.
fn report(rounds: u32, costs: &BTreeMap<String, f64>, trial: &Trial) {
    let stages = trial.recorder.outcome();
    let timing = |timing: Timing, name: &str| {
        let stage = stages.iter().find(|stage| stage.name == name)?;
        stage.timings.get(timing.name())
    };
    let mut more: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for round in 1..=rounds {
        let (within, across) = (name("within one node", round), name("across nodes", round));
        for what in [Timing::Delivery, Timing::Hop] {
            if let (Some(within), Some(across)) = (timing(what, &within), timing(what, &across)) {
                for (percentile, of) in PERCENTILES {
                    let millis = |distribution| f64::from(u32::try_from(of(distribution)).unwrap_or(u32::MAX)) / 1000.0;
                    let name = format!("{}, {percentile}", what.name());
                    more.entry(name).or_default().push(millis(across) - millis(within));
                }
            }
        }
        if let (Some(within), Some(across)) = (costs.get(&within), costs.get(&across)) {
            more.entry(PROCESSOR_TIME.to_owned()).or_default().push(across - within);
        }
    }
    for (what, mut values) in more {
        let unit = if what == PROCESSOR_TIME { "us a message" } else { "ms" };
        if values.len() > 1 {
            for (round, value) in values.iter().enumerate() {
                trial.figure(&format!("across more than within, {what}, round {}", round + 1), *value, unit);
            }
        }
        values.sort_by(f64::total_cmp);
        if let Some(median) = values.get(values.len() / 2) {
            trial.figure(&format!("across more than within, {what}, median"), *median, unit);
        }
    }
}

/// What a message costs all nodes together.
const PROCESSOR_TIME: &str = "processor time";

/// A percentile.
type Percentile = fn(&Distribution) -> u64;

/// What is compared.
const PERCENTILES: [(&str, Percentile); 3] =
    [("p50", |timing| timing.p50), ("p99", |timing| timing.p99), ("p99.9", |timing| timing.p999)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_round_begins_with_the_other_part() {
        assert_eq!(parts(1)[0].0, Placement::Together);
        assert_eq!(parts(2)[0].0, Placement::Across);
        assert_eq!(parts(2)[1].1, "within one node, round 2");
    }
}
