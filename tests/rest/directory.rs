//! The directory, profiles, visibility, erasure and export.

use protocol::{ErrorCode, ServerFrame, server::MemberPush};
use reqwest::{Method, header};
use serde_json::{Value, json};

use super::{code, fields};
use crate::harness::{Member, Server, eventually};

async fn get(member: &Member, path: &str) -> Value {
    let response = member.request(Method::GET, path, Value::Null).await;
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

async fn put(member: &Member, path: &str, body: Value) -> reqwest::Response {
    member.request(Method::PUT, path, body).await
}

fn names(page: &Value) -> Vec<&str> {
    page["members"].as_array().unwrap().iter().map(|member| member["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_directory_is_read_page_by_page() {
    let server = Server::start().await;
    let ana = server.member("ana").await;
    for name in ["Zoë", "Ângela", "Bruno"] {
        server.member(name).await;
    }
    let mut all = Vec::new();
    let mut path = "/api/members?limit=2".to_owned();
    loop {
        let page = get(&ana, &path).await;
        all.extend(names(&page).into_iter().map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => path = format!("/api/members?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(all, ["ana", "Ângela", "Bruno", "Zoë"]);
    let admin = server.admin().await;
    let tier = format!("/api/admin/members/{}/tier", ana.id);
    assert_eq!(put(&admin, &tier, json!({ "tier": "Sócio" })).await.status(), 200);
    assert_eq!(names(&get(&ana, "/api/members?tier=S%C3%B3cio").await), ["ana"]);
    for (path, field) in [
        ("/api/members?limit=0", "limit"),
        ("/api/members?limit=many", "limit"),
        ("/api/members?cursor=made-up", "cursor"),
        ("/api/members?tier=Gold", "tier"),
        ("/api/members/search", "q"),
        ("/api/members/search?q=%20%2D", "q"),
        ("/api/members/nobody", "id"),
    ] {
        assert_eq!(fields(ana.request(Method::GET, path, Value::Null).await).await, [field], "{path}");
    }
}

#[tokio::test]
async fn contact_details_are_seen_as_far_as_they_are_shared() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let admin = server.admin().await;
    let path = format!("/api/members/{}", ana.id);
    let contact_info = json!({ "phone": "+351 912", "company": "Acme", "position": "Spy" });
    let visibility = json!({ "phone": "members", "position": "nobody" });
    let body = json!({ "name": "Ana Lima", "contact_info": contact_info, "visibility": visibility });
    assert_eq!(put(&ana, &path, body).await.status(), 200);
    let seen = get(&ben, &path).await;
    assert_eq!(seen["contact_info"], json!({ "phone": "+351 912", "company": "Acme", "position": null }));
    assert_eq!(seen["email"], Value::Null);
    for whole in [get(&ana, &path).await, get(&admin, &path).await] {
        assert_eq!(whole["contact_info"], contact_info);
        assert!(whole["email"].is_string());
    }
    assert_eq!(names(&get(&ben, "/api/members/search?q=ACME").await), ["Ana Lima"]);
    assert_eq!(names(&get(&ben, "/api/members/search?q=spy").await), [""; 0]);
    for listed in [get(&ben, "/api/members").await, get(&ben, "/api/members/search?q=lima").await] {
        let members = listed["members"].as_array().unwrap();
        let listed = members.iter().find(|member| member["name"] == "Ana Lima").unwrap();
        assert_eq!((&listed["contact_info"]["position"], &listed["email"]), (&Value::Null, &Value::Null));
    }
}

#[tokio::test]
async fn the_best_match_is_found_first() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let eva = server.member("Eva Marques").await;
    server.member("Marco Polo").await;
    server.member("Marc Aurel").await;
    let path = format!("/api/members/{}", ana.id);
    put(&ana, &path, json!({ "name": "Ana", "contact_info": { "company": "Marc & Sons" } })).await;
    let found = get(&eva, "/api/members/search?q=marc").await;
    assert_eq!(names(&found), ["Marc Aurel", "Marco Polo", "Ana"]);
    let first = get(&eva, "/api/members/search?q=marc&limit=2").await;
    let next = format!("/api/members/search?q=marc&limit=2&cursor={}", first["next"].as_str().unwrap());
    assert_eq!(names(&get(&eva, &next).await), ["Ana"]);
}

#[tokio::test]
async fn a_change_for_an_older_version_is_refused() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let path = format!("/api/members/{}", ana.id);
    let response = ana.request(Method::GET, "/api/members/me", Value::Null).await;
    let tag = response.headers()[header::ETAG].clone();
    let change = async |tag: &str, name: &str| {
        let request = server.http().patch(server.url(&path)).bearer_auth(&ana.auth.access_token);
        request.header(header::IF_MATCH, tag).json(&json!({ "name": name })).send().await.unwrap()
    };
    let tag = tag.to_str().unwrap();
    let changed = change(tag, "First").await;
    assert_eq!(changed.status(), 200);
    let newer = changed.headers()[header::ETAG].to_str().unwrap().to_owned();
    assert_eq!(code(change(tag, "Second").await).await, ErrorCode::Stale);
    assert_eq!(code(change("W/\"1\"", "Weak").await).await, ErrorCode::Stale);
    assert_eq!(code(change("1", "Bare").await).await, ErrorCode::ValidationFailed);
    assert_eq!(code(change("\"1\", \"2\"", "Several").await).await, ErrorCode::ValidationFailed);
    assert_eq!(get(&ben, &path).await["name"], "First");
    let weak = change(&format!("W/{newer}"), "Second").await;
    assert_eq!(weak.status(), 200, "a proxy that compresses makes a tag weak");
    let newest = weak.headers()[header::ETAG].to_str().unwrap().to_owned();
    assert_eq!(change(&newest, "Third").await.status(), 200);
    assert_eq!(change("*", "Any").await.status(), 200);
}

#[tokio::test]
async fn only_the_owner_and_administrators_change_a_profile() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let admin = server.admin().await;
    let path = format!("/api/members/{}", ana.id);
    let body = json!({ "name": "Changed" });
    for method in [Method::PUT, Method::PATCH] {
        let refused = ben.request(method.clone(), &path, body.clone()).await;
        assert_eq!(code(refused).await, ErrorCode::Forbidden);
        assert_eq!(admin.request(method, &path, body.clone()).await.status(), 200);
    }
    let log = get(&admin, "/api/admin/audit").await;
    // The second one changed nothing, and showed the record.
    for (place, action) in ["member_read", "profile_changed"].into_iter().enumerate() {
        let entry = &log["entries"][place];
        assert_eq!((&entry["action"], &entry["target_id"]), (&json!(action), &json!(ana.id)));
        assert_eq!(entry["address"], "127.0.0.1");
    }
}

#[tokio::test]
async fn a_change_over_rest_is_pushed_to_who_should_know() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let eva = server.member("Eva").await;
    let (mut anas, mut bens, mut evas) = (ana.connect().await, ben.connect().await, eva.connect().await);
    anas.say(ben.id, "hello").await;
    let path = format!("/api/members/{}", ana.id);
    put(&ana, &path, json!({ "name": "Ana", "contact_info": { "company": "Acme" } })).await;
    for client in [&mut anas, &mut bens] {
        let push: MemberPush = client.expect().await;
        assert_eq!(push.member.id, ana.id);
    }
    // What nobody else can see is nobody else's news.
    let contact_info = json!({ "company": "Acme", "phone": "1" });
    put(&ana, &path, json!({ "name": "Ana", "contact_info": contact_info })).await;
    let _: MemberPush = anas.expect().await;
    bens.expect_no::<MemberPush>().await;
    evas.expect_no::<MemberPush>().await;
}

#[tokio::test]
async fn an_export_has_last_seen_audit_entries_and_every_message() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ana = server.member("Ana").await;
    let mut anas = ana.connect().await;
    // More conversations than are read at a time, one of them longer than a page.
    for number in 0..12 {
        let other = server.member(&format!("Other{number}")).await;
        for _ in 0..if number == 3 { 102 } else { 1 } {
            anas.say(other.id, "hello").await;
        }
    }
    let path = format!("/api/admin/members/{}/tier", ana.id);
    assert_eq!(admin.request(Method::PUT, &path, json!({ "tier": "Infinity" })).await.status(), 200);
    drop(anas);
    let seen = async || {
        let export: Value = ana.request(Method::GET, "/api/members/me/export", Value::Null).await.json().await.unwrap();
        export["last_seen"].is_string().then_some(export)
    };
    let export = eventually("when Ana was last seen", seen).await;
    let [exports @ .., entry] = &export["audit"].as_array().unwrap()[..] else { panic!("{}", export["audit"]) };
    assert!(!exports.is_empty() && exports.iter().all(|entry| entry["action"] == "exported"), "{}", export["audit"]);
    assert_eq!((&entry["action"], &entry["target_id"]), (&json!("tier_changed"), &json!(ana.id)));
    assert_eq!(entry["address"], Value::Null, "where the administrator was is not Ana's to know");
    let conversations = export["conversations"].as_array().unwrap();
    let mut lengths: Vec<usize> =
        conversations.iter().map(|conversation| conversation["messages"].as_array().unwrap().len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [&[1; 11][..], &[102]].concat());
    let long =
        conversations.iter().find(|conversation| conversation["messages"].as_array().unwrap().len() > 1).unwrap();
    let seqs: Vec<u64> =
        long["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=102).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_leaves_is_gone_and_their_messages_stay() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    anas.say(ben.id, "Remember me").await;
    assert_eq!(ana.request(Method::DELETE, "/api/members/me", Value::Null).await.status(), 204);
    assert_eq!(anas.expect_close().await.code.number(), 4403);
    let push: MemberPush = bens.expect().await;
    assert_eq!((push.member.name.as_str(), push.member.is_active), ("Former member", false));
    let profile = get(&ben, &format!("/api/members/{}", ana.id)).await;
    assert_eq!((&profile["name"], &profile["is_active"]), (&json!("Former member"), &json!(false)));
    let history = get(&ben, &format!("/api/messages/conversation/{}", ana.id)).await;
    assert_eq!(history["messages"][0]["content"], "Remember me");
    assert_eq!(names(&get(&ben, "/api/members").await), ["Ben"]);
    let again = ana.request(Method::GET, "/api/members/me", Value::Null).await;
    assert_eq!(code(again).await, ErrorCode::MemberDeactivated);
    let login = json!({ "email": ana.auth.member.email, "password": ana.password });
    let login = server.http().post(server.url("/api/auth/login")).json(&login).send().await.unwrap();
    assert_eq!(code(login).await, ErrorCode::InvalidCredentials);
    let reply = bens.request(crate::harness::client::message_to(ana.id, "Come back")).await;
    assert!(matches!(reply, ServerFrame::Error(error) if error.code == ErrorCode::RecipientDeactivated));
    let stranger = server.member("Another").await;
    let body = json!({ "receiver_id": ana.id, "content": "Hi", "client_id": crate::harness::client_id() });
    let refused = stranger.request(Method::POST, "/api/messages", body).await;
    assert_eq!(code(refused).await, ErrorCode::RecipientDeactivated);
}

#[tokio::test]
async fn an_export_has_everything() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let eva = server.member("Eva").await;
    let mut anas = ana.connect().await;
    for number in 1..=250 {
        anas.say(ben.id, &format!("message {number}")).await;
    }
    let mut evas = eva.connect().await;
    evas.say(ana.id, "hello").await;
    evas.say(ben.id, "not for Ana").await;
    let response = ana.request(Method::GET, "/api/members/me/export", Value::Null).await;
    let disposition = response.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().to_owned();
    assert!(disposition.starts_with("attachment"), "{disposition}");
    let export: Value = response.json().await.unwrap();
    let _: protocol::rest::Export = serde_json::from_value(export.clone()).unwrap();
    assert_eq!(export["member"]["email"], json!(ana.auth.member.email));
    assert_eq!(export["sessions"].as_array().unwrap().len(), 1);
    let conversations = export["conversations"].as_array().unwrap();
    assert_eq!(conversations.len(), 2);
    let long = conversations.iter().find(|found| found["messages"].as_array().unwrap().len() > 1).unwrap();
    let seqs: Vec<u64> = long["messages"].as_array().unwrap().iter().map(|m| m["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=250).collect::<Vec<_>>());
    assert!(!export.to_string().contains("not for Ana") && !export.to_string().contains("password"));
}

#[tokio::test]
async fn an_export_can_be_compressed() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let body = json!({ "receiver_id": ben.id, "content": "x".repeat(2_000), "client_id": crate::harness::client_id() });
    assert_eq!(ana.request(Method::POST, "/api/messages", body).await.status(), 201);
    let request = server.http().get(server.url("/api/members/me/export")).bearer_auth(&ana.auth.access_token);
    let response = request.header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let compressed = response.bytes().await.unwrap();
    let export: Value = serde_json::from_reader(flate2::read::GzDecoder::new(&compressed[..])).unwrap();
    assert_eq!(export["conversations"][0]["messages"].as_array().unwrap().len(), 1);
}
