//! What a node that died may have left half done, done by another.
//!
//! A message is inserted before its conversation is stamped, and a watermark moves before the status in the messages
//! does. A node that dies in between has acknowledged neither; but a sync would not bring the message until something
//! else happens in that conversation, and an outside reader would see an old status. The node's document in `nodes`
//! stays behind; whoever finds that it is dead ([`super::nodes`]) goes through what was written around its last beat, which
//! costs nothing while nobody dies. Then the node is *out*: it takes its generation away, and holds nobody's cursor back any more.
//!
//! The conversations are not stamped here: they go down their lanes like everything else that happens in them
//! ([`crate::store::conversations::Command::Refresh`]), so that those who are connected are told in the order of `seq`.
//!
//! A node that starts looks at all others once, however young their documents are: it may have taken the place of one that
//! died a moment ago. With one that is alive that changes nothing, and so it is with one that is taken for dead.
//!
//! All of it stops where another epoch begins, in which what was read may be gone, and where this node is out itself: it is done anew then.
//!
//! What this node has abandoned itself ([`super::unsettled`]) is found in the same way, and what a dead node has left is looked for once
//! more when all that it had sent must have ended.

use std::{collections::HashMap, time::Duration};

use futures_util::TryStreamExt as _;
use mongodb::{
    bson::{DateTime, Document, doc, oid::ObjectId},
    options::{FindOneOptions, FindOptions},
};
use protocol::{ConversationId, Timestamp};
use tokio::time::Instant;

use super::{
    Core, StoreError,
    db::Db,
    document::{ReceiptDoc, among, date, time},
    fault::Fault,
    nodes::{self, Dead},
    receipts, unavailable,
};
use crate::{
    ids,
    position::Epoch,
    store::conversations::{Left, Unfinished},
};

/// How long before a node's last beat, or the oldest batch of which that tells, its unfinished work may have begun: what its clock may be
/// off by, and batches that began and ended within a beat.
const BEFORE: Duration = Duration::from_secs(30);
/// How long the document of a node that is out is kept.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// Statuses that are corrected with one command.
const UPDATES: usize = 50;
/// Conversations that are looked at with one query.
const CONVERSATIONS: usize = 500;

/// Whose work may be half done.
pub(super) struct Whose {
    /// This node.
    pub(super) own: ObjectId,
    /// When it was known what was abandoned: what is abandoned later is not looked for.
    pub(super) looked: Instant,
    /// Since when something was abandoned, by this node or by one that is gone.
    pub(super) abandoned: Option<Timestamp>,
    /// Nodes that are dead.
    pub(super) dead: Vec<Dead>,
    /// All others as well.
    pub(super) all: bool,
}

/// Looks for what was left. Statuses are corrected of what this node has left, and of those that are dead.
pub(super) async fn unfinished(core: &Core, db: &Db, whose: Whose) -> Result<Unfinished, Fault> {
    let Whose { own, looked, abandoned, dead, all } = whose;
    let epoch = core.link.horizon.now().epoch;
    let work = Work { core, db, epoch };
    let mut unfinished = Unfinished { epoch: Some(epoch), ..Unfinished::default() };
    let mut since: Option<ObjectId> = None;
    let mut look_from = |at: DateTime| {
        let began = object_id_at(earlier(at, BEFORE));
        since = Some(since.map_or(began, |since| since.min(began)));
        began
    };
    if all {
        let others = nodes::others(db, own).await?;
        for other in &others {
            nodes::unsettled_since(other).map(&mut look_from);
        }
    }
    unfinished.looked = Some(looked);
    if let Some(abandoned) = abandoned {
        correct_statuses(&work, own, look_from(date(abandoned))).await?;
    }
    for Dead { id, at, since, settled } in dead {
        correct_statuses(&work, id, look_from(since)).await?;
        unfinished.nodes.push(Left { id: id.bytes(), at: at.timestamp_millis(), since: time(since), settled });
    }
    if let Some(since) = since {
        unfinished.conversations = conversations_behind(db, since).await?;
    }
    Ok(unfinished)
}

/// Whether what was looked for in an epoch can be finished: in another one what was done may be gone, and is to be done again.
pub(super) fn check_epoch(core: &Core, epoch: Option<Epoch>) -> Result<(), StoreError> {
    if epoch.is_some_and(|epoch| epoch != core.link.horizon.now().epoch) {
        return Err(unavailable("another epoch has begun meanwhile"));
    }
    Ok(())
}

/// What is done in one epoch.
struct Work<'a> {
    core: &'a Core,
    db: &'a Db,
    epoch: Epoch,
}

impl Work<'_> {
    /// Before each step that writes: whether this node may write, and what it has read is as it was.
    async fn check(&self) -> Result<(), Fault> {
        self.core.link.db().await?;
        Ok(check_epoch(self.core, Some(self.epoch))?)
    }
}

