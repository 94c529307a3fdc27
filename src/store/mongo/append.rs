//! Sequence numbers by optimistic insert.
//!
//! A node gives messages the numbers after the newest entry that it knows, and inserts them in order, with one command
//! for the batch. The unique index on (`conversation_id`, `seq`) decides between nodes that try the same number; the
//! one on (`conversation_id`, `sender_id`, `client_id`) recognises what was sent before. A command stops at the first
//! document that is refused, so a number is only ever used when the one before it is in the log: there is no hole,
//! whoever dies when.
//!
//! Whatever is unclear (a conflict, a timeout, a lost connection, a write that no majority has confirmed) is resolved
//! by looking the `client_id` up in what a majority has: what is there is done, what is not is inserted again, under
//! the same `_id`, so that a late first attempt and the repetition cannot both succeed. After a conflict of numbers that is the message which
//! was refused, and no other; but all conversations of the batch that are open are looked at for what other nodes have stored, at once,
//! because where one was overtaken others were.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::{
    bson::{Document, RawArrayBuf, RawDocumentBuf, doc, oid::ObjectId, rawdoc},
    options::FindOneOptions,
};
use protocol::{ClientMessageId, ConversationId, MemberId, MessageId, Timestamp};

use super::{
    Core,
    ahead::{adopt, ahead, is_there},
    db::Db,
    document::{MessageDoc, client_uuid, conversation_oid, date, member_oid, signed},
    fault::{DUPLICATE_KEY, Fault},
    log::{Working, WorkingSet, retry_until_known},
    receipts::check,
};
use crate::{
    position::Epoch,
    store::{
        StoreError,
        conversations::{Append, Refusal},
        entries::{EntryBody, StoredEntry},
        rules,
    },
};

/// Messages in one insert.
const MESSAGES: usize = 500;
/// Bytes of messages in one insert, about; a command may have 48 MB.
const BYTES: usize = 4 * 1024 * 1024;
/// How often a batch may meet something unclear without getting on before it is given up.
const ATTEMPTS: u32 = 200;
/// Look-ups that run at the same time.
const PARALLEL: usize = 16;

/// A message on its way into the log.
pub(super) struct Appending {
    id: MessageId,
    append: Append,
    done: Option<Result<Done, Refusal>>,
}

/// What tells a message from all others, whoever stores it.
type Key = (ConversationId, MemberId, ClientMessageId);

fn key(append: &Append) -> Key {
    (append.conversation, append.sender, append.client_id)
}

/// What became of a message.
#[derive(Clone)]
pub(super) struct Done {
    /// It, as it is in the log.
    pub(super) message: StoredEntry,
    /// Whether it was there before.
    pub(super) duplicate: bool,
}

impl Appending {
    /// A message to be inserted.
    pub(super) fn new(core: &Core, append: Append) -> Self {
        Self { id: core.ids.message(), append, done: None }
    }

    /// A message that is in the log already.
    pub(super) fn known(core: &Core, append: Append, first: StoredEntry) -> Self {
        Self { done: Some(Ok(Done { message: first, duplicate: true })), ..Self::new(core, append) }
    }

    /// What became of it: it is in the log, or it is not and why.
    pub(super) fn into_done(self) -> Option<Result<Done, Refusal>> {
        self.done
    }

    /// The conversation that it is for.
    pub(super) fn conversation(&self) -> ConversationId {
        self.append.conversation
    }

    /// Whether a message is this one, sent again.
    pub(super) fn is_same(&self, append: &Append) -> bool {
        self.key() == key(append)
    }

    fn key(&self) -> Key {
        key(&self.append)
    }
}

/// What became of the messages of a command that were not inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// There are none.
    None,
    /// The number of the first was taken, and the others were not tried.
    Overtaken,
    /// The first was there before, and the others were not tried. Where one is sent again others are.
    Repeated,
    /// It is not known of any of them.
    Unclear,
}

