//! Reading the log of a conversation: pages of entries, single messages, and when they were delivered and read.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::{
    bson::{DateTime, Document, doc, oid::ObjectId},
    options::{FindOneOptions, FindOptions},
};
use protocol::{ConversationId, MemberId, MessageId};

use super::{
    db::Db,
    document::{ConversationDoc, MessageDoc, ReceiptDoc, conversation_oid, member_oid, signed, time, unsigned},
    fault::Fault,
    receipts,
    turns::PARALLEL,
};
use crate::store::{
    conversations::{HistoryPage, Range, ReceiptRange, ReceiptTimes},
    entries::StoredEntry,
    pages::Entries,
};

/// Entries that are read with one query from several logs.
const TOGETHER: u64 = 500;
/// Logs that are read with one query.
const LOGS: usize = 50;

/// In which order entries are read, until a page has no room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    OldestFirst,
    NewestFirst,
}

/// Entries after a `seq` and up to another one, as many as a page has room for, up to the first that is not `wanted`.
pub(super) async fn entries(
    db: &Db,
    conversation: ObjectId,
    (after, to): (u64, u64),
    order: Direction,
    wanted: impl Fn(&MessageDoc) -> bool,
) -> Result<Vec<StoredEntry>, Fault> {
    let mut page = Entries::new();
    if after >= to {
        return Ok(page.into_vec());
    }
    let filter = doc! { "conversation_id": conversation, "seq": { "$gt": signed(after), "$lte": signed(to) } };
    let direction = if order == Direction::OldestFirst { 1 } else { -1 };
    // No more than there are, so that the cursor of a short range ends with its first batch.
    let options = FindOptions::builder().sort(doc! { "seq": direction }).limit(signed(to - after)).build();
    let mut unreadable = None;
    let take = |message: MessageDoc| {
        wanted(&message)
            && match message.into_entry() {
                Ok(entry) => page.push(entry),
                Err(fault) => {
                    unreadable = Some(fault);
                    false
                }
            }
    };
    db.some("messages", filter, options, take).await?;
    unreadable.map_or_else(|| Ok(page.into_vec()), Err)
}

/// The end of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogEnd {
    pub(super) conversation: ObjectId,
    /// The entries after this one,
    pub(super) after: u64,
    /// and up to this one;
    pub(super) last: u64,
    /// of them those without a hole that were written after this, about.
    pub(super) since: Option<DateTime>,
}

impl LogEnd {
    /// How many there may be.
    const fn len(&self) -> u64 {
        self.last.saturating_sub(self.after)
    }

    fn filter(&self) -> Document {
        let seq = doc! { "$gt": signed(self.after), "$lte": signed(self.last) };
        let mut filter = doc! { "conversation_id": self.conversation, "seq": seq };
        if let Some(since) = self.since {
            filter.insert("stamp", doc! { "$gt": since });
        }
        filter
    }

    /// What is at the end, oldest first, of what was found of it: as much as a page has room for, without a hole.
    fn take(&self, mut found: Vec<MessageDoc>) -> Result<Vec<StoredEntry>, Fault> {
        found.sort_unstable_by_key(|message| std::cmp::Reverse(message.seq));
        let (mut page, mut next) = (Entries::new(), signed(self.last));
        for message in found {
            if message.seq != next || !page.push(message.into_entry()?) {
                break;
            }
            next -= 1;
        }
        let mut taken = page.into_vec();
        taken.reverse();
        Ok(taken)
    }
}

