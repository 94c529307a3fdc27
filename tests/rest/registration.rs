//! Who comes in: what the club decides, invitations, registrations that wait, and members who are kept out until a time.

use std::time::Duration;

use members_book::{clock::ManualClock, config::Settings};
use protocol::{
    CloseCode, ErrorCode, Timestamp,
    rest::{InvitationPolicy, RegistrationPolicy},
    server::Applications,
};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{code, fields, problem};
use crate::harness::{Member, Server, eventually, within};

fn policy(policy: RegistrationPolicy) -> impl FnOnce(&mut Settings) {
    move |settings| settings.registration.registration = Some(policy)
}

async fn post(server: &Server, path: &str, body: Value) -> Response {
    within(path, server.http().post(server.url(path)).json(&body).send()).await.unwrap()
}

async fn register(server: &Server, name: &str, invitation: Option<&str>) -> Response {
    let email = format!("{}@example.com", name.to_lowercase());
    let body = json!({ "name": name, "email": email, "password": "correct horse", "invitation": invitation });
    post(server, "/api/auth/register", body).await
}

async fn log_in(server: &Server, name: &str) -> Response {
    let email = format!("{}@example.com", name.to_lowercase());
    post(server, "/api/auth/login", json!({ "email": email, "password": "correct horse" })).await
}

