//! Appending messages and moving watermarks, a batch at a time.
//!
//! A batch costs a fixed number of round trips however many commands are in it: what is not remembered is read, new
//! conversations are made, messages are inserted with one command ([`super::append`]), and then receipts, watermarks
//! with the stamp, and statuses in messages are written with one command each ([`super::receipts`]).
//!
//! Until the first insert is sent, an error means that nothing happened. From then on the batch goes on until its
//! outcome is known, however long that takes: every step can be repeated.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::{
    bson::{Document, doc, oid::ObjectId},
    options::FindOptions,
};
use protocol::{ConversationId, MemberId, Timestamp, model::ConversationKind};
use tokio::time::Instant;

use super::{
    Core,
    append::{self, Appending},
    document::{
        ConversationDoc, Fault, ReceiptDoc, among, conversation_oid, date, kind_word, member_oid, signed, time,
        unsigned,
    },
    link::Db,
    receipts,
};
use crate::store::{
    StoreError,
    conversations::{
        Append, Applied, Command, Mark, MarkKind, Membership, NewConversation, Outcome, Position, Refusal,
    },
};

/// How long a member is remembered as active. A node hears of what another node did by then.
const MEMBER_TTL: Duration = Duration::from_secs(5);
/// Reads of one batch that run at the same time.
const PARALLEL: usize = 16;
/// The longest pause between two attempts at something whose outcome has to be known.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A member, as the log needs them.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemberRef {
    pub(super) is_active: bool,
    pub(super) since: Instant,
}

/// The state of a conversation. May be behind what other nodes did: the unique indexes tell.
#[derive(Debug, Clone)]
pub(super) struct LogState {
    pub(super) membership: Membership,
    pub(super) last_seq: u64,
    pub(super) last_at: Timestamp,
    /// Delivered and read, in the order of the members.
    watermarks: Vec<(u64, u64)>,
}

/// A conversation in a batch.
pub(super) struct Working {
    pub(super) state: LogState,
    /// The newest entry before the batch.
    base_seq: u64,
    /// Whether it has new entries by us.
    pub(super) appended: bool,
    /// Whether it has entries by others, or of before, that its document may not know of.
    pub(super) behind: bool,
    /// When watermarks moved in this batch, by place: before, and whether each moved.
    moved: HashMap<usize, (u64, u64)>,
    marked_at: Timestamp,
}

impl Working {
    fn new(state: LogState) -> Self {
        let (base_seq, marked_at) = (state.last_seq, state.last_at);
        Self { state, base_seq, appended: false, behind: false, moved: HashMap::new(), marked_at }
    }

    fn place_of(&self, member: MemberId) -> Option<usize> {
        self.state.membership.members.iter().position(|id| *id == member)
    }
}

pub(super) type WorkingSet = HashMap<ConversationId, Working>;

/// What is known of one command before anything is written.
enum Planned {
    Refused(Refusal),
    /// The place among the appendings.
    Append(usize),
    Mark(Mark),
}