/// Whether all that was sent has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    /// It has.
    All,
    /// An attempt of which nothing was heard may still store what was given up after it.
    NotAll,
}

impl Certainty {
    fn unless(unclear: bool) -> Self {
        if unclear { Self::NotAll } else { Self::All }
    }
}

/// Inserts messages. On return each has its outcome: it is in the log, or it certainly is not, because the server refuses
/// to write for good.
///
/// An error before anything was sent means that nothing happened. After that errors are waited out, and the only one is
/// that the outcome will not be known ([`StoreError::Timeout`]): the store is being closed, cannot be read either, or was restored from
/// an earlier state meanwhile. `epoch`: what is known of the logs is of it.
pub(super) async fn insert(
    core: &Core,
    db: &Db,
    appending: &mut [Appending],
    working: &mut WorkingSet,
    now: Timestamp,
    epoch: &mut Epoch,
) -> Result<Certainty, StoreError> {
    let (mut sent, mut unclear, mut certainty) = (false, false, Certainty::All);
    let (mut attempts, mut before) = (0, usize::MAX);
    loop {
        let open = open(appending);
        if open.is_empty() {
            break;
        }
        let numbered = number(core, appending, &candidates(appending, &open), working, now);
        let Numbered { mut documents, places, unanswerable } =
            numbered.map_err(|error| if sent { unknown(&error) } else { error })?;
        if !unanswerable.is_empty() {
            let refused = refuse_answers(core, db, appending, unanswerable).await;
            refused.map_err(|error| if sent { unknown(&error) } else { error })?;
        }
        if documents.is_empty() {
            continue;
        }
        core.link.pass().await?;
        let is_whole = check_epoch(core, db, working, epoch).await;
        is_whole.map_err(|error| if sent { unknown(&error) } else { error })?;
        let (inserted, rest) = match send(db, &mut documents).await {
            Ok(done) => done,
            Err(fault) if !sent && fault.was_not_sent() => return Err(fault.into()),
            Err(fault) if fault.is_passing() => {
                tracing::debug!(error = %StoreError::from(fault), "it is unclear what was inserted; looking it up");
                unclear = true;
                (0, Rest::Unclear)
            }
            Err(fault) if !sent && !fault.may_have_written() => return Err(fault.into()),
            Err(fault) => {
                // Those before the one that is refused may have been written.
                resolve(core, db, appending, &open, &open, working).await.map_err(|error| unknown(&error))?;
                give_up(appending, &open, &StoreError::from(fault));
                certainty = Certainty::unless(unclear);
                break;
            }
        };
        sent = true;
        let (done, others) = places.split_at(inserted.min(places.len()));
        for (place, message) in done {
            let done = Done { message: message.clone(), duplicate: false };
            accept(appending, *place, done, working);
        }
        if rest != Rest::None {
            // What is found is progress as well: the pauses are for nodes that are in each other's way.
            attempts = if open.len() < before { 0 } else { attempts + 1 };
            before = open.len();
            if rest != Rest::Repeated || attempts > 0 {
                pause(core, attempts).await?;
            }
            let others: Vec<usize> = others.iter().map(|(place, _)| *place).collect();
            let tried = others.get(..1).filter(|_| rest == Rest::Overtaken).unwrap_or(&others);
            resolve(core, db, appending, tried, &others, working).await.map_err(|error| unknown(&error))?;
            if attempts > ATTEMPTS {
                let why = StoreError::Unavailable("too many nodes write into the same conversation".to_owned());
                give_up(appending, &open, &why);
                certainty = Certainty::unless(unclear);
                break;
            }
        }
    }
    settle_repeats(appending).map_err(|error| unknown(&error))?;
    Ok(certainty)
}

