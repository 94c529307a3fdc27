//! Passwords: which are refused, and changing one.

use std::time::Duration;

use members_book::clock::ManualClock;
use protocol::{
    CloseCode, ErrorCode, Timestamp,
    rest::{AuditPage, AuthResponse},
};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{code, fields, problem};
use crate::harness::{Member, Server};

async fn change(member: &Member, current: &str, new: &str) -> Response {
    let body = json!({ "current_password": current, "new_password": new });
    member.request(Method::PUT, "/api/members/me/password", body).await
}

async fn log_in(server: &Server, member: &Member, password: &str) -> Response {
    let body = json!({ "email": member.auth.member.email, "password": password });
    server.http().post(server.url("/api/auth/login")).json(&body).send().await.unwrap()
}

#[tokio::test]
async fn what_everybody_guesses_is_no_password() {
    let server = Server::start().await;
    for password in ["Password123", "iloveyou", "ana@example.com", "Ana Lima"] {
        let body = json!({ "name": "Ana Lima", "email": "ana@example.com", "password": password });
        let refused = server.http().post(server.url("/api/auth/register")).json(&body).send().await.unwrap();
        assert_eq!(
            (refused.status().as_u16(), fields(refused).await),
            (422, vec!["password".to_owned()]),
            "{password}"
        );
    }
    let ana = server.member("Ana Lima").await;
    let refused = change(&ana, &ana.password, "qwertyuiop").await;
    assert_eq!(fields(refused).await, ["new_password"]);
    assert_eq!(log_in(&server, &ana, &ana.password).await.status(), 200);
}

#[tokio::test]
async fn a_changed_password_ends_every_other_session() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ana = server.member("Ana").await;
    let tablet = ana.log_in().await;
    let mut there = tablet.connect_as("tablet", None).await;
    assert_eq!(fields(change(&ana, "not this one", "battery staple").await).await, ["current_password"]);
    assert_eq!(change(&ana, &ana.password, "battery staple").await.status(), 200);
    assert_eq!(there.close_code().await, Some(CloseCode::Unauthorized.number()));
    assert_eq!(code(tablet.refresh().await).await, ErrorCode::RefreshTokenInvalid);
    assert_eq!(
        code(tablet.request(Method::GET, "/api/members/me", Value::Null).await).await,
        ErrorCode::SessionRevoked
    );
    assert_eq!(code(log_in(&server, &ana, &ana.password).await).await, ErrorCode::InvalidCredentials);
    assert_eq!(log_in(&server, &ana, "battery staple").await.status(), 200);
    let audit: AuditPage = admin.request(Method::GET, "/api/admin/audit", Value::Null).await.json().await.unwrap();
    let newest = audit.entries.first().unwrap();
    assert_eq!((newest.action.as_str(), newest.target_id), ("password_changed", Some(ana.id)));
}

/// Found by an attacker: whoever had copied the tokens of the session in which the password was changed stayed in with them.
#[tokio::test]
async fn here_everything_goes_on_with_other_tokens() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let mut open = ana.connect().await;
    let changed = change(&ana, &ana.password, "battery staple").await;
    assert_eq!(changed.status(), 200);
    let auth: AuthResponse = changed.json().await.unwrap();
    assert!(auth.device_proof.is_some());
    assert_eq!(open.close_code().await, Some(CloseCode::Disconnected.number()), "to come back with the new ones");
    let mine = async |member: &Member| {
        let answer = member.request(Method::GET, "/api/members/me/sessions", Value::Null).await;
        (answer.status() == 200).then_some(answer)
    };
    // Whoever has the former ones is asked to refresh, and cannot; nor does the session end by it.
    let refused = ana.request(Method::GET, "/api/members/me", Value::Null).await;
    assert_eq!(code(refused).await, ErrorCode::TokenExpired);
    for _ in 0..2 {
        assert_eq!(code(ana.refresh().await).await, ErrorCode::RefreshTokenInvalid);
    }
    let mut here = Member::of(&server, auth, "battery staple");
    let sessions: Value = mine(&here).await.unwrap().json().await.unwrap();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1, "the session is the same");
    here.connect().await.ping().await;
    let refreshed = here.refresh().await;
    assert_eq!(refreshed.status(), 200);
    assert!(mine(&here).await.is_some(), "as after any refresh");
    here.auth = refreshed.json().await.unwrap();
    assert!(mine(&here).await.is_some());
    // So it is when the answer was lost: the member logs in with the new password.
    assert_eq!(log_in(&server, &ana, "battery staple").await.status(), 200);
}

#[tokio::test]
async fn whoever_has_taken_a_session_over_does_not_find_the_password_out() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    for guess in 0..10 {
        let refused = problem(change(&ana, &format!("guess {guess}"), "battery staple").await).await;
        assert_eq!(refused.errors[0].message, "this is not your present password");
    }
    assert_eq!(code(change(&ana, &ana.password, "battery staple").await).await, ErrorCode::RateLimited);
}

