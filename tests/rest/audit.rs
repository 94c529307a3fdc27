//! What the audit log has that changes nothing: failed logins of administrators, what they read, exports.

use std::time::Duration;

use members_book::clock::{Clock as _, ManualClock};
use protocol::{
    ErrorCode, Timestamp,
    rest::{AuditAction, AuditEntry, AuditPage},
};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{code, late::locked};
use crate::harness::{Member, Server, eventually};

async fn log_in(server: &Server, email: &str, password: &str) -> Response {
    let body = json!({ "email": email, "password": password });
    server.http().post(server.url("/api/auth/login")).json(&body).send().await.unwrap()
}

async fn get(member: &Member, path: &str) -> Value {
    let response = member.request(Method::GET, path, Value::Null).await;
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

/// The newest entries of an action.
async fn entries(admin: &Member, action: AuditAction) -> Vec<AuditEntry> {
    let page: AuditPage = serde_json::from_value(get(admin, "/api/admin/audit?limit=100").await).unwrap();
    page.entries.into_iter().filter(|entry| entry.action == action).collect()
}

#[tokio::test]
async fn failed_logins_of_administrators_are_in_the_log_and_nobody_can_tell() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.member("Ana").await);
    let mut answers = Vec::new();
    for email in ["nobody@example.com", &ana.auth.member.email, &admin.auth.member.email] {
        let answer = log_in(&server, email, "not this one").await;
        let headers: Vec<String> = answer.headers().keys().map(ToString::to_string).collect();
        answers.push((answer.status(), headers, code(answer).await));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let failed = async || {
        let failed = entries(&admin, AuditAction::LoginFailed).await;
        (!failed.is_empty()).then_some(failed)
    };
    let failed = eventually("the entry", failed).await;
    assert_eq!(failed.len(), 1, "nothing of others");
    assert_eq!((failed[0].actor_id, failed[0].target_id), (None, Some(admin.id)));
    assert_eq!(failed[0].details, json!({ "wrong": "password" }));
    assert_eq!(failed[0].address.as_deref(), Some("127.0.0.1"));
}

/// Found by a reviewer: whoever had an administrator's token could try codes and passwords, and nothing of it was in the log.
#[tokio::test]
async fn an_administrator_who_fails_to_prove_who_is_at_the_device_is_in_the_log() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let answer = admin.request(Method::POST, "/api/auth/step-up", json!({ "password": "not this one" })).await;
    assert_eq!(answer.status(), 422);
    let failed = async || entries(&admin, AuditAction::LoginFailed).await.pop();
    let failed = eventually("the entry", failed).await;
    assert_eq!(failed.target_id, Some(admin.id));
    assert_eq!(failed.details, json!({ "wrong": "password", "step_up": true }));
}

/// Found by an attacker: nothing of a wrong password was in the log that was tried where the address or the password is changed.
#[tokio::test]
async fn an_administrator_whose_password_is_guessed_over_a_session_is_in_the_log() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let email = json!({ "email": "new@example.com", "password": "not this one" });
    let password = json!({ "current_password": "not this one", "new_password": "battery staple" });
    let factor = json!({ "password": "not this one" });
    for (method, path, body) in
        [(Method::POST, "email", email), (Method::PUT, "password", password), (Method::POST, "second-factor", factor)]
    {
        assert_eq!(admin.request(method, &format!("/api/members/me/{path}"), body).await.status(), 422);
    }
    let failed = async || {
        let failed = entries(&admin, AuditAction::LoginFailed).await;
        (failed.len() == 3).then_some(failed)
    };
    let failed = eventually("the entries", failed).await;
    assert!(failed.iter().all(|entry| (entry.actor_id, entry.target_id) == (None, Some(admin.id))), "{failed:?}");
    let details: Vec<&Value> = failed.iter().rev().map(|entry| &entry.details).collect();
    let expected =
        ["email", "password", "second_factor"].map(|change| json!({ "wrong": "password", "change": change }));
    assert_eq!(details, expected.each_ref());
}

#[tokio::test]
async fn failed_logins_arrive_though_the_server_stops_and_the_store_is_slow() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let other = locked(&server);
    assert_eq!(log_in(&server, &admin.auth.member.email, "not this one").await.status(), 401, "without waiting for it");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(log_in(&server, &admin.auth.member.email, "nor this one").await.status(), 401);
    let server = server.restart().await;
    assert_eq!(entries(&admin.at(server.addr()), AuditAction::LoginFailed).await.len(), 2);
}

