//! What other nodes have stored in a log beyond what this one knows of it.

use std::collections::HashMap;

use mongodb::{
    bson::{DateTime, Document, doc, oid::ObjectId},
    options::FindOptions,
};
use protocol::{ConversationId, MessageId, Timestamp};
use serde::Deserialize;

use super::{
    db::Db,
    document::{MessageDoc, among, conversation_oid, signed, time, unsigned},
    fault::Fault,
    log::Working,
};
use crate::store::{entries::StoredEntry, rules::End};

/// Entries that are found untold at once. There are as many as were on their way when a node died.
const UNTOLD: i64 = 10_000;
/// Conversations that are looked at with one query.
const CONVERSATIONS: usize = 500;

/// A conversation, and the newest entry that is known of it.
type Known = (ConversationId, u64);

/// What a log has beyond what is known of it; nothing, nearly always.
#[derive(Default)]
pub(super) struct Ahead {
    /// Its newest entry.
    newest: Option<(u64, Timestamp)>,
    /// The entries that the conversation does not know of.
    untold: Vec<StoredEntry>,
}

impl Ahead {
    fn reach(&mut self, seq: u64, at: Timestamp) {
        if self.newest.is_none_or(|(newest, _)| newest < seq) {
            self.newest = Some((seq, at));
        }
    }
}

/// How far a conversation is recorded.
#[derive(Deserialize)]
struct RecordedDoc {
    #[serde(rename = "_id")]
    id: ObjectId,
    last_seq: i64,
    last_at: DateTime,
}

/// Looks for entries after the newest one that is known of each conversation, in two round trips for 500 of them.
///
/// Whoever stores an entry records it in the conversation before telling anybody. So of what is not recorded nobody may
/// have been told: who stored it is about to, or has died.
pub(super) async fn ahead(
    db: &Db,
    known: &HashMap<ConversationId, u64>,
) -> Result<HashMap<ConversationId, Ahead>, Fault> {
    let mut found = HashMap::new();
    let known: Vec<Known> = known.iter().map(|(id, seq)| (*id, *seq)).collect();
    for some in known.chunks(CONVERSATIONS) {
        found.extend(ahead_of(db, some).await?);
    }
    Ok(found)
}

async fn ahead_of(db: &Db, known: &[Known]) -> Result<HashMap<ConversationId, Ahead>, Fault> {
    let mut found: HashMap<ConversationId, Ahead> = HashMap::new();
    let fields = FindOptions::builder().projection(doc! { "last_seq": 1, "last_at": 1 }).build();
    let all = among(known.iter().map(|(id, _)| conversation_oid(*id)));
    let recorded: Vec<RecordedDoc> = db.all("conversations", all, fields).await?;
    for RecordedDoc { id, last_seq, last_at } in recorded {
        let id = ConversationId::from_bytes(id.bytes());
        found.entry(id).or_default().reach(unsigned(last_seq), time(last_at));
    }
    for entry in untold(db, known, &found).await? {
        let ahead = found.entry(entry.conversation).or_default();
        ahead.reach(entry.seq, entry.at);
        ahead.untold.push(entry);
    }
    Ok(found)
}

/// The entries after what is known and recorded, ascending by `seq` in each conversation. Of very many the first ones.
async fn untold(
    db: &Db,
    known: &[Known],
    recorded: &HashMap<ConversationId, Ahead>,
) -> Result<Vec<StoredEntry>, Fault> {
    let after = |(id, known): &Known| {
        let recorded = recorded.get(id).and_then(|ahead| ahead.newest).map_or(0, |(seq, _)| seq);
        doc! { "conversation_id": conversation_oid(*id), "seq": { "$gt": signed(recorded.max(*known)) } }
    };
    let after: Vec<Document> = known.iter().map(after).collect();
    let options = FindOptions::builder().sort(doc! { "conversation_id": 1, "seq": 1 }).limit(UNTOLD).build();
    let untold: Vec<MessageDoc> = db.all("messages", doc! { "$or": after }, options).await?;
    untold.into_iter().map(MessageDoc::into_entry).collect()
}

/// A conversation, the number of its newest entry, and which that is, if it is known.
pub(super) type Newest = (ConversationId, u64, Option<MessageId>);

/// Whether the newest entries that are known of conversations are in their logs.
pub(super) async fn is_there(db: &Db, known: &[Newest]) -> Result<bool, Fault> {
    let known: Vec<&Newest> = known.iter().filter(|(_, seq, _)| *seq > 0).collect();
    for some in known.chunks(CONVERSATIONS) {
        let newest = |(id, seq, entry): &&Newest| {
            let mut newest = doc! { "conversation_id": conversation_oid(*id), "seq": signed(*seq) };
            if let Some(entry) = entry {
                newest.insert("_id", ObjectId::from_bytes(*entry.as_bytes()));
            }
            newest
        };
        let newest: Vec<Document> = some.iter().map(newest).collect();
        let only = FindOptions::builder().projection(doc! { "_id": 1 }).build();
        let found: Vec<Document> = db.all("messages", doc! { "$or": newest }, only).await?;
        if found.len() < some.len() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An entry by its place: its number, and when it was stored.
#[derive(Deserialize)]
struct PlacedDoc {
    conversation_id: ObjectId,
    seq: i64,
    created_at: DateTime,
}

/// Those of some entries that are in their logs, with their times: one round trip for 500 of them.
pub(super) async fn ends(db: &Db, wanted: &[Known]) -> Result<Vec<(ConversationId, End)>, Fault> {
    let mut ends = Vec::new();
    for some in wanted.chunks(CONVERSATIONS) {
        let place = |(id, seq): &Known| doc! { "conversation_id": conversation_oid(*id), "seq": signed(*seq) };
        let filter = match some {
            [one] => place(one),
            _ => doc! { "$or": some.iter().map(place).collect::<Vec<_>>() },
        };
        let fields = doc! { "_id": 0, "conversation_id": 1, "seq": 1, "created_at": 1 };
        let found: Vec<PlacedDoc> =
            db.all("messages", filter, FindOptions::builder().projection(fields).build()).await?;
        ends.extend(found.into_iter().map(|PlacedDoc { conversation_id, seq, created_at }| {
            let end = End { seq: unsigned(seq), at: time(created_at) };
            (ConversationId::from_bytes(conversation_id.bytes()), end)
        }));
    }
    Ok(ends)
}

/// Takes what others have stored into what is known. Returns whether there was something.
pub(super) fn adopt(conversation: &mut Working, ahead: Ahead) -> bool {
    let Ahead { newest, untold } = ahead;
    conversation.untold.extend(untold);
    let is_ahead = newest.is_some_and(|(seq, at)| conversation.state.end.reach(seq, at));
    if is_ahead {
        conversation.newest = None;
    }
    conversation.behind |= is_ahead;
    is_ahead
}