/// Found by an attacker: who knew the password had three sessions use up what all sessions of the member had, and its owner could not change it.
#[tokio::test]
async fn who_knows_the_password_does_not_keep_its_member_from_changing_it() {
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_120));
    let server = Server::at(&clock, |_| {}).await;
    let mut ana = server.member("Ana").await;
    let device_proof = ana.auth.device_proof.clone();
    clock.advance(Duration::from_secs(86_400));
    ana.auth = ana.refresh().await.json().await.unwrap();
    let body = json!({ "email": ana.auth.member.email, "password": ana.password, "device_proof": device_proof });
    let proof = server.http().post(server.url("/api/auth/login"));
    let known = async || ana.with(proof.try_clone().unwrap().json(&body).send().await.unwrap().json().await.unwrap());
    let thief = async || {
        let auth: AuthResponse = log_in(&server, &ana, &ana.password).await.json().await.unwrap();
        ana.with(auth)
    };
    for _ in 0..3 {
        let thief = thief().await;
        for _ in 0..10 {
            assert_eq!(fields(change(&thief, "not this one", "battery staple").await).await, ["current_password"]);
        }
        assert_eq!(code(change(&thief, &ana.password, "battery staple").await).await, ErrorCode::RateLimited);
    }
    assert_eq!(code(change(&thief().await, &ana.password, "battery staple").await).await, ErrorCode::RateLimited);
    // Wherever its member was before: on a device that has been signed in for a day, and on one that proves that it was.
    let refused = change(&ana, "not this one", "battery staple").await;
    assert_eq!(fields(refused).await, ["current_password"]);
    assert_eq!(change(&known().await, &ana.password, "battery staple").await.status(), 200);
}

#[tokio::test]
async fn a_right_password_is_not_counted() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    for _ in 0..12 {
        let begun = ana.request(Method::POST, "/api/members/me/second-factor", json!({ "password": ana.password }));
        assert_eq!(begun.await.status(), 200);
    }
}

/// Found by an attacker: sessions of one device had an allowance each, so that one login after the other tried on.
#[tokio::test]
async fn sessions_of_one_device_have_one_allowance() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let body =
        json!({ "email": ana.auth.member.email, "password": ana.password, "device_proof": ana.auth.device_proof });
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let login = server.http().post(server.url("/api/auth/login")).json(&body).send().await.unwrap();
        let here = ana.with(login.json().await.unwrap());
        for _ in 0..6 {
            statuses.push(change(&here, "not this one", "battery staple").await.status().as_u16());
        }
    }
    assert_eq!(statuses, [[422; 10].as_slice(), &[429; 2]].concat());
}

/// Two at the same moment that were both made for the present password: one of them is the new one, and the other is told so.
#[tokio::test]
async fn of_two_changes_at_once_one_is_made() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let (one, other) =
        tokio::join!(change(&ana, &ana.password, "battery staple"), change(&ana, &ana.password, "staple battery"));
    let statuses = [one.status().as_u16(), other.status().as_u16()];
    assert!(statuses == [200, 422] || statuses == [422, 200], "{statuses:?}");
    let [new, refused] =
        if statuses[0] == 200 { ["battery staple", "staple battery"] } else { ["staple battery", "battery staple"] };
    assert_eq!(log_in(&server, &ana, new).await.status(), 200);
    assert_eq!(log_in(&server, &ana, refused).await.status(), 401);
}

/// Each of them hashes the password anew, and a hash that is replaced meanwhile is of the same password.
#[tokio::test]
async fn many_log_in_at_once_while_their_password_is_hashed_at_another_cost() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let server = server.restart_with(|settings| settings.auth.bcrypt_cost = 5).await;
    let logins = (0..8).map(|_| log_in(&server, &ana, &ana.password));
    for login in futures_util::future::join_all(logins).await {
        assert_eq!(login.status(), 200);
    }
}

/// Found by an attacker: ten wrong passwords in a session that was stolen kept its member from changing it on every other device.
#[tokio::test]
async fn a_session_has_tries_of_its_own_and_leaves_its_member_some() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let stolen = ana.log_in().await;
    for _ in 0..10 {
        assert_eq!(fields(change(&stolen, "a guess", "battery staple").await).await, ["current_password"]);
    }
    let limited = change(&stolen, &ana.password, "battery staple").await;
    assert!(limited.status() == 429 && limited.headers().contains_key("retry-after"));
    assert_eq!(change(&ana, &ana.password, "battery staple").await.status(), 200);
    assert_eq!(stolen.request(Method::GET, "/api/members/me", Value::Null).await.status(), 401);
}