/// Fails if another epoch has begun while a batch waited, and logs have lost what is known of them: numbers would leave a hole, and
/// watermarks would be beyond the end.
pub(super) async fn check_epoch(
    core: &Core,
    db: &Db,
    working: &WorkingSet,
    epoch: &mut Epoch,
) -> Result<(), StoreError> {
    let current = core.link.horizon.now().epoch;
    if std::mem::replace(epoch, current) == current {
        return Ok(());
    }
    let newest = |(id, working): (&ConversationId, &Working)| (*id, working.state.end.seq, working.newest);
    let known: Vec<_> = working.iter().map(newest).collect();
    let look = || is_there(db, &known);
    if retry_until_known(core, None, "looking whether the log is as it was", look).await? {
        return Ok(());
    }
    Err(StoreError::Unavailable("the database went back to an earlier state".to_owned()))
}

/// What is not in the log is not going to be.
fn give_up(appending: &mut [Appending], open: &[usize], why: &StoreError) {
    tracing::error!(error = %why, "messages were refused by the database");
    for place in open {
        if let Some(each) = appending.get_mut(*place) {
            each.done.get_or_insert_with(|| Err(Refusal::Failed(why.clone())));
        }
    }
}

/// An error after something may have been written: its outcome is unknown, whatever the error is.
pub(super) fn unknown(error: &StoreError) -> StoreError {
    if *error != StoreError::Timeout {
        tracing::error!(%error, "the outcome of a batch will not be known");
    }
    StoreError::Timeout
}

/// The places of messages whose outcome is open, without those that are in the batch a second time: they have the outcome of the first,
/// unless that was refused for what it answers.
fn open(appending: &[Appending]) -> Vec<usize> {
    let mut seen = HashSet::with_capacity(appending.len());
    let mut is_first = |each: &Appending| !is_without_answered(each) && seen.insert(each.key());
    let places = appending.iter().enumerate();
    places.filter(|(_, each)| is_first(each) && each.done.is_none()).map(|(place, _)| place).collect()
}

/// The same with those that are in the batch a second time, if any of them answers something: the first may be refused for what it answers.
fn candidates(appending: &[Appending], open: &[usize]) -> Vec<usize> {
    if appending.iter().all(|each| each.append.reply_to.is_none()) {
        return open.to_vec();
    }
    let done = appending.iter().filter(|each| each.done.is_some() && !is_without_answered(each));
    let done: HashSet<Key> = done.map(Appending::key).collect();
    let places = appending.iter().enumerate();
    places.filter(|(_, each)| each.done.is_none() && !done.contains(&each.key())).map(|(place, _)| place).collect()
}

/// Whether a message was refused for what it answers.
fn is_without_answered(each: &Appending) -> bool {
    matches!(each.done, Some(Err(Refusal::AnsweredNotFound)))
}

/// What is in the batch a second time has the outcome of the first.
fn settle_repeats(appending: &mut [Appending]) -> Result<(), StoreError> {
    let first = |each: &Appending| each.done.clone().map(|done| (each.key(), done));
    let done = appending.iter().filter(|each| !is_without_answered(each));
    let firsts: HashMap<_, _> = done.filter_map(first).collect();
    for each in appending.iter_mut().filter(|each| each.done.is_none()) {
        let first = firsts.get(&each.key()).cloned();
        let first = first.ok_or_else(|| StoreError::Inconsistent("a message has no outcome".to_owned()))?;
        each.done = Some(first.map(|Done { message, .. }| Done { message, duplicate: true }));
    }
    Ok(())
}

/// Messages that have numbers.
#[derive(Default)]
struct Numbered {
    documents: Vec<MessageDoc>,
    places: Vec<(usize, StoredEntry)>,
    /// Those before the last of them that answer what is not there: it was to be stored before them in the same batch, and is not. They take no
    /// number, and must not be tried again once there is what they answer: what came after them would be before them.
    unanswerable: Vec<usize>,
}

