//! Whether the store answers: asked once for all who ask at the same time.
//!
//! Anybody may ask for readiness. If each asked the store, enough of them would fill the turns that health has there, and the
//! refusal would look like a store that does not answer.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol::ErrorCode;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    failure::Failure,
    store::{Backend, StoreError},
};

/// How long it stays true for others that the store has answered. That it has not is looked at anew.
const FRESH: Duration = Duration::from_millis(250);

/// What the store said last.
pub struct Readiness {
    store: Arc<dyn Backend>,
    last: Mutex<Option<(Instant, Result<(), Failure>)>>,
    asking: Semaphore,
}

impl Readiness {
    /// The readiness of this store.
    #[must_use]
    pub fn new(store: Arc<dyn Backend>) -> Self {
        Self { store, last: Mutex::default(), asking: Semaphore::new(1) }
    }

    /// Whether the store answers, now or a moment ago.
    ///
    /// # Errors
    /// What it says instead.
    pub async fn check(&self) -> Result<(), Failure> {
        let asked = Instant::now();
        if let Some(known) = self.known(asked) {
            return known;
        }
        let _turn = self.asking.acquire().await.map_err(|_| Failure::of(ErrorCode::Internal))?;
        // Whoever asked before has brought it.
        if let Some(known) = self.known(asked) {
            return known;
        }
        let said = self.store.check().await.map_err(|error| match error {
            // Nothing was asked for whose outcome could be open.
            StoreError::Timeout => StoreError::Unavailable("it does not answer".to_owned()).into(),
            other => Failure::from(other),
        });
        *self.last() = Some((Instant::now(), said.clone()));
        said
    }

    /// What came after this moment, or a good answer from shortly before it.
    fn known(&self, asked: Instant) -> Option<Result<(), Failure>> {
        let is_known = |at: Instant, said: &Result<(), Failure>| at > asked || (said.is_ok() && at + FRESH > asked);
        self.last().as_ref().filter(|(at, said)| is_known(*at, said)).map(|(_, said)| said.clone())
    }

    /// Held for a few instructions and never across a call that could panic.
    fn last(&self) -> MutexGuard<'_, Option<(Instant, Result<(), Failure>)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::store::{
        conversations::{ConversationCounts, StoreId},
        restore::{Ended, Ending},
    };

    /// A store that takes a second to answer.
    #[derive(Default)]
    struct Slow(AtomicUsize);

    #[async_trait]
    impl Backend for Slow {
        fn describe(&self) -> String {
            String::new()
        }

        async fn check(&self) -> Result<(), StoreError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            Err(StoreError::Overloaded)
        }

        fn store_id(&self) -> StoreId {
            StoreId([0; 8])
        }

        async fn count(&self) -> Result<ConversationCounts, StoreError> {
            Ok(ConversationCounts::default())
        }

        async fn size(&self) -> Result<u64, StoreError> {
            Ok(0)
        }

        async fn end_after_restore(&self, _: Ending) -> Result<Ended, StoreError> {
            Err(StoreError::Overloaded)
        }

        async fn close(&self) {}
    }

    /// Found by an attacker: 300 connections that asked for it made everybody's answer 503.
    #[tokio::test(start_paused = true)]
    async fn however_many_ask_the_store_is_asked_once() {
        let store = Arc::new(Slow::default());
        let readiness = Readiness::new(Arc::clone(&store) as _);
        let answers = futures_util::future::join_all((0..1_000).map(|_| readiness.check())).await;
        assert!(
            answers.iter().all(|answer| answer.as_ref().is_err_and(|failure| failure.code == ErrorCode::Overloaded))
        );
        assert_eq!(store.0.load(Ordering::Relaxed), 1);
        assert!(readiness.check().await.is_err());
        assert_eq!(store.0.load(Ordering::Relaxed), 2, "it may answer by now");
    }
}
