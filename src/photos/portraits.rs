//! The making of portraits, a few at a time.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use protocol::ErrorCode;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::picture::{self, Unusable};
use crate::{background, failure::Failure};

/// Pictures that are decoded at the same time, as far as [`picture::MEMORY_MAX`] allows; more wait.
const WORKERS: usize = 2;
/// What memory is counted in, in bytes.
const UNIT: u64 = 1024;

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

impl From<NoPortrait> for Failure {
    fn from(error: NoPortrait) -> Self {
        match error {
            NoPortrait::TooBusy => Self::overloaded(),
            NoPortrait::Unusable(reason) => {
                Self::new(ErrorCode::ImageInvalid, format!("The picture cannot be used: {reason}."))
            }
        }
    }
}

/// Makes portraits.
pub struct Portraits {
    workers: Arc<Semaphore>,
    /// Units of memory.
    memory: Arc<Semaphore>,
    patience: Duration,
}

impl Portraits {
    /// `patience`: how long an upload waits for its turn.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        let memory = usize::try_from(units(picture::MEMORY_MAX)).unwrap_or(Semaphore::MAX_PERMITS);
        Self { workers: Arc::new(Semaphore::new(WORKERS)), memory: Arc::new(Semaphore::new(memory)), patience }
    }

    /// Makes the portrait of an upload; see [`picture::portrait`].
    ///
    /// # Errors
    /// When too many are waiting, or the upload is no picture that can be used.
    pub async fn make(&self, upload: Bytes) -> Result<Bytes, NoPortrait> {
        let turn = timeout(self.patience, self.turn(&upload)).await.map_err(|_| NoPortrait::TooBusy)??;
        let work = move || {
            let portrait = picture::portrait(&upload);
            // Held until the work is done, even when nobody waits for it any more.
            drop(turn);
            portrait
        };
        let portrait = background::run("picture", work).map_err(|error| {
            tracing::error!(%error, "no thread for a picture");
            NoPortrait::TooBusy
        })?;
        let portrait = portrait.await.unwrap_or_else(|_| {
            tracing::error!("the decoder of pictures failed");
            Err(Unusable::Damaged)
        });
        Ok(portrait?.into())
    }

    /// Waits for a worker, and for as much memory as the upload takes.
    async fn turn(&self, upload: &Bytes) -> Result<[OwnedSemaphorePermit; 2], NoPortrait> {
        let worker = Arc::clone(&self.workers).acquire_owned().await.map_err(|_| NoPortrait::TooBusy)?;
        let upload = upload.clone();
        let needed = spawn_blocking(move || picture::memory(&upload)).await.unwrap_or(Err(Unusable::Damaged))?;
        let memory = Arc::clone(&self.memory).acquire_many_owned(units(needed)).await;
        Ok([worker, memory.map_err(|_| NoPortrait::TooBusy)?])
    }
}

/// So many bytes in units, rounded up.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time stands still while a picture is worked on, and passes at once while a turn is waited for.
    #[tokio::test(start_paused = true)]
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

    #[tokio::test(start_paused = true)]
    async fn pictures_wait_for_memory() {
        let portraits = Portraits::new(Duration::from_millis(20));
        let mut upload = std::io::Cursor::new(Vec::new());
        image::DynamicImage::new_rgb8(8, 8).write_to(&mut upload, image::ImageFormat::Png).unwrap();
        let upload = Bytes::from(upload.into_inner());
        let needed = units(picture::memory(&upload).unwrap());
        let rest = units(picture::MEMORY_MAX) - needed + 1;
        let taken = portraits.memory.acquire_many(rest).await.unwrap();
        assert_eq!(portraits.make(upload.clone()).await, Err(NoPortrait::TooBusy));
        drop(taken);
        assert!(portraits.make(upload).await.is_ok());
        assert_eq!(
            portraits.memory.available_permits(),
            units(picture::MEMORY_MAX) as usize,
            "all of it is given back"
        );
    }
}
