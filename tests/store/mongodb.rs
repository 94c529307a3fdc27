//! What is MongoDB's own: several nodes, faults of the database, indexes, what an outside reader sees.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use members_book::{
    cluster::Uplink,
    position::{Position, StreamPosition},
    service::{
        asker::{Asker, Responder, Sent},
        awaited::Awaited,
        messaging::direct_conversation,
        push::Intake,
        sequencer::Sequencer,
    },
    store::{
        ConversationLog, StoreError,
        changes::{Actor, Change},
        conversations::{Appended, Applied, Command, Mark, MarkKind, Marked, Outcome, Range, Refusal},
        entries::StoredEntry,
        mail::{AskedFrom, Lane, Mail},
        members::Standing,
        mongo::migrations::INDEXES,
        turns::Caller,
    },
};
use mongodb::bson::{Bson, Document, doc, oid::ObjectId};
use protocol::{ClientMessageId, MemberId, model::Tier};
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, append, watched};
use crate::harness::{client_id, database, database::Database, eventually};

fn oid(id: MemberId) -> ObjectId {
    ObjectId::from_bytes(*id.as_bytes())
}

/// Everything in a log, in its order.
async fn log(f: &Fixture, one: MemberId, other: MemberId) -> Vec<StoredEntry> {
    let mut log: Vec<StoredEntry> = Vec::new();
    loop {
        let after = Range::After(log.last().map_or(0, |message| message.seq));
        let page = f.store.conversations.history(one, direct_conversation(one, other), after, 100).await.unwrap();
        let Some(page) = page.filter(|page| !page.entries.is_empty()) else { return log };
        log.extend(page.entries);
    }
}

fn seqs(log: &[StoredEntry]) -> Vec<u64> {
    log.iter().map(|message| message.seq).collect()
}

const NODES: usize = 4;
const EACH: usize = 25;

/// Four nodes write into the same two conversations as fast as they can, in batches and one by one, while a fifth one
/// reads along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_nodes_leave_no_hole_no_duplicate_and_one_order() {
    let database = Arc::new(Database::new().await);
    let reader = Fixture::mongodb_in(Arc::clone(&database));
    let (ana, ben, eva) = (reader.member("Ana").await, reader.member("Ben").await, reader.member("Eva").await);
    let writers: Vec<_> = (0..NODES)
        .map(|node| {
            let node_of = Fixture::mongodb_in(Arc::clone(&database));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for round in 0..EACH {
                    let mut batch =
                        vec![append(ana, ben, client_id(), "to Ben"), append(eva, ana, client_id(), "to Ana")];
                    if (round + node) % 2 == 0 {
                        batch.extend([append(ben, ana, client_id(), "back"), append(ana, ben, client_id(), "again")]);
                    }
                    for outcome in node_of.apply_all(batch).await.outcomes {
                        let Ok(Outcome::Appended(Appended { message, duplicate: false, .. })) = outcome else {
                            panic!("{outcome:?}")
                        };
                        acknowledged.push(message);
                    }
                }
                node_of.store.backend.close().await;
                acknowledged
            })
        })
        .collect();
    // What a reader sees is at every moment a beginning of the log.
    let mut seen: Vec<StoredEntry> = Vec::new();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let now = log(&reader, ana, ben).await;
        assert_eq!(seqs(&now), (1..=now.len() as u64).collect::<Vec<_>>());
        assert!(now.starts_with(&seen), "what was seen has changed");
        seen = now;
    }
    let mut acknowledged = BTreeMap::new();
    for writer in writers {
        for message in writer.await.unwrap() {
            let again = acknowledged.insert((message.conversation, message.seq), message);
            assert!(again.is_none(), "one seq for two messages: {again:?}");
        }
    }
    for other in [ben, eva] {
        let log = log(&reader, ana, other).await;
        assert_eq!(seqs(&log), (1..=log.len() as u64).collect::<Vec<_>>());
        let of_this =
            acknowledged.iter().filter(|((conversation, _), _)| *conversation == direct_conversation(ana, other));
        assert_eq!(log, of_this.map(|(_, message)| message.clone()).collect::<Vec<_>>());
    }
    let changes = reader.store.conversations.delta(ana, None).await.unwrap();
    for conversation in changes.conversations {
        let last = acknowledged.keys().filter(|(id, _)| *id == conversation.id).map(|(_, seq)| *seq).max();
        assert_eq!(Some(conversation.last_seq), last, "the conversation knows of its newest entry");
    }
}

