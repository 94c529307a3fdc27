//! What members have set of conversations: a field of the participant in the document of the conversation.
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
        let known = place_of(working, &configure).and_then(|place| Some((place, known(working, &configure, place))));
        let outcome = match known {
            None => Err(Refusal::ConversationNotFound),
            Some((_, Some(known))) if known.settings == configure.settings => Ok((at, known, false)),
            Some((place, _)) => {
                let write = || write(db, place, &configure);
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

async fn write(db: &Db, place: usize, configure: &Configure) -> Result<StoredSettings, Fault> {
    let ConversationSettings { notify, muted_until } = configure.settings;
    let field = |name: &str| format!("participants.{place}.settings.{name}");
    let (mut set, mut update) = (doc! { field("notify"): notify.as_str() }, Document::new());
    match muted_until {
        Some(until) => drop(set.insert(field("muted_until"), date(until))),
        None => drop(update.insert("$unset", doc! { field("muted_until"): "" })),
    }
    update.insert("$set", set);
    update.insert("$inc", doc! { field("revision"): 1_i64 });
    update.insert("$currentDate", doc! { "changed": true });
    let conversations = db.collection::<ConversationDoc>("conversations");
    let written = conversations
        .find_one_and_update(doc! { "_id": conversation_oid(configure.conversation) }, update)
        .return_document(ReturnDocument::After)
        .max_time(db.max_time)
        .await?;
    let participant = written.as_ref().and_then(|written| written.participants.get(place));
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
