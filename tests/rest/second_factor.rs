//! The second factor: codes are those of a real authenticator app, at the time of the test's clock.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use members_book::{clock::ManualClock, config::Settings};
use protocol::{
    ErrorCode, Timestamp,
    rest::{AuditPage, AuthResponse, SecondFactor, SecondFactorEnabled},
};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{code, fields};
use crate::harness::{
    Member, Server,
    authenticator::{Authenticator, begin, enable, turn_on},
    eventually,
    smtp::{How, MailServer},
    within,
};

pub(super) const START: Timestamp = Timestamp::from_millis(1_795_370_633_000);
const HALF_A_MINUTE: Duration = Duration::from_secs(30);
const PATH: &str = "/api/members/me/second-factor";

/// A server behind a proxy, with access tokens that live for as long as a test.
pub(super) async fn server(clock: &ManualClock, change: impl FnOnce(&mut Settings)) -> Server {
    let change = |settings: &mut Settings| {
        settings.listen.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        settings.auth.access_token_ttl = Duration::from_secs(86_400);
        change(settings);
    };
    Server::at(clock, change).await
}

/// Logs in from an address.
async fn log_in_from(server: &Server, from: &str, body: &Value) -> Response {
    let request = server.http().post(server.url("/api/auth/login")).header("x-forwarded-for", from);
    within("login", request.json(body).send()).await.unwrap()
}

/// A login of a member with a code, or without one.
fn login(member: &Member, second_factor: Option<&str>) -> Value {
    let mut body = json!({ "email": member.auth.member.email, "password": member.password });
    if let Some(code) = second_factor {
        body["second_factor"] = json!(code);
    }
    body
}

pub(super) async fn log_in(server: &Server, member: &Member, second_factor: Option<&str>) -> Response {
    log_in_from(server, "192.0.2.9", &login(member, second_factor)).await
}

pub(super) async fn state(member: &Member) -> SecondFactor {
    let asked = member.request(Method::GET, PATH, Value::Null).await;
    assert_eq!(asked.status(), 200);
    asked.json().await.unwrap()
}

pub(super) async fn post(member: &Member, path: &str, body: Value) -> Response {
    member.request(Method::POST, path, body).await
}

async fn confirm(member: &Member, enrolment: &str, code: &str) -> Response {
    post(member, &format!("{PATH}/confirm"), json!({ "enrolment": enrolment, "code": code })).await
}

/// What the audit log has, the newest entries first.
pub(super) async fn actions(admin: &Member) -> Vec<String> {
    let page = admin.request(Method::GET, "/api/admin/audit", Value::Null).await;
    let page: AuditPage = page.json().await.unwrap();
    page.entries.iter().map(|entry| entry.action.as_str().to_owned()).collect()
}

/// Found by an attacker: what somebody had begun while they could became good again once the owner had turned it off.
#[tokio::test]
async fn what_was_begun_before_it_was_turned_off_is_good_no_more() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let mut ana = server.member("Ana").await;
    let begun = begin(&ana).await;
    let theirs = Authenticator::scan(&begun, &clock);
    let (_, recovery) = turn_on(&mut ana, &clock).await;
    let body = json!({ "code": recovery[0], "password": ana.password });
    assert_eq!(post(&ana, &format!("{PATH}/disable"), body).await.status(), 204);
    clock.advance(HALF_A_MINUTE);
    assert_eq!(fields(confirm(&ana, &begun.enrolment, &theirs.code()).await).await, ["enrolment"]);
    let again = begin(&ana).await;
    let app = Authenticator::scan(&again, &clock);
    assert_eq!(confirm(&ana, &again.enrolment, &app.code()).await.status(), 200);
}

