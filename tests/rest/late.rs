//! A store that confirms late: what was decided takes effect all the same.

use std::time::Duration;

use members_book::config::values::DatabaseUrl;
use protocol::{ErrorCode, server::MemberPush};
use reqwest::{Method, StatusCode};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::photos::{own, status};
use crate::harness::{
    Client, Member, Server, authenticator, eventually,
    smtp::{How, MailServer},
};

/// How long a call of the store may take here.
const STORE_TIMEOUT: Duration = Duration::from_millis(300);
/// How long nothing can be written: the first attempt times out, and is committed all the same.
const BLOCKED: Duration = Duration::from_millis(800);

async fn server() -> Server {
    Server::with(|settings| settings.store.store_timeout = STORE_TIMEOUT).await
}

/// Holds the write lock of the database.
pub(super) fn locked(server: &Server) -> Connection {
    let DatabaseUrl::Sqlite(file) = server.settings().store.database().unwrap() else { panic!() };
    let other = Connection::open(file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

/// Makes a request while somebody else holds the write lock of the database.
async fn late(server: &Server, by: &Member, method: Method, path: String, body: Value) -> reqwest::Response {
    let other = locked(server);
    let release = async {
        // Not to wait for anything: this is how long the store is slow.
        tokio::time::sleep(BLOCKED).await;
        other.execute_batch("ROLLBACK").unwrap();
    };
    tokio::join!(by.request(method, &path, body), release).0
}

/// Makes two requests, the second one while it is unknown what became of the first one, and nothing can be written.
async fn one_after_the_other<T, U>(
    server: &Server,
    first: impl Future<Output = T>,
    second: impl Future<Output = U>,
) -> (T, U) {
    let timeouts = async || server.metric("store_errors_total{kind=\"timeout\"}").await;
    let before = timeouts().await;
    let unknown = async || {
        let reached = async || (timeouts().await > before).then_some(());
        eventually("an attempt whose outcome is unknown", reached).await;
    };
    let other = locked(server);
    let second = async {
        unknown().await;
        second.await
    };
    let release = async {
        unknown().await;
        // Not to wait for anything: both have an attempt under way then.
        tokio::time::sleep(STORE_TIMEOUT / 2).await;
        other.execute_batch("ROLLBACK").unwrap();
    };
    let (first, second, ()) = tokio::join!(first, second, release);
    (first, second)
}

async fn closes_with(mut client: Client, code: u16) {
    assert_eq!(client.expect_close().await.code.number(), code);
}

#[tokio::test]
async fn who_leaves_is_disconnected_and_their_photo_stays_deleted() {
    let server = server().await;
    let ana = server.member("Ana").await;
    let photo = own(&server, &ana, [1, 2, 3]).await;
    let client = ana.connect().await;
    let left = late(&server, &ana, Method::DELETE, "/api/members/me".to_owned(), Value::Null).await;
    assert_eq!(left.status(), 204);
    closes_with(client, 4403).await;
    assert_eq!(status(&server, &photo).await, 404);
}

#[tokio::test]
async fn what_an_administrator_changes_is_pushed() {
    let server = server().await;
    let (admin, ana) = (server.admin().await, server.member("Ana").await);
    let mut client = ana.connect().await;
    for (what, body) in [("role", json!({ "user_type": "admin" })), ("tier", json!({ "tier": "Infinity" }))] {
        let path = format!("/api/admin/members/{}/{what}", ana.id);
        assert_eq!(late(&server, &admin, Method::PUT, path, body).await.status(), 200);
        let push: MemberPush = client.expect().await;
        assert_eq!(push.member.user_type.as_str(), "admin");
    }
}

#[tokio::test]
async fn a_profile_is_changed_once_and_pushed_and_the_former_photo_is_deleted() {
    let server = server().await;
    let ana = server.member("Ana").await;
    let photo = own(&server, &ana, [1, 2, 3]).await;
    let mut client = ana.connect().await;
    let path = format!("/api/members/{}", ana.id);
    let before = ana.request(Method::GET, "/api/members/me", Value::Null).await.headers()["etag"].clone();
    let patch = json!({ "name": "Anna", "profile_image_url": null });
    let changed = late(&server, &ana, Method::PATCH, path.clone(), patch).await;
    assert_eq!(changed.status(), 200);
    assert_ne!(changed.headers()["etag"], before);
    let push: MemberPush = client.expect().await;
    assert_eq!((push.member.name.as_str(), push.member.profile_image_url), ("Anna", None));
    eventually("the former photo is gone", async || {
        let gone = status(&server, &photo).await == 404;
        gone.then_some(())
    })
    .await;
}

/// Found by reading: the last attempt to be made won, which was as often the older one's.
#[tokio::test]
async fn the_newer_of_two_decisions_counts() {
    let server = server().await;
    let (admin, ana) = (server.admin().await, server.member("Ana").await);
    let path = format!("/api/admin/members/{}/active", ana.id);
    for is_active in [false, true, false, true] {
        let put = |is_active: bool| admin.request(Method::PUT, &path, json!({ "is_active": is_active }));
        let (older, newer) = one_after_the_other(&server, put(!is_active), put(is_active)).await;
        assert_eq!((older.status(), newer.status()), (StatusCode::OK, StatusCode::OK));
        let all: Value = admin.request(Method::GET, "/api/admin/members", Value::Null).await.json().await.unwrap();
        let now = all["members"].as_array().unwrap().iter().find(|member| member["name"] == "Ana").unwrap();
        assert_eq!(now["is_active"], is_active, "{now}");
    }
}

/// Found by reading: the newer change took the photo for the former one that it had seen when it began.
#[tokio::test]
async fn a_photo_that_is_removed_while_it_is_uploaded_is_gone() {
    let server = server().await;
    let ana = server.member("Ana").await;
    let former = own(&server, &ana, [1, 2, 3]).await;
    let patch = ana.request(Method::PATCH, "/api/members/me", json!({ "profile_image_url": null }));
    let (uploaded, removed) = one_after_the_other(&server, own(&server, &ana, [4, 5, 6]), patch).await;
    assert_eq!(removed.status(), 200);
    eventually("both photos are gone", async || {
        let gone = status(&server, &former).await == 404 && status(&server, &uploaded).await == 404;
        gone.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_whose_refresh_token_is_used_twice_is_disconnected() {
    let server = server().await;
    let ana = server.member("Ana").await;
    let (path, body) = ("/api/auth/refresh", json!({ "refresh_token": ana.auth.refresh_token }));
    let refreshed = late(&server, &ana, Method::POST, path.to_owned(), body.clone()).await;
    assert_eq!(refreshed.status(), 200, "the first use is no theft, however late it is confirmed");
    let again = late(&server, &ana, Method::POST, path.to_owned(), body.clone()).await;
    assert_eq!(again.status(), 200, "nor is another one, as long as nobody has used what came of it");
    let client = ana.with(again.json().await.unwrap()).connect().await;
    let reused = late(&server, &ana, Method::POST, path.to_owned(), body).await;
    assert_eq!(reused.status(), 401);
    assert!(reused.text().await.unwrap().contains("refresh_token_reused"));
    closes_with(client, 4401).await;
}

/// What cannot be written is tried again with the next request, and none fails for it.
#[tokio::test]
async fn tokens_that_have_arrived_are_good_though_that_cannot_be_stored() {
    let server = server().await;
    let ana = server.member("Ana").await;
    let next = ana.with(ana.refresh().await.json().await.unwrap());
    let read = late(&server, &next, Method::GET, "/api/members/me".to_owned(), Value::Null).await;
    assert_eq!(read.status(), 200);
    assert_eq!(next.request(Method::GET, "/api/members/me", Value::Null).await.status(), 200);
    assert_eq!(ana.refresh().await.status(), 401);
}

#[tokio::test]
async fn ending_sessions_closes_their_sockets() {
    let server = server().await;
    let (admin, ana) = (server.admin().await, server.member("Ana").await);
    let other = ana.log_in().await;
    let (mut here, there) = (ana.connect_as("a", None).await, other.connect_as("b", None).await);
    let ended = late(&server, &ana, Method::DELETE, "/api/members/me/sessions".to_owned(), Value::Null).await;
    assert_eq!(ended.status(), 204);
    closes_with(there, 4401).await;
    here.ping().await;
    let path = format!("/api/admin/members/{}/sessions", ana.id);
    assert_eq!(late(&server, &admin, Method::DELETE, path, Value::Null).await.status(), 204);
    closes_with(here, 4401).await;
    let log: Value = admin.request(Method::GET, "/api/admin/audit", Value::Null).await.json().await.unwrap();
    let entries = log["entries"].as_array().unwrap();
    assert_eq!(entries.iter().filter(|entry| entry["action"] == "sessions_ended").count(), 1, "{log}");
}

#[tokio::test]
async fn who_is_disconnected_is_so_and_it_is_in_the_audit_log_once() {
    let server = server().await;
    let (admin, ana) = (server.admin().await, server.member("Ana").await);
    let client = ana.connect().await;
    let path = format!("/api/admin/members/{}/disconnect", ana.id);
    let answer = late(&server, &admin, Method::POST, path, Value::Null).await;
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "connections": 1 }));
    closes_with(client, 4410).await;
    let log: Value = admin.request(Method::GET, "/api/admin/audit", Value::Null).await.json().await.unwrap();
    let entries = log["entries"].as_array().unwrap();
    assert_eq!(entries.iter().filter(|entry| entry["action"] == "disconnected").count(), 1, "{log}");
}

/// Found by reading: a login that had verified the former password when it was changed still started a session.
#[tokio::test]
async fn a_login_that_was_verified_before_the_password_changed_starts_no_session() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let hashed = async || server.metric("password_seconds_count").await;
    let before = hashed().await;
    let until = async |count: f64| {
        eventually("passwords to be hashed", async || (hashed().await >= before + count).then_some(())).await;
    };
    let other = locked(&server);
    let body = json!({ "current_password": ana.password, "new_password": "battery staple" });
    let change = ana.request(Method::PUT, "/api/members/me/password", body);
    let log_in = async {
        // The present one was verified and the new one hashed: the change waits to be written.
        until(2.0).await;
        let body = json!({ "email": ana.auth.member.email, "password": ana.password });
        server.http().post(server.url("/api/auth/login")).json(&body).send().await.unwrap()
    };
    let release = async {
        until(3.0).await;
        other.execute_batch("ROLLBACK").unwrap();
    };
    let (changed, login, ()) = tokio::join!(change, log_in, release);
    assert_eq!(changed.status(), 200);
    assert_eq!(super::code(login).await, ErrorCode::InvalidCredentials);
}

/// Found by a reviewer: the server's own new hash of the same password was taken for another password.
#[tokio::test]
async fn a_password_can_be_changed_while_it_is_hashed_anew() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let members = server.members();
    let hashed = async || server.metric("password_seconds_count").await;
    let before = hashed().await;
    let former = server.password_hash(&ana.auth.member.email).await;
    let other = locked(&server);
    let mut anew = Box::pin(members.replace_hash(ana.id, former, "hashed at another cost".to_owned()));
    // It is the first one that waits to be written.
    assert!(futures_util::poll!(&mut anew).is_pending());
    let body = json!({ "current_password": ana.password, "new_password": "battery staple" });
    let change = ana.request(Method::PUT, "/api/members/me/password", body);
    let release = async {
        let both = async || (hashed().await >= before + 2.0).then_some(());
        eventually("the present one to be verified, and the new one hashed", both).await;
        other.execute_batch("ROLLBACK").unwrap();
    };
    let (changed, anew, ()) = tokio::join!(change, anew, release);
    assert_eq!((changed.status().as_u16(), anew), (200, Ok(true)));
}

