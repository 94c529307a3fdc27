//! What was not heard of on the bus comes all the same.

use std::{
    sync::{Arc, Once},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use members_book::{
    app::World,
    auth::KeyRing,
    config::Settings,
    position::{Epoch, Position, StreamPosition},
    service::cursor::{Keys, Kind},
};
use mongodb::bson::{Binary, Document, Uuid, doc, oid::ObjectId, spec::BinarySubtype};
use protocol::{
    ClientFrame, CloseCode, Cursor, ErrorCode, MemberId, ServerFrame,
    client::MessageSend,
    model::Entry,
    server::{MemberPush, MessageAccepted, SyncDone},
};
use reqwest::Method;
use serde_json::json;

use crate::harness::{
    Client, Member,
    bus::MemoryBus,
    client::message_to,
    client_id, database, eventually,
    fleet::{Fleet, SECRET},
};

/// The next entry that a client gets, pushed or swept.
pub(super) async fn next_seq(client: &mut Client) -> Vec<u64> {
    loop {
        match client.next_frame().await {
            ServerFrame::EntryPush(push) => return vec![push.entry.seq()],
            ServerFrame::Sync(sync) => {
                let entries = sync.conversations.iter().flat_map(|conversation| &conversation.entries);
                let seqs: Vec<u64> = entries.map(Entry::seq).collect();
                if !seqs.is_empty() {
                    return seqs;
                }
            }
            _ => {}
        }
    }
}

async fn rename(member: &Member, name: &str) {
    let response = member.request(Method::PATCH, "/api/members/me", json!({ "name": name })).await;
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
}

async fn hears_of(client: &mut Client, member: MemberId, name: &str) {
    while client.expect::<MemberPush>().await.member.name != name {}
    let _ = member;
}

/// Found by a review: sweeps read conversations only, and a card that was pushed while the bus was away stayed old for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_profile_reaches_nodes_that_did_not_hear_of_it() {
    let fleet = Fleet::on_a_bus(2, |settings| settings.connections.profile_interval = Duration::ZERO).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let mut anas = fleet.at(&ana, 1).connect().await;
    let mut bens = fleet.at(&ben, 1).connect_as("tablet", None).await;
    anas.say(ben.id, "partners").await;
    let bus = fleet.bus.as_ref().unwrap();
    bus.cut(1);
    rename(&ben, "Benjamin").await;
    hears_of(&mut anas, ben.id, "Benjamin").await;
    hears_of(&mut bens, ben.id, "Benjamin").await;
    bus.mend(1);
    fleet.is_whole().await;
    rename(&ben, "Benedict").await;
    hears_of(&mut anas, ben.id, "Benedict").await;
}

/// Found by a review: a message that was sent again at another node was answered there, and taken for pushed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_sent_again_elsewhere_reaches_those_who_are_connected_there() {
    let fleet = Fleet::without_bus(2).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let mut phones = [ana.connect().await, fleet.at(&ana, 1).connect_as("tablet", None).await];
    let mut bens = fleet.at(&ben, 1).connect().await;
    let mut seen = Vec::new();
    for seq in 1..=8 {
        let ClientFrame::MessageSend(send) = message_to(ben.id, "once") else { unreachable!() };
        for phone in &mut phones {
            let again = MessageSend { ..send.clone() };
            let accepted: MessageAccepted = phone.ask(ClientFrame::MessageSend(again)).await;
            assert_eq!(accepted.message.seq, seq);
        }
        while !seen.contains(&seq) {
            seen.extend(next_seq(&mut bens).await);
        }
    }
}

/// Found from outside: for five seconds another node believed what it remembered of a member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_deactivated_is_written_to_at_no_node() {
    let fleet = Fleet::on_a_bus(2, |_| ()).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let mut anas = fleet.at(&ana, 1).connect().await;
    anas.say(ben.id, "before").await;
    fleet.nodes[0].set_active(ben.id, false).await;
    while anas.expect::<MemberPush>().await.member.is_active {}
    let refused = anas.request(message_to(ben.id, "after")).await;
    let ServerFrame::Error(error) = refused else { panic!("{refused:?}") };
    assert_eq!(error.code, ErrorCode::RecipientDeactivated);
}

/// Found by a reviewer: whoever was connected while a backup was restored kept what is gone, and did not learn what took its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_connected_while_a_backup_is_restored_comes_back_and_syncs() {
    comes_back_after_a_restore(Fleet::on_a_bus(2, |_| ()).await).await;
}

