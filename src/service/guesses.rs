//! Guessing passwords, and codes of second factors: how many tries at one account get as far as a check, whatever addresses they come from.
//!
//! The first tries are free, and each further one has to wait longer than the one before. Who was there before has an allowance of
//! their own: a device on which the member has logged in, and an address from which they have. So a stranger can use up what strangers
//! have at an account, and keeps nobody out who has been in. A try is charged before it is made, so that many at once are no more, and
//! other nodes are told of it at once. The right password gives its allowance back, at every node; that of a member with a second factor
//! does so only together with a code, for which there are allowances of the same kinds: whoever knows the password can try no more codes
//! than passwords.
//!
//! Nodes do not ask each other. Until the others have heard of a try, each of them may let one pass as well: so each has its part of the
//! free ones, and the longest wait is longer the more nodes there are. Up to 6 nodes let at most 20 pass in the first hour, however they
//! are asked.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use protocol::ErrorCode;
use quick_cache::unsync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::limiter::Parts;
use crate::{
    auth::device::DeviceNumber,
    failure::Failure,
    store::{mail::LinkHash, members::email_key},
    telemetry::Metrics,
};

/// Allowances that are remembered, about 60 bytes each; the oldest unused ones are forgotten.
const REMEMBERED: usize = 100_000;
/// Tries that need not wait.
const FREE: u32 = 10;
/// How long the one after them waits; twice as long each time.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// How long a node waits that has given its part of the free ones, until it gives another one: the others have heard of those by then.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// The longest wait, where there is one node; so much longer the more there are. With the above, 17 tries in the first hour and 4 in each
/// further one.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// Without a try for so long, all is as in the beginning.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// Whose tries are counted together: a hash, the same on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Allowance(pub u64);

impl Allowance {
    /// Of strangers, at the account with an address; whether there is one does not matter.
    #[must_use]
    pub fn of_strangers(email: &str) -> Self {
        Self::hash(&[b"account", email_key(email).as_bytes()])
    }

    /// Of an address from which the member has logged in.
    #[must_use]
    pub fn of_address(email: &str, address: IpAddr) -> Self {
        Self::hash(&[b"address", email_key(email).as_bytes(), address.to_string().as_bytes()])
    }

    /// Of a device on which the member has logged in.
    #[must_use]
    pub fn of_device(device: DeviceNumber) -> Self {
        Self::hash(&[b"device", &device])
    }

    /// The allowance of codes beside this one of passwords: of the same strangers, address or device.
    #[must_use]
    pub fn of_codes(self) -> Self {
        Self::hash(&[b"codes", &self.0.to_be_bytes()])
    }

    /// Of who has a link from a mail.
    #[must_use]
    pub fn of_link(link: &LinkHash) -> Self {
        Self::hash(&[b"link", link])
    }

    fn hash(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
            hash.update([0]);
        }
        let hash: [u8; 32] = hash.finalize().into();
        Self(hash.first_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk)))
    }
}

/// What was tried.
#[derive(Debug, Clone, Copy)]
struct Tries {
    count: u32,
    /// How many of them were made here.
    own: u32,
    last: Instant,
    /// When the one before the last one was, for when that is given back elsewhere.
    before: Option<Instant>,
}

impl Tries {
    /// When the next one may be made, of so many nodes that let some pass.
    fn next(self, nodes: u32) -> Instant {
        self.last + wait_after(self.count, self.own, nodes)
    }
}

/// A try that was charged, and how it was before: what could not be made, or was right, leaves no trace.
#[derive(Debug, Clone, Copy)]
pub struct Charged {
    allowance: Allowance,
    cost: u32,
    at: Instant,
    /// When the try before it was.
    before: Option<Instant>,
}

/// How long to wait after so many, of which so many were made here.
fn wait_after(count: u32, own: u32, nodes: u32) -> Duration {
    match count.checked_sub(FREE) {
        None if own < (FREE / nodes).max(1) => Duration::ZERO,
        None => HEARD_WITHIN,
        Some(beyond) => FIRST_WAIT.saturating_mul(1 << beyond.min(16)).min(LONGEST_WAIT.saturating_mul(nodes)),
    }
}

