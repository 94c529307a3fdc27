//! What a node that died may have left half done, done by another.
//!
//! A message is inserted before its conversation is stamped, and a watermark moves before the status in the messages
//! does. A node that dies in between has acknowledged neither; but a sync would not bring the message until something
//! else happens in that conversation, and an outside reader would see an old status. The node's document in `nodes`
//! stays behind; whoever finds it, when it is old enough, goes through what was written around that time, which costs
//! nothing while nobody dies.

use std::{collections::HashMap, time::Duration};

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, Document, doc, oid::ObjectId};

use super::{
    document::{Fault, ReceiptDoc, store_error},
    link::Db,
    receipts,
};
use crate::store::StoreError;

/// How old the beat of a node is that is dead. Far more than a command may take.
const DEAD: Duration = Duration::from_secs(60);
/// How long before its last beat a node's unfinished work may have begun, and what its clock may be off by.
const BEFORE: Duration = Duration::from_secs(120);

/// Finishes what dead nodes have left.
pub(super) async fn look_after_the_dead(db: &Db, own: ObjectId) -> Result<(), StoreError> {
    finish_all(db, own, DEAD).await.map_err(StoreError::from)
}

/// The same with another idea of how long a node is silent before it counts as dead.
pub(super) async fn finish_all(db: &Db, own: ObjectId, dead: Duration) -> Result<(), Fault> {
    let nodes = db.collection::<Document>("nodes");
    let Some(ours) = nodes.find_one(doc! { "_id": own }).max_time(db.max_time).await? else { return Ok(()) };
    let now = *ours.get_datetime("at").map_err(|error| Fault::Data(error.to_string()))?;
    let filter = doc! { "at": { "$lt": earlier(now, dead) } };
    let found: Vec<Document> = nodes.find(filter).max_time(db.max_time).await?.try_collect().await?;
    for node in found {
        let (Ok(id), Ok(at)) = (node.get_object_id("_id"), node.get_datetime("at")) else { continue };
        tracing::warn!(node = %id, "finishing what a node that is gone may have left");
        let since = object_id_at(earlier(*at, BEFORE));
        stamp_conversations(db, since).await?;
        correct_statuses(db, since).await?;
        if let Err(error) = nodes.delete_one(doc! { "_id": id, "at": at }).await {
            // It is done again by the next who finds it.
            tracing::debug!(error = %store_error(&error), "the node stays on the list");
        }
    }
    Ok(())
}

/// Stamps the conversations that are behind their logs.
async fn stamp_conversations(db: &Db, since: ObjectId) -> Result<(), Fault> {
    let mut newest: HashMap<ObjectId, (i64, DateTime)> = HashMap::new();
    let fields = doc! { "conversation_id": 1, "seq": 1, "created_at": 1 };
    let messages = db.collection::<Document>("messages");
    let mut found = messages.find(doc! { "_id": { "$gte": since } }).projection(fields).await?;
    while let Some(message) = found.try_next().await? {
        let (Ok(conversation), Ok(seq), Ok(at)) =
            (message.get_object_id("conversation_id"), message.get_i64("seq"), message.get_datetime("created_at"))
        else {
            continue;
        };
        let known = newest.entry(conversation).or_insert((seq, *at));
        if seq > known.0 {
            *known = (seq, *at);
        }
    }
    for (conversation, (seq, at)) in newest {
        let behind = doc! { "_id": conversation, "last_seq": { "$lt": seq } };
        let stamp = doc! {
            "$max": { "last_seq": seq, "last_at": at },
            "$currentDate": { "changed": true, "listed": true },
        };
        db.collection::<Document>("conversations").update_one(behind, stamp).await?;
    }
    Ok(())
}

/// Brings the statuses in messages up to the watermarks.
async fn correct_statuses(db: &Db, since: ObjectId) -> Result<(), Fault> {
    let rows = db.collection::<ReceiptDoc>("receipts");
    let mut found = rows.find(doc! { "_id": { "$gte": since } }).await?;
    while let Some(row) = found.try_next().await? {
        let before = doc! {
            "conversation_id": row.conversation_id,
            "member_id": row.member_id,
            "kind": row.kind,
            "seq": { "$lt": row.seq },
        };
        let before = rows.find_one(before).sort(doc! { "seq": -1 }).await?.map_or(0, |row| row.seq);
        let update = receipts::status_update(row.conversation_id, row.member_id, row.kind, (before, row.seq), row.at);
        receipts::run_updates(db, "messages", vec![update]).await?;
    }
    Ok(())
}

fn earlier(at: DateTime, by: Duration) -> DateTime {
    DateTime::from_millis(at.timestamp_millis().saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
}

/// The smallest id that can have been made at a time.
fn object_id_at(at: DateTime) -> ObjectId {
    let seconds = u32::try_from(at.timestamp_millis() / 1000).unwrap_or(0);
    let mut bytes = [0; 12];
    let (time, _) = bytes.split_at_mut(4);
    time.copy_from_slice(&seconds.to_be_bytes());
    ObjectId::from_bytes(bytes)
}
