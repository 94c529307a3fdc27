//! A connection that nobody has signed in on.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

use protocol::CloseCode;
use tokio::sync::Notify;

use super::Order;
use crate::hub::{Close, Outbox};

/// When the client of a WebSocket that was closed to make room is to come back, in milliseconds.
const RETRY_MS: u64 = 5_000;

/// A connection that nobody has signed in on: HTTP, or a WebSocket before its hello.
pub struct Stranger {
    /// Its number: the smaller, the older.
    pub(super) ticket: u64,
    ending: Mutex<Ending>,
    ordered: Notify,
    /// Bytes of answers that the client has not taken yet.
    unsent: AtomicUsize,
    /// Requests on it that were refused because they were too many.
    refused: AtomicU32,
}

#[derive(Default)]
struct Ending {
    order: Option<Order>,
    /// The way to close it, once it is a WebSocket.
    outbox: Weak<Outbox>,
}

impl Stranger {
    pub(super) fn new(ticket: u64) -> Self {
        let (unsent, refused) = (AtomicUsize::new(0), AtomicU32::new(0));
        Self { ticket, ending: Mutex::default(), ordered: Notify::new(), unsent, refused }
    }

    /// A request was refused because it was one too many. Returns how many were before it.
    pub fn refuse(&self) -> u32 {
        self.refused.fetch_add(1, Ordering::Relaxed)
    }

    /// Has the connection ended. The first order counts, but for one to cut it.
    pub fn end(&self, order: Order) {
        let mut ending = self.lock();
        if ending.order.is_none() || order == Order::Cut {
            ending.order = Some(order);
        }
        let outbox = ending.outbox.upgrade();
        drop(ending);
        self.ordered.notify_one();
        if let Some(outbox) = outbox {
            outbox.close(making_room());
        }
    }

    pub(super) fn closes_through(&self, outbox: &Arc<Outbox>) {
        let mut ending = self.lock();
        ending.outbox = Arc::downgrade(outbox);
        let ordered = ending.order.is_some();
        drop(ending);
        if ordered {
            outbox.close(making_room());
        }
    }

    pub(super) async fn ended(&self) -> Order {
        self.ordered(|_| true).await
    }

    pub(super) async fn cut(&self) {
        self.ordered(|order| order == Order::Cut).await;
    }

    async fn ordered(&self, awaited: impl Fn(Order) -> bool) -> Order {
        loop {
            let order = self.lock().order;
            match order {
                Some(order) if awaited(order) => return order,
                _ => self.ordered.notified().await,
            }
        }
    }

    /// Bytes of answers that the client has not taken yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.unsent.load(Ordering::Relaxed)
    }

    /// An answer of so many bytes waits for the client.
    pub fn hold(&self, bytes: usize) {
        self.unsent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The client has taken so many bytes, or never will.
    pub fn release(&self, bytes: usize) {
        self.unsent.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Held for a few instructions and never across a call that could panic, so it cannot be poisoned.
    fn lock(&self) -> MutexGuard<'_, Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn making_room() -> Close {
    Close { code: CloseCode::TooMuch, retry_after_ms: Some(RETRY_MS) }
}
