//! What is done with stores from the command line.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    StartError, World,
    foundation::{self, Pieces},
    start_error,
};
use crate::{
    config::{Settings, values::DatabaseUrl},
    ids::Ids,
    service::transfer::{self, Step, Verified},
    store::{Store, mongo, sqlite},
    supervisor::Supervisor,
    telemetry::Metrics,
};

/// What the schema of the configured store lacks; brings it up to date unless that is only to be told.
///
/// # Errors
/// When the store cannot be reached, or is from a newer version.
pub async fn migrate(settings: &Settings, check_only: bool) -> Result<Vec<String>, StartError> {
    settings.validate().map_err(start_error)?;
    let timeout = settings.store.store_timeout;
    let missing = match settings.store.database().map_err(start_error)? {
        DatabaseUrl::Sqlite(path) => sqlite::migrate(&path, check_only),
        DatabaseUrl::Mongo(uri) => mongo::migrate(&uri, timeout, check_only).await,
    };
    missing.map_err(|error| start_error(format!("DATABASE_URL: {error}")))
}

/// Copies everything from one store to another, and verifies it.
///
/// # Errors
/// A URL that is none, a store that cannot be opened, a target that is in use, or a difference at the end.
pub async fn copy(
    settings: &Settings,
    from: &str,
    to: &str,
    progress: impl FnMut(Step, u64, u64) + Send,
) -> Result<Vec<Verified>, StartError> {
    let source = open(settings, "--from", from).await?;
    let target = open(settings, "--to", to).await?;
    let copied = transfer::copy(&source, &target, progress).await;
    source.backend.close().await;
    target.backend.close().await;
    copied.map_err(start_error)
}

/// Opens a store for itself alone.
async fn open(settings: &Settings, flag: &str, url: &str) -> Result<Store, StartError> {
    let named = |problem: String| start_error(format!("{flag}: {problem}"));
    let url: DatabaseUrl = url.parse().map_err(named)?;
    let world = World::default();
    let ids = Arc::new(Ids::new(Arc::clone(&world.clock), Arc::clone(&world.entropy)));
    let metrics = Arc::new(Metrics::new());
    let supervisor = Supervisor::new(Arc::clone(&metrics), CancellationToken::new());
    let pieces = Pieces { world: &world, ids: &ids, metrics: &metrics, supervisor: &supervisor };
    let opened = foundation::open(url, settings, &pieces, true).map_err(|error| named(error.to_string()))?;
    opened.backend.opened().await.map_err(|error| named(error.to_string()))?;
    Ok(opened)
}
