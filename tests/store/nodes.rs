//! Several nodes on one MongoDB: who is there, who was taken for dead, and what the others have stored.

use std::{sync::Arc, time::Duration};

use members_book::{
    position::Position,
    service::messaging::direct_conversation,
    store::{
        StoreError,
        conversations::{Appended, Command, MarkKind, Outcome, Refusal, StoreId},
        fleet::{Missed, SecretId},
        mongo::Nodes,
        turns::Caller,
    },
};
use mongodb::bson::{Document, doc, oid::ObjectId};
use protocol::ErrorCode;

use super::fixture::{Fixture, append};
use crate::harness::{
    client_id,
    database::{Database, Server},
    eventually,
};

fn node(database: &Arc<Database>, nodes: Nodes) -> Fixture {
    Fixture::mongodb_as(Arc::clone(database), Duration::from_secs(20), nodes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_serve_beside_each_other_but_not_beside_who_wants_to_be_alone() {
    let database = Arc::new(Database::new().await);
    let first = node(&database, Nodes::Serving);
    first.store.backend.opened().await.unwrap();
    for nodes in [Nodes::Serving, Nodes::Command] {
        let another = node(&database, nodes);
        another.store.backend.opened().await.unwrap();
        another.member(&format!("{nodes:?}")).await;
        another.store.backend.close().await;
    }
    let alone = node(&database, Nodes::Exclusive);
    let Err(StoreError::Unavailable(why)) = alone.store.backend.opened().await else { panic!() };
    let pid = std::process::id().to_string();
    for part in ["another process uses this database", &pid, "last seen", "needs it for itself"] {
        assert!(why.contains(part), "{part} is not in: {why}");
    }
    assert!(alone.store.members.by_id(Caller::System, first.ids.member()).await.is_err(), "and it reads nothing");
    alone.store.backend.close().await;

    // Who has stopped keeps nobody from being alone, and then nobody else starts.
    first.store.backend.close().await;
    let alone = node(&database, Nodes::Exclusive);
    alone.store.backend.opened().await.unwrap();
    let late = node(&database, Nodes::Serving);
    assert!(late.store.backend.opened().await.is_err());
    late.store.backend.close().await;
    alone.store.backend.close().await;
    let next = node(&database, Nodes::Serving);
    next.store.backend.opened().await.unwrap();
    next.member("Ana").await;
    next.store.backend.close().await;
}

/// A node that others took for dead joins again, and they are told that it was away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_taken_for_dead_joins_again() {
    let database = Arc::new(Database::new().await);
    let (f, another) = (node(&database, Nodes::Serving), node(&database, Nodes::Serving));
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;
    let listings = another.store.fleet.as_ref().unwrap().listing();
    let others = async || listings.borrow().as_ref().and_then(|listing| listing.others.first().cloned());
    let first = eventually("the other one", others).await;
    assert_eq!((first.generation, first.joined_from.0, first.secret), (1, 0, None));
    let secret = SecretId([7; 8]);
    f.store.fleet.as_ref().unwrap().signs_with(secret);
    let said = async || others().await.filter(|other| other.secret == Some(secret));
    eventually("what the other one signs with", said).await;
    let nodes = database.open().await.collection::<Document>("nodes");
    let out = doc! { "$set": { "out": true }, "$unset": { "generation": "" } };
    let own = ObjectId::from_bytes(first.id.0);
    assert_eq!(nodes.update_one(doc! { "_id": own }, out).await.unwrap().modified_count, 1);
    let again = async || others().await.filter(|other| other.generation > 1);
    let again = eventually("its return", again).await;
    assert_eq!((again.id, again.generation), (first.id, 2));
    assert!(again.joined_from.0 > 0, "what it stored since may have been told to nobody");
    f.say(ana, ben, "2").await;
    f.store.backend.close().await;
    eventually("its end", async || others().await.is_none().then_some(())).await;
    another.store.backend.close().await;
}

/// Found by a reviewer: a beat that was under way when a node stopped put it on the list again, and the others found it dead.
#[tokio::test]
async fn a_node_that_stops_does_not_join_again() {
    let server = Server::with_fail_points().await;
    let database = Arc::new(server.database());
    let first = Fixture::mongodb_in(Arc::clone(&database));
    first.store.backend.opened().await.unwrap();
    first.store.backend.close().await;
    let slow = doc! { "failCommands": ["findAndModify"], "blockConnection": true, "blockTimeMS": 1_000 };
    server.fail("alwaysOn", slow).await;
    let f = Fixture::mongodb_in(Arc::clone(&database));
    let reached = async || (f.store.backend.store_id() != StoreId([0; 8])).then_some(());
    eventually("the database", reached).await;
    f.store.backend.close().await;
    // It ends after what came to the server before it.
    let nodes = database.open().await.collection::<Document>("nodes");
    let nobody = nodes.find_one_and_update(doc! { "_id": ObjectId::new() }, doc! { "$set": { "at": 1 } });
    assert_eq!(nobody.await.unwrap(), None);
    assert_eq!(nodes.find_one(doc! {}).await.unwrap(), None);
}

/// Found by a reviewer: cursors lay as far behind as the commands of their own node may take, and skipped what another one with a larger
/// `STORE_TIMEOUT` was still writing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_lie_as_far_behind_as_the_slowest_node_asks_for() {
    let database = Arc::new(Database::new().await);
    let quick = node(&database, Nodes::Serving);
    quick.store.backend.opened().await.unwrap();
    let (fleet, log) = (quick.store.fleet.as_ref().unwrap(), &quick.store.log);
    let behind = || {
        let shows = fleet.reading().unwrap().shows_at(tokio::time::Instant::now());
        shows.as_millis().unsigned_abs() - log.horizon().position.0
    };
    assert!(behind() < 30_000);
    let (timeout, window) = (Duration::from_secs(20), Duration::from_secs(30));
    let slow = Fixture::mongodb_of(Arc::clone(&database), timeout, window, Nodes::Serving);
    slow.store.backend.opened().await.unwrap();
    eventually("cursors that lie behind", async || (behind() >= 30_000).then_some(())).await;
    // What is listed is no further.
    let listings = fleet.listing();
    let listed = async || {
        let listing = listings.borrow().clone().filter(|listing| !listing.others.is_empty());
        listing.filter(|listing| listing.horizon.position <= log.horizon().position)
    };
    eventually("a listing", listed).await;
    // It may have something under way when it has gone.
    slow.store.backend.close().await;
    eventually("its end", async || listings.borrow().as_ref()?.others.is_empty().then_some(())).await;
    assert!(behind() >= 30_000);
    quick.store.backend.close().await;
}

