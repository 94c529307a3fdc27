//! The files of photos: in a folder, or in an S3 bucket.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::PathBuf, sync::Arc, time::Duration};

use axum::body::Bytes;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig, aws::AmazonS3Builder,
    local::LocalFileSystem, path::Path,
};
use protocol::{ErrorCode, PhotoName};
use secrecy::ExposeSecret as _;

use crate::{
    config::{
        InvalidSetting,
        settings::{Bucket, PhotoSettings},
    },
    failure::Failure,
    telemetry::Quiet,
    tls,
};

/// The folder of photos in a bucket, which may hold other things beside them.
const BUCKET_FOLDER: &str = "photos";
/// A file larger than this is none that we wrote, in bytes.
const FILE_MAX_BYTES: u64 = 2 * 1024 * 1024;
/// How often a call of S3 is tried again, within the time it may take.
const RETRIES: usize = 2;

/// Why a file could not be read or written. The reason is the operator's, and is logged where it arises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the photos cannot be read or written at the moment")]
pub struct StorageError;

impl From<StorageError> for Failure {
    fn from(StorageError: StorageError) -> Self {
        Self::of(ErrorCode::Unavailable).retry_after(Duration::from_secs(5))
    }
}

/// The files.
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    /// The folder on a disk, if they are in one.
    root: Option<PathBuf>,
    timeout: Duration,
    place: String,
    /// Bounds the log lines about calls that failed: anybody can ask for photos.
    quiet: Arc<Quiet>,
}

impl Objects {
    /// Opens the place where they are; a folder is made when it is missing. `timeout`: for each call.
    ///
    /// # Errors
    /// When a setting does not fit or the folder cannot be made. A bucket is not asked for anything yet.
    pub fn open(settings: &PhotoSettings, timeout: Duration, quiet: Arc<Quiet>) -> Result<Self, InvalidSetting> {
        if let Some(bucket) = settings.bucket() {
            let place = format!("s3://{}/{BUCKET_FOLDER}", bucket.name);
            let store = s3(&bucket, timeout)
                .map_err(|error| InvalidSetting { setting: "AWS_S3_BUCKET", problem: error.to_string() })?;
            return Ok(Self {
                store: Arc::new(store),
                folder: Path::from(BUCKET_FOLDER),
                root: None,
                timeout,
                place,
                quiet,
            });
        }
        let folder = &settings.photo_dir;
        let place = folder.display().to_string();
        let problem = |problem: String| InvalidSetting { setting: "PHOTO_DIR", problem: format!("{place}: {problem}") };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| problem(error.to_string()))?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| problem(error.to_string()))?;
        let (store, root) = (Arc::new(store.with_fsync(true)), Some(folder.clone()));
        Ok(Self { store, folder: Path::default(), root, timeout, place, quiet })
    }

    /// Where they are, for people. No credentials.
    #[must_use]
    pub fn describe(&self) -> String {
        self.place.clone()
    }

    /// Stores a file, durably.
    ///
    /// # Errors
    /// When it could not be stored, or not in time.
    pub async fn put(&self, name: PhotoName, content: Bytes) -> Result<(), StorageError> {
        let (path, payload) = (self.path(name), PutPayload::from_bytes(content));
        let write = async {
            // Or it would be made anew, and what is in it hidden, while it is away.
            self.check_root().await?;
            self.store.put(&path, payload).await
        };
        self.call("written", write).await.map(|_| ())
    }

    /// Reads a file, if there is one.
    ///
    /// # Errors
    /// When it could not be read, or not in time.
    pub async fn get(&self, name: PhotoName) -> Result<Option<Bytes>, StorageError> {
        let path = self.path(name);
        let read = async {
            let found = self.store.get(&path).await?;
            if found.meta.size > FILE_MAX_BYTES {
                return Err(foreign(&path));
            }
            found.bytes().await
        };
        self.call("read", read).await
    }

    /// Whether there is a file.
    ///
    /// # Errors
    /// When that could not be found out, or not in time.
    pub async fn exists(&self, name: PhotoName) -> Result<bool, StorageError> {
        let found = self.call("looked up", self.store.head(&self.path(name))).await?;
        Ok(found.is_some())
    }

    /// Deletes a file, if there is one.
    ///
    /// # Errors
    /// When it could not be deleted, or not in time.
    pub async fn delete(&self, name: PhotoName) -> Result<(), StorageError> {
        self.call("deleted", self.store.delete(&self.path(name))).await.map(|_| ())
    }

    fn path(&self, name: PhotoName) -> Path {
        self.folder.clone().join(name.to_string())
    }

    /// A folder that is away is no folder without files.
    async fn check_root(&self) -> object_store::Result<()> {
        let Some(root) = &self.root else { return Ok(()) };
        let away = |source| object_store::Error::Generic { store: "photos", source };
        let found = tokio::fs::metadata(root).await.map_err(|error| away(error.into()))?;
        if found.is_dir() { Ok(()) } else { Err(away("the folder of photos is none".into())) }
    }

    /// Does something in time. `None`: there is no such file.
    async fn call<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<Option<T>, StorageError> {
        let call = async {
            match call.await {
                Err(missing @ object_store::Error::NotFound { .. }) => self.check_root().await.and(Err(missing)),
                done => done,
            }
        };
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(object_store::Error::NotFound { .. })) => Ok(None),
            Ok(Err(error)) => {
                if self.quiet.allows() {
                    tracing::warn!(place = self.place, %error, "a photo could not be {what}");
                }
                Err(StorageError)
            }
            Err(_) => {
                if self.quiet.allows() {
                    tracing::warn!(place = self.place, "a photo was not {what} in time");
                }
                Err(StorageError)
            }
        }
    }
}

fn s3(bucket: &Bucket<'_>, timeout: Duration) -> object_store::Result<impl ObjectStore> {
    tls::install();
    let client = ClientOptions::new()
        .with_timeout(timeout)
        .with_connect_timeout(timeout)
        .with_default_content_type("image/jpeg");
    let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES, retry_timeout: timeout };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket.name)
        .with_region(bucket.region)
        // One request for each object: not every service that speaks S3 has the call for many.
        .with_disable_bulk_delete(true)
        .with_client_options(client)
        .with_retry(retry);
    if let Some((id, secret)) = bucket.keys {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose_secret());
    }
    if let Some(endpoint) = bucket.endpoint {
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    builder.build()
}

fn foreign(path: &Path) -> object_store::Error {
    object_store::Error::Generic { store: "photos", source: format!("{path} is too large to be one of ours").into() }
}
