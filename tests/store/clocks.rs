//! A clock of the database that steps, and a store that was restored from a backup: no cursor skips anything.

use std::{sync::Arc, time::Duration};

use mongodb::bson::{Document, doc};
use protocol::MemberId;

use super::fixture::{Fixture, append};
use crate::harness::{
    client_id,
    database::{Database, Server},
    eventually,
};
use members_book::{
    position::{Epoch, Position, StreamPosition},
    store::{
        StoreError,
        conversations::{Command, Mark, MarkKind},
        mongo::Nodes,
    },
};

/// Everything up to here is known, as a client knows it that has a cursor.
async fn place(f: &Fixture) -> StreamPosition {
    f.settle().await;
    f.store.log.horizon()
}

/// The newest entry that a client learns of from there: it syncs from its cursor, or from nothing if that is not good.
async fn learns(f: &Fixture, member: MemberId, from: StreamPosition) -> u64 {
    let store = &f.store.conversations;
    let since = f.store.log.accepts(from).then_some(from.position);
    let changes = store.delta(member, since).await.unwrap();
    changes.conversations.first().map_or(0, |conversation| conversation.last_seq)
}

#[tokio::test]
async fn a_clock_that_goes_back_makes_no_cursor_skip() {
    let Some(server) = Server::with_a_clock().await else { return };
    let f = Fixture::mongodb_in(Arc::new(server.database()));
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;
    let before = place(&f).await;
    server.step(-30_000);
    f.say(ana, ben, "2").await;
    let after = place(&f).await;
    assert_ne!(before.epoch, after.epoch);
    assert_eq!(learns(&f, ben, before).await, 2, "a cursor of before the step");
    f.say(ana, ben, "3").await;
    assert_eq!(learns(&f, ben, after).await, 3, "a cursor of after the step");
    assert!(f.store.log.accepts(after), "which is good");
    let long_ago = StreamPosition { position: Position(before.position.0 - 120_000), ..before };
    assert!(f.store.log.accepts(long_ago), "the step is behind nothing of two minutes ago");
}

#[tokio::test]
async fn a_clock_that_is_ahead_for_a_while_makes_no_cursor_skip() {
    let Some(server) = Server::with_a_clock().await else { return };
    let f = Fixture::mongodb_in(Arc::new(server.database()));
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;
    let before = place(&f).await;
    server.step(12_000);
    f.say(ana, ben, "2").await;
    let ahead = place(&f).await;
    server.step(0);
    f.say(ana, ben, "3").await;
    let after = place(&f).await;
    f.say(ana, ben, "4").await;
    assert_eq!((before.epoch, ahead.epoch), (after.epoch, after.epoch), "it was not followed, and is not held against");
    for cursor in [before, ahead, after] {
        assert_eq!(learns(&f, ben, cursor).await, 4);
    }
}

/// Found by a reviewer: a node that started meanwhile took it for a pause and began an epoch, in which all others followed the clock; when it
/// came back everybody had to sync in full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_while_the_clock_is_ahead_begins_no_epoch() {
    for ahead in [8_000, 60_000] {
        let Some(server) = Server::with_a_clock().await else { return };
        let database = Arc::new(server.database());
        // As far as in production, less the time of commands: a clock may be ahead by a second at the first beat.
        let [timeout, window] = [20, 4].map(Duration::from_secs);
        let node = || Fixture::mongodb_of(Arc::clone(&database), timeout, window, Nodes::Serving);
        let f = node();
        let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
        f.say(ana, ben, "1").await;
        let before = place(&f).await;
        server.step(ahead);
        let another = node();
        eventually("the other node", async || another.store.log.position().await.ok()).await;
        another.say(ana, ben, "2").await;
        let places = [place(&f).await, place(&another).await];
        server.step(0);
        for node in [&f, &another] {
            node.say(ana, ben, "more").await;
            assert_eq!(place(node).await.epoch, before.epoch, "{ahead}");
        }
        for node in [&f, &another] {
            for cursor in [before, places[0], places[1]] {
                assert!(node.store.log.accepts(cursor), "{ahead}");
                assert_eq!(learns(node, ben, cursor).await, 4);
            }
        }
    }
}

