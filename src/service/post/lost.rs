//! Domains at whose addresses the mail server was lost a moment ago.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// How long one is remembered.
const MEMORY: Duration = Duration::from_secs(300);
/// How many are; of further ones nothing is known.
const DOMAINS_MAX: usize = 1_000;

/// Domains at whose addresses the mail server was lost a moment ago: further mails to them are set aside without being tried, or each of
/// them costs as long as the first did.
#[derive(Debug, Default)]
pub(super) struct LostDomains(HashMap<String, Instant>);

impl LostDomains {
    /// The server was lost at a mail to an address.
    pub(super) fn add(&mut self, address: &str) {
        let now = Instant::now();
        if self.0.len() >= DOMAINS_MAX {
            self.0.retain(|_, until| *until > now);
        }
        if self.0.len() < DOMAINS_MAX {
            self.0.insert(domain_of(address), now + MEMORY);
        }
    }

    /// It has answered at one.
    pub(super) fn remove(&mut self, address: &str) {
        if !self.0.is_empty() {
            self.0.remove(&domain_of(address));
        }
    }

    /// Whether an address is of one.
    pub(super) fn has(&self, address: &str) -> bool {
        !self.0.is_empty() && self.0.get(&domain_of(address)).is_some_and(|until| *until > Instant::now())
    }
}

fn domain_of(address: &str) -> String {
    address.rsplit_once('@').map_or(address, |(_, domain)| domain).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_domain_is_remembered_for_a_while_and_until_the_server_answers() {
        let mut lost = LostDomains::default();
        assert!(!lost.has("ana@example.com"));
        lost.add("ana@Example.com");
        assert!(lost.has("ben@example.COM") && !lost.has("ben@example.org"));
        lost.remove("eva@example.com");
        assert!(!lost.has("ben@example.com"));
        lost.add("ana@example.com");
        tokio::time::advance(MEMORY).await;
        assert!(!lost.has("ana@example.com"));
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_so_many_and_those_of_before_give_way() {
        let mut lost = LostDomains::default();
        (0..DOMAINS_MAX).for_each(|number| lost.add(&format!("a@{number}.example.com")));
        lost.add("a@example.org");
        assert!(!lost.has("a@example.org") && lost.has("b@0.example.com"));
        tokio::time::advance(MEMORY).await;
        lost.add("a@example.org");
        assert_eq!((lost.has("a@example.org"), lost.0.len()), (true, 1));
    }
}
