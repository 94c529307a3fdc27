//! Appending messages and moving watermarks, a batch at a time.
//!
//! A batch costs a fixed number of round trips however many commands are in it: what is not remembered is read, new
//! conversations are made, messages are inserted with one command ([`super::append`]), and then receipts, watermarks
//! with the stamp, and statuses in messages are written with one command each ([`super::receipts`]). What may be a message of
//! before that would be refused now is looked up besides, some at a time.
//!
//! Until the first insert is sent, an error means that nothing happened. From then on the batch goes on until its
//! outcome is known, however long that takes: every step can be repeated.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use mongodb::{
    bson::{Document, doc},
    options::FindOptions,
};
use protocol::{ConversationId, MemberId, MessageId, Timestamp, model::UserType};
use tokio::time::Instant;

use super::{
    Core, ahead,
    append::{self, Appending, Certainty},
    db::Db,
    document::{ConversationDoc, ParticipantDoc, among, conversation_oid, date, member_oid, time, unsigned, user_type},
    fault::Fault,
    receipts, settle,
};
use crate::{
    position::Epoch,
    store::{
        StoreError,
        conversations::{
            Append, Appended, Applied, Command, Configure, Mark, Membership, NewConversation, Outcome, Refusal,
            StoredSettings, Untold,
        },
        entries::StoredEntry,
        rules::{self, End, Known, MemberFacts, Reached, Verdict},
    },
};

/// How long a member is remembered as active. A node hears of what another node did by then.
const MEMBER_TTL: Duration = Duration::from_secs(5);
/// The longest pause between two attempts at something whose outcome has to be known.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A member, as they were when they were asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemberRef {
    facts: MemberFacts,
    since: Instant,
}

/// The state of a conversation. May be behind what other nodes did: the unique indexes tell.
#[derive(Debug, Clone)]
pub(super) struct LogState {
    /// The epoch in which it was read.
    pub(super) epoch: Epoch,
    pub(super) membership: Membership,
    pub(super) end: End,
    /// The newest entry that others have told of, if it is beyond the end. What they say is believed only once it was found in the log:
    /// see [`hinted`].
    pub(super) hint: u64,
    /// In the order of the members.
    pub(super) watermarks: Vec<Reached>,
}

/// A conversation in a batch.
pub(super) struct Working {
    pub(super) state: LogState,
    /// The newest entry before the batch.
    pub(super) base_seq: u64,
    /// The newest one now, if this batch knows which it is.
    pub(super) newest: Option<MessageId>,
    /// Whether it has new entries by us.
    pub(super) appended: bool,
    /// Whether it has entries by others, or of before, that its document may not know of.
    pub(super) behind: bool,
    /// Those entries of others that nobody may have been told of.
    pub(super) untold: Vec<StoredEntry>,
    /// The watermarks that moved in this batch, by place, as they were before.
    pub(super) moved: HashMap<usize, Reached>,
    pub(super) marked_at: Timestamp,
    /// What the members have set, in their order; empty if that was not read.
    pub(super) settings: Vec<StoredSettings>,
}

impl Working {
    fn new(state: LogState) -> Self {
        let End { seq: base_seq, at: marked_at } = state.end;
        Self {
            state,
            base_seq,
            newest: None,
            appended: false,
            behind: false,
            untold: Vec::new(),
            moved: HashMap::new(),
            marked_at,
            settings: Vec::new(),
        }
    }
}

pub(super) type WorkingSet = HashMap<ConversationId, Working>;

