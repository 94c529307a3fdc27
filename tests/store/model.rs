//! Random commands against a plain model: the log, the watermarks, the unread counts and the receipts are what the
//! model says, after every batch and after the store was closed and opened again.

use std::collections::{BTreeMap, BTreeSet};

use members_book::{
    position::Position,
    service::messaging::direct_conversation,
    store::{
        conversations::{
            Appended, Command, Configure, Configured, Mark, MarkKind, Marked, Outcome, Range, Refusal, StoredSettings,
            UnreadCount,
        },
        entries::{EntryBody, StoredEntry},
        lists::ListFilter,
    },
};
use proptest::prelude::*;
use protocol::{
    ClientMessageId, ConversationId, MemberId, Timestamp,
    limits::{SYNC_FULL_ENTRIES, SYNC_MISSED_ENTRIES},
    model::{ConversationSettings, Notify},
};

use super::fixture::{Fixture, answer};

const MEMBERS: usize = 3;

/// What a member does to another.
#[derive(Debug, Clone)]
enum Step {
    Say {
        from: usize,
        to: usize,
        client_id: u8,
        content: String,
        reply_to: Option<u64>,
    },
    Mark {
        from: usize,
        to: usize,
        kind: MarkKind,
        seq: u64,
    },
    Configure {
        from: usize,
        to: usize,
        settings: ConversationSettings,
    },
    /// Everything so far is applied together, and time passes.
    Commit,
    /// The same, and the server is killed.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let pair = (0..MEMBERS, 1..MEMBERS).prop_map(|(from, distance)| (from, (from + distance) % MEMBERS));
    let pair_again = pair.clone();
    let kind = prop_oneof![Just(MarkKind::Delivered), Just(MarkKind::Read)];
    prop_oneof![
        // Few client ids, so that retries are common.
        5 => (pair.clone(), 0..40_u8, "[a-zé😀 ]{1,12}", prop::option::weighted(0.4, 0..12_u64))
            .prop_map(|((from, to), client_id, content, reply_to)| Step::Say { from, to, client_id, content, reply_to }),
        4 => (pair, kind, 0..30_u64).prop_map(|((from, to), kind, seq)| Step::Mark { from, to, kind, seq }),
        2 => (pair_again, settings()).prop_map(|((from, to), settings)| Step::Configure { from, to, settings }),
        4 => Just(Step::Commit),
        1 => Just(Step::Kill),
    ]
}

/// Few of them, so that some are set twice.
fn settings() -> impl Strategy<Value = ConversationSettings> {
    let notify = prop_oneof![Just(Notify::All), Just(Notify::Mentions), Just(Notify::Nothing)];
    let muted_until = prop_oneof![Just(None), (1_i64..3).prop_map(|until| Some(Timestamp::from_millis(until)))];
    (notify, muted_until, any::<bool>(), any::<bool>()).prop_map(|(notify, muted_until, archived, pinned)| {
        ConversationSettings { notify, muted_until, archived, pinned }
    })
}

/// When a message was delivered and read.
type Times = (Option<Timestamp>, Option<Timestamp>);

/// A conversation, done the simple way.
#[derive(Default)]
struct Model {
    log: Vec<(MemberId, ClientMessageId, String, Option<u64>)>,
    /// When each message was delivered and read, by reader.
    receipts: BTreeMap<MemberId, Vec<Times>>,
    /// What each member has set, and the revision that the store has given it.
    settings: BTreeMap<MemberId, StoredSettings>,
}

impl Model {
    /// The message, and whether it was there before; nothing if it answers what is not there.
    fn say(
        &mut self,
        from: MemberId,
        client_id: ClientMessageId,
        content: &str,
        reply_to: Option<u64>,
    ) -> Option<(Parts, bool)> {
        let known = self.log.iter().position(|(sender, id, ..)| (*sender, *id) == (from, client_id));
        if known.is_none() {
            let is_there = |seq: u64| seq > 0 && seq <= self.log.len() as u64;
            if !reply_to.is_none_or(is_there) {
                return None;
            }
            self.log.push((from, client_id, content.to_owned(), reply_to));
        }
        let place = known.unwrap_or(self.log.len() - 1);
        Some((self.entries()[place].clone(), known.is_some()))
    }