/// Who knows the right password gets their tries back with it.
#[tokio::test]
async fn one_account_has_so_many_failed_logins_in_the_log_and_no_more() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let email = &admin.auth.member.email;
    for _ in 0..4 {
        for _ in 0..9 {
            assert_eq!(log_in(&server, email, "not this one").await.status(), 401);
        }
        assert_eq!(log_in(&server, email, &admin.password).await.status(), 200);
    }
    let refused = || server.metric("rate_limited_total{limit=\"failed_logins_audited\"}");
    eventually("those beyond", async || (refused().await >= 6.0).then_some(())).await;
    assert_eq!(entries(&admin, AuditAction::LoginFailed).await.len(), 30);
    assert_eq!(server.metric("audit_dropped_total").await, 6.0, "and those beyond are counted");
}

#[tokio::test]
async fn what_administrators_read_of_members_is_in_the_log() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.member("Ana").await);
    let ben = server.member("Ben").await;
    let shared = json!({ "visibility": { "email": "members", "phone": "members", "company": "members", "position": "members" } });
    assert_eq!(ben.request(Method::PATCH, "/api/members/me", shared).await.status(), 200);
    // What everybody sees is read by nobody in particular, and one's own record neither.
    for path in [format!("/api/members/{}", ben.id), format!("/api/members/{}", admin.id)] {
        get(&admin, &path).await;
    }
    get(&ben, &format!("/api/members/{}", ana.id)).await;
    get(&admin, "/api/admin/stats").await;
    assert_eq!(entries(&admin, AuditAction::MemberRead).await.len(), 0);
    // The log itself was read just now.
    let reads = [
        (format!("/api/members/{}", ana.id), Some(ana.id), json!({ "read": "profile", "count": 1 })),
        ("/api/members/search?q=ana".to_owned(), Some(ana.id), json!({ "read": "search", "count": 1 })),
        ("/api/members".to_owned(), None, json!({ "read": "directory", "count": 1 })),
        (
            "/api/admin/members?user_type=member&status=active".to_owned(),
            None,
            json!({ "read": "members", "filter": { "user_type": "member", "status": "active" }, "count": 2 }),
        ),
        (format!("/api/admin/members/{}/sessions", ana.id), Some(ana.id), json!({ "read": "sessions", "count": 1 })),
        ("/api/admin/invitations".to_owned(), None, json!({ "read": "invitations", "count": 0 })),
        ("/api/admin/audit?limit=2".to_owned(), None, json!({ "read": "audit", "count": 2 })),
    ];
    for (path, of, details) in reads {
        get(&admin, &path).await;
        let newest = entries(&admin, AuditAction::MemberRead).await.remove(0);
        assert_eq!((newest.details, newest.target_id), (details, of), "{path}");
        assert_eq!((newest.actor_id, newest.address.as_deref()), (Some(admin.id), Some("127.0.0.1")), "{path}");
    }
    // A change that changes nothing shows the record all the same.
    let tier = json!({ "tier": ana.auth.member.tier });
    let path = format!("/api/admin/members/{}/tier", ana.id);
    assert_eq!(admin.request(Method::PUT, &path, tier).await.status(), 200);
    let newest = entries(&admin, AuditAction::MemberRead).await.remove(0);
    assert_eq!((newest.details, newest.target_id), (json!({ "read": "record", "count": 1 }), Some(ana.id)));
    // Who is read is told so in their export.
    let export = get(&ana, "/api/members/me/export").await;
    let read = export["audit"].as_array().unwrap().iter().filter(|entry| entry["action"] == "member_read");
    assert_eq!(read.count(), 4);
}

