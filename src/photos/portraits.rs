//! The making of portraits, on threads that block, a few at a time.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::picture::{self, Unusable};

/// Pictures that are decoded at the same time; more wait. Each takes up to 300 MB of memory.
const WORKERS: usize = 2;

/// Why there is no portrait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPortrait {
    /// Too many are waiting; nothing was tried.
    #[error("too many pictures are waiting to be decoded")]
    TooBusy,
    /// The upload is no picture that can be used.
    #[error("the picture cannot be used: {0}")]
    Unusable(#[from] Unusable),
}

/// Makes portraits.
pub struct Portraits {
    workers: Arc<Semaphore>,
    patience: Duration,
}

impl Portraits {
    /// `patience`: how long an upload waits for its turn.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { workers: Arc::new(Semaphore::new(WORKERS)), patience }
    }

    /// Makes the portrait of an upload; see [`picture::portrait`].
    ///
    /// # Errors
    /// When too many are waiting, or the upload is no picture that can be used.
    pub async fn make(&self, upload: Bytes) -> Result<Bytes, NoPortrait> {
        let turn = timeout(self.patience, Arc::clone(&self.workers).acquire_owned()).await;
        let turn = turn.map_err(|_| NoPortrait::TooBusy)?.map_err(|_| NoPortrait::TooBusy)?;
        let work = move || {
            let portrait = picture::portrait(&upload);
            // Held until the work is done, even when nobody waits for it any more.
            drop(turn);
            portrait
        };
        let portrait = spawn_blocking(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the decoder of pictures failed");
            Err(Unusable::Damaged)
        });
        Ok(portrait?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_too_long_for_a_turn_is_told_so() {
        let portraits = Portraits::new(Duration::from_millis(20));
        let upload = Bytes::from_static(b"no picture");
        let unusable = NoPortrait::Unusable(Unusable::NotAPicture);
        assert_eq!(portraits.make(upload.clone()).await, Err(unusable.clone()));
        let busy = portraits.workers.acquire_many(u32::try_from(WORKERS).unwrap()).await.unwrap();
        assert_eq!(portraits.make(upload.clone()).await, Err(NoPortrait::TooBusy));
        drop(busy);
        assert_eq!(portraits.make(upload).await, Err(unusable), "a turn is given back");
    }
}
