//! Passwords: bcrypt, on threads of their own, half as many as processors, that go last when the processors are busy.

use std::{
    ops::Range,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::available_parallelism,
    time::Duration,
};

use bcrypt::HashParts;
use protocol::{ErrorCode, limits::PASSWORD_MAX_BYTES};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::turns::{Full, Source, Turns};
use crate::{
    background::{Priority, lower_priority},
    failure::Failure,
    supervisor::Supervisor,
    telemetry::Metrics,
};

/// When a source that has too many passwords in the queue may try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The name of the bound of one source in the metrics.
const LIMIT: &str = "hashing";
/// How many steps above the cost of new hashes a wrong password is made to take at most: four times as long. One hash of a much higher
/// cost, which its member alone can end, must not make the logins of all strangers as slow.
const MASKED_STEPS: u32 = 2;

/// Work, and a signal to who waits for its turn.
struct Hashing {
    turn: oneshot::Sender<()>,
    work: Box<dyn FnOnce() + Send>,
}

/// Why a password was not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotHashed {
    /// The source has as many passwords in the queue as it may; nothing else is wrong.
    #[error("too many passwords from this address are waiting to be checked")]
    TooMany,
    /// The queue is full, or it took too long.
    #[error("too many passwords are waiting to be checked")]
    TooBusy,
}

impl From<NotHashed> for Failure {
    fn from(error: NotHashed) -> Self {
        match error {
            NotHashed::TooMany => Self::of(ErrorCode::RateLimited).retry_after(RETRY_AFTER),
            NotHashed::TooBusy => Self::overloaded(),
        }
    }
}

/// Why no password can be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The cost.
    #[error("the cost of passwords: {0}")]
    Cost(#[from] bcrypt::BcryptError),
    /// The threads.
    #[error("no thread for passwords: {0}")]
    Threads(#[from] std::io::Error),
}

/// What a password is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not the one, or there is none.
    Wrong,
    /// The right one.
    Right,
    /// The right one; its hash has another cost than new ones have.
    Outdated,
}

/// How much is done for a password, so that the time does not tell whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Masking {
    /// The highest cost of the hashes that the store has: a wrong password takes as many rounds as a hash of that cost, or of that of new
    /// ones if that is higher, whatever the cost of its own hash; but no more than one of [`Passwords::most_masked`]. A hash above that
    /// takes what it takes.
    pub highest: Option<u32>,
    /// Whether the right password takes as many, too.
    pub in_full: bool,
}

/// Hashes and checks passwords.
pub struct Passwords {
    cost: u32,
    queue: Arc<Queue>,
    /// How long to wait for a turn.
    patience: Duration,
    /// What an unknown member's password is compared with, so that it takes as long as a known one's.
    decoy: String,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    turns: Turns<Hashing>,
    closed: bool,
}

