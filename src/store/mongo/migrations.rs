//! The numbered schema changes: indexes, and what documents of an earlier version lack.
//!
//! Each is idempotent, so that several nodes may start at once, and none is recorded before it is done. MongoDB builds
//! an index that is there already in no time.

use std::time::Duration;

use mongodb::{
    IndexModel,
    bson::{Binary, DateTime, Document, doc, spec::BinarySubtype},
    options::{FindOneOptions, IndexOptions},
};

use protocol::Timestamp;

use super::{StoreError, db::Db, document::date, fault::Fault, unavailable};
use crate::store::conversations::StoreId;

/// An index that the server needs.
#[derive(Debug, Clone)]
pub struct Index {
    /// The collection.
    pub collection: &'static str,
    /// The fields, ascending.
    pub keys: &'static [&'static str],
    /// Whether two documents may not have the same values.
    pub unique: bool,
    /// The migration that makes it, from 1 on.
    pub since: usize,
}

const fn index(collection: &'static str, keys: &'static [&'static str], unique: bool) -> Index {
    Index { collection, keys, unique, since: 1 }
}

const fn later(since: usize, collection: &'static str, keys: &'static [&'static str]) -> Index {
    Index { collection, keys, unique: false, since }
}

/// Every index beside `_id`. `docs/mongodb.md` says what each is for.
pub const INDEXES: &[Index] = &[
    index("members", &["email_key"], true),
    index("members", &["name_key", "_id"], false),
    index("members", &["words"], false),
    index("members", &["user_type", "is_active"], false),
    index("members", &["company_words"], false),
    index("members", &["position_words"], false),
    index("members", &["tier", "is_active", "_id"], false),
    index("members", &["is_active", "_id"], false),
    index("ai_recommendations", &["user_id", "is_decided"], false),
    index("ai_recommendations", &["subject_id"], false),
    index("messages", &["conversation_id", "seq"], true),
    index("messages", &["conversation_id", "sender_id", "client_id"], true),
    index("conversations", &["participants.member_id", "changed"], false),
    index("receipts", &["conversation_id", "member_id", "kind", "seq"], true),
    index("sessions", &["member_id"], false),
    index("refresh_tokens", &["session_id"], false),
    index("refresh_tokens", &["expires_at"], false),
    index("nodes", &["at"], false),
    later(2, "messages", &["conversation_id", "sender_id", "seq"]),
    later(2, "audit", &["actor_id", "_id"]),
    later(2, "audit", &["target_id", "_id"]),
    later(3, "members", &["tier", "name_key", "_id"]),
    later(4, "members", &["company_words", "_id"]),
    later(4, "members", &["position_words", "_id"]),
    later(5, "jobs", &["due"]),
    later(6, "conversations", &["changed"]),
    later(7, "members", &["updated_at"]),
    Index { collection: "invitations", keys: &["code"], unique: true, since: 9 },
    later(9, "invitations", &["created_by", "_id"]),
    later(9, "invitations", &["expires_at"]),
    later(9, "members", &["invitation_id", "_id"]),
    later(9, "members", &["is_pending", "name_key", "_id"]),
    later(10, "mail", &["due"]),
    later(10, "mail", &["until"]),
    later(10, "mail", &["member_id"]),
    later(10, "links", &["member_id", "made_at"]),
    later(10, "links", &["made_at"]),
    later(13, "members", &["must_verify", "name_key", "_id"]),
    later(14, "audit", &["at", "_id"]),
    later(14, "audit", &["actor_id", "at", "_id"]),
    later(14, "audit", &["target_id", "at", "_id"]),
    later(14, "audit", &["action", "at", "_id"]),
    later(16, "mail", &["kind", "due"]),
    later(17, "push_devices", &["member_id"]),
    Index { collection: "push_devices", keys: &["hash"], unique: true, since: 17 },
    later(17, "push_devices", &["session_id"]),
    later(17, "push_tasks", &["due"]),
    later(17, "push_tasks", &["at"]),
    later(17, "push_tasks", &["device"]),
    later(18, "members", &["password_hash"]),
    later(19, "mail", &["kind", "turn", "due"]),
    later(19, "mail", &["share", "kind", "turn"]),
    later(20, "links", &["is_claim", "made_at"]),
    later(20, "links", &["invitation_id"]),
    later(20, "links", &["address"]),
    later(22, "links", &["email_key", "made_at"]),
];

/// Their names, in their order. A released one is never changed: a change is a new one.
const ALL: &[&str] = &[
    "core",
    "reads",
    "directory",
    "colleagues",
    "jobs",
    "fleet",
    "profiles",
    "sessions",
    "registration",
    "mail",
    "second factor",
    "addresses",
    "unverified",
    "audit",
    "exchanges",
    "mail order",
    "push",
    "costs",
    "mail shares",
    "claims",
    "claim keys",
    "email change keys",
];

/// What is missing, in words.
pub(super) async fn pending(db: &Db) -> Result<Vec<&'static str>, StoreError> {
    let applied = applied(db).await?;
    Ok(ALL.iter().skip(applied).copied().collect())
}

/// Applies what is missing, and says which database it is.
pub(super) async fn run(db: &Db) -> Result<StoreId, StoreError> {
    let done = applied(db).await?;
    for (number, name) in ALL.iter().enumerate().skip(done) {
        match number {
            0 => core(db).await.map_err(StoreError::from)?,
            // Built beside the writes; until they are there a start waits.
            // That of sessions makes none: it keeps versions away that replace tokens of a session without saying so in it. Nor does that of
            // the second factor: it keeps versions away that would write a member without it. That of the audit log does the same for the number of
            // credentials.
            1..=10 | 13 | 15 | 17..=19 | 21 => make_indexes(db, number + 1).await.map_err(StoreError::from)?,
            11 => create(db, &["secrets", "barred_addresses"]).await.map_err(StoreError::from)?,
            12 => {
                make_indexes(db, number + 1).await.map_err(StoreError::from)?;
                hide_unverified(db).await.map_err(StoreError::from)?;
            }
            16 => {
                create(db, &["push_marks", "push_choices", "push_places"]).await.map_err(StoreError::from)?;
                make_indexes(db, number + 1).await.map_err(StoreError::from)?;
            }
            20 => forget_claimed(db).await.map_err(StoreError::from)?,
            // Keeps versions away that replace tokens of a session without saying in it by which attempt.
            14 => {}
            _ => return Err(StoreError::Inconsistent(format!("the migration {name} has no code"))),
        }
        let number = i32::try_from(number + 1).unwrap_or(i32::MAX);
        let record = doc! { "$setOnInsert": { "name": *name }, "$currentDate": { "at": true } };
        let migrations = db.collection::<Document>("migrations");
        migrations.update_one(doc! { "_id": number }, record).upsert(true).await.map_err(Fault::from)?;
        tracing::info!(number, name, "the schema was brought up to date");
    }
    store_id(db).await.map_err(StoreError::from)
}

/// Addresses of claims were hashed without a key until now. They live for two days: these are forgotten, and their uses come back all the
/// same.
async fn forget_claimed(db: &Db) -> Result<(), Fault> {
    let (old, forget) = (doc! { "address": { "$exists": true } }, doc! { "$unset": { "address": "" } });
    db.collection::<Document>("links").update_many(old, forget).await?;
    Ok(())
}

/// How many were applied.
async fn applied(db: &Db) -> Result<usize, StoreError> {
    let newest_first = FindOneOptions::builder().sort(doc! { "_id": -1 }).build();
    let newest = db.one("migrations", doc! {}, newest_first).await?;
    let number = newest.and_then(|newest: Document| newest.get_i32("_id").ok()).unwrap_or(0);
    let number = usize::try_from(number).unwrap_or(0);
    if number > ALL.len() {
        return Err(unavailable("its schema is from a newer version of the server"));
    }
    Ok(number)
}

/// How long ago somebody has registered of whom no node of this version can have known.
const SETTLED: Duration = Duration::from_secs(60 * 60);

/// Collections without an index beside `_id`. Made before they are needed: a transaction should not have to.
const PLAIN: &[&str] = &["audit", "ai_budgets", "meta", "migrations"];
/// The code of a server that has a collection already.
const NAMESPACE_EXISTS: i32 = 48;

async fn core(db: &Db) -> Result<(), Fault> {
    create(db, PLAIN).await?;
    make_indexes(db, 1).await
}

/// Creates collections that are not there yet.
async fn create(db: &Db, names: &[&str]) -> Result<(), Fault> {
    for name in names {
        match db.database.create_collection(*name).await {
            Err(error) if super::fault::code(&error) != Some(NAMESPACE_EXISTS) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Makes the indexes of a migration.
async fn make_indexes(db: &Db, migration: usize) -> Result<(), Fault> {
    for Index { collection, keys, unique, .. } in INDEXES.iter().filter(|index| index.since == migration) {
        let model = IndexModel::builder()
            .keys(keys.iter().map(|key| ((*key).to_owned(), mongodb::bson::Bson::Int32(1))).collect::<Document>())
            .options(IndexOptions::builder().unique(unique.then_some(true)).build())
            .build();
        db.collection::<Document>(collection).create_index(model).await?;
    }
    Ok(())
}

/// Who has to verify the address is no member until they have done so. Who was deactivated stays that: those are told from who has
/// registered while another node did this by the time.
async fn hide_unverified(db: &Db) -> Result<(), Fault> {
    let members = db.collection::<Document>("members");
    let an_hour_ago = date(Timestamp::from_millis(DateTime::now().timestamp_millis()).before(SETTLED));
    // Who has signed in all the same, while no mail was sent, stays a member; so does who was made an administrator.
    let stay = doc! {
        "must_verify": true,
        "is_pending": { "$ne": true },
        "$or": [
            { "last_login": { "$ne": null } },
            { "user_type": "admin" },
            { "is_active": false, "created_at": { "$lt": an_hour_ago }, "awaits": { "$ne": true } },
        ],
    };
    members.update_many(stay, doc! { "$unset": { "must_verify": "" } }).await?;
    let hidden = doc! {
        // So that this is not taken for a deactivation when it is done again.
        "$set": { "is_active": false, "awaits": true, "words": [], "company_words": [], "position_words": [] },
    };
    members.update_many(doc! { "must_verify": true, "is_active": true }, hidden).await?;
    Ok(())
}

/// The id of the database; the first node to come draws it.
async fn store_id(db: &Db) -> Result<StoreId, Fault> {
    // An ObjectId has enough that is random, and is made where a document is.
    let drawn = mongodb::bson::oid::ObjectId::new().bytes();
    let drawn: Vec<u8> = drawn.iter().skip(4).copied().collect();
    let drawn = Binary { subtype: BinarySubtype::Generic, bytes: drawn };
    let meta = db.collection::<Document>("meta");
    let draw = doc! { "$setOnInsert": { "store_id": drawn } };
    match meta.update_one(doc! { "_id": "store" }, draw).upsert(true).await {
        // Another node was first by a hair.
        Err(error) if !super::fault::is_duplicate(&error) => return Err(error.into()),
        _ => {}
    }
    let stored = db.one("meta", doc! { "_id": "store" }, FindOneOptions::default()).await?;
    let stored: Document = stored.ok_or_else(|| Fault::Data("meta has no store_id".to_owned()))?;
    let bytes = stored.get_binary_generic("store_id").map_err(|error| Fault::Data(error.to_string()))?;
    let id = bytes.as_slice().try_into().map_err(|_| Fault::Data("store_id has not 8 bytes".to_owned()))?;
    Ok(StoreId(id))
}
