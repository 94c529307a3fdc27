//! Lists of conversations by what the member has set and by what is unread, over the socket and over REST.

use protocol::{
    ClientFrame, ConversationId, ErrorCode, ServerFrame,
    client::{ConversationConfigure, ConversationsList, MessageRead},
    model::ConversationSettings,
    server::{ConversationSettingsPush, Conversations, Okay},
};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::harness::{Client, Member, Server};

/// A page: the ids, and `next`.
type Page = (Vec<ConversationId>, Option<String>);

async fn over_the_socket(client: &mut Client, list: ConversationsList) -> Page {
    let page: Conversations = client.ask(ClientFrame::ConversationsList(list)).await;
    (page.conversations.into_iter().map(|conversation| conversation.id).collect(), page.next)
}

async fn over_rest(member: &Member, query: &str) -> Page {
    let answer = member.request(Method::GET, &format!("/api/messages/conversations?{query}"), Value::Null).await;
    assert_eq!(answer.status(), StatusCode::OK, "{query}");
    let page: Value = answer.json().await.unwrap();
    let ids = page["conversations"].as_array().unwrap().iter().map(|each| each["_id"].as_str().unwrap());
    (ids.map(|id| id.parse().unwrap()).collect(), page["next"].as_str().map(str::to_owned))
}

/// Three conversations, the newest first: unread; archived, pinned and unread; archived and read.
async fn three(server: &Server, ana: &Member, client: &mut Client) -> [ConversationId; 3] {
    let mut newest_first = Vec::new();
    for name in ["B", "C", "D"] {
        let other = server.member(name).await;
        newest_first.insert(0, other.connect().await.say(ana.id, name).await.conversation);
        client.hear().await;
    }
    let three = <[ConversationId; 3]>::try_from(newest_first).unwrap();
    for (conversation, pinned) in [(three[1], true), (three[2], false)] {
        let settings = ConversationSettings { archived: true, pinned, ..<_>::default() };
        let configure = ConversationConfigure { conversation, settings };
        let _: ConversationSettingsPush = client.ask(ClientFrame::ConversationConfigure(configure)).await;
    }
    let read = MessageRead { conversation: three[2], seq: 1 };
    let _: Okay = client.ask(ClientFrame::MessageRead(read)).await;
    three
}

#[tokio::test]
async fn a_list_is_the_same_over_the_socket_and_over_rest() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let mut client = ana.connect().await;
    let [newest, middle, oldest] = three(&server, &ana, &mut client).await;
    let all = ConversationsList::default;
    for (query, list, expected) in [
        ("", all(), vec![newest, middle, oldest]),
        ("archived=true", ConversationsList { archived: Some(true), ..all() }, vec![middle, oldest]),
        ("archived=false", ConversationsList { archived: Some(false), ..all() }, vec![newest]),
        ("pinned=true", ConversationsList { pinned: Some(true), ..all() }, vec![middle]),
        ("pinned=false", ConversationsList { pinned: Some(false), ..all() }, vec![newest, oldest]),
        ("unread=true", ConversationsList { unread: Some(true), ..all() }, vec![newest, middle]),
        ("unread=false", ConversationsList { unread: Some(false), ..all() }, vec![oldest]),
        (
            "archived=true&unread=true",
            ConversationsList { archived: Some(true), unread: Some(true), ..all() },
            vec![middle],
        ),
    ] {
        assert_eq!(over_the_socket(&mut client, list).await, (expected.clone(), None), "{query}");
        assert_eq!(over_rest(&ana, query).await, (expected, None), "{query}");
    }
}

#[tokio::test]
async fn the_next_page_goes_on_in_the_same_list() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let mut client = ana.connect().await;
    let [_, middle, oldest] = three(&server, &ana, &mut client).await;
    let archived = ConversationsList { limit: Some(1), archived: Some(true), ..<_>::default() };
    let (first, next) = over_the_socket(&mut client, archived.clone()).await;
    assert_eq!(first, [middle]);
    let second = over_the_socket(&mut client, ConversationsList { after: next, ..archived }).await;
    assert_eq!(second, (vec![oldest], None));
    let (first, next) = over_rest(&ana, "archived=true&limit=1").await;
    assert_eq!(first, [middle]);
    let next = format!("archived=true&limit=1&cursor={}", next.unwrap());
    assert_eq!(over_rest(&ana, &next).await, (vec![oldest], None));
}

#[tokio::test]
async fn what_is_neither_true_nor_false_is_refused_by_name() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let mut client = ana.connect().await;
    for field in ["archived", "pinned", "unread"] {
        client.send_text(&format!(r#"{{"type":"conversations.list","id":"x","{field}":"yes"}}"#)).await;
        let ServerFrame::Error(error) = client.reply(&"x".parse().unwrap()).await else { panic!() };
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::ValidationFailed, Some(field)));
        for wrong in ["yes", "1", ""] {
            let path = format!("/api/messages/conversations?{field}={wrong}");
            let answer = ana.request(Method::GET, &path, Value::Null).await;
            assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{path}");
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["errors"][0]["field"], field);
        }
    }
}
