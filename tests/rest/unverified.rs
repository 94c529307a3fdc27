//! Who has registered and has not shown yet that the address is theirs.

use std::time::Duration;

use members_book::{clock::ManualClock, config::Settings};
use protocol::{ErrorCode, Timestamp, rest::AuthResponse};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{
    code, fields,
    mail::{PASSWORD, forgot, log_in, outcome, post, register, reset, verify},
};
use crate::harness::{
    Member, Server,
    smtp::{How, MailServer},
};

/// Follows a link without the password of the registration.
async fn follow(server: &Server, token: &str) -> Response {
    post(server, "/api/auth/email/verify", json!({ "token": token })).await
}

/// Found by reading: whoever registered somebody else's address had five links an hour sent there, for ever.
#[tokio::test]
async fn an_address_that_nobody_has_shown_to_be_theirs_gets_three_mails_a_day() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    mail.mail(0).await;
    assert_eq!(code(log_in(&server, "ana@example.com", PASSWORD).await).await, ErrorCode::InvalidCredentials);
    mail.mail(1).await;
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    assert_eq!(mail.mail(2).await.subject, "Choose a new password", "there is nobody yet who could log in");
    for number in 1..4 {
        assert_eq!(code(log_in(&server, "ana@example.com", PASSWORD).await).await, ErrorCode::InvalidCredentials);
        assert_eq!(register(&server, "ana@example.com").await.status(), 202);
        outcome(&server, "address_taken", "resolved", f64::from(number + 1)).await;
        assert_eq!(forgot(&server, "ana@example.com").await.status(), 202);
        outcome(&server, "forgot_password", "resolved", f64::from(number)).await;
    }
    assert_eq!(mail.count(), 3);
    assert_eq!(verify(&server, &mail.mail(1).await.token()).await.status(), 204, "the newest that was sent is good");
}

/// Found by an attacker: three requests of a stranger, and the one whose address it was got no link all day.
#[tokio::test]
async fn a_stranger_does_not_use_up_the_links_of_the_owner_of_an_address() {
    let mail = MailServer::start(How::Plain).await;
    let clock = ManualClock::at(Timestamp::from_millis(1_800_000_000_000));
    let behind_a_proxy = |settings: &mut Settings| {
        mail.set(settings);
        settings.listen.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    };
    let server = Server::at(&clock, behind_a_proxy).await;
    let ask = async |from: &str, path: &str, body: Value| {
        let request = server.http().post(server.url(path)).header("x-forwarded-for", from);
        request.json(&body).send().await.unwrap().status().as_u16()
    };
    let email = "ana@example.com";
    let forgot = async |from: &str| ask(from, "/api/auth/password/forgot", json!({ "email": email })).await;
    let body = json!({ "name": "Ana", "email": email, "password": PASSWORD });
    assert_eq!(ask("198.51.100.1", "/api/auth/register", body).await, 202);
    mail.mail(0).await;
    let body = json!({ "email": email, "password": PASSWORD });
    assert_eq!(ask("198.51.100.2", "/api/auth/login", body).await, 401);
    mail.mail(1).await;
    for number in 1..4_u8 {
        assert_eq!(forgot("198.51.100.3").await, 202);
        clock.advance(Duration::from_secs(3));
        outcome(&server, "forgot_password", "resolved", f64::from(number)).await;
        mail.mail(2).await;
        clock.advance(Duration::from_secs(25 * 60));
    }
    assert_eq!(mail.count(), 3, "all of one network");
    assert_eq!(forgot("203.0.113.9").await, 202);
    clock.advance(Duration::from_secs(3));
    let token = mail.mail(3).await.token();
    assert_eq!(reset(&server, &token, "battery staple").await.status(), 200, "the owner is in");
}

/// Found by reading: nothing is theirs yet that administrators could see or end.
#[tokio::test]
async fn administrators_do_nothing_to_who_has_not_come_in() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::start().await;
    let admin = server.admin().await;
    let server = server.restart_with(|settings| mail.set(settings)).await;
    let admin = admin.at(server.addr());
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    let listed = admin.request(Method::GET, "/api/admin/members?status=unverified", Value::Null).await;
    let ana = listed.json::<Value>().await.unwrap()["members"][0]["_id"].as_str().unwrap().to_owned();
    let path = |what: &str| format!("/api/admin/members/{ana}/{what}");
    for (method, what, body) in [
        (Method::GET, "sessions", Value::Null),
        (Method::DELETE, "sessions", Value::Null),
        (Method::POST, "disconnect", Value::Null),
        (Method::DELETE, "second-factor", Value::Null),
        (Method::PUT, "tier", json!({ "tier": "Infinity" })),
        (Method::PUT, "role", json!({ "user_type": "admin" })),
        (Method::PUT, "suspension", json!({ "until": "2027-06-01T00:00:00Z" })),
        (Method::DELETE, "suspension", Value::Null),
        (Method::POST, "approve", Value::Null),
    ] {
        let answer = admin.request(method, &path(what), body).await;
        assert_eq!(code(answer).await, ErrorCode::MemberNotFound, "{what}");
    }
    let profile = admin.request(Method::GET, &format!("/api/members/{ana}"), Value::Null).await;
    assert_eq!(code(profile).await, ErrorCode::MemberNotFound);
}

