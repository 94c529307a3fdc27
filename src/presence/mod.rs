//! Presence: what members show, to those who asked.
//!
//! A member's presence is the best of their devices, held by the hub. When the last device leaves, the member stays as
//! they were for a grace period, so that a phone that changes networks does not flicker. Nothing here is stored except
//! when a member was last seen, and nobody is told anything that they did not ask for. Called by `service` only.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dashmap::{DashMap, Entry};
use protocol::{
    ConnectionId, MemberId, Timestamp,
    model::{DeviceStatus, Presence as MemberPresence, PresenceStatus},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    hub::{Connection, Hub},
    store::members::LastSeen,
};

/// Who watches one member, and what they were told last.
struct Watched {
    told: MemberPresence,
    watchers: HashMap<ConnectionId, Arc<Connection>>,
}

/// A member whose last device left a moment ago.
#[derive(Debug, Clone, Copy)]
struct Departure {
    at: Timestamp,
    status: DeviceStatus,
    due: Instant,
}

/// The presence of the members of this node.
pub struct Presence {
    hub: Arc<Hub>,
    grace: Duration,
    watched: DashMap<MemberId, Arc<Mutex<Watched>>>,
    /// Members in their grace period, or whose last-seen time is not stored yet.
    departed: DashMap<MemberId, Departure>,
    /// The same members in the order in which their grace ends.
    due: Mutex<VecDeque<(Instant, MemberId)>>,
    departures: Notify,
}

impl Presence {
    /// Presence with this grace period.
    #[must_use]
    pub fn new(hub: Arc<Hub>, grace: Duration) -> Self {
        Self {
            hub,
            grace,
            watched: DashMap::new(),
            departed: DashMap::new(),
            due: Mutex::default(),
            departures: Notify::new(),
        }
    }

    /// Lets a connection watch members, and says how they are now.
    pub fn watch(&self, watcher: &Arc<Connection>, members: &[LastSeen]) -> Vec<MemberPresence> {
        let mut snapshot = Vec::with_capacity(members.len());
        for &LastSeen { member, at } in members {
            // The guard of the map is held, so the entry cannot be given up at the same time.
            let entry = self.watched.entry(member).or_insert_with(|| {
                let told = self.now(member, at);
                Arc::new(Mutex::new(Watched { told, watchers: HashMap::new() }))
            });
            let mut watched = entry.lock().unwrap_or_else(PoisonError::into_inner);
            watched.watchers.insert(watcher.id, Arc::clone(watcher));
            if watched.told.status == PresenceStatus::Offline && watched.told.last_seen.is_none() {
                watched.told.last_seen = at;
            }
            snapshot.push(watched.told);
        }
        snapshot
    }

    /// What has changed since a snapshot was taken. Asked after the snapshot is in the watcher's outbox: a change that
    /// was told before it would otherwise be overtaken by it.
    #[must_use]
    pub fn changed_since(&self, snapshot: &[MemberPresence]) -> Vec<MemberPresence> {
        let told = |then: &MemberPresence| {
            let watched = self.watched.get(&then.member).map(|watched| Arc::clone(&watched))?;
            let told = watched.lock().unwrap_or_else(PoisonError::into_inner).told;
            (told.status != then.status).then_some(told)
        };
        snapshot.iter().filter_map(told).collect()
    }

    /// Lets a connection watch members no longer.
    pub fn unwatch(&self, watcher: ConnectionId, members: impl IntoIterator<Item = MemberId>) {
        for member in members {
            let Entry::Occupied(entry) = self.watched.entry(member) else { continue };
            let nobody = {
                let mut watched = entry.get().lock().unwrap_or_else(PoisonError::into_inner);
                watched.watchers.remove(&watcher);
                watched.watchers.is_empty()
            };
            if nobody {
                entry.remove();
            }
        }
    }

    /// The watchers of a member.
    #[must_use]
    pub fn watchers(&self, member: MemberId) -> Vec<Arc<Connection>> {
        let Some(watched) = self.watched.get(&member).map(|watched| Arc::clone(&watched)) else { return Vec::new() };
        let watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.watchers.values().cloned().collect()
    }

