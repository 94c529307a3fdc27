//! Decisions: changes that must take effect even when the store is slow to confirm them.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::store::StoreError;

/// How long after the first attempt another one begins, at most: longer than a disk or a database hangs that comes back.
/// Nobody waits for it, and how many are under way is bounded by `http::detach`.
const DEADLINE: Duration = Duration::from_secs(600);
/// How long to wait before the second attempt, and then twice as long each time, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How long it may be unknown whether a decision was made until connections are closed that it ends: they are not left open for
/// as long as nobody knows.
const UNKNOWN_MAX: Duration = Duration::from_secs(10);

/// Does something once, when it has been unknown for too long whether a decision was made.
pub(super) struct Overdue<F: Fn()> {
    begun: Instant,
    act: Option<F>,
}

impl<F: Fn()> Overdue<F> {
    /// From now on.
    pub(super) fn new(act: F) -> Self {
        Self { begun: Instant::now(), act: Some(act) }
    }

    /// To be called before each attempt.
    pub(super) fn look(&mut self) {
        if let Some(act) = self.act.take_if(|_| self.begun.elapsed() >= UNKNOWN_MAX) {
            act();
        }
    }
}

/// A decision whose outcome is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known<T> {
    /// What the last attempt found.
    pub(super) outcome: T,
    /// Whether there was an attempt before it that may have been the one to make the change. Then the outcome may well say
    /// that there was nothing to change, and what follows from the change has not been done yet.
    pub(super) late: bool,
}

/// The decisions that are being made, by what they decide: one that was made ends the attempts of those that began before it,
/// which would undo it. One that is refused ends nothing.
pub struct UnderWay<K: Eq + Hash + Clone> {
    subjects: Arc<Mutex<HashMap<K, Subject>>>,
}

/// What is being decided.
#[derive(Debug, Default)]
struct Subject {
    /// Decisions about it, by their numbers.
    begun: u64,
    under_way: usize,
    /// The newest that was made.
    made: Option<u64>,
}

impl<K: Eq + Hash + Clone> Default for UnderWay<K> {
    fn default() -> Self {
        Self { subjects: Arc::default() }
    }
}

impl<K: Eq + Hash + Clone> UnderWay<K> {
    /// Begins a decision.
    pub(super) fn begin(&self, about: K) -> Ticket<K> {
        let mut subjects = lock(&self.subjects);
        let subject = subjects.entry(about.clone()).or_default();
        subject.begun += 1;
        subject.under_way += 1;
        let (number, contested) = (subject.begun, subject.under_way > 1);
        Ticket { subjects: Arc::clone(&self.subjects), about, number, contested }
    }
}

/// A decision that is being made.
pub(super) struct Ticket<K: Eq + Hash> {
    subjects: Arc<Mutex<HashMap<K, Subject>>>,
    about: K,
    number: u64,
    /// Whether another one about the same was being made when it began: that may have changed what this one finds.
    pub(super) contested: bool,
}

impl<K: Eq + Hash> Ticket<K> {
    /// Whether no decision about the same that began later was made.
    pub(super) fn is_wanted(&self) -> bool {
        lock(&self.subjects).get(&self.about).and_then(|subject| subject.made).is_none_or(|made| made <= self.number)
    }

    /// It was made.
    pub(super) fn made(&self) {
        if let Some(subject) = lock(&self.subjects).get_mut(&self.about) {
            subject.made = subject.made.max(Some(self.number));
        }
    }
}

impl<K: Eq + Hash> Drop for Ticket<K> {
    fn drop(&mut self) {
        let mut subjects = lock(&self.subjects);
        let is_last = subjects.get_mut(&self.about).is_none_or(|subject| {
            subject.under_way -= 1;
            subject.under_way == 0
        });
        if is_last {
            subjects.remove(&self.about);
        }
    }
}

