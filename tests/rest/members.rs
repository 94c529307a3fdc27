//! A member's own record.

use protocol::{ErrorCode, rest::Member};
use reqwest::Method;
use serde_json::{Value, json};

use super::{code, fields};
use crate::harness::{Member as Registered, Server};

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
    let body =
        json!({ "name": "Ana Lima", "contact_info": contact_info, "profile_image_url": "https://x.example/a.webp" });
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
