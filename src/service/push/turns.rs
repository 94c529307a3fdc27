//! Registrations of one connection, which are done one after the other, though each runs in a task of its own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use protocol::ConnectionId;
use tokio::sync::oneshot;

/// The last turn of a connection: which it is, and that it is over when this resolves.
type Last = (u64, oneshot::Receiver<()>);

/// Gives turns, in the order in which they are asked for. Holds something only for connections that have one under way.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<Mutex<HashMap<ConnectionId, Last>>>);

/// The turn of one request. The next one's comes when this is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    connection: ConnectionId,
    number: u64,
    before: Option<oneshot::Receiver<()>>,
    _after: oneshot::Sender<()>,
}

impl Turns {
    /// The turn behind all that were given to the connection.
    #[must_use]
    pub fn next(&self, connection: ConnectionId) -> Turn {
        let (after, next) = oneshot::channel();
        let mut last = self.lock();
        let number = last.get(&connection).map_or(0, |(number, _)| number + 1);
        let before = last.insert(connection, (number, next)).map(|(_, before)| before);
        drop(last);
        Turn { turns: self.clone(), connection, number, before, _after: after }
    }

    /// Held for some instructions, and never across a call that could panic.
    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Waits for those before it.
    pub async fn comes(&mut self) {
        if let Some(before) = self.before.take() {
            // Nothing is ever sent: it is dropped.
            let _ = before.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut last = self.turns.lock();
        if last.get(&self.connection).is_some_and(|(number, _)| *number == self.number) {
            last.remove(&self.connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_next_turn_comes_when_the_one_before_is_over_and_nothing_is_left() {
        let (turns, [one, two]) = (Turns::default(), [1, 2].map(|id| ConnectionId::from_bytes([id; 12])));
        let [mut first, mut second, mut other] = [one, one, two].map(|connection| turns.next(connection));
        assert!(first.comes().now_or_never().is_some() && other.comes().now_or_never().is_some());
        assert!(second.comes().now_or_never().is_none());
        drop((first, other));
        let mut third = turns.next(one);
        drop(second);
        assert!(third.comes().now_or_never().is_some());
        drop(third);
        assert!(turns.lock().is_empty());
    }
}
