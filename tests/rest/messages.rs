//! Messages over REST, seen by the sockets at once.

use protocol::{
    ErrorCode,
    server::{EntryPush, Receipt},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{code, fields};
use crate::harness::{Member, Server, client_id};

async fn get(member: &Member, path: &str) -> Value {
    let response = member.request(Method::GET, path, Value::Null).await;
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

async fn send(from: &Member, to: &Member, content: &str) -> Value {
    let body = json!({ "receiver_id": to.id, "content": content, "client_id": client_id() });
    let response = from.request(Method::POST, "/api/messages", body).await;
    assert_eq!(response.status(), 201);
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_message_over_rest_reaches_the_sockets_and_has_the_fields_of_the_club() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let mut bens = ben.connect().await;
    let sent = send(&ana, &ben, " Dinner? ").await;
    let push: EntryPush = bens.expect().await;
    let message = push.entry.into_message().unwrap();
    assert_eq!((message.content.as_str(), json!(message.id)), ("Dinner?", sent["_id"].clone()));
    assert_eq!((&sent["sender_id"], &sent["receiver_id"]), (&json!(ana.id), &json!(ben.id)));
    assert_eq!((&sent["status"], &sent["seq"], &sent["read_at"]), (&json!("sent"), &json!(1), &Value::Null));
    bens.delivered(message.conversation, 1).await;
    let page = get(&ana, &format!("/api/messages/conversation/{}", ben.id)).await;
    let message = &page["messages"][0];
    assert_eq!((&message["status"], &message["read_at"]), (&json!("delivered"), &Value::Null));
    assert!(message["delivered_at"].is_string());
}

#[tokio::test]
async fn sending_again_returns_the_first_message() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let body = json!({ "receiver_id": ben.id, "content": "once", "client_id": client_id() });
    let first = ana.request(Method::POST, "/api/messages", body.clone()).await;
    let again = ana.request(Method::POST, "/api/messages", body).await;
    assert_eq!((first.status(), again.status()), (StatusCode::CREATED, StatusCode::OK));
    let (first, again): (Value, Value) = (first.json().await.unwrap(), again.json().await.unwrap());
    assert_eq!(first, again);
    let with_key = async |key: &str| {
        let body = json!({ "conversation_id": first["conversation_id"], "content": "by key" });
        let request = server.http().post(server.url("/api/messages")).bearer_auth(&ana.auth.access_token);
        request.header("Idempotency-Key", key).json(&body).send().await.unwrap()
    };
    let one: Value = with_key("order 66").await.json().await.unwrap();
    let same: Value = with_key("order 66").await.json().await.unwrap();
    let other: Value = with_key("order 67").await.json().await.unwrap();
    assert_eq!(one, same);
    assert_eq!((&one["seq"], &other["seq"]), (&json!(2), &json!(3)));
    assert_eq!(fields(with_key(&"x".repeat(256)).await).await, ["Idempotency-Key"]);
}

#[tokio::test]
async fn an_answer_names_its_message_wherever_it_is_shown() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let first = send(&ana, &ben, "Dinner?").await;
    assert_eq!(first.get("reply_to"), None);
    let post = async |reply_to: Value| {
        let mut body = json!({ "receiver_id": ana.id, "content": "Gladly", "client_id": client_id() });
        body["reply_to"] = reply_to;
        ben.request(Method::POST, "/api/messages", body).await
    };
    for bad in [json!(0), json!(2), json!(9_007_199_254_740_991_u64)] {
        let problem: Value = post(bad.clone()).await.json().await.unwrap();
        assert_eq!((&problem["status"], &problem["code"]), (&json!(404), &json!("message_not_found")), "{bad}");
        assert_eq!(problem["errors"][0]["field"], "reply_to", "{bad}");
    }
    for bad in [json!("1"), json!(1.5), json!(-1), json!(9_007_199_254_740_992_u64)] {
        assert_eq!(fields(post(bad.clone()).await).await, ["reply_to"], "{bad}");
    }
    assert_eq!(post(Value::Null).await.json::<Value>().await.unwrap().get("reply_to"), None);
    let answer: Value = post(json!(1)).await.json().await.unwrap();
    assert_eq!((&answer["seq"], &answer["reply_to"]), (&json!(3), &json!(1)));
    let page = get(&ana, &format!("/api/messages/conversation/{}", ben.id)).await;
    assert_eq!((&page["messages"][0], page["messages"][1].get("reply_to")), (&answer, None));
    let listed = get(&ana, "/api/messages/conversations").await;
    assert_eq!(listed["conversations"][0]["last_message"], answer);
    let export = get(&ana, "/api/members/me/export").await;
    let exported = export["conversations"][0]["messages"].as_array().unwrap();
    let answered: Vec<_> = exported.iter().map(|message| message.get("reply_to")).collect();
    assert_eq!(answered, [None, None, Some(&json!(1))]);
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_by_name() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let post = async |body: Value| ana.request(Method::POST, "/api/messages", body).await;
    let id = client_id();
    let (both, none) = (json!({ "receiver_id": ben.id, "conversation_id": ben.id }), json!({}));
    for target in [both, none] {
        let mut body = target;
        body["content"] = json!("x");
        body["client_id"] = json!(id);
        assert_eq!(fields(post(body).await).await, ["receiver_id"]);
    }
    assert_eq!(
        fields(post(json!({ "receiver_id": "x", "client_id": 5 })).await).await,
        ["client_id", "content", "receiver_id"]
    );
    assert_eq!(fields(post(json!({ "receiver_id": ben.id, "content": "x" })).await).await, ["client_id"]);
    let to = |id: Value, content: &str| json!({ "receiver_id": id, "content": content, "client_id": client_id() });
    let refusals = [
        (to(json!(ana.id), "x"), ErrorCode::MessageToSelf),
        (to(json!("0123456789abcdef01234567"), "x"), ErrorCode::MemberNotFound),
        (to(json!(ben.id), " "), ErrorCode::ContentEmpty),
        (to(json!(ben.id), &"x".repeat(4001)), ErrorCode::ContentTooLong),
        (json!({ "conversation_id": ben.id, "content": "x", "client_id": id }), ErrorCode::ConversationNotFound),
    ];
    for (body, expected) in refusals {
        assert_eq!(code(post(body).await).await, expected);
    }
    let page = get(&ana, &format!("/api/messages/conversation/{}", ben.id)).await;
    assert_eq!(page["messages"], json!([]));
}