/// Found by reading: a login that had read its member before the second factor was turned on, and waited for its hash meanwhile, needed no
/// code.
#[tokio::test]
async fn a_login_that_began_before_the_second_factor_was_turned_on_needs_a_code() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let clock = members_book::clock::SystemClock;
    let enrolment = authenticator::begin(&ana).await;
    let app = authenticator::Authenticator::scan(&enrolment, &clock);
    let hashed = async || server.metric("password_seconds_count").await;
    let before = hashed().await;
    let other = locked(&server);
    let body = json!({ "enrolment": enrolment.enrolment, "code": app.code() });
    let confirm = ana.request(Method::POST, "/api/members/me/second-factor/confirm", body);
    let log_in = async {
        let body = json!({ "email": ana.auth.member.email, "password": ana.password });
        server.http().post(server.url("/api/auth/login")).json(&body).send().await.unwrap()
    };
    let release = async {
        eventually("the password to be hashed", async || (hashed().await > before).then_some(())).await;
        other.execute_batch("ROLLBACK").unwrap();
    };
    let (confirmed, login, ()) = tokio::join!(confirm, log_in, release);
    assert_eq!(confirmed.status(), 200);
    // Whichever was written first: nobody is in with the password alone.
    if login.status() == StatusCode::OK {
        let auth: protocol::rest::AuthResponse = login.json().await.unwrap();
        let thief = Member::of(&server, auth, &ana.password);
        assert_eq!(thief.request(Method::GET, "/api/members/me", Value::Null).await.status(), 401);
    } else {
        assert_eq!(super::code(login).await, ErrorCode::SecondFactorRequired);
    }
    let enabled: protocol::rest::SecondFactorEnabled = confirmed.json().await.unwrap();
    let ana = Member::of(&server, enabled.tokens, &ana.password);
    let sessions: Value = ana.request(Method::GET, "/api/members/me/sessions", Value::Null).await.json().await.unwrap();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1, "{sessions}");
}

