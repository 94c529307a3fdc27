//! A refresh token may be exchanged at whichever node, and a thief is found out at whichever.

use futures_util::future::join_all;
use protocol::{CloseCode, ErrorCode, rest::AuthResponse};

use crate::harness::fleet::Fleet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_token_is_found_out_at_another_node_and_a_repeated_exchange_is_not() {
    let fleet = Fleet::on_a_bus(2, |_| ()).await;
    let (ana, _) = fleet.nodes[0].two_members().await;
    let mut phone = ana.connect().await;
    let there = [fleet.at(&ana, 0), fleet.at(&ana, 1)];
    let all = join_all((0..20).map(|tab| there[tab % 2].refresh_by("the-attempt-of-ana"))).await;
    let mut successors = Vec::new();
    for each in all {
        assert_eq!(each.status(), 200);
        successors.push(each.json::<AuthResponse>().await.unwrap().refresh_token);
    }
    successors.dedup();
    assert_eq!(successors.len(), 1);
    phone.ping().await;

    let thief = there[1].refresh_by("the-attempt-of-the-thief").await;
    assert_eq!(thief.json::<protocol::Problem>().await.unwrap().code, ErrorCode::RefreshTokenReused);
    assert_eq!(phone.expect_close().await.code, CloseCode::Unauthorized);
    assert_eq!(there[0].refresh_by("the-attempt-of-ana").await.status(), 401);
}
