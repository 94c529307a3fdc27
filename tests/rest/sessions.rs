//! Where members are signed in. What becomes of a stolen token, and of a refresh whose answer was lost, is in `attack::tokens`.

use std::time::Duration;

use members_book::clock::ManualClock;
use protocol::{
    CloseCode, ErrorCode, Timestamp,
    model::Platform,
    rest::{AuthResponse, DeviceInfo, SessionList},
};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{code, fields};
use crate::harness::{Member, Server};

const OWN: &str = "/api/members/me/sessions";

async fn post(server: &Server, path: &str, body: Value) -> Response {
    server.http().post(server.url(path)).json(&body).send().await.unwrap()
}

async fn refresh(server: &Server, token: &str) -> Response {
    post(server, "/api/auth/refresh", json!({ "refresh_token": token })).await
}

async fn tokens(response: Response) -> AuthResponse {
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

async fn get(server: &Server, path: &str, token: &str) -> Response {
    server.http().get(server.url(path)).bearer_auth(token).send().await.unwrap()
}

async fn is_good(server: &Server, token: &str) -> bool {
    get(server, "/api/members/me", token).await.status() == 200
}

async fn sessions(by: &Member) -> SessionList {
    let response = by.request(Method::GET, OWN, Value::Null).await;
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

/// The session of these tokens, as it sees itself.
async fn current(by: &Member) -> protocol::rest::Session {
    sessions(by).await.sessions.into_iter().find(|session| session.is_current).unwrap()
}

fn one(session: &protocol::rest::Session) -> String {
    format!("{OWN}/{}", session.id)
}

#[tokio::test]
async fn a_session_ends_however_often_it_is_refreshed() {
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let day = Duration::from_secs(86_400);
    let server = Server::at(&clock, |settings| {
        settings.auth.refresh_token_ttl = 2 * day;
        settings.auth.session_lifetime = 3 * day;
    })
    .await;
    let mut ana = server.member("Ana").await;
    let ends_at = Timestamp::from_millis(1_795_370_633_000).after(3 * day);
    assert_eq!(current(&ana).await.expires_at, ends_at);
    clock.advance(day * 3 / 2);
    ana.auth = tokens(ana.refresh().await).await;
    assert_eq!(ana.auth.refresh_expires_at, ends_at, "not later than the session");
    clock.advance(day * 3 / 2 - Duration::from_secs(60));
    ana.auth = tokens(ana.refresh().await).await;
    assert_eq!((ana.auth.expires_at, ana.auth.refresh_expires_at), (ends_at, ends_at));
    assert_eq!(current(&ana).await.expires_at, ends_at);
    clock.advance(Duration::from_secs(60));
    assert_eq!(code(ana.refresh().await).await, ErrorCode::RefreshTokenInvalid);
    assert_eq!(code(ana.request(Method::GET, OWN, Value::Null).await).await, ErrorCode::TokenExpired);
    assert_eq!(sessions(&ana.log_in().await).await.sessions.len(), 1, "the other one is over");
}

#[tokio::test]
async fn members_see_where_they_are_signed_in_and_since_when() {
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |_| ()).await;
    let body = json!({
        "name": "Ana", "email": "ana@example.com", "password": "correct horse",
        "device": { "name": " Jose\u{301}'s phone ", "platform": "ios" },
    });
    let registered: AuthResponse = post(&server, "/api/auth/register", body).await.json().await.unwrap();
    clock.advance(Duration::from_secs(60));
    let body = json!({ "email": "ana@example.com", "password": "correct horse", "device": { "platform": "desktop" } });
    let second = tokens(post(&server, "/api/auth/login", body).await).await;
    clock.advance(Duration::from_secs(60));
    let third = tokens(
        post(&server, "/api/auth/login", json!({ "email": "ana@example.com", "password": "correct horse" })).await,
    )
    .await;
    let list = async |token: &str| get(&server, OWN, token).await.json::<SessionList>().await.unwrap().sessions;
    let listed = list(&second.access_token).await;
    let (at, address) = (|seconds: i64| Timestamp::from_millis(1_795_370_633_000 + 1_000 * seconds), "127.0.0.1");
    assert!(listed.iter().all(|each| (each.address.as_deref(), &each.last_address) == (Some(address), &None)));
    assert_eq!(listed.iter().map(|each| each.is_current).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(listed.iter().map(|each| each.created_at).collect::<Vec<_>>(), [at(120), at(60), at(0)]);
    let devices: Vec<_> = listed.into_iter().map(|each| each.device).collect();
    let device = |name: Option<&str>, platform| DeviceInfo { name: name.map(str::to_owned), platform };
    let expected = [None, Some(Platform::Desktop), Some(Platform::Ios)];
    assert_eq!(devices[..2], [device(None, expected[0]), device(None, expected[1])]);
    assert_eq!(devices[2], device(Some("José's phone"), expected[2]));

    // What is used moves to the top: the refresh, and the first use of what came with it.
    clock.advance(Duration::from_secs(60));
    let first = tokens(refresh(&server, &registered.refresh_token).await).await;
    let used = async || list(&third.access_token).await.iter().map(|each| each.last_used_at).collect::<Vec<_>>();
    assert_eq!(used().await, [at(180), at(120), at(60)]);
    assert_eq!(list(&third.access_token).await[0].last_address.as_deref(), Some(address));
    clock.advance(Duration::from_secs(60));
    assert!(is_good(&server, &first.access_token).await);
    clock.advance(Duration::from_secs(60));
    assert!(is_good(&server, &first.access_token).await);
    assert_eq!(used().await, [at(240), at(120), at(60)]);
}

#[tokio::test]
async fn a_bad_device_is_named_and_nothing_is_kept() {
    let server = Server::start().await;
    let ana = |device: Value| json!({ "name": "Ana", "email": "ana@example.com", "password": "correct horse", "device": device });
    let long = "x".repeat(101);
    for (device, field) in [
        (json!({ "name": "" }), "device.name"),
        (json!({ "name": " " }), "device.name"),
        (json!({ "name": long }), "device.name"),
        (json!({ "name": "a\u{202e}b" }), "device.name"),
        (json!({ "name": 5 }), "device.name"),
        (json!({ "platform": "toaster" }), "device.platform"),
        (json!([]), "device"),
        (json!("phone"), "device"),
        (json!(null), "device"),
    ] {
        let refused = post(&server, "/api/auth/register", ana(device.clone())).await;
        assert_eq!(fields(refused).await, [field], "{device}");
    }
    let none = ana(json!({ "name": null, "platform": null }));
    assert_eq!(post(&server, "/api/auth/register", none).await.status(), 201);
}

#[tokio::test]
async fn a_session_is_named_by_its_member_only() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let other = ana.log_in().await;
    let (here, there) = (current(&ana).await, current(&other).await);
    let renamed = ana.request(Method::PATCH, &one(&there), json!({ "name": " The laptop " })).await;
    assert_eq!(renamed.status(), 200);
    let renamed: protocol::rest::Session = renamed.json().await.unwrap();
    assert_eq!((renamed.device.name.as_deref(), renamed.is_current), (Some("The laptop"), false));
    assert_eq!(current(&other).await.device.name.as_deref(), Some("The laptop"));
    for bad in [json!({}), json!({ "name": "" }), json!({ "name": "x".repeat(101) }), json!({ "name": null })] {
        assert_eq!(fields(ana.request(Method::PATCH, &one(&here), bad).await).await, ["name"]);
    }
    assert_eq!(fields(ana.request(Method::DELETE, &format!("{OWN}/x"), Value::Null).await).await, ["id"]);
    for method in [Method::PATCH, Method::DELETE] {
        let refused = ben.request(method, &one(&here), json!({ "name": "Mine" })).await;
        assert_eq!(code(refused).await, ErrorCode::SessionNotFound);
    }
    assert_eq!(current(&ana).await.device.name, None);
}

#[tokio::test]
async fn sessions_are_ended_one_by_one_or_all_others() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let (second, third) = (ana.log_in().await, ana.log_in().await);
    let mut sockets =
        [ana.connect_as("a", None).await, second.connect_as("b", None).await, third.connect_as("c", None).await];
    let end = one(&current(&second).await);
    assert_eq!(ana.request(Method::DELETE, &end, Value::Null).await.status(), 204);
    assert_eq!(sockets[1].expect_close().await.code, CloseCode::Unauthorized);
    assert_eq!(code(second.request(Method::GET, OWN, Value::Null).await).await, ErrorCode::SessionRevoked);
    assert_eq!(code(second.refresh().await).await, ErrorCode::RefreshTokenInvalid);
    assert_eq!(code(ana.request(Method::DELETE, &end, Value::Null).await).await, ErrorCode::SessionNotFound);
    assert_eq!(code(ana.request(Method::PATCH, &end, json!({ "name": "x" })).await).await, ErrorCode::SessionNotFound);
    sockets[2].ping().await;

    assert_eq!(ana.request(Method::DELETE, OWN, Value::Null).await.status(), 204);
    assert_eq!(sockets[2].expect_close().await.code, CloseCode::Unauthorized);
    sockets[0].ping().await;
    let left = sessions(&ana).await.sessions;
    assert!(left.len() == 1 && left[0].is_current);
    assert_eq!(ana.request(Method::DELETE, OWN, Value::Null).await.status(), 204, "there is no other");

    assert_eq!(ana.request(Method::DELETE, &one(&left[0]), Value::Null).await.status(), 204, "one's own");
    assert_eq!(sockets[0].expect_close().await.code, CloseCode::Unauthorized);
}