/// What other nodes are told of an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A try was charged.
    Taken,
    /// One was charged that does not count after all.
    GivenBack,
    /// It is given back whole.
    Forgiven,
}

/// Tells other nodes.
pub type Tell = dyn Fn(Allowance, News) + Send + Sync;

/// Tries at accounts.
pub struct Guesses {
    tries: Mutex<Cache<Allowance, Tries>>,
    /// How many nodes there are that do not hear of each other's tries.
    parts: Parts,
    /// How many nodes there are.
    nodes: AtomicU32,
    tell: Box<Tell>,
    metrics: Arc<Metrics>,
}

impl Guesses {
    /// The name of the limit in the metrics.
    pub const NAME: &str = "guesses";

    /// None so far.
    #[must_use]
    pub fn new(parts: Parts, tell: Box<Tell>, metrics: Arc<Metrics>) -> Self {
        Self { tries: Mutex::new(Cache::new(REMEMBERED)), parts, nodes: AtomicU32::new(1), tell, metrics }
    }

    /// So many nodes there are, this one included.
    pub fn divide(&self, nodes: u32) {
        self.nodes.store(nodes.max(1), Ordering::Relaxed);
    }

    /// Charges a try, at every node. It stays charged, unless it is said that it was right or could not be made: [`Self::give_back`] or
    /// [`Self::forgive`].
    ///
    /// # Errors
    /// `rate_limited`, with the time to wait.
    pub fn take(&self, allowance: Allowance) -> Result<Charged, Failure> {
        let charged = self.charge(allowance, self.parts.cost(1), Instant::now()).map_err(|wait| {
            self.metrics.rate_limit_hit(Self::NAME);
            let message = "Too many wrong passwords or codes for this account. Wait, or log in on a device on which you have logged in before.";
            Failure::new(ErrorCode::RateLimited, message).retry_after(wait)
        })?;
        (self.tell)(allowance, News::Taken);
        Ok(charged)
    }

    /// A try was charged at another node.
    pub fn taken_elsewhere(&self, allowance: Allowance) {
        self.taken_elsewhere_at(allowance, Instant::now());
    }

    fn taken_elsewhere_at(&self, allowance: Allowance, now: Instant) {
        add(&mut self.lock(), allowance, (1, 0), now);
    }

    /// One that was charged at another node does not count. It was the last one; if there was another one since, that has a little less to
    /// wait for.
    pub fn given_back_elsewhere(&self, allowance: Allowance) {
        let mut tries = self.lock();
        let Some(known) = tries.get(&allowance).copied() else { return };
        match known.count.saturating_sub(1) {
            0 => drop(tries.remove(&allowance)),
            count => tries.insert(allowance, Tries { count, last: known.before.unwrap_or(known.last), ..known }),
        }
    }

    /// A try was charged that does not count. It could not be made, because too many passwords wait: who floods the server with others must
    /// not use it up. Or the password was right, and the code is still to come. All is as if it had not been made, the time to wait
    /// included, unless there was another one since.
    pub fn give_back(&self, charged: Charged) {
        self.take_back(charged);
        (self.tell)(charged.allowance, News::GivenBack);
    }

    fn take_back(&self, Charged { allowance, cost, at, before }: Charged) {
        let mut tries = self.lock();
        let Some(known) = tries.get(&allowance).copied() else { return };
        let last = before.filter(|_| known.last == at).unwrap_or(known.last);
        match known.count.saturating_sub(cost) {
            0 => drop(tries.remove(&allowance)),
            count => tries.insert(allowance, Tries { count, own: known.own.saturating_sub(1), last, ..known }),
        }
    }

    /// The password was right. Other nodes forgive it as well: they may know of tries that this one has not heard of.
    pub fn forgive(&self, allowance: Allowance) {
        self.forgiven_elsewhere(allowance);
        (self.tell)(allowance, News::Forgiven);
    }

    /// The password was right at another node.
    pub fn forgiven_elsewhere(&self, allowance: Allowance) {
        self.lock().remove(&allowance);
    }

