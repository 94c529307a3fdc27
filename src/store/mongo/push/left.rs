//! What was stored and not looked through: the place of each node, and the log after it.
//!
//! A node has a document in `push_places`: everything that it stored up to there is acknowledged, or a task. One that is gone leaves it
//! behind, and another node claims it for a while, looks, and removes it.
//!
//! Who waits until a node is certain to be dead, with all that it has sent, waits for longer than a push may be late. So what a node has left
//! is looked through as soon as it is silent for a lease: from then on it begins nothing. If it is only slow that is done twice, and makes the
//! same tasks; its place stays until it is dead, because it may go on.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::{
    bson::{DateTime, Document, doc, oid::ObjectId},
    options::FindOptions,
};
use protocol::{ConversationId, MemberId, Timestamp};

use super::super::{
    Core,
    db::{Db, GRACE},
    document::{ConversationDoc, date, millis, signed, time, unsigned},
    fault::Fault,
    nodes,
    turns::PARALLEL,
};
use crate::{
    position::Position,
    store::push::{StoredPlace, Stretch, Unlooked},
};

/// Places that are looked at: those of nodes that are gone are removed one by one.
const PLACES: i64 = 1_000;

/// This node has come to a place.
pub(super) async fn reach(db: &Db, own: ObjectId, Position(place): Position) -> Result<(), Fault> {
    let places = db.collection::<Document>("push_places");
    places.update_one(doc! { "_id": own }, doc! { "$max": { "position": signed(place) } }).upsert(true).await?;
    Ok(())
}

/// Whether a node is there and not dead.
async fn lives(core: &Core, db: &Db, node: ObjectId) -> Result<bool, Fault> {
    let there = nodes::others(db, core.link.identity.node).await?;
    let is_there = there.iter().any(|other| other.get_object_id("_id").is_ok_and(|other| other == node));
    Ok(is_there && core.link.dead().iter().all(|dead| dead.id != node))
}

/// Claims what a node has left that is silent, dead or gone.
pub(super) async fn unlooked(
    core: &Core,
    db: &Db,
    now: Timestamp,
    until: Timestamp,
) -> Result<Option<Unlooked>, Fault> {
    let (own, Position(horizon)) = (core.link.identity.node, core.link.horizon.now().position);
    let free = doc! { "$or": [{ "until": null }, { "until": { "$lte": date(now) } }] };
    let options = FindOptions::builder().limit(PLACES).build();
    let mut places: Vec<Document> = db.all("push_places", free.clone(), options).await?;
    let all = places.len();
    places.retain(|place| place.get_object_id("_id").is_ok_and(|node| node != own));
    if places.len() == all {
        // What it stores from now on is after this.
        reach(db, own, Position(horizon)).await?;
    }
    if places.is_empty() {
        return Ok(None);
    }
    // After the places: whoever has one joined before, and is there unless it has gone since.
    let (there, dead, silent) = (nodes::others(db, own).await?, core.link.dead(), core.link.silent());
    let works = |node: ObjectId| {
        there.iter().any(|other| other.get_object_id("_id").is_ok_and(|other| other == node))
            && !dead.iter().any(|dead| dead.id == node)
            && !silent.contains(&node)
    };
    for node in places.iter().filter_map(|place| place.get_object_id("_id").ok()).filter(|node| !works(*node)) {
        let mut place = doc! { "_id": node };
        place.extend(free.clone());
        let claim = doc! { "$set": { "until": date(until) } };
        let claimed = db.collection::<Document>("push_places").find_one_and_update(place, claim).await?;
        if let Some(position) = claimed.and_then(|claimed| claimed.get_i64("position").ok()) {
            return Ok(Some(Unlooked { node: node.bytes(), after: Position(unsigned(position)) }));
        }
    }
    Ok(None)
}

/// What was claimed was looked through. A node that was only silent, or has come further meanwhile, was not gone, and keeps its place.
pub(super) async fn looked(core: &Core, db: &Db, Unlooked { node, after }: Unlooked) -> Result<(), Fault> {
    let (places, node) = (db.collection::<Document>("push_places"), ObjectId::from_bytes(node));
    if lives(core, db, node).await? {
        places.update_one(doc! { "_id": node }, doc! { "$unset": { "until": "" } }).await?;
    } else {
        places.delete_one(doc! { "_id": node, "position": signed(after.0) }).await?;
    }
    Ok(())
}