/// Gives as many messages as fit into one command the numbers after what is known of their logs.
fn number(
    core: &Core,
    appending: &[Appending],
    open: &[usize],
    working: &WorkingSet,
    now: Timestamp,
) -> Result<Numbered, StoreError> {
    let (mut newest, mut keys) = (HashMap::new(), HashSet::new());
    let (mut numbered, mut bytes) = (Numbered::default(), 0);
    for &place in open.iter().take(MESSAGES) {
        let Some(Appending { id, append, .. }) = appending.get(place) else { continue };
        if keys.contains(&key(append)) {
            continue;
        }
        bytes += append.content.len() + 300;
        if bytes > BYTES && !numbered.documents.is_empty() {
            break;
        }
        let Some(conversation) = working.get(&append.conversation) else {
            return Err(StoreError::Inconsistent("a message has no conversation".to_owned()));
        };
        let state = &conversation.state;
        let end = newest.entry(append.conversation).or_insert(state.end);
        if !rules::is_answerable(append.reply_to, end.seq) {
            numbered.unanswerable.push(place);
            continue;
        }
        keys.insert(key(append));
        let message = end.next(*id, append, EntryBody::Text(append.content.clone()), now);
        end.reach(message.seq, message.at);
        let mut others = state.membership.members.iter().filter(|member| **member != append.sender);
        numbered.documents.push(document(&message, others.next().copied(), core));
        numbered.places.push((place, message));
    }
    Ok(numbered)
}

fn document(message: &StoredEntry, receiver: Option<MemberId>, core: &Core) -> MessageDoc {
    MessageDoc {
        id: ObjectId::from_bytes(*message.id.as_bytes()),
        conversation_id: conversation_oid(message.conversation),
        seq: signed(message.seq),
        sender_id: member_oid(message.sender),
        receiver_id: receiver.map(member_oid),
        client_id: client_uuid(message.client_id),
        format: i32::from(message.body.format().0),
        content: message.body.content().to_owned(),
        reply_to: message.reply_to.map(signed),
        created_at: date(message.at),
        status: "sent".to_owned(),
        delivered_at: None,
        read_at: None,
        stamp: core.link.horizon.estimate(),
    }
}

/// Inserts documents in their order; returns how many a majority has, and why not all.
async fn send(db: &Db, documents: &mut Vec<MessageDoc>) -> Result<(usize, Rest), Fault> {
    let count = documents.len();
    let mut array = RawArrayBuf::new();
    for document in documents.drain(..) {
        array.push(mongodb::bson::serialize_to_raw_document_buf(&document)?);
    }
    let mut command = rawdoc! { "insert": "messages", "documents": array, "ordered": true };
    for field in &RawDocumentBuf::try_from(&db.bounded(Document::new()))? {
        let (name, value) = field?;
        command.append(name, value);
    }
    let reply = db.database.run_raw_command(command).await?;
    check(&reply, |code| code == DUPLICATE_KEY)?;
    let refused = reply.get_array("writeErrors").ok().and_then(|errors| errors.first()?.as_document());
    let Some(refused) = refused else { return Ok((count, Rest::None)) };
    let index = refused.get_i32("index").ok().and_then(|index| usize::try_from(index).ok());
    let index = index.ok_or_else(|| Fault::Data("a refused write has no index".to_owned()))?;
    Ok((index, if is_of_numbers(refused) { Rest::Overtaken } else { Rest::Repeated }))
}

/// Whether it is the index of the numbers that has refused a message. Servers before 4.4 name it in the text only.
fn is_of_numbers(refused: &Document) -> bool {
    match refused.get_document("keyPattern") {
        Ok(pattern) => pattern.contains_key("seq"),
        Err(_) => refused.get_str("errmsg").is_ok_and(|text| text.contains("seq_1")),
    }
}

/// Refuses messages for what they answer, unless they were there before.
async fn refuse_answers(
    core: &Core,
    db: &Db,
    appending: &mut [Appending],
    places: Vec<usize>,
) -> Result<(), StoreError> {
    let keys = places.into_iter().filter_map(|place| Some((place, appending.get(place)?.key())));
    let found = keys.map(|(place, (conversation, sender, client_id))| async move {
        let look = || first_message(db, conversation, sender, client_id);
        let first = retry_until_known(core, None, "looking a message up", look).await?;
        Ok::<_, StoreError>((place, first.map(|message| Done { message, duplicate: true })))
    });
    let found: Vec<_> = stream::iter(found.collect::<Vec<_>>()).buffer_unordered(PARALLEL).try_collect().await?;
    for (place, first) in found {
        if let Some(each) = appending.get_mut(place) {
            each.done = Some(first.ok_or(Refusal::AnsweredNotFound));
        }
    }
    Ok(())
}