    /// Counts a try.
    ///
    /// # Errors
    /// How long to wait.
    fn charge(&self, allowance: Allowance, cost: u32, now: Instant) -> Result<Charged, Duration> {
        let nodes = self.nodes.load(Ordering::Relaxed);
        let mut tries = self.lock();
        let known = tries.get(&allowance).copied().filter(|known| known.last + FORGOTTEN_AFTER > now);
        if let Some(wait) =
            known.map(|known| known.next(nodes).saturating_duration_since(now)).filter(|wait| !wait.is_zero())
        {
            return Err(wait);
        }
        Ok(Charged { allowance, cost, at: now, before: add(&mut tries, allowance, (cost, 1), now) })
    }

    fn lock(&self) -> MutexGuard<'_, Cache<Allowance, Tries>> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts tries, so many of which were made here. Returns when the one before them was.
fn add(
    tries: &mut Cache<Allowance, Tries>,
    allowance: Allowance,
    (cost, here): (u32, u32),
    now: Instant,
) -> Option<Instant> {
    let known = tries.get(&allowance).copied().filter(|known| known.last + FORGOTTEN_AFTER > now);
    let (count, own) = known.map_or((0, 0), |known| (known.count, known.own));
    let before = known.map(|known| known.last);
    let (count, own) = (count.saturating_add(cost), own.saturating_add(here));
    tries.insert(allowance, Tries { count, own, last: now, before });
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guesses(parts: u32) -> Guesses {
        let shared = Parts::default();
        shared.set(parts);
        let guesses = Guesses::new(shared, Box::new(|_, _| {}), Arc::new(Metrics::new()));
        guesses.divide(parts);
        guesses
    }

    /// How many tries an attacker has who makes one whenever they may.
    fn tries_within(guesses: &Guesses, allowance: Allowance, start: Instant, time: Duration) -> u32 {
        let (mut now, mut made) = (start, 0);
        while now < start + time {
            match guesses.charge(allowance, guesses.parts.cost(1), now) {
                Ok(_) => made += 1,
                Err(wait) => now += wait,
            }
        }
        made
    }

    #[test]
    fn so_many_get_through_in_an_hour_and_fewer_in_the_next() {
        let (guesses, ana, start) = (guesses(1), Allowance::of_strangers("ana@example.com"), Instant::now());
        let hour = Duration::from_secs(3_600);
        assert_eq!(tries_within(&guesses, ana, start, hour), 17);
        assert!(tries_within(&guesses, ana, start + hour, hour) <= 4);
        let day = start + FORGOTTEN_AFTER + 2 * hour;
        assert_eq!(tries_within(&guesses, ana, day, Duration::from_secs(1)), FREE, "after a day of silence");
    }

    #[test]
    fn who_was_there_before_has_an_allowance_of_their_own() {
        let (guesses, now) = (guesses(1), Instant::now());
        let strangers = Allowance::of_strangers(" Ana@Example.com");
        assert_eq!(strangers, Allowance::of_strangers("ana@example.com"));
        assert_eq!(tries_within(&guesses, strangers, now, Duration::from_secs(1)), FREE);
        let others = [
            Allowance::of_device([7; 12]),
            Allowance::of_address("ana@example.com", [192, 0, 2, 1].into()),
            Allowance::of_strangers("ben@example.com"),
            strangers.of_codes(),
        ];
        for own in others {
            assert!(guesses.charge(own, 1, now).is_ok());
        }
        guesses.forgive(strangers);
        assert!(guesses.charge(strangers, 1, now).is_ok(), "the right password gives it back");
    }

    #[test]
    fn what_could_not_be_tried_is_given_back() {
        let (guesses, ana) = (guesses(1), Allowance::of_device([7; 12]));
        for _ in 0..100 {
            let charged = guesses.take(ana).unwrap();
            guesses.give_back(charged);
        }
        assert_eq!(tries_within(&guesses, ana, Instant::now(), Duration::from_secs(1)), FREE);
    }

    /// Found by reading: who knew the right password and had no code yet waited anew with each login.
    #[test]
    fn what_is_given_back_leaves_the_time_to_wait_as_it_was() {
        let (guesses, ana, start) = (guesses(1), Allowance::of_device([7; 12]), Instant::now());
        assert_eq!(tries_within(&guesses, ana, start, Duration::from_secs(1)), FREE);
        let later = start + FIRST_WAIT;
        let charged = guesses.charge(ana, 1, later).unwrap();
        assert!(guesses.charge(ana, 1, later).is_err());
        guesses.give_back(charged);
        let charged = guesses.charge(ana, 1, later).unwrap();
        // One that was tried at another node since keeps its time.
        guesses.taken_elsewhere(ana);
        guesses.give_back(charged);
        let known = guesses.lock().get(&ana).copied().unwrap();
        assert_eq!((known.count, known.last < later), (FREE + 1, true));
    }

    #[test]
    fn nodes_that_do_not_hear_each_other_give_their_part_only_and_those_that_do_count_together() {
        let now = Instant::now();
        let ana = Allowance::of_strangers("ana@example.com");
        assert_eq!(tries_within(&guesses(3), ana, now, Duration::from_secs(1)), 3);
        let here = guesses(1);
        (0..FREE).for_each(|_| here.taken_elsewhere(ana));
        assert!(here.take(ana).is_err_and(|failure| failure.retry_after > Some(Duration::from_secs(25))));
        here.forgiven_elsewhere(ana);
        assert!(here.take(ana).is_ok());
    }

    /// Found by a reviewer: three nodes that were asked at once let three times as many pass as one.
    #[test]
    fn nodes_that_are_asked_at_once_let_no_more_than_20_pass_in_an_hour() {
        let (ana, hour) = (Allowance::of_strangers("ana@example.com"), Duration::from_secs(3_600));
        for count in 1..=6 {
            // Those that hear each other, but for the tries of the same moment, and those that do not.
            let fleet: Vec<Guesses> = (0..count).map(|_| guesses(1)).collect();
            fleet.iter().for_each(|node| node.divide(count));
            let start = Instant::now();
            let (mut now, mut passed) = (start, 0);
            while now < start + hour {
                let mut wait = hour;
                let mut tried = vec![0; fleet.len()];
                for (node, tried) in fleet.iter().zip(&mut tried) {
                    wait = wait.min(loop {
                        match node.charge(ana, 1, now) {
                            Ok(_) => *tried += 1,
                            Err(wait) => break wait,
                        }
                    });
                }
                let all: u32 = tried.iter().sum();
                for (node, own) in fleet.iter().zip(tried) {
                    (own..all).for_each(|_| node.taken_elsewhere_at(ana, now));
                }
                passed += all;
                now += wait.max(Duration::from_millis(1));
            }
            assert!((10..=20).contains(&passed), "{count}: {passed}");
            let apart = count * tries_within(&guesses(count), ana, start, hour);
            assert!((10..=20).contains(&apart), "{count} that hear nothing: {apart}");
        }
    }

    #[test]
    fn what_is_given_back_elsewhere_leaves_the_time_to_wait_as_it_was() {
        let (guesses, ana, start) = (guesses(1), Allowance::of_device([7; 12]), Instant::now());
        assert_eq!(tries_within(&guesses, ana, start, Duration::from_secs(1)), FREE);
        guesses.taken_elsewhere(ana);
        assert!(guesses.charge(ana, 1, start + FIRST_WAIT).is_err());
        guesses.given_back_elsewhere(ana);
        assert!(guesses.charge(ana, 1, start + FIRST_WAIT).is_ok());
    }

    #[test]
    fn others_hear_of_every_try_and_of_what_is_given_back_and_forgiven() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = {
            let told = Arc::clone(&told);
            Box::new(move |allowance, news| told.lock().unwrap().push((allowance, news)))
        };
        let (guesses, ana) = (Guesses::new(Parts::default(), tell, Arc::new(Metrics::new())), Allowance(7));
        let charged = guesses.take(ana).unwrap();
        assert_eq!(*told.lock().unwrap(), [(ana, News::Taken)], "before it is known what it is");
        guesses.give_back(charged);
        guesses.forgive(ana);
        assert_eq!(told.lock().unwrap()[1..], [(ana, News::GivenBack), (ana, News::Forgiven)]);
    }
}