/// An entry, as far as it matters here.
struct Entry {
    conversation: ObjectId,
    seq: u64,
    sender: MemberId,
    at: Timestamp,
    /// When it was stored, about, by the clock of the database, in milliseconds.
    stamp: u64,
}

fn entry(document: &Document) -> Result<Entry, Fault> {
    let read = || {
        Some(Entry {
            conversation: document.get_object_id("conversation_id").ok()?,
            seq: unsigned(document.get_i64("seq").ok()?),
            sender: MemberId::from_bytes(document.get_object_id("sender_id").ok()?.bytes()),
            at: time(*document.get_datetime("created_at").ok()?),
            stamp: millis(*document.get_datetime("stamp").ok()?),
        })
    };
    read().ok_or_else(|| Fault::Data("a document of messages lacks a field".to_owned()))
}

/// What was stored in a conversation after one stamp and up to another one.
async fn entries_of(db: &Db, conversation: &ConversationDoc, (after, to): (u64, u64)) -> Result<Vec<Entry>, Fault> {
    let filter = doc! { "conversation_id": conversation.id };
    let fields = doc! { "conversation_id": 1, "seq": 1, "sender_id": 1, "created_at": 1, "stamp": 1 };
    let options = FindOptions::builder().sort(doc! { "seq": -1 }).projection(fields).build();
    let (mut entries, mut unreadable) = (Vec::new(), None);
    let take = |document: Document| match entry(&document) {
        Ok(entry) if entry.stamp <= after => false,
        Ok(entry) => {
            if entry.stamp <= to {
                entries.push(entry);
            }
            true
        }
        Err(fault) => {
            unreadable = Some(fault);
            false
        }
    };
    db.some("messages", filter, options, take).await?;
    unreadable.map_or(Ok(entries), Err)
}

/// What is found, no more than a part.
struct Found {
    entries: Vec<Entry>,
    /// If something was left out: everything up to this stamp is there.
    cut: Option<u64>,
}

impl Found {
    /// Leaves out the newest of what is more than `limit`, but nothing up to the stamp `least`; nor what is `most` or later: there is no part
    /// after that.
    fn cut(&mut self, limit: usize, least: u64, most: u64) {
        self.entries.sort_unstable_by_key(|entry| (entry.stamp, entry.conversation, entry.seq));
        if self.entries.len() <= limit {
            return;
        }
        let last = self.entries.get(limit.max(1) - 1).map_or(least, |last| last.stamp.max(least));
        if last < most {
            self.entries.retain(|entry| entry.stamp <= last);
            self.cut = Some(last);
        }
    }
}

/// What was stored between two positions, about `limit` entries, and some that are a little older or newer; and up to where that is.
///
/// The position of an entry is the stamp of its conversation when it was recorded, which nobody knows any more once there was another one.
/// Its own stamp is an estimate of what the clock showed before that: a window earlier at most, and later by what the beat took from which it
/// was estimated. So what comes after a position has own stamps later than the position less the window, and that is where a part begins. It
/// ends with an own stamp, and the next one goes on a window before that, in all conversations whose last stamp may be of an entry after it:
/// what has such a stamp and was not visible yet is in it. The last part has no end. A part is a window and more, so that it gets on.
pub(super) async fn stored(
    db: &Db,
    (Position(after), Position(until)): (Position, Position),
    window: u64,
    limit: usize,
) -> Result<(Vec<Stretch>, Position), Fault> {
    if after >= until {
        return Ok((Vec::new(), Position(until)));
    }
    let beat = u64::try_from((db.max_time + GRACE).as_millis()).unwrap_or(u64::MAX);
    let since = doc! { "$gt": DateTime::from_millis(signed(after.saturating_sub(beat))) };
    // Those with a new entry; others were only read.
    let changed = doc! { "changed": &since, "listed": since, "last_seq": { "$gt": 0_i64 } };
    let conversations: Vec<ConversationDoc> = db.all("conversations", changed, FindOptions::default()).await?;
    let mut found = Found { entries: Vec::new(), cut: None };
    for some in conversations.chunks(limit.max(1)) {
        let range = (after.saturating_sub(window), found.cut.unwrap_or(u64::MAX));
        let some: Vec<_> = some.iter().map(|conversation| entries_of(db, conversation, range)).collect();
        let mut some = stream::iter(some).buffered(PARALLEL);
        while let Some(entries) = some.try_next().await? {
            found.entries.extend(entries);
        }
        found.cut(limit, after.saturating_add(window), until);
    }
    let conversations = conversations.iter().map(|conversation| (conversation.id, conversation)).collect();
    Ok((stretches(found.entries, &conversations, window), Position(found.cut.unwrap_or(until))))
}