#[tokio::test]
async fn it_is_turned_on_with_a_code_and_asked_for_at_the_login() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let (mut ana, ben) = server.two_members().await;
    assert_eq!(
        state(&ana).await,
        SecondFactor { enabled: false, enabled_at: None, recovery_codes_left: 0, required: false }
    );
    assert_eq!(fields(post(&ana, PATH, json!({ "password": "not this one" })).await).await, ["password"]);
    let enrolment = begin(&ana).await;
    let picture = STANDARD.decode(enrolment.qr.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
    assert!(picture.starts_with(b"\x89PNG\r\n") && enrolment.uri.contains("issuer=members-book"), "{}", enrolment.uri);
    assert_eq!(enrolment.expires_at, START.after(Duration::from_secs(600)));
    let app = Authenticator::scan(&enrolment, &clock);
    assert_eq!(fields(confirm(&ana, &enrolment.enrolment, &app.wrong()).await).await, ["code"]);
    assert_eq!(fields(confirm(&ana, "made up", &app.code()).await).await, ["enrolment"]);
    assert_eq!(fields(confirm(&ben, &enrolment.enrolment, &app.code()).await).await, ["enrolment"], "another member's");
    assert_eq!(log_in(&server, &ana, None).await.status(), 200, "nothing is stored yet");
    clock.advance(Duration::from_secs(600));
    assert_eq!(fields(confirm(&ana, &enrolment.enrolment, &app.code()).await).await, ["enrolment"], "too late");

    let (app, recovery) = turn_on(&mut ana, &clock).await;
    let distinct: std::collections::HashSet<_> = recovery.iter().collect();
    assert!(distinct.len() == 10 && recovery.iter().all(|code| code.len() == 19), "{recovery:?}");
    let on = state(&ana).await;
    assert_eq!((on.enabled, on.recovery_codes_left), (true, 10));
    assert_eq!(code(post(&ana, PATH, json!({ "password": ana.password })).await).await, ErrorCode::SecondFactorEnabled);

    assert_eq!(code(log_in(&server, &ana, None).await).await, ErrorCode::SecondFactorRequired);
    assert_eq!(code(log_in(&server, &ana, Some("  ")).await).await, ErrorCode::SecondFactorRequired);
    assert_eq!(
        code(log_in(&server, &ana, Some(&app.code())).await).await,
        ErrorCode::SecondFactorInvalid,
        "it confirmed"
    );
    clock.advance(HALF_A_MINUTE);
    let right = app.code();
    let mut wrong = login(&ana, Some(&right));
    wrong["password"] = json!("not this one");
    assert_eq!(code(log_in_from(&server, "192.0.2.9", &wrong).await).await, ErrorCode::InvalidCredentials);
    wrong["email"] = json!("nobody@example.com");
    assert_eq!(code(log_in_from(&server, "192.0.2.9", &wrong).await).await, ErrorCode::InvalidCredentials);
    assert_eq!(code(log_in(&server, &ana, Some(&app.wrong())).await).await, ErrorCode::SecondFactorInvalid);
    let spaced = format!("{} {}", &right[..3], &right[3..]);
    assert_eq!(log_in(&server, &ana, Some(&spaced)).await.status(), 200);
    assert_eq!(code(log_in(&server, &ana, Some(&right)).await).await, ErrorCode::SecondFactorInvalid, "it is used");
    // The next one is good, of an app whose clock is ahead too; and what an app showed too long ago is not.
    assert_eq!(log_in(&server, &ana, Some(&app.code_after(1))).await.status(), 200);
    let old = app.code_after(2);
    clock.advance(Duration::from_secs(120));
    assert_eq!(code(log_in(&server, &ana, Some(&old)).await).await, ErrorCode::SecondFactorInvalid);
    assert_eq!(log_in(&server, &ben, Some("492039")).await.status(), 200, "who has none is asked for none");
    assert_eq!(server.metric(r#"second_factor_codes_total{result="app"}"#).await, 2.0);
}

#[tokio::test]
async fn of_many_logins_with_one_code_one_succeeds() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let mut ana = server.member("Ana").await;
    let (app, recovery) = turn_on(&mut ana, &clock).await;
    clock.advance(HALF_A_MINUTE);
    for typed in [app.code(), recovery[0].clone()] {
        // Those of both rounds that are wrong are no more than may be tried at once.
        let all = join_all((0..5).map(|_| log_in(&server, &ana, Some(&typed)))).await;
        let mut statuses: Vec<u16> = all.iter().map(|answer| answer.status().as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401, 401, 401, 401], "{typed}");
    }
}

