//! Presence across nodes, on a bus that the test governs.

use std::time::Duration;

use members_book::cluster::Channel;
use protocol::{
    ClientFrame, ServerFrame, Timestamp,
    client::{PresenceSet, PresenceUnwatch},
    model::{DeviceStatus, Presence, PresenceStatus},
    server::{MemberPush, Okay, PresencePush},
};

use crate::harness::{Client, Member, eventually, fleet::Fleet, within};

async fn set(client: &mut Client, status: DeviceStatus) {
    let _: Okay = client.ask(ClientFrame::PresenceSet(PresenceSet { status })).await;
}

/// Watches one member, and waits until they are shown so.
async fn sees(client: &mut Client, member: &Member, status: PresenceStatus) -> Option<Timestamp> {
    let Presence { status: shown, last_seen, .. } = client.watch(&[member.id]).await[0];
    if shown == status { last_seen } else { turns(client, status).await }
}

/// The next change that is told, which has to be to this.
async fn turns(client: &mut Client, status: PresenceStatus) -> Option<Timestamp> {
    let push: PresencePush = client.expect().await;
    assert_eq!(push.status, status);
    push.last_seen
}

/// Ana at node 0 and Ben, who lets everybody see him, and who is not connected.
async fn ana_and_ben(fleet: &Fleet) -> (Member, Member) {
    let (ana, ben) = fleet.nodes[0].two_members().await;
    ben.show_presence_to("members").await;
    (ana, ben)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_a_member_of_another_node_come_and_go() {
    let fleet = Fleet::on_a_bus(2, |_| ()).await;
    let (ana, ben) = ana_and_ben(&fleet).await;
    let mut bens = fleet.at(&ben, 1).connect().await;
    let mut anas = ana.connect().await;
    // He was there before she asked.
    sees(&mut anas, &ben, PresenceStatus::Online).await;
    set(&mut bens, DeviceStatus::Away).await;
    turns(&mut anas, PresenceStatus::Away).await;
    // Another device, at the node of the watcher.
    let tablet = ben.connect_as("tablet", None).await;
    // Who has asked just now may be told the same twice: with the change, and as what differs from the answer.
    let online = async {
        loop {
            match anas.expect::<PresencePush>().await.status {
                PresenceStatus::Online => return,
                again => assert_eq!(again, PresenceStatus::Away),
            }
        }
    };
    online.await;
    drop(tablet);
    turns(&mut anas, PresenceStatus::Away).await;
    drop(bens);
    let last_seen = turns(&mut anas, PresenceStatus::Offline).await;
    assert!(last_seen.is_some());
    let mut other = fleet.at(&ana, 1).connect_as("other", None).await;
    assert_eq!(sees(&mut other, &ben, PresenceStatus::Offline).await, last_seen);
    // Nobody watches: the node hears of him no more.
    let bus = fleet.bus.as_ref().unwrap();
    assert!(bus.hears(0, Channel::Watchers(ben.id)));
    let _: Okay = anas.ask(ClientFrame::PresenceUnwatch(PresenceUnwatch { members: vec![ben.id] })).await;
    let quiet = async || (!bus.hears(0, Channel::Watchers(ben.id))).then_some(());
    eventually("the channel to be given up", quiet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_from_one_node_to_another_does_not_flicker() {
    let fleet = Fleet::on_a_bus(3, |settings| settings.connections.presence_grace = Duration::from_millis(500)).await;
    let (ana, ben) = ana_and_ben(&fleet).await;
    // A watcher at the old node, at the new one, and at a third.
    let mut watchers = Vec::new();
    let mut bens = fleet.at(&ben, 0).connect().await;
    for node in 0..3 {
        let mut watcher = fleet.at(&ana, node).connect_as(&format!("at-{node}"), None).await;
        sees(&mut watcher, &ben, PresenceStatus::Online).await;
        watchers.push(watcher);
    }
    for node in [1, 2, 0, 1] {
        drop(bens);
        bens = fleet.at(&ben, node).connect().await;
        // Longer than the grace period of the node that was left.
        let eva = fleet.nodes[0].member("Eva").await;
        eva.show_presence_to("members").await;
        let gone = fleet.at(&eva, node).connect().await;
        sees(&mut watchers[0], &eva, PresenceStatus::Online).await;
        drop(gone);
        // Nothing of him before this, at any of them.
        let push: PresencePush = watchers[0].expect().await;
        assert_eq!((push.member, push.status), (eva.id, PresenceStatus::Offline));
    }
    set(&mut bens, DeviceStatus::Away).await;
    for watcher in &mut watchers {
        turns(watcher, PresenceStatus::Away).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_lets_others_see_holds_on_every_node_and_so_does_their_profile() {
    let fleet = Fleet::on_a_bus(2, |_| ()).await;
    let (ana, ben) = ana_and_ben(&fleet).await;
    let ben = fleet.at(&ben, 1);
    let mut bens = ben.connect().await;
    let mut anas = ana.connect().await;
    sees(&mut anas, &ben, PresenceStatus::Online).await;
    // Those who watch are told of the profile, on each node, and the member's own devices once.
    let mut tablet = fleet.at(&ben, 0).connect_as("tablet", None).await;
    tablet.watch(&[ben.id]).await;
    let rename = serde_json::json!({ "name": "Benjamin" });
    assert_eq!(ben.request(reqwest::Method::PATCH, "/api/members/me", rename).await.status(), 200);
    assert_eq!(anas.expect::<MemberPush>().await.member.name, "Benjamin");
    assert_eq!(tablet.expect::<MemberPush>().await.member.name, "Benjamin");
    ben.show_presence_to("partners").await;
    assert_eq!(turns(&mut anas, PresenceStatus::Offline).await, None, "as one who was never there");
    // Partners from the first message on.
    bens.say(ana.id, "hello").await;
    turns(&mut anas, PresenceStatus::Online).await;
    let again = serde_json::json!({ "name": "Benedict" });
    assert_eq!(ben.request(reqwest::Method::PATCH, "/api/members/me", again).await.status(), 200);
    let told = async |client: &mut Client| {
        let newest = loop {
            let MemberPush { member } = client.expect().await;
            if member.name == "Benedict" {
                break member.updated_at;
            }
        };
        // The pong comes behind everything else. What comes again, if something was in doubt, is older.
        client.ping().await;
        let after = client.drain();
        let is_other = |frame: &ServerFrame| match frame {
            ServerFrame::MemberPush(push) if push.member.id == ben.id && push.member.name != "Benedict" => {
                push.member.updated_at >= newest
            }
            _ => false,
        };
        after.iter().any(|envelope| is_other(&envelope.frame))
    };
    assert_eq!((told(&mut anas).await, told(&mut bens).await), (false, false), "the newest has the latest time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_bus_lost_is_asked_again() {
    let fleet = Fleet::on_a_bus(2, |settings| settings.connections.presence_grace = Duration::from_millis(100)).await;
    let bus = fleet.bus.as_ref().unwrap();
    let (ana, ben) = ana_and_ben(&fleet).await;
    let mut anas = ana.connect().await;
    let bens = fleet.at(&ben, 1).connect().await;
    sees(&mut anas, &ben, PresenceStatus::Online).await;
    // He leaves, and she does not hear of it; and he closes his door to her.
    bus.hold(0);
    drop(bens);
    let seen = async || {
        let mut watcher = fleet.at(&ana, 1).connect_as("probe", None).await;
        (watcher.watch(&[ben.id]).await[0].status == PresenceStatus::Offline).then_some(())
    };
    eventually("him to be gone", seen).await;
    bus.lose(0);
    bus.release(0);
    // The node that had him was asked, and then the store, when he was seen last.
    while turns(&mut anas, PresenceStatus::Offline).await.is_none() {}
    fleet.is_whole().await;
    let bens = fleet.at(&ben, 1).connect().await;
    turns(&mut anas, PresenceStatus::Online).await;
    bus.hold(0);
    fleet.at(&ben, 1).show_presence_to("nobody").await;
    bus.lose(0);
    bus.release(0);
    assert_eq!(turns(&mut anas, PresenceStatus::Offline).await, None, "the store was asked");
    drop(bens);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_on_a_node_that_stops_has_time_to_come_back_elsewhere() {
    let grace = Duration::from_secs(2);
    let mut fleet = Fleet::on_a_bus(2, |settings| settings.connections.presence_grace = grace).await;
    let (ana, ben) = ana_and_ben(&fleet).await;
    let eva = fleet.nodes[0].member("Eva").await;
    eva.show_presence_to("members").await;
    let mut anas = ana.connect().await;
    let (at_ben, at_eva) = (fleet.at(&ben, 1), fleet.at(&eva, 1));
    let (bens, evas) = (at_ben.connect().await, at_eva.connect().await);
    sees(&mut anas, &eva, PresenceStatus::Online).await;
    sees(&mut anas, &ben, PresenceStatus::Online).await;
    fleet.nodes.pop().unwrap().stop().await;
    let _back = ben.connect().await;
    let gone: PresencePush = within("the grace period", anas.expect()).await;
    assert_eq!((gone.member, gone.status), (eva.id, PresenceStatus::Offline), "he came back, and she did not");
    assert!(gone.last_seen.is_some());
    drop((bens, evas));
}

/// Found by a review: a node heard no questions about a member any more once their last device had gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_gone_just_now_is_shown_as_on_their_node_until_the_grace_period_is_over() {
    let fleet = Fleet::on_a_bus(2, |settings| settings.connections.presence_grace = Duration::from_secs(3)).await;
    let (ana, ben) = ana_and_ben(&fleet).await;
    let bens = fleet.at(&ben, 1).connect().await;
    let mut anas = ana.connect().await;
    drop(bens);
    eventually("the connection to end", async || (fleet.nodes[1].metric("connections").await == 0.0).then_some(()))
        .await;
    sees(&mut anas, &ben, PresenceStatus::Online).await;
    let last_seen = turns(&mut anas, PresenceStatus::Offline).await;
    assert!(last_seen.is_some());
}
