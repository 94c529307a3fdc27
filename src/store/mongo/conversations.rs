//! Reading conversations, history, receipts and changes.
//!
//! An answer is consistent without a transaction: the documents of the conversations are read first, and everything
//! after them is bounded by what they say. A log has no holes, so "the newest n entries" is a range of `seq`, which
//! one look into one index finds.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::{
    bson::{DateTime, Document, doc},
    options::{FindOneOptions, FindOptions},
};
use protocol::{
    ConversationId, MemberId, MessageId, limits,
    model::{ConversationSettings, Watermarks},
};
use tokio::time::Instant;

use super::{
    Core, Mongo,
    db::Db,
    document::{ConversationDoc, MessageDoc, among, conversation_oid, member_oid, millis, signed, time, unsigned},
    fault::Fault,
    history::{self, Direction},
    link::Link,
    list::list,
    log,
    nodes::Dead,
    recovery::{self, Whose},
    settings,
    turns::PARALLEL,
    unread::{self, Counts},
};
use crate::{
    position::{Position, StreamPosition},
    store::{
        ConversationLog, ConversationStore, Recovery, StoreError,
        conversations::{
            Applied, Command, ConversationCounts, ConversationPage, ConversationState, HistoryPage, Left, Membership,
            Range, ReceiptRange, ReceiptTimes, Unfinished, UnreadCount,
        },
        entries::StoredEntry,
        lists::ListFilter,
        pages::Part,
        sync::{Delta, SyncPart},
        turns::{Caller, Turn},
    },
};

/// Bits of a conversation's id that are part of its position in the list, so that no two are at the same place.
const ID_BITS: u32 = 20;

/// The place of a conversation in the list: when its newest entry was recorded, and the beginning of its id.
pub(super) fn place_of(conversation: &ConversationDoc) -> u64 {
    let [a, b, c, ..] = conversation.id.bytes();
    let beginning = u64::from(u32::from_be_bytes([0, a, b, c])) >> (24 - ID_BITS);
    (conversation.listed.map_or(0, millis) << ID_BITS) | beginning
}

/// The conversations of a member in which something changed after `changed` that is for them, those with the newest entry first.
///
/// The index finds them by member and change; the order is made here: a member has far fewer conversations than
/// messages, and an index for the order would have to be written with every message.
async fn conversations_of(db: &Db, member: MemberId, changed: Option<DateTime>) -> Result<Vec<ConversationDoc>, Fault> {
    let mut filter = doc! { "participants.member_id": member_oid(member) };
    if let Some(changed) = changed {
        filter.insert("changed", doc! { "$gt": changed });
    }
    let mut found = in_order(db, filter).await?;
    // What others have set is theirs.
    found.retain(|found| changed.is_none_or(|changed| found.changed_for(member) > Some(changed)));
    Ok(found)
}

/// The conversations that a filter of the database lets through, those with the newest entry first.
pub(super) async fn in_order(db: &Db, filter: Document) -> Result<Vec<ConversationDoc>, Fault> {
    let mut found: Vec<ConversationDoc> = db.all("conversations", filter, FindOptions::default()).await?;
    // Without an entry there is nothing to list.
    found.retain(|conversation| conversation.last_seq > 0);
    found.sort_unstable_by_key(|conversation| std::cmp::Reverse(place_of(conversation)));
    Ok(found)
}

/// The whole conversation with the newest `limit` of its entries that were written after `since`.
pub(super) async fn complete(
    counts: &Counts<'_>,
    member: MemberId,
    document: ConversationDoc,
    since: Option<DateTime>,
    limit: usize,
) -> Result<ConversationState, Fault> {
    let last_seq = unsigned(document.last_seq);
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    // About: the stamp of an entry is an estimate. A gap shows in `seq`.
    let is_new = |message: &MessageDoc| since.is_none_or(|since| message.stamp > since);
    let range = (last_seq.saturating_sub(limit), last_seq);
    let mut taken = history::entries(counts.db(), document.id, range, Direction::NewestFirst, is_new).await?;
    taken.reverse();
    with_entries(counts, member, &document, taken).await
}

/// The whole conversation with some of its entries, oldest first: without a hole, and up to the newest one.
pub(super) async fn with_entries(
    counts: &Counts<'_>,
    member: MemberId,
    document: &ConversationDoc,
    entries: Vec<StoredEntry>,
) -> Result<ConversationState, Fault> {
    let unread = counts.of(document, member, &entries).await?;
    Ok(ConversationState {
        id: ConversationId::from_bytes(document.id.bytes()),
        kind: document.kind()?,
        members: document
            .participants
            .iter()
            .map(|each| Watermarks {
                member: MemberId::from_bytes(each.member_id.bytes()),
                delivered: unsigned(each.delivered),
                read: unsigned(each.read),
            })
            .collect(),
        last_seq: unsigned(document.last_seq),
        unread,
        last_at: time(document.last_at),
        settings: document.settings_of(member)?,
        entries,
    })
}