/// Found by reading: what followed the registration was lost, and a second try was told that the address is taken.
#[tokio::test]
async fn who_registers_is_in_takes_one_use_and_gets_one_mail() {
    let mail = MailServer::start(How::Plain).await;
    let server = server().await;
    let admin = server.admin().await;
    let made = admin.request(Method::POST, "/api/invitations", json!({ "uses": 5 })).await;
    let made: Value = made.json().await.unwrap();
    let registration = |email: &str| json!({ "name": "Ana", "email": email, "password": "correct horse battery", "invitation": made["code"] });
    let path = "/api/auth/register".to_owned();
    let here = late(&server, &admin, Method::POST, path.clone(), registration("ana@example.com")).await;
    assert_eq!(here.status(), 201);
    let server = server.restart_with(|settings| mail.set(settings)).await;
    let admin = admin.at(server.addr());
    let told = [("ben@example.com", "Confirm your e-mail address"), ("ana@example.com", "You have an account already")];
    for (number, told) in told.into_iter().enumerate() {
        let answer = late(&server, &admin, Method::POST, path.clone(), registration(told.0)).await;
        assert_eq!(answer.status(), 202);
        let received = mail.mail(number).await;
        assert_eq!((received.to.as_str(), received.subject.as_str()), told);
    }
    let listed: Value = admin.request(Method::GET, "/api/admin/invitations", Value::Null).await.json().await.unwrap();
    assert_eq!(listed["invitations"][0]["used"], 3);
    assert_eq!(mail.count(), 2);
}
