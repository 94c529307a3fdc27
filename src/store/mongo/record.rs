//! The epochs of a database as its nodes share them: one document of `meta`, written with every beat.
//!
//! It has the current epoch, what cursors of it were made from so far (`beat`, milliseconds), and the former epochs with
//! their ends. Whoever begins an epoch replaces the one that it knows; of two, one comes first, and the other goes on in
//! that one's.

use mongodb::{
    bson::{Bson, Document, doc},
    options::FindOneOptions,
};

use super::{
    db::Db,
    document::{binary, bytes_of, signed, unsigned},
    fault::{Fault, is_duplicate},
};
use crate::{
    position::{Epoch, Position},
    store::epochs::{Epochs, Former},
};

/// The `_id` of the document.
const ID: &str = "epochs";

/// What is recorded.
pub(super) struct Recorded {
    pub(super) epochs: Epochs,
    /// What cursors of the current epoch were made from, at the latest.
    pub(super) beat: u64,
}

/// Reads the record; the first node to come makes it, with the epoch that it has drawn.
pub(super) async fn read(db: &Db, drawn: Epoch) -> Result<Recorded, Fault> {
    let meta = db.collection::<Document>("meta");
    let first = doc! { "$setOnInsert": { "epoch": binary(&drawn.0), "beat": 0_i64, "former": [] } };
    let made = meta.find_one_and_update(doc! { "_id": ID }, first).upsert(true).max_time(db.max_time).await;
    match made {
        // Another node was first by a hair.
        Err(error) if !is_duplicate(&error) => return Err(error.into()),
        _ => {}
    }
    let found = db.one("meta", doc! { "_id": ID }, FindOneOptions::default()).await?;
    let found: Document = found.ok_or_else(|| Fault::Data("meta has no epochs".to_owned()))?;
    let current = epoch(&found)?;
    let former = found.get_array("former").map(Vec::as_slice).unwrap_or_default();
    let former = former.iter().filter_map(Bson::as_document).map(|former| {
        let end = former.get_i64("end").map_err(|error| Fault::Data(error.to_string()))?;
        Ok(Former { epoch: epoch(former)?, end: Position(unsigned(end)) })
    });
    let epochs = Epochs::new(current, former.collect::<Result<_, Fault>>()?);
    Ok(Recorded { epochs, beat: beat_of(&found) })
}

/// Records what cursors are going to be made from, before they are. False if it was not recorded: the epoch is another one by now, or
/// less is recorded than `least`, so that the database went back. Such a record is left as it is: it is what tells that.
pub(super) async fn advance(db: &Db, epoch: Epoch, beat: u64, least: u64) -> Result<bool, Fault> {
    let meta = db.collection::<Document>("meta");
    let current = doc! { "_id": ID, "epoch": binary(&epoch.0), "beat": { "$gte": signed(least) } };
    let advance = doc! { "$max": { "beat": signed(beat) } };
    let advanced = meta.find_one_and_update(current, advance).max_time(db.max_time).await?;
    Ok(advanced.is_some())
}

/// Puts other epochs in the place of those whose current one is `known`. False if another node was first. `judged`: only if this is what
/// is recorded still, because that is why they are to end.
pub(super) async fn replace(
    db: &Db,
    known: Epoch,
    judged: Option<u64>,
    epochs: &Epochs,
    beat: u64,
) -> Result<bool, Fault> {
    let former = epochs.former().iter();
    let former: Vec<Document> =
        former.map(|former| doc! { "epoch": binary(&former.epoch.0), "end": signed(former.end.0) }).collect();
    let replace = doc! { "$set": { "epoch": binary(&epochs.current().0), "beat": signed(beat), "former": former } };
    let meta = db.collection::<Document>("meta");
    let mut current = doc! { "_id": ID, "epoch": binary(&known.0) };
    if let Some(judged) = judged {
        current.insert("beat", signed(judged));
    }
    let replaced = meta.find_one_and_update(current, replace).max_time(db.max_time).await?;
    Ok(replaced.is_some())
}

fn epoch(document: &Document) -> Result<Epoch, Fault> {
    bytes_of(document, "epoch").map(Epoch).ok_or_else(|| Fault::Data("an epoch has not 8 bytes".to_owned()))
}

fn beat_of(document: &Document) -> u64 {
    document.get_i64("beat").map_or(0, unsigned)
}
