//! A signed-in connection, as the rest of the server sees it.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use protocol::{ConnectionId, DeviceId, MemberId, SessionId};

use super::{Outbox, Watched};
use crate::position::Epoch;

/// A signed-in connection.
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
    /// In which epoch of the store its sync was made.
    synced: OnceLock<Epoch>,
    /// Whom it watches; nothing once it has ended.
    watching: Mutex<Option<Watched>>,
}

impl Connection {
    /// A connection that watches nobody.
    #[must_use]
    pub fn new(id: ConnectionId, member: MemberId, session: SessionId, device: DeviceId, outbox: Arc<Outbox>) -> Self {
        let watching = Mutex::new(Some(Watched::default()));
        Self { id, member, session, device, outbox, from: None, synced: OnceLock::new(), watching }
    }

    /// The same connection, opened from this address.
    #[must_use]
    pub fn opened_from(self, address: IpAddr) -> Self {
        Self { from: Some(address), ..self }
    }

    /// Keeps the epoch of the store in which the connection's sync was made.
    pub fn synced_in(&self, epoch: Epoch) {
        self.synced.get_or_init(|| epoch);
    }

    /// The epoch in which the sync was made; none before it.
    #[must_use]
    pub fn synced(&self) -> Epoch {
        self.synced.get().copied().unwrap_or(Epoch::NONE)
    }

    /// Changes whom the connection watches; `None` if it has ended. What is done inside is done before it ends.
    pub fn with_watching<T>(&self, change: impl FnOnce(&mut Watched) -> T) -> Option<T> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(change)
    }

    /// Ends the watching and returns whom it watched.
    pub fn end_watching(&self) -> Watched {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}
