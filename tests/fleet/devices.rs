//! A device has one connection, whichever node it is connected to.

use protocol::CloseCode;

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
