//! The second factor: codes are those of a real authenticator app, at the time of the test's clock.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use members_book::{
    clock::ManualClock,
    config::{Settings, values::SecondFactorPolicy},
};
use protocol::{
    CloseCode, ErrorCode, Timestamp,
    rest::{AuditPage, AuthResponse, SecondFactor},
};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{code, fields};
use crate::harness::{
    Member, Server,
    authenticator::{Authenticator, begin, turn_on},
    smtp::{How, MailServer},
    within,
};

const START: Timestamp = Timestamp::from_millis(1_795_370_633_000);
const HALF_A_MINUTE: Duration = Duration::from_secs(30);
const PATH: &str = "/api/members/me/second-factor";

/// A server behind a proxy, with access tokens that live for as long as a test.
async fn server(clock: &ManualClock, change: impl FnOnce(&mut Settings)) -> Server {
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

async fn log_in(server: &Server, member: &Member, second_factor: Option<&str>) -> Response {
    log_in_from(server, "192.0.2.9", &login(member, second_factor)).await
}

async fn state(member: &Member) -> SecondFactor {
    let asked = member.request(Method::GET, PATH, Value::Null).await;
    assert_eq!(asked.status(), 200);
    asked.json().await.unwrap()
}

async fn post(member: &Member, path: &str, body: Value) -> Response {
    member.request(Method::POST, path, body).await
}

async fn confirm(member: &Member, enrolment: &str, code: &str) -> Response {
    post(member, &format!("{PATH}/confirm"), json!({ "enrolment": enrolment, "code": code })).await
}

async fn step_up(member: &Member, body: Value) -> Response {
    post(member, "/api/auth/step-up", body).await
}

/// What the audit log has, the newest entries first.
async fn actions(admin: &Member) -> Vec<String> {
    let page = admin.request(Method::GET, "/api/admin/audit", Value::Null).await;
    let page: AuditPage = page.json().await.unwrap();
    page.entries.iter().map(|entry| entry.action.as_str().to_owned()).collect()
}

#[tokio::test]
async fn it_is_turned_on_with_a_code_and_asked_for_at_the_login() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let (ana, ben) = server.two_members().await;
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

    let (app, recovery) = turn_on(&ana, &clock).await;
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
    let ana = server.member("Ana").await;
    let (app, recovery) = turn_on(&ana, &clock).await;
    clock.advance(HALF_A_MINUTE);
    for typed in [app.code(), recovery[0].clone()] {
        let all = join_all((0..8).map(|_| log_in(&server, &ana, Some(&typed)))).await;
        let mut statuses: Vec<u16> = all.iter().map(|answer| answer.status().as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401, 401, 401, 401, 401, 401, 401], "{typed}");
    }
}

#[tokio::test]
async fn a_recovery_code_is_good_once_and_until_it_is_replaced() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let (ana, admin) = (server.member("Ana").await, server.admin().await);
    let (app, recovery) = turn_on(&ana, &clock).await;
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
    assert_eq!(actions(&admin).await[..4], expected);
}

