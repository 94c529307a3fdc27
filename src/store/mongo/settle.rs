//! The second half of a batch: what became of its commands, in their order, and what has to be written beside the messages.

use std::collections::HashMap;

use mongodb::bson::{Document, doc, oid::ObjectId};
use protocol::{ConversationId, Timestamp};

use super::{
    Core,
    append::{self, Appending},
    db::Db,
    document::{ReceiptDoc, conversation_oid, date, member_oid, signed},
    log::{Planned, Working, WorkingSet, retry_until_known},
    receipts, settings,
};
use crate::{
    position::Epoch,
    store::{
        StoreError,
        conversations::{Appended, Mark, Outcome, Refusal},
        rules,
    },
};

/// Walks the batch in its order with what became of its messages, moves watermarks, and writes what follows.
pub(super) async fn settle(
    core: &Core,
    db: &Db,
    planned: Vec<Planned>,
    appending: Vec<Appending>,
    working: &mut WorkingSet,
    now: Timestamp,
    epoch: &mut Epoch,
) -> Result<Vec<Result<Outcome, Refusal>>, StoreError> {
    // The newest entry of each conversation at each point of the batch.
    let mut newest: HashMap<ConversationId, u64> =
        working.iter().map(|(id, conversation)| (*id, conversation.base_seq)).collect();
    let mut appending: Vec<Option<Appending>> = appending.into_iter().map(Some).collect();
    let (mut outcomes, mut configures) = (Vec::with_capacity(planned.len()), Vec::new());
    for planned in planned {
        outcomes.push(match planned {
            Planned::Refused(refusal) => Err(refusal),
            Planned::Append(place) => {
                let done = appending.get_mut(place).and_then(Option::take).and_then(Appending::into_done);
                match done.ok_or_else(|| StoreError::Inconsistent("a message has no outcome".to_owned()))? {
                    Ok(append::Done { message, duplicate }) => {
                        let Some(conversation) = working.get(&message.conversation) else {
                            return Err(StoreError::Inconsistent("a message has no conversation".to_owned()));
                        };
                        let newest = newest.entry(message.conversation).or_default();
                        *newest = message.seq.max(*newest);
                        let membership = conversation.state.membership.clone();
                        Ok(Outcome::Appended(Appended { message, duplicate, membership }))
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            Planned::Refresh => Ok(Outcome::Refreshed),
            Planned::Configure(configure) => {
                configures.push((outcomes.len(), configure));
                // Replaced below.
                Err(Refusal::ConversationNotFound)
            }
            Planned::Mark(mark) => {
                let last_seq = newest.get(&mark.conversation).copied().unwrap_or(0);
                move_watermark(working, &mark, last_seq, now)
            }
        });
    }
    append::check_epoch(core, db, working, epoch).await?;
    let written = write(core, db, working, *epoch);
    let configured = settings::apply(core, db, configures, working, *epoch, &mut outcomes);
    let (written, configured) = tokio::join!(written, configured);
    written.and(configured)?;
    Ok(outcomes)
}

/// Moves a watermark in memory.
fn move_watermark(working: &mut WorkingSet, mark: &Mark, last_seq: u64, now: Timestamp) -> Result<Outcome, Refusal> {
    let Working { state, moved, marked_at, .. } =
        working.get_mut(&mark.conversation).ok_or(Refusal::ConversationNotFound)?;
    let place = state.membership.place_of(mark.member).ok_or(Refusal::ConversationNotFound)?;
    let watermarks = state.watermarks.get_mut(place).ok_or(Refusal::ConversationNotFound)?;
    let (at, before) = (state.end.not_before(now), *watermarks);
    *watermarks = before.moved(mark.kind, mark.seq, last_seq);
    if *watermarks != before {
        moved.entry(place).or_insert(before);
        *marked_at = at;
    }
    Ok(Outcome::Marked(rules::marked(mark, (before, *watermarks), last_seq, at, None, &state.membership)))
}

/// What has to be written beside the messages.
#[derive(Default)]
struct Writes {
    receipts: Vec<ReceiptDoc>,
    conversations: Vec<Document>,
    statuses: Vec<Document>,
}

/// Writes receipts, then watermarks with the stamp, and statuses beside those. What is known of the logs is of an epoch: in another one,
/// watermarks may be beyond the end of what is there.
async fn write(core: &Core, db: &Db, working: &WorkingSet, epoch: Epoch) -> Result<(), StoreError> {
    let mut writes = Writes::default();
    for (id, conversation) in working {
        collect(core, conversation_oid(*id), conversation, &mut writes);
    }
    let Writes { receipts, conversations, statuses } = writes;
    if !receipts.is_empty() {
        retry_until_known(core, Some(epoch), "storing receipts", || receipts::insert(db, &receipts)).await?;
    }
    // Statuses are in other documents, so both go at once.
    let stamped = retry_until_known(core, Some(epoch), "stamping conversations", || {
        receipts::run_updates(db, "conversations", conversations.clone())
    });
    let corrected = retry_until_known(core, Some(epoch), "correcting statuses", || {
        receipts::run_updates(db, "messages", statuses.clone())
    });
    let (stamped, corrected) = tokio::join!(stamped, corrected);
    stamped.and(corrected)
}

fn collect(core: &Core, id: ObjectId, conversation: &Working, writes: &mut Writes) {
    let Working { state, appended, behind, moved, marked_at, .. } = conversation;
    let newest = doc! { "last_seq": signed(state.end.seq), "last_at": date(state.end.at) };
    if *behind && !appended {
        let filter = doc! { "_id": id, "last_seq": { "$lt": signed(state.end.seq) } };
        let stamps = doc! { "changed": true, "listed": true };
        let update = doc! { "$max": newest.clone(), "$currentDate": stamps, "$unset": { "former": "" } };
        writes.conversations.push(doc! { "q": filter, "u": update });
    }
    if !appended && moved.is_empty() {
        return;
    }
    let mut stamps = doc! { "changed": true };
    let mut largest = Document::new();
    if *appended {
        stamps.insert("listed", true);
        largest.extend(newest);
    }
    for (&place, &before) in moved {
        let (Some(&after), Some(&member)) = (state.watermarks.get(place), state.membership.members.get(place)) else {
            continue;
        };
        let (member, at) = (member_oid(member), date(*marked_at));
        let moves = [
            (receipts::DELIVERED, "delivered", before.delivered, after.delivered),
            (receipts::READ, "read", before.read, after.read),
        ];
        for (kind, field, before, after) in moves.into_iter().filter(|(.., before, after)| before < after) {
            let (before, after) = (signed(before), signed(after));
            writes.receipts.push(ReceiptDoc {
                id: ObjectId::from_bytes(*core.ids.message().as_bytes()),
                conversation_id: id,
                member_id: member,
                kind,
                seq: after,
                at,
            });
            largest.insert(format!("participants.{place}.{field}"), after);
            writes.statuses.push(receipts::status_update(id, member, kind, (before, after), at));
        }
    }
    let update = doc! { "$max": largest, "$currentDate": stamps, "$unset": { "former": "" } };
    writes.conversations.push(doc! { "q": { "_id": id }, "u": update });
}