/// What another node has stored is found by its position, with what each member has to know of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_is_found_by_its_position_whoever_did_it() {
    let database = Arc::new(Database::new().await);
    let (f, another) = (node(&database, Nodes::Serving), node(&database, Nodes::Serving));
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;
    let fleet = another.store.fleet.as_ref().unwrap();
    let all = fleet.changes(Position(0)).await.unwrap();
    let [first] = &all[..] else { panic!("{all:?}") };
    assert_eq!(first.last_seq, 1);
    f.say(ben, ana, "2").await;
    f.mark(first.id, ana, MarkKind::Read, 2).await;
    let changed = fleet.changes(first.changed).await.unwrap().remove(0);
    let of = |member| changed.members.iter().find(|each| each.member == member).unwrap();
    assert_eq!((changed.id, changed.last_seq, of(ana).read, of(ben).read), (first.id, 2, 2, 0));
    assert_eq!(fleet.changes(changed.changed).await.unwrap(), []);
    let of = |conversation, after, members| Missed { conversation, after, members };
    let nowhere = direct_conversation(ana, f.ids.member());
    let wanted = vec![of(changed.id, 0, vec![ana, ben]), of(nowhere, 0, vec![ana])];
    let states = fleet.states(wanted, first.changed).await.unwrap();
    let unread: Vec<_> = states.iter().map(|(member, state)| (*member, state.unread.count)).collect();
    assert_eq!(unread, [(ana, 0), (ben, 1)]);
    assert_eq!(states[0].1.entries.last().unwrap().body.content(), "2");
}

/// The ends of many logs are read together, and each is what it is alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_of_many_conversations_is_read_of_each_to_its_end() {
    let database = Arc::new(Database::new().await);
    let (f, another) = (node(&database, Nodes::Serving), node(&database, Nodes::Serving));
    let fleet = another.store.fleet.as_ref().unwrap();
    let ana = f.member("Ana").await;
    let mut missed = Vec::new();
    for number in 0..60_u64 {
        let ben = f.member(&format!("Ben {number}")).await;
        let written: Vec<Command> = (0..=number)
            .map(|own| {
                if own % 3 == 0 { append(ben, ana, client_id(), "his") } else { append(ana, ben, client_id(), "hers") }
            })
            .collect();
        f.apply_all(written).await;
        // Of some it is known how much was delivered; of one all of it was.
        let after = if number % 2 == 0 { number.saturating_sub(number % 5) + u64::from(number == 40) } else { 0 };
        missed.push(Missed { conversation: direct_conversation(ana, ben), after, members: vec![ben, ana] });
    }
    // Twice: what was counted is remembered.
    for _ in 0..2 {
        let states = fleet.states(missed.clone(), Position(0)).await.unwrap();
        assert_eq!(states.len(), 120);
        for (pair, number) in states.chunks(2).zip(0_u64..) {
            let [(_, bens), (member, anas)] = pair else { panic!() };
            let Missed { conversation, after, .. } = &missed[usize::try_from(number).unwrap()];
            assert_eq!((*member, bens.id, anas.id), (ana, *conversation, *conversation));
            let first = after.max(&(number + 1).saturating_sub(50)) + 1;
            let seqs: Vec<u64> = anas.entries.iter().map(|entry| entry.seq).collect();
            assert_eq!(seqs, (first..=number + 1).collect::<Vec<_>>(), "of {number}");
            let his = number / 3 + 1;
            assert_eq!((anas.unread.count, bens.unread.count), (his, number + 1 - his), "of {number}");
        }
    }
}

