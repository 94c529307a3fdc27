//! Decisions: changes that must take effect even when the store is slow to confirm them.

use crate::store::StoreError;

/// How often a decision is made whose outcome the store does not tell in time.
const ATTEMPTS: u32 = 6;

/// Makes a decision again while its outcome is unknown ([`StoreError::Timeout`]): what follows from it, such as closing
/// the connections of who was deactivated, must not be lost because the store confirmed it late. `attempt` is idempotent.
///
/// # Errors
/// Those of the last attempt.
pub(super) async fn until_known<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(StoreError::Timeout) => {}
            outcome => return outcome,
        }
    }
    attempt().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn an_unknown_outcome_is_asked_for_again_and_a_failure_is_not() {
        let attempt = async |known_at: u32, outcome: Result<u32, StoreError>| {
            let made = Cell::new(0);
            until_known(|| {
                made.set(made.get() + 1);
                let outcome = if made.get() < known_at { Err(StoreError::Timeout) } else { outcome.clone() };
                async move { outcome }
            })
            .await
        };
        assert_eq!(attempt(3, Ok(7)).await, Ok(7));
        assert_eq!(attempt(1, Err(StoreError::Overloaded)).await, Err(StoreError::Overloaded));
        assert_eq!(attempt(u32::MAX, Ok(7)).await, Err(StoreError::Timeout));
    }
}
