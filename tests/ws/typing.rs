//! Typing.

use protocol::{
    ClientFrame, ErrorCode,
    client::Typing,
    server::{Error, TypingPush},
};

use crate::harness::Server;

#[tokio::test]
async fn typing_reaches_the_other_member_and_not_oneself() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut tablet) = (ana.connect().await, ana.connect_as("tablet", None).await);
    let mut bens = ben.connect().await;
    // Before the first message there is no conversation yet, but an id for it.
    anas.typing_to(ben.id, true).await;
    let typing: TypingPush = bens.expect().await;
    assert_eq!((typing.member, typing.active), (ana.id, true));
    let sent = anas.say(ben.id, "hi").await;
    assert_eq!(typing.conversation, sent.conversation);
    bens.tell(ClientFrame::Typing(Typing { conversation: Some(sent.conversation), to: None, active: true })).await;
    for device in [&mut anas, &mut tablet] {
        assert_eq!(device.expect::<TypingPush>().await.member, ben.id);
    }
    bens.expect_no::<TypingPush>().await;
}

#[tokio::test]
async fn typing_stops_when_the_typist_vanishes() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    anas.typing_to(ben.id, true).await;
    assert!(bens.expect::<TypingPush>().await.active);
    drop(anas);
    assert!(!bens.expect::<TypingPush>().await.active);
}

#[tokio::test]
async fn typing_stops_by_itself() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    anas.typing_to(ben.id, true).await;
    assert!(bens.expect::<TypingPush>().await.active);
    assert!(!bens.expect::<TypingPush>().await.active, "after six seconds, without anything from Ana");
}

#[tokio::test]
async fn typing_where_one_does_not_belong_is_refused() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut evas) = (ana.connect().await, server.member("Eva").await.connect().await);
    let mut bens = ben.connect().await;
    let conversation = Some(anas.say(ben.id, "hi").await.conversation);
    let error: Error = evas.ask(ClientFrame::Typing(Typing { conversation, to: None, active: true })).await;
    assert_eq!(error.code, ErrorCode::ConversationNotFound);
    let error: Error =
        anas.ask(ClientFrame::Typing(Typing { conversation: None, to: Some(ana.id), active: true })).await;
    assert_eq!(error.code, ErrorCode::MessageToSelf);
    bens.expect_no::<TypingPush>().await;
}