/// The positions at which the newest entries of conversations were recorded.
pub(super) async fn newest(db: &Db, of: &[ConversationId]) -> Result<Vec<(ConversationId, Position)>, Fault> {
    let ids: Vec<ObjectId> = of.iter().map(|id| ObjectId::from_bytes(*id.as_bytes())).collect();
    let fields = FindOptions::builder().projection(doc! { "listed": 1 }).build();
    let found: Vec<Document> = db.all("conversations", doc! { "_id": { "$in": ids } }, fields).await?;
    let newest = found.iter().filter_map(|found| {
        let id = ConversationId::from_bytes(found.get_object_id("_id").ok()?.bytes());
        Some((id, Position(millis(*found.get_datetime("listed").ok()?))))
    });
    Ok(newest.collect())
}

/// Puts together what is of one conversation, the one with the oldest entry first.
fn stretches(entries: Vec<Entry>, conversations: &HashMap<ObjectId, &ConversationDoc>, window: u64) -> Vec<Stretch> {
    let (mut stretches, mut places) = (Vec::<Stretch>::new(), HashMap::new());
    for Entry { conversation, seq, sender, at, stamp } in entries {
        // It was recorded a window after its own stamp at the latest, and not after the newest one.
        let listed = conversations.get(&conversation).and_then(|found| found.listed).map_or(u64::MAX, millis);
        let latest = Position(stamp.saturating_add(window).min(listed));
        let place = *places.entry(conversation).or_insert_with(|| {
            let participants = conversations.get(&conversation).map(|found| found.participants.iter());
            let members = participants.into_iter().flatten().map(|each| MemberId::from_bytes(each.member_id.bytes()));
            let (conversation, members) = (ConversationId::from_bytes(conversation.bytes()), members.collect());
            stretches.push(Stretch { conversation, members, entries: Vec::new() });
            stretches.len() - 1
        });
        if let Some(stretch) = stretches.get_mut(place) {
            stretch.entries.push(StoredPlace { seq, sender, at, latest });
        }
    }
    for stretch in &mut stretches {
        stretch.entries.sort_unstable_by_key(|entry| entry.seq);
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(stamps: &[u64]) -> Found {
        let entry = |stamp: &u64| Entry {
            conversation: ObjectId::from_bytes([1; 12]),
            seq: *stamp,
            sender: MemberId::from_bytes([1; 12]),
            at: Timestamp::from_millis(0),
            stamp: *stamp,
        };
        Found { entries: stamps.iter().map(entry).collect(), cut: None }
    }

    fn cut(stamps: &[u64], limit: usize, least: u64, most: u64) -> (Vec<u64>, Option<u64>) {
        let mut found = found(stamps);
        found.cut(limit, least, most);
        (found.entries.iter().map(|entry| entry.stamp).collect(), found.cut)
    }

    #[test]
    fn a_part_ends_with_whole_stamps_not_before_a_window_and_never_after_the_end() {
        assert_eq!(cut(&[5, 3, 4], 3, 0, 100), (vec![3, 4, 5], None));
        assert_eq!(cut(&[5, 3, 4, 4, 9], 2, 0, 100), (vec![3, 4, 4], Some(4)));
        assert_eq!(cut(&[5, 3, 4, 4, 9], 2, 6, 100), (vec![3, 4, 4, 5], Some(6)));
        assert_eq!(cut(&[5, 3, 4, 4, 9], 2, 6, 6), (vec![3, 4, 4, 5, 9], None));
    }
}
