//! A signed-in connection, as the rest of the server sees it.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use protocol::{ConnectionId, DeviceId, MemberId, SessionId, model::DeviceStatus};

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
    away: AtomicBool,
    /// In which epoch of the store its sync was made.
    synced: OnceLock<[u8; 8]>,
    /// Whom it watches; nothing once it has ended.
    watching: Mutex<Option<HashSet<MemberId>>>,
}

impl Connection {
    /// A connection that watches nobody and is online.
    #[must_use]
    pub fn new(id: ConnectionId, member: MemberId, session: SessionId, device: DeviceId, outbox: Arc<Outbox>) -> Self {
        Self {
            id,
            member,
            session,
            device,
            outbox,
            away: AtomicBool::new(false),
            synced: OnceLock::new(),
            watching: Mutex::new(Some(HashSet::new())),
        }
    }

    /// Whether the device is away.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Sets what the device shows.
    pub fn set_status(&self, status: DeviceStatus) {
        self.away.store(status == DeviceStatus::Away, Ordering::Relaxed);
    }

    /// Keeps the epoch of the store in which the connection's sync was made.
    pub fn synced_in(&self, epoch: [u8; 8]) {
        self.synced.get_or_init(|| epoch);
    }

    /// The epoch in which the sync was made; zeros before it.
    #[must_use]
    pub fn synced(&self) -> [u8; 8] {
        self.synced.get().copied().unwrap_or_default()
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
