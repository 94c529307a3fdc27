//! Writing watermarks: the receipts first, then the watermarks with the stamp, then the status in the messages.
//!
//! Every step can be repeated: receipts are inserted under a unique index, watermarks only grow (`$max`), and a message
//! keeps the first time at which it was delivered or read.

use mongodb::bson::{DateTime, Document, doc, oid::ObjectId};

use super::{
    db::Db,
    document::ReceiptDoc,
    fault::{DUPLICATE_KEY, Fault},
};

/// The kind of a receipt.
pub(super) const DELIVERED: i32 = 0;
/// The kind of a receipt.
pub(super) const READ: i32 = 1;
/// Statements in one command: far below every limit of the server, and answered well within its time.
const STATEMENTS: usize = 500;

/// Stores receipts. One that is there already keeps its time.
pub(super) async fn insert(db: &Db, receipts: &[ReceiptDoc]) -> Result<(), Fault> {
    for some in receipts.chunks(STATEMENTS) {
        let documents = some.iter().map(mongodb::bson::serialize_to_document).collect::<Result<Vec<_>, _>>()?;
        let command = db.bounded(doc! { "insert": "receipts", "documents": documents, "ordered": false });
        let reply = db.database.run_command(command).await?;
        check(&reply, |code| code == DUPLICATE_KEY)?;
    }
    Ok(())
}

/// The statement that brings the status of a range of messages up to a receipt of their receiver.
pub(super) fn status_update(
    conversation: ObjectId,
    receiver: ObjectId,
    kind: i32,
    (after, to): (i64, i64),
    at: DateTime,
) -> Document {
    let mut filter = doc! {
        "conversation_id": conversation,
        "seq": { "$gt": after, "$lte": to },
        "receiver_id": receiver,
    };
    if kind == READ {
        filter.insert("read_at", doc! { "$eq": null });
        doc! { "q": filter, "u": { "$set": { "status": "read", "read_at": at } }, "multi": true }
    } else {
        filter.insert("delivered_at", doc! { "$eq": null });
        // Another node may have made it `read` already.
        let status = doc! { "$cond": [{ "$eq": ["$status", "sent"] }, "delivered", "$status"] };
        doc! { "q": filter, "u": [{ "$set": { "status": status, "delivered_at": at } }], "multi": true }
    }
}

/// Runs update statements, each of which can be repeated.
pub(super) async fn run_updates(db: &Db, collection: &str, mut updates: Vec<Document>) -> Result<(), Fault> {
    while !updates.is_empty() {
        let rest = updates.split_off(updates.len().min(STATEMENTS));
        let some = std::mem::replace(&mut updates, rest);
        let command = db.bounded(doc! { "update": collection, "updates": some, "ordered": false });
        let reply = db.database.run_command(command).await?;
        // Two nodes made the same conversation at the same moment: it is there.
        check(&reply, |code| code == DUPLICATE_KEY)?;
    }
    Ok(())
}

/// What a bulk command reports beside its success.
pub(super) fn check(reply: &Document, harmless: impl Fn(i32) -> bool) -> Result<(), Fault> {
    let errors = reply.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
    for error in errors.iter().filter_map(mongodb::bson::Bson::as_document) {
        let code = error.get_i32("code").unwrap_or(0);
        if !harmless(code) {
            return Err(Fault::Refused(code));
        }
    }
    if reply.contains_key("writeConcernError") {
        return Err(Fault::Undurable);
    }
    Ok(())
}
