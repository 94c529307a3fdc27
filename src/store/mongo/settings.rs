//! What members have set of conversations: a field of the participant in the document of the conversation.
//!
//! It is for that member alone, so a sync of another one does not bring it: `changed` of the conversation, by which syncs and the sweeps of
//! other nodes find it, says `configured` then, and `former` when it was changed for all before (`ConversationDoc::changed_for`).
//!
//! Several nodes may set it at the same time, so the database counts the revision, and what it says is the outcome. A repetition whose
//! first attempt arrived counts once more: it is the newer one then, and says the same.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::{
    ClientSession,
    bson::{Document, doc},
    options::{FindOptions, ReturnDocument},
};
use protocol::{ConversationId, MemberId, model::ConversationSettings};

use super::{
    Core,
    db::Db,
    document::{ConversationDoc, among, conversation_oid, date, member_oid},
    fault::Fault,
    log::{WorkingSet, retry_until_known},
    turns::PARALLEL,
};
use crate::{
    position::Epoch,
    store::{
        StoreError,
        conversations::{Configure, Configured, Outcome, Refusal, StoredSettings},
    },
};

/// The commands of a batch that set something: the place of each among the outcomes, the last one last.
pub(super) type Configures = Vec<(usize, Configure)>;

/// Whose settings of which conversation.
type Whose = (ConversationId, MemberId);

/// Writes what the last command of each member and conversation says, if that is something else than what was read before the batch, and
/// gives the outcomes of all.
pub(super) async fn apply(
    core: &Core,
    db: &Db,
    configures: Configures,
    working: &WorkingSet,
    epoch: Epoch,
    outcomes: &mut [Result<Outcome, Refusal>],
) -> Result<(), StoreError> {
    let whose = |configure: &Configure| (configure.conversation, configure.member);
    let last: HashMap<Whose, (usize, Configure)> =
        configures.iter().map(|(at, configure)| (whose(configure), (*at, *configure))).collect();
    let written = last.into_iter().map(|(whose, (at, configure))| async move {
        let known = place_of(working, &configure).map(|place| (place, known(working, &configure, place)));
        let outcome = match known {
            None => Err(Refusal::ConversationNotFound),
            Some((_, Some(known))) if known.settings == configure.settings => Ok((at, known, false)),
            Some(_) => {
                let write = || write(db, &configure);
                let stored = retry_until_known(core, Some(epoch), "setting what a member wants", write).await?;
                Ok((at, stored, true))
            }
        };
        Ok::<_, StoreError>((whose, outcome))
    });
    let written: HashMap<Whose, _> =
        stream::iter(written.collect::<Vec<_>>()).buffer_unordered(PARALLEL).try_collect().await?;
    for (at, configure) in configures {
        let (Some(outcome), Some(written)) = (outcomes.get_mut(at), written.get(&whose(&configure))) else { continue };
        let Configure { conversation, member, .. } = configure;
        *outcome = written.clone().map(|(last, stored, is_new)| {
            Outcome::Configured(Configured { conversation, member, stored, changed: is_new && at == last })
        });
    }
    Ok(())
}

fn place_of(working: &WorkingSet, configure: &Configure) -> Option<usize> {
    working.get(&configure.conversation)?.state.membership.place_of(configure.member)
}

/// What was read before the batch; nothing of a conversation that began with it.
fn known(working: &WorkingSet, configure: &Configure, place: usize) -> Option<StoredSettings> {
    working.get(&configure.conversation)?.settings.get(place).copied()
}

async fn write(db: &Db, configure: &Configure) -> Result<StoredSettings, Fault> {
    let ConversationSettings { notify, muted_until, archived, pinned } = configure.settings;
    let mut settings = doc! {
        "notify": notify.as_str(),
        "revision": { "$add": [{ "$ifNull": ["$$each.settings.revision", 0_i64] }, 1_i64] },
        "at": "$$NOW",
    };
    settings.extend(muted_until.map(|until| ("muted_until".to_owned(), date(until).into())));
    let flags = [("archived", archived), ("pinned", pinned)].into_iter().filter(|(_, is_set)| *is_set);
    settings.extend(flags.map(|(name, is_set)| (name.to_owned(), is_set.into())));
    let is_own = doc! { "$eq": ["$$each.member_id", member_oid(configure.member)] };
    let set = doc! { "$mergeObjects": ["$$each", { "settings": settings }] };
    let each = doc! { "$cond": [is_own, set, "$$each"] };
    // Of several that set something one after the other it is what was before the first.
    let was_configured = doc! { "$eq": ["$changed", { "$ifNull": ["$configured", null] }] };
    let former = doc! { "$cond": [was_configured, { "$ifNull": ["$former", "$changed"] }, "$changed"] };
    // By one time for all, and so with a pipeline.
    let update = vec![doc! { "$set": {
        "participants": { "$map": { "input": "$participants", "as": "each", "in": each } },
        "former": former,
        "changed": "$$NOW",
        "configured": "$$NOW",
    } }];
    let conversations = db.collection::<ConversationDoc>("conversations");
    let written = conversations
        .find_one_and_update(doc! { "_id": conversation_oid(configure.conversation) }, update)
        .return_document(ReturnDocument::After)
        .max_time(db.max_time)
        .await?;
    let member = member_oid(configure.member);
    let participant =
        written.as_ref().and_then(|written| written.participants.iter().find(|each| each.member_id == member));
    participant.ok_or_else(|| Fault::Data("a participant has vanished".to_owned()))?.stored()
}

/// What a member has set of conversations, in their order.
pub(super) async fn of_conversations(
    db: &Db,
    member: MemberId,
    conversations: Vec<ConversationId>,
) -> Result<Vec<ConversationSettings>, Fault> {
    let mut filter = among(conversations.iter().copied().map(conversation_oid));
    filter.insert(
        "participants",
        doc! { "$elemMatch": { "member_id": member_oid(member), "settings": { "$exists": true } } },
    );
    let found: Vec<ConversationDoc> = db.all("conversations", filter, FindOptions::default()).await?;
    let mut known = HashMap::new();
    for document in &found {
        known.insert(ConversationId::from_bytes(document.id.bytes()), document.settings_of(member)?.settings);
    }
    Ok(conversations.iter().map(|id| known.get(id).copied().unwrap_or_default()).collect())
}

/// Forgets all that a member has set.
pub(super) async fn forget(db: &Db, session: &mut ClientSession, member: MemberId) -> Result<(), Fault> {
    let own = doc! { "member_id": member_oid(member), "settings": { "$exists": true } };
    let theirs = doc! { "participants": { "$elemMatch": own } };
    let forgotten = doc! { "$unset": { "participants.$.settings": "" } };
    db.collection::<Document>("conversations").update_many(theirs, forgotten).session(session).await?;
    Ok(())
}