#[tokio::test]
async fn whoever_knows_the_password_guesses_no_more_codes_than_passwords_and_keeps_no_device_out() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let ana = server.member("Ana").await;
    let (app, _) = turn_on(&ana, &clock).await;
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
    own["device_proof"] = json!(ana.auth.device_proof);
    let own: AuthResponse = log_in_from(&server, "198.51.100.97", &own).await.json().await.unwrap();
    assert_eq!(own.member.id, ana.id);
    // That device has as many, and a code that is good gives them back.
    let with_proof = |typed: &str| {
        let mut body = login(&ana, Some(typed));
        body["device_proof"] = json!(ana.auth.device_proof);
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
    let secret = |name: &str| Some(format!("{name}, which is long enough for a secret").into());
    let server = server(&clock, |settings| settings.auth.jwt_secret = secret("one")).await;
    let ana = server.member("Ana").await;
    let (app, recovery) = turn_on(&ana, &clock).await;
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
    let ana = server.member("Ana").await;
    let disable = async |code: &str, password: &str| {
        post(&ana, &format!("{PATH}/disable"), json!({ "code": code, "password": password })).await
    };
    assert_eq!(fields(disable("492039", &ana.password).await).await, ["code"], "there is none");
    let (app, _) = turn_on(&ana, &clock).await;
    clock.advance(HALF_A_MINUTE);
    let right = app.code();
    assert_eq!(fields(disable(&right, "not this one").await).await, ["password"]);
    assert_eq!(fields(disable(&app.wrong(), &ana.password).await).await, ["code"]);
    assert_eq!(disable(&right, &ana.password).await.status(), 204);
    assert_eq!(log_in(&server, &ana, None).await.status(), 200);
    assert!(!state(&ana).await.enabled);
    // Another one has other codes.
    let (other, _) = turn_on(&ana, &clock).await;
    clock.advance(HALF_A_MINUTE);
    assert_eq!(code(log_in(&server, &ana, Some(&app.code())).await).await, ErrorCode::SecondFactorInvalid);
    assert_eq!(log_in(&server, &ana, Some(&other.code())).await.status(), 200);
    // Whoever has a session guesses neither a code nor the password with it: three were tried above, and confirmed twice.
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(disable(&other.wrong(), &ana.password).await.status().as_u16());
    }
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
}

/// What needs a proof of the last 15 minutes, done to a member.
fn dangerous(member: &Member) -> [(Method, String, Value); 7] {
    let path = |what: &str| format!("/api/admin/members/{}/{what}", member.id);
    [
        (Method::PUT, path("role"), json!({ "user_type": "member" })),
        (Method::PUT, path("active"), json!({ "is_active": true })),
        (Method::PUT, path("suspension"), json!({ "until": "2027-01-01T00:00:00Z" })),
        (Method::DELETE, path("suspension"), Value::Null),
        (Method::DELETE, path("second-factor"), Value::Null),
        (Method::DELETE, path("sessions"), Value::Null),
        (Method::POST, path("reject"), Value::Null),
    ]
}

#[tokio::test]
async fn dangerous_administration_needs_a_proof_of_the_last_fifteen_minutes() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let (ana, admin) = (server.member("Ana").await, server.admin().await);
    let ask = async |admin: &Member| {
        let mut answers = Vec::new();
        for (method, path, body) in dangerous(&ana) {
            answers.push(admin.request(method, &path, body).await.status().as_u16());
        }
        answers
    };
    let allowed = [200, 200, 200, 200, 200, 204, 409];
    clock.advance(Duration::from_secs(15 * 60 - 1));
    assert_eq!(ask(&admin).await, allowed, "the login is a proof");
    clock.advance(Duration::from_secs(1));
    // A refresh is none.
    let refreshed: AuthResponse = admin.refresh().await.json().await.unwrap();
    let admin = admin.with(refreshed);
    assert_eq!(ask(&admin).await, [403; 7]);
    let (method, path, body) = dangerous(&ana)[0].clone();
    assert_eq!(code(admin.request(method, &path, body).await).await, ErrorCode::StepUpRequired);
    let tier = format!("/api/admin/members/{}/tier", ana.id);
    assert_eq!(admin.request(Method::PUT, &tier, json!({ "tier": "Infinity" })).await.status(), 200, "that is none");

    assert_eq!(fields(step_up(&admin, json!({})).await).await, ["password"]);
    assert_eq!(fields(step_up(&admin, json!({ "code": "492039" })).await).await, ["password"]);
    assert_eq!(fields(step_up(&admin, json!({ "password": "not this one" })).await).await, ["password"]);
    assert_eq!(ask(&admin).await, [403; 7]);
    assert_eq!(step_up(&admin, json!({ "password": admin.password })).await.status(), 204);
    assert_eq!(ask(&admin).await, allowed);
    // It is of this session alone.
    let other = admin.log_in().await;
    clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(step_up(&other, json!({ "password": admin.password })).await.status(), 204);
    assert_eq!((ask(&other).await, ask(&admin).await), (allowed.to_vec(), vec![403; 7]));
}

