//! Moving everything from one store to another.
//!
//! The rows of each part are copied in the order of their keys. What has arrived says where an interrupted copy goes on.
//! At the end both stores are read through once more: the same number of rows, and the same checksum of their contents.

use sha2::{Digest as _, Sha256};

use crate::store::{
    Archive, Store, StoreError,
    archive::{Key, Part},
};

/// Rows that are read and written at a time.
const PAGE: usize = 500;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Rows of a part are being copied.
    Copying(Part),
    /// Rows of a part are being compared.
    Verifying(Part),
}

/// What one part came to.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The part.
    pub part: Part,
    /// How many rows both stores have.
    pub rows: u64,
    /// The SHA-256 of their contents in both stores, in hex.
    pub checksum: String,
}

/// Why a copy ended.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A store failed. Run it again: it goes on where it was.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The target is in use.
    #[error("the target has data of its own; a copy needs an empty store, or one of its own that was interrupted")]
    NotEmpty,
    /// Both are the same store.
    #[error("the source and the target are the same store")]
    Same,
    /// The stores differ at the end.
    #[error("the stores differ in {}: {source_rows} rows there, {target_rows} here; was one of them in use?", .part.name())]
    Differs {
        /// Where.
        part: Part,
        /// How many rows the source has.
        source_rows: u64,
        /// How many rows the target has.
        target_rows: u64,
    },
}

/// Copies everything, and verifies it. `progress` hears of a step, how many of its rows are done, and how many it has.
///
/// # Errors
/// A store, a target that is in use, or a difference at the end.
pub async fn copy(
    from: &Store,
    to: &Store,
    mut progress: impl FnMut(Step, u64, u64) + Send,
) -> Result<Vec<Verified>, TransferError> {
    // Reached first, so that they know who they are.
    from.backend.check().await?;
    to.backend.check().await?;
    let source = from.backend.store_id();
    if source == to.backend.store_id() {
        return Err(TransferError::Same);
    }
    to.archive.begin_copy(source).await?.ok_or(TransferError::NotEmpty)?;
    for &part in Part::ALL {
        let total = from.archive.count(part).await?;
        let mut done = to.archive.count(part).await?;
        let mut after = to.archive.last_key(part).await?;
        progress(Step::Copying(part), done, total);
        loop {
            let rows = from.archive.rows(part, after.take(), PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.key());
            done += u64::try_from(rows.len()).unwrap_or(0);
            to.archive.insert_rows(rows).await?;
            progress(Step::Copying(part), done, total);
        }
    }
    let mut verified = Vec::with_capacity(Part::ALL.len());
    for &part in Part::ALL {
        let total = from.archive.count(part).await?;
        let mut seen = |done| progress(Step::Verifying(part), done, total * 2);
        let (source_rows, checksum) = checksum(&*from.archive, part, 0, &mut seen).await?;
        let (target_rows, of_target) = self::checksum(&*to.archive, part, source_rows, &mut seen).await?;
        if (source_rows, &checksum) != (target_rows, &of_target) {
            return Err(TransferError::Differs { part, source_rows, target_rows });
        }
        verified.push(Verified { part, rows: source_rows, checksum });
    }
    to.archive.finish_copy().await?;
    Ok(verified)
}

/// The number of rows of a part and the checksum of their contents.
async fn checksum(
    archive: &dyn Archive,
    part: Part,
    before: u64,
    seen: &mut (dyn FnMut(u64) + Send),
) -> Result<(u64, String), StoreError> {
    let (mut hash, mut rows, mut after) = (Sha256::new(), 0, None::<Key>);
    loop {
        let page = archive.rows(part, after.take(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key());
        for row in &page {
            hash.update(row.content().to_string());
            hash.update(b"\n");
        }
        rows += u64::try_from(page.len()).unwrap_or(0);
        seen(before + rows);
    }
    let hex = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((rows, hex))
}
