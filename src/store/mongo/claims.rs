//! Registrations with an address that is another's, and the uses of invitations that come back.

use futures_util::FutureExt as _;
use mongodb::{
    ClientSession,
    bson::{Document, doc},
    options::FindOptions,
};
use protocol::{InvitationId, MemberId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{
    addresses, audit,
    db::Db,
    document::{binary, date, invitation_oid},
    fault::Fault,
    invitations,
    mail::link_record,
    members::transaction,
};
use crate::store::{
    invitations::return_of,
    mail::{Claim, claimed},
    members::Invited,
};

/// How many are kept, counted up to a number.
pub(super) async fn count(db: &Db, most: u64) -> Result<u64, Fault> {
    let links = db.collection::<Document>("links");
    Ok(links.count_documents(doc! { "is_claim": true }).limit(most).max_time(db.max_time).await?)
}

/// How many hold a use of an invitation.
pub(super) async fn count_of(db: &Db, invitation: InvitationId) -> Result<u64, Fault> {
    let links = db.collection::<Document>("links");
    let held = doc! { "invitation_id": invitation_oid(invitation) };
    Ok(links.count_documents(held).max_time(db.max_time).await?)
}

/// Whether there is one that holds a use of an invitation with an address.
pub(super) async fn holds(
    db: &Db,
    session: &mut ClientSession,
    invitation: InvitationId,
    email: &str,
) -> Result<bool, Fault> {
    // The same questions whether there is a key or not.
    let address = claimed(addresses::key(db, session).await?, email).unwrap_or_default();
    let held = doc! { "address": binary(&address), "invitation_id": invitation_oid(invitation) };
    Ok(db.collection::<Document>("links").find_one(held).session(session).await?.is_some())
}

/// Forgets the address of a member who leaves. The uses come back all the same.
pub(super) async fn forget(db: &Db, session: &mut ClientSession, email: &str) -> Result<(), Fault> {
    let Some(address) = claimed(addresses::key(db, session).await?, email) else { return Ok(()) };
    let (own, forget) = (doc! { "address": binary(&address) }, doc! { "$unset": { "address": "" } });
    db.collection::<Document>("links").update_many(own, forget).session(session).await?;
    Ok(())
}

/// Removes those of before a time, the oldest first, and gives their uses back. Returns how many.
pub(super) async fn purge(db: &Db, before: Timestamp, most: usize, at: Timestamp) -> Result<usize, Fault> {
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    if limit == 0 {
        // To MongoDB that is no limit.
        return Ok(0);
    }
    let old = doc! { "is_claim": true, "made_at": { "$lt": date(before) } };
    let only = doc! { "_id": 1 };
    let oldest_first = FindOptions::builder().sort(doc! { "made_at": 1 }).projection(only).limit(limit).build();
    let old: Vec<Document> = db.all("links", old, oldest_first).await?;
    let mut removed = 0;
    for id in old.iter().filter_map(|old| old.get("_id")) {
        let (own, which, never) = (db.clone(), doc! { "_id": id, "is_claim": true }, CancellationToken::new());
        let done = transaction(db, &never, move |session| {
            let (db, which) = (own.clone(), which.clone());
            async move { remove(&db, session, which, at).await }.boxed()
        });
        removed += usize::from(done.await? == Some(true));
    }
    Ok(removed)
}

/// Removes one; false if another node has.
async fn remove(db: &Db, session: &mut ClientSession, which: Document, at: Timestamp) -> Result<bool, Fault> {
    let links = db.collection::<Document>("links");
    let Some(found) = links.find_one_and_delete(which).session(&mut *session).await? else { return Ok(false) };
    let Some(link) = link_record(&found) else { return Ok(true) };
    let Some(Claim { invitation: Some(id), .. }) = link.claim else { return Ok(true) };
    let held = doc! { "_id": invitation_oid(id) };
    let held = db.collection::<Document>("invitations").find_one(held).session(&mut *session).await?;
    if let Some(held) = held.as_ref().map(invitations::record).transpose()? {
        let invited = Invited { by: held.created_by, invitation: held.id };
        give_back(db, session, &invited, link.member, at).await?;
    }
    Ok(true)
}

/// Gives a use of an invitation back, with what the audit log keeps of that.
pub(super) async fn give_back(
    db: &Db,
    session: &mut ClientSession,
    invited: &Invited,
    member: MemberId,
    at: Timestamp,
) -> Result<(), Fault> {
    let taken = doc! { "_id": invitation_oid(invited.invitation), "used": { "$gt": 0_i64 } };
    let give_back = doc! { "$inc": { "used": -1_i64, "left": 1_i64 } };
    let invitations = db.collection::<Document>("invitations");
    if invitations.update_one(taken, give_back).session(&mut *session).await?.matched_count > 0 {
        audit::append(db, &return_of(invited, member, at), Some(session)).await?;
    }
    Ok(())
}