#[tokio::test]
async fn a_recovery_code_is_good_once_and_until_it_is_replaced() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let (mut ana, admin) = (server.member("Ana").await, server.admin().await);
    let (app, recovery) = turn_on(&mut ana, &clock).await;
    let typed = recovery[3].to_lowercase().replace('-', "");
    assert_eq!(log_in(&server, &ana, Some(&typed)).await.status(), 200);
    assert_eq!(code(log_in(&server, &ana, Some(&recovery[3])).await).await, ErrorCode::SecondFactorInvalid);
    assert_eq!(state(&ana).await.recovery_codes_left, 9);
    let replace = format!("{PATH}/recovery-codes");
    assert_eq!(fields(post(&ana, &replace, json!({ "code": app.code() })).await).await, ["code"], "it confirmed");
    clock.advance(HALF_A_MINUTE);
    let replaced: Value = post(&ana, &replace, json!({ "code": app.code() })).await.json().await.unwrap();
    assert_eq!(state(&ana).await.recovery_codes_left, 10);
    assert_eq!(code(log_in(&server, &ana, Some(&recovery[4])).await).await, ErrorCode::SecondFactorInvalid);
    let new = replaced["recovery_codes"][9].as_str().unwrap();
    // In place of a code of the app, everywhere.
    assert_eq!(post(&ana, &replace, json!({ "code": new })).await.status(), 200);
    assert_eq!(code(log_in(&server, &ana, Some(new)).await).await, ErrorCode::SecondFactorInvalid);
    let expected =
        ["recovery_codes_replaced", "recovery_codes_replaced", "recovery_code_used", "second_factor_enabled"];
    let mut actions = actions(&admin).await;
    // Written on the command line, by another clock.
    actions.retain(|action| action != "role_changed");
    assert_eq!(actions[..4], expected);
}

#[tokio::test]
async fn whoever_knows_the_password_guesses_no_more_codes_than_passwords_and_keeps_no_device_out() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let mut ana = server.member("Ana").await;
    let (app, SecondFactorEnabled { device_proof, .. }) = enable(&mut ana, &clock).await;
    clock.advance(HALF_A_MINUTE);
    // The right password alone spends nothing, and gives nothing back.
    let mut wrong_password = login(&ana, None);
    wrong_password["password"] = json!("not this one");
    for number in 0..9 {
        let from = format!("198.51.100.{number}");
        assert_eq!(code(log_in_from(&server, &from, &wrong_password).await).await, ErrorCode::InvalidCredentials);
        for _ in 0..2 {
            let asked = log_in_from(&server, &from, &login(&ana, None)).await;
            assert_eq!(code(asked).await, ErrorCode::SecondFactorRequired);
        }
    }
    for number in 0..10 {
        let from = format!("198.51.100.{number}");
        let refused = log_in_from(&server, &from, &login(&ana, Some(&app.wrong()))).await;
        assert_eq!(code(refused).await, ErrorCode::SecondFactorInvalid);
    }
    let right = login(&ana, Some(&app.code()));
    let limited = log_in_from(&server, "198.51.100.99", &right).await;
    assert!(limited.status() == 429 && limited.headers().contains_key("retry-after"), "a stranger has to wait");
    assert_eq!(code(log_in_from(&server, "198.51.100.98", &wrong_password).await).await, ErrorCode::InvalidCredentials);
    assert_eq!(log_in_from(&server, "198.51.100.98", &wrong_password).await.status(), 429, "of passwords as ever");
    let mut own = right;
    own["device_proof"] = json!(device_proof);
    let own: AuthResponse = log_in_from(&server, "198.51.100.97", &own).await.json().await.unwrap();
    assert_eq!(own.member.id, ana.id);
    // That device has as many, and a code that is good gives them back.
    let with_proof = |typed: &str| {
        let mut body = login(&ana, Some(typed));
        body["device_proof"] = json!(device_proof);
        body
    };
    for _ in 0..2 {
        for _ in 0..9 {
            let refused = log_in_from(&server, "198.51.100.97", &with_proof(&app.wrong())).await;
            assert_eq!(code(refused).await, ErrorCode::SecondFactorInvalid);
        }
        clock.advance(HALF_A_MINUTE);
        assert_eq!(log_in_from(&server, "198.51.100.97", &with_proof(&app.code())).await.status(), 200);
    }
}

