//! Register, log in, refresh, log out.

use std::time::Duration;

use members_book::clock::ManualClock;
use protocol::{
    ErrorCode, Timestamp,
    model::{Tier, UserType},
    rest::{AuthResponse, Member},
};
use reqwest::{Method, Response};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{code, fields, problem};
use crate::harness::{Server, eventually};

async fn post(server: &Server, path: &str, body: Value) -> Response {
    server.http().post(server.url(path)).json(&body).send().await.unwrap()
}

async fn register(server: &Server, body: Value) -> Response {
    post(server, "/api/auth/register", body).await
}

async fn log_in(server: &Server, email: &str, password: &str) -> Response {
    post(server, "/api/auth/login", json!({ "email": email, "password": password })).await
}

async fn refresh(server: &Server, token: &str) -> Response {
    post(server, "/api/auth/refresh", json!({ "refresh_token": token })).await
}

async fn auth(response: Response) -> AuthResponse {
    response.json().await.unwrap()
}

async fn me(server: &Server, token: &str) -> Response {
    server.http().get(server.url("/api/members/me")).bearer_auth(token).send().await.unwrap()
}

fn ana() -> Value {
    json!({ "name": " Ana ", "email": "Ana@Example.com", "password": "correct horse" })
}

#[tokio::test]
async fn who_registers_is_a_member_of_the_lowest_tier_and_signed_in() {
    let server = Server::start().await;
    let mut body = ana();
    // What cannot be chosen is not.
    for (key, value) in [("tier", "Sócio"), ("user_type", "admin"), ("_id", "0123456789abcdef01234567")] {
        body[key] = json!(value);
    }
    let response = register(&server, body).await;
    assert_eq!(response.status(), 201);
    let text = response.text().await.unwrap();
    assert!(!text.contains("password") && !text.contains("correct horse"), "{text}");
    let auth: AuthResponse = serde_json::from_str(&text).unwrap();
    let Member { name, email, tier, user_type, is_active, last_login, created_at, .. } = auth.member.clone();
    assert_eq!((name.as_str(), email.as_str()), ("Ana", "Ana@Example.com"));
    assert_eq!((tier, user_type, is_active), (Tier::Disruption, UserType::Member, true));
    assert!(last_login >= Some(created_at) && auth.member.id.to_string() != "0123456789abcdef01234567");
    assert_eq!(auth.expires_at.since(created_at).as_secs().next_multiple_of(10), 900);
    let own: Member = me(&server, &auth.access_token).await.json().await.unwrap();
    assert_eq!(own, auth.member);
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let server = Server::start().await;
    assert_eq!(fields(register(&server, json!({})).await).await, ["email", "name", "password"]);
    let body = json!({ "name": "x".repeat(101), "email": "ana@", "password": "short" });
    assert_eq!(fields(register(&server, body).await).await, ["email", "name", "password"]);
    let body = json!({ "name": 5, "email": null, "password": ["correct horse"] });
    assert_eq!(fields(register(&server, body).await).await, ["email", "name", "password"]);
    let body = json!({ "name": "Ana", "email": "ana@example.com", "password": "x".repeat(72) });
    assert_eq!(fields(register(&server, body).await).await, ["password"]);
    assert_eq!(fields(post(&server, "/api/auth/login", json!({})).await).await, ["email", "password"]);
    assert_eq!(fields(post(&server, "/api/auth/refresh", json!({})).await).await, ["refresh_token"]);
    for attempt in [
        "",
        "fifteen-of-them",
        "sixteen with one ",
        "sixteen-with-one+",
        "é".repeat(16).as_str(),
        "x".repeat(65).as_str(),
    ] {
        let body = json!({ "refresh_token": "x", "attempt": attempt });
        assert_eq!(fields(post(&server, "/api/auth/refresh", body).await).await, ["attempt"], "{attempt:?}");
    }
    for attempt in [json!(null), json!("sixteen-of-them_"), json!("x".repeat(64))] {
        let body = json!({ "refresh_token": "x", "attempt": attempt });
        assert_eq!(code(post(&server, "/api/auth/refresh", body).await).await, ErrorCode::RefreshTokenInvalid);
    }
    assert_eq!(register(&server, ana()).await.status(), 201, "nothing was kept of the bad ones");
}