/// What is known of one command before anything is written.
pub(super) enum Planned {
    Refused(Refusal),
    /// The place among the appendings.
    Append(usize),
    Mark(Mark),
    Configure(Configure),
    Refresh,
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
    // Before anything is read: what is known of the logs is of it.
    let mut epoch = core.link.horizon.now().epoch;
    let batch_open = core.link.unsettled.batch(now);
    let mut working = load(core, db, &batch, epoch).await?;
    let (members, ends) = tokio::try_join!(load_members(core, db, &batch, &working), hinted(db, &working))?;
    reach(&mut working, ends);
    let (planned, mut appending) = plan(core, db, batch, &mut working, &members, now).await?;
    let certainty = match append::insert(core, db, &mut appending, &mut working, now, &mut epoch).await {
        Ok(certainty) => certainty,
        Err(error) => {
            if error == StoreError::Timeout {
                batch_open.abandon();
            }
            return Err(error);
        }
    };
    // From here on something is written: no error means that nothing happened.
    let outcomes = match settle::settle(core, db, planned, appending, &mut working, now, &mut epoch).await {
        Ok(outcomes) if certainty == Certainty::All => outcomes,
        settled => {
            batch_open.abandon();
            settled.map_err(|error| append::unknown(&error))?
        }
    };
    let mut all_untold = Vec::new();
    for (id, Working { mut state, untold, .. }) in working {
        let membership = &state.membership;
        all_untold.extend(untold.into_iter().map(|message| {
            let ours = core.ids.made(*message.id.as_bytes());
            Untold { message, ours, membership: membership.clone() }
        }));
        // What other nodes have told of meanwhile stays known.
        if let Some(LogState { end: End { seq, at }, hint, .. }) = known(core, id, epoch) {
            state.end.reach(seq, at);
            // One that was looked for is reached, or is not there.
            state.hint = if hint == state.hint { 0 } else { hint };
        }
        core.conversations.insert(id, LogState { epoch, ..state });
    }
    if !all_untold.is_empty() {
        // What looked like another's may be our own, arrived late: its outcome is what tells of it.
        let own: HashSet<_> = outcomes.iter().filter_map(stored).collect();
        all_untold.retain(|untold| !own.contains(&untold.message.id));
    }
    let horizon = &core.link.horizon;
    Ok(Applied { outcomes, untold: all_untold, position: horizon.now().position, latest: horizon.latest() })
}

/// What is remembered of a conversation. What is of another epoch does not count: the log may have gone back, and the numbers after it
/// would leave a hole.
fn known(core: &Core, id: ConversationId, epoch: Epoch) -> Option<LogState> {
    core.conversations.get(&id).filter(|known| known.epoch == epoch)
}

/// The message that a command of this batch has stored.
fn stored(outcome: &Result<Outcome, Refusal>) -> Option<MessageId> {
    match outcome {
        Ok(Outcome::Appended(Appended { message, duplicate: false, .. })) => Some(message.id),
        _ => None,
    }
}