/// Found by reading: whoever confirmed their address, because the club asked for it, let in who had registered with it.
#[tokio::test]
async fn who_reads_the_mail_does_not_approve_of_who_has_registered_with_their_address() {
    let mail = MailServer::start(How::StartTls).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    // By somebody who knows the address, with a password of their own.
    assert_eq!(register(&server, "ben@example.com").await.status(), 202);
    let first = mail.mail(0).await;
    assert!(first.body.contains("If you did not register, do nothing"), "{}", first.body);
    for refused in [
        follow(&server, &first.token()).await,
        post(&server, "/api/auth/email/verify", json!({ "token": first.token(), "password": null })).await,
        post(&server, "/api/auth/email/verify", json!({ "token": first.token(), "password": "" })).await,
        post(&server, "/api/auth/email/verify", json!({ "token": first.token(), "password": "mine" })).await,
    ] {
        assert_eq!(fields(refused).await, ["password"]);
    }
    assert_eq!(code(log_in(&server, "ben@example.com", PASSWORD).await).await, ErrorCode::InvalidCredentials);
    mail.mail(1).await;
    // The one whose address it is takes the account over.
    assert_eq!(forgot(&server, "ben@example.com").await.status(), 202);
    let token = mail.mail(2).await.token();
    assert_eq!(reset(&server, &token, "battery staple").await.status(), 200);
    assert_eq!(code(log_in(&server, "ben@example.com", PASSWORD).await).await, ErrorCode::InvalidCredentials);
    let ben = log_in(&server, "ben@example.com", "battery staple").await;
    assert_eq!(ben.status(), 200);
    let ben: AuthResponse = ben.json().await.unwrap();
    assert!(ben.member.email_verified_at.is_some());
}

#[tokio::test]
async fn who_has_a_link_guesses_so_often_and_no_more_and_the_link_stays_good() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::with(|settings| mail.set(settings)).await;
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    let token = mail.mail(0).await.token();
    let guess = async |password: &str| {
        post(&server, "/api/auth/email/verify", json!({ "token": token, "password": password })).await
    };
    for number in 0..10 {
        assert_eq!(fields(guess(&format!("guess {number}")).await).await, ["password"]);
    }
    let refused = guess("one more").await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(code(refused).await, ErrorCode::RateLimited);
    // An attempt to log in sends the same link again, with the same tries; a new password needs none.
    assert_eq!(code(log_in(&server, "ana@example.com", PASSWORD).await).await, ErrorCode::InvalidCredentials);
    assert_eq!(mail.mail(1).await.token(), token);
    assert_eq!(forgot(&server, "ana@example.com").await.status(), 202);
    assert_eq!(reset(&server, &mail.mail(2).await.token(), "battery staple").await.status(), 200);
    assert_eq!(log_in(&server, "ana@example.com", "battery staple").await.status(), 200);
}

/// Found by reading: a stranger put a name of their choice into everybody's directory without having read a mail.
#[tokio::test]
async fn who_has_not_verified_the_address_is_nowhere_but_where_administrators_ask_for_them() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::start().await;
    let (admin, ben) = (server.admin().await, server.member("Ben").await);
    let server = server.restart_with(|settings| mail.set(settings)).await;
    let (admin, ben) = (admin.at(server.addr()), ben.at(server.addr()));
    let get = async |who: &Member, path: &str| -> Value {
        who.request(Method::GET, path, Value::Null).await.json().await.unwrap()
    };
    let names = |page: &Value| -> Vec<String> {
        let members = page["members"].as_array().unwrap().iter();
        members.map(|member| member["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(register(&server, "ana@example.com").await.status(), 202);
    let token = mail.mail(0).await.token();
    let unverified = get(&admin, "/api/admin/members?status=unverified").await;
    assert_eq!(
        (names(&unverified), &unverified["members"][0]["status"]),
        (vec!["Ana".to_owned()], &json!("unverified"))
    );
    let ana = unverified["members"][0]["_id"].as_str().unwrap().to_owned();
    assert!(!names(&get(&ben, "/api/members").await).contains(&"Ana".to_owned()));
    assert!(!names(&get(&admin, "/api/admin/members").await).contains(&"Ana".to_owned()));
    assert_eq!(get(&ben, "/api/members/search?q=ana").await["members"], json!([]));
    let profile = ben.request(Method::GET, &format!("/api/members/{ana}"), Value::Null).await;
    assert_eq!(code(profile).await, ErrorCode::MemberNotFound);
    let message = json!({ "receiver_id": ana, "content": "hello", "client_id": crate::harness::client_id() });
    assert_eq!(code(ben.request(Method::POST, "/api/messages", message).await).await, ErrorCode::MemberNotFound);
    let path = format!("/api/admin/members/{ana}/active");
    let changed = admin.request(Method::PUT, &path, json!({ "is_active": true })).await;
    assert_eq!(code(changed).await, ErrorCode::MemberNotFound, "nobody vouches for an address but who reads its mail");
    assert_eq!(get(&admin, "/api/admin/stats").await["store"]["members"], 2);
    assert_eq!(verify(&server, &token).await.status(), 204);
    assert!(names(&get(&ben, "/api/members").await).contains(&"Ana".to_owned()));
    assert_eq!(names(&get(&ben, "/api/members/search?q=ana").await), ["Ana"]);
}

#[tokio::test]
async fn whether_an_address_was_taken_is_not_told_by_the_uses_of_an_invitation() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::start().await;
    let (admin, ben) = (server.admin().await, server.member("Ben").await);
    let server = server.restart_with(|settings| mail.set(settings)).await;
    let admin = admin.at(server.addr());
    for email in [ben.auth.member.email.as_str(), "ana@example.com"] {
        let made: Value = admin.request(Method::POST, "/api/invitations", json!({})).await.json().await.unwrap();
        let body = json!({ "name": "Ana", "email": email, "password": PASSWORD, "invitation": made["code"] });
        assert_eq!(post(&server, "/api/auth/register", body).await.status(), 202);
        let checked = post(&server, "/api/invitations/check", json!({ "code": made["code"] })).await;
        assert_eq!(code(checked).await, ErrorCode::InvitationInvalid, "{email}");
    }
}
