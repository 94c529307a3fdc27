//! The table on the terminal.

use super::{
    Outcome, Sample, StageOutcome, attacks, compare,
    text::{short, table},
};
use crate::trial::millis;

/// Prints what was found out, round by round, and how the server compares with the relay if that ran too.
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
        compare::print(outcomes);
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
    let of_message = |a_second: Option<f64>| a_second.filter(|_| messages >= 1.0).map(|a_second| a_second / messages);
    let micros = |cores: Option<f64>| of_message(cores).map(|seconds| seconds * 1e6);
    let machine: fn(&Sample) -> Option<f64> = |sample| sample.server_cpu.map(|cpu| cpu + sample.client_cpu);
    [
        ("messages a second", Some(messages).filter(|messages| *messages > 0.0), ""),
        ("processor time of the server", server, "cores"),
        ("processor time of the clients", client, "cores"),
        ("both together", outcome.average(machine), "cores"),
        ("server's processor time of a message", micros(server), "us"),
        ("clients' processor time of a message", micros(client), "us"),
        ("bytes written to disk of a message", of_message(outcome.average(|sample| sample.server_written)), ""),
        ("bytes read from disk of a message", of_message(outcome.average(|sample| sample.server_read)), ""),
        ("resident memory of the server at most", rss, "MiB"),
    ]
    .into_iter()
    .filter_map(|(name, value, unit)| value.map(|value| (name, value, unit)))
    .collect()
}