/// Repeats a step until its outcome is known, while this node is the one that may write, and in one epoch, if one is given: in another
/// one the log may have gone back.
pub(super) async fn retry_until_known<T, F>(
    core: &Core,
    epoch: Option<Epoch>,
    what: &'static str,
    step: impl Fn() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut pause = Duration::from_millis(10);
    loop {
        core.link.pass().await?;
        if epoch.is_some_and(|epoch| epoch != core.link.horizon.now().epoch) {
            return Err(StoreError::Unavailable("another epoch has begun meanwhile".to_owned()));
        }
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
async fn load(core: &Core, db: &Db, batch: &[Command], epoch: Epoch) -> Result<WorkingSet, StoreError> {
    let (mut working, mut wanted) = (WorkingSet::new(), HashSet::new());
    for command in batch {
        match command {
            Command::Mark(Mark { conversation, .. })
            | Command::Configure(Configure { conversation, .. })
            | Command::Refresh(conversation) => {
                wanted.insert(*conversation);
            }
            Command::Append(append) => match known(core, append.conversation, epoch) {
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
        refresh_logs(db, batch, &mut working).await?;
        return Ok(working);
    }
    let wanted = among(wanted.into_iter().map(conversation_oid));
    let found: Vec<ConversationDoc> = db.all("conversations", wanted, FindOptions::default()).await?;
    for document in found {
        let id = ConversationId::from_bytes(document.id.bytes());
        let mut state = state_of(&document, epoch)?;
        // What is remembered of the log is never behind the document by what this node did.
        if let Some(LogState { end: End { seq, at }, hint, .. }) = known(core, id, epoch) {
            state.end.reach(seq, at);
            state.hint = hint;
        }
        let settings = document.participants.iter().map(ParticipantDoc::stored).collect::<Result<_, _>>()?;
        working.insert(id, Working { settings, ..Working::new(state) });
    }
    refresh_logs(db, batch, &mut working).await?;
    Ok(working)
}

/// The entries that others have told of beyond what is known, as far as they are in the logs.
///
/// Where they are, everything before them is, so what is appended goes on after them without being refused first. Where they are
/// not, it is as if nobody had said anything: a number after one that does not exist would be a hole for ever, and a time that
/// nobody stored would be that of all entries to come. One look for a whole batch, and none while nobody else writes into its
/// conversations.
async fn hinted(db: &Db, working: &WorkingSet) -> Result<Vec<(ConversationId, End)>, StoreError> {
    let beyond = working.iter().filter(|(_, conversation)| conversation.state.hint > conversation.state.end.seq);
    let beyond: Vec<_> = beyond.map(|(id, conversation)| (*id, conversation.state.hint)).collect();
    Ok(ahead::ends(db, &beyond).await?)
}

/// Goes on after what was found.
fn reach(working: &mut WorkingSet, ends: Vec<(ConversationId, End)>) {
    for (id, End { seq, at }) in ends {
        let Some(conversation) = working.get_mut(&id) else { continue };
        conversation.state.end.reach(seq, at);
        conversation.base_seq = conversation.state.end.seq;
    }
}

/// The state that a document tells.
fn state_of(document: &ConversationDoc, epoch: Epoch) -> Result<LogState, Fault> {
    let reached = |each: &ParticipantDoc| Reached { delivered: unsigned(each.delivered), read: unsigned(each.read) };
    Ok(LogState {
        epoch,
        membership: document.membership()?,
        end: End { seq: unsigned(document.last_seq), at: time(document.last_at) },
        hint: 0,
        watermarks: document.participants.iter().map(reached).collect(),
    })
}

/// Looks into the logs of conversations that are to be refreshed, or in which something is marked or answered that we do not know of.
async fn refresh_logs(db: &Db, batch: &[Command], working: &mut WorkingSet) -> Result<(), StoreError> {
    let known = batch.iter().filter_map(|command| {
        let (id, seq) = match command {
            Command::Configure(_) => return None,
            Command::Append(append) => (append.conversation, append.reply_to?),
            Command::Mark(mark) => (mark.conversation, mark.seq),
            Command::Refresh(id) => (*id, u64::MAX),
        };
        let known = working.get(&id)?.state.end.seq;
        (seq > known).then_some((id, known))
    });
    let known: HashMap<_, _> = known.collect();
    for (id, ahead) in ahead::ahead(db, &known).await? {
        let Some(conversation) = working.get_mut(&id) else { continue };
        ahead::adopt(conversation, ahead);
        conversation.base_seq = conversation.state.end.seq;
    }
    Ok(())
}

type Members = HashMap<MemberId, MemberRef>;

/// Which of the members that matter to a batch exist, whether they are active, and what they may do.
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
                    members.insert(*member, known);
                }
                None => {
                    unknown.insert(*member);
                }
            }
        }
    }
    if !unknown.is_empty() {
        let asked = Instant::now();
        let fields = FindOptions::builder()
            .projection(
                doc! { "is_active": 1, "is_pending": 1, "must_verify": 1, "suspended_until": 1, "user_type": 1 },
            )
            .build();
        let found: Vec<Document> = db.all("members", among(unknown.into_iter().map(member_oid)), fields).await?;
        for member in found {
            let (Ok(id), Ok(is_active)) = (member.get_object_id("_id"), member.get_bool("is_active")) else { continue };
            // Nobody knows of them yet.
            if ["is_pending", "must_verify"].iter().any(|field| member.get_bool(field).unwrap_or(false)) {
                continue;
            }
            let suspended_until = member.get_datetime("suspended_until").ok().map(|until| time(*until));
            let user_type = member.get_str("user_type").ok().and_then(|text| user_type(text).ok());
            let (id, user_type) = (MemberId::from_bytes(id.bytes()), user_type.unwrap_or(UserType::Member));
            let member = MemberRef { facts: MemberFacts { is_active, suspended_until, user_type }, since: asked };
            members.insert(id, member);
            core.members.insert(id, member);
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
    // What is good only if it was there before, and where it is planned.
    let mut retries: Vec<(usize, Append)> = Vec::new();
    let mut coming: HashMap<ConversationId, u64> = HashMap::new();
    for command in batch {
        let append = match command {
            Command::Mark(mark) => {
                // One that comes before the first message finds no conversation.
                let is_there = working.contains_key(&mark.conversation);
                let refused = Planned::Refused(Refusal::ConversationNotFound);
                planned.push(if is_there { Planned::Mark(mark) } else { refused });
                continue;
            }
            Command::Configure(configure) => {
                let is_there = working.contains_key(&configure.conversation);
                let refused = Planned::Refused(Refusal::ConversationNotFound);
                planned.push(if is_there { Planned::Configure(configure) } else { refused });
                continue;
            }
            Command::Refresh(_) => {
                planned.push(Planned::Refresh);
                continue;
            }
            Command::Append(append) => append,
        };
        let known = working.get(&append.conversation).map(|Working { state, .. }| Known {
            membership: &state.membership,
            // An answer may answer what comes with the same batch. If that is not stored in the end, it is found when the answer gets its number
            // ([`append::insert`]).
            newest: state.end.seq + coming.get(&append.conversation).copied().unwrap_or(0),
        });
        let facts = |member| Ok::<_, StoreError>(members.get(&member).map(|known| known.facts));
        match rules::admit(&append, known, now, facts)? {
            Verdict::Refuse(refusal) => {
                planned.push(Planned::Refused(refusal));
                continue;
            }
            // What it answers does not matter if one of the batch turns out to be the first.
            Verdict::OnlyRetry { refusal: Refusal::AnsweredNotFound, .. }
                if appending.iter().any(|each| each.is_same(&append)) =>
            {
                appending.push(Appending::new(core, append));
            }
            Verdict::OnlyRetry { refusal, .. } => {
                retries.push((planned.len(), append));
                planned.push(Planned::Refused(refusal));
                continue;
            }
            Verdict::Begin(new) => {
                let (state, statement) = create(append.conversation, new, now);
                working.insert(append.conversation, Working::new(state));
                created.push(statement);
                appending.push(Appending::new(core, append));
            }
            Verdict::Append { .. } => appending.push(Appending::new(core, append)),
        }
        if let Some(last) = appending.last() {
            *coming.entry(last.conversation()).or_insert(0) += 1;
        }
        planned.push(Planned::Append(appending.len() - 1));
    }
    let (places, retries): (Vec<_>, Vec<_>) = retries.into_iter().unzip();
    let firsts = append::first_messages(db, &retries).await?;
    for ((place, append), first) in places.into_iter().zip(retries).zip(firsts) {
        if let (Some(first), Some(planned)) = (first, planned.get_mut(place)) {
            appending.push(Appending::known(core, append, first));
            *planned = Planned::Append(appending.len() - 1);
        }
    }
    if !created.is_empty() {
        receipts::run_updates(db, "conversations", created).await?;
    }
    Ok((planned, appending))
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
        "kind": rules::kind_word(new.kind),
        "participants": participants,
        "last_seq": 0_i64,
        "last_at": date(now),
    };
    let statement = doc! { "q": { "_id": conversation_oid(id) }, "u": { "$setOnInsert": document }, "upsert": true };
    let watermarks = vec![Reached::default(); members.len()];
    let membership = Membership { kind: new.kind, members: members.into() };
    (LogState { epoch: Epoch::NONE, membership, end: End { seq: 0, at: now }, hint: 0, watermarks }, statement)
}