    fn mark(&mut self, member: MemberId, kind: MarkKind, seq: u64, now: Timestamp) {
        let receipts = self.receipts.entry(member).or_default();
        receipts.resize(self.log.len(), (None, None));
        for (delivered, read) in receipts.iter_mut().take(usize::try_from(seq).unwrap()) {
            delivered.get_or_insert(now);
            if kind == MarkKind::Read {
                read.get_or_insert(now);
            }
        }
    }

    fn receipts(&self, member: MemberId) -> Vec<Times> {
        let mut receipts = self.receipts.get(&member).cloned().unwrap_or_default();
        receipts.resize(self.log.len(), (None, None));
        receipts
    }

    fn watermarks(&self, member: MemberId) -> (u64, u64) {
        let receipts = self.receipts(member);
        let count = |reached: fn(&Times) -> bool| receipts.iter().filter(|times| reached(times)).count() as u64;
        (count(|times| times.0.is_some()), count(|times| times.1.is_some()))
    }

    fn entries(&self) -> Vec<Parts> {
        let parts = |(seq, (sender, id, text, reply_to)): (u64, &(_, _, String, _))| {
            (seq, *sender, *id, text.clone(), *reply_to)
        };
        (1..).zip(&self.log).map(parts).collect()
    }

    fn unread(&self, member: MemberId) -> u64 {
        let read = usize::try_from(self.watermarks(member).1).unwrap();
        self.log.iter().skip(read).filter(|(sender, ..)| *sender != member).count() as u64
    }
}

type Models = BTreeMap<ConversationId, Model>;
/// How long each log was, and what its members had set.
type Lengths = BTreeMap<ConversationId, (usize, BTreeMap<MemberId, StoredSettings>)>;
/// An entry, as the model knows it.
type Parts = (u64, MemberId, ClientMessageId, String, Option<u64>);

async fn run(steps: Vec<Step>, mut f: Fixture) {
    let mut members = Vec::new();
    for name in ["A", "B", "C"] {
        members.push(f.member(name).await);
    }
    let mut models = Models::new();
    let (mut batch, mut places) = (Vec::new(), Vec::new());
    for step in steps.into_iter().chain([Step::Commit]) {
        match step {
            Step::Commit => {
                commit(&f, &mut models, &members, std::mem::take(&mut batch)).await;
                places.push((f.store.log.position().await.unwrap(), lengths(&models)));
                f.wait(1);
            }
            Step::Kill => {
                commit(&f, &mut models, &members, std::mem::take(&mut batch)).await;
                f.wait(1);
                f = f.killed().await;
            }
            step => batch.push(step),
        }
    }
    check(&f, &models, &members).await;
    check_changes(&f, &models, &members, &places).await;
    f = f.reopened().await;
    check(&f, &models, &members).await;
}

fn lengths(models: &Models) -> Lengths {
    models.iter().map(|(id, model)| (*id, (model.log.len(), model.settings.clone()))).collect()
}