/// Found from outside: whoever published a number and a time on the bus made a hole in the log for ever, and dated all messages to come.
#[tokio::test]
async fn what_others_say_of_a_log_is_believed_where_it_is_in_the_log_and_nowhere_else() {
    let database = Arc::new(Database::new().await);
    let (one, other) = (Fixture::mongodb_in(Arc::clone(&database)), Fixture::mongodb_in(Arc::clone(&database)));
    let (ana, ben, eva) = (one.member("Ana").await, one.member("Ben").await, one.member("Eva").await);
    let (to_ben, to_eva) = (direct_conversation(ana, ben), direct_conversation(ana, eva));
    one.say(ana, ben, "1").await;
    one.say(ana, eva, "1").await;
    // Nobody has stored these.
    for forged in [2, 3, u64::MAX] {
        one.store.log.told(to_ben, 2, forged);
        one.store.log.told(to_eva, 1, forged);
    }
    let both = || vec![append(ana, ben, client_id(), "2"), append(ana, eva, client_id(), "2")];
    one.apply_all(both()).await;
    for partner in [ben, eva] {
        assert_eq!(seqs(&log(&one, ana, partner).await), [1, 2]);
    }
    // The other node has, and its clock is ahead; what it stored last nobody has told of.
    other.wait(60);
    let third = other.say(ben, ana, "3").await;
    one.store.log.told(to_ben, 3, 3);
    one.store.log.told(to_ben, 5, 9);
    let fourth = one.say(ana, ben, "4").await;
    assert_eq!((fourth.seq, fourth.at), (4, third.at), "not before the one that it comes after");
    other.say(ben, ana, "5").await;
    assert_eq!(one.say(ana, ben, "6").await.seq, 6);
    assert_eq!(seqs(&log(&one, ana, ben).await), (1..=6).collect::<Vec<_>>());
}

/// Where nodes take turns in a conversation, what they tell each other spares each a refused insert. Prints what it costs.
#[tokio::test]
async fn nodes_that_take_turns_in_a_conversation_are_not_refused() {
    let database = Arc::new(Database::new().await);
    let nodes = [Fixture::mongodb_in(Arc::clone(&database)), Fixture::mongodb_in(Arc::clone(&database))];
    let (ana, ben) = (nodes[0].member("Ana").await, nodes[0].member("Ben").await);
    let conversation = direct_conversation(ana, ben);
    for node in &nodes {
        node.say(ana, ben, "first").await;
    }
    // Alone, then in turns and told of each other's, and in turns and not told.
    for (writers, told) in [(1, false), (2, true), (2, false)] {
        let started = tokio::time::Instant::now();
        for turn in 0..40 {
            let seq = nodes[turn % writers].say(ana, ben, "next").await.seq;
            if told {
                nodes[(turn + 1) % 2].store.log.told(conversation, seq, seq);
            }
        }
        println!("{writers} writing, told: {told}: {:?} a message", started.elapsed() / 40);
    }
    assert_eq!(seqs(&log(&nodes[0], ana, ben).await), (1..=122).collect::<Vec<_>>());
}

/// The same message sent through several nodes at once is stored once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_on_other_nodes_at_the_same_moment_is_one_message() {
    let database = Arc::new(Database::new().await);
    let nodes: Vec<_> = (0..3).map(|_| Fixture::mongodb_in(Arc::clone(&database))).collect();
    let (ana, ben) = (nodes[0].member("Ana").await, nodes[0].member("Ben").await);
    for _ in 0..10 {
        let id = client_id();
        let send = |node: &Fixture| {
            let store = Arc::clone(&node.store.log);
            tokio::spawn(
                async move { store.apply(vec![append(ana, ben, id, "once")]).await.unwrap().outcomes.remove(0) },
            )
        };
        let mut firsts = 0;
        let mut messages = Vec::new();
        for sent in nodes.iter().map(send).collect::<Vec<_>>() {
            let Ok(Outcome::Appended(Appended { message, duplicate, .. })) = sent.await.unwrap() else { panic!() };
            firsts += usize::from(!duplicate);
            messages.push(message);
        }
        assert_eq!(firsts, 1);
        assert!(messages.iter().all(|message| *message == messages[0]));
    }
    assert_eq!(seqs(&log(&nodes[1], ana, ben).await), (1..=10).collect::<Vec<_>>());
}

/// What one node does is in the sync of another, from a cursor of either.
#[tokio::test]
async fn a_cursor_is_good_on_every_node() {
    let database = Arc::new(Database::new().await);
    let (one, other) = (Fixture::mongodb_in(Arc::clone(&database)), Fixture::mongodb_in(database));
    let (ana, ben) = (one.member("Ana").await, one.member("Ben").await);
    one.say(ana, ben, "1").await;
    assert_eq!(one.store.backend.store_id(), other.store.backend.store_id());
    for (from, to) in [(&one, &other), (&other, &one)] {
        from.settle().await;
        let since = from.store.conversations.delta(ben, None).await.unwrap().position;
        let written = to.say(ana, ben, "more").await;
        let changes = from.store.conversations.delta(ben, Some(since)).await.unwrap();
        assert!(!changes.full);
        assert_eq!(changes.conversations[0].last_seq, written.seq);
        let mark = Mark { conversation: written.conversation, member: ben, kind: MarkKind::Read, seq: written.seq };
        to.apply(Command::Mark(mark)).await.unwrap();
        let changes = from.store.conversations.delta(ben, Some(since)).await.unwrap();
        assert_eq!(changes.conversations[0].unread.count, 0);
    }
}

