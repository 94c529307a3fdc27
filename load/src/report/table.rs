//! The table on the terminal.

use std::collections::BTreeMap;

use super::{
    Outcome, Sample, StageOutcome, attacks,
    text::{short, table},
};
use crate::trial::millis;

const YARDSTICK: &str = "relay, fsynced";

/// Prints what was found out, round by round, and the ratio to the relay if it ran too.
pub(crate) fn print(outcomes: &[Outcome]) {
    for outcome in outcomes {
        println!("\n== {}: {}", outcome.scenario, outcome.label);
        if outcome.attacks.is_empty() {
            outcome.stages.iter().for_each(print_stage);
        } else {
            attacks::print(&outcome.attacks);
        }
        print_figures(outcome);
        for rule in &outcome.broken {
            println!("VIOLATION: {rule}");
        }
        println!("{} violations of the protocol's rules", outcome.violations);
    }
    if outcomes.len() > 1 {
        print_summary(outcomes);
    }
}

fn print_stage(stage: &StageOutcome) {
    let mut counts = table(&[&format!("{}, {:.1} s", stage.name, stage.seconds), "count", "a second"]);
    for (name, count) in &stage.counts {
        counts.add_row([name.clone(), count.to_string(), format!("{:.1}", stage.rate(name))]);
    }
    println!("{counts}");
    if stage.timings.is_empty() {
        return;
    }
    let mut latencies = table(&["latency, ms", "p50", "p90", "p99", "p99.9", "max", "samples"]);
    for (name, timing) in &stage.timings {
        let columns = [timing.p50, timing.p90, timing.p99, timing.p999, timing.max].map(millis);
        latencies.add_row(std::iter::once(name.clone()).chain(columns).chain([timing.count.to_string()]));
    }
    println!("{latencies}");
}

fn print_figures(outcome: &Outcome) {
    let mut figures = table(&["figure", "value", "unit"]);
    for figure in &outcome.figures {
        figures.add_row([figure.name.clone(), short(figure.value), figure.unit.clone()]);
    }
    for (name, value, unit) in costs(outcome) {
        figures.add_row([name.to_owned(), short(value), unit.to_owned()]);
    }
    println!("{figures}");
}

/// What a run cost, on average over its measured time.
pub(super) fn costs(outcome: &Outcome) -> Vec<(&'static str, f64, &'static str)> {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mebibytes = |kib: u64| kib as f64 / 1024.0;
    let server = outcome.average(|sample| sample.server_cpu);
    let client = outcome.average(|sample| Some(sample.client_cpu));
    let rss = outcome.samples.iter().filter_map(|sample| sample.server_rss_kib).max().map(mebibytes);
    let messages = outcome.messages_per_second();
    let of_message = |cpu: Option<f64>| cpu.filter(|_| messages >= 1.0).map(|cpu| cpu * 1e6 / messages);
    let machine: fn(&Sample) -> Option<f64> = |sample| sample.server_cpu.map(|cpu| cpu + sample.client_cpu);
    [
        ("messages a second", Some(messages).filter(|messages| *messages > 0.0), ""),
        ("processor time of the server", server, "cores"),
        ("processor time of the clients", client, "cores"),
        ("both together", outcome.average(machine), "cores"),
        ("server's processor time of a message", of_message(server), "us"),
        ("clients' processor time of a message", of_message(client), "us"),
        ("resident memory of the server at most", rss, "MiB"),
    ]
    .into_iter()
    .filter_map(|(name, value, unit)| value.map(|value| (name, value, unit)))
    .collect()
}

/// The medians of every label, and how they compare with the relay.
fn print_summary(outcomes: &[Outcome]) {
    let mut by_label: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        by_label.entry(&outcome.label).or_default().push(outcome);
    }
    let header = [
        "median of the rounds",
        "rounds",
        "messages/s",
        "ack p50",
        "ack p99",
        "delivery p50",
        "delivery p99",
        "to relay",
    ];
    let mut summary = table(&header);
    let yardstick = by_label.get(YARDSTICK).map(|runs| median(runs, |run| Some(run.messages_per_second())));
    for (label, runs) in &by_label {
        let rate = median(runs, |run| Some(run.messages_per_second()));
        let at = |timing: &'static str, of: fn(&super::Distribution) -> u64| {
            #[expect(clippy::cast_precision_loss, reason = "microseconds, for people")]
            let value =
                |run: &Outcome| run.stages.first()?.timings.get(timing).map(|timing| of(timing) as f64 / 1000.0);
            format!("{:.2}", median(runs, value))
        };
        let ratio = yardstick.filter(|yardstick| *yardstick > 0.0).map(|yardstick| format!("{:.3}", rate / yardstick));
        summary.add_row([
            (*label).to_owned(),
            runs.len().to_string(),
            format!("{rate:.0}"),
            at("acknowledgement", |timing| timing.p50),
            at("acknowledgement", |timing| timing.p99),
            at("delivery", |timing| timing.p50),
            at("delivery", |timing| timing.p99),
            ratio.unwrap_or_default(),
        ]);
    }
    println!("\n{summary}");
}

fn median(runs: &[&Outcome], of: impl Fn(&Outcome) -> Option<f64>) -> f64 {
    let mut values: Vec<f64> = runs.iter().filter_map(|run| of(run)).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (Some(upper), 0) => f64::midpoint(*upper, values.get(middle - 1).copied().unwrap_or(*upper)),
        (Some(value), _) => *value,
        (None, _) => 0.0,
    }
}
