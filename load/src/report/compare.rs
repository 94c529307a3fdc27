//! Several runs beside each other: medians, and how the server compares with what the machine can do.

use std::collections::BTreeMap;

use super::{
    Distribution, Outcome,
    table::costs,
    text::{short, table},
};
use crate::trial::Against;

/// Something that runs are compared by.
struct Measure {
    name: &'static str,
    unit: &'static str,
    /// Whether a ratio means something.
    compared: bool,
    of: fn(&Outcome) -> Option<f64>,
}

const fn measure(name: &'static str, unit: &'static str, compared: bool, of: fn(&Outcome) -> Option<f64>) -> Measure {
    Measure { name, unit, compared, of }
}

const MEASURES: [Measure; 12] = [
    measure("messages/s", "", true, |run| Some(run.messages_per_second()).filter(|rate| *rate > 0.0)),
    measure("acknowledgement p50", "ms", true, |run| millis(run, "acknowledgement", |timing| timing.p50)),
    measure("acknowledgement p99", "ms", true, |run| millis(run, "acknowledgement", |timing| timing.p99)),
    measure("acknowledgement p99.9", "ms", true, |run| millis(run, "acknowledgement", |timing| timing.p999)),
    measure("delivery p50", "ms", true, |run| millis(run, "delivery", |timing| timing.p50)),
    measure("delivery p99", "ms", true, |run| millis(run, "delivery", |timing| timing.p99)),
    measure("delivery p99.9", "ms", true, |run| millis(run, "delivery", |timing| timing.p999)),
    measure("server's processor time of a message", "us", true, |run| {
        cost(run, "server's processor time of a message")
    }),
    measure("clients' processor time of a message", "us", true, |run| {
        cost(run, "clients' processor time of a message")
    }),
    measure("bytes written to disk of a message", "", true, |run| cost(run, "bytes written to disk of a message")),
    measure("bytes read from disk of a message", "", false, |run| cost(run, "bytes read from disk of a message")),
    measure("resident memory at most", "MiB", false, |run| cost(run, "resident memory of the server at most")),
];

#[expect(clippy::cast_precision_loss, reason = "microseconds, for people")]
fn millis(run: &Outcome, timing: &str, of: fn(&Distribution) -> u64) -> Option<f64> {
    run.stages.first()?.timings.get(timing).map(|timing| of(timing) as f64 / 1000.0)
}

fn cost(run: &Outcome, name: &str) -> Option<f64> {
    costs(run).into_iter().find(|(cost, ..)| *cost == name).map(|(_, value, _)| value)
}

/// The runs of a case, by what was put under load, each round after the other.
type Subjects<'a> = BTreeMap<&'a str, Vec<&'a Outcome>>;

fn by_case(outcomes: &[Outcome]) -> BTreeMap<&str, Subjects<'_>> {
    let mut cases: BTreeMap<&str, Subjects<'_>> = BTreeMap::new();
    for outcome in outcomes {
        cases.entry(outcome.case()).or_default().entry(outcome.subject()).or_default().push(outcome);
    }
    // Where only one thing was put under load, the cases stand beside each other.
    let subjects = cases.values().flat_map(BTreeMap::keys).collect::<std::collections::BTreeSet<_>>();
    if subjects.len() > 1 {
        return cases;
    }
    let mut labels = Subjects::new();
    for outcome in outcomes {
        labels.entry(&outcome.label).or_default().push(outcome);
    }
    BTreeMap::from([("", labels)])
}

/// A server and what it is compared with, and the ratios of each round.
pub(crate) struct Ratios<'a> {
    pub(crate) case: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) yardstick: &'a str,
    /// By the name of a measure.
    pub(crate) of: Vec<(&'static str, Vec<f64>)>,
}

fn ratios_of<'a>(case: &'a str, subjects: &Subjects<'a>) -> Vec<Ratios<'a>> {
    let (yardsticks, others): (Vec<_>, Vec<_>) = subjects.iter().partition(|(name, _)| Against::is_yardstick(name));
    let pairs = others.iter().flat_map(|other| yardsticks.iter().map(move |yardstick| (other, yardstick)));
    let ratios = pairs.map(|((subject, runs), (yardstick, their_runs))| {
        let of = MEASURES.iter().filter(|measure| measure.compared).map(|measure| {
            let rounds = runs.iter().zip(their_runs.iter());
            let ratio = |(ours, theirs): (&&Outcome, &&Outcome)| {
                let theirs = (measure.of)(theirs).filter(|theirs| *theirs > 0.0)?;
                Some((measure.of)(ours)? / theirs)
            };
            (measure.name, rounds.filter_map(ratio).collect())
        });
        Ratios { case, subject, yardstick, of: of.collect() }
    });
    ratios.collect()
}