/// The same, with sweeps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_bus_whoever_is_connected_while_a_backup_is_restored_comes_back_and_syncs() {
    comes_back_after_a_restore(Fleet::without_bus(2).await).await;
}

async fn comes_back_after_a_restore(fleet: Fleet) {
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let (mut anas, mut bens) = (fleet.at(&ana, 0).connect().await, fleet.at(&ben, 1).connect().await);
    anas.say(ben.id, "kept").await;
    let database = fleet.database.open().await;
    let (meta, conversations) =
        (database.collection::<Document>("meta"), database.collection::<Document>("conversations"));
    let backup = conversations.find_one(doc! {}).await.unwrap().unwrap();
    anas.say(ben.id, "vanished").await;
    while !next_seq(&mut bens).await.contains(&2) {}

    database.collection::<Document>("messages").delete_many(doc! { "seq": { "$gt": 1 } }).await.unwrap();
    conversations.replace_one(doc! {}, backup).await.unwrap();
    meta.update_one(doc! { "_id": "epochs" }, doc! { "$inc": { "beat": -60_000 } }).await.unwrap();
    for mut client in [anas, bens] {
        assert_eq!(client.close_code().await, Some(CloseCode::GoingAway.number()));
    }
    let (mut anas, mut bens) = (fleet.at(&ana, 0).connect().await, fleet.at(&ben, 1).connect().await);
    anas.say(ben.id, "another").await;
    while !next_seq(&mut bens).await.contains(&2) {}
}

/// Found by a reviewer: for two seconds a node waited for an author whom it does not hear, and then all had to sweep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_finds_in_the_log_of_members_it_does_not_hear_is_pushed_by_it_and_nobody_sweeps() {
    let fleet = Fleet::on_a_bus(2, |_| ()).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    let first = anas.say(ben.id, "1").await;
    assert_eq!(bens.hear().await, first);
    // As if a node had stored the next one and had not told of it yet.
    let messages = fleet.database.open().await.collection::<Document>("messages");
    let mut second = messages.find_one(doc! {}).await.unwrap().unwrap();
    second.extend(doc! { "_id": ObjectId::new(), "seq": 2_i64, "client_id": Uuid::new(), "content": "2" });
    messages.insert_one(second).await.unwrap();
    let body = json!({ "receiver_id": ben.id, "content": "3", "client_id": client_id() });
    let sent = fleet.at(&ana, 1).request(Method::POST, "/api/messages", body).await;
    assert_eq!(sent.status(), 201);
    // Whatever a sweep finds comes in a sync.
    let mut pushed = Vec::new();
    while pushed.len() < 2 {
        match bens.next_frame().await {
            ServerFrame::EntryPush(push) => pushed.push(push.entry.seq()),
            ServerFrame::Sync(sync) => panic!("{sync:?}"),
            _ => {}
        }
    }
    pushed.sort_unstable();
    assert_eq!(pushed, [2, 3]);
    assert_eq!(fleet.nodes[0].metric("fleet_in_doubt").await, 0.0);
}

/// The epoch that a cursor names.
fn epoch_of(cursor: &Cursor) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(cursor.as_str()).unwrap()[2..10].to_vec()
}

/// Found by a reviewer: whoever was in the middle of a sync when an epoch began in which places of before are good was given cursors of
/// nowhere from then on, and had to sync in full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_syncs_while_an_epoch_begins_that_carries_places_over_is_carried_over_too() {
    let server = database::Server::with_fail_points().await;
    let database = Arc::new(server.database());
    let mut fleet = Fleet { nodes: Vec::new(), database, bus: None };
    fleet.join(|settings| settings.store.store_timeout = Duration::from_secs(20)).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let mut anas = ana.connect().await;
    anas.say(ben.id, "1").await;
    let before = eventually("a cursor", async || {
        let epoch = epoch_of(&anas.ping().await.cursor);
        epoch.iter().any(|byte| *byte != 0).then_some(epoch)
    })
    .await;
    // What is unread is counted in this way, and nothing else is.
    let slow = doc! { "failCommands": ["aggregate"], "blockConnection": true, "blockTimeMS": 5_000 };
    server.fail("alwaysOn", slow).await;
    let mut bens = Client::open(fleet.nodes[0].addr()).await;
    bens.say_hello(&ben.auth.access_token, "phone", None).await;
    let is_signed_in = async || (fleet.nodes[0].metric("members_connected").await == 2.0).then_some(());
    eventually("the sync", is_signed_in).await;
    // Another node begins an epoch, in which everything of before is good.
    let meta = fleet.database.open().await.collection::<Document>("meta");
    let record = meta.find_one(doc! { "_id": "epochs" }).await.unwrap().unwrap();
    let former = doc! { "epoch": record.get("epoch").unwrap(), "end": record.get("beat").unwrap() };
    let new = Binary { subtype: BinarySubtype::Generic, bytes: vec![7; 8] };
    let begin = doc! { "$set": { "epoch": new, "former": [former] } };
    meta.update_one(doc! { "_id": "epochs" }, begin).await.unwrap();
    let is_new = |cursor: &Cursor| (epoch_of(cursor) == [7; 8]).then_some(());
    eventually("the epoch", async || is_new(&anas.ping().await.cursor)).await;
    let done = bens.expect::<SyncDone>().await;
    assert_eq!(epoch_of(&done.cursor), before, "it was read before");
    eventually("a cursor of the epoch", async || is_new(&bens.ping().await.cursor)).await;
}