#[tokio::test]
async fn an_address_belongs_to_one_member_whatever_its_case() {
    let server = Server::start().await;
    assert_eq!(register(&server, ana()).await.status(), 201);
    let mut again = ana();
    again["email"] = json!("aNA@eXAMPLE.COM");
    assert_eq!(code(register(&server, again).await).await, ErrorCode::EmailTaken);
}

#[tokio::test]
async fn logging_in_takes_the_right_password_and_any_case_of_the_address() {
    let server = Server::start().await;
    register(&server, ana()).await;
    let response = log_in(&server, "ANA@example.COM", "correct horse").await;
    assert_eq!(response.status(), 200);
    let auth: AuthResponse = response.json().await.unwrap();
    assert_eq!(me(&server, &auth.access_token).await.status(), 200);

    let wrong = problem(log_in(&server, "ana@example.com", "wrong horse").await).await;
    let unknown = problem(log_in(&server, "nobody@example.com", "wrong horse").await).await;
    assert_eq!(wrong.code, ErrorCode::InvalidCredentials);
    assert_eq!(wrong, unknown, "nobody learns which addresses are known");
    let hashed = server.metric("password_seconds_count").await;
    log_in(&server, "nobody@example.com", "wrong horse").await;
    log_in(&server, "nobody@example.com", &"too long".repeat(20)).await;
    assert_eq!(server.metric("password_seconds_count").await, hashed + 2.0, "an unknown address takes as much work");
    let too_long = log_in(&server, "ana@example.com", &"correct horse".repeat(10)).await;
    assert_eq!(code(too_long).await, ErrorCode::InvalidCredentials);
}

#[tokio::test]
async fn a_deactivated_member_cannot_log_in_and_only_they_are_told_why() {
    let server = Server::start().await;
    let auth: AuthResponse = register(&server, ana()).await.json().await.unwrap();
    server.set_active(auth.member.id, false).await;
    let right = log_in(&server, "ana@example.com", "correct horse").await;
    assert_eq!(code(right).await, ErrorCode::MemberDeactivated);
    let wrong = log_in(&server, "ana@example.com", "wrong horse").await;
    assert_eq!(code(wrong).await, ErrorCode::InvalidCredentials);
    assert_eq!(code(me(&server, &auth.access_token).await).await, ErrorCode::MemberDeactivated);
    let refresh = post(&server, "/api/auth/refresh", json!({ "refresh_token": auth.refresh_token })).await;
    assert_eq!(refresh.status(), 401);
}

#[tokio::test]
async fn refresh_tokens_rotate_and_one_whose_successor_was_used_ends_the_session() {
    let server = Server::start().await;
    let first: AuthResponse = register(&server, ana()).await.json().await.unwrap();
    let second: AuthResponse = refresh(&server, &first.refresh_token).await.json().await.unwrap();
    assert_ne!(first.refresh_token, second.refresh_token);
    assert_ne!(first.access_token, second.access_token);
    assert_eq!(me(&server, &second.access_token).await.status(), 200);
    let other: AuthResponse = log_in(&server, "ana@example.com", "correct horse").await.json().await.unwrap();

    assert_eq!(code(refresh(&server, &first.refresh_token).await).await, ErrorCode::RefreshTokenReused);
    assert_eq!(code(refresh(&server, &second.refresh_token).await).await, ErrorCode::RefreshTokenInvalid);
    for token in [&first.access_token, &second.access_token] {
        assert_eq!(code(me(&server, token).await).await, ErrorCode::SessionRevoked);
    }
    assert_eq!(me(&server, &other.access_token).await.status(), 200, "another login is another session");
    assert_eq!(code(refresh(&server, "made-up").await).await, ErrorCode::RefreshTokenInvalid);
}