/// The ends of several logs, each once. What is short is read together, so that many cost little more than one.
pub(super) async fn ends(db: &Db, mut ends: Vec<LogEnd>) -> Result<HashMap<ObjectId, Vec<StoredEntry>>, Fault> {
    ends.sort_unstable_by_key(LogEnd::len);
    let mut groups: Vec<(u64, Vec<LogEnd>)> = Vec::new();
    for end in ends {
        match groups.last_mut() {
            Some((entries, group)) if *entries + end.len() <= TOGETHER && group.len() < LOGS => {
                *entries += end.len();
                group.push(end);
            }
            _ => groups.push((end.len(), vec![end])),
        }
    }
    let read = groups.into_iter().map(|(_, group)| group_of_ends(db, group));
    let read: Vec<_> = stream::iter(read.collect::<Vec<_>>()).buffered(PARALLEL).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

async fn group_of_ends(db: &Db, group: Vec<LogEnd>) -> Result<Vec<(ObjectId, Vec<StoredEntry>)>, Fault> {
    let filters: Vec<Document> = group.iter().filter(|end| end.len() > 0).map(LogEnd::filter).collect();
    let mut found: HashMap<ObjectId, Vec<MessageDoc>> = HashMap::new();
    if !filters.is_empty() {
        for message in db.all::<MessageDoc>("messages", doc! { "$or": filters }, FindOptions::default()).await? {
            found.entry(message.conversation_id).or_default().push(message);
        }
    }
    let taken =
        group.iter().map(|end| Ok((end.conversation, end.take(found.remove(&end.conversation).unwrap_or_default())?)));
    taken.collect()
}

/// A conversation, if the member is in it.
pub(super) async fn conversation_for(
    db: &Db,
    conversation: ConversationId,
    member: MemberId,
) -> Result<Option<ConversationDoc>, Fault> {
    let filter = doc! { "_id": conversation_oid(conversation) };
    let found = db.one("conversations", filter, FindOneOptions::default()).await?;
    let is_in = |found: &ConversationDoc| found.participants.iter().any(|each| each.member_id == member_oid(member));
    Ok(found.filter(is_in))
}

/// A page of entries.
pub(super) async fn history(
    db: &Db,
    member: MemberId,
    conversation: ConversationId,
    range: Range,
    limit: usize,
) -> Result<Option<HistoryPage>, Fault> {
    let Some(document) = conversation_for(db, conversation, member).await? else { return Ok(None) };
    let (last_seq, size) = (unsigned(document.last_seq), u64::try_from(limit).unwrap_or(u64::MAX));
    let ascending = matches!(range, Range::After(_));
    let (after, to) = match range {
        Range::Newest => (last_seq.saturating_sub(size), last_seq),
        Range::Before(seq) => {
            let to = seq.saturating_sub(1).min(last_seq);
            (to.saturating_sub(size), to)
        }
        Range::After(seq) => (seq, seq.saturating_add(size).min(last_seq)),
    };
    let order = if ascending { Direction::OldestFirst } else { Direction::NewestFirst };
    let mut page = entries(db, document.id, (after, to), order, |_| true).await?;
    // A log has no holes: what there is beyond the page follows from its ends.
    let more = match page.last().map(|entry| entry.seq) {
        Some(seq) if ascending => seq < last_seq,
        Some(seq) => seq > 1,
        None => false,
    };
    if !ascending {
        page.reverse();
    }
    Ok(Some(HistoryPage { entries: page, more }))
}

/// When a member received and read entries.
pub(super) async fn receipt_times(db: &Db, range: ReceiptRange) -> Result<Vec<ReceiptTimes>, Fault> {
    let ReceiptRange { conversation, member, first, last } = range;
    let Some(document) = conversation_for(db, conversation, member).await? else { return Ok(Vec::new()) };
    let own = document.participants.iter().find(|each| each.member_id == member_oid(member));
    let (delivered, read) = own.map_or((0, 0), |own| (unsigned(own.delivered), unsigned(own.read)));
    let delivered = times(db, &document, member, receipts::DELIVERED, (first, last, delivered)).await?;
    let read = times(db, &document, member, receipts::READ, (first, last, read)).await?;
    let both = delivered.into_iter().zip(read);
    Ok(both.map(|(delivered_at, read_at)| ReceiptTimes { delivered_at, read_at }).collect())
}

/// When a watermark that is at `reached` came to each of the entries `first` to `last`.
async fn times(
    db: &Db,
    conversation: &ConversationDoc,
    member: MemberId,
    kind: i32,
    (first, last, reached): (u64, u64, u64),
) -> Result<Vec<Option<protocol::Timestamp>>, Fault> {
    let wanted = usize::try_from(last.saturating_sub(first)).unwrap_or(usize::MAX).saturating_add(1);
    let filter = doc! {
        "conversation_id": conversation.id,
        "member_id": member_oid(member),
        "kind": kind,
        // What is beyond the watermark was never acknowledged.
        "seq": { "$gte": signed(first), "$lte": signed(reached) },
    };
    // Each row covers one entry at least, and a few after the last may have been reached earlier on another node.
    let limit = i64::try_from(wanted.saturating_add(16)).unwrap_or(i64::MAX);
    let options = FindOptions::builder().sort(doc! { "seq": 1 }).limit(limit).build();
    let mut rows: Vec<ReceiptDoc> = db.all("receipts", filter, options).await?;
    // The watermark came to an entry with the earliest move that covers it.
    let mut earliest = DateTime::MAX;
    for row in rows.iter_mut().rev() {
        earliest = earliest.min(row.at);
        row.at = earliest;
    }
    let mut rows = rows.into_iter().peekable();
    let covering = (first..=last).map(|seq| {
        while rows.next_if(|row| unsigned(row.seq) < seq).is_some() {}
        rows.peek().map(|row| time(row.at))
    });
    Ok(covering.collect())
}

/// The message with this id.
pub(super) async fn message(db: &Db, id: MessageId) -> Result<Option<StoredEntry>, Fault> {
    let filter = doc! { "_id": ObjectId::from_bytes(*id.as_bytes()) };
    let found = db.one("messages", filter, FindOneOptions::default()).await?;
    found.map(MessageDoc::into_entry).transpose()
}
