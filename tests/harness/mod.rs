//! Servers and clients for tests.

pub mod ai;
pub mod authenticator;
pub mod bus;
pub mod client;
pub mod database;
pub mod expo;
pub mod fleet;
pub mod member;
pub mod node;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod s3;
pub mod server;
pub mod smtp;

use std::time::Duration;

pub use ai::AiService;
pub use client::Client;
pub use member::Member;
pub use server::Server;

/// How long anything may take before a test fails. Generous: it is reached only by what does not work.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a future, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// Waits until something holds that the server does by itself and tells nobody, asking again and again.
pub async fn eventually<T, F: AsyncFnMut() -> Option<T>>(what: &str, mut ask: F) -> T {
    within(what, async {
        loop {
            if let Some(value) = ask().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// A fresh id for a message.
pub fn client_id() -> protocol::ClientMessageId {
    protocol::ClientMessageId::from_uuid(uuid::Uuid::now_v7())
}