/// A cursor that was taken while a write was under way does not skip it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_taken_during_writes_skip_nothing() {
    let database = Arc::new(Database::new().await);
    let (writer, reader) = (Fixture::mongodb_in(Arc::clone(&database)), Fixture::mongodb_in(database));
    let (ana, ben) = (writer.member("Ana").await, writer.member("Ben").await);
    writer.say(ana, ben, "first").await;
    let writing = tokio::spawn(async move {
        for _ in 0..100 {
            writer.say(ana, ben, "x").await;
        }
    });
    // A client that syncs again and again, and learns of new entries in no other way.
    let (mut cursor, mut known) = (None, 0);
    let mut done = false;
    while !done {
        done = writing.is_finished();
        reader.store.log.position().await.unwrap();
        let changes = reader.store.conversations.delta(ben, cursor).await.unwrap();
        for conversation in changes.conversations {
            known = known.max(conversation.last_seq);
        }
        cursor = Some(changes.position);
    }
    writing.await.unwrap();
    assert_eq!(known, 101);
}

/// Whatever reads the club's database sees who wrote to whom, and what has become of it.
#[tokio::test]
async fn an_outside_reader_sees_true_statuses() {
    let f = Fixture::mongodb().await;
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    for content in ["one", "two", "three"] {
        f.say(ana, ben, content).await;
    }
    f.say(ben, ana, "four").await;
    f.wait(1);
    let conversation = direct_conversation(ana, ben);
    f.mark(conversation, ben, MarkKind::Delivered, 2).await;
    let delivered = f.now();
    f.wait(1);
    f.mark(conversation, ben, MarkKind::Read, 1).await;
    let read = f.now();
    let messages = f.database.as_ref().unwrap().open().await.collection::<Document>("messages");
    let found: Vec<Document> =
        messages.find(doc! {}).sort(doc! { "seq": 1 }).await.unwrap().try_collect().await.unwrap();
    let field = |seq: usize, name: &str| found[seq - 1].get(name).cloned().unwrap();
    assert_eq!(field(1, "sender_id"), Bson::ObjectId(oid(ana)));
    assert_eq!(field(1, "receiver_id"), Bson::ObjectId(oid(ben)));
    assert_eq!(field(1, "content"), Bson::String("one".into()));
    let statuses: Vec<_> = (1..=4).map(|seq| field(seq, "status").as_str().unwrap().to_owned()).collect();
    assert_eq!(statuses, ["read", "delivered", "sent", "sent"]);
    let time = |seq, name| field(seq, name).as_datetime().map(|at| at.timestamp_millis());
    assert_eq!((time(1, "delivered_at"), time(1, "read_at")), (Some(delivered.as_millis()), Some(read.as_millis())));
    assert_eq!((time(2, "delivered_at"), field(2, "read_at")), (Some(delivered.as_millis()), Bson::Null));
    assert_eq!((field(4, "delivered_at"), field(4, "read_at")), (Bson::Null, Bson::Null));
    assert!(field(1, "created_at").as_datetime().is_some());
}

async fn on_a_server_with_fail_points() -> (Arc<database::Server>, Fixture) {
    let server = database::Server::with_fail_points().await;
    let f = Fixture::mongodb_in(Arc::new(server.database()));
    (server, f)
}

/// What a batch did; one that was refused because the database was away did nothing, and is tried again.
async fn applied(f: &Fixture, batch: Vec<Command>) -> Vec<Result<Outcome, Refusal>> {
    let apply = async || f.store.log.apply(batch.clone()).await.ok();
    eventually("the database", apply).await.outcomes
}