/// How servers compare with the relay and with peers, in every case.
pub(crate) fn ratios(outcomes: &[Outcome]) -> Vec<Ratios<'_>> {
    by_case(outcomes).iter().flat_map(|(case, subjects)| ratios_of(case, subjects)).collect()
}

/// Prints the medians of every case, and the ratios.
pub(crate) fn print(outcomes: &[Outcome]) {
    for (case, subjects) in by_case(outcomes) {
        let ratios = ratios_of(case, &subjects);
        let rounds = subjects.values().map(Vec::len).max().unwrap_or_default();
        let title = if case.is_empty() { String::new() } else { format!("{case}: ") };
        let title = format!("{title}median of {rounds}");
        let columns = ratios.iter().map(|ratio| format!("{} to {}", ratio.subject, ratio.yardstick));
        let header: Vec<String> =
            std::iter::once(title).chain(subjects.keys().map(|name| (*name).to_owned())).chain(columns).collect();
        let mut rows = table(&header.iter().map(String::as_str).collect::<Vec<_>>());
        for measure in &MEASURES {
            let medians = subjects.values().map(|runs| median(runs.iter().filter_map(|run| (measure.of)(run))));
            let medians: Vec<Option<f64>> = medians.collect();
            if medians.iter().all(Option::is_none) {
                continue;
            }
            let unit = if measure.unit.is_empty() { String::new() } else { format!(", {}", measure.unit) };
            let mut row = vec![format!("{}{unit}", measure.name)];
            row.extend(medians.into_iter().map(|value| value.map(short).unwrap_or_default()));
            row.extend(ratios.iter().map(|ratios| {
                let rounds = ratios.of.iter().find(|(name, _)| *name == measure.name).map(|(_, rounds)| rounds);
                rounds.and_then(|rounds| spread(rounds)).unwrap_or_default()
            }));
            rows.add_row(row);
        }
        println!("\n{rows}");
    }
}

/// The median of the ratios of all rounds, and the ratio of each.
pub(crate) fn spread(rounds: &[f64]) -> Option<String> {
    let median = median(rounds.iter().copied())?;
    if rounds.len() < 2 {
        return Some(format!("{median:.2}"));
    }
    let each: Vec<String> = rounds.iter().map(|ratio| format!("{ratio:.2}")).collect();
    Some(format!("{median:.2} ({})", each.join(" ")))
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let lower = if values.len().is_multiple_of(2) { *values.get(middle - 1)? } else { upper };
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(label: &str, case: Option<&str>, messages: u64, p999: u64) -> Outcome {
        let distribution = serde_json::json!({"count": 1, "mean": 1.0, "p50": 1, "p90": 1, "p99": 1, "p999": p999, "max": 1, "percentiles": []});
        let stage = serde_json::json!({"name": "talk", "seconds": 1.0, "counts": {"messages acknowledged": messages},
            "timings": {"delivery": distribution}});
        let outcome = serde_json::json!({"scenario": "chat", "label": label, "case": case, "command": "", "at": "", "seed": 1,
            "machine": crate::report::Machine::default(), "stages": [stage], "figures": [], "samples": [], "violations": 0,
            "broken": []});
        serde_json::from_value(outcome).unwrap()
    }

    #[test]
    fn a_ratio_is_of_runs_of_the_same_round() {
        let runs = [
            run("relay, fsynced, window 1", Some("window 1"), 100, 2_000),
            run("server, window 1", Some("window 1"), 50, 8_000),
            run("relay, fsynced, window 1", Some("window 1"), 200, 4_000),
            run("server, window 1", Some("window 1"), 160, 8_000),
        ];
        let all = ratios(&runs);
        let [ratios] = all.as_slice() else { panic!("{} ratios", all.len()) };
        assert_eq!((ratios.case, ratios.subject, ratios.yardstick), ("window 1", "server", "relay, fsynced"));
        let of = |name| ratios.of.iter().find(|(measure, _)| *measure == name).unwrap().1.clone();
        assert_eq!(of("messages/s"), [0.5, 0.8]);
        assert_eq!(of("delivery p99.9"), [4.0, 2.0]);
        assert_eq!(spread(&of("messages/s")).unwrap(), "0.65 (0.50 0.80)");
        assert_eq!(of("bytes written to disk of a message"), [] as [f64; 0], "what was not measured has no ratio");
    }

    #[test]
    fn one_server_in_several_cases_stands_in_one_table() {
        let runs =
            [run("server, 10 stored", Some("10 stored"), 1, 1), run("server, 20 stored", Some("20 stored"), 1, 1)];
        let cases = by_case(&runs);
        assert_eq!(cases.keys().collect::<Vec<_>>(), [&""]);
        assert_eq!(cases[""].len(), 2);
        assert!(ratios(&runs).is_empty());
    }
}