#[tokio::test]
async fn an_administrator_sees_and_ends_the_sessions_of_a_member() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.member("Ana").await);
    ana.log_in().await;
    let mut phone = ana.connect().await;
    let path = format!("/api/admin/members/{}/sessions", ana.id);
    let listed: SessionList = admin.request(Method::GET, &path, Value::Null).await.json().await.unwrap();
    assert_eq!(listed.sessions.len(), 2);
    assert!(listed.sessions.iter().all(|each| !each.is_current && each.address.is_some()));
    assert_eq!(admin.request(Method::DELETE, &path, Value::Null).await.status(), 204);
    assert_eq!(phone.expect_close().await.code, CloseCode::Unauthorized);
    assert_eq!(code(ana.request(Method::GET, OWN, Value::Null).await).await, ErrorCode::SessionRevoked);
    let log: Value = admin.request(Method::GET, "/api/admin/audit", Value::Null).await.json().await.unwrap();
    let entry = &log["entries"][0];
    assert_eq!((&entry["action"], &entry["details"]), (&json!("sessions_ended"), &json!({ "sessions": 2 })));
    assert_eq!((&entry["target_id"], &entry["actor_id"]), (&json!(ana.id), &json!(admin.id)));
    let listed: SessionList = admin.request(Method::GET, &path, Value::Null).await.json().await.unwrap();
    assert_eq!(listed.sessions, []);
    let own = format!("/api/admin/members/{}/sessions", admin.id);
    let listed: SessionList = admin.request(Method::GET, &own, Value::Null).await.json().await.unwrap();
    assert!(listed.sessions[0].is_current);

    let ana = ana.log_in().await;
    assert_eq!(ana.request(Method::DELETE, "/api/members/me", Value::Null).await.status(), 204);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(code(admin.request(method, &path, Value::Null).await).await, ErrorCode::MemberNotFound);
    }
}

#[tokio::test]
async fn the_export_has_devices_and_addresses() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let ana = ana.with(tokens(ana.refresh().await).await);
    let session = current(&ana).await;
    let name = json!({ "name": "Ana's laptop" });
    assert_eq!(ana.request(Method::PATCH, &one(&session), name).await.status(), 200);
    let export: Value = ana.request(Method::GET, "/api/members/me/export", Value::Null).await.json().await.unwrap();
    let exported = &export["sessions"][0];
    assert_eq!(exported["_id"], json!(session.id));
    assert_eq!(exported["device"], json!({ "name": "Ana's laptop", "platform": null }));
    assert_eq!((&exported["address"], &exported["expires_at"]), (&json!("127.0.0.1"), &json!(session.expires_at)));
    assert_eq!((&exported["last_address"], session.last_address.as_deref()), (&json!("127.0.0.1"), Some("127.0.0.1")));
    assert_eq!(exported["last_used_at"], json!(session.last_used_at));
}