/// The store is stopped, put back to an earlier state, and goes on from there to where it had been, and beyond.
#[tokio::test]
async fn a_cursor_from_before_a_restored_backup_is_recognised() {
    let f = Fixture::sqlite();
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;
    let in_the_backup = f.store.log.horizon();
    f.store.backend.close().await;
    let folder = Arc::clone(&f.folder);
    let (file, backup) = (folder.path().join("store.db"), folder.path().join("backup.db"));
    std::fs::copy(&file, &backup).unwrap();
    drop(f);

    let f = Fixture::sqlite_in(Arc::clone(&folder)).unwrap();
    for content in ["vanished 2", "vanished 3"] {
        f.say(ana, ben, content).await;
    }
    let lost = f.store.log.horizon();
    f.store.backend.close().await;
    drop(f);
    std::fs::copy(&backup, &file).unwrap();

    let f = Fixture::sqlite_in(folder).unwrap();
    assert!(!f.store.log.accepts(lost));
    for content in ["2", "3", "4"] {
        f.say(ana, ben, content).await;
    }
    let horizon = f.store.log.horizon();
    assert!(lost.position < horizon.position, "the position is one of this store again");
    assert!(!f.store.log.accepts(lost), "and the cursor is not");
    assert!(f.store.log.accepts(in_the_backup) && f.store.log.accepts(horizon));
}

/// An operator restores a backup while a node serves, which remembers how far each log was.
#[tokio::test]
async fn a_database_restored_under_a_running_node_gets_no_hole() {
    let f = Fixture::mongodb().await;
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;
    f.settle().await;
    let database = f.database.as_ref().unwrap().open().await;
    let (meta, conversations) =
        (database.collection::<Document>("meta"), database.collection::<Document>("conversations"));
    let backup = conversations.find_one(doc! {}).await.unwrap().unwrap();
    let beat = meta.find_one(doc! { "_id": "epochs" }).await.unwrap().unwrap().get_i64("beat").unwrap();
    for content in ["vanished 2", "vanished 3"] {
        assert!(f.say(ana, ben, content).await.seq > 1);
    }
    let before = place(&f).await;

    database.collection::<Document>("messages").delete_many(doc! { "seq": { "$gt": 1 } }).await.unwrap();
    conversations.replace_one(doc! {}, backup).await.unwrap();
    meta.update_one(doc! { "_id": "epochs" }, doc! { "$set": { "beat": beat - 60_000 } }).await.unwrap();
    let after = place(&f).await;
    assert_ne!(before.epoch, after.epoch);
    assert_eq!(f.say(ana, ben, "2").await.seq, 2);
}

