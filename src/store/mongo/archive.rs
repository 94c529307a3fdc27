//! Everything as rows, in the order of their keys.

use std::collections::HashMap;

use async_trait::async_trait;
use mongodb::{
    bson::{Binary, Bson, Document, doc, oid::ObjectId, spec::BinarySubtype},
    options::{FindOneOptions, FindOptions},
};
use protocol::{ConversationId, MemberId, MessageId, SessionId};

use super::{
    Mongo, audit,
    db::Db,
    document::{
        ConversationDoc, MemberDoc, MessageDoc, ParticipantDoc, ReceiptDoc, SettingsDoc, bytes_of, client_uuid,
        conversation_oid, date, member_oid, signed, time, unsigned,
    },
    fault::{DUPLICATE_KEY, Fault},
    invitations, jobs, mail, push, receipts,
    recommendations::RecommendationDoc,
    sessions,
};
use crate::store::{
    Archive, StoreError,
    archive::{ConversationRow, Key, MemberRow, Part, ParticipantRow, ReceiptRow, Row, SessionRow, TokenRow},
    conversations::StoreId,
    mail::Restored,
    push::{DeviceKey, StoredTask},
    rules,
};

const fn collection(part: Part) -> &'static str {
    match part {
        Part::Members => "members",
        Part::Invitations => "invitations",
        Part::Sessions => "sessions",
        Part::RefreshTokens => "refresh_tokens",
        Part::Conversations => "conversations",
        Part::Messages => "messages",
        Part::Receipts => "receipts",
        Part::Audit => "audit",
        Part::Recommendations => "ai_recommendations",
        Part::Budgets => "ai_budgets",
        Part::Jobs => "jobs",
        Part::Links => "links",
        Part::Mail => "mail",
        Part::Secrets => "secrets",
        Part::BarredAddresses => "barred_addresses",
        Part::PushDevices => "push_devices",
        Part::PushMarks => "push_marks",
        Part::PushTasks => "push_tasks",
        Part::PushChoices => "push_choices",
    }
}

fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

fn missing(what: &'static str) -> impl Fn() -> Fault {
    move || Fault::Data(format!("a document of {what} lacks a field"))
}

fn session(document: &Document) -> Option<Row> {
    let at = |field| document.get_datetime(field).ok().map(|at| time(*at));
    let created_at = at("created_at")?;
    Some(Row::Session(SessionRow {
        id: SessionId::from_bytes(document.get_object_id("_id").ok()?.bytes()),
        member: MemberId::from_bytes(document.get_object_id("member_id").ok()?.bytes()),
        created_at,
        revoked_at: at("revoked_at"),
        device: sessions::device(document),
        address: sessions::address(document, "address"),
        last_address: sessions::address(document, "last_address"),
        last_used_at: at("last_used_at"),
        ends_at: at("ends_at"),
        generation: document.get_i64("generation").map_or(0, unsigned),
        good_from: document.get_i64("good_from").map_or(0, unsigned),
        newest: sessions::token_hash(document, "newest"),
        confirmed_at: sessions::confirmed_at(document, created_at),
        attempt: sessions::token_hash(document, "attempt"),
        proved_at: at("proved_at"),
        known_device: sessions::known_device(document),
    }))
}

fn token(document: &Document) -> Option<Row> {
    Some(Row::RefreshToken(TokenRow {
        hash: document.get_binary_generic("_id").ok()?.as_slice().try_into().ok()?,
        session: SessionId::from_bytes(document.get_object_id("session_id").ok()?.bytes()),
        expires_at: time(*document.get_datetime("expires_at").ok()?),
        used_at: document.get_datetime("used_at").ok().map(|at| time(*at)),
        attempt: sessions::token_hash(document, "attempt"),
    }))
}

fn budget(document: &Document) -> Option<Row> {
    let member = MemberId::from_bytes(document.get_object_id("_id").ok()?.bytes());
    Some(Row::Budget(member, document.get_i64("day").ok()?, document.get_i64("spent").ok()?.try_into().ok()?))
}

fn secret(document: &Document) -> Option<Row> {
    let value = document.get_binary_generic("value").ok()?.clone();
    Some(Row::Secret(document.get_str("_id").ok()?.to_owned(), value))
}