/// Held for a few instructions, and nothing under it panics.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a decision again while its outcome is unknown ([`StoreError::Timeout`]): what follows from it, such as closing
/// the connections of who was deactivated, must not be lost because the store confirmed it late. `attempt` is idempotent.
/// Once an attempt may have succeeded, that a later one is refused tells nothing, and it is made again too, as long as it is
/// `still_wanted`. Each attempt is told whether it is a later one.
///
/// # Errors
/// That of the first attempt; [`StoreError::Timeout`] when the outcome is not known after ten minutes, or another decision has
/// taken the place of this one.
pub(super) async fn until_known<T, F>(
    still_wanted: impl Fn() -> bool,
    mut attempt: impl FnMut(bool) -> F,
) -> Result<Known<T>, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let deadline = Instant::now() + DEADLINE;
    let (mut pause, mut late) = (PAUSE, false);
    loop {
        match attempt(late).await {
            Ok(outcome) => return Ok(Known { outcome, late }),
            Err(error) if error != StoreError::Timeout && !late => return Err(error),
            Err(_) => late = true,
        }
        if Instant::now() + pause > deadline {
            return Err(StoreError::Timeout);
        }
        sleep(pause).await;
        if !still_wanted() {
            return Err(StoreError::Timeout);
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Attempts with these outcomes, the last one again and again.
    async fn decide(outcomes: &[Result<u32, StoreError>]) -> (Result<Known<u32>, StoreError>, usize) {
        let made = Cell::new(0);
        let decided = until_known(
            || true,
            |_| {
                let outcome = outcomes[made.get().min(outcomes.len() - 1)].clone();
                made.set(made.get() + 1);
                async move { outcome }
            },
        )
        .await;
        (decided, made.get())
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_outcome_is_asked_for_again_and_a_failure_is_not() {
        let unknown = || Err(StoreError::Timeout);
        assert_eq!(decide(&[Ok(7)]).await, (Ok(Known { outcome: 7, late: false }), 1));
        assert_eq!(decide(&[unknown(), unknown(), Ok(7)]).await, (Ok(Known { outcome: 7, late: true }), 3));
        assert_eq!(decide(&[Err(StoreError::Overloaded)]).await, (Err(StoreError::Overloaded), 1));
        let refused_later = [unknown(), Err(StoreError::Overloaded), Ok(7)];
        assert_eq!(decide(&refused_later).await, (Ok(Known { outcome: 7, late: true }), 3));
        assert_eq!(decide(&[unknown(), Err(StoreError::Overloaded)]).await.0, Err(StoreError::Timeout));
    }

    /// Found by reading: after a disk that hung for a minute, the tenth attempt to deactivate undid that the member was activated.
    #[tokio::test(start_paused = true)]
    async fn a_newer_decision_that_was_made_ends_the_attempts_of_an_older_one_about_the_same() {
        let under_way = UnderWay::default();
        let (older, other) = (under_way.begin("ana"), under_way.begin("ben"));
        assert!(!older.contested && !other.contested);
        let attempts = Cell::new(0);
        let newer = RefCell::new(None);
        let attempt = |_| {
            attempts.set(attempts.get() + 1);
            match attempts.get() {
                2 => drop(newer.replace(Some(under_way.begin("ana")))),
                4 => newer.borrow().as_ref().map(Ticket::made).unwrap_or_default(),
                _ => {}
            }
            async { Err::<(), _>(StoreError::Timeout) }
        };
        assert_eq!(until_known(|| older.is_wanted(), attempt).await, Err(StoreError::Timeout));
        assert_eq!(attempts.get(), 4, "as long as the newer one is not made the older one goes on");
        let newer = newer.take().unwrap();
        assert!(newer.is_wanted() && newer.contested && other.is_wanted());
        drop((older, newer, other));
        assert!(lock(&under_way.subjects).is_empty(), "nothing is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_unknown_for_long_is_acted_upon_once() {
        let acted = Cell::new(Vec::new());
        let started = Instant::now();
        let mut overdue = Overdue::new(|| {
            let mut times = acted.take();
            times.push(started.elapsed());
            acted.set(times);
        });
        let attempt = |_| {
            overdue.look();
            async { Err::<(), _>(StoreError::Timeout) }
        };
        assert!(until_known(|| started.elapsed() < UNKNOWN_MAX * 4, attempt).await.is_err());
        let [at] = acted.take()[..] else { panic!("not once") };
        assert!(at >= UNKNOWN_MAX && at < UNKNOWN_MAX * 3, "{at:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_that_fail_at_once_are_made_with_pauses_until_the_deadline() {
        let started = Instant::now();
        let (decided, made) = decide(&[Err(StoreError::Timeout)]).await;
        assert_eq!(decided, Err(StoreError::Timeout));
        let took = started.elapsed();
        assert!(took <= DEADLINE && took + PAUSE_MAX >= DEADLINE, "{took:?}");
        assert!((60..80).contains(&made), "{made}");
    }

    /// A change that says what it found before it, as stores do: the second time there is nothing left to change.
    #[tokio::test(start_paused = true)]
    async fn a_change_that_was_made_after_its_timeout_is_known_to_be_late() {
        let stored = RefCell::new(1);
        let known = until_known(
            || true,
            |_| {
                let before = stored.replace(2);
                async move { if before == 1 { Err(StoreError::Timeout) } else { Ok(before) } }
            },
        )
        .await;
        assert_eq!(known, Ok(Known { outcome: 2, late: true }));
    }
}
