//! What became of attacks: how the others fared, what the attacker got, what it cost, and whether that is good enough.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use super::{
    Outcome,
    text::{escape, short, table},
};
use crate::trial::millis;

/// One attack.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct AttackOutcome {
    /// Its name on the command line.
    pub(crate) name: String,
    /// What it does.
    pub(crate) what: String,
    /// How long it took.
    pub(crate) seconds: f64,
    /// How often it was made; this is what became of the last time.
    pub(crate) attempts: u32,
    /// The others right before it.
    pub(crate) without: Others,
    /// The others during it.
    pub(crate) with: Others,
    pub(crate) memory: Memory,
    /// What the attacker has achieved.
    pub(crate) achieved: BTreeMap<String, u64>,
    pub(crate) checks: Vec<Check>,
}

/// Those who are not attackers, for a while.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Others {
    /// Messages that reached their receiver.
    pub(crate) messages: u64,
    /// From when a message was due until its receiver had it, in microseconds.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    #[serde(default)]
    pub(crate) p999: u64,
    /// Messages that were due and neither acknowledged nor refused when the waiting was over.
    pub(crate) unanswered: u64,
    /// Connections that were lost.
    pub(crate) lost: u64,
    /// Another member who connects and syncs.
    pub(crate) hello: Probe,
    /// A member who logs in.
    pub(crate) login: Probe,
    /// `/healthz` and `/readyz`.
    pub(crate) health: Probe,
}

/// Something that was tried again and again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Probe {
    pub(crate) tried: u64,
    pub(crate) failed: u64,
    /// How long it took when it did not fail, in microseconds.
    pub(crate) p50: u64,
    pub(crate) max: u64,
    /// Why it failed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// Resident memory of the server, in KiB.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) before: u64,
    /// How much the store has grown until after the attack: its caches keep so much, up to their bounds, and rightly so.
    #[serde(default)]
    pub(crate) stored: u64,
    /// The most during the attack.
    pub(crate) during: u64,
    /// After ten seconds, or once it was back.
    pub(crate) after: u64,
    /// When it was back, in seconds after the end of the attack.
    pub(crate) back: Option<f64>,
}

/// Something that must not be more than a limit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) limit: f64,
    pub(crate) unit: String,
    /// Whether the run fails with it; otherwise it is for information.
    pub(crate) binding: bool,
}

impl Check {
    pub(crate) fn held(&self) -> bool {
        self.value <= self.limit
    }
}

impl AttackOutcome {
    /// Whether the server withstood it.
    pub(crate) fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The checks that make it fail.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.binding && !check.held())
    }
}

const COLUMNS: [&str; 10] = [
    "attack",
    "p50 without, with",
    "p99 without, with",
    "p99.9 without, with",
    "ratio",
    "hello, max",
    "login, max",
    "health",
    "MiB before, during, after",
    "verdict",
];

const fn verdict(passed: bool) -> &'static str {
    if passed { "withstood" } else { "FAILED" }
}

