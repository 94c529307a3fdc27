//! A store that answers late.

use std::time::Duration;

use members_book::config::values::DatabaseUrl;
use protocol::{
    ErrorCode,
    server::{Error, MessageAccepted},
};

use crate::harness::{Server, client::message_to};

#[tokio::test]
async fn a_message_answered_with_timeout_is_pushed_to_its_sender_when_it_is_stored_after_all() {
    let server = Server::with(|settings| settings.store.store_timeout = Duration::from_millis(500)).await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    let DatabaseUrl::Sqlite(path) = server.settings().store.database().unwrap() else { panic!() };
    // Somebody else holds the write lock of the database for a while.
    let other = rusqlite::Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
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