/// Found by faults: a node stood still with a refresh, the client sent it again, and went on with what it got. Then the node went on, and
/// the member was signed out as if a thief had come.
#[tokio::test]
async fn a_refresh_that_arrives_late_ends_nothing() {
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |_| ()).await;
    let ana = server.member("Ana").await;
    let attempt = "an-attempt-of-the-client";
    let lost: AuthResponse = ana.refresh_by(attempt).await.json().await.unwrap();
    let again: AuthResponse = ana.refresh_by(attempt).await.json().await.unwrap();
    assert_eq!(lost.refresh_token, again.refresh_token);
    assert_eq!(me(&server, &again.access_token).await.status(), 200);
    clock.advance(Duration::from_secs(60));
    for _ in 0..2 {
        assert_eq!(code(ana.refresh_by(attempt).await).await, ErrorCode::RefreshTokenInvalid);
        assert_eq!(me(&server, &again.access_token).await.status(), 200);
    }
    let next = ana.with(again);
    let next: AuthResponse = next.refresh_by("another-attempt-of-the-client").await.json().await.unwrap();
    assert_eq!(me(&server, &next.access_token).await.status(), 200);
    assert_eq!(code(ana.refresh_by(attempt).await).await, ErrorCode::RefreshTokenInvalid, "two tokens ago, too");
    assert_eq!(code(ana.refresh_by("the-attempt-of-a-thief").await).await, ErrorCode::RefreshTokenReused);
    assert_eq!(code(me(&server, &next.access_token).await).await, ErrorCode::SessionRevoked);
}

#[tokio::test]
async fn a_token_is_good_for_its_time() {
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |_| ()).await;
    let auth: AuthResponse = register(&server, ana()).await.json().await.unwrap();
    clock.advance(Duration::from_secs(899));
    assert_eq!(me(&server, &auth.access_token).await.status(), 200);
    clock.advance(Duration::from_secs(1));
    assert_eq!(code(me(&server, &auth.access_token).await).await, ErrorCode::TokenExpired);
    clock.advance(Duration::from_secs(30 * 86_400));
    let refresh = post(&server, "/api/auth/refresh", json!({ "refresh_token": auth.refresh_token })).await;
    assert_eq!(code(refresh).await, ErrorCode::RefreshTokenInvalid);
}

#[tokio::test]
async fn a_request_without_a_body_may_name_a_content_type() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let request = server.http().post(server.url("/api/auth/logout")).bearer_auth(&ana.auth.access_token);
    let response = request.header("content-type", "application/octet-stream").send().await.unwrap();
    assert_eq!(response.status(), 204);
    assert_eq!(me(&server, &ana.auth.access_token).await.status(), 401);
}

#[tokio::test]
async fn logging_out_ends_this_session_or_all() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let (second, third) = (ana.log_in().await, ana.log_in().await);
    let status = async |member: &crate::harness::Member| me(&server, &member.auth.access_token).await.status().as_u16();
    assert_eq!(ana.request(Method::POST, "/api/auth/logout", Value::Null).await.status(), 204);
    assert_eq!((status(&ana).await, status(&second).await), (401, 200));
    assert_eq!(ana.refresh().await.status(), 401);
    assert_eq!(second.request(Method::POST, "/api/auth/logout", json!({ "all": true })).await.status(), 204);
    assert_eq!((status(&second).await, status(&third).await), (401, 401));
    assert_eq!(status(&ana.log_in().await).await, 200);
}