/// Nodes whose work is finished are out, unless they have shown themselves again.
pub(super) async fn finished(db: &Db, unfinished: &Unfinished) -> Result<(), Fault> {
    let nodes = db.collection::<Document>("nodes");
    for Left { id, at, .. } in &unfinished.nodes {
        let node = doc! { "_id": ObjectId::from_bytes(*id), "at": DateTime::from_millis(*at) };
        let out = doc! { "$set": { "out": true }, "$unset": { "generation": "" } };
        nodes.update_one(node, out).await?;
        let long_ago = earlier(DateTime::from_millis(*at), KEPT);
        nodes.delete_many(doc! { "at": { "$lt": long_ago }, "out": true }).await?;
    }
    Ok(())
}

/// The conversations that are behind their logs, of those with a message since.
async fn conversations_behind(db: &Db, since: ObjectId) -> Result<Vec<ConversationId>, Fault> {
    let mut newest: HashMap<ObjectId, i64> = HashMap::new();
    let messages = db.collection::<Document>("messages");
    let fields = doc! { "conversation_id": 1, "seq": 1 };
    let mut found = messages.find(doc! { "_id": { "$gte": since } }).projection(fields).await?;
    while let Some(message) = found.try_next().await? {
        if let (Ok(conversation), Ok(seq)) = (message.get_object_id("conversation_id"), message.get_i64("seq")) {
            newest.entry(conversation).and_modify(|known| *known = seq.max(*known)).or_insert(seq);
        }
    }
    let mut behind = Vec::new();
    let ids: Vec<ObjectId> = newest.keys().copied().collect();
    for some in ids.chunks(CONVERSATIONS) {
        let fields = FindOptions::builder().projection(doc! { "last_seq": 1 }).build();
        let known: Vec<Document> = db.all("conversations", among(some.iter().copied()), fields).await?;
        behind.extend(known.into_iter().filter_map(|known| {
            let (id, last_seq) = (known.get_object_id("_id").ok()?, known.get_i64("last_seq").ok()?);
            let is_behind = newest.get(&id).is_some_and(|newest| *newest > last_seq);
            is_behind.then(|| ConversationId::from_bytes(id.bytes()))
        }));
    }
    Ok(behind)
}

/// Brings the statuses in messages up to the watermarks that a node has moved.
async fn correct_statuses(work: &Work<'_>, node: ObjectId, since: ObjectId) -> Result<(), Fault> {
    let process = |id: ObjectId| ids::process_of(id.bytes());
    let receipts = work.db.collection::<ReceiptDoc>("receipts");
    let mut moved = receipts.find(doc! { "_id": { "$gte": since } }).await?;
    let mut rows = Vec::new();
    while let Some(row) = moved.try_next().await? {
        if process(row.id) == process(node) {
            rows.push(row);
        }
    }
    let of = |row: &ReceiptDoc| (row.conversation_id, row.member_id, row.kind);
    rows.sort_unstable_by_key(|row| (of(row), row.seq));
    for moves in rows.chunk_by(|one, next| of(one) == of(next)) {
        correct_moves(work, moves).await?;
    }
    Ok(())
}

/// The same for the moves of one watermark, ascending. Nearly always there is nothing to correct.
async fn correct_moves(work: &Work<'_>, moves: &[ReceiptDoc]) -> Result<(), Fault> {
    let db = work.db;
    let (Some(first), Some(last)) = (moves.first(), moves.last()) else { return Ok(()) };
    let mut before = watermark_before(db, first).await?;
    let field = if first.kind == receipts::READ { "read_at" } else { "delivered_at" };
    let behind = doc! {
        "conversation_id": first.conversation_id,
        "seq": { "$gt": before, "$lte": last.seq },
        "receiver_id": first.member_id,
        field: { "$eq": null },
    };
    let oldest = FindOneOptions::builder().sort(doc! { "seq": 1 }).projection(doc! { "seq": 1 }).build();
    let behind: Option<Document> = db.one("messages", behind, oldest).await?;
    let Some(behind) = behind.and_then(|behind| behind.get_i64("seq").ok()) else { return Ok(()) };
    let mut updates = Vec::new();
    for row in moves {
        if row.seq >= behind {
            let range = (before, row.seq);
            updates.push(receipts::status_update(row.conversation_id, row.member_id, row.kind, range, row.at));
        }
        before = row.seq;
    }
    // A few at a time, so that each command ends in time.
    while !updates.is_empty() {
        let rest = updates.split_off(updates.len().min(UPDATES));
        work.check().await?;
        receipts::run_updates(db, "messages", std::mem::replace(&mut updates, rest)).await?;
    }
    Ok(())
}

/// Where a watermark was before it was moved to a place.
async fn watermark_before(db: &Db, row: &ReceiptDoc) -> Result<i64, Fault> {
    let before = doc! {
        "conversation_id": row.conversation_id,
        "member_id": row.member_id,
        "kind": row.kind,
        "seq": { "$lt": row.seq },
    };
    let newest = FindOneOptions::builder().sort(doc! { "seq": -1 }).build();
    Ok(db.one::<ReceiptDoc>("receipts", before, newest).await?.map_or(0, |row| row.seq))
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
