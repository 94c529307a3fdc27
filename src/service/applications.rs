//! Registrations that wait for an administrator, and telling administrators of them.
//!
//! What is told is a number, read anew each time, and one task of a node tells it: what comes in while it reads is told with the next
//! reading, so that many who register at once are not many announcements, and the last number is the right one. On other nodes it is heard
//! over the bus, as other events for a member are; without a bus an administrator there finds it with the next connection, or over REST.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use protocol::{MemberId, ServerFrame, Timestamp, server};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use super::events::Events;
use crate::{
    failure::Failure,
    hub::Connection,
    store::{MemberStore, StoreError, members::PURGED_AT_ONCE, turns::Caller},
};

/// How long somebody waits for an administrator before their record is removed.
const WAITING_TIME: Duration = Duration::from_secs(90 * 86_400);
/// How long somebody has to show that the address is theirs before their record is removed.
pub const UNVERIFIED_TIME: Duration = Duration::from_secs(48 * 3_600);
/// Administrators who are told.
const TOLD_MAX: usize = 1_000;
/// Connections that wait for the number; further ones are not told it.
const GREETED_MAX: usize = 1_024;
/// When the number is read again after that failed.
const SOON: Duration = Duration::from_secs(1);

/// Who is to be told the number.
#[derive(Default)]
struct Wanted {
    /// Every administrator: it has changed.
    everybody: bool,
    /// Connections of administrators that were opened just now.
    arrived: Vec<Weak<Connection>>,
}

/// Registrations that wait.
pub struct Applications {
    members: Arc<dyn MemberStore>,
    events: Events,
    /// Whether only administrators with a second factor are ones.
    with_factor: bool,
    wanted: Mutex<Wanted>,
    notify: Notify,
}

impl Applications {
    /// Those of a store, told with these events; if the club demands a second factor of administrators, only to those who have one.
    #[must_use]
    pub fn new(members: Arc<dyn MemberStore>, events: Events, with_factor: bool) -> Self {
        Self { members, events, with_factor, wanted: Mutex::default(), notify: Notify::new() }
    }

    /// How many wait. `by` is who asks.
    ///
    /// # Errors
    /// The store.
    pub async fn waiting(&self, by: Caller) -> Result<u64, Failure> {
        Ok(self.members.count_waiting(by).await?)
    }

    /// One came in who has verified the address if they have to, or was decided: every administrator is told, soon. Never waits.
    pub fn changed(&self) {
        self.with(|wanted| wanted.everybody = true);
        self.notify.notify_one();
    }

    /// An administrator has connected, and is told if there are any. Never waits.
    pub fn greet(&self, connection: &Arc<Connection>) {
        self.with(|wanted| {
            if wanted.arrived.len() < GREETED_MAX {
                wanted.arrived.push(Arc::downgrade(connection));
            }
        });
        self.notify.notify_one();
    }

    /// Tells, until the stop.
    pub async fn run(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.notify.notified()).await.is_some() {
            let Wanted { everybody, arrived } = self.with(std::mem::take);
            if let Err(error) = self.tell(everybody, &arrived).await {
                tracing::debug!(%error, "administrators are told later how many wait");
                self.with(|wanted| wanted.everybody = true);
                stop.run_until_cancelled(sleep(SOON)).await;
                self.notify.notify_one();
            }
        }
    }

    async fn tell(&self, everybody: bool, arrived: &[Weak<Connection>]) -> Result<(), StoreError> {
        let waiting = u32::try_from(self.members.count_waiting(Caller::System).await?).unwrap_or(u32::MAX);
        let frame = ServerFrame::Applications(server::Applications { waiting });
        if everybody {
            let admins: Vec<MemberId> = self.members.admins(TOLD_MAX, self.with_factor).await?;
            self.events.to_members(&admins, None, &frame);
        } else if waiting > 0 {
            let arrived: Vec<Arc<Connection>> = arrived.iter().filter_map(Weak::upgrade).collect();
            self.events.to_connections(&arrived, &frame);
        }
        Ok(())
    }

    /// Removes those that nobody has decided about for too long.
    ///
    /// # Errors
    /// The store.
    pub async fn purge(&self, now: Timestamp) -> Result<usize, StoreError> {
        let purged = self.members.purge_waiting(now.before(WAITING_TIME)).await?;
        if purged > 0 {
            self.changed();
        }
        Ok(purged)
    }

    /// Removes those that have not shown in time that the address is theirs. Nobody knows of them who could be told.
    ///
    /// # Errors
    /// The store.
    pub async fn purge_unverified(&self, now: Timestamp) -> Result<usize, StoreError> {
        let mut purged = 0;
        loop {
            let some = self.members.purge_unverified(now.before(UNVERIFIED_TIME), now).await?;
            purged += some;
            if some < PURGED_AT_ONCE {
                return Ok(purged);
            }
        }
    }

    /// Held for a few instructions, and nothing under it panics.
    fn with<T>(&self, act: impl FnOnce(&mut Wanted) -> T) -> T {
        act(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
