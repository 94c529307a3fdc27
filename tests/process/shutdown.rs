//! Signals.

use std::time::{Duration, Instant};

use protocol::{
    CloseCode, ServerFrame,
    server::{Goodbye, MessageAccepted},
};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::harness::{
    Client, Member,
    client::{message_to, upgrade_from},
    database::Database,
    eventually,
    process::{Process, command},
    server::http,
    within,
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
    let mut client = Client::open(server.addr).await;
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

/// A server on a store that another one uses, too, and members connected to it.
async fn one_of_several(database: &Database, folder: &std::path::Path, drain: &str, members: usize) -> Several {
    let start = || {
        let mut command = command(folder);
        Process::spawn(command.env("DATABASE_URL", &database.uri).env("DRAIN_TIME", drain))
    };
    let (server, other) = (start(), start());
    let ready = format!("http://{}/readyz", server.addr);
    // They have nothing but the database between them, which is not how it should be as soon as they know of each other.
    eventually("the other node to be known", async || {
        let health: Value = http().get(&ready).send().await.unwrap().json().await.unwrap();
        (health["status"] == "degraded").then_some(())
    })
    .await;
    let (http, mut connected) = (http(), Vec::new());
    for number in 0..members {
        let member = Member::register_at(server.addr, &http, &format!("M{number}")).await;
        let client = member.connect().await;
        connected.push((member, client));
    }
    Several { server, _other: other, connected }
}

struct Several {
    server: Process,
    _other: Process,
    connected: Vec<(Member, Client)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_several_sends_its_members_away_one_after_the_other_and_answers_requests_meanwhile() {
    let (database, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let Several { server, _other, connected } = one_of_several(&database, folder.path(), "4s", 20).await;
    let (one, _) = &connected[0];
    let (one, ready) = (one.clone(), format!("http://{}/readyz", server.addr));
    let mut leaving = Vec::new();
    for (_, mut client) in connected {
        leaving.push(tokio::spawn(async move {
            let goodbye = client.expect_close().await;
            assert_eq!(goodbye.code, CloseCode::GoingAway);
            assert!(goodbye.retry_after_ms.unwrap() < 1_000);
            Instant::now()
        }));
    }
    server.signal("TERM");
    let signalled = Instant::now();
    let readiness = eventually("the drain", async || {
        let answer = http().get(&ready).send().await.unwrap();
        (answer.status() == 503).then_some(answer)
    })
    .await;
    assert_eq!(readiness.headers()["retry-after"], "1");
    assert_eq!(readiness.json::<Value>().await.unwrap()["code"], "draining");
    assert_eq!(
        upgrade_from(within("a connection", TcpStream::connect(server.addr)).await.unwrap(), None).await,
        503,
        "no further sockets"
    );
    let me = one.request(reqwest::Method::GET, "/api/members/me", Value::Null).await;
    assert_eq!(me.status(), 200, "requests are answered until the end");
    let mut times = Vec::new();
    for leaving in leaving {
        times.push(within("everybody to be sent away", leaving).await.unwrap());
    }
    times.sort_unstable();
    // One every 200 ms, if the machine has time for this test.
    assert!(times[19] - times[0] > Duration::from_secs(1), "{times:?}");
    assert_eq!(server.wait().await.code(), Some(0));
    assert!(signalled.elapsed() >= Duration::from_secs(4), "who spreads requests has that long to notice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_drain_and_the_shutdown_goes_on_in_order() {
    for second in ["TERM", "INT"] {
        let (database, folder) = (Database::new().await, tempfile::tempdir().unwrap());
        let Several { server, _other, mut connected } = one_of_several(&database, folder.path(), "10m", 3).await;
        server.signal("TERM");
        let ready = format!("http://{}/readyz", server.addr);
        eventually("the drain", async || (http().get(&ready).send().await.unwrap().status() == 503).then_some(()))
            .await;
        // In ten minutes nobody had to go yet.
        let (_, client) = &mut connected[0];
        client.ping().await;
        server.signal(second);
        for (_, mut client) in connected {
            assert_eq!(client.expect_close().await.code, CloseCode::GoingAway);
        }
        assert_eq!(server.wait().await.code(), Some(0), "{second}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_time_to_drain_or_by_hand_all_go_at_once() {
    for (drain, signal) in [("0s", "TERM"), ("10m", "INT")] {
        let (database, folder) = (Database::new().await, tempfile::tempdir().unwrap());
        let Several { server, _other, connected } = one_of_several(&database, folder.path(), drain, 3).await;
        server.signal(signal);
        for (_, mut client) in connected {
            assert_eq!(client.expect_close().await.code, CloseCode::GoingAway);
        }
        assert_eq!(server.wait().await.code(), Some(0), "{drain} {signal}");
    }
}