/// Found by a reviewer: a beat that failed in the middle had overwritten what told of the restored backup.
#[tokio::test]
async fn a_restored_backup_is_recognised_though_a_beat_fails_in_the_middle() {
    let server = Server::with_fail_points().await;
    let f = Fixture::mongodb_in(Arc::new(server.database()));
    let meta = f.database.as_ref().unwrap().open().await.collection::<Document>("meta");
    let lost_answer =
        doc! { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out" };
    for fault in [doc! { "errorCode": 1 }, doc! { "writeConcernError": lost_answer }] {
        for skip in 0..5 {
            let before = place(&f).await;
            let mut data = doc! { "failCommands": ["findAndModify"] };
            data.extend(fault.clone());
            server.fail(doc! { "skip": skip, "times": 1 }, data).await;
            meta.update_one(doc! { "_id": "epochs" }, doc! { "$inc": { "beat": -5_000 } }).await.unwrap();
            eventually("another epoch", async || {
                let _ = f.store.log.position().await;
                (f.store.log.horizon().epoch != before.epoch).then_some(())
            })
            .await;
            server.fail("off", doc! {}).await;
            assert!(!f.store.log.accepts(before), "{fault} {skip}");
            eventually("the database", async || f.store.log.position().await.ok()).await;
        }
    }
}

/// Found by a reviewer: two seconds were forgiven, although what a majority has recorded never becomes less.
#[tokio::test]
async fn a_backup_of_a_moment_ago_is_recognised() {
    let f = Fixture::mongodb().await;
    let before = place(&f).await;
    let meta = f.database.as_ref().unwrap().open().await.collection::<Document>("meta");
    // A beat records what the clock shows, which is a second after the one before.
    let restored = meta.update_one(doc! { "_id": "epochs" }, doc! { "$inc": { "beat": -1_500 } }).await.unwrap();
    assert_eq!(restored.modified_count, 1);
    eventually("another epoch", async || {
        let _ = f.store.log.position().await;
        (f.store.log.horizon().epoch != before.epoch).then_some(())
    })
    .await;
    assert!(!f.store.log.accepts(before));
}

/// Found by a reviewer: an epoch of before was taken for one that another node had begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_an_earlier_epoch_is_recognised_by_all_nodes() {
    let database = Arc::new(Database::new().await);
    let nodes = [(); 2].map(|()| Fixture::mongodb_in(Arc::clone(&database)));
    let meta = database.open().await.collection::<Document>("meta");
    let epochs = doc! { "_id": "epochs" };
    let epoch = |node: usize| nodes[node].store.log.horizon().epoch;
    let another = async |than: Epoch| {
        eventually("another epoch", async || {
            let (one, other) = (epoch(0), epoch(1));
            (one == other && one != than).then_some(one)
        })
        .await
    };
    let first = another(Epoch::NONE).await;
    let backup = meta.find_one(epochs.clone()).await.unwrap().unwrap();
    meta.update_one(epochs.clone(), doc! { "$inc": { "beat": -60_000 } }).await.unwrap();
    let second = another(first).await;
    let lost = nodes[0].store.log.horizon();
    meta.replace_one(epochs, backup).await.unwrap();
    let third = another(second).await;
    assert_ne!(third, first, "it has gone on from a backup");
    for node in &nodes {
        assert!(!node.store.log.accepts(lost));
        node.store.backend.close().await;
    }
}

/// Found by a reviewer: a batch that waited in its last step wrote what it knew into a conversation that had gone back.
#[tokio::test]
async fn a_batch_that_waits_while_a_backup_is_restored_leaves_no_hole() {
    let server = Server::with_fail_points().await;
    let f = Fixture::mongodb_in(Arc::new(server.database()));
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;
    let before = place(&f).await;
    let database = f.database.as_ref().unwrap().open().await;
    let (meta, messages) = (database.collection::<Document>("meta"), database.collection::<Document>("messages"));
    server.fail("alwaysOn", doc! { "failCommands": ["update"], "errorCode": 91 }).await;
    let (log, message) = (Arc::clone(&f.store.log), append(ana, ben, client_id(), "vanished"));
    let waiting = tokio::spawn(async move { log.apply(vec![message]).await });
    let stored = async || messages.find_one_and_delete(doc! { "seq": 2 }).await.unwrap();
    eventually("the message", stored).await;
    meta.find_one_and_update(doc! { "_id": "epochs" }, doc! { "$inc": { "beat": -60_000 } }).await.unwrap();
    eventually("another epoch", async || (f.store.log.horizon().epoch != before.epoch).then_some(())).await;
    server.fail("off", doc! {}).await;
    assert_eq!(waiting.await.unwrap().err(), Some(StoreError::Timeout));
    assert_eq!(f.say(ana, ben, "2").await.seq, 2);
}