async fn get(member: &Member, path: &str) -> Value {
    let response = member.request(Method::GET, path, Value::Null).await;
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

async fn invite(member: &Member, body: Value) -> Value {
    let made = member.request(Method::POST, "/api/invitations", body).await;
    assert_eq!(made.status(), 201);
    made.json().await.unwrap()
}

/// The first administrator of a server that nobody can register at.
async fn root(server: &Server) -> Member {
    let body = json!({
        "code": server.setup_code(), "name": "Root", "email": "root@example.com", "password": "correct horse",
    });
    let made = post(server, "/api/setup", body).await;
    assert_eq!(made.status(), 201);
    Member::of(server, made.json().await.unwrap(), "correct horse")
}

#[tokio::test]
async fn the_club_says_who_may_come_in() {
    let server = Server::with(|settings| {
        settings.registration.registration = Some(RegistrationPolicy::Approval);
        settings.registration.invitations = InvitationPolicy::Members;
    })
    .await;
    let club = async || {
        let found = server.http().get(server.url("/api/club")).send().await.unwrap();
        found.json::<Value>().await.unwrap()
    };
    let told = json!({
        "registration": "approval", "invitations": "members", "setup_needed": true, "sends_mail": false,
        "push": { "enabled": true, "web_key": null },
    });
    assert_eq!(club().await, told);
    root(&server).await;
    assert_eq!(club().await["setup_needed"], json!(false));
}

#[tokio::test]
async fn a_server_that_others_reach_takes_nobody_without_an_invitation() {
    let server = Server::with(|settings| {
        settings.registration.registration = None;
        settings.listen.public_url = "https://club.example".to_owned();
    })
    .await;
    assert_eq!(code(register(&server, "Ana", None).await).await, ErrorCode::InvitationRequired);
    assert_eq!(code(register(&server, "Ana", Some("  ")).await).await, ErrorCode::InvitationRequired);
    let admin = root(&server).await;
    let made = invite(&admin, json!({ "tier": "Sócio", "note": "for Ana" })).await;
    let code_of = made["code"].as_str().unwrap();
    assert_eq!(made["link"], format!("https://club.example/app/register?invitation={code_of}"));
    assert_eq!((&made["invitation"]["uses"], &made["invitation"]["is_open"]), (&json!(1), &json!(true)));
    let checked = post(&server, "/api/invitations/check", json!({ "code": code_of })).await;
    let checked: Value = checked.json().await.unwrap();
    assert_eq!((&checked["invited_by"], &checked["tier"]), (&json!("Root"), &json!("Sócio")));
    // As somebody types it.
    let typed = code_of.replace('-', " ").to_lowercase();
    let ana = register(&server, "Ana", Some(&typed)).await;
    assert_eq!(ana.status(), 201);
    let ana: Value = ana.json().await.unwrap();
    assert_eq!(ana["member"]["tier"], "Sócio");
    assert_eq!(code(register(&server, "Ben", Some(code_of)).await).await, ErrorCode::InvitationInvalid, "used up");
    let listed = get(&admin, "/api/admin/invitations").await;
    let listed = &listed["invitations"][0];
    assert_eq!((&listed["created_by_name"], &listed["used"]), (&json!("Root"), &json!(1)));
    assert_eq!(listed["members"], json!([{ "_id": ana["member"]["_id"], "name": "Ana" }]));
    assert!(listed.get("code").is_none(), "{listed}");
    let members = get(&admin, "/api/admin/members?user_type=member").await;
    assert_eq!(members["members"][0]["invited_by"], json!(admin.id));
    let audit = get(&admin, "/api/admin/audit").await;
    let action = |place: usize| audit["entries"][place]["action"].as_str().unwrap();
    assert_eq!([0, 1, 2, 3].map(action), ["member_read", "member_read", "invitation_used", "invitation_created"]);
    assert_eq!(audit["entries"][2]["actor_id"], ana["member"]["_id"]);
    assert_eq!(audit["entries"][1]["details"], json!({ "read": "invitations", "count": 1 }));
    let export = server.http().get(server.url("/api/members/me/export"));
    let export = export.bearer_auth(ana["access_token"].as_str().unwrap()).send().await.unwrap();
    let export: Value = export.json().await.unwrap();
    assert_eq!((&export["invited_by"], &export["invitations"]), (&json!(admin.id), &json!([])));
    assert_eq!(get(&admin, "/api/members/me/export").await["invitations"][0]["note"], "for Ana");
    assert_eq!(server.metric(r#"registrations_total{way="invitation"}"#).await, 1.0);
}

/// Found from outside: `2.0` is the integer 2, on the socket and here.
#[tokio::test]
async fn a_whole_number_is_one_however_it_is_written() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let made = invite(&admin, json!({ "uses": 2.0, "expires_in": 3_600.0 })).await;
    assert_eq!(made["invitation"]["uses"], 2);
    for wrong in [json!({ "uses": 2.5 }), json!({ "uses": null }), json!({ "uses": -1 }), json!({ "uses": 1e10 })] {
        let answer = admin.request(Method::POST, "/api/invitations", wrong.clone()).await;
        assert_eq!(fields(answer).await, ["uses"], "{wrong}");
    }
}

#[tokio::test]
async fn every_code_that_is_not_good_is_told_the_same() {
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |_| ()).await;
    let admin = server.admin().await;
    let [used, revoked, expired] = [(); 3].map(|()| invite(&admin, json!({ "expires_in": 60 })));
    let (used, revoked, expired) = (used.await, revoked.await, expired.await);
    let text = |made: &Value| made["code"].as_str().unwrap().to_owned();
    assert_eq!(register(&server, "Ana", Some(&text(&used))).await.status(), 201);
    let path = format!("/api/invitations/{}", revoked["invitation"]["_id"].as_str().unwrap());
    assert_eq!(admin.request(Method::DELETE, &path, Value::Null).await.status(), 204);
    assert_eq!(admin.request(Method::DELETE, &path, Value::Null).await.status(), 204, "again");
    clock.advance(Duration::from_secs(60));
    let mut answers = Vec::new();
    for wrong in [text(&used), text(&revoked), text(&expired), "0000-0000-0000-0000".to_owned(), "x".to_owned()] {
        for answer in [
            post(&server, "/api/invitations/check", json!({ "code": wrong })).await,
            // Where anybody may register, one that is given has to be good all the same.
            register(&server, "Ben", Some(&wrong)).await,
        ] {
            assert_eq!(answer.status(), 403);
            answers.push(answer.json::<Value>().await.unwrap());
        }
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    assert_eq!(answers[0]["code"], "invitation_invalid");
    assert_eq!(fields(post(&server, "/api/invitations/check", json!({})).await).await, ["code"]);
}

#[tokio::test]
async fn who_may_invite_the_club_decides_and_members_may_less_than_administrators() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let create = async |who: &Member, body| who.request(Method::POST, "/api/invitations", body).await;
    assert_eq!(code(create(&ana, json!({})).await).await, ErrorCode::Forbidden);
    let server = server.restart_with(|settings| settings.registration.invitations = InvitationPolicy::Members).await;
    let (ana, ben) = (ana.at(server.addr()), ben.at(server.addr()));
    assert_eq!(fields(create(&ana, json!({ "tier": "Infinity" })).await).await, ["tier"]);
    assert_eq!(fields(create(&ana, json!({ "uses": 2 })).await).await, ["uses"]);
    let bad = json!({ "uses": 1001, "expires_in": 7_776_001, "note": "x".repeat(201), "tier": "Gold" });
    assert_eq!(fields(create(&ana, bad).await).await, ["expires_in", "note", "tier", "uses"]);
    let mut made = Vec::new();
    for _ in 0..10 {
        made.push(invite(&ana, json!({})).await["invitation"]["_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(code(create(&ana, json!({})).await).await, ErrorCode::TooManyInvitations);
    let path = format!("/api/invitations/{}", made[0]);
    assert_eq!(code(ben.request(Method::DELETE, &path, Value::Null).await).await, ErrorCode::InvitationNotFound);
    assert_eq!(ana.request(Method::DELETE, &path, Value::Null).await.status(), 204);
    invite(&ana, json!({})).await;
    let mut listed = Vec::new();
    let mut path = "/api/invitations?limit=4".to_owned();
    loop {
        let page = get(&ana, &path).await;
        listed.extend(
            page["invitations"].as_array().unwrap().iter().map(|each| each["_id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/invitations?limit=4&cursor={next}");
    }
    assert_eq!(listed.len(), 11);
    assert!(made.iter().all(|made| listed.contains(made)));
    assert_eq!(get(&ben, "/api/invitations").await["invitations"], json!([]));
}

#[tokio::test]
async fn who_was_put_out_does_not_come_back_by_the_same_invitation() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let made = invite(&admin, json!({ "uses": 5 })).await;
    let code_of = made["code"].as_str().unwrap();
    let ana: Value = register(&server, "Ana", Some(code_of)).await.json().await.unwrap();
    let path = format!("/api/admin/members/{}/active", ana["member"]["_id"].as_str().unwrap());
    assert_eq!(admin.request(Method::PUT, &path, json!({ "is_active": false })).await.status(), 200);
    assert_eq!(code(register(&server, "Anna", Some(code_of)).await).await, ErrorCode::InvitationInvalid);
    let listed = get(&admin, "/api/admin/invitations").await;
    assert!(listed["invitations"][0]["revoked_at"].is_string());
}

#[tokio::test]
async fn codes_are_tried_so_often_and_no_more() {
    let server = Server::with(|settings| {
        settings.rates.rate_registrations = 1;
        settings.rates.rate_registrations_burst = 3;
    })
    .await;
    let check = async || post(&server, "/api/invitations/check", json!({ "code": "0000-0000-0000-0000" })).await;
    for _ in 0..3 {
        assert_eq!(code(check().await).await, ErrorCode::InvitationInvalid);
    }
    assert_eq!(code(check().await).await, ErrorCode::RateLimited);
    assert_eq!(code(register(&server, "Ana", None).await).await, ErrorCode::RateLimited, "the same allowance");
}

/// Found by reading: sixty strangers with wrong codes kept everybody out who was invited.
#[tokio::test]
async fn wrong_codes_keep_nobody_out_who_has_a_good_one() {
    let server = Server::with(|settings| {
        settings.listen.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        (settings.rates.rate_registrations, settings.rates.rate_registrations_burst) = (100_000, 100_000);
    })
    .await;
    let admin = server.admin().await;
    let good = invite(&admin, json!({})).await["code"].as_str().unwrap().to_owned();
    let check = async |from: &str, code: &str| {
        let request = server.http().post(server.url("/api/invitations/check")).header("x-forwarded-for", from);
        request.json(&json!({ "code": code })).send().await.unwrap()
    };
    let wrong = "0000-0000-0000-0000";
    let mut refused = 0;
    for number in 0..200 {
        let answer = code(check(&format!("192.0.2.{}", number % 50), wrong).await).await;
        refused += u32::from(answer == ErrorCode::RateLimited);
    }
    assert!((20..=80).contains(&refused), "{refused} of one network");
    assert_eq!(code(check("198.51.100.1", wrong).await).await, ErrorCode::InvitationInvalid, "of another one");
    for from in ["192.0.2.1", "198.51.100.1"] {
        assert_eq!(check(from, &good).await.status(), 200);
    }
}

#[tokio::test]
async fn a_closed_club_takes_nobody() {
    let server = Server::with(policy(RegistrationPolicy::Invite)).await;
    let admin = root(&server).await;
    let made = invite(&admin, json!({})).await;
    let server = server.restart_with(policy(RegistrationPolicy::Closed)).await;
    let admin = admin.at(server.addr());
    let another = admin.request(Method::POST, "/api/invitations", json!({})).await;
    assert_eq!(code(another).await, ErrorCode::RegistrationClosed, "nobody could come by it");
    let check = json!({ "code": made["code"] });
    let checked = server.http().post(server.url("/api/invitations/check")).json(&check).send().await.unwrap();
    assert_eq!(code(checked).await, ErrorCode::RegistrationClosed, "nor is it said whose it is");
    let known = get(&admin, "/api/invitations").await;
    assert_eq!(known["invitations"].as_array().map(Vec::len), Some(1), "which one may be revoked");
    for invitation in [None, Some(made["code"].as_str().unwrap()), Some("x")] {
        assert_eq!(code(register(&server, "Ana", invitation).await).await, ErrorCode::RegistrationClosed);
    }
    assert_eq!(server.metric("password_seconds_count").await, 0.0, "nothing was hashed");
}

#[tokio::test]
async fn who_has_no_invitation_waits_and_is_nowhere_until_an_administrator_decides() {
    let server = Server::with(policy(RegistrationPolicy::Approval)).await;
    let admin = root(&server).await;
    let mut connected = admin.connect().await;
    connected.expect_no::<Applications>().await;
    for (name, waiting) in [("Ana", 1), ("Ben", 2)] {
        let answer = register(&server, name, None).await;
        assert_eq!(answer.status(), 202);
        assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "status": "pending" }));
        assert_eq!(connected.expect::<Applications>().await.waiting, waiting);
    }
    let mut other = admin.connect_as("tablet", None).await;
    assert_eq!(other.expect::<Applications>().await.waiting, 2, "after hello");
    assert_eq!(code(log_in(&server, "Ana").await).await, ErrorCode::ApprovalPending);
    let wrong = post(&server, "/api/auth/login", json!({ "email": "ana@example.com", "password": "wrong" })).await;
    assert_eq!(code(wrong).await, ErrorCode::InvalidCredentials, "only to whom knows the password");
    assert_eq!(code(register(&server, "Ana", None).await).await, ErrorCode::EmailTaken);

    let waiting = get(&admin, "/api/admin/members?status=pending").await;
    let id = |place: usize| waiting["members"][place]["_id"].as_str().unwrap().to_owned();
    let (ana, ben) = (id(0), id(1));
    assert_eq!((&waiting["members"][0]["name"], &waiting["members"][0]["status"]), (&json!("Ana"), &json!("pending")));
    assert_eq!(get(&admin, "/api/admin/members").await["members"].as_array().unwrap().len(), 1);
    assert_eq!(get(&admin, "/api/admin/stats").await["store"]["applications"], 2);
    // By invitation one does not wait.
    let eva = invite(&admin, json!({})).await;
    let eva = register(&server, "Eva", Some(eva["code"].as_str().unwrap())).await;
    assert_eq!(eva.status(), 201);
    let eva = Member::of(&server, eva.json().await.unwrap(), "correct horse");
    assert_eq!(get(&eva, "/api/members").await["members"].as_array().unwrap().len(), 2, "Eva and Root");
    assert_eq!(get(&eva, "/api/members/search?q=ana").await["members"], json!([]));
    let profile = eva.request(Method::GET, &format!("/api/members/{ana}"), Value::Null).await;
    assert_eq!(code(profile).await, ErrorCode::MemberNotFound);
    let send = json!({ "receiver_id": ana, "content": "hello", "client_id": crate::harness::client_id() });
    assert_eq!(code(eva.request(Method::POST, "/api/messages", send).await).await, ErrorCode::MemberNotFound);

    let decide = async |id: &str, what: &str| {
        admin.request(Method::POST, &format!("/api/admin/members/{id}/{what}"), Value::Null).await
    };
    let approved: Value = decide(&ana, "approve").await.json().await.unwrap();
    assert_eq!((&approved["status"], &approved["is_active"]), (&json!("active"), &json!(true)));
    assert_eq!(connected.expect::<Applications>().await.waiting, 1);
    assert_eq!(log_in(&server, "Ana").await.status(), 200);
    assert_eq!(code(decide(&ana, "reject").await).await, ErrorCode::AlreadyDecided);
    assert_eq!(decide(&ben, "reject").await.status(), 204);
    assert_eq!(connected.expect::<Applications>().await.waiting, 0);
    assert_eq!(code(decide(&ben, "reject").await).await, ErrorCode::MemberNotFound);
    assert_eq!(code(decide(&ben, "approve").await).await, ErrorCode::MemberNotFound);
    assert_eq!(code(log_in(&server, "Ben").await).await, ErrorCode::InvalidCredentials);
    assert_eq!(register(&server, "Ben", None).await.status(), 202, "the address is free again");
    assert_eq!(server.metric(r#"registrations_total{way="application"}"#).await, 3.0);
}

#[tokio::test]
async fn who_is_suspended_is_out_until_that_time_and_not_longer() {
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |_| ()).await;
    let (admin, ana, ben) = (server.admin().await, server.member("Ana").await, server.member("Ben").await);
    let mut client = ana.connect().await;
    let path = format!("/api/admin/members/{}/suspension", ana.id);
    let until = Timestamp::from_millis(1_795_370_633_000 + 600_000);
    let suspend = async |until: Timestamp| {
        admin.request(Method::PUT, &path, json!({ "until": until, "reason": "shouted" })).await
    };
    assert_eq!(fields(suspend(Timestamp::from_millis(1_795_370_633_000)).await).await, ["until"], "now");
    assert_eq!(fields(suspend(until.after(Duration::from_secs(11 * 365 * 86_400))).await).await, ["until"]);
    assert_eq!(fields(admin.request(Method::PUT, &path, json!({})).await).await, ["until"]);
    let active = async || get(&admin, "/api/admin/stats").await["store"]["members_active"].clone();
    assert_eq!(active().await, 3);
    let suspended: Value = suspend(until).await.json().await.unwrap();
    // It is counted once a second.
    let fewer = async || (active().await == 2).then_some(());
    eventually("who is suspended not to be counted as active", fewer).await;
    let log = get(&admin, "/api/admin/audit?not_action=member_read,exported").await;
    let of = |action: &str| log["entries"].as_array().unwrap().iter().find(|entry| entry["action"] == action);
    assert_eq!(of("suspension_changed").unwrap()["details"]["reason"], "shouted");
    assert!(of("role_changed").is_some() && of("member_read").is_none(), "{log}");
    get(&admin, "/api/admin/members").await;
    let reads = get(&admin, "/api/admin/audit?action=member_read&not_action=exported").await;
    assert!(!reads["entries"].as_array().unwrap().is_empty());
    let nonsense = admin.request(Method::GET, "/api/admin/audit?not_action=nonsense", Value::Null).await;
    assert_eq!(nonsense.status(), 422);
    assert_eq!((&suspended["status"], &suspended["suspension_reason"]), (&json!("suspended"), &json!("shouted")));
    assert_eq!((&suspended["suspended_until"], &suspended["is_active"]), (&json!(until), &json!(true)));
    assert_eq!(client.expect_close().await.code, CloseCode::Deactivated);

    let login = json!({ "email": ana.auth.member.email, "password": ana.password });
    let refused = post(&server, "/api/auth/login", login.clone()).await;
    assert_eq!(refused.headers()["retry-after"], "600");
    let refused = problem(refused).await;
    assert_eq!((refused.code, refused.until), (ErrorCode::MemberSuspended, Some(until)));
    assert_eq!(code(ana.request(Method::GET, "/api/members/me", Value::Null).await).await, ErrorCode::MemberSuspended);
    let wrong = json!({ "email": ana.auth.member.email, "password": "wrong" });
    assert_eq!(code(post(&server, "/api/auth/login", wrong).await).await, ErrorCode::InvalidCredentials);
    assert_eq!(get(&ben, "/api/members/search?q=ana").await["members"][0]["_id"], json!(ana.id), "others see them");
    assert_eq!(get(&admin, "/api/admin/members?status=suspended").await["members"][0]["_id"], json!(ana.id));

    clock.advance(Duration::from_secs(600));
    assert_eq!(code(ana.request(Method::GET, "/api/members/me", Value::Null).await).await, ErrorCode::SessionRevoked);
    let back = ana.log_in().await;
    assert_eq!(back.auth.member.suspended_until, None, "the answer of the login says nothing of what is over");
    assert!(get(&back, "/api/members/me").await.get("suspended_until").is_none());
    let export = back.request(Method::GET, "/api/members/me/export", Value::Null).await.text().await.unwrap();
    assert!(export.contains("suspension_changed") && !export.contains("shouted"), "{export}");
    assert_eq!(get(&admin, "/api/admin/members?status=suspended").await["members"], json!([]));

    let again = until.after(Duration::from_secs(3_600));
    assert_eq!(suspend(again).await.status(), 200);
    let ended: Value = admin.request(Method::DELETE, &path, Value::Null).await.json().await.unwrap();
    assert_eq!(ended["status"], "active");
    assert_eq!(post(&server, "/api/auth/login", login).await.status(), 200);
    let own = admin
        .request(
            Method::PUT,
            &format!("/api/admin/members/{}/suspension", admin.id),
            json!({ "until": again.after(Duration::from_secs(60)) }),
        )
        .await;
    assert_eq!(code(own).await, ErrorCode::LastAdmin);
}