#[tokio::test]
async fn a_former_secret_is_accepted_during_a_rotation() {
    let former = "the former secret of 32 bytes or more";
    let server = Server::with(|settings| settings.auth.jwt_secret = Some(former.into())).await;
    let auth: AuthResponse = register(&server, ana()).await.json().await.unwrap();
    let server = server
        .restart_with(|settings| {
            settings.auth.jwt_secret = Some("the new secret also of 32 bytes or more".into());
            settings.auth.jwt_secret_previous = vec![former.into()];
        })
        .await;
    assert_eq!(me(&server, &auth.access_token).await.status(), 200);
    let server = server.restart_with(|settings| settings.auth.jwt_secret_previous.clear()).await;
    assert_eq!(code(me(&server, &auth.access_token).await).await, ErrorCode::TokenInvalid);
    assert!(server.settings().auth.jwt_secret.as_ref().unwrap().expose_secret().starts_with("the new"));
}

#[tokio::test]
async fn one_address_registers_and_logs_in_so_often_and_no_more() {
    let server = Server::with(|settings| {
        settings.rates.rate_registrations = 1;
        settings.rates.rate_registrations_burst = 1;
        settings.rates.rate_logins = 1;
        settings.rates.rate_logins_burst = 2;
    })
    .await;
    assert_eq!(register(&server, ana()).await.status(), 201);
    let refused =
        register(&server, json!({ "name": "B", "email": "b@example.com", "password": "correct horse" })).await;
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(code(refused).await, ErrorCode::RateLimited);
    log_in(&server, "ana@example.com", "wrong").await;
    log_in(&server, "ben@example.com", "wrong").await;
    let refused = log_in(&server, "ana@example.com", "correct horse").await;
    assert_eq!(code(refused).await, ErrorCode::RateLimited);
}

/// Found by an attacker: forty sessions of one member that refreshed in a chain made everybody's messages take a second on MongoDB.
#[tokio::test]
async fn a_member_exchanges_tokens_so_often_over_all_sessions_and_a_refused_one_stays_good() {
    let server = Server::with(|settings| {
        settings.rates.rate_refreshes = 60;
        settings.rates.rate_refreshes_burst = 2;
    })
    .await;
    assert_eq!(register(&server, ana()).await.status(), 201);
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(auth(log_in(&server, "ana@example.com", "correct horse").await).await);
    }
    for session in &sessions[..2] {
        assert_eq!(refresh(&server, &session.refresh_token).await.status(), 200);
    }
    let refused = refresh(&server, &sessions[2].refresh_token).await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(code(refused).await, ErrorCode::RateLimited);
    let again = async || (refresh(&server, &sessions[2].refresh_token).await.status() == 200).then_some(());
    eventually("an allowance", again).await;
    let ben = json!({ "name": "Ben", "email": "ben@example.com", "password": "correct horse" });
    let ben = auth(register(&server, ben).await).await;
    assert_eq!(refresh(&server, &ben.refresh_token).await.status(), 200, "another member");
}

#[tokio::test]
async fn failed_logins_are_counted_by_their_reason() {
    let server = Server::start().await;
    log_in(&server, "nobody@example.com", "x").await;
    me(&server, "nonsense").await;
    assert_eq!(server.metric(r#"auth_failures_total{code="invalid_credentials"}"#).await, 1.0);
    assert_eq!(server.metric(r#"auth_failures_total{code="token_invalid"}"#).await, 1.0);
}

#[tokio::test]
async fn a_hash_of_a_former_cost_is_made_anew_at_the_next_login() {
    let server = Server::start().await;
    register(&server, ana()).await;
    let server = server.restart_with(|settings| settings.auth.bcrypt_cost = 5).await;
    assert_eq!(log_in(&server, "ana@example.com", "wrong horse").await.status(), 401);
    assert_eq!(server.password_hash("ana@example.com").await.get(..7), Some("$2b$04$"));
    assert_eq!(log_in(&server, "ana@example.com", "correct horse").await.status(), 200);
    eventually("the new hash", async || {
        server.password_hash("ana@example.com").await.starts_with("$2b$05$").then_some(())
    })
    .await;
    assert_eq!(log_in(&server, "ana@example.com", "correct horse").await.status(), 200);
}