/// Found by a reviewer: what was finished in a state of the database that is gone was taken for finished.
#[tokio::test]
async fn what_was_finished_before_a_backup_is_restored_is_looked_for_again() {
    let server = Server::with_fail_points().await;
    let f = Fixture::mongodb_in(Arc::new(server.database()));
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "1").await;
    let recovery = f.store.recovery.as_ref().unwrap();
    let first = recovery.unfinished().await.unwrap();
    recovery.finished(first).await.unwrap();
    server.fail(doc! { "times": 1 }, doc! { "failCommands": ["update"], "errorCode": 2 }).await;
    let failed = f.store.log.apply(vec![append(ana, ben, client_id(), "2")]).await;
    assert_eq!(failed.err(), Some(StoreError::Timeout));
    let before = place(&f).await;
    let left = recovery.unfinished().await.unwrap();
    assert_eq!(left.conversations.len(), 1);
    let meta = f.database.as_ref().unwrap().open().await.collection::<Document>("meta");
    meta.update_one(doc! { "_id": "epochs" }, doc! { "$inc": { "beat": -60_000 } }).await.unwrap();
    eventually("another epoch", async || (f.store.log.horizon().epoch != before.epoch).then_some(())).await;
    assert!(recovery.finished(left).await.is_err());
    let again = recovery.unfinished().await.unwrap();
    assert_eq!(again.conversations.len(), 1);
    recovery.finished(again).await.unwrap();
}

/// Found by a reviewer: statuses were corrected by what had been read before a backup was restored.
#[tokio::test]
async fn statuses_are_not_corrected_by_what_a_restored_backup_has_taken_back() {
    let server = Server::with_fail_points().await;
    let f = Fixture::mongodb_in(Arc::new(server.database()));
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let conversation = f.say(ana, ben, "1").await.conversation;
    let recovery = Arc::clone(f.store.recovery.as_ref().unwrap());
    let first = recovery.unfinished().await.unwrap();
    recovery.finished(first).await.unwrap();
    server.fail(doc! { "skip": 1, "times": 1 }, doc! { "failCommands": ["update"], "errorCode": 2 }).await;
    let mark = Mark { conversation, member: ben, kind: MarkKind::Read, seq: 1 };
    let failed = f.store.log.apply(vec![Command::Mark(mark)]).await;
    assert_eq!(failed.err(), Some(StoreError::Timeout));
    let database = f.database.as_ref().unwrap().open().await;
    let (meta, messages) = (database.collection::<Document>("meta"), database.collection::<Document>("messages"));
    messages
        .update_one(doc! {}, doc! { "$set": { "status": "sent", "read_at": null, "delivered_at": null } })
        .await
        .unwrap();
    let before = place(&f).await;
    // Each read takes so long that the epoch begins before the first write.
    let slow = doc! { "failCommands": ["find"], "blockConnection": true, "blockTimeMS": 1_500 };
    server.fail("alwaysOn", slow).await;
    let correcting = tokio::spawn(async move { recovery.unfinished().await });
    meta.update_one(doc! { "_id": "epochs" }, doc! { "$inc": { "beat": -60_000 } }).await.unwrap();
    assert!(correcting.await.unwrap().is_err());
    server.fail("off", doc! {}).await;
    assert_ne!(f.store.log.horizon().epoch, before.epoch);
    assert_eq!(messages.find_one(doc! {}).await.unwrap().unwrap().get_str("status").unwrap(), "sent");
}

/// Nobody syncs in full because of a restart.
#[tokio::test]
async fn a_restart_keeps_cursors() {
    for f in [Fixture::sqlite(), Fixture::mongodb().await] {
        let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
        f.say(ana, ben, "1").await;
        let cursor = place(&f).await;
        let f = f.reopened().await;
        f.store.backend.opened().await.unwrap();
        assert!(f.store.log.accepts(cursor));
        f.say(ana, ben, "2").await;
        assert_eq!(learns(&f, ben, cursor).await, 2);
    }
}
