//! Domains at whose addresses mails have failed, or were taken: each gets a share of the time of a lane, and no more.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

/// How many are remembered of each kind; of further ones nothing is known.
const DOMAINS_MAX: usize = 1_000;
/// What costs less keeps nobody back: each mail has a pause of its own.
const SLOW: Duration = Duration::from_secs(2);
/// After what a slow attempt has cost a domain rests for so many times that.
const RESTS: u32 = 2;
/// The longest rest after an answer.
const ANSWERED_MAX: Duration = Duration::from_secs(60);
/// The longest rest where there was none.
const LOST_MAX: Duration = Duration::from_secs(120);
/// For how long it is remembered that a domain was slow.
const MEMORY: Duration = Duration::from_secs(300);
/// With so many that were slow lately, those that are not known to take mails are not waited for: somebody may be making them up.
const MANY: usize = 4;

/// A domain that was slow.
#[derive(Debug)]
struct Slow {
    at: Instant,
    rests_until: Instant,
    /// Whether it has taken the mail all the same: it rests where others wait, and not beside them.
    took: bool,
    /// How often in a row there was no answer.
    lost: u32,
    /// The one address that was slow, until another one of the domain is: it may be about that one alone.
    only: Option<String>,
}

/// Domains, as they are known in the lanes of one part.
#[derive(Debug, Default)]
pub(super) struct Domains {
    slow: HashMap<String, Slow>,
    /// Those that have taken a mail, and were not slow to refuse since.
    good: HashSet<String>,
}

impl Domains {
    /// A mail to an address has failed, which has cost so much time; `is_lost`: there was no answer.
    pub(super) fn failed(&mut self, address: &str, is_lost: bool, cost: Duration) {
        if cost < SLOW {
            return;
        }
        let name = domain_of(address);
        if self.was_slow(&name, address, (is_lost, false), cost) {
            self.good.remove(&name);
        }
    }

    /// A mail to an address was taken, which has cost so much time.
    pub(super) fn took(&mut self, address: &str, cost: Duration) {
        let name = domain_of(address);
        if cost < SLOW {
            self.slow.remove(&name);
        } else {
            self.was_slow(&name, address, (false, true), cost);
        }
        if self.good.len() >= DOMAINS_MAX {
            // Those that matter are soon there again.
            self.good.clear();
        }
        self.good.insert(name);
    }

    /// Returns whether it was about more than one address.
    fn was_slow(&mut self, name: &str, address: &str, (is_lost, took): (bool, bool), cost: Duration) -> bool {
        let at = Instant::now();
        if self.slow.len() >= DOMAINS_MAX {
            self.slow.retain(|_, slow| slow.at + MEMORY > at);
        }
        let known = self.slow.get(name).filter(|slow| slow.at + MEMORY > at);
        let lost = if is_lost { known.map_or(0, |slow| slow.lost) + 1 } else { 0 };
        let is_about_it = known.is_none_or(|slow| slow.only.as_deref() == Some(address));
        let only = is_about_it.then(|| address.to_owned());
        let longest = if is_lost { LOST_MAX } else { ANSWERED_MAX };
        let doubled = lost.saturating_sub(1).min(16);
        let rest = cost.saturating_mul(RESTS).saturating_mul(1 << doubled).min(longest);
        if known.is_some() || self.slow.len() < DOMAINS_MAX {
            self.slow.insert(name.to_owned(), Slow { at, rests_until: at + rest, took, lost, only });
        }
        !is_about_it
    }

    /// For how long nothing is sent to the domain of an address yet, where others wait.
    pub(super) fn rest_of(&self, address: &str) -> Option<Duration> {
        self.slow_at(address).map(|(left, _)| left)
    }

    /// The same beside the others: not of one that takes its time and takes mails.
    pub(super) fn rest_after_failure(&self, address: &str) -> Option<Duration> {
        self.slow_at(address).filter(|(_, took)| !took).map(|(left, _)| left)
    }

    fn slow_at(&self, address: &str) -> Option<(Duration, bool)> {
        let slow = if self.slow.is_empty() { None } else { self.slow.get(&domain_of(address)) }?;
        if slow.only.as_deref().is_some_and(|only| only != address) {
            return None;
        }
        let left = slow.rests_until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some((left, slow.took))
    }

    /// Whether others are not to wait for a mail to an address: its domain rests, or many were slow and it is not known to take mails.
    pub(super) fn is_doubtful(&self, address: &str) -> bool {
        self.rest_of(address).is_some() || (self.are_many_slow() && !self.good.contains(&domain_of(address)))
    }

