//! The photos that members have: which file is whose, and who can see it.
//!
//! The name of a file is a hash over its member and its content. So a name never changes its content, and whose a file is
//! follows from the file itself: a member who names the photo of another as their own can have it neither hidden nor deleted.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Bytes;
use protocol::{MemberId, PhotoName};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::decisions::{DecisionTurn, InOrder};
use crate::{
    photos::{Objects, StorageError},
    store::StoreError,
};

/// How long whoever asks for a photo waits until it is known which ones are hidden.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// The photos of all members.
pub struct Album {
    objects: Objects,
    /// What the addresses of photos begin with.
    public_url: String,
    /// Held while a member's photo changes, so that no file is deleted that has just become theirs again.
    turns: InOrder<MemberId>,
    hidden: Mutex<Hidden>,
    /// Whether all that is to be hidden is known: until then nothing is shown.
    known: watch::Sender<bool>,
}

/// Photos that are their members' no more while their files are still there: as many as members have given up since files could
/// be deleted.
#[derive(Default)]
struct Hidden {
    /// Since when.
    photos: BTreeMap<(PhotoName, MemberId), Instant>,
    /// When one was shown again.
    last_shown: Option<Instant>,
}

impl Album {
    /// An album of these files. `public_url`: where the API is reached, or nothing.
    #[must_use]
    pub fn new(objects: Objects, public_url: String) -> Arc<Self> {
        Arc::new(Self {
            objects,
            public_url,
            turns: InOrder::default(),
            hidden: Mutex::default(),
            known: watch::Sender::new(false),
        })
    }

    /// Whether an address leads to a photo of this server: a path, or one that begins with `PUBLIC_URL`.
    #[must_use]
    pub fn is_ours(&self, url: &str) -> bool {
        url.strip_prefix(&self.public_url).or(Some(url)).and_then(PhotoName::from_path).is_some()
    }

    /// The address of a photo.
    #[must_use]
    pub fn url(&self, photo: PhotoName) -> String {
        format!("{}{}", self.public_url, photo.path())
    }

    /// Waits for the turn to change a member's photo.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] when that takes too long.
    pub(super) async fn turn(&self, member: MemberId) -> Result<DecisionTurn<MemberId>, StoreError> {
        self.turns.begin(member).await
    }

    /// The content of a photo, if there is such a photo and it is still its member's.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(&self, photo: PhotoName) -> Result<Option<Bytes>, StorageError> {
        self.know().await?;
        // Looked at before as well: a file that is deleted while it is read here is not hidden any more afterwards.
        let mut hidden_for = self.hidden_for(photo);
        let Some(content) = self.objects.get(photo).await? else { return Ok(None) };
        hidden_for.extend(self.hidden_for(photo));
        let is_hidden = hidden_for.into_iter().any(|member| name(member, &content) == photo);
        Ok(if is_hidden { None } else { Some(content) })
    }

    /// Whether there is such a photo, and it is still its member's.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn has(&self, photo: PhotoName) -> Result<bool, StorageError> {
        self.know().await?;
        if self.hidden_for(photo).is_empty() {
            return self.objects.exists(photo).await;
        }
        Ok(self.read(photo).await?.is_some())
    }

    /// Stores a photo of a member, durably, under its [`name`].
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn add(&self, photo: PhotoName, content: Bytes) -> Result<(), StorageError> {
        self.objects.put(photo, content).await
    }

    /// Deletes a photo, if it is one of this member. To be called in their turn.
    ///
    /// # Errors
    /// When it cannot be read or deleted; then it is still there, as far as is known.
    pub async fn delete(&self, member: MemberId, photo: PhotoName) -> Result<(), StorageError> {
        match self.objects.get(photo).await? {
            Some(content) if name(member, &content) == photo => self.objects.delete(photo).await,
            _ => Ok(()),
        }
    }

    /// A photo is the member's no more, if it ever was: from now on nobody sees it.
    pub fn hide(&self, member: MemberId, photo: PhotoName) {
        self.lock().photos.insert((photo, member), Instant::now());
    }

    /// A photo is the member's again, or its file is gone.
    pub fn show(&self, member: MemberId, photo: PhotoName) {
        let mut hidden = self.lock();
        hidden.photos.remove(&(photo, member));
        hidden.last_shown = Some(Instant::now());
    }

    /// Waits until it is known what is to be hidden: after a start that takes one read of the store.
    async fn know(&self) -> Result<(), StorageError> {
        let mut known = self.known.subscribe();
        match timeout(KNOWN_WITHIN, known.wait_for(|known| *known)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(StorageError),
        }
    }

    /// Exactly these were gone at `since` or later, or some of them if these are not `all`, and then nothing is shown. What was
    /// hidden or shown since then is newer.
    pub fn hide_exactly(&self, gone: &HashSet<(MemberId, PhotoName)>, all: bool, since: Instant) {
        let mut hidden = self.lock();
        if all {
            hidden.photos.retain(|(photo, member), at| *at >= since || gone.contains(&(*member, *photo)));
        }
        // One of them may have been shown: it is asked again soon.
        if hidden.last_shown.is_none_or(|shown| shown < since) {
            for &(member, photo) in gone {
                hidden.photos.entry((photo, member)).or_insert(since);
            }
        }
        drop(hidden);
        self.known.send_replace(all);
    }

    /// Who has given a photo up, rightly or not.
    fn hidden_for(&self, photo: PhotoName) -> Vec<MemberId> {
        let (first, last) = (MemberId::from_bytes([0; 12]), MemberId::from_bytes([0xff; 12]));
        self.lock().photos.range((photo, first)..=(photo, last)).map(|((_, member), _)| *member).collect()
    }

    /// Held for a few instructions, and nothing under it panics.
    fn lock(&self) -> MutexGuard<'_, Hidden> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a photo.