#[tokio::test]
async fn after_a_rotation_of_the_secret_codes_are_good_and_without_its_key_recovery_codes_are() {
    let clock = ManualClock::at(START);
    let secret = |name: &str| Some(format!("the secret {name} that is long enough").into());
    let server = server(&clock, |settings| settings.auth.jwt_secret = secret("one")).await;
    let mut ana = server.member("Ana").await;
    let (app, recovery) = turn_on(&mut ana, &clock).await;
    let server = server
        .restart_at(&clock, |settings| {
            settings.auth.jwt_secret_previous = settings.auth.jwt_secret.take().into_iter().collect();
            settings.auth.jwt_secret = secret("two");
        })
        .await;
    clock.advance(HALF_A_MINUTE);
    assert_eq!(log_in(&server, &ana, Some(&app.code())).await.status(), 200);
    // It was sealed anew: the former secret is not needed any more.
    let server = server.restart_at(&clock, |settings| settings.auth.jwt_secret_previous.clear()).await;
    clock.advance(HALF_A_MINUTE);
    assert_eq!(log_in(&server, &ana, Some(&app.code())).await.status(), 200);
    let server = server.restart_at(&clock, |settings| settings.auth.jwt_secret = secret("three")).await;
    clock.advance(HALF_A_MINUTE);
    assert_eq!(code(log_in(&server, &ana, Some(&app.code())).await).await, ErrorCode::SecondFactorInvalid);
    assert_eq!(log_in(&server, &ana, Some(&recovery[0])).await.status(), 200);
}

#[tokio::test]
async fn it_is_turned_off_with_a_code_and_the_password() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let mut ana = server.member("Ana").await;
    let disable = async |ana: &Member, code: &str, password: &str| {
        post(ana, &format!("{PATH}/disable"), json!({ "code": code, "password": password })).await
    };
    assert_eq!(fields(disable(&ana, "492039", &ana.password).await).await, ["code"], "there is none");
    let (app, _) = turn_on(&mut ana, &clock).await;
    clock.advance(HALF_A_MINUTE);
    let right = app.code();
    assert_eq!(fields(disable(&ana, &right, "not this one").await).await, ["password"]);
    assert_eq!(fields(disable(&ana, &app.wrong(), &ana.password).await).await, ["code"]);
    assert_eq!(disable(&ana, &right, &ana.password).await.status(), 204);
    assert_eq!(log_in(&server, &ana, None).await.status(), 200);
    assert!(!state(&ana).await.enabled);
    // Another one has other codes.
    let (other, _) = turn_on(&mut ana, &clock).await;
    clock.advance(HALF_A_MINUTE);
    assert_eq!(code(log_in(&server, &ana, Some(&app.code())).await).await, ErrorCode::SecondFactorInvalid);
    assert_eq!(log_in(&server, &ana, Some(&other.code())).await.status(), 200);
    // Whoever has a session guesses neither a code nor the password with it: some were wrong above, and right ones cost nothing.
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(disable(&ana, &other.wrong(), &ana.password).await.status().as_u16());
    }
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
}