async fn commit(f: &Fixture, models: &mut Models, members: &[MemberId], batch: Vec<Step>) {
    let commands = batch.iter().map(|step| command(step, members)).collect();
    let outcomes = f.apply_all(commands).await.outcomes;
    for (step, outcome) in batch.iter().zip(outcomes) {
        match step {
            Step::Say { from, to, client_id, content, reply_to } => {
                let conversation = direct_conversation(members[*from], members[*to]);
                let model = models.entry(conversation).or_default();
                let Some(said) = model.say(members[*from], id(*client_id), content, *reply_to) else {
                    assert_eq!(outcome.err(), Some(Refusal::AnsweredNotFound));
                    // It has begun nothing.
                    models.retain(|_, model| !model.log.is_empty());
                    continue;
                };
                let Ok(Outcome::Appended(Appended { message, duplicate, .. })) = outcome else { panic!("{outcome:?}") };
                assert_eq!((parts(message), duplicate), said);
            }
            Step::Mark { from, to, kind, seq } => {
                let Some(model) = models.get_mut(&direct_conversation(members[*from], members[*to])) else {
                    assert!(outcome.is_err(), "there is no conversation yet");
                    continue;
                };
                let before = model.watermarks(members[*from]);
                model.mark(members[*from], *kind, *seq, f.now());
                let after = model.watermarks(members[*from]);
                let Ok(Outcome::Marked(Marked {
                    conversation,
                    member,
                    delivered,
                    read,
                    moved,
                    unread: known,
                    last_seq,
                    ..
                })) = outcome
                else {
                    panic!("{outcome:?}")
                };
                assert_eq!(((delivered, read), moved), (after, before != after));
                assert_eq!(last_seq, model.log.len() as u64);
                let unread = f.unread_between(conversation, member, read, last_seq).await;
                assert_eq!(unread, UnreadCount { count: model.unread(member), more: false });
                assert!(known.is_none_or(|known| known == unread), "{known:?} at once, {unread:?} counted");
            }
            Step::Configure { from, to, settings } => {
                let Some(model) = models.get_mut(&direct_conversation(members[*from], members[*to])) else {
                    assert!(outcome.is_err(), "there is no conversation yet");
                    continue;
                };
                let Ok(Outcome::Configured(Configured { stored, .. })) = outcome else { panic!("{outcome:?}") };
                // Of several in a batch, each may say what the last one has set.
                let known = model.settings.entry(members[*from]).or_default();
                assert!(stored.revision >= known.revision);
                *known = StoredSettings { settings: *settings, revision: stored.revision };
            }
            Step::Commit | Step::Kill => {}
        }
    }
}

fn command(step: &Step, members: &[MemberId]) -> Command {
    match step {
        Step::Say { from, to, client_id, content, reply_to } => {
            answer(members[*from], members[*to], id(*client_id), content, *reply_to)
        }
        Step::Mark { from, to, kind, seq } => {
            let conversation = direct_conversation(members[*from], members[*to]);
            Command::Mark(Mark { conversation, member: members[*from], kind: *kind, seq: *seq })
        }
        Step::Configure { from, to, settings } => {
            let conversation = direct_conversation(members[*from], members[*to]);
            Command::Configure(Configure { conversation, member: members[*from], settings: *settings })
        }
        Step::Commit | Step::Kill => unreachable!("these are no commands"),
    }
}

fn id(number: u8) -> ClientMessageId {
    ClientMessageId::from_bytes([number; 16])
}

async fn check(f: &Fixture, models: &Models, members: &[MemberId]) {
    for &member in members {
        let changes = f.store.conversations.delta(member, None).await.unwrap();
        let mine = models.keys().filter(|id| members.iter().any(|other| direct_conversation(member, *other) == **id));
        assert_eq!(changes.conversations.len(), mine.count());
        for conversation in changes.conversations {
            let model = &models[&conversation.id];
            assert_eq!(conversation.last_seq, model.log.len() as u64);
            assert_eq!(conversation.unread.count, model.unread(member));
            assert_eq!(conversation.settings, model.settings.get(&member).copied().unwrap_or_default());
            for state in &conversation.members {
                assert_eq!((state.delivered, state.read), model.watermarks(state.member));
                assert!(state.read <= state.delivered && state.delivered <= conversation.last_seq);
                let times = f.receipt_times(conversation.id, state.member, 1, conversation.last_seq);
                let times: Vec<_> = times.await.into_iter().map(|times| (times.delivered_at, times.read_at)).collect();
                assert_eq!(times, model.receipts(state.member));
            }
            let log = model.entries();
            assert_eq!(entries(conversation.entries), log[log.len().saturating_sub(SYNC_FULL_ENTRIES)..]);
            check_pages(f, member, conversation.id, &log).await;
        }
        check_lists(f, models, members, member).await;
    }
}