/// Applies a batch.
pub(super) async fn apply(core: &Core, batch: Vec<Command>) -> Result<Applied, StoreError> {
    let db = core.link.db().await?;
    let now = core.clock.now();
    core.metrics.commit_commands.observe(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
    let applied = run(core, &db, batch, now).await;
    if applied.is_err() {
        // What was remembered may be wrong now.
        core.conversations.clear();
    }
    applied
}

async fn run(core: &Core, db: &Db, batch: Vec<Command>, now: Timestamp) -> Result<Applied, StoreError> {
    let mut working = load(core, db, &batch).await?;
    let members = load_members(core, db, &batch, &working).await?;
    let (planned, mut appending) = plan(core, db, batch, &mut working, &members, now).await?;
    append::insert(core, db, &mut appending, &mut working, now).await?;
    let outcomes = settle(core, db, planned, appending, &mut working, now).await?;
    for (id, Working { state, .. }) in working {
        core.conversations.insert(id, state);
    }
    Ok(Applied { outcomes, position: Position(core.link.horizon.now()) })
}

/// Repeats a step until its outcome is known.
pub(super) async fn until_known<T, F>(core: &Core, what: &'static str, step: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut pause = Duration::from_millis(10);
    loop {
        let fault = match step().await {
            Ok(value) => return Ok(value),
            Err(fault) if fault.is_passing() => StoreError::from(fault),
            Err(fault) => return Err(fault.into()),
        };
        tracing::debug!(error = %fault, what, "the outcome is not known yet; trying again");
        if core.link.stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Err(StoreError::Timeout);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Brings the conversations of a batch together: those with marks as they are now, the others as they are remembered.
async fn load(core: &Core, db: &Db, batch: &[Command]) -> Result<WorkingSet, StoreError> {
    let (mut working, mut wanted) = (WorkingSet::new(), HashSet::new());
    for command in batch {
        match command {
            Command::Mark(mark) => {
                wanted.insert(mark.conversation);
            }
            Command::Append(append) => match core.conversations.get(&append.conversation) {
                Some(state) => {
                    working.insert(append.conversation, Working::new(state));
                }
                None => {
                    wanted.insert(append.conversation);
                }
            },
        }
    }
    if wanted.is_empty() {
        return Ok(working);
    }
    let wanted = among(wanted.into_iter().map(conversation_oid));
    let found: Vec<ConversationDoc> = db.all("conversations", wanted, FindOptions::default()).await?;
    for document in found {
        let id = ConversationId::from_bytes(document.id.bytes());
        let mut state = state_of(&document);
        // What is remembered of the log is never behind the document by what this node did.
        if let Some(known) = core.conversations.get(&id).filter(|known| known.last_seq > state.last_seq) {
            (state.last_seq, state.last_at) = (known.last_seq, known.last_at);
        }
        working.insert(id, Working::new(state));
    }
    refresh_logs(db, batch, &mut working).await?;
    Ok(working)
}

/// The state that a document tells.
fn state_of(document: &ConversationDoc) -> LogState {
    let participants = &document.participants;
    LogState {
        membership: Membership {
            kind: ConversationKind::Direct,
            members: participants.iter().map(|each| MemberId::from_bytes(each.member_id.bytes())).collect(),
        },
        last_seq: unsigned(document.last_seq),
        last_at: time(document.last_at),
        watermarks: participants.iter().map(|each| (unsigned(each.delivered), unsigned(each.read))).collect(),
    }
}

/// Looks into the logs of conversations in which something is marked that we do not know of.
async fn refresh_logs(db: &Db, batch: &[Command], working: &mut WorkingSet) -> Result<(), StoreError> {
    for command in batch {
        let Command::Mark(mark) = command else { continue };
        let Some(conversation) = working.get_mut(&mark.conversation) else { continue };
        if mark.seq > conversation.state.last_seq && conversation.base_seq == conversation.state.last_seq {
            append::refresh(db, mark.conversation, conversation).await?;
            conversation.base_seq = conversation.state.last_seq;
        }
    }
    Ok(())
}

type Members = HashMap<MemberId, bool>;

/// Which of the members that matter to a batch exist, and whether they are active.
async fn load_members(core: &Core, db: &Db, batch: &[Command], working: &WorkingSet) -> Result<Members, StoreError> {
    let (mut members, mut unknown) = (Members::new(), HashSet::new());
    for command in batch {
        let Command::Append(append) = command else { continue };
        let known = working.get(&append.conversation).map(|working| &*working.state.membership.members);
        let new = append.create.as_ref().map(|new| new.members.as_slice());
        let others = known.or(new).unwrap_or_default();
        for member in others.iter().chain([&append.sender]) {
            match core.members.get(member).filter(|known| known.since.elapsed() < MEMBER_TTL) {
                Some(known) => {
                    members.insert(*member, known.is_active);
                }
                None => {
                    unknown.insert(*member);
                }
            }
        }
    }
    if !unknown.is_empty() {
        let asked = Instant::now();
        let fields = FindOptions::builder().projection(doc! { "is_active": 1 }).build();
        let found: Vec<Document> = db.all("members", among(unknown.into_iter().map(member_oid)), fields).await?;
        for member in found {
            let (Ok(id), Ok(is_active)) = (member.get_object_id("_id"), member.get_bool("is_active")) else { continue };
            let id = MemberId::from_bytes(id.bytes());
            members.insert(id, is_active);
            core.members.insert(id, MemberRef { is_active, since: asked });
        }
    }
    Ok(members)
}

/// Refuses what must be refused, makes new conversations, and collects what is to be inserted.
async fn plan(
    core: &Core,
    db: &Db,
    batch: Vec<Command>,
    working: &mut WorkingSet,
    members: &Members,
    now: Timestamp,
) -> Result<(Vec<Planned>, Vec<Appending>), StoreError> {
    let mut planned = Vec::with_capacity(batch.len());
    let mut appending: Vec<Appending> = Vec::new();
    let mut created = Vec::new();
    for command in batch {
        let append = match command {
            Command::Mark(mark) => {
                // One that comes before the first message finds no conversation.
                let is_there = working.contains_key(&mark.conversation);
                let refused = Planned::Refused(Refusal::ConversationNotFound);
                planned.push(if is_there { Planned::Mark(mark) } else { refused });
                continue;
            }
            Command::Append(append) => append,
        };
        match admit(&append, working, members, now) {
            Err(Refusal::RecipientDeactivated) if working.contains_key(&append.conversation) => {
                // A retry gets the first message again, whatever happened to the recipient since.
                let first = append::first_message(db, append.conversation, append.sender, append.client_id).await?;
                planned.push(match first {
                    Some(first) => {
                        appending.push(Appending::known(core, append, first));
                        Planned::Append(appending.len() - 1)
                    }
                    None => Planned::Refused(Refusal::RecipientDeactivated),
                });
            }
            Err(refusal) => planned.push(Planned::Refused(refusal)),
            Ok(new) => {
                created.extend(new);
                planned.push(Planned::Append(appending.len()));
                appending.push(Appending::new(core, append));
            }
        }
    }
    if !created.is_empty() {
        receipts::run_updates(db, "conversations", created).await?;
    }
    Ok((planned, appending))
}

/// Whether a message may be appended; with the statement that makes its conversation if there is none yet.
fn admit(
    append: &Append,
    working: &mut WorkingSet,
    members: &Members,
    now: Timestamp,
) -> Result<Option<Document>, Refusal> {
    if members.get(&append.sender) != Some(&true) {
        return Err(Refusal::SenderDeactivated);
    }
    if let Some(conversation) = working.get(&append.conversation) {
        conversation.place_of(append.sender).ok_or(Refusal::ConversationNotFound)?;
        let others = conversation.state.membership.members.iter().filter(|member| **member != append.sender);
        let can_receive = others.into_iter().any(|member| members.get(member) == Some(&true));
        return if can_receive { Ok(None) } else { Err(Refusal::RecipientDeactivated) };
    }
    let new = append.create.as_ref().ok_or(Refusal::ConversationNotFound)?;
    for member in &new.members {
        match members.get(member) {
            None => return Err(Refusal::MemberNotFound),
            Some(false) => return Err(Refusal::RecipientDeactivated),
            Some(true) => {}
        }
    }
    let (state, statement) = create(append.conversation, new, now);
    working.insert(append.conversation, Working::new(state));
    Ok(Some(statement))
}

/// A new conversation; it is listed only once it has its first entry.
fn create(id: ConversationId, new: &NewConversation, now: Timestamp) -> (LogState, Document) {
    let mut members = new.members.clone();
    // Every node puts them in the same order.
    members.sort_unstable();
    let participants: Vec<Document> = members
        .iter()
        .map(|member| doc! { "member_id": member_oid(*member), "delivered": 0_i64, "read": 0_i64 })
        .collect();
    let document = doc! {
        "kind": kind_word(new.kind),
        "participants": participants,
        "last_seq": 0_i64,
        "last_at": date(now),
    };
    let statement = doc! { "q": { "_id": conversation_oid(id) }, "u": { "$setOnInsert": document }, "upsert": true };
    let watermarks = vec![(0, 0); members.len()];
    let membership = Membership { kind: new.kind, members: members.into() };
    (LogState { membership, last_seq: 0, last_at: now, watermarks }, statement)
}

/// Walks the batch in its order with what became of its messages, moves watermarks, and writes what follows.
async fn settle(
    core: &Core,
    db: &Db,
    planned: Vec<Planned>,
    appending: Vec<Appending>,
    working: &mut WorkingSet,
    now: Timestamp,
) -> Result<Vec<Result<Outcome, Refusal>>, StoreError> {
    // The newest entry of each conversation at each point of the batch.
    let mut newest: HashMap<ConversationId, u64> =
        working.iter().map(|(id, conversation)| (*id, conversation.base_seq)).collect();
    let mut appending: Vec<Option<Appending>> = appending.into_iter().map(Some).collect();
    let mut outcomes = Vec::with_capacity(planned.len());
    let mut counts = Vec::new();
    for planned in planned {
        outcomes.push(match planned {
            Planned::Refused(refusal) => Err(refusal),
            Planned::Append(place) => {
                let done = appending.get_mut(place).and_then(Option::take).and_then(Appending::into_done);
                let append::Done { message, duplicate, is_news } =
                    done.ok_or_else(|| StoreError::Inconsistent("a message has no outcome".to_owned()))?;
                let Some(conversation) = working.get(&message.conversation) else {
                    return Err(StoreError::Inconsistent("a message has no conversation".to_owned()));
                };
                let newest = newest.entry(message.conversation).or_default();
                *newest = message.seq.max(*newest);
                let membership = conversation.state.membership.clone();
                Ok(Outcome::Appended { message, duplicate, is_news, membership })
            }
            Planned::Mark(mark) => {
                let last_seq = newest.get(&mark.conversation).copied().unwrap_or(0);
                let marked = move_watermark(working, &mark, last_seq, now);
                if let Ok(Outcome::Marked { read, unread: Some(_), .. }) = marked
                    && read < last_seq
                {
                    counts.push((outcomes.len(), mark, (read, last_seq)));
                }
                marked
            }
        });
    }
    write(core, db, working).await?;
    let counted = counts.into_iter().map(|(place, mark, range)| async move {
        let (conversation, member) = (conversation_oid(mark.conversation), member_oid(mark.member));
        let count = until_known(core, "counting unread messages", || unread(db, conversation, member, range));
        count.await.map(|count| (place, count))
    });
    let counted: Vec<(usize, u64)> =
        stream::iter(counted.collect::<Vec<_>>()).buffer_unordered(PARALLEL).try_collect().await?;
    for (place, count) in counted {
        if let Some(Ok(Outcome::Marked { unread, .. })) = outcomes.get_mut(place) {
            *unread = Some(count);
        }
    }
    Ok(outcomes)
}

/// Moves a watermark in memory.
fn move_watermark(working: &mut WorkingSet, mark: &Mark, last_seq: u64, now: Timestamp) -> Result<Outcome, Refusal> {
    let conversation = working.get_mut(&mark.conversation).ok_or(Refusal::ConversationNotFound)?;
    let place = conversation.place_of(mark.member).ok_or(Refusal::ConversationNotFound)?;
    let watermark = conversation.state.watermarks.get_mut(place).ok_or(Refusal::ConversationNotFound)?;
    let (at, seq, before) = (now.max(conversation.state.last_at), mark.seq.min(last_seq), *watermark);
    watermark.0 = watermark.0.max(seq);
    if mark.kind == MarkKind::Read {
        watermark.1 = watermark.1.max(seq);
    }
    let (delivered, read) = *watermark;
    let moved = before != *watermark;
    if moved {
        conversation.moved.entry(place).or_insert(before);
        conversation.marked_at = at;
    }
    Ok(Outcome::Marked {
        conversation: mark.conversation,
        member: mark.member,
        delivered,
        read,
        moved,
        // Counted later, unless everything is read.
        unread: (mark.kind == MarkKind::Read).then_some(0),
        at,
        membership: conversation.state.membership.clone(),
    })
}

/// What has to be written beside the messages.
#[derive(Default)]
struct Writes {
    receipts: Vec<ReceiptDoc>,
    conversations: Vec<Document>,
    statuses: Vec<Document>,
}

/// Writes receipts, then watermarks with the stamp, then statuses.
async fn write(core: &Core, db: &Db, working: &WorkingSet) -> Result<(), StoreError> {
    let mut writes = Writes::default();
    for (id, conversation) in working {
        collect(core, conversation_oid(*id), conversation, &mut writes);
    }
    let Writes { receipts, conversations, statuses } = writes;
    if !receipts.is_empty() {
        until_known(core, "storing receipts", || receipts::insert(db, &receipts)).await?;
    }
    // Statuses are in other documents, so both go at once.
    let stamped = until_known(core, "stamping conversations", || {
        receipts::run_updates(db, "conversations", conversations.clone())
    });
    let corrected =
        until_known(core, "correcting statuses", || receipts::run_updates(db, "messages", statuses.clone()));
    let (stamped, corrected) = tokio::join!(stamped, corrected);
    stamped.and(corrected)
}

fn collect(core: &Core, id: ObjectId, conversation: &Working, writes: &mut Writes) {
    let Working { state, appended, behind, moved, marked_at, .. } = conversation;
    let newest = doc! { "last_seq": signed(state.last_seq), "last_at": date(state.last_at) };
    if *behind && !appended {
        let filter = doc! { "_id": id, "last_seq": { "$lt": signed(state.last_seq) } };
        let stamps = doc! { "changed": true, "listed": true };
        writes.conversations.push(doc! { "q": filter, "u": { "$max": newest.clone(), "$currentDate": stamps } });
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
        let moves =
            [(receipts::DELIVERED, "delivered", before.0, after.0), (receipts::READ, "read", before.1, after.1)];
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
    writes.conversations.push(doc! { "q": { "_id": id }, "u": { "$max": largest, "$currentDate": stamps } });
}

/// Messages of others in a range of a log.
pub(super) async fn unread(
    db: &Db,
    conversation: ObjectId,
    member: ObjectId,
    (after, to): (u64, u64),
) -> Result<u64, Fault> {
    if after >= to {
        return Ok(0);
    }
    let filter = doc! {
        "conversation_id": conversation,
        "seq": { "$gt": signed(after), "$lte": signed(to) },
        "sender_id": { "$ne": member },
    };
    Ok(db.collection::<Document>("messages").count_documents(filter).max_time(db.max_time).await?)
}
