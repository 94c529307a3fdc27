//! Several devices of one member.

use protocol::{
    CloseCode, ErrorCode,
    server::{EntryPush, Error, Receipt},
};

use crate::harness::{Client, Server};

#[tokio::test]
async fn a_message_shows_on_the_senders_other_devices() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut phone, mut tablet) = (ana.connect_as("phone", None).await, ana.connect_as("tablet", None).await);
    let (mut bens_phone, mut bens_tablet) = (ben.connect_as("phone", None).await, ben.connect_as("tablet", None).await);
    let sent = phone.say(ben.id, "hi").await;
    for device in [&mut tablet, &mut bens_phone, &mut bens_tablet] {
        assert_eq!(device.hear().await, sent);
    }
    phone.expect_no::<EntryPush>().await;
}

#[tokio::test]
async fn a_receipt_shows_on_the_readers_other_devices() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut phone, mut tablet) = (ana.connect_as("phone", None).await, ana.connect_as("tablet", None).await);
    let conversation = ben.connect().await.say(ana.id, "hi").await.conversation;
    phone.read(conversation, 1).await;
    let receipt: Receipt = tablet.expect().await;
    assert_eq!((receipt.member, receipt.read), (ana.id, 1));
    phone.expect_no::<Receipt>().await;
}

#[tokio::test]
async fn the_same_device_connecting_again_replaces_the_older_connection() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let mut older = ana.connect_as("phone", None).await;
    let mut tablet = ana.connect_as("tablet", None).await;
    let mut newer = ana.connect_as("phone", None).await;
    assert_eq!(older.expect_close().await.code, CloseCode::Replaced);
    // The end of the older one must not take the newer one with it.
    drop(older);
    ben.connect().await.say(ana.id, "still there?").await;
    assert_eq!(newer.hear().await.content, "still there?");
    assert_eq!(tablet.hear().await.content, "still there?");
}

#[tokio::test]
async fn one_device_too_many_is_refused() {
    let server = Server::with(|settings| settings.connections.max_connections_per_member = 2).await;
    let ana = server.member("Ana").await;
    let (mut one, _two) = (ana.connect_as("one", None).await, ana.connect_as("two", None).await);
    let mut three = Client::open(server.addr()).await;
    three.send_text(&hello(&ana.auth.access_token, "three")).await;
    assert_eq!(three.reply(&"h".parse().unwrap()).await, {
        let error = Error {
            code: ErrorCode::TooManyConnections,
            message: ErrorCode::TooManyConnections.meaning().to_owned(),
            field: None,
            retry_after_ms: Some(60_000),
        };
        protocol::ServerFrame::Error(error)
    });
    let goodbye = three.expect_close().await;
    assert_eq!((goodbye.code, goodbye.retry_after_ms), (CloseCode::TooMuch, Some(60_000)));
    // A known device may always come back.
    let _again = ana.connect_as("one", None).await;
    assert_eq!(one.expect_close().await.code, CloseCode::Replaced);
}

fn hello(token: &str, device: &str) -> String {
    format!(r#"{{"type":"hello","id":"h","token":"{token}","device":{{"id":"{device}","platform":"other"}}}}"#)
}
