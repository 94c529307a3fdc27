//! Administration and the second factor: what needs a proof of the last 15 minutes, an administrator who needs one, and a member who has
//! lost theirs.

use std::time::Duration;

use members_book::{
    clock::ManualClock,
    config::{Settings, values::SecondFactorPolicy},
};
use protocol::{
    CloseCode, ErrorCode,
    rest::{AuthResponse, RegistrationPolicy},
    server::Applications,
};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{
    code, fields,
    second_factor::{START, actions, log_in, post, server, state},
};
use crate::harness::{
    Member,
    authenticator::turn_on,
    eventually,
    smtp::{How, MailServer},
};

async fn step_up(member: &Member, body: Value) -> Response {
    post(member, "/api/auth/step-up", body).await
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

/// Found by an attacker: a stolen access token was enough to erase a member for ever.
#[tokio::test]
async fn nobody_leaves_with_a_token_alone() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let (ana, mut ben) = server.two_members().await;
    let leave = async |member: &Member| member.request(Method::DELETE, "/api/members/me", Value::Null).await;
    turn_on(&mut ben, &clock).await;
    clock.advance(Duration::from_secs(15 * 60));
    for member in [&ana, &ben] {
        assert_eq!(code(leave(member).await).await, ErrorCode::StepUpRequired);
        assert_eq!(member.request(Method::GET, "/api/members/me", Value::Null).await.status(), 200, "they are there");
    }
    assert_eq!(fields(step_up(&ben, json!({ "password": ben.password })).await).await, ["code"]);
    assert_eq!(step_up(&ana, json!({ "password": ana.password })).await.status(), 204);
    assert_eq!(leave(&ana).await.status(), 204);
    assert_eq!(leave(&ben).await.status(), 403, "the proof was another's");
}

/// Found by faults: a login while the clock was ahead was a proof for as long as that had been ahead.
#[tokio::test]
async fn a_proof_of_a_time_that_is_still_to_come_is_none() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let (ana, ben) = server.two_members().await;
    let leave = async |member: &Member| member.request(Method::DELETE, "/api/members/me", Value::Null).await;
    clock.set(START.before(Duration::from_secs(30)));
    assert_eq!(leave(&ben).await.status(), 204, "clocks differ by so much");
    clock.set(START.before(Duration::from_secs(31)));
    assert_eq!(code(leave(&ana).await).await, ErrorCode::StepUpRequired);
    assert_eq!(step_up(&ana, json!({ "password": ana.password })).await.status(), 204);
    assert_eq!(leave(&ana).await.status(), 204);
}

