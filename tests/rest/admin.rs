//! Administration: what it changes is felt at once.

use protocol::{ErrorCode, server::MemberPush};
use reqwest::Method;
use serde_json::{Value, json};

use super::{code, fields};
use crate::harness::{Member, Server};

async fn get(member: &Member, path: &str) -> Value {
    let response = member.request(Method::GET, path, Value::Null).await;
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

async fn put(admin: &Member, member: &Member, what: &str, body: Value) -> reqwest::Response {
    admin.request(Method::PUT, &format!("/api/admin/members/{}/{what}", member.id), body).await
}

#[tokio::test]
async fn deactivating_closes_sockets_and_blocks_login() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ana = server.member("Ana").await;
    let mut client = ana.connect().await;
    let listed = get(&admin, "/api/admin/members?user_type=member").await;
    assert_eq!(listed["members"][0]["connections"], 1);
    assert_eq!(put(&admin, &ana, "active", json!({ "is_active": false })).await.status(), 200);
    assert_eq!(client.expect_close().await.code.number(), 4403);
    let login = json!({ "email": ana.auth.member.email, "password": ana.password });
    let login = server.http().post(server.url("/api/auth/login")).json(&login).send().await.unwrap();
    assert_eq!(code(login).await, ErrorCode::MemberDeactivated);
    let listed = get(&admin, "/api/admin/members?is_active=false").await;
    assert_eq!((&listed["members"][0]["_id"], &listed["members"][0]["connections"]), (&json!(ana.id), &json!(0)));
    assert_eq!(put(&admin, &ana, "active", json!({ "is_active": true })).await.status(), 200);
    ana.log_in().await.connect().await;
}

#[tokio::test]
async fn a_new_tier_and_role_are_pushed_and_take_effect_at_once() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ana = server.member("Ana").await;
    let mut client = ana.connect().await;
    assert_eq!(put(&admin, &ana, "tier", json!({ "tier": "Infinity" })).await.status(), 200);
    let push: MemberPush = client.expect().await;
    assert_eq!(push.member.tier.as_str(), "Infinity");
    let stats = async || ana.request(Method::GET, "/api/admin/stats", Value::Null).await.status();
    assert_eq!(stats().await, 403);
    assert_eq!(put(&admin, &ana, "role", json!({ "user_type": "admin" })).await.status(), 200);
    let push: MemberPush = client.expect().await;
    assert_eq!(push.member.user_type.as_str(), "admin");
    assert_eq!(stats().await, 200, "with the same token");
    assert_eq!(put(&admin, &ana, "role", json!({ "user_type": "member" })).await.status(), 200);
    assert_eq!(stats().await, 403);
}

#[tokio::test]
async fn the_last_administrator_can_be_neither_demoted_nor_deactivated_nor_leave() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let refused = ErrorCode::LastAdmin;
    assert_eq!(code(put(&admin, &admin, "role", json!({ "user_type": "member" })).await).await, refused);
    assert_eq!(code(put(&admin, &admin, "active", json!({ "is_active": false })).await).await, refused);
    assert_eq!(code(admin.request(Method::DELETE, "/api/members/me", Value::Null).await).await, refused);
    let other = server.admin_named("Other").await;
    assert_eq!(put(&other, &admin, "role", json!({ "user_type": "member" })).await.status(), 200);
}

#[tokio::test]
async fn who_is_disconnected_may_come_back() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ana = server.member("Ana").await;
    let (mut phone, mut tablet) = (ana.connect().await, ana.connect_as("tablet", None).await);
    let path = format!("/api/admin/members/{}/disconnect", ana.id);
    let answer: Value = admin.request(Method::POST, &path, Value::Null).await.json().await.unwrap();
    assert_eq!(answer["connections"], 2);
    for client in [&mut phone, &mut tablet] {
        assert_eq!(client.expect_close().await.code.number(), 4410);
    }
    ana.connect().await;
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_to_whom_from_where() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ana = server.member("Ana").await;
    put(&admin, &ana, "tier", json!({ "tier": "Sócio" })).await;
    put(&admin, &ana, "active", json!({ "is_active": false })).await;
    admin.request(Method::POST, &format!("/api/admin/members/{}/disconnect", ana.id), Value::Null).await;
    let log = get(&admin, "/api/admin/audit?limit=2").await;
    let of = |entry: &Value| (entry["action"].clone(), entry["details"].clone());
    assert_eq!(of(&log["entries"][0]), (json!("disconnected"), json!({ "connections": 0 })));
    assert_eq!(of(&log["entries"][1]), (json!("active_changed"), json!({ "from": true, "to": false })));
    let next = format!("/api/admin/audit?limit=1&cursor={}", log["next"].as_str().unwrap());
    let entry = get(&admin, &next).await["entries"][0].clone();
    assert_eq!(of(&entry), (json!("tier_changed"), json!({ "from": "Disruption", "to": "Sócio" })));
    assert_eq!((&entry["actor_id"], &entry["target_id"]), (&json!(admin.id), &json!(ana.id)));
    assert_eq!(entry["address"], "127.0.0.1");
}

#[tokio::test]
async fn the_figures_are_those_of_the_server() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let (ana, ben) = server.two_members().await;
    let mut client = ana.connect().await;
    client.say(ben.id, "one").await;
    client.say(ben.id, "two").await;
    server.set_active(ben.id, false).await;
    let stats = get(&admin, "/api/admin/stats").await;
    assert_eq!((&stats["connections"], &stats["members_connected"]), (&json!(1), &json!(1)));
    assert_eq!(stats["messages_since_start"], 2);
    assert_eq!(stats["mail"], json!({ "is_sent": false, "waiting": 0, "oldest_at": null }));
    let store = &stats["store"];
    assert_eq!((&store["messages"], &store["conversations"]), (&json!(2), &json!(1)));
    assert_eq!((&store["members"], &store["members_active"]), (&json!(4), &json!(3)));
    assert!(store["bytes"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_bad_change_is_refused_by_name() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ana = server.member("Ana").await;
    assert_eq!(fields(put(&admin, &ana, "tier", json!({ "tier": "Gold" })).await).await, ["tier"]);
    assert_eq!(fields(put(&admin, &ana, "tier", json!({})).await).await, ["tier"]);
    assert_eq!(fields(put(&admin, &ana, "active", json!({ "is_active": null })).await).await, ["is_active"]);
    assert_eq!(fields(put(&admin, &ana, "role", json!({ "user_type": 1 })).await).await, ["user_type"]);
    let nobody = "/api/admin/members/0123456789abcdef01234567/tier";
    let refused = admin.request(Method::PUT, nobody, json!({ "tier": "Infinity" })).await;
    assert_eq!(code(refused).await, ErrorCode::MemberNotFound);
}