/// Every list has what its filter says, each conversation once.
async fn check_lists(f: &Fixture, models: &Models, members: &[MemberId], member: MemberId) {
    let others = members.iter().filter(|other| **other != member);
    let mine: Vec<_> = others
        .map(|other| direct_conversation(member, *other))
        .filter_map(|id| models.get(&id).map(|model| (id, model)))
        .collect();
    let all = ListFilter::default();
    for filter in [
        ListFilter { archived: Some(true), ..all },
        ListFilter { unread: Some(true), ..all },
        ListFilter { pinned: Some(false), unread: Some(false), ..all },
    ] {
        let ListFilter { archived, pinned, unread } = filter;
        let fits = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        let expected: BTreeSet<_> = mine
            .iter()
            .filter(|(_, model)| {
                let settings = model.settings.get(&member).copied().unwrap_or_default().settings;
                fits(archived, settings.archived)
                    && fits(pinned, settings.pinned)
                    && fits(unread, model.unread(member) > 0)
            })
            .map(|(id, _)| *id)
            .collect();
        let mut listed = Vec::new();
        let mut before = None;
        loop {
            let page = f.store.conversations.list(member, filter, before, 1).await.unwrap();
            listed.extend(page.conversations.iter().map(|conversation| conversation.id));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(listed.len(), expected.len(), "{filter:?}");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected, "{filter:?}");
    }
}

/// Every page of a log, from everywhere in it, or from every fifth place, is what a plain list has there.
async fn check_pages(f: &Fixture, member: MemberId, conversation: ConversationId, log: &[Parts]) {
    let page = async |range, limit| {
        let page = f.store.conversations.history(member, conversation, range, limit).await.unwrap().unwrap();
        (entries(page.entries), page.more)
    };
    // Each of them is some calls of a database that is slow in tests.
    let step = if f.database.is_some() { 5 } else { 1 };
    for limit in [1, 9, 1_000] {
        let newest = log.len().saturating_sub(limit);
        assert_eq!(page(Range::Newest, limit).await, (log[newest..].to_vec(), newest > 0));
        for seq in (limit % step..log.len() + 3).step_by(step) {
            let end = seq.saturating_sub(1).min(log.len());
            let first = end.saturating_sub(limit);
            let before = page(Range::Before(seq as u64), limit).await;
            assert_eq!(before, (log[first..end].to_vec(), first > 0), "before {seq}");
            let first = seq.min(log.len());
            let end = log.len().min(first.saturating_add(limit));
            let after = page(Range::After(seq as u64), limit).await;
            assert_eq!(after, (log[first..end].to_vec(), end < log.len()), "after {seq}");
        }
    }
}

/// A sync from where each batch ended brings what came after it.
async fn check_changes(f: &Fixture, models: &Models, members: &[MemberId], places: &[(Position, Lengths)]) {
    for (&member, (place, lengths)) in members.iter().flat_map(|member| places.iter().map(move |place| (member, place)))
    {
        let changes = f.store.conversations.delta(member, Some(*place)).await.unwrap();
        let brought: Vec<ConversationId> = changes.conversations.iter().map(|conversation| conversation.id).collect();
        for (id, model) in models {
            let before = lengths.get(id).and_then(|(_, settings)| settings.get(&member)).copied().unwrap_or_default();
            let now = model.settings.get(&member).copied().unwrap_or_default();
            assert!(before == now || brought.contains(id), "{before:?} became {now:?}");
        }
        for conversation in changes.conversations {
            let log = models[&conversation.id].entries();
            let known = lengths.get(&conversation.id).map(|(length, _)| *length).unwrap_or_default();
            let found = entries(conversation.entries);
            // A store whose positions are times may bring some again.
            let first = log.len() - found.len();
            assert!(first <= known || log.len() - known > SYNC_MISSED_ENTRIES, "{first} of {known}");
            assert_eq!(found, log[first..]);
        }
    }
}

fn entries(stored: Vec<StoredEntry>) -> Vec<Parts> {
    stored.into_iter().map(parts).collect()
}

fn parts(entry: StoredEntry) -> Parts {
    let StoredEntry { seq, sender, client_id, body: EntryBody::Text(content), reply_to, .. } = entry;
    (seq, sender, client_id, content, reply_to)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_does_what_the_model_says(steps in prop::collection::vec(step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps, Fixture::sqlite()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mongodb_does_what_the_model_says(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { run(steps, Fixture::mongodb().await).await });
    }
}