/// Completes conversations with their entries, as many as a part of a sync holds.
async fn complete_part(
    counts: &Counts<'_>,
    window: u64,
    member: MemberId,
    mut found: Vec<ConversationDoc>,
    part: &SyncPart,
) -> Result<Delta, Fault> {
    let since = part.since.map(|Position(since)| since.saturating_sub(window));
    let since = since.map(|since| DateTime::from_millis(signed(since)));
    let (each, mut filled) = (part.entries_each(), Part::new(part, found.len()));
    found.truncate(part.conversations);
    let places: Vec<_> = found.iter().map(|conversation| Position(place_of(conversation))).collect();
    let completed: Vec<_> = found.into_iter().map(|document| complete(counts, member, document, since, each)).collect();
    let mut completed = stream::iter(completed).buffered(PARALLEL);
    for place in places {
        if filled.next().is_none() {
            break;
        }
        let Some(conversation) = completed.try_next().await? else { break };
        filled.push(place, conversation);
    }
    Ok(filled.into_delta())
}

async fn delta(core: &Core, db: &Db, member: MemberId, since: Option<Position>) -> Result<Delta, Fault> {
    // Before anything is read: what is stamped up to here is visible from now on.
    let horizon = &core.link.horizon;
    let StreamPosition { epoch, position } = horizon.now();
    let counts = Counts::begin(core, db);
    // Of another time than ours: no node of this database can have given it yet.
    if let Some(Position(since)) = since.filter(|since| horizon.accepts(StreamPosition { epoch, position: *since })) {
        let changed = DateTime::from_millis(signed(since));
        let found = conversations_of(db, member, Some(changed)).await?;
        if found.len() <= limits::SYNC_CHANGED_CONVERSATIONS {
            // Another node's horizon may be ahead of ours by a beat.
            let begun = StreamPosition { epoch, position: position.max(Position(since)) };
            return complete_part(
                &counts,
                horizon.window(),
                member,
                found,
                &SyncPart::first(begun, Some(Position(since))),
            )
            .await;
        }
    }
    let found = conversations_of(db, member, None).await?;
    complete_part(&counts, horizon.window(), member, found, &SyncPart::first(StreamPosition { epoch, position }, None))
        .await
}

async fn delta_below(core: &Core, db: &Db, member: MemberId, part: &SyncPart) -> Result<Option<Delta>, Fault> {
    let horizon = &core.link.horizon;
    let StreamPosition { epoch, position } = horizon.now();
    if !horizon.accepts(part.begun) {
        return Ok(None);
    }
    let counts = Counts::begin(core, db);
    let changed = part.changed.map(|Position(changed)| DateTime::from_millis(signed(changed)));
    let mut found = conversations_of(db, member, changed).await?;
    if let Some(Position(below)) = part.below {
        found.retain(|conversation| place_of(conversation) < below);
    }
    let begun = StreamPosition { epoch, position: position.max(part.begun.position) };
    complete_part(&counts, horizon.window(), member, found, &SyncPart { begun, ..*part }).await.map(Some)
}

async fn all_unread(core: &Core, db: &Db, member: MemberId) -> Result<Vec<(ConversationId, UnreadCount)>, Fault> {
    let counts = &Counts::begin(core, db);
    let found = conversations_of(db, member, None).await?;
    let counted: Vec<_> = found
        .into_iter()
        .map(|document| async move {
            let unread = counts.of(&document, member, &[]).await?;
            Ok::<_, Fault>((ConversationId::from_bytes(document.id.bytes()), unread))
        })
        .collect();
    let mut counted: Vec<_> = stream::iter(counted).buffered(PARALLEL).try_collect().await?;
    counted.retain(|(_, unread)| unread.count > 0);
    Ok(counted)
}

/// What a member has not read in all conversations together, up to `most`.
pub(super) async fn unread_in_all(db: &Db, member: MemberId, most: u32) -> Result<u32, Fault> {
    let found = conversations_of(db, member, None).await?;
    let counts: Vec<_> = found
        .into_iter()
        .map(|document| async move {
            unread::number(db, &document, member, unread::range_of(&document, member), u64::from(most)).await
        })
        .collect();
    let (mut counts, mut unread) = (stream::iter(counts).buffered(PARALLEL), 0_u64);
    while let Some(count) = counts.try_next().await? {
        unread += count;
        if unread >= u64::from(most) {
            break;
        }
    }
    Ok(u32::try_from(unread).map_or(most, |unread| unread.min(most)))
}

/// From what the database knows of its collections, without looking at every document.
pub(super) async fn count(db: &Db) -> Result<ConversationCounts, Fault> {
    let count = async |name| db.collection::<Document>(name).estimated_document_count().max_time(db.max_time).await;
    Ok(ConversationCounts { conversations: count("conversations").await?, messages: count("messages").await? })
}

