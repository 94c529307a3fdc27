//! The photos that members have: which file is whose, and what becomes of it.
//!
//! The name of a file is a hash over its member and its content. So a name never changes its content, and whose a file is
//! follows from the file itself: a member who names the photo of another as their own cannot have it deleted.

use std::sync::Arc;

use axum::body::Bytes;
use protocol::{ErrorCode, MemberId, PhotoName};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::task::TaskTracker;

use crate::{
    failure::Failure,
    photos::{Objects, StorageError},
    store::{MemberStore, turns::Caller},
};

/// Members whose photos can change at the same time, at most.
const TURNS: usize = 256;

/// The photos of all members.
pub struct Album {
    objects: Objects,
    members: Arc<dyn MemberStore>,
    /// What the addresses of photos begin with.
    public_url: String,
    /// Held while a member's photo changes, so that no file is deleted that has just become theirs again.
    turns: [Mutex<()>; TURNS],
    /// What goes on after the answer.
    tasks: TaskTracker,
}

/// A photo that was taken out of the album.
pub struct Taken(PhotoName, Bytes);

impl Album {
    /// An album of these files. `public_url`: where the API is reached, or nothing. `tasks`: waited for at a shutdown.
    #[must_use]
    pub fn new(objects: Objects, members: Arc<dyn MemberStore>, public_url: String, tasks: TaskTracker) -> Self {
        Self { objects, members, public_url, turns: std::array::from_fn(|_| Mutex::default()), tasks }
    }

    /// Whether an address leads to a photo of this server: a path, or one that begins with `PUBLIC_URL`.
    #[must_use]
    pub fn is_ours(&self, url: &str) -> bool {
        url.strip_prefix(&self.public_url).or(Some(url)).and_then(PhotoName::from_path).is_some()
    }

    /// Waits for the turn to change a member's photo.
    pub async fn turn(&self, member: MemberId) -> MutexGuard<'_, ()> {
        let [.., last] = member.as_bytes();
        #[expect(clippy::indexing_slicing, reason = "there is one for each value of a byte")]
        self.turns[usize::from(*last)].lock().await
    }

    /// The content of a photo, if there is such a photo.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(&self, name: PhotoName) -> Result<Option<Bytes>, StorageError> {
        self.objects.get(name).await
    }

    /// Whether there is such a photo.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn has(&self, name: PhotoName) -> Result<bool, StorageError> {
        self.objects.exists(name).await
    }

    /// Adds a photo of a member, durably. Returns its address.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn add(&self, member: MemberId, content: Bytes) -> Result<String, StorageError> {
        let name = name(member, &content);
        self.objects.put(name, content).await?;
        Ok(format!("{}{}", self.public_url, name.path()))
    }

    /// Deletes the photo at this address, if it is a photo of this member.
    ///
    /// # Errors
    /// When it cannot be read or deleted; then it is still there, as far as is known.
    pub async fn take(&self, member: MemberId, url: Option<&str>) -> Result<Option<Taken>, StorageError> {
        let Some(named) = url.and_then(PhotoName::from_url) else { return Ok(None) };
        let Some(content) = self.objects.get(named).await? else { return Ok(None) };
        if name(member, &content) != named {
            return Ok(None);
        }
        self.objects.delete(named).await?;
        Ok(Some(Taken(named, content)))
    }

    /// Puts a photo back, because what it was taken for has failed. If it cannot be, the member has none any more.
    pub async fn restore(&self, taken: Option<Taken>, failure: &Failure) {
        // It may have happened after all. Then a photo that is put back would be there for ever.
        if failure.code == ErrorCode::Timeout {
            return;
        }
        if let Some(Taken(name, content)) = taken {
            // A failure was logged where it arose.
            let _ = self.objects.put(name, content).await;
        }
    }

    /// Deletes a photo that a member had before, if that can be done. To be called in their turn.
    pub async fn discard(&self, member: MemberId, former: &str) {
        if self.take(member, Some(former)).await.is_err() {
            // Whoever knows the address can still see it.
            tracing::error!(%member, photo = former, "a photo that is not used any more could not be deleted");
        }
    }

    /// Deletes the photo that a member had before a change of their profile, without waiting.
    pub fn discard_later(self: &Arc<Self>, member: MemberId, former: String) {
        let album = Arc::clone(self);
        self.tasks.spawn(async move {
            let _turn = album.turn(member).await;
            let record = album.members.by_id(Caller::Member(member), member).await;
            let now = record.map(|record| record.and_then(|record| record.profile.profile_image_url));
            // It may be theirs again by now.
            if now.is_ok_and(|now| now.as_deref().and_then(PhotoName::from_url) != PhotoName::from_url(&former)) {
                album.discard(member, &former).await;
            }
        });
    }
}

fn name(member: MemberId, content: &[u8]) -> PhotoName {
    PhotoName::from_bytes(Sha256::new().chain_update(member.as_bytes()).chain_update(content).finalize().into())
}
