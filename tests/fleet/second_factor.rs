//! The second factor is that of a member, at whichever node they ask.

use futures_util::future::join_all;
use members_book::clock::SystemClock;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{authenticator::turn_on, fleet::Fleet};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_code_at_two_nodes_at_once_is_good_at_one_of_them() {
    let fleet = Fleet::on_a_bus(2, |_| ()).await;
    let mut ana = fleet.nodes[0].member("Ana").await;
    let (app, recovery) = turn_on(&mut ana, &SystemClock).await;
    // The app has shown one for the confirmation; its clock is ahead of that now.
    for code in [app.code_after(1), recovery[0].clone()] {
        let body = json!({ "email": ana.auth.member.email, "password": ana.password, "second_factor": code });
        let log_in = async |node: usize| {
            let node = &fleet.nodes[node];
            node.http().post(node.url("/api/auth/login")).json(&body).send().await.unwrap().status().as_u16()
        };
        let statuses = join_all([0, 1, 0, 1].map(log_in)).await;
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| matches!(status, 200 | 401)), "{statuses:?}");
    }
    let there = fleet.at(&ana, 1);
    let state: Value =
        there.request(Method::GET, "/api/members/me/second-factor", Value::Null).await.json().await.unwrap();
    assert_eq!((&state["enabled"], &state["recovery_codes_left"]), (&json!(true), &json!(9)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_at_one_node_closes_the_sockets_at_the_other_and_a_proof_is_good_at_both() {
    let fleet = Fleet::on_a_bus(2, |_| ()).await;
    let (mut ana, admin) = (fleet.nodes[0].member("Ana").await, fleet.nodes[0].admin().await);
    turn_on(&mut ana, &SystemClock).await;
    let mut phone = fleet.at(&ana, 1).connect().await;
    let stepped = admin.request(Method::POST, "/api/auth/step-up", json!({ "password": admin.password })).await;
    assert_eq!(stepped.status(), 204);
    let path = format!("/api/admin/members/{}/second-factor", ana.id);
    assert_eq!(fleet.at(&admin, 0).request(Method::DELETE, &path, Value::Null).await.status(), 200);
    assert_eq!(phone.expect_close().await.code, protocol::CloseCode::Unauthorized);
    let node = &fleet.nodes[1];
    let body = json!({ "email": ana.auth.member.email, "password": ana.password });
    assert_eq!(node.http().post(node.url("/api/auth/login")).json(&body).send().await.unwrap().status(), 200);
}
