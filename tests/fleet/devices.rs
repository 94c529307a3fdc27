//! A device has one connection, whichever node it is connected to.

use std::time::Duration;

use members_book::cluster::{Channel, event::Note};
use protocol::{CloseCode, ConnectionId, ErrorCode, server::Error};

use crate::harness::fleet::Fleet;

/// Found by a test of limits: within the same second the ids of two nodes decided, and half of the time both connections stayed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_at_once_to_another_node_is_replaced_at_the_first() {
    let fleet = Fleet::on_a_bus(3, |_| ()).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let mut tablet = fleet.at(&ana, 1).connect_as("tablet", None).await;
    let mut phone = ana.connect().await;
    for hop in 1..=9 {
        let mut newer = fleet.at(&ana, hop % 3).connect().await;
        assert_eq!(phone.expect_close().await.code, CloseCode::Replaced);
        newer.say(ben.id, "here").await;
        tablet.hear().await;
        phone = newer;
    }
}

/// Found from outside: what was connected twice while the bus was away stayed so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_connected_while_nobody_heard_of_it_is_compared_afterwards() {
    let fleet = Fleet::on_a_bus(2, |settings| settings.connections.max_connections_per_member = 3).await;
    let (ana, _) = fleet.nodes[0].two_members().await;
    let bus = fleet.bus.as_ref().unwrap();
    bus.cut(1);
    let mut phone = ana.connect_as("phone", None).await;
    let mut again = fleet.at(&ana, 1).connect_as("phone", None).await;
    let mut others = Vec::new();
    for (number, node) in [0, 1].into_iter().enumerate() {
        others.push(fleet.at(&ana, node).connect_as(&format!("device-{number}"), None).await);
    }
    let mut fourth = ana.connect_as("fourth", None).await;
    phone.ping().await;
    bus.mend(1);
    assert_eq!(phone.expect_close().await.code, CloseCode::Replaced);
    let error: Error = fourth.expect().await;
    assert_eq!(error.code, ErrorCode::TooManyConnections);
    assert_eq!(fourth.expect_close().await.code, CloseCode::TooMuch);
    again.ping().await;
    for other in &mut others {
        other.ping().await;
    }
}

/// Found from outside: after Redis had stood still, the earlier of two connections was told to come back half of the time, and threw
/// the later one out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_earlier_of_two_connections_is_told_that_it_was_replaced_unless_clocks_are_not_right() {
    let fleet = Fleet::on_a_bus(2, |_| ()).await;
    let (ana, _) = fleet.nodes[0].two_members().await;
    let bus = fleet.bus.as_ref().unwrap();
    for (after, code) in [(Duration::ZERO, CloseCode::Replaced), (Duration::from_secs(600), CloseCode::GoingAway)] {
        let mut phone = ana.connect_as("phone", None).await;
        // The other node has heard of it late, and has one that was made after it, or a while after now.
        let at = phone.ping().await.time.after(after);
        let (member, connection) = (ana.id, ConnectionId::from_bytes([255; 12]));
        let note = Note::DeviceIsElsewhere { member, device: "phone".parse().unwrap(), connection, at };
        bus.forge(0, bus.id_of(1), Channel::Node(bus.id_of(0)), note);
        assert_eq!(phone.expect_close().await.code, code);
    }
}