#[tokio::test]
async fn who_has_a_second_factor_proves_themselves_with_a_code() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let (ana, admin) = (server.member("Ana").await, server.admin().await);
    clock.advance(Duration::from_secs(3_600));
    let end = async || {
        let path = format!("/api/admin/members/{}/sessions", ana.id);
        admin.request(Method::DELETE, &path, Value::Null).await.status().as_u16()
    };
    assert_eq!(end().await, 403);
    let (app, recovery) = turn_on(&admin, &clock).await;
    assert_eq!(end().await, 204, "whoever turns it on gives a code");
    clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(end().await, 403);
    assert_eq!(fields(step_up(&admin, json!({ "password": admin.password })).await).await, ["code"]);
    assert_eq!(fields(step_up(&admin, json!({ "code": app.wrong() })).await).await, ["code"]);
    let right = app.code();
    assert_eq!(step_up(&admin, json!({ "code": right })).await.status(), 204);
    assert_eq!(end().await, 204);
    assert_eq!(fields(step_up(&admin, json!({ "code": right })).await).await, ["code"], "it is used");
    clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(step_up(&admin, json!({ "code": recovery[0] })).await.status(), 204);
    assert_eq!((end().await, state(&admin).await.recovery_codes_left), (204, 9));
    // Whoever has taken a session over finds no code out by it.
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(step_up(&admin, json!({ "code": app.wrong() })).await.status().as_u16());
    }
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
}

#[tokio::test]
async fn where_the_club_demands_one_an_administrator_without_is_a_member() {
    let clock = ManualClock::at(START);
    let required = |settings: &mut Settings| settings.auth.admin_second_factor = SecondFactorPolicy::Required;
    let server = server(&clock, required).await;
    let (ana, admin) = (server.member("Ana").await, server.admin().await);
    assert_eq!((state(&admin).await.required, state(&ana).await.required), (true, false));
    let members = async |who: &Member| who.request(Method::GET, "/api/admin/members", Value::Null).await;
    for (method, path, body) in dangerous(&ana) {
        assert_eq!(code(admin.request(method, &path, body).await).await, ErrorCode::SecondFactorMissing, "{path}");
    }
    assert_eq!(code(members(&admin).await).await, ErrorCode::SecondFactorMissing);
    assert_eq!(code(members(&ana).await).await, ErrorCode::Forbidden);
    let profile = format!("/api/members/{}", ana.id);
    let renamed = admin.request(Method::PATCH, &profile, json!({ "name": "Somebody" })).await;
    assert_eq!(code(renamed).await, ErrorCode::Forbidden, "what administrators do elsewhere");
    assert_eq!(admin.request(Method::GET, "/api/members", Value::Null).await.status(), 200);
    admin.connect().await.ping().await;
    turn_on(&admin, &clock).await;
    assert_eq!(members(&admin).await.status(), 200, "in the same session");
    assert_eq!(admin.request(Method::PATCH, &profile, json!({ "name": "Somebody" })).await.status(), 200);
}

