//! Decisions: changes that must take effect even when the store is slow to confirm them.

use std::{
    collections::HashMap,
    hash::Hash,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, sleep, timeout},
};

use tokio_util::sync::{CancellationToken, DropGuard};

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

/// Makes a decision, and does something before its outcome is known, when that takes too long, and when it stays unknown.
pub(super) async fn or_when_unknown<T>(
    decision: impl Future<Output = Result<T, StoreError>>,
    act: impl Fn(),
) -> Result<T, StoreError> {
    let mut decision = pin!(decision);
    let known = match timeout(UNKNOWN_MAX, &mut decision).await {
        Ok(known) => known,
        Err(_) => {
            act();
            decision.await
        }
    };
    known.inspect_err(|error| {
        if *error == StoreError::Timeout {
            act();
        }
    })
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

/// Decisions about one subject are made one after the other, in the order in which they begin: otherwise an attempt of an older
/// one that comes late would undo a newer one that was acknowledged.
pub struct InOrder<K: Eq + Hash + Clone> {
    subjects: Arc<Mutex<HashMap<K, Subject>>>,
}

/// What is being decided.
#[derive(Default)]
struct Subject {
    /// Held by the decision that is being made. Who waits gets it in the order of coming.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Decisions that are made or wait: without any the entry is gone.
    decisions: usize,
}

impl<K: Eq + Hash + Clone> Default for InOrder<K> {
    fn default() -> Self {
        Self { subjects: Arc::default() }
    }
}

impl<K: Eq + Hash + Clone> InOrder<K> {
    /// Waits until no decision about the same that began earlier is being made.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] when that takes longer than a decision may; nothing was done.
    pub(super) async fn begin(&self, about: K) -> Result<DecisionTurn<K>, StoreError> {
        let (turn, entered) = {
            let mut subjects = lock(&self.subjects);
            let subject = subjects.entry(about.clone()).or_default();
            subject.decisions += 1;
            (Arc::clone(&subject.turn), Entered { subjects: Arc::clone(&self.subjects), about })
        };
        let turn = timeout(DEADLINE, turn.lock_owned()).await.map_err(|_| StoreError::Overloaded)?;
        Ok(DecisionTurn { given_up: CancellationToken::new().drop_guard(), _turn: turn, _entered: entered })
    }
}

/// A decision that is being made.
#[must_use = "it is over when this is dropped"]
pub(super) struct DecisionTurn<K: Eq + Hash> {
    given_up: DropGuard,
    _turn: OwnedMutexGuard<()>,
    _entered: Entered<K>,
}

impl<K: Eq + Hash> DecisionTurn<K> {
    /// Cancelled when this is dropped, before the next decision begins: an attempt that is still on its way then must not be made.
    pub(super) fn given_up(&self) -> CancellationToken {
        self.given_up.token().clone()
    }
}

struct Entered<K: Eq + Hash> {
    subjects: Arc<Mutex<HashMap<K, Subject>>>,
    about: K,
}

impl<K: Eq + Hash> Drop for Entered<K> {
    fn drop(&mut self) {
        let mut subjects = lock(&self.subjects);
        let is_last = subjects.get_mut(&self.about).is_none_or(|subject| {
            subject.decisions -= 1;
            subject.decisions == 0
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
/// Once an attempt may have succeeded, that a later one is refused tells nothing, and it is made again too. Each attempt is
/// told whether it is a later one.
///
/// # Errors
/// That of the first attempt; [`StoreError::Timeout`] when the outcome is not known after ten minutes.
pub(super) async fn until_known<T, F>(mut attempt: impl FnMut(bool) -> F) -> Result<Known<T>, StoreError>
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
        let decided = until_known(|_| {
            let outcome = outcomes[made.get().min(outcomes.len() - 1)].clone();
            made.set(made.get() + 1);
            async move { outcome }
        })
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

    /// Found by reading: on a disk that hung, the second attempt to activate stood behind the first one to deactivate, which
    /// was acknowledged, and undid it.
    #[tokio::test(start_paused = true)]
    async fn decisions_about_the_same_are_made_in_the_order_in_which_they_begin() {
        let in_order = InOrder::default();
        let log = RefCell::new(Vec::new());
        let decide = async |about: &'static str, name: &'static str, unknown: usize| {
            let _turn = in_order.begin(about).await.unwrap();
            let attempts = Cell::new(0);
            let attempt = |_| {
                attempts.set(attempts.get() + 1);
                log.borrow_mut().push((name, attempts.get()));
                let outcome = if attempts.get() > unknown { Ok(()) } else { Err(StoreError::Timeout) };
                async move { outcome }
            };
            until_known(attempt).await.unwrap();
        };
        tokio::join!(decide("ana", "first", 2), decide("ana", "second", 1), decide("ben", "other", 0));
        let made = log.take();
        assert_eq!(
            made,
            [("first", 1), ("other", 1), ("first", 2), ("first", 3), ("second", 1), ("second", 2)],
            "and one about another subject waits for nobody"
        );
        assert!(lock(&in_order.subjects).is_empty(), "nothing is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_too_long_or_leaves_is_no_longer_in_the_way() {
        let in_order = InOrder::default();
        let first = in_order.begin("ana").await.unwrap();
        assert_eq!(in_order.begin("ana").await.err(), Some(StoreError::Overloaded));
        assert!(timeout(PAUSE, in_order.begin("ana")).await.is_err());
        let given_up = first.given_up();
        assert!(!given_up.is_cancelled());
        drop(first);
        assert!(given_up.is_cancelled());
        assert!(lock(&in_order.subjects).is_empty(), "nothing is kept");
        drop(in_order.begin("ana").await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_unknown_for_long_or_for_good_is_acted_upon() {
        let started = Instant::now();
        let acted = RefCell::new(Vec::new());
        let act = || acted.borrow_mut().push(started.elapsed());
        // Longer than that, known in the end or not; known at once; never known, but soon given up.
        for (outcomes, times) in [(9, 1), (usize::MAX, 2), (0, 0), (1, 0)] {
            let left = Cell::new(outcomes);
            let attempt = |_| {
                let outcome = if left.get() == 0 { Ok(()) } else { Err(StoreError::Timeout) };
                left.set(left.get().saturating_sub(1));
                async move { outcome }
            };
            assert_eq!(or_when_unknown(until_known(attempt), act).await.is_ok(), outcomes < usize::MAX);
            assert_eq!(acted.take().len(), times, "{outcomes}");
        }
        assert!(or_when_unknown(async { Err::<(), _>(StoreError::Timeout) }, act).await.is_err());
        assert_eq!(acted.take().len(), 1);
        assert!(or_when_unknown(async { Err::<(), _>(StoreError::Overloaded) }, act).await.is_err());
        assert!(acted.take().is_empty(), "it was refused");
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
        let known = until_known(|_| {
            let before = stored.replace(2);
            async move { if before == 1 { Err(StoreError::Timeout) } else { Ok(before) } }
        })
        .await;
        assert_eq!(known, Ok(Known { outcome: 2, late: true }));
    }
}
