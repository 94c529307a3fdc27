//! What administrators see and do is of all nodes, whichever they ask.

use protocol::{CloseCode, rest::RegistrationPolicy, server::Applications};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Member, fleet::Fleet};

async fn ask(method: Method, admin: &Member, path: &str) -> Value {
    let response = admin.request(method, path, Value::Null).await;
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

/// The connections of a member, as an administrator sees them, and whether a node is missing in that.
async fn connections(admin: &Member, member: &Member) -> (u64, bool) {
    let page = ask(Method::GET, admin, "/api/admin/members?limit=100").await;
    let members = page["members"].as_array().unwrap();
    let member = members.iter().find(|known| known["_id"] == json!(member.id)).unwrap();
    (member["connections"].as_u64().unwrap(), member["connections_partial"] == json!(true))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_counted_and_closed_on_all_nodes() {
    let fleet = Fleet::on_a_bus(3, |_| ()).await;
    let admin = fleet.nodes[0].admin().await;
    let (ana, ben) = fleet.nodes[1].two_members().await;
    let mut anas = Vec::new();
    for node in [0, 1, 1, 2] {
        let device = format!("device-{}", anas.len());
        anas.push(fleet.at(&ana, node).connect_as(&device, None).await);
    }
    let mut bens = ben.connect().await;
    for node in 0..3 {
        assert_eq!(connections(&fleet.at(&admin, node), &ana).await, (4, false));
    }
    let closed = ask(Method::POST, &admin, &format!("/api/admin/members/{}/disconnect", ana.id)).await;
    assert_eq!(closed, json!({ "connections": 4 }));
    for client in &mut anas {
        assert_eq!(client.expect_close().await.code, CloseCode::Disconnected);
    }
    bens.ping().await;
    let audit = ask(Method::GET, &fleet.at(&admin, 2), "/api/admin/audit").await;
    assert_eq!(audit["entries"][0]["details"], json!({ "connections": 4 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stats_are_of_all_nodes_and_say_which_one_is_missing() {
    let named = |settings: &mut members_book::config::Settings| settings.cluster.node_name = Some("one".to_owned());
    let fleet = Fleet::on_a_bus(3, named).await;
    let admin = fleet.nodes[0].admin().await;
    let (ana, ben) = fleet.nodes[1].two_members().await;
    let (mut anas, bens) = (fleet.at(&ana, 1).connect().await, fleet.at(&ben, 2).connect().await);
    anas.say(ben.id, "counted").await;
    let stats = ask(Method::GET, &admin, "/api/admin/stats").await;
    assert_eq!((&stats["connections"], &stats["members_connected"]), (&json!(2), &json!(2)));
    assert_eq!((&stats["messages_since_start"], &stats["nodes_silent"]), (&json!(1), &json!(0)));
    let nodes = stats["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    for node in nodes {
        assert_eq!((&node["name"], &node["doubts"]), (&json!("one"), &json!([])), "{node}");
        assert_eq!((&node["version"], node["id"].as_str().unwrap().len()), (&stats["version"], 24));
    }
    // One of them does not answer; another one is asked, for it has not counted just now.
    fleet.bus.as_ref().unwrap().hold(2);
    let stats = ask(Method::GET, &fleet.at(&admin, 1), "/api/admin/stats").await;
    assert_eq!((&stats["connections"], &stats["nodes_silent"]), (&json!(1), &json!(1)));
    assert_eq!(connections(&admin, &ben).await, (0, true));
    let closed = ask(Method::POST, &admin, &format!("/api/admin/members/{}/disconnect", ben.id)).await;
    assert_eq!(closed, json!({ "connections": 0, "connections_partial": true }));
    drop(bens);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_at_one_node_is_told_at_the_others_and_decided_there() {
    let fleet = Fleet::on_a_bus(2, |settings| {
        settings.registration.registration = Some(RegistrationPolicy::Approval);
    })
    .await;
    let root = json!({
        "code": fleet.nodes[0].setup_code(), "name": "Root", "email": "root@example.com", "password": "correct horse",
    });
    let post = async |node: usize, path: &str, body: Value| {
        let node = &fleet.nodes[node];
        node.http().post(node.url(path)).json(&body).send().await.unwrap()
    };
    let root = post(0, "/api/setup", root).await.json().await.unwrap();
    let admin = Member::of(&fleet.nodes[0], root, "correct horse");
    let mut client = admin.connect().await;
    let ana = json!({ "name": "Ana", "email": "ana@example.com", "password": "correct horse" });
    assert_eq!(post(1, "/api/auth/register", ana.clone()).await.status(), 202);
    assert_eq!(client.expect::<Applications>().await.waiting, 1);
    let there = fleet.at(&admin, 1);
    let waiting = ask(Method::GET, &there, "/api/admin/members?status=pending").await;
    let path = format!("/api/admin/members/{}/approve", waiting["members"][0]["_id"].as_str().unwrap());
    assert_eq!(ask(Method::POST, &there, &path).await["status"], "active");
    assert_eq!(client.expect::<Applications>().await.waiting, 0);
    assert_eq!(post(0, "/api/auth/login", ana).await.status(), 200);
}
