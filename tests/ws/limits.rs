//! Rate limits.

use std::time::Duration;

use protocol::{
    ClientFrame, CloseCode, ErrorCode, MemberId, Request, ServerFrame,
    client::{ConversationsList, HistoryGet, MessageRead, MessageSend, Ping, PresenceWatch},
    limits,
    server::{Conversations, Error, Goodbye, MessageAccepted, PresenceSnapshot},
};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpSocket};

use crate::harness::{
    Client, Member, Server,
    client::{message_in, message_to},
    client_id,
};

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
    let fourth = message_to(ben.id, "4");
    let error: Error = phone.ask(fourth.clone()).await;
    assert_eq!(error.code, ErrorCode::RateLimited);
    let wait = Duration::from_millis(error.retry_after_ms.unwrap());
    assert!(wait <= Duration::from_millis(110), "{wait:?}");
    phone.ping().await;
    // What the server asks for is what a client does.
    tokio::time::sleep(wait).await;
    let accepted: MessageAccepted = phone.ask(fourth).await;
    assert_eq!(accepted.message.seq, 4, "the refused one took no seq");
    assert!(server.metric(r#"rate_limited_total{limit="messages"}"#).await >= 1.0);
}

#[tokio::test]
async fn watching_many_members_costs_more_than_a_frame() {
    let server = Server::with(|settings| {
        settings.rates.rate_frames = 1;
        settings.rates.rate_frames_burst = 105;
    })
    .await;
    let mut anas = server.member("Ana").await.connect().await;
    let watch = |number: u16| {
        let members = (0..500_u16).map(|member| {
            let [high, low] = (number * 500 + member).to_be_bytes();
            MemberId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 1, high, low])
        });
        ClientFrame::PresenceWatch(PresenceWatch { members: members.collect() })
    };
    for number in 0..2 {
        let _: PresenceSnapshot = anas.ask(watch(number)).await;
    }
    let refused: Error = anas.ask(watch(2)).await;
    assert_eq!(refused.code, ErrorCode::RateLimited, "two of them have cost 102 frames");
    assert!(refused.retry_after_ms.is_some());
}

