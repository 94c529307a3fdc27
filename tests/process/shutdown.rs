//! Signals.

use protocol::{
    CloseCode, ServerFrame,
    server::{Goodbye, MessageAccepted},
};

use crate::harness::{
    Member,
    client::message_to,
    process::{Process, command},
    server::http,
};

#[tokio::test]
async fn a_signal_says_goodbye_finishes_what_is_under_way_and_ends_with_0() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let server = Process::start(folder.path());
        let http = http();
        let ana = Member::register_at(server.addr, &http, "Ana").await;
        let ben = Member::register_at(server.addr, &http, "Ben").await;
        let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
        let mut ids = Vec::new();
        for number in 0..50 {
            ids.push(anas.post(message_to(ben.id, &number.to_string())).await);
        }
        // The last of them is read before the signal comes, so all of them are under way.
        anas.reply(&ids[0]).await;
        server.signal(signal);
        let mut last = 0;
        let goodbye: Goodbye = loop {
            match anas.next().await.frame {
                ServerFrame::MessageAccepted(MessageAccepted { message, .. }) => last = message.seq,
                ServerFrame::Goodbye(goodbye) => break goodbye,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(goodbye.code, CloseCode::GoingAway);
        assert!(goodbye.retry_after_ms.unwrap() <= 30_000);
        assert_eq!(anas.close_code().await, Some(1001));
        assert_eq!(bens.expect_close().await.code, CloseCode::GoingAway);
        assert_eq!(server.wait().await.code(), Some(0), "{signal}");

        let server = Process::start(folder.path());
        let conversation = ben.at(server.addr).connect().await.synced.remove(0);
        assert!(conversation.last_seq >= last, "{last} were acknowledged, {} are there", conversation.last_seq);
        assert!(!folder.path().join("data/members-book.db-wal").exists() || conversation.last_seq > 0);
    }
}

#[tokio::test]
async fn connections_that_have_not_said_hello_are_sent_away_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::start(folder.path());
    let mut client = crate::harness::Client::open(server.addr).await;
    server.signal("TERM");
    assert_eq!(client.expect_close().await.code, CloseCode::GoingAway);
    assert_eq!(server.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_client_that_does_not_go_does_not_hold_up_the_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::spawn(command(folder.path()).env("CLOSE_TIMEOUT", "60s").env("SHUTDOWN_TIMEOUT", "1s"));
    let ana = Member::register_at(server.addr, &http(), "Ana").await;
    // It is told to go and does not answer: nobody reads its socket.
    let _anas = ana.connect().await;
    server.signal("TERM");
    assert_eq!(server.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::spawn(command(folder.path()).env("CLOSE_TIMEOUT", "60s").env("SHUTDOWN_TIMEOUT", "60s"));
    let ana = Member::register_at(server.addr, &http(), "Ana").await;
    let mut anas = ana.connect().await;
    server.signal("TERM");
    // The first one has been heard.
    let _: Goodbye = anas.expect().await;
    server.signal("TERM");
    assert_eq!(server.wait().await.code(), Some(143));
}