/// Whatever goes wrong in the middle of an insert, the message is there once, with the next seq, and is told to be new.
#[tokio::test]
async fn an_insert_whose_outcome_is_unknown_is_looked_up() {
    let (server, f) = on_a_server_with_fail_points().await;
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "first").await;
    let faults = [
        doc! { "failCommands": ["insert"], "closeConnection": true },
        doc! { "failCommands": ["insert"], "errorCode": 10_107, "errorLabels": ["RetryableWriteError"] },
        doc! { "failCommands": ["insert"], "writeConcernError": { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out" } },
        doc! { "failCommands": ["insert"], "blockConnection": true, "blockTimeMS": 300 },
        doc! { "failCommands": ["update"], "closeConnection": true },
        doc! { "failCommands": ["update"], "errorCode": 91 },
        doc! { "failCommands": ["update"], "writeConcernError": { "code": 91, "codeName": "ShutdownInProgress", "errmsg": "going away" } },
    ];
    for (round, fault) in (2_u64..).zip(faults) {
        server.fail(doc! { "times": 1 }, fault.clone()).await;
        let batch = vec![append(ana, ben, client_id(), "one"), append(ben, ana, client_id(), "two")];
        for (place, outcome) in (0..).zip(applied(&f, batch).await) {
            let Ok(Outcome::Appended(Appended { message, duplicate: false, .. })) = outcome else {
                panic!("{fault}: {outcome:?}")
            };
            assert_eq!(message.seq, round * 2 - 2 + place, "{fault}");
        }
        let seq = round * 2 - 1;
        let mark = Mark { conversation: direct_conversation(ana, ben), member: ben, kind: MarkKind::Read, seq };
        let marked = applied(&f, vec![Command::Mark(mark)]).await.remove(0);
        let Ok(Outcome::Marked(Marked { delivered, read, last_seq, moved, .. })) = marked else {
            panic!("{fault}: {marked:?}")
        };
        assert_eq!((delivered, read, last_seq, moved), (seq, seq, seq, true));
    }
    let log = log(&f, ana, ben).await;
    assert_eq!(seqs(&log), (1..=15).collect::<Vec<_>>());
    let times = f.receipt_times(direct_conversation(ana, ben), ben, 1, 15).await;
    assert!(times.iter().all(|times| times.read_at.is_some() && times.delivered_at.is_some()));
}

/// A read that fails once is repeated by the driver; one that is late is given up in time.
#[tokio::test]
async fn a_slow_reply_is_a_timeout_and_not_a_wait() {
    let server = database::Server::with_fail_points().await;
    let f = Fixture::mongodb_with(Arc::new(server.database()), Duration::from_millis(1500));
    let ana = f.member("Ana").await;
    server.fail(doc! { "times": 1 }, doc! { "failCommands": ["find"], "closeConnection": true }).await;
    assert!(f.store.members.by_id(Caller::System, ana).await.unwrap().is_some());
    // More than one: what looks after the database asks, too.
    let slow = doc! { "failCommands": ["find"], "blockConnection": true, "blockTimeMS": 4000 };
    server.fail(doc! { "times": 3 }, slow).await;
    let started = std::time::Instant::now();
    let late = f.store.members.by_id(Caller::System, ana).await;
    assert!(matches!(late, Err(StoreError::Timeout)), "{:?}", late.err());
    assert!(started.elapsed() < Duration::from_millis(3500));
}

/// What a member has under way is bounded by what the database does, not by who still waits for it.
#[tokio::test]
async fn hanging_up_does_not_give_the_place_of_a_read_back() {
    let server = database::Server::with_fail_points().await;
    let f = Fixture::mongodb_with(Arc::new(server.database()), Duration::from_secs(10));
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let slow = doc! { "failCommands": ["find"], "blockConnection": true, "blockTimeMS": 3000 };
    server.fail(doc! { "times": 100 }, slow.clone()).await;
    let started = std::time::Instant::now();
    for _ in 0..2 {
        let read = f.store.conversations.unread(ana);
        assert!(tokio::time::timeout(Duration::from_millis(500), read).await.is_err(), "it hangs up");
    }
    // Those that are under way stay as slow as they are; the next ones are not.
    server.fail(doc! { "skip": 1_000_000 }, slow).await;
    f.store.conversations.unread(ben).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(2900), "another member");
    f.store.conversations.unread(ana).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(2900), "both places were taken");
}

/// Found by reading: an attempt that nobody heard of any more undid a newer decision that was acknowledged.
#[tokio::test]
async fn a_change_that_was_given_up_is_not_made_though_it_is_under_way() {
    let server = database::Server::with_fail_points().await;
    let mut database = server.database();
    // One write of a member at a time: the second one waits until the first one has ended.
    database.uri += "&maxPoolSize=10";
    let f = Fixture::mongodb_with(Arc::new(database), Duration::from_secs(10));
    let ana = f.member("Ana").await;
    let slow = doc! { "failCommands": ["find"], "blockConnection": true, "blockTimeMS": 2000 };
    server.fail(doc! { "times": 100 }, slow.clone()).await;
    let given_up = CancellationToken::new();
    let change = f.store.members.change(ana, Change::Active(false), Actor::default(), f.now(), given_up.clone());
    assert!(tokio::time::timeout(Duration::from_millis(500), change).await.is_err(), "it hangs up");
    given_up.cancel();
    server.fail(doc! { "skip": 1_000_000 }, slow).await;
    f.change(ana, Change::Tier(Tier::Infinity)).await;
    let profile = f.store.members.by_id(Caller::System, ana).await.unwrap().unwrap().profile;
    assert_eq!((profile.is_active, profile.tier), (true, Tier::Infinity));
}

/// Found by reading: what was wanted was so already, for as long as the older decision was on its way.
#[tokio::test]
async fn a_decision_that_changes_nothing_is_not_undone_by_an_older_one_on_its_way() {
    let server = database::Server::with_fail_points().await;
    let f = Fixture::mongodb_with(Arc::new(server.database()), Duration::from_secs(10));
    let ana = f.member("Ana").await;
    let slow = doc! { "failCommands": ["commitTransaction"], "blockConnection": true, "blockTimeMS": 1000 };
    server.fail(doc! { "times": 1 }, slow).await;
    let older = f.store.members.change(ana, Change::Active(false), Actor::default(), f.now(), CancellationToken::new());
    assert!(tokio::time::timeout(Duration::from_millis(400), older).await.is_err(), "it is being committed");
    f.change(ana, Change::Active(true)).await;
    // It writes, and so it comes after whatever is on its way.
    f.change(ana, Change::Tier(Tier::Infinity)).await;
    let record = f.store.members.by_id(Caller::System, ana).await.unwrap().unwrap();
    assert!(record.profile.is_active, "the newer one stands");
}

