//! A database, and the calls that everything in the store is made of: with their deadlines and concerns.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use mongodb::{
    Database,
    bson::{Document, doc},
    options::{FindOneOptions, FindOptions},
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{StoreError, fault::Fault};

/// How much longer than a command may take its answer is waited for.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// Documents that are fetched together where it is known only afterwards how many are needed.
const BATCH: u32 = 20;

/// A database, and how long its commands may take.
#[derive(Clone)]
pub(super) struct Db {
    pub(super) database: Database,
    pub(super) max_time: Duration,
}

impl Db {
    /// A collection. Reads are of the primary and see what a majority has; writes wait for a majority and its journals.
    pub(super) fn collection<T: Send + Sync>(&self, name: &str) -> mongodb::Collection<T> {
        self.database.collection(name)
    }

    /// The first document that matches.
    pub(super) async fn one<T>(
        &self,
        name: &str,
        filter: Document,
        mut options: FindOneOptions,
    ) -> Result<Option<T>, Fault>
    where
        T: DeserializeOwned + Send + Sync,
    {
        options.max_time = Some(self.max_time);
        Ok(self.collection::<T>(name).find_one(filter).with_options(options).await?)
    }

    /// All documents that match.
    pub(super) async fn all<T>(&self, name: &str, filter: Document, mut options: FindOptions) -> Result<Vec<T>, Fault>
    where
        T: DeserializeOwned + Send + Sync,
    {
        options.max_time = Some(self.max_time);
        Ok(self.collection::<T>(name).find(filter).with_options(options).await?.try_collect().await?)
    }

    /// Documents that match, in batches, until `take` has had enough: of large ones no more are fetched than are needed.
    pub(super) async fn some<T>(
        &self,
        name: &str,
        filter: Document,
        mut options: FindOptions,
        mut take: impl FnMut(T) -> bool,
    ) -> Result<(), Fault>
    where
        T: DeserializeOwned + Send + Sync + Unpin,
    {
        (options.max_time, options.batch_size) = (Some(self.max_time), Some(BATCH));
        let mut found = self.collection::<T>(name).find(filter).with_options(options).await?;
        while let Some(document) = found.try_next().await? {
            if !take(document) {
                break;
            }
        }
        Ok(())
    }

    /// Waits for a call, for a little longer than one may take: the driver knows better why it failed. It goes on in a task of its own, also after that: the driver would
    /// throw the connection of one away that is dropped.
    pub(super) async fn within<T, F>(&self, call: impl FnOnce(Self) -> F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        match timeout(self.max_time + GRACE, tokio::spawn(call(self.clone()))).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StoreError::Inconsistent("a call panicked".to_owned()).into()),
            Err(_) => Err(StoreError::Timeout.into()),
        }
    }

    /// The write concern of bulk commands, and their time limit.
    pub(super) fn bounded(&self, mut command: Document) -> Document {
        let millis = i64::try_from(self.max_time.as_millis()).unwrap_or(i64::MAX);
        command.insert("maxTimeMS", millis);
        command.insert("writeConcern", doc! { "w": "majority", "j": true, "wtimeout": millis });
        command
    }
}
