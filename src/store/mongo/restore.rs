//! Ending what a restored backup has brought back.

use mongodb::bson::{Document, doc};

use super::{audit, db::Db, document::date, fault::Fault, invitations};
use crate::store::restore::{Ended, Ending};

/// Ends it, one after the other, and last writes what the audit log keeps of that. May be made again.
pub(super) async fn end(db: &Db, ending: Ending) -> Result<Ended, Fault> {
    let at = ending.at;
    let change = async |collection: &str, which: Document, change: Document| {
        let changed = db.collection::<Document>(collection).update_many(which, change).await?;
        Ok::<_, Fault>(changed.modified_count)
    };
    let revoke = || doc! { "$set": { "revoked_at": date(at) } };
    let good = doc! { "is_over": false, "expires_at": { "$gt": date(at) } };
    let ended = Ended {
        sessions: change("sessions", doc! { "revoked_at": null }, revoke()).await?,
        links: change("links", good, doc! { "$set": { "is_over": true } }).await?,
        mails: db.collection::<Document>("mail").delete_many(doc! {}).await?.deleted_count,
        invitations: if ending.invitations {
            Some(change("invitations", invitations::open(at), revoke()).await?)
        } else {
            None
        },
    };
    audit::append(db, &ended.audit(at), None).await?;
    Ok(ended)
}