    /// Whether many domains were slow lately, and took nothing.
    pub(super) fn are_many_slow(&self) -> bool {
        let now = Instant::now();
        let is_slow = |slow: &&Slow| slow.at + MEMORY > now && !slow.took;
        self.slow.len() >= MANY && self.slow.values().filter(is_slow).count() >= MANY
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
        domains.rest_of(address).map(|left| left.as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_domain_rests_for_a_multiple_of_what_it_has_cost_and_until_it_takes_one() {
        let mut domains = Domains::default();
        assert_eq!(domains.rest_of("ana@example.com"), None);
        domains.failed("ana@Example.com", false, 3 * SECOND);
        assert_eq!(
            (left(&domains, "ana@Example.com"), left(&domains, "ben@example.com")),
            (Some(6), None),
            "of one alone"
        );
        domains.failed("ben@example.com", false, 3 * SECOND);
        domains.failed("eva@example.org", true, 8 * SECOND);
        domains.failed("max@example.net", false, SECOND);
        assert_eq!((left(&domains, "ben@example.COM"), left(&domains, "eva@example.org")), (Some(6), Some(16)));
        assert_eq!(left(&domains, "ben@example.org"), None, "that it was lost may be about one alone, too");
        assert_eq!(left(&domains, "max@example.net"), None, "it keeps nobody back");
        tokio::time::advance(6 * SECOND).await;
        assert_eq!((left(&domains, "ana@example.com"), left(&domains, "eva@example.org")), (None, Some(10)));
        domains.failed("ben@example.org", true, 8 * SECOND);
        assert_eq!(left(&domains, "max@example.org"), Some(32), "of two of them");
        domains.took("max@example.org", Duration::ZERO);
        assert_eq!(left(&domains, "eva@example.org"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_no_answer_again_it_rests_for_longer() {
        let mut domains = Domains::default();
        let mut rests = |is_lost, cost| {
            let mut rests = Vec::new();
            for _ in 0..6 {
                domains.failed("ana@example.com", is_lost, cost);
                rests.push(left(&domains, "ana@example.com").unwrap());
            }
            domains.took("ana@example.com", Duration::ZERO);
            rests
        };
        assert_eq!(rests(true, 8 * SECOND), [16, 32, 64, 120, 120, 120]);
        assert_eq!(rests(false, 4 * SECOND), [8; 6]);
        assert_eq!(rests(false, 60 * SECOND), [60; 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_and_those_of_before_give_way() {
        let mut domains = Domains::default();
        let mut add = |address: &str| domains.failed(address, true, 60 * SECOND);
        (0..DOMAINS_MAX).for_each(|number| add(&format!("a@{number}.example.com")));
        add("a@example.org");
        add("b@0.example.com");
        assert_eq!((left(&domains, "a@example.org"), left(&domains, "a@0.example.com")), (None, Some(120)));
        tokio::time::advance(MEMORY).await;
        domains.failed("a@example.org", true, 2 * SECOND);
        assert_eq!((left(&domains, "a@example.org"), domains.slow.len()), (Some(4), 1));
        (0..2 * DOMAINS_MAX).for_each(|number| domains.took(&format!("a@{number}.example.com"), Duration::ZERO));
        assert!(domains.good.len() <= DOMAINS_MAX);
    }

    /// Found by faults and by an attacker: addresses at domains that hang or refuse slowly, a new one each time, cost some seconds each before
    /// whoever else waited.
    #[tokio::test(start_paused = true)]
    async fn where_many_are_slow_nobody_waits_for_one_that_is_not_known() {
        let mut domains = Domains::default();
        domains.took("ana@example.com", Duration::ZERO);
        for number in 0..MANY {
            assert!(!domains.is_doubtful("eva@new.example.com"), "{number}");
            domains.failed(&format!("a@{number}.example.com"), number % 2 == 0, 8 * SECOND);
            tokio::time::advance(30 * SECOND).await;
        }
        assert!(domains.is_doubtful("eva@new.example.com") && !domains.is_doubtful("eva@example.com"));
        domains.failed("eva@example.com", false, 3 * SECOND);
        tokio::time::advance(10 * SECOND).await;
        assert!(!domains.is_doubtful("max@example.com"), "it was about one address");
        domains.failed("ben@example.com", false, 3 * SECOND);
        tokio::time::advance(10 * SECOND).await;
        assert!(domains.is_doubtful("max@example.com"), "it was slow since");
        tokio::time::advance(MEMORY).await;
        assert!(!domains.is_doubtful("eva@new.example.com"));
    }

    /// Found by faults and by an attacker: whose domain takes every mail after some seconds has kept all others back by logging in.
    #[tokio::test(start_paused = true)]
    async fn what_is_taken_slowly_rests_where_others_wait_and_not_beside_them() {
        let mut domains = Domains::default();
        domains.took("ana@example.com", 7 * SECOND);
        assert_eq!((left(&domains, "ana@example.com"), left(&domains, "ben@example.com")), (Some(14), None));
        domains.took("ben@example.com", 50 * SECOND);
        assert_eq!(left(&domains, "max@example.com"), Some(60));
        assert!(domains.is_doubtful("max@example.com") && domains.rest_after_failure("max@example.com").is_none());
        (0..MANY).for_each(|number| domains.took(&format!("a@{number}.example.org"), 3 * SECOND));
        assert!(!domains.are_many_slow(), "they take mails");
        tokio::time::advance(60 * SECOND).await;
        assert!(!domains.is_doubtful("max@example.com"));
    }
}