/// Found by an attacker: who could not administer the club was told how many wait to come in.
#[tokio::test]
async fn an_administrator_without_the_factor_that_is_demanded_is_not_told_who_waits() {
    let clock = ManualClock::at(START);
    let change = |settings: &mut Settings| {
        settings.auth.admin_second_factor = SecondFactorPolicy::Required;
        settings.registration.registration = Some(RegistrationPolicy::Approval);
    };
    let server = server(&clock, |_| ()).await;
    let (admin, other) = (server.admin().await, server.admin_named("Second").await);
    let server = server.restart_at(&clock, change).await;
    let (mut admin, mut other) = (admin.at(server.addr()), other.at(server.addr()));
    turn_on(&mut other, &clock).await;
    let (mut without, mut with) = (admin.connect().await, other.connect().await);
    let register = async |name: &str| {
        let body = json!({ "name": name, "email": format!("{name}@example.com"), "password": "correct horse" });
        server.http().post(server.url("/api/auth/register")).json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(register("Ana").await, 202);
    // That nobody waits is said because of the factor, and may come after the connection.
    while with.expect::<Applications>().await.waiting != 1 {}
    without.expect_no::<Applications>().await;
    turn_on(&mut admin, &clock).await;
    // It comes back with the tokens of now.
    assert_eq!(without.close_code().await, Some(CloseCode::Disconnected.number()));
    let mut with = admin.connect().await;
    assert_eq!(with.expect::<Applications>().await.waiting, 1, "from then on they are");
}

#[tokio::test]
async fn who_has_a_second_factor_proves_themselves_with_a_code() {
    let clock = ManualClock::at(START);
    let server = server(&clock, |_| ()).await;
    let (ana, mut admin) = (server.member("Ana").await, server.admin().await);
    clock.advance(Duration::from_secs(3_600));
    let end = async |admin: &Member| {
        let path = format!("/api/admin/members/{}/sessions", ana.id);
        admin.request(Method::DELETE, &path, Value::Null).await.status().as_u16()
    };
    assert_eq!(end(&admin).await, 403);
    let (app, recovery) = turn_on(&mut admin, &clock).await;
    assert_eq!(end(&admin).await, 204, "whoever turns it on gives a code");
    clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(end(&admin).await, 403);
    assert_eq!(fields(step_up(&admin, json!({ "password": admin.password })).await).await, ["code"]);
    assert_eq!(fields(step_up(&admin, json!({ "code": app.wrong() })).await).await, ["code"]);
    let right = app.code();
    assert_eq!(step_up(&admin, json!({ "code": right })).await.status(), 204);
    assert_eq!(end(&admin).await, 204);
    assert_eq!(fields(step_up(&admin, json!({ "code": right })).await).await, ["code"], "it is used");
    clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(step_up(&admin, json!({ "code": recovery[0] })).await.status(), 204);
    assert_eq!((end(&admin).await, state(&admin).await.recovery_codes_left), (204, 9));
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
    let (ana, mut admin) = (server.member("Ana").await, server.admin().await);
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
    turn_on(&mut admin, &clock).await;
    assert_eq!(members(&admin).await.status(), 200, "in the same session");
    assert_eq!(admin.request(Method::PATCH, &profile, json!({ "name": "Somebody" })).await.status(), 200);
}

#[tokio::test]
async fn an_administrator_resets_that_of_a_member_who_has_lost_it() {
    let clock = ManualClock::at(START);
    let mail = MailServer::start(How::StartTls).await;
    let server = server(&clock, |_| ()).await;
    let (mut ana, admin) = (server.member("Ana").await, server.admin().await);
    turn_on(&mut ana, &clock).await;
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
    let mut changes = actions(&admin).await;
    // Beside what the administrator has read, and what was written on the command line, by another clock.
    changes.retain(|action| !["member_read", "role_changed"].contains(&action.as_str()));
    assert_eq!(changes[..2], ["second_factor_reset", "second_factor_enabled"]);
    // What was turned on before there was a mail server may have gone to the log, or waits as well.
    let told = eventually("the mail", async || {
        mail.all().into_iter().find(|received| received.subject == "Your second factor was reset")
    });
    assert_eq!(told.await.to, ana.auth.member.email);
}

/// Found by an attacker: who knew an administrator's password alone was an administrator as soon as the owner had turned it on.
#[tokio::test]
async fn who_logged_in_with_the_password_alone_is_out_once_it_is_turned_on() {
    let clock = ManualClock::at(START);
    let demanded = |settings: &mut Settings| settings.auth.admin_second_factor = SecondFactorPolicy::Required;
    let server = server(&clock, |_| ()).await;
    let admin = server.admin().await;
    let server = server.restart_at(&clock, demanded).await;
    let mut admin = admin.at(server.addr());
    let thief = admin.log_in().await;
    let mut socket = thief.connect().await;
    turn_on(&mut admin, &clock).await;
    assert_eq!(socket.expect_close().await.code, CloseCode::Unauthorized);
    assert_eq!(thief.request(Method::GET, "/api/admin/members", Value::Null).await.status(), 401);
    assert_eq!(thief.refresh().await.status(), 401);
    assert_eq!(admin.request(Method::GET, "/api/admin/members", Value::Null).await.status(), 200, "this one stays");
    // Nor does a session of theirs take it off without the code and the password.
    let own = format!("/api/admin/members/{}/second-factor", admin.id);
    assert_eq!(code(admin.request(Method::DELETE, &own, Value::Null).await).await, ErrorCode::Forbidden);
    assert!(state(&admin).await.enabled);
}
