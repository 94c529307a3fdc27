//! What the nodes of a database tell each other through it: who they are, and what has changed.

use std::collections::HashMap;

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::{
    bson::{DateTime, doc, oid::ObjectId},
    options::FindOptions,
};
use protocol::{ConversationId, MemberId, Timestamp, limits, model::Watermarks};
use tokio::sync::watch;

use super::{
    Core, Mongo,
    conversations::with_entries,
    db::Db,
    document::{
        ConversationDoc, MemberDoc, ParticipantDoc, among, conversation_oid, date, millis, signed, time, unsigned,
    },
    fault::Fault,
    history::{self, LogEnd},
    turns::PARALLEL,
    unread::Counts,
};
use crate::{
    position::Position,
    store::{
        FleetStore, StoreError,
        conversations::ConversationState,
        fleet::{CHANGES_MAX, ChangedConversation, ClockReading, Listing, Missed, PROFILES_MAX, SecretId},
        members::MemberRecord,
        turns::Turn,
    },
};

/// Conversations that are looked up with one query.
const LOOKED_UP: usize = 500;
/// The most entries of one conversation.
const ENTRIES: u64 = limits::SYNC_MISSED_ENTRIES as u64;

async fn changes(db: &Db, Position(since): Position) -> Result<Vec<ChangedConversation>, Fault> {
    let changed = doc! { "changed": { "$gt": DateTime::from_millis(signed(since)) }, "last_seq": { "$gt": 0 } };
    let limit = i64::try_from(CHANGES_MAX).unwrap_or(i64::MAX);
    let options = FindOptions::builder().sort(doc! { "changed": 1 }).limit(limit).build();
    let found: Vec<ConversationDoc> = db.all("conversations", changed, options).await?;
    Ok(found.iter().map(changed_conversation).collect())
}

fn changed_conversation(document: &ConversationDoc) -> ChangedConversation {
    let watermarks = |each: &ParticipantDoc| Watermarks {
        member: MemberId::from_bytes(each.member_id.bytes()),
        delivered: unsigned(each.delivered),
        read: unsigned(each.read),
    };
    let revision = |each: &ParticipantDoc| {
        let settings = each.settings.as_ref()?;
        Some((MemberId::from_bytes(each.member_id.bytes()), settings.revision()))
    };
    ChangedConversation {
        id: ConversationId::from_bytes(document.id.bytes()),
        changed: Position(document.changed.map_or(0, millis)),
        members: document.participants.iter().map(watermarks).collect(),
        revisions: document.participants.iter().filter_map(revision).collect(),
        last_seq: unsigned(document.last_seq),
        last_at: time(document.last_at),
    }
}

async fn profiles(db: &Db, since: Timestamp) -> Result<Vec<MemberRecord>, Fault> {
    // A new member has changed nothing yet.
    let changed = doc! { "updated_at": { "$gte": date(since) }, "version": { "$gt": 1 } };
    let limit = i64::try_from(PROFILES_MAX).unwrap_or(i64::MAX);
    let options = FindOptions::builder().sort(doc! { "updated_at": 1 }).limit(limit).build();
    let found: Vec<MemberDoc> = db.all("members", changed, options).await?;
    found.into_iter().map(MemberDoc::into_record).collect()
}

async fn states(
    core: &Core,
    db: &Db,
    missed: Vec<Missed>,
    Position(since): Position,
) -> Result<Vec<(MemberId, ConversationState)>, Fault> {
    let counts = &Counts::begin(core, db);
    let since = DateTime::from_millis(signed(since.saturating_sub(core.link.horizon.window())));
    let mut documents: HashMap<ObjectId, ConversationDoc> = HashMap::new();
    for some in missed.chunks(LOOKED_UP) {
        let ids = among(some.iter().map(|missed| conversation_oid(missed.conversation)));
        let found: Vec<ConversationDoc> = db.all("conversations", ids, FindOptions::default()).await?;
        documents.extend(found.into_iter().map(|found| (found.id, found)));
    }
    let ends = missed.iter().filter_map(|missed| {
        let document = documents.get(&conversation_oid(missed.conversation))?;
        let last = unsigned(document.last_seq);
        let after = missed.after.max(last.saturating_sub(ENTRIES));
        Some(LogEnd { conversation: document.id, after, last, since: (missed.after == 0).then_some(since) })
    });
    let entries = &history::ends(db, ends.collect()).await?;
    let documents = &documents;
    let each = missed.iter().flat_map(|Missed { conversation, members, .. }| {
        members.iter().map(move |member| (conversation_oid(*conversation), *member))
    });
    let completed = each.filter_map(|(conversation, member)| {
        let (document, entries) = (documents.get(&conversation)?, entries.get(&conversation)?);
        Some(async move {
            let state = with_entries(counts, member, document, entries.clone()).await?;
            Ok::<_, Fault>((member, state))
        })
    });
    stream::iter(completed.collect::<Vec<_>>()).buffered(PARALLEL).try_collect().await
}

#[async_trait]
impl FleetStore for Mongo {
    fn listing(&self) -> watch::Receiver<Option<Listing>> {
        self.core.link.listing.subscribe()
    }

    fn signs_with(&self, secret: SecretId) {
        // A node has one from its start to its end.
        let _ = self.core.link.identity.secret.set(secret);
    }

    fn reading(&self) -> Option<ClockReading> {
        self.core.link.horizon.reading()
    }

    async fn changes(&self, since: Position) -> Result<Vec<ChangedConversation>, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| changes(&db, since).await).await
    }

    async fn profiles(&self, since: Timestamp) -> Result<Vec<MemberRecord>, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| profiles(&db, since).await).await
    }

    fn forget_member(&self, member: MemberId) {
        self.core.members.remove(&member);
    }

    async fn states(
        &self,
        missed: Vec<Missed>,
        since: Position,
    ) -> Result<Vec<(MemberId, ConversationState)>, StoreError> {
        self.read(Turn::HEAVY_SYSTEM, async move |core, db| states(&core, &db, missed, since).await).await
    }
}