#[tokio::test]
async fn an_administrator_resets_that_of_a_member_who_has_lost_it() {
    let clock = ManualClock::at(START);
    let mail = MailServer::start(How::StartTls).await;
    let server = server(&clock, |_| ()).await;
    let (ana, admin) = (server.member("Ana").await, server.admin().await);
    let (app, _) = turn_on(&ana, &clock).await;
    let server = server.restart_at(&clock, |settings| mail.set(settings)).await;
    let (ana, admin) = (ana.at(server.addr()), admin.at(server.addr()));
    let mut phone = ana.connect().await;
    let listed = async || {
        let page = admin.request(Method::GET, "/api/admin/members", Value::Null).await;
        let page: Value = page.json().await.unwrap();
        let members = page["members"].as_array().unwrap().clone();
        members.iter().find(|member| member["_id"] == json!(ana.id)).unwrap()["second_factor"].clone()
    };
    assert_eq!(listed().await, json!(true));
    let path = format!("/api/admin/members/{}/second-factor", ana.id);
    let reset = admin.request(Method::DELETE, &path, Value::Null).await;
    assert_eq!(reset.json::<Value>().await.unwrap()["second_factor"], json!(false));
    assert_eq!(phone.expect_close().await.code, CloseCode::Unauthorized);
    assert_eq!(ana.request(Method::GET, "/api/members/me", Value::Null).await.status(), 401);
    assert_eq!((listed().await, log_in(&server, &ana, None).await.status().as_u16()), (json!(false), 200));
    // Again changes nothing, and ends nothing.
    let again = ana.log_in().await;
    assert_eq!(admin.request(Method::DELETE, &path, Value::Null).await.status(), 200);
    assert_eq!(again.request(Method::GET, "/api/members/me", Value::Null).await.status(), 200);
    assert_eq!(actions(&admin).await[..2], ["second_factor_reset", "second_factor_enabled"]);
    let received = mail.mail(0).await;
    assert_eq!(received.to, ana.auth.member.email);
    // What was turned on before there was a mail server waits as well.
    let subjects = [received.subject, mail.mail(1).await.subject];
    assert!(subjects.iter().any(|subject| subject == "Your second factor was reset"), "{subjects:?}");
    drop(app);
}

#[tokio::test]
async fn a_member_is_told_by_mail_and_a_new_password_leaves_it_on() {
    let clock = ManualClock::at(START);
    let mail = MailServer::start(How::StartTls).await;
    let server = server(&clock, |_| ()).await;
    let ana = server.member("Ana").await;
    let server = server.restart_at(&clock, |settings| mail.set(settings)).await;
    let ana = ana.at(server.addr());
    let (app, recovery) = turn_on(&ana, &clock).await;
    let subject = async |number: usize| mail.mail(number).await.subject;
    assert_eq!(subject(0).await, "Your second factor is on");
    assert_eq!(log_in(&server, &ana, Some(&recovery[0])).await.status(), 200);
    let used = mail.mail(1).await;
    assert!(used.subject == "A recovery code was used" && used.body.contains("left is 9."), "{}", used.body);
    let replace = json!({ "code": recovery[1] });
    assert_eq!(post(&ana, &format!("{PATH}/recovery-codes"), replace).await.status(), 200);
    assert_eq!(subject(2).await, "Your recovery codes were replaced");

    let forgot = server.http().post(server.url("/api/auth/password/forgot"));
    let forgot = forgot.json(&json!({ "email": ana.auth.member.email })).send();
    assert_eq!(within("forgot", forgot).await.unwrap().status(), 202);
    let reset = json!({ "token": mail.mail(3).await.token(), "new_password": "correct horse battery" });
    let reset = server.http().post(server.url("/api/auth/password/reset")).json(&reset).send();
    assert_eq!(within("reset", reset).await.unwrap().status(), 204);
    assert_eq!(subject(4).await, "Your password was reset");
    let mut ana = ana;
    ana.password = "correct horse battery".to_owned();
    assert_eq!(code(log_in(&server, &ana, None).await).await, ErrorCode::SecondFactorRequired);
    clock.advance(HALF_A_MINUTE);
    let again: AuthResponse = log_in(&server, &ana, Some(&app.code())).await.json().await.unwrap();
    let ana = ana.with(again);
    clock.advance(HALF_A_MINUTE);
    let off = json!({ "code": app.code(), "password": ana.password });
    assert_eq!(post(&ana, &format!("{PATH}/disable"), off).await.status(), 204);
    assert_eq!(subject(5).await, "Your second factor is off");
}

#[tokio::test]
async fn the_export_says_since_when_there_is_one_and_no_secret() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let (ana, ben) = server.two_members().await;
    let (_, recovery) = turn_on(&ana, &clock).await;
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
