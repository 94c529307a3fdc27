//! Presence: what members show, to those who asked and may see it.
//!
//! The rules for one member are a plain state machine ([`state`]); here are the members, each under a lock of its own
//! shard, and one queue of what is due. Nothing here is stored except when a member was last seen, and nobody is told
//! anything that they did not ask for. Called by `service` only.
//!
//! With several nodes, each says of its own members how they are ([`Peers`]), and keeps of the members of others what they
//! say as long as somebody here watches ([`elsewhere`]).

mod elsewhere;
mod state;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use dashmap::{DashMap, Entry};
use protocol::{
    ConnectionId, MemberId, Timestamp,
    model::{DeviceStatus, Presence as MemberPresence},
    rest::Audience,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

pub use self::elsewhere::Peers;
pub use self::state::Pace;
use self::state::{Facts, Revealed, Shown, State};
use crate::{hub::Connection, store::members::LastSeen};

/// Shards of the map of members: one is locked while the watchers of a member are told.
const SHARDS: usize = 256;

/// Tells connections how a member is. Never waits, and never calls back into presence.
pub type Tell = Box<dyn Fn(&[Arc<Connection>], MemberPresence) + Send + Sync>;

/// The presence of the members of this node.
pub struct Presence {
    pace: Pace,
    tell: Tell,
    peers: Option<Arc<dyn Peers>>,
    /// Members who are connected, in their grace period or watched; nobody else.
    members: DashMap<MemberId, State<Arc<Connection>>>,
    /// When something is due for a member: each is in it once at most.
    due: Mutex<BTreeSet<(Instant, MemberId)>>,
    /// Something is due earlier than everything before.
    earlier: Notify,
    /// Members whose grace period has ended and whose last-seen time is to be stored.
    gone: Mutex<Vec<(MemberId, Timestamp)>>,
    somebody_gone: Notify,
    /// This node stops: its members have time to connect elsewhere.
    stopping: AtomicBool,
}

impl Presence {
    /// Presence that tells changes through `tell`.
    #[must_use]
    pub fn new(pace: Pace, tell: Tell) -> Self {
        Self {
            pace,
            tell,
            peers: None,
            members: DashMap::with_shard_amount(SHARDS),
            due: Mutex::default(),
            earlier: Notify::new(),
            gone: Mutex::default(),
            somebody_gone: Notify::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// The same, as one node of several.
    #[must_use]
    pub fn among(self, peers: Arc<dyn Peers>) -> Self {
        Self { peers: Some(peers), ..self }
    }

    /// A device of a member has arrived, in place of the connection `replaced` if there was one of the same device.
    pub fn arrived(&self, member: MemberId, connection: ConnectionId, replaced: Option<ConnectionId>) {
        self.update(member, |state, _| state.arrive(connection, replaced));
    }

    /// A device of a member has ended at `at`. If it is the last that counts, the grace period begins; if it does not
    /// count any more, nothing happens.
    pub fn left(&self, member: MemberId, connection: ConnectionId, at: Timestamp) {
        self.update(member, |state, now| state.leave(connection, at, now, self.pace));
    }

    /// A device of a member shows something else.
    pub fn set_status(&self, member: MemberId, connection: ConnectionId, status: DeviceStatus) {
        self.update(member, |state, _| state.set_status(connection, status));
    }

    /// Lets a connection watch members. It is shown nothing before [`Self::reveal`], and misses nothing that happens
    /// while the store is asked in between.
    pub fn watch(&self, watcher: &Arc<Connection>, members: &[MemberId]) {
        for &member in members {
            self.update(member, |state, _| state.watch(member, watcher.id, watcher.member, Arc::clone(watcher)));
        }
    }

    /// What the store knows of watched members, each with whether the watcher has a conversation with them. Returns how
    /// they are shown to the watcher.
    pub fn reveal(&self, watcher: ConnectionId, members: &[(LastSeen, bool)]) -> Vec<MemberPresence> {
        let shown = members.iter().map(|&(LastSeen { member, at, audience, version }, is_partner)| {
            let facts = Facts { last_seen: at, audience, version };
            let shown = self.update(member, |state, _| {
                let Revealed { shown, differing } = state.reveal(watcher, facts, is_partner);
                self.tell_each(member, differing);
                shown
            });
            presence(member, shown)
        });
        shown.collect()
    }

    /// Tells a watcher what it is shown differently from a snapshot that was taken before. Called after the snapshot is in
    /// the watcher's outbox: a change that was told before it would otherwise be overtaken by it. As every change, this is
    /// told under the lock of the member, so that a later change cannot come before it.
    pub fn catch_up(&self, watcher: &Arc<Connection>, snapshot: &[MemberPresence]) {
        for then in snapshot {
            let Some(state) = self.members.get(&then.member) else { continue };
            let now = state.view(watcher.id).map(|shown| presence(then.member, shown));
            if let Some(now) = now.filter(|now| now != then) {
                (self.tell)(std::slice::from_ref(watcher), now);
            }
        }
    }

    /// Lets a connection watch members no longer.
    pub fn unwatch(&self, watcher: ConnectionId, members: impl IntoIterator<Item = MemberId>) {
        for member in members {
            self.update(member, |state, _| state.unwatch(watcher));
        }
    }

    /// The watchers of a member, whether they may see the presence or not.
    #[must_use]
    pub fn watchers(&self, member: MemberId) -> Vec<Arc<Connection>> {
        self.members.get(&member).map(|state| state.watchers()).unwrap_or_default()
    }

    /// Members have a conversation with each other from now on.
    pub fn met(&self, members: &[MemberId]) {
        for &member in members {
            let Some(mut state) = self.members.get_mut(&member) else { continue };
            let (watchers, shown) = state.met(|watcher| members.contains(&watcher.member));
            if !watchers.is_empty() {
                (self.tell)(&watchers, presence(member, shown));
            }
        }
    }

    /// A member has chosen who may see their presence, with this version of their profile.
    pub fn set_audience(&self, member: MemberId, version: u64, audience: Audience) {
        let Some(mut state) = self.members.get_mut(&member) else { return };
        self.tell_each(member, state.set_audience(version, audience));
    }

    /// Tells watchers of a member what each of them is shown from now on. To be called under the lock of the member.
    fn tell_each(&self, member: MemberId, differing: Vec<(Arc<Connection>, Shown)>) {
        for (watcher, shown) in differing {
            (self.tell)(std::slice::from_ref(&watcher), presence(member, shown));
        }
    }

    /// Does what is due, for ever: ends grace periods, and tells changes that had to wait. For one task only.
    pub async fn run(&self) {
        loop {
            let next = self.lock_due().first().map(|(due, _)| *due);
            let earlier = self.earlier.notified();
            match next {
                None => earlier.await,
                // Whichever comes first.
                Some(due) => drop(timeout_at(due, earlier).await),
            }
            self.tick(Instant::now());
        }
    }

    /// Waits for grace periods to end, and returns those who are gone, with when they were last seen: that is to be
    /// stored, and then [`Self::recorded`] is called. For one task only.
    pub async fn next_gone(&self) -> Vec<(MemberId, Timestamp)> {
        loop {
            let gone = std::mem::take(&mut *lock(&self.gone));
            if !gone.is_empty() {
                return gone;
            }
            self.somebody_gone.notified().await;
        }
    }

    /// Everybody's grace period ends now: the server is going to stop. Other nodes see to it that whoever comes back to one of
    /// them in time was never offline.
    #[must_use]
    pub fn take_all_departed(&self) -> Vec<(MemberId, Timestamp)> {
        self.stopping.store(true, Ordering::Relaxed);
        let departed = self.members.iter_mut().filter_map(|mut state| {
            let (member, at) = (*state.key(), state.cut_grace()?);
            self.say_so(member, state.answer(), None);
            Some((member, at))
        });
        departed.collect()
    }

    /// When a member was last seen is stored.
    pub fn recorded(&self, member: MemberId, last_seen: Timestamp) {
        self.update_seen(member, Some(last_seen), |state, _| state.recorded(last_seen));
    }

    /// Does what is due by `now`.
    fn tick(&self, now: Instant) {
        let due: Vec<MemberId> = {
            let mut due = self.lock_due();
            std::iter::from_fn(|| if due.first()?.0 <= now { due.pop_first() } else { None })
                .map(|(_, member)| member)
                .collect()
        };
        for member in due {
            if let Some(at) = self.update(member, |state, _| state.tick(now)) {
                lock(&self.gone).push((member, at));
                self.somebody_gone.notify_one();
            }
        }
    }

    /// Changes the state of a member, tells the news, and puts the member into the queue. The order in which changes are
    /// told is the order in which they are made, because both happen under the same lock.
    fn update<T>(&self, member: MemberId, change: impl FnOnce(&mut State<Arc<Connection>>, Instant) -> T) -> T {
        self.update_seen(member, None, change)
    }

    /// The same; `last_seen` is what other nodes are told if the member is gone by it.
    fn update_seen<T>(
        &self,
        member: MemberId,
        last_seen: Option<Timestamp>,
        change: impl FnOnce(&mut State<Arc<Connection>>, Instant) -> T,
    ) -> T {
        let now = Instant::now();
        let mut entry = match self.members.entry(member) {
            Entry::Occupied(occupied) => occupied,
            Entry::Vacant(vacant) => vacant.insert_entry(State::default()),
        };
        let state = entry.get_mut();
        let before = state.deadline(self.pace);
        let (said, was_watched) = (state.local(), state.is_watched());
        let result = change(state, now);
        if let Some((watchers, shown)) = state.news(now, self.pace)
            && !watchers.is_empty()
        {
            (self.tell)(&watchers, presence(member, shown));
        }
        if let Some(peers) = self.peers() {
            if let Some(showing) = state.statement(said, now, self.pace) {
                self.say_so(member, showing, last_seen);
            }
            if was_watched != state.is_watched() {
                peers.watched(member);
            }
        }
        self.schedule(member, before, state.deadline(self.pace));
        if state.is_idle() {
            entry.remove();
        }
        result
    }

    fn schedule(&self, member: MemberId, before: Option<Instant>, after: Option<Instant>) {
        if before.is_none() && after.is_none() {
            return;
        }
        let mut due = self.lock_due();
        if let Some(before) = before.filter(|before| Some(*before) != after) {
            due.remove(&(before, member));
        }
        if let Some(after) = after {
            due.insert((after, member));
            if due.first() == Some(&(after, member)) {
                self.earlier.notify_one();
            }
        }
    }

    fn lock_due(&self) -> MutexGuard<'_, BTreeSet<(Instant, MemberId)>> {
        lock(&self.due)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn presence(member: MemberId, Shown { status, last_seen }: Shown) -> MemberPresence {
    MemberPresence { member, status, last_seen }
}

#[cfg(test)]
mod tests;
