//! A store that answers late, or has more to do than it can.

use std::time::Duration;

use members_book::{config::values::DatabaseUrl, service::messaging::direct_conversation};
use protocol::{
    ErrorCode, MemberId, ServerFrame,
    limits::{CONTENT_MAX_CHARS, IN_FLIGHT_MAX},
    server::{Error, MessageAccepted},
};
use tokio::task::JoinHandle;

use crate::harness::{Client, Server, client::message_to, eventually};

/// The write lock of the database, held by somebody else.
fn lock(server: &Server) -> rusqlite::Connection {
    let DatabaseUrl::Sqlite(path) = server.settings().store.database().unwrap() else { panic!() };
    let other = rusqlite::Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[tokio::test]
async fn a_message_answered_with_timeout_is_pushed_to_its_sender_when_it_is_stored_after_all() {
    let server = Server::with(|settings| settings.store.store_timeout = Duration::from_millis(500)).await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    let other = lock(&server);
    let message = message_to(ben.id, "are you there?");
    let error: Error = anas.ask(message.clone()).await;
    assert_eq!(error.code, ErrorCode::Timeout);
    other.execute_batch("ROLLBACK").unwrap();
    let pushed = anas.hear().await;
    assert_eq!((pushed.seq, pushed.content.as_str()), (1, "are you there?"));
    assert_eq!(bens.hear().await, pushed);
    let again: MessageAccepted = anas.ask(message).await;
    assert!(again.duplicate && again.message == pushed);
}

/// Members who each have as many requests on their way as they may, more together than there is room for: 42 of 32 MiB.
const SENDERS: usize = 40;

async fn senders(server: &Server) -> Vec<Client> {
    let mut senders = Vec::new();
    for number in 0..SENDERS {
        senders.push(server.member(&format!("M{number}")).await.connect().await);
    }
    senders
}

/// Sends so much from each; the replies.
fn flood(senders: Vec<Client>, to: MemberId) -> Vec<JoinHandle<Vec<ServerFrame>>> {
    let flood = |mut client: Client| {
        tokio::spawn(async move {
            let (mut ids, content) = (Vec::new(), "\u{1f980}".repeat(CONTENT_MAX_CHARS));
            for _ in 0..IN_FLIGHT_MAX {
                ids.push(client.post(message_to(to, &content)).await);
            }
            let mut replies = Vec::new();
            for id in &ids {
                replies.push(client.reply(id).await);
            }
            replies
        })
    };
    senders.into_iter().map(flood).collect()
}

#[tokio::test]
async fn what_a_client_may_have_on_its_way_waits_when_there_is_no_room_for_all_of_it() {
    let server = Server::with(|settings| settings.store.store_timeout = Duration::from_secs(30)).await;
    let (zoe, senders) = (server.member("Zoe").await, senders(&server).await);
    let other = lock(&server);
    let floods = flood(senders, zoe.id);
    eventually("backpressure", async || (server.metric("backpressure_total").await > 0.0).then_some(())).await;
    other.execute_batch("ROLLBACK").unwrap();
    for flood in floods {
        let seqs = flood.await.unwrap().into_iter().map(|reply| match reply {
            ServerFrame::MessageAccepted(accepted) => accepted.message.seq,
            other => panic!("{other:?}"),
        });
        assert!(seqs.eq(1..=IN_FLIGHT_MAX as u64), "in the order in which they were sent");
    }
}

#[tokio::test]
async fn who_waits_for_a_store_that_does_not_answer_is_refused_and_served_when_it_does() {
    let server = Server::with(|settings| settings.store.store_timeout = Duration::from_secs(4)).await;
    let ((ana, zoe), senders) = (server.two_members().await, senders(&server).await);
    let other = lock(&server);
    let floods = flood(senders, zoe.id);
    eventually("backpressure", async || (server.metric("backpressure_total").await > 0.0).then_some(())).await;
    for flood in floods {
        for reply in flood.await.unwrap() {
            let ServerFrame::Error(error) = reply else { panic!("{reply:?}") };
            assert!(matches!(error.code, ErrorCode::Timeout | ErrorCode::Unavailable | ErrorCode::Overloaded));
        }
    }
    other.execute_batch("ROLLBACK").unwrap();
    let mut anas = ana.connect().await;
    let accepted = eventually("a message", async || match anas.request(message_to(zoe.id, "now?")).await {
        ServerFrame::MessageAccepted(accepted) => Some(accepted),
        _ => None,
    });
    assert_eq!(accepted.await.message.seq, 1);
}

#[tokio::test]
async fn what_was_sent_before_a_client_left_is_stored_though_there_was_no_room_for_it() {
    let server = Server::with(|settings| settings.store.store_timeout = Duration::from_secs(30)).await;
    let ((ana, zoe), senders) = (server.two_members().await, senders(&server).await);
    let (mut anas, other) = (ana.connect().await, lock(&server));
    let floods = flood(senders, zoe.id);
    eventually("backpressure", async || (server.metric("backpressure_total").await > 0.0).then_some(())).await;
    for _ in 0..IN_FLIGHT_MAX {
        anas.post(message_to(zoe.id, "good night")).await;
    }
    drop(anas);
    other.execute_batch("ROLLBACK").unwrap();
    for flood in floods {
        flood.await.unwrap();
    }
    let mut anas = ana.connect().await;
    let conversation = direct_conversation(ana.id, zoe.id);
    eventually("all of it", async || (anas.history(conversation).await.len() == IN_FLIGHT_MAX).then_some(())).await;
}
