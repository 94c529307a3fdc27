//! Decisions: changes that must take effect even when the store is slow to confirm them.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::store::StoreError;

/// How long after the first attempt another one begins, at most: longer than a disk or a database hangs that comes back.
/// Nobody waits for it, and how many are under way is bounded by `http::detach`.
const DEADLINE: Duration = Duration::from_secs(600);
/// How long to wait before the second attempt, and then twice as long each time, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A decision whose outcome is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known<T> {
    /// What the last attempt found.
    pub(super) outcome: T,
    /// Whether there was an attempt before it that may have been the one to make the change. Then the outcome may well say
    /// that there was nothing to change, and what follows from the change has not been done yet.
    pub(super) late: bool,
}

/// Makes a decision again while its outcome is unknown ([`StoreError::Timeout`]): what follows from it, such as closing
/// the connections of who was deactivated, must not be lost because the store confirmed it late. `attempt` is idempotent.
/// Once an attempt may have succeeded, that a later one is refused tells nothing, and it is made again too.
///
/// # Errors
/// That of the first attempt; [`StoreError::Timeout`] when the outcome is not known after ten minutes.
pub(super) async fn until_known<T, F>(mut attempt: impl FnMut() -> F) -> Result<Known<T>, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let deadline = Instant::now() + DEADLINE;
    let (mut pause, mut late) = (PAUSE, false);
    loop {
        match attempt().await {
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
        let decided = until_known(|| {
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
        let known = until_known(|| {
            let before = stored.replace(2);
            async move { if before == 1 { Err(StoreError::Timeout) } else { Ok(before) } }
        })
        .await;
        assert_eq!(known, Ok(Known { outcome: 2, late: true }));
    }
}