/// Found by reading: a client that came from a node that had begun an epoch to one that did not know of it yet had to drop all that it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_of_an_epoch_that_another_node_has_begun_just_now_resets_nobody() {
    let fleet = Fleet::without_bus(1).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    ana.connect().await.say(ben.id, "1").await;
    let meta = fleet.database.open().await.collection::<Document>("meta");
    let keys = Keys::new(&KeyRing::new(SECRET.into(), Vec::new()));
    for epoch in 1..=3 {
        let record = meta.find_one(doc! { "_id": "epochs" }).await.unwrap().unwrap();
        let beat = record.get_i64("beat").unwrap();
        let position = Position(u64::try_from(beat).unwrap());
        let cursor = keys.encode(ben.id, Kind::Sync, StreamPosition { epoch: Epoch([epoch; 8]), position });
        let former = doc! { "epoch": record.get("epoch").unwrap(), "end": beat };
        let new = Binary { subtype: BinarySubtype::Generic, bytes: vec![epoch; 8] };
        let begin = doc! { "$set": { "epoch": new, "former": [former] } };
        meta.update_one(doc! { "_id": "epochs" }, begin).await.unwrap();
        let client = ben.connect_as("phone", Some(cursor)).await;
        let done = client.sync_done.as_ref().unwrap();
        assert!(!done.reset && !done.full, "{done:?}");
    }
}

/// Found by a look at faults: the cursor was judged before the node knew its database, and the client had to drop all that it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_while_the_database_is_away_resets_nobody() {
    let server = database::Server::with_fail_points().await;
    let database = Arc::new(server.database());
    let mut fleet = Fleet { nodes: Vec::new(), database, bus: Some(MemoryBus::default()) };
    let settings = |settings: &mut Settings| {
        settings.store.store_timeout = Duration::from_secs(3);
        settings.rates.rate_hellos = 1_000;
        settings.rates.rate_hellos_burst = 1_000;
        settings.rates.rate_hellos_member = 1_000;
        settings.rates.rate_hellos_member_burst = 1_000;
        settings.rates.rate_hellos_address = 1_000;
        settings.rates.rate_hellos_address_burst = 1_000;
    };
    let server_is_back = Once::new();
    fleet.join(settings).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let mut anas = fleet.at(&ana, 0).connect().await;
    anas.say(ben.id, "1").await;
    let cursor =
        eventually("a cursor", async || Some(anas.ping().await.cursor).filter(|cursor| *cursor != anas.cursor())).await;
    server.kill();
    fleet.begin(World::default(), settings).await;
    // It waits for what it needs to know, or is told to come back; the first one is judged before anything is known.
    let done = {
        let late = async || {
            let mut late = Client::open(fleet.nodes[1].addr()).await;
            late.say_hello(&ana.auth.access_token, "tablet", Some(cursor.clone())).await;
            server_is_back.call_once(|| server.launch());
            loop {
                match late.next_frame().await {
                    ServerFrame::SyncDone(done) => return Some(done),
                    ServerFrame::Error(error) => {
                        assert!(matches!(error.code, ErrorCode::Unavailable | ErrorCode::Timeout), "{error:?}");
                        return None;
                    }
                    _ => {}
                }
            }
        };
        eventually("the sync", late).await
    };
    assert!(!done.full && !done.reset, "{done:?}");
}
