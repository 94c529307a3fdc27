//! Addresses that nobody registers with.

use futures_util::FutureExt as _;
use mongodb::{
    ClientSession,
    bson::{Document, doc},
};
use protocol::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{
    audit,
    db::Db,
    document::{binary, bytes_of},
    fault::Fault,
    members::{overtaken, transaction},
};
use crate::store::{
    addresses::{AddressHash, AddressKey, Allowed, KEY, allowed, hash},
    changes::Actor,
};

/// The key of addresses, if it was drawn.
pub(super) async fn key(db: &Db, session: &mut ClientSession) -> Result<Option<AddressKey>, Fault> {
    let found = db.collection::<Document>("secrets").find_one(doc! { "_id": KEY }).session(session).await?;
    Ok(found.and_then(|found| bytes_of(&found, "value")))
}

fn document(hash: AddressHash) -> Document {
    doc! { "_id": binary(&hash) }
}

/// The key of addresses: `drawn`, if there is none yet.
pub(super) async fn drawn_key(db: &Db, session: &mut ClientSession, drawn: AddressKey) -> Result<AddressKey, Fault> {
    if let Some(key) = key(db, session).await? {
        return Ok(key);
    }
    // Of two that are the first at the same moment one is repeated.
    let secret = doc! { "_id": KEY, "value": binary(&drawn) };
    db.collection::<Document>("secrets").insert_one(secret).session(session).await?;
    Ok(drawn)
}

/// Keeps whoever wants to register with an address out from now on. `drawn`: the key, if there is none yet.
pub(super) async fn bar(db: &Db, session: &mut ClientSession, email: &str, drawn: AddressKey) -> Result<(), Fault> {
    let key = drawn_key(db, session, drawn).await?;
    let Some(hash) = hash(Some(key), email) else { return Ok(()) };
    let barred = db.collection::<Document>("barred_addresses");
    barred.replace_one(document(hash), document(hash)).upsert(true).session(session).await?;
    Ok(())
}

/// Whether nobody registers with an address.
pub(super) async fn is_barred(db: &Db, session: &mut ClientSession, email: &str) -> Result<bool, Fault> {
    let key = key(db, session).await?;
    // The same questions for every address.
    let hash = hash(key, email).unwrap_or_default();
    let found = db.collection::<Document>("barred_addresses").find_one(document(hash)).session(session).await?;
    Ok(found.is_some())
}

/// Lets somebody register with an address again.
pub(super) async fn allow(db: &Db, email: String, by: Actor, at: Timestamp) -> Result<Allowed, Fault> {
    let own = db.clone();
    let never = CancellationToken::new();
    let allowed = transaction(db, &never, move |session| {
        let (db, email) = (own.clone(), email.clone());
        async move { allow_in(&db, session, &email, by, at).await }.boxed()
    });
    Ok(allowed.await?.unwrap_or(Allowed::NotBarred))
}

async fn allow_in(
    db: &Db,
    session: &mut ClientSession,
    email: &str,
    by: Actor,
    at: Timestamp,
) -> Result<Allowed, Fault> {
    let Some(hash) = hash(key(db, session).await?, email) else { return Ok(Allowed::NotBarred) };
    let barred = db.collection::<Document>("barred_addresses");
    if barred.find_one(document(hash)).session(&mut *session).await?.is_none() {
        return Ok(Allowed::NotBarred);
    }
    if let Some(overtaken) = overtaken(db, session, by, true, at).await? {
        return Ok(Allowed::Overtaken(overtaken));
    }
    barred.delete_one(document(hash)).session(&mut *session).await?;
    if let Some(member) = by.member {
        audit::append(db, &allowed(by, member, at), Some(session)).await?;
    }
    Ok(Allowed::Done)
}