#[tokio::test]
async fn a_conversation_is_read_from_the_newest_back() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    for number in 1..=7 {
        send(&ana, &ben, &format!("{number}")).await;
    }
    let page = async |query: &str| {
        let page = get(&ben, &format!("/api/messages/conversation/{}?{query}", ana.id)).await;
        let seqs: Vec<u64> =
            page["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_u64().unwrap()).collect();
        (seqs, page["more"].as_bool().unwrap())
    };
    assert_eq!(page("limit=3").await, (vec![7, 6, 5], true));
    assert_eq!(page("limit=3&before=5").await, (vec![4, 3, 2], true));
    assert_eq!(page("limit=3&before=2").await, (vec![1], false));
    assert_eq!(page("limit=3&after=5").await, (vec![7, 6], false));
    let path = format!("/api/messages/conversation/{}?before=2&after=1", ana.id);
    assert_eq!(fields(ben.request(Method::GET, &path, Value::Null).await).await, ["before"]);
    let nobody = "/api/messages/conversation/0123456789abcdef01234567";
    assert_eq!(code(ben.request(Method::GET, nobody, Value::Null).await).await, ErrorCode::MemberNotFound);
}

#[tokio::test]
async fn only_the_receiver_marks_a_message_as_read() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let eva = server.member("Eva").await;
    let mut anas = ana.connect().await;
    send(&ana, &ben, "one").await;
    let two = send(&ana, &ben, "two").await;
    send(&ana, &ben, "three").await;
    assert_eq!(get(&ben, "/api/messages/unread").await["total"], 3);
    let path = format!("/api/messages/{}/read", two["_id"].as_str().unwrap());
    let by = async |member: &Member| member.request(Method::PUT, &path, Value::Null).await;
    assert_eq!(code(by(&ana).await).await, ErrorCode::Forbidden);
    assert_eq!(code(by(&eva).await).await, ErrorCode::MessageNotFound);
    let read: Value = by(&ben).await.json().await.unwrap();
    assert_eq!(read["status"], "read");
    assert!(read["read_at"].is_string() && read["delivered_at"].is_string());
    let receipt: Receipt = anas.expect().await;
    assert_eq!((receipt.member, receipt.read, receipt.delivered), (ben.id, 2, 2));
    let unread = get(&ben, "/api/messages/unread").await;
    assert_eq!(unread["total"], 1);
    assert_eq!(unread["conversations"], json!([{ "conversation_id": two["conversation_id"], "unread": 1 }]));
    assert_eq!(get(&ana, "/api/messages/unread").await["total"], 0);
}

#[tokio::test]
async fn conversations_are_listed_with_their_newest_message() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let eva = server.member("Eva").await;
    send(&ana, &ben, "to Ben").await;
    send(&eva, &ana, "to Ana").await;
    let first = get(&ana, "/api/messages/conversations?limit=1").await;
    assert_eq!(first["conversations"][0]["last_message"]["content"], "to Ana");
    assert_eq!(first["conversations"][0]["unread"], 1);
    let next = format!("/api/messages/conversations?limit=1&cursor={}", first["next"].as_str().unwrap());
    let second = get(&ana, &next).await;
    assert_eq!(second["conversations"][0]["last_message"]["receiver_id"], json!(ben.id));
    assert_eq!(second["conversations"][0]["unread"], 0);
    assert_eq!(second["next"], Value::Null);
    let bad = ana.request(Method::GET, "/api/messages/conversations?cursor=x", Value::Null).await;
    assert_eq!(fields(bad).await, ["cursor"]);
}