#[must_use]
pub fn name(member: MemberId, content: &[u8]) -> PhotoName {
    PhotoName::from_bytes(Sha256::new().chain_update(member.as_bytes()).chain_update(content).finalize().into())
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use clap::Parser as _;

    use super::*;
    use crate::config::Cli;

    const ANA: MemberId = MemberId::from_bytes([1; 12]);
    const BEN: MemberId = MemberId::from_bytes([2; 12]);

    fn album(folder: &Path) -> Arc<Album> {
        let folder = folder.display().to_string();
        let settings = Cli::parse_from(["members-book", "--photo-dir", &folder]).settings.photos;
        let album =
            Album::new(Objects::open(&settings, Duration::from_secs(5), Arc::default()).unwrap(), String::new());
        album.hide_exactly(&HashSet::new(), true, Instant::now());
        album
    }

    /// Found by trying: what was removed before a restart was served until the first look at the jobs.
    #[tokio::test(start_paused = true)]
    async fn nothing_is_shown_before_it_is_known_what_is_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let album = album(folder.path());
        let photo = add(&album, ANA, b"a picture").await;
        album.known.send_replace(false);
        assert!(album.read(photo).await.is_err() && album.has(photo).await.is_err());
        let (seen, ()) = tokio::join!(album.read(photo), async {
            album.hide_exactly(&HashSet::from([(ANA, photo)]), true, Instant::now());
        });
        assert_eq!(seen.unwrap(), None);
        album.hide_exactly(&HashSet::new(), false, Instant::now());
        assert!(album.read(photo).await.is_err(), "there may be more than are known");
    }

    /// Found by trying: photos were taken for deleted while their folder was not mounted.
    #[tokio::test]
    async fn a_folder_that_is_away_has_neither_no_files_nor_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (here, away) = (folder.path().join("photos"), folder.path().join("away"));
        let album = album(&here);
        let photo = add(&album, ANA, b"a picture").await;
        std::fs::rename(&here, &away).unwrap();
        assert!(album.delete(ANA, photo).await.is_err() && album.read(photo).await.is_err());
        assert!(album.add(name(ANA, b"another"), Bytes::from_static(b"another")).await.is_err());
        std::fs::rename(&away, &here).unwrap();
        assert!(is_seen(&album, photo).await);
    }

    async fn add(album: &Album, member: MemberId, content: &'static [u8]) -> PhotoName {
        let photo = name(member, content);
        album.add(photo, Bytes::from_static(content)).await.unwrap();
        photo
    }

    async fn is_seen(album: &Album, photo: PhotoName) -> bool {
        let seen = album.read(photo).await.unwrap().is_some();
        assert_eq!(album.has(photo).await.unwrap(), seen);
        seen
    }

    #[tokio::test]
    async fn only_whose_photo_it_is_can_have_it_hidden_or_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let album = album(folder.path());
        let photo = add(&album, ANA, b"a picture").await;
        assert_ne!(photo, name(BEN, b"a picture"));
        album.hide(BEN, photo);
        album.delete(BEN, photo).await.unwrap();
        assert!(is_seen(&album, photo).await);
        album.hide(ANA, photo);
        assert!(!is_seen(&album, photo).await);
        album.show(ANA, photo);
        assert!(is_seen(&album, photo).await);
        album.delete(ANA, photo).await.unwrap();
        album.delete(ANA, photo).await.unwrap();
        assert!(!is_seen(&album, photo).await);
    }

    #[tokio::test]
    async fn what_happened_since_it_was_looked_is_newer_than_what_was_seen() {
        let folder = tempfile::tempdir().unwrap();
        let album = album(folder.path());
        let photos = [add(&album, ANA, b"1").await, add(&album, ANA, b"2").await, add(&album, ANA, b"3").await];
        let seen = async || {
            let mut seen = Vec::new();
            for photo in photos {
                seen.push(is_seen(&album, photo).await);
            }
            seen
        };
        let gone = |of: &[usize]| of.iter().map(|at| (ANA, photos[*at])).collect::<HashSet<_>>();
        let before = Instant::now();
        album.hide_exactly(&gone(&[0, 1]), true, before);
        assert_eq!(seen().await, [false, false, true]);
        // Hidden and shown after it was looked.
        album.hide(ANA, photos[2]);
        album.show(ANA, photos[0]);
        album.hide_exactly(&gone(&[0, 1]), true, before);
        assert_eq!(seen().await, [true, false, false]);
        // What is not among some may still be among all.
        album.hide_exactly(&gone(&[]), false, Instant::now());
        album.known.send_replace(true);
        assert_eq!(seen().await, [true, false, false]);
        album.hide_exactly(&gone(&[0]), true, Instant::now());
        assert_eq!(seen().await, [false, true, true]);
    }
}