#[tokio::test]
async fn a_member_is_told_by_mail_and_a_new_password_leaves_it_on() {
    let clock = ManualClock::at(START);
    let mail = MailServer::start(How::StartTls).await;
    let server = server(&clock, |_| ()).await;
    let ana = server.member("Ana").await;
    let server = server.restart_at(&clock, |settings| mail.set(settings)).await;
    let mut ana = ana.at(server.addr());
    let (app, recovery) = turn_on(&mut ana, &clock).await;
    let told = async |subject: &str| {
        eventually(subject, async || mail.all().into_iter().find(|mail| mail.subject == subject)).await
    };
    told("Your second factor is on").await;
    assert_eq!(log_in(&server, &ana, Some(&recovery[0])).await.status(), 200);
    let used = told("A recovery code was used").await;
    assert!(used.body.contains("left is 9."), "{}", used.body);
    let replace = json!({ "code": recovery[1] });
    assert_eq!(post(&ana, &format!("{PATH}/recovery-codes"), replace).await.status(), 200);
    told("Your recovery codes were replaced").await;

    let forgot = server.http().post(server.url("/api/auth/password/forgot"));
    let forgot = forgot.json(&json!({ "email": ana.auth.member.email })).send();
    assert_eq!(within("forgot", forgot).await.unwrap().status(), 202);
    // It is looked up a moment later who has the address.
    clock.advance(Duration::from_secs(3));
    let reset =
        json!({ "token": told("Choose a new password").await.token(), "new_password": "correct horse battery" });
    let reset = server.http().post(server.url("/api/auth/password/reset")).json(&reset).send();
    assert_eq!(within("reset", reset).await.unwrap().status(), 200);
    told("Your password was reset").await;
    let mut ana = ana;
    ana.password = "correct horse battery".to_owned();
    assert_eq!(code(log_in(&server, &ana, None).await).await, ErrorCode::SecondFactorRequired);
    clock.advance(HALF_A_MINUTE);
    let again: AuthResponse = log_in(&server, &ana, Some(&app.code())).await.json().await.unwrap();
    let ana = ana.with(again);
    clock.advance(HALF_A_MINUTE);
    let off = json!({ "code": app.code(), "password": ana.password });
    assert_eq!(post(&ana, &format!("{PATH}/disable"), off).await.status(), 204);
    told("Your second factor is off").await;
}

#[tokio::test]
async fn the_export_says_since_when_there_is_one_and_no_secret() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let (mut ana, ben) = server.two_members().await;
    let (_, recovery) = turn_on(&mut ana, &clock).await;
    let export = async |who: &Member| {
        let text = who.request(Method::GET, "/api/members/me/export", Value::Null).await.text().await.unwrap();
        (serde_json::from_str::<Value>(&text).unwrap()["second_factor"].clone(), text)
    };
    let (factor, text) = export(&ana).await;
    assert_eq!(factor, json!({ "enabled_at": START, "recovery_codes_left": 10 }));
    assert!(!text.contains(&recovery[0]));
    assert_eq!(export(&ben).await.0, Value::Null);
    // Nothing of it is on the own record.
    let own = ana.request(Method::GET, "/api/members/me", Value::Null).await.text().await.unwrap();
    assert!(!own.contains("second_factor") && !own.contains("recovery"), "{own}");
}

/// Found by an attacker: whoever knew the password, at a device that was signed in, took the account with another address.
#[tokio::test]
async fn another_address_takes_a_code() {
    let clock = ManualClock::at(START);
    let mail = MailServer::start(How::Plain).await;
    let server = server(&clock, |_| ()).await;
    let mut ana = server.member("Ana").await;
    let (app, recovery) = turn_on(&mut ana, &clock).await;
    clock.advance(HALF_A_MINUTE);
    let server = server.restart_at(&clock, |settings| mail.set(settings)).await;
    let ana = ana.at(server.addr());
    let ask = async |code: Value| {
        let body = json!({ "email": "new@example.com", "password": ana.password, "code": code });
        post(&ana, "/api/members/me/email", body).await
    };
    for code in [Value::Null, json!(" "), json!(app.wrong())] {
        assert_eq!(fields(ask(code).await).await, ["code"]);
    }
    let code = app.code();
    assert_eq!(ask(json!(code)).await.status(), 202);
    assert_eq!(fields(ask(json!(code)).await).await, ["code"], "it is used up");
    assert_eq!(ask(json!(recovery[0])).await.status(), 202);
    assert_eq!(state(&ana).await.recovery_codes_left, 9);
}
