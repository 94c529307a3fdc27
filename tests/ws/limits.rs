//! Rate limits.

use std::time::Duration;

use protocol::{
    ClientFrame, CloseCode, ErrorCode,
    client::Ping,
    server::{Error, MessageAccepted},
};

use serde_json::json;

use crate::harness::{Server, client::message_to, client_id};

#[tokio::test]
async fn too_many_messages_are_refused_with_a_time_to_wait_and_can_be_sent_then() {
    let server = Server::with(|settings| {
        settings.rates.rate_messages = 10;
        settings.rates.rate_messages_burst = 3;
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let (mut phone, mut tablet) = (ana.connect_as("phone", None).await, ana.connect_as("tablet", None).await);
    phone.say(ben.id, "1").await;
    phone.say(ben.id, "2").await;
    tablet.say(ben.id, "3").await;
    let error: Error = phone.ask(message_to(ben.id, "4")).await;
    assert_eq!(error.code, ErrorCode::RateLimited);
    let wait = Duration::from_millis(error.retry_after_ms.unwrap());
    assert!(wait <= Duration::from_millis(110), "{wait:?}");
    phone.ping().await;
    // What the server asks for is what a client does.
    tokio::time::sleep(wait).await;
    assert_eq!(phone.say(ben.id, "4").await.seq, 4, "the refused one took no seq");
    assert!(server.metric(r#"rate_limited_total{limit="messages"}"#).await >= 1.0);
}

#[tokio::test]
async fn who_ignores_it_is_closed_with_4429() {
    let server = Server::with(|settings| {
        settings.rates.rate_frames = 1;
        settings.rates.rate_frames_burst = 1;
    })
    .await;
    let mut anas = server.member("Ana").await.connect().await;
    for _ in 0..=protocol::limits::RATE_LIMITED_MAX + 1 {
        anas.tell(ClientFrame::Ping(Ping {})).await;
    }
    let goodbye = anas.expect_close().await;
    assert_eq!(goodbye.code, CloseCode::TooMuch);
    assert!(goodbye.retry_after_ms.is_some());
}

#[tokio::test]
async fn new_conversations_are_limited_and_known_ones_are_not() {
    let server = Server::with(|settings| {
        settings.rates.rate_new_conversations = 30;
        settings.rates.rate_new_conversations_burst = 2;
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let (eva, leo) = (server.member("Eva").await, server.member("Leo").await);
    let mut anas = ana.connect().await;
    let first = message_to(ben.id, "1");
    let _: MessageAccepted = anas.ask(first.clone()).await;
    anas.say(eva.id, "1").await;
    // All that were on their way are refused alike, so that none is stored before one that came earlier.
    let posted = [anas.post(message_to(leo.id, "1")).await, anas.post(message_to(leo.id, "2")).await];
    for id in posted {
        let protocol::ServerFrame::Error(error) = anas.reply(&id).await else { panic!("accepted") };
        assert_eq!(error.code, ErrorCode::RateLimited);
        assert!(error.retry_after_ms.is_some_and(|wait| wait > 60_000 && wait <= 120_001), "{error:?}");
    }
    let body = json!({ "receiver_id": leo.id, "content": "x", "client_id": client_id() });
    let refused = ana.request(reqwest::Method::POST, "/api/messages", body.clone()).await;
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (429, true));
    // Known conversations go on, retries are answered, and an answer begins nothing.
    let again: MessageAccepted = anas.ask(first).await;
    assert!(again.duplicate);
    assert_eq!(anas.say(ben.id, "2").await.seq, 2);
    leo.connect().await.say(ana.id, "you first").await;
    assert_eq!(anas.say(leo.id, "then I").await.seq, 2);
    let admin = server.admin().await;
    let mut admins = admin.connect().await;
    for member in [ana.id, ben.id, eva.id, leo.id] {
        admins.say(member, "welcome").await;
    }
}
