//! A member's own record.

use protocol::{ErrorCode, rest::Member};
use reqwest::Method;
use serde_json::{Value, json};

use super::{PICTURE, code, fields, problem};
use crate::harness::{Member as Registered, Server, eventually};

async fn own(member: &Registered) -> Value {
    member.request(Method::GET, "/api/members/me", Value::Null).await.json().await.unwrap()
}

async fn patch(member: &Registered, body: Value) -> reqwest::Response {
    member.request(Method::PATCH, "/api/members/me", body).await
}

#[tokio::test]
async fn the_record_has_the_fields_of_the_club() {
    let server = Server::start().await;
    let record = own(&server.member("Ana").await).await;
    let mut fields: Vec<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let mut expected = [
        "_id",
        "name",
        "email",
        "tier",
        "contact_info",
        "visibility",
        "profile_image_url",
        "user_type",
        "created_at",
        "updated_at",
        "last_login",
        "is_active",
        "language",
        "email_verified_at",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
    assert_eq!(record["contact_info"], json!({ "phone": null, "company": null, "position": null }));
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_null_removes() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let contact_info = json!({ "phone": "+351 912", "company": "Acme" });
    let body = json!({ "name": "Ana Lima", "contact_info": contact_info, "profile_image_url": PICTURE });
    let changed: Member = patch(&ana, body).await.json().await.unwrap();
    assert_eq!(changed.contact_info.company.as_deref(), Some("Acme"));
    assert!(changed.updated_at > changed.created_at);
    let body =
        json!({ "contact_info": { "phone": null }, "profile_image_url": null, "tier": "Sócio", "is_active": false });
    let after: Value = patch(&ana, body).await.json().await.unwrap();
    assert_eq!(after["name"], "Ana Lima");
    assert_eq!(after["contact_info"], json!({ "phone": null, "company": "Acme", "position": null }));
    assert_eq!((&after["profile_image_url"], &after["tier"]), (&Value::Null, &json!("Disruption")));
    assert_eq!(own(&ana).await, after);
}

#[tokio::test]
async fn a_bad_patch_names_every_bad_field_and_changes_nothing() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let before = own(&ana).await;
    let body = json!({
        "name": " ", "contact_info": { "phone": "x".repeat(33), "company": "", "position": 5 }, "profile_image_url": "ftp://x",
    });
    let named = fields(patch(&ana, body).await).await;
    let expected = ["contact_info.company", "contact_info.phone", "contact_info.position", "name", "profile_image_url"];
    assert_eq!(named, expected);
    assert_eq!(fields(patch(&ana, json!({ "name": null, "contact_info": [] })).await).await, ["contact_info", "name"]);
    assert_eq!(own(&ana).await, before);
}

#[tokio::test]
async fn without_a_token_there_is_no_record() {
    let server = Server::start().await;
    let get = server.http().get(server.url("/api/members/me"));
    let response = get.try_clone().unwrap().send().await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    assert_eq!(code(response).await, ErrorCode::TokenMissing);
    let basic = get.basic_auth("ana", Some("x")).send().await.unwrap();
    assert_eq!(code(basic).await, ErrorCode::TokenMissing);
}

#[tokio::test]
async fn a_name_is_seen_and_poses_as_nobody() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    for name in ["", " ", "\u{200b}", "\u{3164}", "\u{301}\u{302}", "Ana\u{202e}", "Ana\u{e0041}", "FORMER  Member"] {
        assert_eq!(fields(patch(&ana, json!({ "name": name })).await).await, ["name"], "{}", name.escape_unicode());
        let body = json!({ "name": name, "email": "ben@example.com", "password": "correct horse" });
        let register = server.http().post(server.url("/api/auth/register")).json(&body).send().await.unwrap();
        assert_eq!(fields(register).await, ["name"], "{}", name.escape_unicode());
    }
    let hidden = json!({ "contact_info": { "company": "\u{2800}", "position": "Boss\u{202e}", "phone": "\u{feff}" } });
    let expected = ["contact_info.company", "contact_info.phone", "contact_info.position"];
    assert_eq!(fields(patch(&ana, hidden).await).await, expected);
    assert_eq!(own(&ana).await["name"], "Ana");
    let changed = patch(&ana, json!({ "name": " Jose\u{301} ", "contact_info": { "company": "Cafe\u{301}" } })).await;
    let changed: Member = changed.json().await.unwrap();
    assert_eq!((changed.name.as_str(), changed.contact_info.company.as_deref()), ("José", Some("Café")));
}

#[tokio::test]
async fn detail_and_field_have_the_name_that_the_surface_uses() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let body = json!({ "receiver_id": ana.id, "content": "x", "client_id": crate::harness::client_id() });
    let itself = problem(ana.request(Method::POST, "/api/messages", body).await).await;
    assert_eq!(
        (itself.detail.as_str(), itself.errors[0].field.as_str()),
        ("receiver_id: that is yourself", "receiver_id")
    );
    let path = "/api/messages/conversations?cursor=nonsense";
    let page = problem(ana.request(Method::GET, path, Value::Null).await).await;
    assert_eq!(
        (page.detail.as_str(), page.errors[0].field.as_str()),
        ("cursor: not a `next` of this server", "cursor")
    );
    let empty = json!({ "receiver_id": ana.id, "content": "", "client_id": crate::harness::client_id() });
    assert_eq!(code(ana.request(Method::POST, "/api/messages", empty).await).await, ErrorCode::ContentEmpty);
}

/// Found by an attacker: each export is in the audit log for good, and the next one read all of them.
#[tokio::test]
async fn a_member_exports_ten_times_an_hour_and_others_are_not_concerned() {
    let server = Server::start().await;
    let (ana, ben) = (server.member("Ana").await, server.member("Ben").await);
    let export = async |member: &Registered| {
        let answer = member.request(Method::GET, "/api/members/me/export", Value::Null).await;
        let status = answer.status().as_u16();
        // One at a time: the next one is asked for when all of this has come.
        answer.bytes().await.unwrap();
        status
    };
    for _ in 0..10 {
        eventually("an export", async || (export(&ana).await == 200).then_some(())).await;
    }
    eventually("the limit", async || (export(&ana).await == 429).then_some(())).await;
    assert_eq!(export(&ben).await, 200);
}