/// A row of the table of all attacks.
fn row(attack: &AttackOutcome) -> [String; COLUMNS.len()] {
    let (without, with, memory) = (&attack.without, &attack.with, &attack.memory);
    let [before, during, after] = [memory.before, memory.during, memory.after].map(|kib| kib / 1024);
    [
        attack.name.clone(),
        format!("{}, {}", millis(without.p50), millis(with.p50)),
        format!("{}, {}", millis(without.p99), millis(with.p99)),
        format!("{}, {}", millis(without.p999), millis(with.p999)),
        if without.p99 > 0 { format!("{:.1}", ratio(with.p99, without.p99)) } else { "-".to_owned() },
        probe(&with.hello),
        probe(&with.login),
        format!("{}/{}", with.health.tried - with.health.failed, with.health.tried),
        format!("{before}, {during}, {after}"),
        verdict(attack.passed()).to_owned(),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn ratio(with: u64, without: u64) -> f64 {
    with as f64 / without.max(1) as f64
}

/// The longest time, and how often it failed.
fn probe(probe: &Probe) -> String {
    let failed = if probe.failed > 0 { format!(", {}/{} failed", probe.failed, probe.tried) } else { String::new() };
    format!("{}{failed}", millis(probe.max))
}

fn check(check: &Check) -> String {
    let value = format!("{}: {} {}", check.name, short(check.value), check.unit);
    let limit = format!("(at most {})", short(check.limit));
    let verdict = match (check.held(), check.binding) {
        (true, _) => "",
        (false, true) => " FAILED",
        (false, false) => " over, not binding",
    };
    format!("{} {limit}{verdict}", value.trim_end())
}

fn achieved(attack: &AttackOutcome) -> String {
    let parts = attack.achieved.iter().map(|(what, count)| format!("{what} {count}"));
    parts.collect::<Vec<_>>().join(", ")
}

/// One attack in a line, as soon as it is over.
pub(crate) fn line(attack: &AttackOutcome) -> String {
    let failures: Vec<String> = attack.failures().map(check).collect();
    let p99 = format!("p99 {} -> {} ms", millis(attack.without.p99), millis(attack.with.p99));
    let [before, during, after] =
        [attack.memory.before, attack.memory.during, attack.memory.after].map(|kib| kib / 1024);
    let verdict = verdict(failures.is_empty());
    format!("{}: {verdict}; {p99}, {before} -> {during} -> {after} MiB; {}", attack.name, failures.join("; "))
}

/// Prints all of them.
pub(super) fn print(attacks: &[AttackOutcome]) {
    let mut rows = table(&COLUMNS);
    for attack in attacks {
        rows.add_row(row(attack));
    }
    println!("latencies in ms\n{rows}");
    for attack in attacks {
        println!("{}: {}", attack.name, attack.what);
        println!("    achieved: {}", achieved(attack));
        // All of them are in the JSON file and on the page; here are those that say something.
        for line in attack.checks.iter().filter(|check| !check.held() || check.value > 0.0).map(check) {
            println!("    {line}");
        }
        for (what, probe) in
            [("hello", &attack.with.hello), ("login", &attack.with.login), ("health", &attack.with.health)]
        {
            if let Some(why) = &probe.why {
                println!("    {what} failed {} of {}: {why}", probe.failed, probe.tried);
            }
        }
    }
    let withstood = attacks.iter().filter(|attack| attack.passed()).count();
    println!("{withstood} of {} attacks withstood", attacks.len());
}

/// The same for the page.
pub(super) fn write(page: &mut String, outcome: &Outcome) {
    // Writing to a string does not fail, here and below.
    let _ = write!(page, "<h2>Attacks: {}</h2><div class=\"card\"><table><tr>", escape(&outcome.label));
    for column in COLUMNS {
        let _ = write!(page, "<th>{column}");
    }
    page.push_str("</tr>");
    for attack in &outcome.attacks {
        let cells = row(attack).map(|cell| escape(&cell)).join("<td>");
        let class = if attack.passed() { "good" } else { "bad" };
        let _ = write!(page, "<tr class=\"{class}\"><td>{cells}</tr>");
    }
    page.push_str("</table></div><div class=\"card\"><table><tr><th>attack<th>what the attacker did<th>checks</tr>");
    for attack in &outcome.attacks {
        let checks: Vec<String> = attack.checks.iter().map(|one| escape(&check(one))).collect();
        let _ = write!(
            page,
            "<tr><td><b>{}</b>: {}<td>{}<td>{}</tr>",
            escape(&attack.name),
            escape(&attack.what),
            escape(&achieved(attack)),
            checks.join("<br>")
        );
    }
    page.push_str("</table></div>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attack(value: f64, binding: bool) -> AttackOutcome {
        let check = Check { name: "memory".to_owned(), value, limit: 2.0, unit: "MiB".to_owned(), binding };
        AttackOutcome { name: "<pings>".to_owned(), checks: vec![check], ..AttackOutcome::default() }
    }

    #[test]
    fn only_a_binding_check_over_its_limit_fails_an_attack() {
        assert!(attack(2.0, true).passed() && attack(2.1, false).passed());
        assert!(!attack(2.1, true).passed());
        assert!(line(&attack(2.1, true)).contains("FAILED; p99"));
        assert!(line(&attack(2.1, false)).contains("withstood"));
    }

    #[test]
    fn what_could_not_be_measured_does_not_pass() {
        assert!(!attack(f64::NAN, true).passed());
    }

    #[test]
    fn the_page_has_every_attack_and_means_nothing_to_a_browser() {
        let mut page = String::new();
        let outcome = Outcome {
            scenario: "hostile".to_owned(),
            label: "server".to_owned(),
            case: None,
            command: String::new(),
            at: String::new(),
            seed: 0,
            client_ids: None,
            machine: crate::report::Machine::default(),
            stages: Vec::new(),
            figures: Vec::new(),
            samples: Vec::new(),
            violations: 0,
            broken: Vec::new(),
            attacks: vec![attack(3.0, true)],
        };
        write(&mut page, &outcome);
        assert!(page.contains("&lt;pings&gt;") && !page.contains("<pings>") && page.contains("FAILED"));
        assert!(!outcome.passed());
    }
}
