//! What a member has not read: bounded by what is told of it, however much it is and whoever wrote it.
//!
//! The entries of each other member follow one another in the index over (conversation, sender, seq), so those after `read`
//! are counted from there up to the largest number that is told: what the member wrote meanwhile is not looked at.

use mongodb::bson::{Document, doc};
use protocol::{MemberId, limits};

use super::{
    db::Db,
    document::{ConversationDoc, member_oid, signed},
    fault::Fault,
};
use crate::store::conversations::UnreadCount;

/// Messages of others among the entries after the first `seq` and up to the second one.
pub(super) async fn count(
    db: &Db,
    conversation: &ConversationDoc,
    member: MemberId,
    range: (u64, u64),
) -> Result<UnreadCount, Fault> {
    // One more than is told.
    number(db, conversation, member, range, limits::UNREAD_MAX.saturating_add(1)).await.map(UnreadCount::of)
}

/// The same, up to `most`.
pub(super) async fn number(
    db: &Db,
    conversation: &ConversationDoc,
    member: MemberId,
    (read, last): (u64, u64),
    most: u64,
) -> Result<u64, Fault> {
    let mut found = 0;
    for sender in conversation.participants.iter().filter(|each| each.member_id != member_oid(member)) {
        let room = most.saturating_sub(found);
        if read >= last || room == 0 {
            break;
        }
        let filter = doc! {
            "conversation_id": conversation.id,
            "sender_id": sender.member_id,
            "seq": { "$gt": signed(read), "$lte": signed(last) },
        };
        found +=
            db.collection::<Document>("messages").count_documents(filter).limit(room).max_time(db.max_time).await?;
    }
    Ok(found)
}