#[tokio::test]
async fn the_log_is_asked_for_what_somebody_did_to_somebody_and_when() {
    let clock = ManualClock::at(Timestamp::from_millis(1_800_000_000_000));
    let server = Server::at(&clock, |settings| settings.auth.access_token_ttl = Duration::from_secs(86_400)).await;
    let (admin, other) = (server.admin().await, server.admin_named("Second").await);
    let (ana, ben) = (server.member("Ana").await, server.member("Ben").await);
    for (by, to, tier) in [
        (&admin, &ana, "Infinity"),
        (&other, &ana, "Disruption"),
        (&admin, &ben, "Infinity"),
        (&admin, &ana, "Infinity"),
    ] {
        clock.advance(Duration::from_secs(60));
        let path = format!("/api/admin/members/{}/tier", to.id);
        assert_eq!(by.request(Method::PUT, &path, json!({ "tier": tier })).await.status(), 200);
    }
    let asked = async |query: &str| -> Vec<AuditEntry> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/admin/audit?limit=1&{query}{cursor}");
            let page: AuditPage = serde_json::from_value(get(&admin, &path).await).unwrap();
            all.extend(page.entries);
            let Some(next) = page.next else { return all };
            cursor = format!("&cursor={next}");
        }
    };
    let minutes = async |query: &str| -> Vec<i64> {
        let all = asked(query).await;
        all.iter().map(|entry| (entry.at.as_millis() - 1_800_000_000_000) / 60_000).collect()
    };
    let (root, second, ana_id) = (admin.id, other.id, ana.id);
    let tier = "action=tier_changed";
    assert_eq!(minutes(tier).await, [4, 3, 2, 1]);
    assert_eq!(minutes(&format!("{tier}&actor_id={root}")).await, [4, 3, 1]);
    assert_eq!(minutes(&format!("{tier}&target_id={ana_id}")).await, [4, 2, 1]);
    assert_eq!(minutes(&format!("target_id={ana_id}&actor_id={second}")).await, [2]);
    let at = |minute: u64| clock.now().before(Duration::from_secs(60 * (4 - minute)));
    assert_eq!(
        minutes(&format!("{tier}&since={}&until={}", at(2), at(4))).await,
        [3, 2],
        "from one, and before the other"
    );
    assert_eq!(minutes(&format!("target_id={ana_id}&{tier}&until={}", at(2))).await, [1]);
    for wrong in ["action=made_up", "since=yesterday", "actor_id=me", "cursor=x"] {
        let refused = admin.request(Method::GET, &format!("/api/admin/audit?{wrong}"), Value::Null).await;
        assert_eq!(refused.status(), 422, "{wrong}");
    }
    let read = entries(&admin, AuditAction::MemberRead).await;
    let filter = json!({ "action": "tier_changed", "target_id": ana_id, "until": at(2) });
    assert!(read.iter().any(|entry| entry.details["filter"] == filter), "what was asked for is in the log");
}

#[tokio::test]
async fn what_cannot_be_in_the_log_is_not_given() {
    let server = Server::with(|settings| {
        settings.store.store_timeout = Duration::from_millis(100);
        settings.listen.request_timeout = Duration::from_millis(500);
        settings.ai.ai_timeout = Duration::from_millis(400);
    })
    .await;
    let (admin, ana) = (server.admin().await, server.member("Ana").await);
    let other = locked(&server);
    let sessions = format!("/api/admin/members/{}/sessions", ana.id);
    for path in ["/api/admin/members", "/api/admin/audit", "/api/members", &sessions] {
        let refused = admin.request(Method::GET, path, Value::Null).await;
        assert!(refused.status().is_server_error(), "{path}");
        assert!([ErrorCode::Timeout, ErrorCode::Unavailable].contains(&code(refused).await), "{path}");
    }
    assert_eq!(ana.request(Method::GET, "/api/members", Value::Null).await.status(), 200, "nothing is hidden there");
    other.execute_batch("ROLLBACK").unwrap();
    get(&admin, "/api/admin/members").await;
}

#[tokio::test]
async fn an_export_is_in_the_log_and_in_itself() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.member("Ana").await);
    let export = get(&ana, "/api/members/me/export").await;
    assert_eq!(export["audit"][0]["action"], "exported");
    let exported = entries(&admin, AuditAction::Exported).await;
    assert_eq!((exported[0].actor_id, exported[0].target_id), (Some(ana.id), Some(ana.id)));
    assert_eq!((&exported[0].details, exported[0].address.as_deref()), (&json!({}), Some("127.0.0.1")));
    // The address goes with the member.
    assert_eq!(ana.request(Method::DELETE, "/api/members/me", Value::Null).await.status(), 204);
    let address = async || entries(&admin, AuditAction::Exported).await[0].address.clone();
    eventually("the address to be gone", async || address().await.is_none().then_some(())).await;
}
