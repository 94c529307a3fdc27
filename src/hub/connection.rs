//! A signed-in connection, as the rest of the server sees it.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol::{ConnectionId, DeviceId, MemberId, SessionId, Timestamp};

use super::{Outbox, Watched};
use crate::{ids::made_at, position::Epoch};

/// A signed-in connection. Small, because there is one for every idle client.
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// Whose it is.
    pub member: MemberId,
    /// The session that it was opened with.
    pub session: SessionId,
    /// The device at its other end.
    pub device: DeviceId,
    /// The way into it.
    pub outbox: Arc<Outbox>,
    /// The address that it was opened from, if it is known.
    pub from: Option<IpAddr>,
    /// How many milliseconds after [`made_at`] of its id it was opened.
    opened_after: u16,
    /// The [`AWAY`] bit, and what is kept of the generation of its session ([`Self::is_good_from`]).
    flags: AtomicU8,
    /// The bytes of the epoch of the store in which its sync was made.
    synced: AtomicU64,
    watching: Mutex<Watching>,
}

/// The device shows that it is not in use.
const AWAY: u8 = 128;

/// What is kept of a generation.
fn remainder(generation: u64) -> u8 {
    u8::try_from(generation % u64::from(AWAY)).unwrap_or(0)
}

/// Whom a connection watches.
enum Watching {
    /// It has never watched anybody.
    Nobody,
    Members(Box<Watched>),
    /// It has ended.
    Ended,
}

impl Connection {
    /// A connection that watches nobody.
    #[must_use]
    pub fn new(id: ConnectionId, member: MemberId, session: SessionId, device: DeviceId, outbox: Arc<Outbox>) -> Self {
        let (synced, watching) = (epoch_number(Epoch::NONE).into(), Watching::Nobody.into());
        Self {
            id,
            member,
            session,
            device,
            outbox,
            from: None,
            opened_after: 0,
            flags: AtomicU8::new(0),
            synced,
            watching,
        }
    }

    /// The same connection, opened from this address at this time.
    #[must_use]
    pub fn opened(self, from: IpAddr, at: Timestamp) -> Self {
        let after = u16::try_from(at.since(made_at(self.id)).as_millis()).unwrap_or(u16::MAX);
        Self { from: Some(from), opened_after: after, ..self }
    }

    /// The same connection, opened when tokens of its session were good from this generation on.
    #[must_use]
    pub fn with_good_from(self, generation: u64) -> Self {
        Self { flags: AtomicU8::new(remainder(generation)), ..self }
    }

    /// Whether this is the generation from which on tokens of its session were good when it was opened. Of 128 generations in a row one is: a
    /// connection is closed when the next one begins.
    #[must_use]
    pub fn is_good_from(&self, generation: u64) -> bool {
        self.flags.load(Ordering::Relaxed) & !AWAY == remainder(generation)
    }

    /// When it was opened, by the clock of its node.
    #[must_use]
    pub fn opened_at(&self) -> Timestamp {
        made_at(self.id).after(Duration::from_millis(self.opened_after.into()))
    }

    /// Keeps whether the device is in use.
    pub fn set_away(&self, is_away: bool) {
        if is_away {
            self.flags.fetch_or(AWAY, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!AWAY, Ordering::Relaxed);
        }
    }

    /// Whether the device has said that it is not in use: an app in the background, a tab that nobody sees.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & AWAY != 0
    }

    /// Keeps the epoch of the store in which the connection's sync was made.
    pub fn synced_in(&self, epoch: Epoch) {
        self.synced.store(epoch_number(epoch), Ordering::Relaxed);
    }

    /// The epoch in which the sync was made; none before it.
    #[must_use]
    pub fn synced(&self) -> Epoch {
        Epoch(self.synced.load(Ordering::Relaxed).to_ne_bytes())
    }

    /// Changes whom the connection watches; `None` if it has ended. What is done inside is done before it ends.
    pub fn with_watching<T>(&self, change: impl FnOnce(&mut Watched) -> T) -> Option<T> {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*watching, Watching::Nobody) {
            *watching = Watching::Members(Box::default());
        }
        match &mut *watching {
            Watching::Members(watched) => Some(change(watched)),
            Watching::Nobody | Watching::Ended => None,
        }
    }

    /// Ends the watching and returns whom it watched.
    pub fn end_watching(&self) -> Watched {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *watching, Watching::Ended) {
            Watching::Members(watched) => *watched,
            Watching::Nobody | Watching::Ended => Watched::default(),
        }
    }
}

fn epoch_number(Epoch(bytes): Epoch) -> u64 {
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    /// There is one of each for every idle connection, and the allocator has room for 128 bytes and then for 160.
    #[test]
    fn what_is_known_of_an_idle_connection_is_small() {
        let counts = 2 * size_of::<usize>();
        let (connection, outbox) = (size_of::<Connection>() + counts, size_of::<Outbox>() + counts);
        assert!(connection <= 128 && outbox <= 128, "{connection} {outbox}");
    }
}