async fn membership(db: &Db, conversation: ConversationId) -> Result<Option<Membership>, Fault> {
    let filter = doc! { "_id": conversation_oid(conversation) };
    let found: Option<ConversationDoc> = db.one("conversations", filter, FindOneOptions::default()).await?;
    found.map(|found| found.membership()).transpose()
}

async fn begun(db: &Db, conversations: Vec<ConversationId>) -> Result<Vec<ConversationId>, Fault> {
    if conversations.is_empty() {
        return Ok(Vec::new());
    }
    let mut filter = among(conversations.into_iter().map(conversation_oid));
    filter.insert("last_seq", doc! { "$gt": 0_i64 });
    let fields = FindOptions::builder().projection(doc! { "_id": 1 }).build();
    let found: Vec<Document> = db.all("conversations", filter, fields).await?;
    let ids = found.iter().filter_map(|found| found.get_object_id("_id").ok());
    Ok(ids.map(|id| ConversationId::from_bytes(id.bytes())).collect())
}

async fn partners(db: &Db, member: MemberId) -> Result<Vec<MemberId>, Fault> {
    let filter = doc! { "participants.member_id": member_oid(member) };
    let fields = FindOptions::builder().projection(doc! { "participants.member_id": 1 }).build();
    let found: Vec<Document> = db.all("conversations", filter, fields).await?;
    let mut partners = std::collections::BTreeSet::new();
    for conversation in found {
        let participants = conversation.get_array("participants").map(Vec::as_slice).unwrap_or_default();
        partners.extend(participants.iter().filter_map(|each| {
            let id = each.as_document()?.get_object_id("member_id").ok()?;
            Some(MemberId::from_bytes(id.bytes()))
        }));
    }
    partners.remove(&member);
    Ok(partners.into_iter().collect())
}

#[async_trait]
impl ConversationLog for Mongo {
    fn accepts(&self, place: StreamPosition) -> bool {
        self.core.link.horizon.accepts(place)
    }

    fn lanes(&self) -> usize {
        self.lanes
    }

    fn horizon(&self) -> StreamPosition {
        self.core.link.horizon.now()
    }

    fn told(&self, conversation: ConversationId, first: u64, last: u64) {
        let Some(mut state) = self.core.conversations.get(&conversation) else { return };
        let known = state.end.seq.max(state.hint);
        if known < last && first.saturating_sub(1) <= known {
            state.hint = last;
            self.core.conversations.insert(conversation, state);
        }
    }

    async fn apply(&self, batch: Vec<Command>) -> Result<Applied, StoreError> {
        let started = Instant::now();
        let core = Arc::clone(&self.core);
        // In a task of its own: whoever waits may go, and the outcome must be known all the same.
        let applied = tokio::spawn(async move { log::apply(&core, batch).await }).await;
        let applied = applied.unwrap_or_else(|_| Err(StoreError::Inconsistent("applying a batch panicked".to_owned())));
        self.core.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        self.count_error(applied)
    }

    async fn current(&self) -> Result<(), StoreError> {
        self.core.link.next_beat().await
    }

    async fn position(&self) -> Result<Position, StoreError> {
        self.read(Turn::SYSTEM, async move |core, _| {
            core.link.beat().await?;
            Ok(core.link.horizon.now().position)
        })
        .await
    }
}

impl Mongo {
    /// Warns of each node that is gone once, however often its work has to be looked for.
    fn warn_of(&self, dead: &[Dead]) {
        let now: Vec<_> = dead.iter().map(|Dead { id, at, .. }| (*id, *at)).collect();
        let mut known = self.core.warned_of.lock().unwrap_or_else(PoisonError::into_inner);
        for (node, _) in now.iter().filter(|node| !known.contains(node)) {
            tracing::warn!(%node, "finishing what a node that is gone may have left");
        }
        *known = now;
    }
}

#[async_trait]
impl Recovery for Mongo {
    async fn unfinished(&self) -> Result<Unfinished, StoreError> {
        let first = !self.core.looked.load(Ordering::Relaxed);
        let Link { identity, unsettled, .. } = &*self.core.link;
        let dead = self.core.link.dead();
        self.warn_of(&dead);
        // Those first: cursors stand still while there are some.
        let looked = Instant::now();
        let abandoned = unsettled.due(looked).filter(|_| dead.is_empty());
        if dead.is_empty() && abandoned.is_none() && !first {
            return Ok(Unfinished::default());
        }
        let whose = Whose { own: identity.node, looked, abandoned, dead, all: first };
        let core = Arc::clone(&self.core);
        self.unhurried(async move |db| recovery::unfinished(&core, &db, whose).await).await
    }