#[tokio::test]
async fn a_page_of_history_costs_more_than_a_frame() {
    let server = Server::with(|settings| {
        settings.rates.rate_frames = 1;
        settings.rates.rate_frames_burst = 12;
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let mut anas = ana.connect().await;
    let conversation = anas.say(ben.id, "hello").await.conversation;
    for _ in 0..2 {
        anas.history(conversation).await;
    }
    let get = HistoryGet { conversation, before: None, after: None, limit: None };
    let refused: Error = anas.ask(ClientFrame::HistoryGet(get)).await;
    assert_eq!(refused.code, ErrorCode::RateLimited, "two of them have cost 8 frames");
}

#[tokio::test]
async fn a_list_of_conversations_costs_more_than_a_frame() {
    let server = Server::with(|settings| {
        settings.rates.rate_frames = 1;
        settings.rates.rate_frames_burst = 12;
    })
    .await;
    let mut anas = server.member("Ana").await.connect().await;
    let list = || ClientFrame::ConversationsList(ConversationsList::default());
    for _ in 0..2 {
        let _: Conversations = anas.ask(list()).await;
    }
    let refused: Error = anas.ask(list()).await;
    assert_eq!(refused.code, ErrorCode::RateLimited, "two of them have cost 10 frames");
}

#[tokio::test]
async fn who_ignores_it_is_closed_with_4429() {
    let server = Server::with(|settings| {
        settings.rates.rate_frames = 1;
        settings.rates.rate_frames_burst = 1;
    })
    .await;
    let mut anas = server.member("Ana").await.connect().await;
    for _ in 0..=limits::RATE_LIMITED_MAX + 1 {
        anas.tell(ClientFrame::Ping(Ping {})).await;
    }
    let goodbye = anas.expect_close().await;
    assert_eq!(goodbye.code, CloseCode::TooMuch);
    assert!(goodbye.retry_after_ms.is_some());
}

/// Says hello with the cursor of an earlier connection, and how that was refused.
async fn refused_hello(server: &Server, member: &Member, device: &str) -> (Error, Goodbye) {
    let mut client = Client::open(server.addr()).await;
    client.say_hello(&member.auth.access_token, device, None).await;
    let ServerFrame::Error(error) = client.reply(&"1".parse().unwrap()).await else { panic!("it was not refused") };
    (error, client.expect_close().await)
}

#[tokio::test]
async fn hellos_are_limited_by_session_and_a_full_sync_counts_more() {
    let server = Server::with(|settings| {
        settings.rates.rate_hellos = 1;
        settings.rates.rate_hellos_burst = 6;
    })
    .await;
    let ana = server.member("Ana").await;
    let cursor = ana.connect().await.cursor();
    for _ in 0..3 {
        ana.connect_as("phone", Some(cursor.clone())).await;
    }
    let (error, goodbye) = refused_hello(&server, &ana, "phone").await;
    assert_eq!((error.code, goodbye.code), (ErrorCode::RateLimited, CloseCode::TooMuch));
    assert!(error.retry_after_ms.is_some_and(|wait| wait > 30_000) && goodbye.retry_after_ms == error.retry_after_ms);
    ana.log_in().await.connect().await;
    assert_eq!(server.metric(r#"rate_limited_total{limit="hellos_session"}"#).await, 1.0);
}

#[tokio::test]
async fn hellos_are_limited_by_member() {
    let server = Server::with(|settings| {
        settings.rates.rate_hellos_member = 1;
        settings.rates.rate_hellos_member_burst = 3;
    })
    .await;
    let (ana, ben) = server.two_members().await;
    ana.connect().await;
    assert_eq!(refused_hello(&server, &ana.log_in().await, "tablet").await.1.code, CloseCode::TooMuch);
    ben.connect().await;
    assert_eq!(server.metric(r#"rate_limited_total{limit="hellos_member"}"#).await, 1.0);
}

#[tokio::test]
async fn hellos_of_a_session_that_is_over_are_not_charged_to_its_member() {
    let server = Server::with(|settings| {
        settings.rates.rate_hellos_member = 1;
        settings.rates.rate_hellos_member_burst = 3;
    })
    .await;
    let stolen = server.member("Ana").await;
    let ana = stolen.log_in().await;
    let body = json!({ "all": false });
    assert_eq!(stolen.request(reqwest::Method::POST, "/api/auth/logout", body).await.status(), 204);
    for _ in 0..3 {
        assert_eq!(refused_hello(&server, &stolen, "phone").await.0.code, ErrorCode::SessionRevoked);
    }
    ana.connect().await;
}

#[tokio::test]
async fn one_address_with_many_accounts_leaves_places_to_others() {
    let server = Server::with(|settings| settings.connections.max_connections = 320).await;
    let mut crowd = Vec::new();
    for _ in 0..31 {
        let member = server.member("Eva").await;
        for device in 0..10 {
            crowd.push(member.connect_as(&format!("device-{device}"), None).await);
        }
    }
    let (ana, ben) = server.two_members().await;
    let (error, goodbye) = refused_hello(&server, &ana, "phone").await;
    assert_eq!((error.code, goodbye.code), (ErrorCode::Overloaded, CloseCode::TryAgainLater));
    assert!(error.retry_after_ms.is_some());
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.1.0.1:0".parse().unwrap()).unwrap();
    let mut elsewhere = Client::over(socket.connect(server.addr()).await.unwrap()).await;
    elsewhere.hello(ben.id, &ben.auth.access_token, &"phone".parse().unwrap(), None).await;
    elsewhere.ping().await;
    let goodbye = crowd.pop().unwrap().expect_close().await;
    assert_eq!(
        (goodbye.code, goodbye.retry_after_ms),
        (CloseCode::TryAgainLater, Some(60_000)),
        "the newest gives way"
    );
    for client in &mut crowd {
        client.ping().await;
    }
}

#[tokio::test]
async fn who_comes_back_at_once_after_4429_is_refused_before_anything_is_done() {
    let server = Server::with(|settings| {
        settings.rates.rate_frames = 1;
        settings.rates.rate_frames_burst = 1;
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let mut anas = ana.connect().await;
    for _ in 0..=limits::RATE_LIMITED_MAX + 1 {
        anas.tell(ClientFrame::Ping(Ping {})).await;
    }
    let goodbye = anas.expect_close().await;
    assert!(goodbye.retry_after_ms.is_some_and(|wait| wait >= limits::TOO_MUCH_WAIT_MS));
    let (error, goodbye) = refused_hello(&server, &ana, "tablet").await;
    assert_eq!((error.code, goodbye.code), (ErrorCode::RateLimited, CloseCode::TooMuch));
    assert!(goodbye.retry_after_ms.is_some_and(|wait| wait <= limits::TOO_MUCH_WAIT_MS));
    ben.connect().await;
}

#[tokio::test]
async fn pings_pongs_and_empty_fragments_are_charged() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let frame = |first: u8| [first, 0x80, 0, 0, 0, 0];
    let beginning = frame(0x01);
    for (first, then) in [(None, 0x89), (None, 0x8a), (Some(beginning), 0x00)] {
        // With a member of its own, who is kept out afterwards.
        let mut client = server.member("Eva").await.connect().await;
        let mut bytes: Vec<u8> = first.into_iter().flatten().collect();
        bytes.extend(std::iter::repeat_n(frame(then), 5_000).flatten());
        client.stream().write_all(&bytes).await.unwrap();
        let goodbye = client.expect_close().await;
        assert_eq!(goodbye.code, CloseCode::TooMuch, "{then:x}");
        assert!(goodbye.retry_after_ms.is_some());
    }
    // As many as any client sends.
    let mut client = ana.connect().await;
    client.stream().write_all(&frame(0x89).repeat(100)).await.unwrap();
    client.ping().await;
}

#[tokio::test]
async fn nothing_overtakes_a_message_that_was_refused() {
    let server = Server::with(|settings| {
        settings.rates.rate_messages = 10;
        settings.rates.rate_messages_burst = 2;
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let mut anas = ana.connect().await;
    let conversation = anas.say(ben.id, "1").await.conversation;
    anas.say(ben.id, "2").await;
    let third = message_to(ben.id, "3");
    let refused: Error = anas.ask(third.clone()).await;
    // Long enough for the limit to allow the next one.
    tokio::time::sleep(Duration::from_millis(refused.retry_after_ms.unwrap() + 100)).await;
    for later in [message_to(ben.id, "4"), message_in(conversation, "5")] {
        let error: Error = anas.ask(later).await;
        assert_eq!(error.code, ErrorCode::RateLimited, "the third has not been sent again");
    }
    // A resend that is not valid is handed on to nobody, and takes no place.
    let ClientFrame::MessageSend(third) = third else { panic!() };
    for content in [String::new(), "x".repeat(limits::CONTENT_MAX_CHARS + 1)] {
        let error: Error = anas.ask(ClientFrame::MessageSend(MessageSend { content, ..third.clone() })).await;
        assert_eq!(error.field.as_deref(), Some("content"));
        let error: Error = anas.ask(message_to(ben.id, "6")).await;
        assert_eq!(error.code, ErrorCode::RateLimited, "the third has not been sent again");
    }
    let accepted: MessageAccepted = anas.ask(ClientFrame::MessageSend(third)).await;
    assert_eq!((accepted.message.seq, accepted.message.content.as_str()), (3, "3"));
}

/// Found from outside: a frame that the limit of frames refuses was not looked at, and later messages overtook it.
#[tokio::test]
async fn nothing_overtakes_a_message_that_the_limit_of_frames_has_refused() {
    let server = Server::with(|settings| {
        settings.rates.rate_frames = 20;
        settings.rates.rate_frames_burst = 4;
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let mut anas = ana.connect().await;
    let messages: Vec<_> = (1..=30).map(|number| message_to(ben.id, &number.to_string())).collect();
    let (mut next, mut refusals) = (0, 0);
    // As the docs say: from the first that is refused on, all are sent again when it may be.
    while next < messages.len() {
        let mut wait = None;
        for message in &messages[next..] {
            match anas.request(message.clone()).await {
                ServerFrame::MessageAccepted(accepted) => {
                    next += 1;
                    assert_eq!(accepted.message.content, next.to_string());
                }
                ServerFrame::Error(error) => {
                    assert_eq!(error.code, ErrorCode::RateLimited);
                    wait = wait.or(error.retry_after_ms);
                    refusals += 1;
                    if refusals % 3 == 0 {
                        break;
                    }
                    // The limit allows the one after it before it is sent again.
                    tokio::time::sleep(Duration::from_millis(60)).await;
                }
                other => panic!("{other:?}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(wait.unwrap_or_default())).await;
    }
    assert!(refusals > 3, "{refusals}");
}

/// Found by reading: what was read together was refused before what came first was looked at.
#[tokio::test]
async fn of_messages_that_arrive_together_the_first_ones_are_accepted() {
    let server = Server::with(|settings| {
        settings.rates.rate_frames = 1;
        settings.rates.rate_frames_burst = 6;
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let mut anas = ana.connect().await;
    let mut ids = Vec::new();
    for number in 1..=20 {
        ids.push(anas.post(message_to(ben.id, &number.to_string())).await);
    }
    let mut accepted = Vec::new();
    for id in &ids {
        accepted.push(matches!(anas.reply(id).await, ServerFrame::MessageAccepted(_)));
    }
    let first = accepted.iter().take_while(|accepted| **accepted).count();
    assert!((5..15).contains(&first) && accepted.iter().skip(first).all(|accepted| !accepted), "{accepted:?}");
}

#[tokio::test]
async fn many_messages_behind_one_that_was_refused_close_nothing() {
    let server = Server::with(|settings| {
        settings.rates.rate_frames_burst = 10_000;
        settings.rates.rate_messages = 1;
        settings.rates.rate_messages_burst = 1;
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let mut anas = ana.connect().await;
    anas.say(ben.id, "1").await;
    for _ in 0..=limits::RATE_LIMITED_MAX + 1 {
        anas.tell(message_to(ben.id, "2")).await;
    }
    anas.ping().await;
}

#[tokio::test]
async fn marks_cost_a_quarter_of_a_frame() {
    let server = Server::with(|settings| {
        settings.rates.rate_frames = 1;
        settings.rates.rate_frames_burst = 60;
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let conversation = ben.connect().await.say(ana.id, "hi").await.conversation;
    let mut anas = ana.connect().await;
    let read = || ClientFrame::MessageRead(MessageRead { conversation, seq: 1 });
    for _ in 0..100 {
        anas.delivered(conversation, 1).await;
        anas.tell(read()).await;
    }
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(anas.request(read()).await);
    }
    let refused = answers.iter().filter(|answer| matches!(answer, ServerFrame::Error(_))).count();
    assert!((1..15).contains(&refused), "those that are answered cost as much as other frames: {refused} of 20");
}

#[tokio::test]
async fn what_came_before_a_ping_too_many_is_answered_before_the_close() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let mut anas = ana.connect().await;
    let mut bytes = Vec::new();
    for number in 0..10 {
        let request = Request { id: Some(number.to_string().parse().unwrap()), frame: message_to(ben.id, "x") };
        let text = request.encode();
        bytes.extend([0x81, 0xfe]);
        bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(text.as_bytes());
    }
    // In one write, so that they are read together.
    bytes.extend([0x89, 0x80, 0, 0, 0, 0].repeat(1_000));
    anas.stream().write_all(&bytes).await.unwrap();
    for number in 0..10 {
        let reply = anas.reply(&number.to_string().parse().unwrap()).await;
        assert!(matches!(reply, ServerFrame::MessageAccepted(_)), "{reply:?}");
    }
    assert_eq!(anas.expect_close().await.code, CloseCode::TooMuch);
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
    let one = message_to(leo.id, "1");
    let posted = [anas.post(one.clone()).await, anas.post(message_to(leo.id, "2")).await];
    for id in posted {
        let ServerFrame::Error(error) = anas.reply(&id).await else { panic!("accepted") };
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
    let overtaking: Error = anas.ask(message_to(leo.id, "3")).await;
    assert_eq!(overtaking.code, ErrorCode::RateLimited, "the first one has not been sent again");
    let accepted: MessageAccepted = anas.ask(one).await;
    assert_eq!(accepted.message.seq, 2);
    assert_eq!(anas.say(leo.id, "then I").await.seq, 3);
    let admin = server.admin().await;
    let mut admins = admin.connect().await;
    for member in [ana.id, ben.id, eva.id, leo.id] {
        admins.say(member, "welcome").await;
    }
}
