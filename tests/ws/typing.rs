//! Typing.

use protocol::{
    ClientFrame, ErrorCode, ServerFrame,
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
    // Before the first message there is no conversation yet, but an id for it; only those are told who allow everybody.
    ben.show_presence_to("members").await;
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
    anas.say(ben.id, "hi").await;
    anas.typing_to(ben.id, true).await;
    assert!(bens.expect::<TypingPush>().await.active);
    drop(anas);
    assert!(!bens.expect::<TypingPush>().await.active);
}

#[tokio::test]
async fn typing_before_the_first_message_stops_when_the_typist_vanishes() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    ben.show_presence_to("members").await;
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
    anas.say(ben.id, "hi").await;
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

#[tokio::test]
async fn a_stranger_types_to_nobody_who_has_not_allowed_it() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    anas.typing_to(ben.id, true).await;
    // The first message is the first that Ben hears of Ana.
    anas.say(ben.id, "hi").await;
    bens.hear().await;
    bens.expect_no::<TypingPush>().await;
    ben.show_presence_to("nobody").await;
    anas.typing_to(ben.id, true).await;
    assert!(bens.expect::<TypingPush>().await.active, "partners may, whoever sees the presence");
}

#[tokio::test]
async fn typing_to_somebody_who_does_not_exist_is_refused() {
    let server = Server::start().await;
    let mut anas = server.member("Ana").await.connect().await;
    let to = Some("0123456789abcdef01234567".parse().unwrap());
    let error: Error = anas.ask(ClientFrame::Typing(Typing { conversation: None, to, active: true })).await;
    assert_eq!(error.code, ErrorCode::MemberNotFound);
}

#[tokio::test]
async fn typing_is_limited() {
    let server = Server::with(|settings| {
        settings.rates.rate_typing = 1;
        settings.rates.rate_typing_burst = 3;
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let (mut phone, mut tablet) = (ana.connect_as("phone", None).await, ana.connect_as("tablet", None).await);
    let mut bens = ben.connect().await;
    phone.say(ben.id, "hi").await;
    for _ in 0..3 {
        phone.typing_to(ben.id, true).await;
        assert!(bens.expect::<TypingPush>().await.active);
    }
    let typing = Typing { conversation: None, to: Some(ben.id), active: true };
    let error: Error = tablet.ask(ClientFrame::Typing(typing)).await;
    assert_eq!(error.code, ErrorCode::RateLimited);
    assert!(error.retry_after_ms.is_some());
    bens.expect_no::<TypingPush>().await;
}

#[tokio::test]
async fn one_member_is_shown_so_much_typing_and_no_more() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    anas.say(ben.id, "hi").await;
    for _ in 0..500 {
        anas.typing_to(ben.id, true).await;
    }
    anas.say(ben.id, "there").await;
    bens.ping().await;
    let shown = bens.drain().iter().filter(|envelope| matches!(envelope.frame, ServerFrame::TypingPush(_))).count();
    assert!((1..500).contains(&shown), "{shown}");
    assert!(server.metric(r#"rate_limited_total{limit="typing_shown"}"#).await >= 1.0);
}