impl Passwords {
    /// With this bcrypt cost: 2^cost rounds. `patience`: how long a password waits for its turn.
    ///
    /// # Errors
    /// When the cost is not 4 to 31, or there are no threads.
    pub fn new(
        cost: u32,
        patience: Duration,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<Self, Unusable> {
        let workers = available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1));
        let queue = Arc::new(Queue::default());
        for number in 0..workers {
            let queue = Arc::clone(&queue);
            supervisor.thread("password", Some(number), move || toil(&queue))?;
        }
        let decoy = bcrypt::non_truncating_hash("nobody has this password", cost)?;
        Ok(Self { cost, queue, patience, decoy, metrics })
    }

    /// The highest cost that a wrong password without a hash of its own takes. By the time that those of hashes above it take it is told
    /// that they are there.
    #[must_use]
    pub const fn most_masked(&self) -> u32 {
        self.cost + MASKED_STEPS
    }

    /// Hashes a password of at most 71 bytes.
    ///
    /// # Errors
    /// When too many are waiting.
    pub async fn hash(&self, password: String, from: Source) -> Result<String, NotHashed> {
        let (cost, metrics) = (self.cost, Arc::clone(&self.metrics));
        let work = move || {
            metrics.password_rounds.inc_by(rounds(cost));
            // Longer than 71 bytes is refused before it comes here, and the cost was tried in `new`.
            bcrypt::non_truncating_hash(password, cost).map_err(|_| NotHashed::TooBusy)
        };
        self.run(from, work).await?
    }

    /// Whether it is the password of `hash`, of a member who is known to be there. Without a hash, or with one that is none (that of a
    /// member who has left), it is wrong.
    ///
    /// # Errors
    /// When too many are waiting.
    pub async fn verify(&self, password: String, hash: Option<String>, from: Source) -> Result<Verdict, NotHashed> {
        self.check(password, hash, from, Masking { highest: None, in_full: false }).await
    }

    /// The same for somebody who must not learn by the time whether there is such a member: as much is done as `masking` says, without a
    /// hash, too.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn verify_masked(
        &self,
        password: String,
        hash: Option<String>,
        from: Source,
        masking: Masking,
    ) -> Result<Verdict, NotHashed> {
        self.check(password, hash, from, masking).await
    }

    async fn check(
        &self,
        mut password: String,
        hash: Option<String>,
        from: Source,
        Masking { highest, in_full }: Masking,
    ) -> Result<Verdict, NotHashed> {
        let cost = hash.as_deref().and_then(cost_of).filter(|_| password.len() <= PASSWORD_MAX_BYTES);
        if cost.is_none() {
            // bcrypt would refuse a longer one at once, which would tell something.
            password.clear();
        }
        let (current, most, metrics) = (self.cost, self.most_masked(), Arc::clone(&self.metrics));
        let hash = hash.filter(|_| cost.is_some()).unwrap_or_else(|| self.decoy.clone());
        let work = move || {
            let of_hash = cost.unwrap_or(current);
            let highest = highest.map_or(current, |highest| highest.clamp(current, most));
            metrics.password_rounds.inc_by(rounds(of_hash));
            // Where there is no hash the result is known; the work has to be done.
            let is_right = bcrypt::non_truncating_verify(&password, &hash).unwrap_or(false) && cost.is_some();
            if !is_right || in_full {
                for cost in padding(of_hash, highest) {
                    metrics.password_rounds.inc_by(rounds(cost));
                    drop(bcrypt::non_truncating_hash_with_salt("", cost, [0; 16]));
                }
            }
            match is_right {
                false => Verdict::Wrong,
                true if of_hash == current => Verdict::Right,
                true => Verdict::Outdated,
            }
        };
        self.run(from, work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        from: Source,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotHashed> {
        let metrics = Arc::clone(&self.metrics);
        let (turn, my_turn) = oneshot::channel();
        let (sender, result) = oneshot::channel();
        let work = Box::new(move || {
            let started = Instant::now();
            let result = work();
            metrics.password_seconds.observe(started.elapsed().as_secs_f64());
            // Whoever stopped waiting needs no answer.
            let _ = sender.send(result);
        });
        self.queue.push(from, Hashing { turn, work }).map_err(|full| match full {
            Full::Source => {
                self.metrics.rate_limit_hit(LIMIT);
                NotHashed::TooMany
            }
            Full::Queue => NotHashed::TooBusy,
        })?;
        match timeout(self.patience, my_turn).await {
            Ok(Ok(())) => result.await.map_err(|_| NotHashed::TooBusy),
            // It gave its place to somebody else, or waited too long; then its turn is skipped.
            Ok(Err(_)) | Err(_) => Err(NotHashed::TooBusy),
        }
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        self.queue.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    fn push(&self, from: Source, job: Hashing) -> Result<(), Full> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let pushed = state.turns.push(from, job);
        drop(state);
        self.changed.notify_one();
        pushed
    }

    /// The next job; blocks until there is one. `None` when there will be no more.
    fn next(&self) -> Option<Hashing> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.turns.pop() {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What a thread does.
fn toil(queue: &Queue) {
    lower_priority(Priority::Last);
    while let Some(Hashing { turn, work }) = queue.next() {
        // Who has stopped waiting costs nothing.
        if turn.send(()).is_ok() {
            // A panic in one password is the end of that password.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        }
    }
}

/// The cost of a hash, if it is one.
fn cost_of(hash: &str) -> Option<u32> {
    hash.parse().ok().map(|parts: HashParts| parts.get_cost())
}

/// What a hash of a cost takes.
const fn rounds(cost: u32) -> u64 {
    1 << cost
}

/// The costs of further hashes which together take as long as what one of `highest` takes more than one of `cost`:
/// 2^cost + 2^cost + 2^(cost + 1) + … + 2^(highest - 1) = 2^highest.
fn padding(cost: u32, highest: u32) -> Range<u32> {
    cost..highest
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Source = Source { address: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), familiar: false };

    fn passwords(cost: u32) -> Passwords {
        let metrics = Arc::new(Metrics::new());
        let supervisor = Supervisor::new(Arc::clone(&metrics), <_>::default());
        Passwords::new(cost, Duration::from_secs(5), metrics, &supervisor).unwrap()
    }

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let passwords = passwords(4);
        let hash = passwords.hash("correct horse".to_owned(), HERE).await.unwrap();
        let verify = async |password: &str, hash: Option<&String>| {
            passwords.verify(password.to_owned(), hash.cloned(), HERE).await.unwrap()
        };
        assert_eq!(verify("correct horse", Some(&hash)).await, Verdict::Right);
        assert_eq!(verify("wrong horse", Some(&hash)).await, Verdict::Wrong);
        assert_eq!(verify("nobody has this password", None).await, Verdict::Wrong);
        assert_eq!(verify("", Some(&String::new())).await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn nothing_is_cut_after_71_bytes() {
        let passwords = passwords(4);
        let longest = "a".repeat(71);
        let hash = passwords.hash(longest.clone(), HERE).await.unwrap();
        assert_eq!(passwords.verify(longest.clone(), Some(hash.clone()), HERE).await, Ok(Verdict::Right));
        assert_eq!(passwords.verify(longest + "b", Some(hash), HERE).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_is_outdated() {
        let hash = passwords(6).hash("correct horse".to_owned(), HERE).await.unwrap();
        let new = passwords(4);
        assert_eq!(new.verify("wrong".to_owned(), Some(hash.clone()), HERE).await, Ok(Verdict::Wrong));
        assert_eq!(new.verify("correct horse".to_owned(), Some(hash), HERE).await, Ok(Verdict::Outdated));
    }

    #[tokio::test]
    async fn a_wrong_password_takes_as_many_rounds_whatever_the_cost_of_its_hash() {
        let mut hashes = vec![None, Some(String::new())];
        for cost in 4..=8 {
            hashes.push(Some(passwords(cost).hash("correct horse".to_owned(), HERE).await.unwrap()));
        }
        let taken = async |current: u32, password: &str, hash: &Option<String>, masking: Masking| {
            let passwords = passwords(current);
            passwords.verify_masked(password.to_owned(), hash.clone(), HERE, masking).await.unwrap();
            passwords.metrics.password_rounds.get()
        };
        for (current, highest) in [(6, Some(8)), (8, Some(8)), (8, Some(7)), (8, None)] {
            for hash in &hashes {
                let wrong = taken(current, "wrong", hash, Masking { highest, in_full: false }).await;
                assert_eq!(wrong, 1 << 8, "{current} {highest:?} {hash:?}");
                let any = taken(current, "correct horse", hash, Masking { highest, in_full: true }).await;
                assert_eq!(any, 1 << 8, "{current} {highest:?} {hash:?}");
            }
        }
        let right = taken(6, "correct horse", &hashes[4], Masking { highest: Some(8), in_full: false }).await;
        assert_eq!(right, 1 << 6, "who knows the password waits for no more than that");
    }

    /// Found by an attacker: one hash of cost 16 had every wrong password of everybody take sixteen times as long as one of 12.
    #[tokio::test]
    async fn one_hash_that_is_much_dearer_does_not_make_all_others_as_slow() {
        let dear = passwords(9).hash("correct horse".to_owned(), HERE).await.unwrap();
        let same = passwords(4).hash("correct horse".to_owned(), HERE).await.unwrap();
        for (hash, rounds) in [(None, 1 << 6), (Some(same), 1 << 6), (Some(dear), 1 << 9)] {
            let (passwords, masking) = (passwords(4), Masking { highest: Some(9), in_full: false });
            assert_eq!(passwords.verify_masked("wrong".to_owned(), hash, HERE, masking).await, Ok(Verdict::Wrong));
            assert_eq!(passwords.metrics.password_rounds.get(), rounds);
        }
    }

    #[test]
    fn what_is_no_hash_has_no_cost() {
        assert_eq!(cost_of(""), None);
        assert_eq!(cost_of("hash of Ana"), None);
        assert_eq!(cost_of(&bcrypt::non_truncating_hash("x", 5).unwrap()), Some(5));
    }

    #[tokio::test]
    async fn one_address_that_fills_the_queue_is_refused_and_others_are_served() {
        let passwords = Arc::new(passwords(4));
        // The threads are busy for as long as the test holds this.
        let (release, hold) = crossbeam_channel::bounded::<()>(0);
        let workers = available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1));
        let mut busy = Vec::new();
        for _ in 0..workers {
            let (hold, passwords) = (hold.clone(), Arc::clone(&passwords));
            let (started, working) = oneshot::channel();
            busy.push(tokio::spawn(async move {
                let work = move || (started.send(()).is_ok(), hold.recv().is_ok());
                assert_eq!(passwords.run(HERE, work).await, Ok((true, false)));
            }));
            working.await.unwrap();
        }
        let submit = |source: Source| {
            let passwords = Arc::clone(&passwords);
            tokio::spawn(async move { passwords.hash("x".to_owned(), source).await })
        };
        let mut attack: Vec<_> = (0..100).map(|_| submit(HERE)).collect();
        let refused = futures_util::future::select_all(attack.iter_mut()).await.0.unwrap();
        assert_eq!(refused, Err(NotHashed::TooMany));
        let elsewhere = submit(Source { address: "192.0.2.1".parse().unwrap(), familiar: false });
        drop(release);
        assert!(elsewhere.await.unwrap().is_ok());
        for task in busy {
            task.await.unwrap();
        }
    }
}
