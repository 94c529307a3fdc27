//! What is good enough.

use clap::Args;

use super::watch::Back;
use crate::report::attacks::{AttackOutcome, Check, Others, Probe, ratio};

/// What is good enough.
#[derive(Args, Clone)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// p99 of the delivery of messages during an attack, as a multiple of that without.
    #[arg(long, default_value_t = 2.0)]
    pub(super) p99_ratio: f64,
    /// A p99 that is good enough whatever it was before, in milliseconds: noise is not an attack.
    #[arg(long, default_value_t = 10.0)]
    pub(super) p99_floor: f64,
    /// Resident memory of the server during an attack, in MiB: what MEMORY_MAX allows it.
    #[arg(long, default_value_t = 1024.0)]
    pub(super) memory_max: f64,
    /// How much more memory than before is in use 10 seconds after an attack, in percent.
    #[arg(long, default_value_t = 10.0)]
    pub(super) memory_back: f64,
    /// As much more than before is good enough whatever the percentage, in MiB: caches that have filled are not a leak.
    #[arg(long, default_value_t = 16.0)]
    pub(super) memory_floor: f64,
    /// How long a member may take to connect, say hello and sync during an attack, in seconds.
    #[arg(long, default_value_t = 5.0)]
    pub(super) hello_limit: f64,
    /// How long a member may take to log in during an attack, in seconds.
    #[arg(long, default_value_t = 5.0)]
    pub(super) login_limit: f64,
    /// Series of the metrics that invented methods and paths may add.
    #[arg(long, default_value_t = 64.0)]
    pub(super) series_max: f64,
    /// How often an attack is made when the p99 alone is over its limit, and by less than double: other load on the machine
    /// looks the same.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=5))]
    pub(super) attempts: u32,
}

/// The name of the check that other load on the machine can fail.
const P99: &str = "p99 of delivery";