/// Which of some messages are in the log already, in their order.
pub(super) async fn first_messages(db: &Db, appends: &[Append]) -> Result<Vec<Option<StoredEntry>>, StoreError> {
    let found = appends.iter().map(|append| async move {
        Ok::<_, StoreError>(first_message(db, append.conversation, append.sender, append.client_id).await?)
    });
    stream::iter(found.collect::<Vec<_>>()).buffered(PARALLEL).try_collect().await
}

/// A message is in the log.
fn accept(appending: &mut [Appending], place: usize, done: Done, working: &mut WorkingSet) {
    let Done { message, duplicate, .. } = &done;
    if let Some(conversation) = working.get_mut(&message.conversation) {
        if conversation.state.end.reach(message.seq, message.at) {
            conversation.newest = Some(message.id);
        }
        conversation.appended |= !duplicate;
        conversation.behind |= duplicate;
    }
    if let Some(appending) = appending.get_mut(place) {
        appending.done = Some(Ok(done));
    }
}

/// Finds out what became of messages that were tried, and where the conversations of all that are open are now.
async fn resolve(
    core: &Core,
    db: &Db,
    appending: &mut [Appending],
    tried: &[usize],
    open: &[usize],
    working: &mut WorkingSet,
) -> Result<(), StoreError> {
    let key = |place: &usize| Some((*place, appending.get(*place)?.key()));
    let known = |(_, (id, ..)): (usize, Key)| Some((id, working.get(&id)?.state.end.seq));
    let known: HashMap<_, _> = open.iter().filter_map(key).filter_map(known).collect();
    let found = tried.iter().filter_map(key).map(|(place, (conversation, sender, client_id))| async move {
        let look = || first_message(db, conversation, sender, client_id);
        retry_until_known(core, None, "looking a message up", look).await.map(|found| (place, found))
    });
    let found: Vec<_> = stream::iter(found.collect::<Vec<_>>()).buffer_unordered(PARALLEL).try_collect().await?;
    for (place, message) in found {
        let Some(message) = message else { continue };
        // Ours, if the attempt that we do not know of succeeded; else it was there before.
        let duplicate = appending.get(place).is_none_or(|each| each.id != message.id);
        accept(appending, place, Done { message, duplicate }, working);
    }
    let others = retry_until_known(core, None, "looking for what others have stored", || ahead(db, &known)).await?;
    for (id, ahead) in others {
        let Some(conversation) = working.get_mut(&id) else { continue };
        if adopt(conversation, ahead) {
            core.metrics.seq_collisions.inc();
        }
    }
    Ok(())
}

/// The message that a client has given an id.
pub(super) async fn first_message(
    db: &Db,
    conversation: ConversationId,
    sender: MemberId,
    client_id: ClientMessageId,
) -> Result<Option<StoredEntry>, Fault> {
    let filter = doc! {
        "conversation_id": conversation_oid(conversation),
        "sender_id": member_oid(sender),
        "client_id": client_uuid(client_id),
    };
    let found = db.one("messages", filter, FindOneOptions::default()).await?;
    found.map(MessageDoc::into_entry).transpose()
}

/// Lets other nodes go first, longer and longer, by chance.
async fn pause(core: &Core, attempts: u32) -> Result<(), StoreError> {
    let longest = 1_u64 << attempts.min(9);
    let pause = Duration::from_millis(core.ids.below(longest.saturating_add(1)));
    let stopped = core.link.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none();
    if stopped { Err(StoreError::Timeout) } else { Ok(()) }
}
