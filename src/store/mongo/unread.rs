//! What a member has not read: bounded by what is told of it, however much it is and whoever wrote it.
//!
//! The entries of each other member follow one another in the index over (conversation, sender, seq), so those after `read`
//! are counted from there up to the largest number that is told: what the member wrote meanwhile is not looked at.
//!
//! What was counted is remembered: an entry stays where it is, so the next time only those that came after it are counted, and
//! those at hand anyway cost no look into the database.

use mongodb::bson::{Document, doc, oid::ObjectId};
use protocol::{MemberId, limits};

use super::{
    Core,
    db::Db,
    document::{ConversationDoc, member_oid, signed, unsigned},
    fault::Fault,
};
use crate::{
    position::Epoch,
    store::{conversations::UnreadCount, entries::StoredEntry},
};

/// Whose count is remembered, and of which conversation.
pub(super) type CountKey = (ObjectId, MemberId);

/// What was counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    /// In which the log was as it was.
    epoch: Epoch,
    /// The entries after this one,
    read: u64,
    /// and up to this one.
    last: u64,
    /// How many of them are by others; one more than is told stands for any larger number.
    number: u64,
}

/// One more than is told.
const MOST: u64 = limits::UNREAD_MAX.saturating_add(1);

/// Counts in one epoch what is unread: in another one the log may have gone back, and what is remembered of it does not count.
pub(super) struct Counts<'a> {
    core: &'a Core,
    db: &'a Db,
    epoch: Epoch,
}

impl<'a> Counts<'a> {
    /// To be begun before anything is read that is counted.
    pub(super) fn begin(core: &'a Core, db: &'a Db) -> Self {
        Self { core, db, epoch: core.link.horizon.now().epoch }
    }

    /// The database that is read.
    pub(super) fn db(&self) -> &'a Db {
        self.db
    }

    /// What a member has not read of a conversation. `newest`: the newest of its entries without a hole, as far as they are at hand.
    pub(super) async fn of(
        &self,
        conversation: &ConversationDoc,
        member: MemberId,
        newest: &[StoredEntry],
    ) -> Result<UnreadCount, Fault> {
        self.after(conversation, member, range_of(conversation, member), newest).await
    }

    /// Whether there is anything that a member has not read of a conversation: one look into the index for each other member at most, of
    /// which nothing is remembered.
    pub(super) async fn any(&self, conversation: &ConversationDoc, member: MemberId) -> Result<bool, Fault> {
        let (read, last) = range_of(conversation, member);
        let known = self.known((conversation.id, member), read).filter(|known| known.last <= last);
        let (from, before) = known.map_or((read, 0), |known| (known.last, known.number));
        Ok(before > 0 || number(self.db, conversation, member, (from, last), 1).await? > 0)
    }

    /// What is remembered of this epoch of the entries after `read`.
    fn known(&self, key: CountKey, read: u64) -> Option<Counted> {
        self.core.unread.get(&key).filter(|known| known.epoch == self.epoch && known.read == read)
    }

    /// Messages of others among the entries after the first `seq` and up to the second one.
    pub(super) async fn after(
        &self,
        conversation: &ConversationDoc,
        member: MemberId,
        (read, last): (u64, u64),
        newest: &[StoredEntry],
    ) -> Result<UnreadCount, Fault> {
        let key = (conversation.id, member);
        let known = self.known(key, read);
        let (from, before) =
            known.filter(|known| known.last <= last).map_or((read, 0), |known| (known.last, known.number));
        let reaches_back = newest.first().is_some_and(|first| first.seq <= from.saturating_add(1));
        let number = if reaches_back && newest.last().is_some_and(|newest| newest.seq == last) {
            let theirs = newest.iter().filter(|entry| entry.seq > from && entry.sender != member).count();
            before.saturating_add(u64::try_from(theirs).unwrap_or(u64::MAX)).min(MOST)
        } else {
            before.saturating_add(number(self.db, conversation, member, (from, last), MOST - before.min(MOST)).await?)
        };
        if known.is_none_or(|known| known.last < last) {
            self.core.unread.insert(key, Counted { epoch: self.epoch, read, last, number });
        }
        Ok(UnreadCount::of(number))
    }
}

/// The entries after what a member has read.
pub(super) fn range_of(conversation: &ConversationDoc, member: MemberId) -> (u64, u64) {
    let own = conversation.participants.iter().find(|each| each.member_id == member_oid(member));
    (own.map_or(0, |own| unsigned(own.read)), unsigned(conversation.last_seq))
}

/// Messages of others among the entries after the first `seq` and up to the second one, up to `most`; nothing is remembered.
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
