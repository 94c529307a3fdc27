//! A signed-in connection, as the rest of the server sees it.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use protocol::{ConnectionId, DeviceId, MemberId, SessionId};

use super::Outbox;

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
    /// Whom it watches; nothing once it has ended.
    watching: Mutex<Option<HashSet<MemberId>>>,
}

impl Connection {
    /// A connection that watches nobody.
    #[must_use]
    pub fn new(id: ConnectionId, member: MemberId, session: SessionId, device: DeviceId, outbox: Arc<Outbox>) -> Self {
        Self { id, member, session, device, outbox, watching: Mutex::new(Some(HashSet::new())) }
    }

    /// Changes the set of watched members; `None` if the connection has ended.
    pub fn with_watching<T>(&self, change: impl FnOnce(&mut HashSet<MemberId>) -> T) -> Option<T> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(change)
    }

    /// Ends the watching and returns whom it watched.
    pub fn end_watching(&self) -> HashSet<MemberId> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}
