//! The first administrator, made by whoever has the code that the server prints.

use members_book::clock::ManualClock;
use protocol::{ErrorCode, Timestamp, model::UserType, rest::AuthResponse};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{code, fields, problem};
use crate::harness::{
    Member, Server, eventually,
    smtp::{How, MailServer},
    within,
};

async fn needed(server: &Server) -> bool {
    let response = within("setup", server.http().get(server.url("/api/setup")).send()).await.unwrap();
    assert_eq!(response.status(), 200);
    response.json::<Value>().await.unwrap()["needed"].as_bool().unwrap()
}

async fn set_up(server: &Server, code: &str, email: &str) -> Response {
    let body = json!({ "code": code, "name": "Rita Reis", "email": email, "password": "correct horse" });
    within("setup", server.http().post(server.url("/api/setup")).json(&body).send()).await.unwrap()
}

#[tokio::test]
async fn whoever_has_the_code_becomes_the_first_administrator() {
    let server = Server::start().await;
    server.member("Ana").await;
    assert!(needed(&server).await);
    let response = set_up(&server, &server.setup_code().to_lowercase().replace('-', ""), "rita@example.com").await;
    assert_eq!(response.status(), 201);
    let auth: AuthResponse = response.json().await.unwrap();
    assert_eq!((auth.member.user_type, auth.member.name.as_str()), (UserType::Admin, "Rita Reis"));
    let audit = server.http().get(server.url("/api/admin/audit")).bearer_auth(&auth.access_token);
    let audit: Value = audit.send().await.unwrap().json().await.unwrap();
    let entry = &audit["entries"][0];
    assert_eq!((&entry["action"], &entry["address"]), (&json!("admin_created"), &json!("127.0.0.1")));
    assert_eq!((&entry["actor_id"], &entry["target_id"]), (&json!(auth.member.id), &json!(auth.member.id)));

    assert!(!needed(&server).await);
    let again = set_up(&server, &server.setup_code(), "other@example.com").await;
    assert_eq!(code(again).await, ErrorCode::AlreadySetUp);
    let login = json!({ "email": "rita@example.com", "password": "correct horse" });
    assert_eq!(server.http().post(server.url("/api/auth/login")).json(&login).send().await.unwrap().status(), 200);
}

/// The first administrator would never be written to, and could not reset a password.
#[tokio::test]
async fn where_mail_is_sent_the_first_administrator_has_an_address_that_it_goes_to() {
    let mail = MailServer::start(How::StartTls).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    for email in ["rita@localhost", "rita@127.0.0.1", "rita..reis@example.com"] {
        assert_eq!(fields(set_up(&server, &server.setup_code(), email).await).await, ["email"], "{email}");
        assert!(needed(&server).await);
    }
    assert_eq!(set_up(&server, &server.setup_code(), "rita@example.com").await.status(), 201);
}

/// The answer to the first one was lost.
#[tokio::test]
async fn the_same_again_is_answered_as_the_first_and_for_a_while() {
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |_| ()).await;
    let set_up_with = async |code: &str, email: &str, password: &str| {
        let body = json!({ "code": code, "name": "Rita Reis", "email": email, "password": password });
        within("setup", server.http().post(server.url("/api/setup")).json(&body).send()).await.unwrap()
    };
    let (right, rita) = (server.setup_code(), "rita@example.com");
    let first: AuthResponse = set_up_with(&right, rita, "correct horse").await.json().await.unwrap();
    let again = set_up_with(&right, "Rita@example.com", "correct horse").await;
    assert_eq!(again.status(), 201);
    let again: AuthResponse = again.json().await.unwrap();
    assert_eq!((again.member.id, again.member.user_type), (first.member.id, UserType::Admin));
    assert_ne!(again.refresh_token, first.refresh_token);
    let ben = server.member("Ben").await;
    for (code_of, email, password) in [
        ("00000-00000", rita, "correct horse"),
        (&right, rita, "another horse"),
        (&right, ben.auth.member.email.as_str(), ben.password.as_str()),
    ] {
        assert_eq!(code(set_up_with(code_of, email, password).await).await, ErrorCode::AlreadySetUp, "{email}");
    }
    clock.advance(std::time::Duration::from_secs(600));
    assert_eq!(code(set_up_with(&right, rita, "correct horse").await).await, ErrorCode::AlreadySetUp);
}

#[tokio::test]
async fn a_wrong_code_makes_nobody_and_is_told_what_to_do() {
    let server = Server::start().await;
    for wrong in ["00000-00000", "x", &server.setup_code()[1..]] {
        let refused = problem(set_up(&server, wrong, "rita@example.com").await).await;
        assert_eq!(refused.code, ErrorCode::Forbidden);
        assert!(refused.detail.contains("admin create") && !refused.detail.contains(&server.setup_code()));
    }
    assert_eq!(fields(set_up(&server, "", "nobody").await).await, ["code", "email"]);
    let taken = server.member("Ana").await.auth.member.email;
    assert_eq!(code(set_up(&server, &server.setup_code(), &taken).await).await, ErrorCode::EmailTaken);
    assert!(needed(&server).await);
    assert_eq!(server.metric(r#"auth_failures_total{code="forbidden"}"#).await, 3.0);
}

#[tokio::test]
async fn of_two_at_the_same_moment_one_is_it() {
    let server = Server::start().await;
    let code_of = server.setup_code();
    let emails: Vec<String> = (0..6).map(|number| format!("{number}@example.com")).collect();
    let answers = emails.iter().map(|email| set_up(&server, &code_of, email));
    let mut statuses = Vec::new();
    for answer in futures_util::future::join_all(answers).await {
        statuses.push(answer.status().as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409]);
}

/// Somebody makes one in another way: this server has remembered that there is none, and not for long.
#[tokio::test]
async fn an_administrator_who_is_made_elsewhere_ends_the_need() {
    let server = Server::start().await;
    assert!(needed(&server).await);
    let admin: Member = server.admin().await;
    eventually("the need to end", async || (!needed(&server).await).then_some(())).await;
    assert_eq!(admin.request(Method::GET, "/api/setup", Value::Null).await.status(), 200);
}

#[tokio::test]
async fn guessing_is_limited_by_address_and_in_all() {
    let server = Server::with(|settings| {
        settings.rates.rate_registrations = 1;
        settings.rates.rate_registrations_burst = 2;
    })
    .await;
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(code(set_up(&server, "00000-00000", "rita@example.com").await).await);
    }
    assert_eq!(codes, [ErrorCode::Forbidden, ErrorCode::Forbidden, ErrorCode::RateLimited]);

    let server = Server::start().await;
    let guess = || set_up(&server, "00000-00000", "rita@example.com");
    // As many as strangers can try from addresses without number: who has the code is let in beside them.
    let guesses = futures_util::future::join_all((0..300).map(|_| guess())).await;
    assert!(guesses.iter().all(|answer| answer.status() == 403));
    assert_eq!(set_up(&server, &server.setup_code(), "rita@example.com").await.status(), 201);
}

#[tokio::test]
async fn the_code_is_that_of_the_secret_and_the_same_after_a_restart() {
    let server = Server::start().await;
    let first = server.setup_code();
    let server = server.restart().await;
    assert_eq!(server.setup_code(), first);
    let other = "another secret that is long enough to be one".to_owned();
    let server = server.restart_with(|settings| settings.auth.jwt_secret = Some(other.into())).await;
    assert_ne!(server.setup_code(), first);
}