/// What was counted of what is unread is remembered, and what happens after it is added to that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unread_is_counted_on_from_what_is_remembered() {
    let f = Fixture::mongodb().await;
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let unread =
        async || f.store.conversations.unread(ana).await.unwrap().first().map_or(0, |(_, unread)| unread.count);
    let mut expected = 0;
    for round in 0..30_u64 {
        if round % 4 == 1 {
            f.say(ana, ben, "hers").await;
        } else {
            f.say(ben, ana, "his").await;
            expected += 1;
        }
        if round % 7 == 6 {
            f.mark(direct_conversation(ana, ben), ana, MarkKind::Read, round).await;
            expected = u64::from(round % 4 != 1);
        }
        // By its number only, and with entries at hand.
        assert_eq!(unread().await, expected, "in round {round}");
        let list = f.store.conversations.list(ana, <_>::default(), None, 10).await.unwrap();
        let synced = f.store.conversations.delta(ana, None).await.unwrap();
        assert_eq!((list.conversations[0].unread.count, synced.conversations[0].unread.count), (expected, expected));
    }
}

/// More than fit into one insert.
const STORED: usize = 500;

/// The database refuses messages of a batch for good after it has stored others: those are told, and each sender hears
/// what is true.
#[tokio::test]
async fn a_batch_that_is_refused_half_way_has_an_outcome_for_each_message() {
    let f = Fixture::mongodb().await;
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "first").await;
    let database = f.database.as_ref().unwrap().open().await;
    let validator = doc! { "content": { "$ne": "refused" } };
    database.run_command(doc! { "collMod": "messages", "validator": validator }).await.unwrap();
    let contents = std::iter::repeat_n("stored", STORED).chain(["refused"]);
    let batch: Vec<Command> = contents.map(|content| append(ana, ben, client_id(), content)).collect();
    let mut outcomes = f.apply_all(batch).await.outcomes;
    let Some(Err(Refusal::Failed(why))) = outcomes.pop() else { panic!() };
    assert_eq!(members_book::failure::Failure::from(why).code, ErrorCode::Internal);
    for (seq, outcome) in (2_u64..).zip(&outcomes) {
        let Ok(Outcome::Appended(Appended { message, duplicate: false, .. })) = outcome else { panic!("{outcome:?}") };
        assert_eq!((message.seq, message.body.content()), (seq, "stored"));
    }
    let next = f.say(ben, ana, "next").await.seq;
    assert_eq!(next, outcomes.len() as u64 + 2, "without a hole");
    let changes = f.store.conversations.delta(ben, None).await.unwrap();
    assert_eq!(changes.conversations[0].last_seq, next);
}

/// Found by a reviewer: what a batch had stored that then failed was in nobody's sync, until something else happened in the conversation.
#[tokio::test]
async fn what_a_batch_has_left_half_done_its_own_node_finishes() {
    let server = Server::with_fail_points().await;
    let f = Fixture::mongodb_in(Arc::new(server.database()));
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;
    let place = f.settle().await;
    server.fail(doc! { "times": 1 }, doc! { "failCommands": ["update"], "errorCode": 2 }).await;
    let failed = f.store.log.apply(vec![append(ana, ben, client_id(), "2")]).await;
    assert_eq!(failed.err(), Some(StoreError::Timeout));
    let learns = async || {
        let changes = f.store.conversations.delta(ben, Some(place)).await.unwrap();
        changes.conversations.first().map_or(0, |conversation| conversation.last_seq)
    };
    assert!(learns().await < 2);
    let recovery = f.store.recovery.as_ref().unwrap();
    let left = recovery.unfinished().await.unwrap();
    assert_eq!(left.conversations, [direct_conversation(ana, ben)]);
    let applied = f.apply_all(vec![Command::Refresh(left.conversations[0])]).await;
    assert_eq!(applied.untold.iter().map(|untold| untold.message.seq).collect::<Vec<_>>(), [2]);
    recovery.finished(left).await.unwrap();
    assert_eq!(learns().await, 2);
    assert!(recovery.unfinished().await.unwrap().conversations.is_empty());
}

/// Found by a reviewer: of a node that died, others looked at the last half minute only, and a batch may have waited for longer.
#[tokio::test]
async fn a_node_says_since_when_its_work_may_be_half_done() {
    let server = Server::with_fail_points().await;
    let f = Fixture::mongodb_in(Arc::new(server.database()));
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;
    let nodes = f.database.as_ref().unwrap().open().await.collection::<Document>("nodes");
    let since = async || nodes.find_one(doc! {}).await.unwrap().unwrap().get_datetime("since").ok().copied();
    eventually("a beat without work", async || since().await.is_none().then_some(())).await;
    let hangs = doc! { "failCommands": ["insert"], "blockConnection": true, "blockTimeMS": 60_000 };
    server.fail(doc! { "times": 1 }, hangs).await;
    let (log, message) = (Arc::clone(&f.store.log), append(ana, ben, client_id(), "2"));
    let hanging = tokio::spawn(async move { log.apply(vec![message]).await });
    let said = eventually("a beat during the work", since).await;
    assert_eq!(said.timestamp_millis(), f.now().as_millis());
    hanging.abort();
}