    /// A device of a member came, or changed what it shows. `tell` is called if that changes the member's presence.
    pub fn changed(&self, member: MemberId, tell: impl FnOnce(&[Arc<Connection>], MemberPresence)) {
        if self.hub.is_connected(member) {
            self.departed.remove(&member);
        }
        self.refresh(member, None, tell);
    }

    /// A device of a member is about to leave, perhaps their last one: from now on the member shows as they do now, until
    /// [`Self::changed`] or the end of the grace period after [`Self::left`].
    pub fn leaving(&self, member: MemberId, status: DeviceStatus, at: Timestamp) {
        self.departed.insert(member, Departure { at, status, due: Instant::now() + self.grace });
    }

    /// It was the last device of the member; the grace period begins.
    pub fn left(&self, member: MemberId, status: DeviceStatus, at: Timestamp) {
        let due = Instant::now() + self.grace;
        self.departed.insert(member, Departure { at, status, due });
        self.lock_due().push_back((due, member));
        self.departures.notify_one();
    }

    /// Waits until the grace of somebody ends, and returns those who are really gone, with when they were last seen.
    /// For one task only.
    pub async fn next_gone(&self) -> Vec<(MemberId, Timestamp)> {
        loop {
            let next = self.lock_due().front().map(|(due, _)| *due);
            match next {
                None => self.departures.notified().await,
                // New departures end later than this one: there is nothing to wake up for.
                Some(due) => tokio::time::sleep_until(due).await,
            }
            let gone = self.take_gone(Instant::now());
            if !gone.is_empty() {
                return gone;
            }
        }
    }

    /// Those whose grace has ended by `now` and who have not come back. All of them, if `now` is in the far future.
    #[must_use]
    pub fn take_gone(&self, now: Instant) -> Vec<(MemberId, Timestamp)> {
        let mut due = self.lock_due();
        let mut gone = Vec::new();
        while let Some((_, member)) = due.pop_front_if(|(due, _)| *due <= now) {
            // Somebody who came back and left again has a later departure of their own.
            if let Some(departure) = self.departed.get(&member).filter(|departure| departure.due <= now) {
                gone.push((member, departure.at));
            }
        }
        gone
    }

    /// Everybody's grace ends now: the server is going to stop.
    #[must_use]
    pub fn take_all_departed(&self) -> Vec<(MemberId, Timestamp)> {
        self.lock_due().clear();
        self.departed.iter().map(|departure| (*departure.key(), departure.at)).collect()
    }

    /// Somebody's grace has ended and the store knows when they were last seen.
    pub fn gone(&self, member: MemberId, at: Timestamp, tell: impl FnOnce(&[Arc<Connection>], MemberPresence)) {
        self.departed.remove_if(&member, |_, departure| departure.at == at);
        self.refresh(member, Some(at), tell);
    }

    /// Tells the watchers if a member's presence is not what they were told last. The order in which changes are told
    /// is the order in which they are computed, because both happen under the member's own lock.
    fn refresh(
        &self,
        member: MemberId,
        last_seen: Option<Timestamp>,
        tell: impl FnOnce(&[Arc<Connection>], MemberPresence),
    ) {
        let Some(watched) = self.watched.get(&member).map(|watched| Arc::clone(&watched)) else { return };
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now(member, last_seen.or(watched.told.last_seen));
        if now.status != watched.told.status {
            watched.told = now;
            let watchers: Vec<_> = watched.watchers.values().cloned().collect();
            tell(&watchers, now);
        }
    }

    /// How a member is now.
    fn now(&self, member: MemberId, last_seen: Option<Timestamp>) -> MemberPresence {
        let departure = || self.departed.get(&member).map(|departure| departure.status);
        let status = match self.hub.status(member).or_else(departure) {
            Some(DeviceStatus::Online) => PresenceStatus::Online,
            Some(DeviceStatus::Away) => PresenceStatus::Away,
            None => PresenceStatus::Offline,
        };
        let last_seen = last_seen.filter(|_| status == PresenceStatus::Offline);
        MemberPresence { member, status, last_seen }
    }

    fn lock_due(&self) -> std::sync::MutexGuard<'_, VecDeque<(Instant, MemberId)>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