/// Down at the start, up by itself; down while running, fails at once, and up by itself again.
#[tokio::test]
async fn it_starts_without_the_database_and_survives_its_loss() {
    let server = database::Server::start(&[]).await;
    server.kill();
    let f = Fixture::mongodb_with(Arc::new(server.database()), Duration::from_secs(2));
    let error = f.store.backend.check().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    server.launch();
    let ready = async || f.store.backend.check().await.ok();
    eventually("readiness", ready).await;
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;

    server.kill();
    let down = async || f.store.backend.check().await.err();
    eventually("the loss to be noticed", down).await;
    let started = std::time::Instant::now();
    for _ in 0..20 {
        let batch = vec![append(ana, ben, client_id(), "lost")];
        assert!(matches!(f.store.log.apply(batch).await, Err(StoreError::Unavailable(_))));
        assert!(matches!(f.store.members.by_id(Caller::System, ana).await, Err(StoreError::Unavailable(_))));
    }
    assert!(started.elapsed() < Duration::from_secs(1), "it fails fast");

    server.launch();
    eventually("readiness", ready).await;
    assert_eq!(f.say(ana, ben, "2").await.seq, 2, "what was refused was not stored");
}

/// A batch that meets the loss of the database half-way ends as soon as it is back, with what was stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_when_the_database_died_is_known_when_it_is_back() {
    let server = database::Server::start(&[]).await;
    let f = Fixture::mongodb_with(Arc::new(server.database()), Duration::from_secs(2));
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let store = Arc::clone(&f.store.log);
    let (sender, mut acknowledged) = tokio::sync::mpsc::channel(1000);
    let writer = tokio::spawn(async move {
        for _ in 0..300 {
            // Refused while it is down: then nothing was stored.
            if let Ok(applied) = store.apply(vec![append(ana, ben, client_id(), "x")]).await
                && let Some(Ok(Outcome::Appended(Appended { message, .. }))) = applied.outcomes.into_iter().next()
            {
                sender.send(message.seq).await.unwrap();
            } else {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    for _ in 0..20 {
        acknowledged.recv().await.unwrap();
    }
    server.kill();
    server.launch();
    writer.await.unwrap();
    let mut told = Vec::new();
    while let Ok(seq) = acknowledged.try_recv() {
        told.push(seq);
    }
    let log = log(&f, ana, ben).await;
    assert_eq!(seqs(&log), (1..=log.len() as u64).collect::<Vec<_>>());
    assert_eq!(seqs(&log)[20..], told, "every stored message was acknowledged, once, in its order");
}

/// What a node that died has left half done is finished by another.
#[tokio::test]
async fn a_dead_node_is_looked_after() {
    let f = Fixture::mongodb().await;
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;
    let conversation = ObjectId::from_bytes(*direct_conversation(ana, ben).as_bytes());
    let database = f.database.as_ref().unwrap().open().await;
    // As if it had died after the insert: the conversation does not know of the entry.
    let conversations = database.collection::<Document>("conversations");
    let forget = doc! { "$set": { "last_seq": 0_i64 } };
    conversations.update_one(doc! { "_id": conversation }, forget).await.unwrap();
    assert!(f.store.conversations.delta(ben, None).await.unwrap().conversations.is_empty());
    // A process of this machine that does not exist any more.
    let nodes = database.collection::<Document>("nodes");
    let mut dead = nodes.find_one(doc! {}).await.unwrap().unwrap();
    let began = dead.get_i64("began").unwrap() + 1;
    let id = ObjectId::new();
    // Its batch had waited for long, while it was beating.
    let at = |millis| mongodb::bson::DateTime::from_millis(f.now().as_millis() + millis);
    dead.extend(doc! { "_id": id, "began": began, "at": at(600_000), "since": at(0) });
    nodes.insert_one(dead).await.unwrap();
    let another = Fixture::mongodb_in(Arc::clone(f.database.as_ref().unwrap()));
    let store = &another.store.conversations;
    let recovery = another.store.recovery.as_ref().unwrap();
    let unfinished = recovery.unfinished().await.unwrap();
    assert_eq!(unfinished.conversations, [direct_conversation(ana, ben)]);
    let applied = another.apply_all(vec![Command::Refresh(unfinished.conversations[0])]).await;
    assert!(matches!(&*applied.outcomes, [Ok(Outcome::Refreshed)]));
    assert_eq!(applied.untold.iter().map(|untold| untold.message.seq).collect::<Vec<_>>(), [1]);
    recovery.finished(unfinished).await.unwrap();
    assert_eq!(store.delta(ben, None).await.unwrap().conversations.remove(0).last_seq, 1);
    let out = async || {
        let unfinished = recovery.unfinished().await.unwrap();
        assert!(unfinished.conversations.is_empty());
        recovery.finished(unfinished).await.unwrap();
        nodes.find_one(doc! { "_id": id, "out": true }).await.unwrap()
    };
    eventually("the dead node to be out", out).await;
    let listing = another.store.fleet.as_ref().unwrap().listing();
    let is_gone = async || {
        let listed =
            listing.borrow().as_ref().is_some_and(|known| known.others.iter().all(|node| node.id.0 != id.bytes()));
        listed.then_some(())
    };
    eventually("others not to count it", is_gone).await;
    let applied = another.apply_all(vec![Command::Refresh(direct_conversation(ana, ben))]).await;
    assert!(applied.untold.is_empty(), "it is told once");
}

/// Several nodes that start on an empty database at the same moment agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_make_one_schema() {
    let database = Arc::new(Database::new().await);
    let nodes: Vec<_> = (0..4).map(|_| Fixture::mongodb_in(Arc::clone(&database))).collect();
    let ana = nodes[0].member("Ana").await;
    for node in &nodes {
        assert!(node.store.members.by_id(Caller::System, ana).await.unwrap().is_some());
        assert_eq!(node.store.backend.store_id(), nodes[0].store.backend.store_id());
    }
}

/// The name of an index is not what counts, its fields are.
async fn indexes_of(database: &mongodb::Database, collection: &str) -> Vec<(Vec<String>, bool)> {
    let cursor = database.collection::<Document>(collection).list_indexes().await.unwrap();
    let indexes: Vec<_> = cursor.try_collect().await.unwrap();
    indexes
        .into_iter()
        .map(|index| {
            let unique = index.options.and_then(|options| options.unique).unwrap_or(false);
            (index.keys.keys().cloned().collect(), unique)
        })
        .collect()
}

/// What the server asks of a collection: the fields that are compared for equality, then those of a range or an order.
const SHAPES: &[(&str, &[&str], &[&str])] = &[
    ("members", &["_id"], &[]),
    ("members", &["email_key"], &[]),
    ("members", &["name_key"], &["_id"]),
    ("members", &[], &["name_key"]),
    ("members", &["words"], &[]),
    ("members", &["company_words"], &[]),
    ("members", &["position_words"], &[]),
    ("members", &["user_type", "is_active"], &[]),
    ("members", &["tier", "is_active"], &["_id"]),
    ("members", &["is_active"], &["_id"]),
    ("messages", &["conversation_id", "sender_id"], &["seq"]),
    ("audit", &["actor_id"], &[]),
    ("audit", &["target_id"], &[]),
    ("ai_recommendations", &["_id"], &[]),
    ("ai_recommendations", &["user_id"], &[]),
    ("ai_recommendations", &["user_id", "is_decided"], &[]),
    ("ai_recommendations", &["subject_id"], &[]),
    ("ai_budgets", &["_id"], &[]),
    ("audit", &[], &["_id"]),
    ("messages", &["conversation_id"], &["seq"]),
    ("messages", &["conversation_id", "sender_id", "client_id"], &[]),
    ("messages", &[], &["_id"]),
    ("conversations", &["_id"], &[]),
    ("conversations", &["participants.member_id"], &[]),
    ("conversations", &["participants.member_id"], &["changed"]),
    ("receipts", &["conversation_id", "member_id", "kind"], &["seq"]),
    ("receipts", &[], &["_id"]),
    ("sessions", &["_id"], &[]),
    ("sessions", &["member_id"], &[]),
    ("refresh_tokens", &["_id"], &[]),
    ("refresh_tokens", &["session_id"], &[]),
    ("refresh_tokens", &[], &["expires_at"]),
    ("nodes", &["_id"], &[]),
    ("nodes", &[], &["at"]),
    ("push_devices", &["_id"], &[]),
    ("push_devices", &["member_id"], &[]),
    ("push_devices", &["session_id"], &[]),
    ("push_devices", &["hash"], &[]),
    ("push_marks", &["_id"], &[]),
    ("push_tasks", &["_id"], &[]),
    ("push_tasks", &["device"], &[]),
    ("push_tasks", &[], &["due"]),
    ("push_tasks", &[], &["at"]),
    ("push_choices", &["_id"], &[]),
    ("push_places", &["_id"], &[]),
    ("meta", &["_id"], &[]),
    ("migrations", &[], &["_id"]),
];

#[tokio::test]
async fn every_query_has_an_index() {
    let f = Fixture::mongodb().await;
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;
    let database = f.database.as_ref().unwrap().open().await;
    for index in INDEXES {
        let keys: Vec<String> = index.keys.iter().map(|key| (*key).to_owned()).collect();
        let there = indexes_of(&database, index.collection).await;
        assert!(there.contains(&(keys, index.unique)), "{index:?} is not in {there:?}");
    }
    for (collection, equal, range) in SHAPES {
        let wanted: Vec<&str> = equal.iter().chain(*range).copied().collect();
        let there = indexes_of(&database, collection).await;
        let covered = there.iter().any(|(keys, _)| {
            wanted.iter().enumerate().all(|(place, key)| keys.get(place).is_some_and(|have| have == key))
        });
        assert!(covered, "{collection} {wanted:?} has no index in {there:?}");

        let mut filter: Document = equal.iter().map(|key| ((*key).to_owned(), Bson::ObjectId(oid(ana)))).collect();
        filter.extend(range.iter().map(|key| ((*key).to_owned(), Bson::Document(doc! { "$gt": oid(ana) }))));
        let explain = doc! { "explain": { "find": *collection, "filter": filter }, "verbosity": "queryPlanner" };
        let plan = format!("{:?}", database.run_command(explain).await.unwrap().get("queryPlanner"));
        // SecantusDB looks through a whole collection for a range of `_id`; only what follows a crash asks for one.
        assert!(!plan.contains("COLLSCAN") || *range == ["_id"], "{collection} {wanted:?}: {plan}");
    }
}

/// As in the embedded store, whose test is beside its migrations.
#[tokio::test]
async fn who_has_not_verified_the_address_in_an_older_database_is_hidden_and_who_has_signed_in_stays() {
    let f = Fixture::mongodb().await;
    let names = ["Stranger", "Applicant", "Member", "Admin", "Deactivated", "Overtaken"];
    let mut members = Vec::new();
    for name in names {
        members.push(f.member(name).await);
    }
    let database = f.database.as_ref().unwrap().open().await;
    let long_ago = mongodb::bson::DateTime::from_millis(1_000);
    // As the version before left them, and one of this version that came while another node brought the schema up to date.
    let now = mongodb::bson::DateTime::now();
    let former = [
        doc! { "is_active": true },
        doc! { "is_active": false, "is_pending": true },
        doc! { "is_active": true, "last_login": long_ago },
        doc! { "is_active": true, "user_type": "admin" },
        doc! { "is_active": false, "created_at": long_ago },
        doc! { "is_active": false, "created_at": now },
    ];
    for (member, mut former) in members.iter().zip(former) {
        former.insert("must_verify", true);
        let collection = database.collection::<Document>("members");
        collection.update_one(doc! { "_id": oid(*member) }, doc! { "$set": former }).await.unwrap();
    }
    let before = || async {
        let migrations = database.collection::<Document>("migrations");
        let it = migrations.find_one(doc! { "name": "unverified" }).await.unwrap().unwrap();
        let since = doc! { "_id": { "$gte": it.get_i32("_id").unwrap() } };
        assert!(migrations.delete_many(since).await.unwrap().deleted_count > 0);
    };
    before().await;
    let mut f = f.reopened().await;
    // Once more, as after a crash in its midst.
    for _ in 0..2 {
        let mut standings = Vec::new();
        for member in &members {
            let record = f.store.members.by_id(Caller::System, *member).await.unwrap().unwrap();
            standings.push(record.profile.standing(f.now()));
        }
        let (hidden, active) = (Standing::Unverified, Standing::Active);
        assert_eq!(standings, [hidden, hidden, active, active, Standing::Deactivated, hidden]);
        let found = async |word: &str| {
            let found = f.store.members.search(members[3], vec![word.to_owned()], 10).await.unwrap();
            found.len()
        };
        assert_eq!((found("stranger").await, found("member").await), (0, 1));
        before().await;
        f = f.reopened().await;
    }
}

/// Whether the server is a SecantusDB; a real one asks for more (a key file) where this one does not.
fn has_mongod() -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("mongod").exists()))
}

