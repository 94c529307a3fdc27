//! Several nodes on one MongoDB: only who has been told to expect others starts beside one that is alive.

use std::{sync::Arc, time::Duration};

use members_book::store::{
    StoreError,
    conversations::{Appended, Command, Outcome, Refusal},
    mongo::Nodes,
    turns::Caller,
};
use mongodb::bson::{Document, doc, oid::ObjectId};
use protocol::ErrorCode;

use super::fixture::{Fixture, append};
use crate::harness::{client_id, database::Database, eventually};

fn node(database: &Arc<Database>, nodes: Nodes) -> Fixture {
    Fixture::mongodb_as(Arc::clone(database), Duration::from_secs(20), nodes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_refuses_to_start_beside_one_that_is_alive() {
    let database = Arc::new(Database::new().await);
    let first = node(&database, Nodes::Alone);
    first.store.backend.opened().await.unwrap();
    let second = node(&database, Nodes::Alone);
    let Err(StoreError::Unavailable(why)) = second.store.backend.opened().await else { panic!() };
    let pid = std::process::id().to_string();
    for part in ["another server uses this database", &pid, "last seen", "ALLOW_SEVERAL_NODES=experimental"] {
        assert!(why.contains(part), "{part} is not in: {why}");
    }
    assert!(second.store.members.by_id(Caller::System, first.ids.member()).await.is_err(), "and it serves nobody");
    second.store.backend.close().await;

    // Who expects others starts, and so does a command.
    for nodes in [Nodes::Several, Nodes::Command] {
        let another = node(&database, nodes);
        another.store.backend.opened().await.unwrap();
        another.member(&format!("{nodes:?}")).await;
        another.store.backend.close().await;
    }
    // Who has stopped keeps nobody from starting.
    first.store.backend.close().await;
    let next = node(&database, Nodes::Alone);
    next.store.backend.opened().await.unwrap();
    next.member("Ana").await;
    next.store.backend.close().await;
}

/// The beat that finds another one in its place moves no cursor, and nothing is read or written after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_place_was_taken_moves_no_cursor_and_serves_nobody() {
    let database = Arc::new(Database::new().await);
    let f = node(&database, Nodes::Alone);
    f.store.backend.opened().await.unwrap();
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;
    let meta = database.open().await.collection::<Document>("meta");
    let taken = doc! { "$set": { "holder": ObjectId::new() } };
    assert_eq!(meta.update_one(doc! { "_id": "epochs" }, taken).await.unwrap().modified_count, 1);
    let before = f.store.log.horizon();
    assert!(f.store.log.position().await.is_err(), "it asks at once");
    let refused = async || f.store.members.by_id(Caller::System, ana).await.err();
    let StoreError::Unavailable(why) = eventually("the end", refused).await else { panic!() };
    assert!(why.contains("has taken the place of this one"), "{why}");
    assert!(f.store.log.apply(vec![append(ana, ben, client_id(), "2")]).await.is_err());
    // One beat may have come back just before.
    let moved = f.store.log.horizon().position.0 - before.position.0;
    assert!(moved < 1_500, "{moved}");
    f.store.backend.close().await;
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
