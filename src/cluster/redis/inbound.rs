//! What has come from Redis and was not looked at yet: bounded, and without a hole.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;

/// Messages that wait, at most.
const MESSAGES_MAX: usize = 16_384;
/// Bytes that wait, at most.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What was published on a channel.
pub(super) struct Message {
    /// The name of the channel.
    pub(super) channel: Vec<u8>,
    /// What was published.
    pub(super) payload: Vec<u8>,
}

/// The end of the connection's own task, which never waits.
struct Sender {
    /// Gone from the first message on that there is no room for: nothing is taken behind a hole, a beat least of all.
    queue: Mutex<Option<mpsc::Sender<Message>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    bytes: AtomicUsize,
    overflowed: AtomicBool,
}

/// The end of the link. Without a sender it gives what is left, and then nothing.
pub(super) struct Inbound {
    queue: mpsc::Receiver<Message>,
    shared: Arc<Shared>,
}

/// A queue, and what takes what a connection receives. Confirmations do not go through it: there may be a hundred thousand.
pub(super) fn queue() -> (impl Fn(PushInfo) -> Result<(), ()> + Send + Sync + 'static, Inbound) {
    let ((sender, receiver), shared) = (mpsc::channel(MESSAGES_MAX), Arc::new(Shared::default()));
    let sender = Sender { queue: Mutex::new(Some(sender)), shared: Arc::clone(&shared) };
    (move |info| sender.take(info), Inbound { queue: receiver, shared })
}

impl Sender {
    fn take(&self, info: PushInfo) -> Result<(), ()> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match info.kind {
            PushKind::Message => {}
            PushKind::Disconnection => {
                *queue = None;
                return Ok(());
            }
            _ => return Ok(()),
        }
        let mut data = info.data.into_iter();
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) = (data.next(), data.next()) else {
            return Ok(());
        };
        let sender = queue.as_ref().ok_or(())?;
        let bytes = channel.len() + payload.len();
        let has_room = self.shared.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= BYTES_MAX;
        if !has_room || sender.try_send(Message { channel, payload }).is_err() {
            self.shared.overflowed.store(true, Ordering::Release);
            *queue = None;
            return Err(());
        }
        Ok(())
    }
}

impl Inbound {
    /// The next message; nothing at the end.
    pub(super) async fn next(&mut self) -> Option<Message> {
        let message = self.queue.recv().await?;
        self.shared.bytes.fetch_sub(message.channel.len() + message.payload.len(), Ordering::Relaxed);
        Some(message)
    }

    /// Whether it ended because there was no room.
    pub(super) fn has_overflowed(&self) -> bool {
        self.shared.overflowed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> PushInfo {
        let data = vec![Value::BulkString(b"channel".to_vec()), Value::BulkString(vec![0; bytes])];
        PushInfo { kind: PushKind::Message, data }
    }

    #[tokio::test]
    async fn nothing_is_taken_behind_a_hole() {
        for (bytes, count) in [(100, MESSAGES_MAX), (1 << 20, 63)] {
            let (take, mut inbound) = queue();
            for _ in 0..count {
                take(message(bytes)).unwrap();
            }
            assert!(take(message(bytes)).is_err() && inbound.has_overflowed());
            assert_eq!(inbound.next().await.unwrap().payload.len(), bytes);
            assert!(take(message(1)).is_err(), "although there is room again");
            for _ in 1..count {
                inbound.next().await.unwrap();
            }
            assert!(inbound.next().await.is_none());
        }
    }

    #[tokio::test]
    async fn confirmations_need_no_room_and_the_end_of_the_connection_is_behind_what_came_before() {
        let (take, mut inbound) = queue();
        for _ in 0..2 * MESSAGES_MAX {
            take(PushInfo { kind: PushKind::Subscribe, data: Vec::new() }).unwrap();
        }
        take(message(1)).unwrap();
        take(PushInfo { kind: PushKind::Disconnection, data: Vec::new() }).unwrap();
        assert!(inbound.next().await.is_some() && inbound.next().await.is_none() && !inbound.has_overflowed());
    }
}
