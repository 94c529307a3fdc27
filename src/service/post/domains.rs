//! Domains at whose addresses mails have failed: each gets a share of the time of a lane, and no more.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// How many are remembered; of further ones nothing is known.
const DOMAINS_MAX: usize = 1_000;
/// After what an attempt has cost a domain rests for so many times that.
const RESTS: u32 = 2;
/// The longest rest after an answer.
const ANSWERED_MAX: Duration = Duration::from_secs(60);
/// The longest rest where there was none.
const LOST_MAX: Duration = Duration::from_secs(300);
/// How long after its rest it is remembered how often it has failed.
const MEMORY: Duration = Duration::from_secs(600);
/// With so many of them at which the mail server was lost the answer at a further one is waited for shortly: somebody may be making them up.
const MANY: usize = 4;

/// How a mail has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// It was refused, for good or for now. It may be about the one address.
    Answered,
    /// It was refused by a rule that may be about all mails: those that follow wait longer each time.
    Denied,
    /// The mail server was lost: so may it be at all others, for longer each time.
    Lost,
}

/// A domain rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    /// For how long yet.
    pub(super) left: Duration,
    /// Whether the mail server was lost there.
    pub(super) is_lost: bool,
}

/// A domain that has failed.
#[derive(Debug)]
struct Domain {
    until: Instant,
    /// How often in a row, of what lasts longer each time.
    failures: u32,
    is_lost: bool,
}

/// Domains that have failed in a lane.
#[derive(Debug, Default)]
pub(super) struct Domains(HashMap<String, Domain>);

impl Domains {
    /// A mail to an address has failed, which has cost so much time.
    pub(super) fn failed(&mut self, address: &str, how: Failed, cost: Duration) {
        let (now, name) = (Instant::now(), domain_of(address));
        if self.0.len() >= DOMAINS_MAX {
            self.0.retain(|_, domain| domain.until > now);
        }
        let known = self.0.get(&name).filter(|domain| domain.until + MEMORY > now);
        if known.is_none() && self.0.len() >= DOMAINS_MAX {
            return;
        }
        let failures = known.map_or(0, |domain| domain.failures).saturating_add(u32::from(how != Failed::Answered));
        let doubled = if how == Failed::Answered { 0 } else { (failures - 1).min(16) };
        let longest = if how == Failed::Lost { LOST_MAX } else { ANSWERED_MAX };
        let rest = cost.saturating_mul(RESTS).saturating_mul(1 << doubled).min(longest);
        self.0.insert(name, Domain { until: now + rest, failures, is_lost: how == Failed::Lost });
    }

    /// A mail to an address was taken.
    pub(super) fn took(&mut self, address: &str) {
        if !self.0.is_empty() {
            self.0.remove(&domain_of(address));
        }
    }

    /// Whether the domain of an address rests.
    pub(super) fn rest_of(&self, address: &str) -> Option<Rest> {
        let domain = if self.0.is_empty() { None } else { self.0.get(&domain_of(address)) }?;
        let left = domain.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(Rest { left, is_lost: domain.is_lost })
    }

    /// Whether there are many at which the mail server was lost a moment ago.
    pub(super) fn are_many_lost(&self) -> bool {
        let now = Instant::now();
        self.0.len() >= MANY && self.0.values().filter(|domain| domain.is_lost && domain.until > now).count() >= MANY
    }
}

fn domain_of(address: &str) -> String {
    address.rsplit_once('@').map_or(address, |(_, domain)| domain).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn left(domains: &Domains, address: &str) -> Option<u64> {
        domains.rest_of(address).map(|rest| rest.left.as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_domain_rests_for_a_multiple_of_what_it_has_cost_and_until_it_takes_one() {
        let mut domains = Domains::default();
        assert_eq!(domains.rest_of("ana@example.com"), None);
        domains.failed("ana@Example.com", Failed::Answered, 3 * SECOND);
        domains.failed("eva@example.org", Failed::Lost, 8 * SECOND);
        assert_eq!(domains.rest_of("ben@example.COM"), Some(Rest { left: 6 * SECOND, is_lost: false }));
        assert_eq!(domains.rest_of("ben@example.ORG"), Some(Rest { left: 16 * SECOND, is_lost: true }));
        tokio::time::advance(6 * SECOND).await;
        assert_eq!((left(&domains, "ana@example.com"), left(&domains, "eva@example.org")), (None, Some(10)));
        domains.took("max@example.org");
        assert_eq!(domains.rest_of("eva@example.org"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_server_is_lost_again_it_rests_for_longer_and_a_full_mailbox_is_nobody_elses() {
        let mut domains = Domains::default();
        let mut rests = |how, cost| {
            let mut rests = Vec::new();
            for _ in 0..8 {
                domains.failed("ana@example.com", how, cost);
                rests.push(left(&domains, "ana@example.com").unwrap());
            }
            domains.took("ana@example.com");
            rests
        };
        assert_eq!(rests(Failed::Lost, 8 * SECOND), [16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(rests(Failed::Denied, SECOND), [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(rests(Failed::Answered, SECOND), [2; 8]);
        assert_eq!(rests(Failed::Answered, 60 * SECOND), [60; 8]);
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_and_those_of_before_give_way() {
        let mut domains = Domains::default();
        let mut add = |address: &str| domains.failed(address, Failed::Lost, 60 * SECOND);
        (0..DOMAINS_MAX).for_each(|number| add(&format!("a@{number}.example.com")));
        add("a@example.org");
        add("b@0.example.com");
        assert_eq!((left(&domains, "a@example.org"), left(&domains, "a@0.example.com")), (None, Some(240)));
        tokio::time::advance(121 * SECOND).await;
        domains.failed("a@example.org", Failed::Lost, SECOND);
        assert_eq!((left(&domains, "a@example.org"), domains.0.len()), (Some(2), 2));
    }

    /// Found by faults: addresses at domains that hang, each asked for from another network, cost 8 s each before a registration.
    #[tokio::test(start_paused = true)]
    async fn it_is_known_whether_many_are_lost() {
        let mut domains = Domains::default();
        for number in 0..MANY {
            assert!(!domains.are_many_lost());
            domains.failed("a@example.com", Failed::Answered, 8 * SECOND);
            domains.failed(&format!("a@{number}.example.com"), Failed::Lost, 8 * SECOND);
        }
        assert!(domains.are_many_lost());
        tokio::time::advance(16 * SECOND).await;
        assert!(!domains.are_many_lost());
    }
}