    async fn finished(&self, unfinished: Unfinished) -> Result<(), StoreError> {
        recovery::check_epoch(&self.core, unfinished.epoch)?;
        let (looked, gone) = (unfinished.looked, unfinished.nodes.clone());
        if !gone.is_empty() {
            self.call(async move |_, db| recovery::finished(&db, &unfinished).await).await?;
        }
        self.core.looked.store(true, Ordering::Relaxed);
        let Some(looked) = looked else { return Ok(()) };
        let unsettled = &self.core.link.unsettled;
        if gone.is_empty() {
            unsettled.finished(looked);
        }
        gone.into_iter().for_each(|Left { since, settled, .. }| unsettled.inherit(since, looked, settled));
        Ok(())
    }
}

#[async_trait]
impl ConversationStore for Mongo {
    async fn membership(&self, by: Caller, conversation: ConversationId) -> Result<Option<Membership>, StoreError> {
        self.read(Turn::of(by), async move |_, db| membership(&db, conversation).await).await
    }

    async fn begun(&self, by: Caller, conversations: Vec<ConversationId>) -> Result<Vec<ConversationId>, StoreError> {
        self.read(Turn::look_ups(by, conversations.len()), async move |_, db| begun(&db, conversations).await).await
    }

    async fn partners(&self, member: MemberId) -> Result<Vec<MemberId>, StoreError> {
        self.read(Turn::light(member), async move |_, db| partners(&db, member).await).await
    }

    async fn list(
        &self,
        member: MemberId,
        filter: ListFilter,
        before: Option<Position>,
        limit: usize,
    ) -> Result<ConversationPage, StoreError> {
        self.read(Turn::heavy(member), async move |core, db| list(&core, &db, member, filter, before, limit).await)
            .await
    }

    async fn history(
        &self,
        member: MemberId,
        conversation: ConversationId,
        range: Range,
        limit: usize,
    ) -> Result<Option<HistoryPage>, StoreError> {
        self.read(Turn::light(member), async move |_, db| {
            history::history(&db, member, conversation, range, limit).await
        })
        .await
    }

    async fn logs(
        &self,
        member: MemberId,
        after: Vec<(ConversationId, u64)>,
        limit: usize,
    ) -> Result<Vec<HistoryPage>, StoreError> {
        self.read(Turn::heavy(member), async move |_, db| {
            let pages = after.into_iter().map(|(conversation, seq)| {
                let db = &db;
                async move {
                    let page = history::history(db, member, conversation, Range::After(seq), limit).await?;
                    Ok::<_, Fault>(page.unwrap_or_default())
                }
            });
            stream::iter(pages.collect::<Vec<_>>()).buffered(PARALLEL).try_collect().await
        })
        .await
    }

    async fn message(&self, by: Caller, id: MessageId) -> Result<Option<StoredEntry>, StoreError> {
        self.read(Turn::of(by), async move |_, db| history::message(&db, id).await).await
    }

    async fn unread(&self, member: MemberId) -> Result<Vec<(ConversationId, UnreadCount)>, StoreError> {
        self.read(Turn::heavy(member), async move |core, db| all_unread(&core, &db, member).await).await
    }

    async fn settings(
        &self,
        by: Caller,
        member: MemberId,
        conversations: Vec<ConversationId>,
    ) -> Result<Vec<ConversationSettings>, StoreError> {
        self.read(Turn::of(by), async move |_, db| settings::of_conversations(&db, member, conversations).await).await
    }

    async fn count_unread(
        &self,
        conversation: ConversationId,
        member: MemberId,
        read: u64,
        last: u64,
    ) -> Result<UnreadCount, StoreError> {
        self.read(Turn::light(member), async move |core, db| {
            let counts = Counts::begin(&core, &db);
            let found = history::conversation_for(&db, conversation, member).await?;
            match found {
                Some(found) => counts.after(&found, member, (read, last), &[]).await,
                None => Ok(UnreadCount::default()),
            }
        })
        .await
    }

    async fn receipt_times(
        &self,
        asking: MemberId,
        ranges: Vec<ReceiptRange>,
    ) -> Result<Vec<Vec<ReceiptTimes>>, StoreError> {
        self.read(Turn::light(asking), async move |_, db| {
            let times: Vec<_> = ranges.into_iter().map(|range| history::receipt_times(&db, range)).collect();
            stream::iter(times).buffered(PARALLEL).try_collect().await
        })
        .await
    }

    async fn delta(&self, member: MemberId, since: Option<Position>) -> Result<Delta, StoreError> {
        self.read(Turn::heavy(member), async move |core, db| delta(&core, &db, member, since).await).await
    }

    async fn delta_below(&self, member: MemberId, part: SyncPart) -> Result<Option<Delta>, StoreError> {
        self.read(Turn::heavy(member), async move |core, db| delta_below(&core, &db, member, &part).await).await
    }
}