fn conversation(document: &ConversationDoc) -> Result<Row, Fault> {
    let participant = |each: &ParticipantDoc| {
        let (member, stored) = (MemberId::from_bytes(each.member_id.bytes()), each.stored()?);
        Ok(ParticipantRow { member, delivered: unsigned(each.delivered), read: unsigned(each.read), stored })
    };
    let mut participants = document.participants.iter().map(participant).collect::<Result<Vec<_>, Fault>>()?;
    participants.sort_unstable_by_key(|participant| participant.member);
    Ok(Row::Conversation(ConversationRow {
        id: ConversationId::from_bytes(document.id.bytes()),
        kind: document.kind()?,
        participants,
        last_seq: unsigned(document.last_seq),
        last_at: time(document.last_at),
    }))
}

fn receipt(document: &ReceiptDoc) -> Row {
    Row::Receipt(ReceiptRow {
        conversation: ConversationId::from_bytes(document.conversation_id.bytes()),
        member: MemberId::from_bytes(document.member_id.bytes()),
        kind: u8::try_from(document.kind).unwrap_or(u8::MAX),
        seq: unsigned(document.seq),
        at: time(document.at),
    })
}

/// Rows whose key is their `_id`.
async fn by_id(db: &Db, part: Part, after: Option<Key>, limit: usize) -> Result<Vec<Row>, Fault> {
    let filter = match after {
        Some(Key::Id(id)) => doc! { "_id": { "$gt": ObjectId::from_bytes(id) } },
        Some(Key::Hash(hash)) => doc! { "_id": { "$gt": binary(&hash) } },
        Some(Key::Place(place)) => doc! { "_id": { "$gt": signed(place) } },
        Some(Key::Job(key)) => doc! { "_id": { "$gt": key } },
        Some(Key::Device(DeviceKey(key))) => doc! { "_id": { "$gt": binary(&key) } },
        _ => doc! {},
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let options = FindOptions::builder().sort(doc! { "_id": 1 }).limit(limit).build();
    match part {
        Part::Members => {
            let found: Vec<MemberDoc> = db.all("members", filter, options).await?;
            let rows = found.into_iter().map(|member| {
                let last_seen = member.last_seen.map(time);
                Ok(Row::Member(Box::new(MemberRow { record: member.into_record()?, last_seen })))
            });
            rows.collect()
        }
        Part::Recommendations => {
            let found: Vec<RecommendationDoc> = db.all(collection(part), filter, options).await?;
            let rows = found.into_iter().map(|found| Ok(Row::Recommendation(Box::new(found.into_record()?))));
            rows.collect()
        }
        Part::Conversations => {
            let found: Vec<ConversationDoc> = db.all("conversations", filter, options).await?;
            found.iter().map(conversation).collect()
        }
        _ => {
            let found: Vec<Document> = db.all(collection(part), filter, options).await?;
            let rows = found.iter().map(|document| match part {
                Part::Invitations => invitations::record(document).ok().map(Row::Invitation),
                Part::Sessions => session(document),
                Part::RefreshTokens => token(document),
                Part::Budgets => budget(document),
                Part::Jobs => jobs::record(document).map(Row::Job),
                Part::Links => mail::link_record(document).map(Row::Link),
                Part::Mail => mail::record(document).map(Row::Mail),
                Part::Secrets => secret(document),
                Part::BarredAddresses => bytes_of(document, "_id").map(Row::BarredAddress),
                Part::PushDevices => push::record(document).map(|record| Row::PushDevice(Box::new(record))),
                Part::PushChoices => push::choice_of(document).map(|(member, choice)| Row::PushChoice(member, choice)),
                _ => audit::record(document).map(|(place, entry)| Row::Audit(place, entry)),
            });
            rows.map(|row| row.ok_or_else(missing(collection(part)))).collect()
        }
    }
}

/// Rows of messages or receipts, conversation by conversation.
async fn by_conversation(db: &Db, part: Part, after: Option<Key>, limit: usize) -> Result<Vec<Row>, Fault> {
    let mut current = match &after {
        Some(Key::Message(conversation, _) | Key::Receipt(conversation, ..)) => Some(conversation_oid(*conversation)),
        _ => next_conversation(db, None).await?,
    };
    let mut found = Vec::new();
    while let Some(conversation) = current.filter(|_| found.len() < limit) {
        let room = limit - found.len();
        if part == Part::Messages {
            let seq = match &after {
                Some(Key::Message(id, seq)) if conversation_oid(*id) == conversation => signed(*seq),
                _ => 0,
            };
            let filter = doc! { "conversation_id": conversation, "seq": { "$gt": seq } };
            let limit = i64::try_from(room).unwrap_or(i64::MAX);
            let options = FindOptions::builder().sort(doc! { "seq": 1 }).limit(limit).build();
            let messages: Vec<MessageDoc> = db.all("messages", filter, options).await?;
            for message in messages {
                found.push(Row::Message(message.into_entry()?));
            }
        } else {
            let filter = doc! { "conversation_id": conversation };
            let documents: Vec<ReceiptDoc> = db.all("receipts", filter, FindOptions::default()).await?;
            let mut rows: Vec<Row> = documents.iter().map(receipt).collect();
            rows.sort_unstable_by_key(Row::key);
            let later = |row: &Row| after.as_ref().is_none_or(|after| row.key() > *after);
            found.extend(rows.into_iter().filter(later).take(room));
        }
        if found.len() < limit {
            current = next_conversation(db, Some(conversation)).await?;
        }
    }
    Ok(found)
}

async fn next_conversation(db: &Db, after: Option<ObjectId>) -> Result<Option<ObjectId>, Fault> {
    let filter = after.map_or_else(Document::new, |after| doc! { "_id": { "$gt": after } });
    let options = FindOneOptions::builder().sort(doc! { "_id": 1 }).projection(doc! { "_id": 1 }).build();
    let found: Option<Document> = db.one("conversations", filter, options).await?;
    Ok(found.and_then(|found| found.get_object_id("_id").ok()))
}

async fn rows(db: &Db, part: Part, after: Option<Key>, limit: usize) -> Result<Vec<Row>, Fault> {
    match part {
        Part::Messages | Part::Receipts => by_conversation(db, part, after, limit).await,
        Part::PushMarks | Part::PushTasks => push::rows(db, part, after, limit).await,
        _ => by_id(db, part, after, limit).await,
    }
}

async fn last_key(db: &Db, part: Part) -> Result<Option<Key>, Fault> {
    let sort = match part {
        Part::Messages => doc! { "conversation_id": -1, "seq": -1 },
        Part::Receipts => doc! { "conversation_id": -1, "member_id": -1, "kind": -1, "seq": -1 },
        _ => doc! { "_id": -1 },
    };
    let last = FindOneOptions::builder().sort(sort).build();
    let Some(last) = db.one::<Document>(collection(part), doc! {}, last).await? else { return Ok(None) };
    Ok(match part {
        Part::Messages => Some(Row::Message(read::<MessageDoc>(last)?.into_entry()?).key()),
        Part::Receipts => Some(receipt(&read::<ReceiptDoc>(last)?).key()),
        Part::RefreshTokens => token(&last).map(|row| row.key()),
        Part::Links => mail::link_record(&last).map(|row| Key::Hash(row.hash)),
        Part::Audit => last.get_i64("_id").ok().map(|place| Key::Place(unsigned(place))),
        Part::BarredAddresses => bytes_of(&last, "_id").map(Key::Hash),
        Part::PushDevices => bytes_of(&last, "_id").map(|key| Key::Device(DeviceKey(key))),
        Part::PushMarks | Part::PushTasks => push::key_of(&last),
        Part::Jobs | Part::Mail | Part::Secrets => last.get_str("_id").ok().map(|key| Key::Job(key.to_owned())),
        _ => last.get_object_id("_id").ok().map(|id| Key::Id(id.bytes())),
    })
}

fn read<T: serde::de::DeserializeOwned>(document: Document) -> Result<T, Fault> {
    Ok(mongodb::bson::deserialize_from_document(document)?)
}

/// The members of the conversations that messages belong to, to say who receives them.
async fn participants(db: &Db, rows: &[Row]) -> Result<HashMap<ObjectId, ConversationDoc>, Fault> {
    let of: std::collections::BTreeSet<ConversationId> = rows
        .iter()
        .filter_map(|row| if let Row::Message(message) = row { Some(message.conversation) } else { None })
        .collect();
    if of.is_empty() {
        return Ok(HashMap::new());
    }
    let filter = super::document::among(of.into_iter().map(conversation_oid));
    let found: Vec<ConversationDoc> = db.all("conversations", filter, FindOptions::default()).await?;
    Ok(found.into_iter().map(|conversation| (conversation.id, conversation)).collect())
}

async fn insert(db: &Db, rows: Vec<Row>) -> Result<(), Fault> {
    let conversations = participants(db, &rows).await?;
    let mut name = None;
    let mut turns = Restored::default();
    let mut documents = Vec::with_capacity(rows.len());
    for row in rows {
        let (part, document) = document_of(row, &conversations, &mut turns)?;
        name = Some(collection(part));
        documents.push(document);
    }
    let Some(name) = name else { return Ok(()) };
    let command = db.bounded(doc! { "insert": name, "documents": documents, "ordered": false });
    let reply = db.database.run_command(command).await?;
    receipts::check(&reply, |code| code == DUPLICATE_KEY)
}

fn session_document(row: SessionRow) -> Document {
    let mut session = doc! {
        "_id": ObjectId::from_bytes(*row.id.as_bytes()),
        "member_id": member_oid(row.member),
        "created_at": date(row.created_at),
        "revoked_at": row.revoked_at.map(date),
        "device": sessions::device_document(row.device),
        "address": row.address.map(|address| address.to_string()),
        "last_address": row.last_address.map(|address| address.to_string()),
        "ends_at": row.ends_at.map(date),
        "generation": signed(row.generation),
        "good_from": signed(row.good_from),
        "newest": row.newest.map(|newest| binary(&newest)),
        "confirmed_at": row.confirmed_at.map(date),
        "attempt": row.attempt.map(|attempt| binary(&attempt)),
        "attempt_of": row.attempt.and(row.newest).map(|newest| binary(&newest)),
    };
    // The larger of a time and nothing is nothing, where that is written down.
    session.extend(row.last_used_at.map(|at| ("last_used_at".to_owned(), date(at).into())));
    session.extend(row.proved_at.map(|at| ("proved_at".to_owned(), date(at).into())));
    session.extend(row.known_device.map(|number| ("known_device".to_owned(), binary(&number).into())));
    session
}

fn document_of(
    row: Row,
    conversations: &HashMap<ObjectId, ConversationDoc>,
    turns: &mut Restored,
) -> Result<(Part, Document), Fault> {
    let document = |value: mongodb::bson::error::Result<Document>| value.map_err(Fault::from);
    Ok(match row {
        Row::Member(row) => {
            let member = MemberDoc::of(row.record, row.last_seen);
            (Part::Members, document(mongodb::bson::serialize_to_document(&member))?)
        }
        Row::Invitation(record) => (Part::Invitations, invitations::document(&record)),
        Row::Session(row) => (Part::Sessions, session_document(row)),
        Row::RefreshToken(TokenRow { hash, session, expires_at, used_at, attempt }) => (
            Part::RefreshTokens,
            doc! {
                "_id": binary(&hash),
                "session_id": ObjectId::from_bytes(*session.as_bytes()),
                "expires_at": date(expires_at),
                "used_at": used_at.map(date),
                "attempt": attempt.map(|attempt| binary(&attempt)),
            },
        ),
        Row::Conversation(ConversationRow { id, kind, participants, last_seq, last_at }) => {
            let participants: Vec<Bson> = participants
                .into_iter()
                .map(|ParticipantRow { member, delivered, read, stored }| ParticipantDoc {
                    member_id: member_oid(member),
                    delivered: signed(delivered),
                    read: signed(read),
                    settings: SettingsDoc::of(stored),
                })
                .map(|participant| mongodb::bson::serialize_to_bson(&participant))
                .collect::<Result<_, _>>()?;
            let conversation = doc! {
                "_id": conversation_oid(id),
                "kind": rules::kind_word(kind),
                "participants": participants,
                "last_seq": signed(last_seq),
                "last_at": date(last_at),
                "listed": date(last_at),
                "changed": date(last_at),
            };
            (Part::Conversations, conversation)
        }
        Row::Message(message) => {
            let conversation_id = conversation_oid(message.conversation);
            let others = conversations.get(&conversation_id).into_iter().flat_map(|found| &found.participants);
            let mut others = others.map(|each| each.member_id).filter(|id| *id != member_oid(message.sender));
            let message = MessageDoc {
                id: ObjectId::from_bytes(*MessageId::as_bytes(&message.id)),
                conversation_id,
                seq: signed(message.seq),
                sender_id: member_oid(message.sender),
                receiver_id: others.next(),
                client_id: client_uuid(message.client_id),
                format: i32::from(message.body.format().0),
                content: message.body.content().to_owned(),
                reply_to: message.reply_to.map(signed),
                created_at: date(message.at),
                // What the receipts say follows at the end.
                status: "sent".to_owned(),
                delivered_at: None,
                read_at: None,
                stamp: date(message.at),
            };
            (Part::Messages, document(mongodb::bson::serialize_to_document(&message))?)
        }
        Row::Receipt(ReceiptRow { conversation, member, kind, seq, at }) => {
            // Its own id says nothing; the unique index keeps one of each.
            let receipt = doc! {
                "conversation_id": conversation_oid(conversation),
                "member_id": member_oid(member),
                "kind": i32::from(kind),
                "seq": signed(seq),
                "at": date(at),
            };
            (Part::Receipts, with_new_id(receipt))
        }
        Row::Recommendation(record) => {
            // They come by id; those of one member stay in the order of their times.
            let stored = RecommendationDoc::of(*record, ObjectId::new());
            (Part::Recommendations, document(mongodb::bson::serialize_to_document(&stored))?)
        }
        Row::Budget(member, day, spent) => {
            (Part::Budgets, doc! { "_id": member_oid(member), "day": day, "spent": i64::from(spent) })
        }
        Row::Audit(place, entry) => (Part::Audit, audit::document(signed(place.0), &entry)),
        Row::Job(row) => (Part::Jobs, jobs::document(&row)?),
        Row::Link(row) => (Part::Links, mail::link_document(&row)),
        Row::Mail(row) => (Part::Mail, mail::document(&row, turns.turn(&row.mail))?),
        Row::Secret(name, value) => (Part::Secrets, doc! { "_id": name, "value": binary(&value) }),
        Row::PushDevice(record) => (Part::PushDevices, push::device_document(&record)?),
        Row::PushMark(mark) => (Part::PushMarks, push::mark_document(&mark)),
        Row::PushTask(stored) => {
            (Part::PushTasks, push::task_document(&StoredTask { revision: push::drawn(), ..*stored }))
        }
        Row::PushChoice(member, choice) => (Part::PushChoices, push::choice_document(member, &choice)),
        Row::BarredAddress(hash) => (Part::BarredAddresses, doc! { "_id": binary(&hash) }),
    })
}

fn with_new_id(document: Document) -> Document {
    let mut with_id = doc! { "_id": ObjectId::new() };
    with_id.extend(document);
    with_id
}

async fn begin(db: &Db, source: StoreId) -> Result<Option<bool>, Fault> {
    let meta = db.collection::<Document>("meta");
    if let Some(copy) = meta.find_one(doc! { "_id": "copy" }).await? {
        let same = copy.get_binary_generic("source").is_ok_and(|from| *from == source.0);
        return Ok(same.then_some(true));
    }
    for name in ["members", "messages", "audit"] {
        if db.one::<Document>(name, doc! {}, FindOneOptions::default()).await?.is_some() {
            return Ok(None);
        }
    }
    meta.insert_one(doc! { "_id": "copy", "source": binary(&source.0) }).await?;
    Ok(Some(false))
}

/// Receipts whose statuses are corrected at a time.
const RECEIPTS: usize = 500;

/// Makes the status of every message true, and lets the audit log go on.
async fn finish(db: &Db) -> Result<(), Fault> {
    let (mut after, mut before) = (None, None);
    loop {
        let some = by_conversation(db, Part::Receipts, after.clone(), RECEIPTS).await?;
        let Some(last) = some.last() else { break };
        after = Some(last.key());
        let mut updates = Vec::with_capacity(some.len());
        for row in some {
            let Row::Receipt(ReceiptRow { conversation, member, kind, seq, at }) = row else { continue };
            // They come by conversation, member and kind: the one before tells where this one begins.
            let same = Some((conversation, member, kind));
            let from = before.filter(|(of, _)| Some(*of) == same).map_or(0, |(_, seq): (_, u64)| seq);
            before = Some(((conversation, member, kind), seq));
            let range = (signed(from), signed(seq));
            let (conversation, member) = (conversation_oid(conversation), member_oid(member));
            updates.push(receipts::status_update(conversation, member, i32::from(kind), range, date(at)));
        }
        receipts::run_updates(db, "messages", updates).await?;
    }
    let meta = db.collection::<Document>("meta");
    if let Some(Key::Place(place)) = last_key(db, Part::Audit).await? {
        let go_on = doc! { "$max": { "place": signed(place) } };
        meta.update_one(doc! { "_id": "audit" }, go_on).upsert(true).await?;
    }
    meta.delete_one(doc! { "_id": "copy" }).await?;
    Ok(())
}

#[async_trait]
impl Archive for Mongo {
    async fn count(&self, part: Part) -> Result<u64, StoreError> {
        self.unhurried(async move |db| Ok(db.collection::<Document>(collection(part)).count_documents(doc! {}).await?))
            .await
    }

    async fn rows(&self, part: Part, after: Option<Key>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.unhurried(async move |db| rows(&db, part, after, limit).await).await
    }

    async fn last_key(&self, part: Part) -> Result<Option<Key>, StoreError> {
        self.unhurried(async move |db| last_key(&db, part).await).await
    }

    async fn begin_copy(&self, source: StoreId) -> Result<Option<bool>, StoreError> {
        self.unhurried(async move |db| begin(&db, source).await).await
    }

    async fn insert_rows(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        self.unhurried(async move |db| insert(&db, rows).await).await
    }

    async fn finish_copy(&self) -> Result<(), StoreError> {
        self.unhurried(async move |db| finish(&db).await).await
    }
}
