//! Rate limits.

use std::time::Duration;

use protocol::{ClientFrame, CloseCode, ErrorCode, client::Ping, server::Error};

use crate::harness::{Server, client::message_to};

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
