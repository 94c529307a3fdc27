//! A reader that stops reading.

use std::time::Duration;

use protocol::{CloseCode, ServerFrame, limits, model::Entry};
use tokio::net::TcpSocket;

use crate::harness::{Client, Server, eventually};

#[tokio::test]
async fn a_reader_that_stops_is_cut_with_4413_harms_nobody_and_finds_everything_by_sync() {
    let server = Server::with(|settings| settings.connections.outbox_max_frames = 200).await;
    let (ana, ben) = server.two_members().await;
    let eva = server.member("Eva").await;
    let (mut anas, mut evas) = (ana.connect().await, eva.connect().await);

    // Ben's phone takes little into its receive buffer, and then nothing any more.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stalled = Client::over(socket.connect(server.addr()).await.unwrap()).await;
    stalled.hello(ben.id, &ben.auth.access_token, &"phone".parse().unwrap(), None).await;
    let cursor = stalled.cursor();

    let content = "x".repeat(4000);
    let mut sent = 0_u64;
    // Until the server has had enough of it: what the kernel takes is not ours to say.
    while server.metric("outbox_overflows_total").await == 0.0 {
        for _ in 0..50 {
            sent += 1;
            let message = anas.say(ben.id, &content).await;
            assert_eq!(message.seq, sent, "the sender notices nothing");
        }
        anas.say(eva.id, "how are you?").await;
        assert_eq!(evas.hear().await.content, "how are you?", "nor does anybody else");
        assert!(sent < 20_000, "the outbox has no bound");
    }

    assert_eq!(stalled.expect_close().await.code, CloseCode::SlowConsumer);
    let closed = async || (server.metric(r#"connections_closed_total{code="4413"}"#).await == 1.0).then_some(());
    eventually("the end of the connection", closed).await;

    let mut bens = ben.connect_as("phone", Some(cursor)).await;
    let [conversation] = &bens.synced[..] else { panic!("{:?}", bens.synced.len()) };
    let told = (conversation.last_seq, conversation.unread, conversation.unread_more);
    assert_eq!(told, (sent, sent.min(limits::UNREAD_MAX), sent > limits::UNREAD_MAX));
    let mut log: Vec<u64> = conversation.entries.iter().map(Entry::seq).collect();
    let id = conversation.id;
    while log[0] > 1 {
        let get =
            protocol::client::HistoryGet { conversation: id, before: Some(log[0]), after: None, limit: Some(100) };
        let page: protocol::server::History = bens.ask(protocol::ClientFrame::HistoryGet(get)).await;
        log.splice(0..0, page.entries.iter().map(Entry::seq));
    }
    assert_eq!(log, (1..=sent).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_that_do_not_fit_beside_a_long_sync_are_part_of_it() {
    let server = Server::with(|settings| {
        settings.connections.outbox_max_frames = 20;
        settings.connections.write_timeout = Duration::from_secs(60);
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let mut bens = ben.connect().await;
    for number in 0..40 {
        let mut other = server.member(&format!("M{number}")).await.connect().await;
        for _ in 0..12 {
            other.say(ana.id, &"x".repeat(4_000)).await;
        }
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = Client::over(socket.connect(server.addr()).await.unwrap()).await;
    slow.say_hello(&ana.auth.access_token, "phone", None).await;
    assert!(matches!(slow.next().await.frame, ServerFrame::Welcome(_)));
    // She reads nothing while Ben writes more than her outbox has room for.
    let mut sent = 0;
    while server.metric("outbox_dropped_total").await == 0.0 {
        for _ in 0..10 {
            sent = bens.say(ana.id, "hello?").await.seq;
        }
        assert!(sent < 5_000, "the outbox has no bound, or the sync is over");
    }
    let mut newest = 0;
    loop {
        match slow.next().await.frame {
            ServerFrame::Sync(sync) => {
                let with_ben = sync.conversations.iter().filter(|c| c.members.iter().any(|each| each.member == ben.id));
                newest = with_ben.map(|conversation| conversation.last_seq).fold(newest, u64::max);
            }
            ServerFrame::SyncDone(_) => break,
            other => panic!("{} within the sync", other.frame_type()),
        }
    }
    assert_eq!(newest, sent, "nothing is missing, and the connection stays");
    assert_eq!(server.metric("outbox_overflows_total").await, 0.0);
    bens.say(ana.id, "there you are").await;
    assert_eq!(slow.hear().await.seq, sent + 1);
}

#[tokio::test]
async fn a_revoked_session_ends_in_the_middle_of_its_sync() {
    let server = Server::with(|settings| settings.connections.write_timeout = Duration::from_secs(60)).await;
    let ana = server.member("Ana").await;
    for number in 0..40 {
        let mut other = server.member(&format!("M{number}")).await.connect().await;
        for _ in 0..12 {
            other.say(ana.id, &"x".repeat(4_000)).await;
        }
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = Client::over(socket.connect(server.addr()).await.unwrap()).await;
    slow.say_hello(&ana.auth.access_token, "phone", None).await;
    assert!(matches!(slow.next().await.frame, ServerFrame::Welcome(_)));
    let logout = ana.request(reqwest::Method::POST, "/api/auth/logout", serde_json::json!(null)).await;
    assert_eq!(logout.status(), 204);
    assert_eq!(slow.expect_close().await.code, CloseCode::Unauthorized);
}

#[tokio::test]
async fn a_revoked_session_ends_in_the_middle_of_what_is_pushed_to_it() {
    let server = Server::with(|settings| {
        settings.connections.write_timeout = Duration::from_secs(120);
        settings.connections.close_timeout = Duration::from_millis(200);
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = Client::over(socket.connect(server.addr()).await.unwrap()).await;
    slow.hello(ben.id, &ben.auth.access_token, &"phone".parse().unwrap(), None).await;
    let mut anas = ana.connect().await;
    let content = "x".repeat(4000);
    // Until something waits behind what is being written to him.
    while server.metric("memory_charged_bytes").await < 100_000.0 {
        for _ in 0..50 {
            anas.say(ben.id, &content).await;
        }
    }
    let logout = ben.request(reqwest::Method::POST, "/api/auth/logout", serde_json::json!(null)).await;
    assert_eq!(logout.status(), 204);
    let ended = async || (server.metric(r#"connections_closed_total{code="4401"}"#).await == 1.0).then_some(());
    eventually("the end of the connection", ended).await;
    let freed = async || (server.metric("memory_charged_bytes").await < 100_000.0).then_some(());
    eventually("the end of what it held", freed).await;
}

#[tokio::test]
async fn a_reader_that_never_comes_back_is_given_up() {
    let server = Server::with(|settings| {
        settings.connections.write_timeout = Duration::from_millis(200);
        settings.connections.close_timeout = Duration::from_millis(200);
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stalled = Client::over(socket.connect(server.addr()).await.unwrap()).await;
    stalled.hello(ben.id, &ben.auth.access_token, &"phone".parse().unwrap(), None).await;
    let mut anas = ana.connect().await;
    let content = "x".repeat(4000);
    // Until the kernel takes no more for him, and for as long as he is waited for.
    let mut sent = 0;
    while server.metric("connections").await > 1.0 {
        anas.say(ben.id, &content).await;
        sent += 1;
        assert!(sent < 20_000, "he is never given up");
    }
    assert_eq!(server.metric(r#"connections_closed_total{code="4413"}"#).await, 1.0);
}