#[tokio::test]
async fn it_signs_in_with_scram_and_never_tells_the_password() {
    let server = database::Server::start(&[]).await;
    let database = server.database();
    let user = doc! { "createUser": "club", "pwd": "hunter2-secret", "roles": [{ "role": "root", "db": "admin" }] };
    database.client().await.database("admin").run_command(user).await.unwrap();
    if !has_mongod() {
        server.restart_with(&["--auth"]).await;
    }
    let at = |user: &str| {
        Database::at(database.uri.replace("mongodb://", &format!("mongodb://{user}@")) + "&authSource=admin")
    };
    let f = Fixture::mongodb_with(Arc::new(at("club:hunter2-secret")), Duration::from_secs(5));
    assert!(f.store.backend.describe().starts_with("MongoDB, 127.0.0.1:"));
    assert!(!f.store.backend.describe().contains("hunter2"));
    let ana = f.member("Ana").await;
    assert!(f.store.members.by_id(Caller::System, ana).await.unwrap().is_some());
    let refused = Fixture::mongodb_with(Arc::new(at("club:another-secret")), Duration::from_secs(3));
    let error = refused.store.backend.check().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)) && !error.to_string().contains("another-secret"), "{error}");
}

#[tokio::test]
async fn it_speaks_tls_and_checks_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let server = database::Server::start(&[]).await;
    if has_mongod() {
        let both = folder.path().join("both.pem");
        std::fs::write(&both, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
        let flags = ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", both.to_str().unwrap()];
        server.restart_with(&flags).await;
    } else {
        server.restart_with(&["--tls-cert-file", certificate, "--tls-key-file", key]).await;
    }
    let uri = format!("mongodb://localhost:{}/tls?directConnection=true&tls=true", server.port());
    let trusting = Database::at(format!("{uri}&tlsCAFile={certificate}"));
    let f = Fixture::mongodb_with(Arc::new(trusting), Duration::from_secs(5));
    eventually("a TLS connection", async || f.store.backend.check().await.ok()).await;
    let ana = f.member("Ana").await;
    assert!(f.store.members.by_id(Caller::System, ana).await.unwrap().is_some());
    // Nobody has vouched for this certificate.
    let doubting = Fixture::mongodb_with(Arc::new(Database::at(uri)), Duration::from_secs(3));
    assert!(doubting.store.backend.check().await.is_err());
}