impl Limits {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "MiB")]
    pub(super) fn back(&self) -> Back {
        Back { share: self.memory_back / 100.0, floor_kib: (self.memory_floor * 1024.0).max(0.0) as u64 }
    }

    /// Judges what holds for every attack. `quick`: what depends on timing is not binding.
    pub(super) fn judge(&self, attack: &AttackOutcome, quick: bool) -> Vec<Check> {
        let AttackOutcome { without, with, memory, achieved, .. } = attack;
        let new = |name: &str, value: f64, limit: f64, unit: &str, binding: bool| Check {
            name: name.to_owned(),
            value,
            limit,
            unit: unit.to_owned(),
            binding,
        };
        let mut checks = vec![
            self.p99(without, with, quick),
            new("memory during it", mebibytes(memory.during), self.memory_max, "MiB", true),
            new(
                "memory after it",
                mebibytes(memory.after),
                mebibytes(self.back().limit(memory.before + memory.stored)),
                "MiB",
                !quick,
            ),
        ];
        for (what, probe, limit) in [
            ("connecting", &with.hello, self.hello_limit),
            ("login", &with.login, self.login_limit),
            ("health", &with.health, self.hello_limit),
        ] {
            checks.push(new(&format!("{what} failed"), count(probe.failed), 0.0, "times", true));
            checks.push(new(&format!("{what} at most"), seconds(probe), limit, "s", !quick));
        }
        checks.push(new("connections of others lost", count(with.lost), 0.0, "", true));
        let idle = if achieved.values().sum::<u64>() > 0 { 0.0 } else { 1.0 };
        checks.push(new("the attacker did nothing", idle, 0.0, "", true));
        checks
    }

    /// The limit is a multiple of what it was without, and no less than the floor.
    fn p99(&self, without: &Others, with: &Others, quick: bool) -> Check {
        let (value, before) = (count(with.p99) / 1e3, count(without.p99) / 1e3);
        let limit = (before * self.p99_ratio).max(self.p99_floor);
        let name = format!("{P99}, {:.1} times that without", ratio(with.p99, without.p99));
        Check { name, value, limit, unit: "ms".to_owned(), binding: !quick }
    }

    /// Whether an attack may be made again: only the p99 is over its limit, and not by much.
    pub(super) fn may_be_noise(&self, attack: &AttackOutcome) -> bool {
        let mut failures = attack.failures().peekable();
        attack.attempts < self.attempts
            && failures.peek().is_some()
            && failures.all(|check| check.name.starts_with(P99) && check.value < check.limit * 2.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn count(value: u64) -> f64 {
    value as f64
}

fn mebibytes(kib: u64) -> f64 {
    count(kib) / 1024.0
}

fn seconds(probe: &Probe) -> f64 {
    count(probe.max) / 1e6
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::report::attacks::Memory;

    #[derive(Parser)]
    struct Defaults {
        #[command(flatten)]
        limits: Limits,
    }

    fn limits() -> Limits {
        Defaults::parse_from(["load"]).limits
    }

    /// An attack that hurts nobody.
    fn harmless() -> AttackOutcome {
        AttackOutcome {
            attempts: 1,
            without: Others { p99: 8_000, ..Others::default() },
            with: Others { p99: 16_000, ..Others::default() },
            memory: Memory { before: 90 * 1024, stored: 10 * 1024, during: 1024 * 1024, after: 116 * 1024, back: None },
            achieved: [("requests".to_owned(), 1)].into(),
            ..AttackOutcome::default()
        }
    }

    fn failed(attack: AttackOutcome, quick: bool) -> Vec<String> {
        let checks = limits().judge(&attack, quick);
        AttackOutcome { checks, ..attack }.failures().map(|check| check.name.clone()).collect()
    }

    #[test]
    fn what_is_within_all_limits_passes() {
        assert!(failed(harmless(), false).is_empty());
        // A p99 of little more than nothing is noise, whatever its ratio.
        let (without, with) = (Others { p99: 400, ..Others::default() }, Others { p99: 9_900, ..Others::default() });
        assert!(failed(AttackOutcome { without, with, ..harmless() }, false).is_empty());
    }

    #[test]
    fn everything_that_is_over_its_limit_is_named() {
        let probe = Probe { tried: 3, failed: 1, max: 6_000_000, ..Probe::default() };
        let attack = AttackOutcome {
            with: Others {
                p99: 16_100,
                lost: 1,
                hello: probe.clone(),
                login: probe.clone(),
                health: probe,
                ..Others::default()
            },
            memory: Memory { before: 100 * 1024, stored: 0, during: 1025 * 1024, after: 117 * 1024, back: None },
            achieved: std::collections::BTreeMap::new(),
            ..harmless()
        };
        assert_eq!(failed(attack.clone(), false).len(), 11);
        // In a hurry, only what does not depend on timing counts.
        let names = [
            "memory during it",
            "connecting failed",
            "login failed",
            "health failed",
            "connections of others lost",
            "the attacker did nothing",
        ];
        assert_eq!(failed(attack, true), names);
    }

    #[test]
    fn only_a_p99_that_is_nearly_good_enough_may_be_noise() {
        let limits = limits();
        let judged = |p99, attempts, memory: u64| {
            let with = Others { p99, ..Others::default() };
            let memory = Memory { during: memory * 1024, ..harmless().memory };
            let attack = AttackOutcome { with, attempts, memory, ..harmless() };
            AttackOutcome { checks: limits.judge(&attack, false), ..attack }
        };
        assert!(limits.may_be_noise(&judged(20_000, 1, 100)));
        assert!(!limits.may_be_noise(&judged(20_000, 2, 100)), "it was made again");
        assert!(!limits.may_be_noise(&judged(40_000, 1, 100)), "far too slow");
        assert!(!limits.may_be_noise(&judged(20_000, 1, 5_000)), "and too large");
        assert!(!limits.may_be_noise(&judged(9_000, 1, 100)), "it passed");
    }
}