/// Sends messages of so many senders, `each` one after the other.
async fn pace<F: Future<Output = ()> + Send + 'static>(
    senders: usize,
    each: usize,
    send: impl Fn(usize) -> F + Send + Sync + 'static,
) {
    let send = Arc::new(send);
    let senders = (0..senders).map(|sender| {
        let send = Arc::clone(&send);
        tokio::spawn(async move {
            for _ in 0..each {
                send(sender).await;
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
}

/// A log that counts its batches.
struct Counting {
    log: Arc<dyn ConversationLog>,
    batches: AtomicUsize,
}

#[async_trait]
impl ConversationLog for Counting {
    fn lanes(&self) -> usize {
        self.log.lanes()
    }

    fn horizon(&self) -> StreamPosition {
        self.log.horizon()
    }

    async fn position(&self) -> Result<Position, StoreError> {
        self.log.position().await
    }

    fn accepts(&self, place: StreamPosition) -> bool {
        self.log.accepts(place)
    }

    async fn apply(&self, batch: Vec<Command>) -> Result<Applied, StoreError> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.log.apply(batch).await
    }
}

/// What `docs/mongodb.md` says about batches: gathered commands against one batch for each message. How much that pays is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_many_are_gathered_into_batches() {
    let f = Fixture::mongodb().await;
    let mut members = Vec::new();
    for number in 0..32 {
        members.push(f.member(&format!("M{number}")).await);
    }
    let metrics = Arc::new(members_book::telemetry::Metrics::new());
    let hub = Arc::new(members_book::hub::Hub::new(10, Arc::clone(&metrics)));
    let events = members_book::service::events::Events::new(hub, Uplink::default(), Arc::clone(&metrics));
    let store = Arc::clone(&f.store.log);
    let counting = Arc::new(Counting { log: Arc::clone(&store), batches: AtomicUsize::new(0) });
    let (sequencer, lanes) = Sequencer::start(
        Arc::clone(&counting) as _,
        None,
        (&events, &Arc::default(), &Arc::new(Awaited::new(Uplink::default()))),
        &Arc::new(Intake::new(1, Duration::from_secs(4), false)),
        Duration::from_secs(60),
        &metrics,
        &watched().1,
    );
    let sequencer = Arc::new(sequencer);
    let command = move |sender: usize| {
        let from = members[sender % 32];
        append(from, members[(sender + 1 + sender / 32) % 32], client_id(), &"x".repeat(200))
    };
    let command = Arc::new(command);
    for (senders, each) in [(1, 20), (256, 4)] {
        let (command, sequencer) = (Arc::clone(&command), Arc::clone(&sequencer));
        let before = counting.batches.load(Ordering::Relaxed);
        let send = move |sender| {
            let command = command(sender);
            let (answer, answered) = tokio::sync::oneshot::channel();
            let respond = Box::new(move |appended: Result<Sent, _>| answer.send(appended.is_ok()).unwrap());
            let permit = sequencer.room().take(200).unwrap();
            sequencer.submit(command, Asker::new(None, Responder::Appended(respond), permit));
            async move { assert!(answered.await.unwrap()) }
        };
        pace(senders, each, send).await;
        let (batches, count) = (counting.batches.load(Ordering::Relaxed) - before, senders * each);
        let most = if senders == 256 { count / 2 } else { count };
        assert!(batches <= most, "{count} messages of {senders} in {batches} batches");
    }
    drop(sequencer);
    lanes.finish().await;
}

/// Found by a review: what was sent again came one command each, with longer and longer pauses, and was given up after two hundred.
#[tokio::test]
async fn a_batch_of_what_was_stored_before_is_found_at_once() {
    let f = Fixture::mongodb().await;
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let ids: Vec<_> = (0..300).map(|_| client_id()).collect();
    let batch = |ids: &[ClientMessageId]| ids.iter().map(|id| append(ana, ben, *id, "again")).collect::<Vec<_>>();
    let seqs = |applied: Applied| {
        let seq = |outcome| match outcome {
            Ok(Outcome::Appended(Appended { message, duplicate, .. })) => (message.seq, duplicate),
            other => panic!("{other:?}"),
        };
        applied.outcomes.into_iter().map(seq).collect::<Vec<_>>()
    };
    let first = seqs(f.apply_all(batch(&ids)).await);
    assert_eq!(first, (1..=300).map(|seq| (seq, false)).collect::<Vec<_>>());
    let mut again = ids.clone();
    again.push(client_id());
    let again = seqs(f.apply_all(batch(&again)).await);
    assert_eq!(again, (1..=300).map(|seq| (seq, true)).chain([(301, false)]).collect::<Vec<_>>());
}

/// Found by reading: what strangers ask for was written in the turn of the server itself, which was refused its own calls then.
#[tokio::test]
async fn bursts_of_one_stranger_are_refused_to_them_alone() {
    let f = Fixture::mongodb().await;
    let stranger = |number: u8| Caller::Address([192, 0, 2, number].into());
    let forgot = |number: usize| Mail::ForgotPassword { email: format!("{number}@example.com"), asked: AskedFrom(1) };
    let burst = (0..400).map(|number| f.store.mail.add(stranger(1), forgot(number), f.now()));
    let (burst, other, own) = tokio::join!(
        futures_util::future::join_all(burst),
        f.store.mail.add(stranger(2), forgot(1_000), f.now()),
        f.store.mail.take(Lane::Members, 0, f.now(), f.now().after(Duration::from_secs(60))),
    );
    assert!(burst.contains(&Err(StoreError::Overloaded)), "more than one caller may have");
    assert_eq!(other, Ok(()));
    assert!(own.is_ok(), "{own:?}");
}
