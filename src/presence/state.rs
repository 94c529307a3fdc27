//! The presence of one member as a plain state machine: events in, what watchers are told out.
//!
//! It knows no clock, no lock and no connection but by id, so that its tests can put events into any order. The rules:
//!
//! - A device counts from its own arrival to its own end. The end of a device that does not count any more (it was
//!   replaced, or ended before) changes nothing, whenever it comes.
//! - When the last device has left, the member shows as before until the grace period has ended and the time was stored.
//! - Watchers are told of a change at once, and then at most once per interval, with the newest state last.
//! - Other nodes say what *their* devices of the member show ([`elsewhere::Claims`]), and are told what those of this node do
//!   ([`State::statement`]), at the same pace. Watchers see the best of all, so a member who goes from one node to another is
//!   never offline in between: the old node claims them until its grace period has ended, the new one at once. What is claimed of
//!   devices that have left counts only while there is no other: the grace period is before `offline`, and not before `away`.
//! - Who may not see the presence sees [`Shown::HIDDEN`], which is how a member shows who never connected.

mod elsewhere;

use std::{collections::HashMap, time::Duration};

use protocol::{
    ConnectionId, MemberId, Timestamp,
    model::{DeviceStatus, PresenceStatus},
    rest::Audience,
};
use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;

pub(super) use self::elsewhere::Showing;
use self::elsewhere::{Claims, Said, counts, rank};
use crate::cluster::NodeId;

/// The two durations that presence waits for.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long a member whose last device has left still shows as before.
    pub grace: Duration,
    /// How long watchers are told nothing new of a member after they were told something.
    pub interval: Duration,
}

/// What is shown of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) status: PresenceStatus,
    /// Only with `offline`.
    pub(super) last_seen: Option<Timestamp>,
}

impl Shown {
    /// What is shown to those who may not see the presence.
    pub(super) const HIDDEN: Self = Self { status: PresenceStatus::Offline, last_seen: None };
}

/// What the store's answer to a watcher brings.
pub(super) struct Revealed<W> {
    /// What the watcher is shown.
    pub(super) shown: Shown,
    /// The other watchers who see something else from now on, and what.
    pub(super) differing: Vec<(W, Shown)>,
}

/// How a watcher stands to the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Stranger,
    /// They have a conversation.
    Partner,
    /// A device of the member.
    Own,
}

/// What the store knows of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// When they were last seen.
    pub(super) last_seen: Option<Timestamp>,
    /// Who may see their presence.
    pub(super) audience: Audience,
    /// The version of the profile that says so.
    pub(super) version: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Device {
    connection: ConnectionId,
    away: bool,
}

/// Where the member is.
#[derive(Debug)]
enum Whereabouts {
    /// Connected. Nearly always with one device; never without.
    Here(SmallVec<[Device; 1]>),
    /// The last device left; the grace period ends at `due`.
    Leaving { at: Timestamp, status: DeviceStatus, due: Instant },
    /// The grace period has ended; when they were last seen is being stored.
    Recording { at: Timestamp, status: DeviceStatus },
    /// Not connected.
    Gone,
}

struct Watcher<W> {
    way: W,
    relation: Relation,
}

/// What is kept of a member while somebody watches them.
struct Watched<W> {
    /// Unknown until the first watcher has asked the store; until then nobody is told anything.
    audience: Option<(u64, Audience)>,
    last_seen: Option<Timestamp>,
    /// What those who may see it were told last, and when.
    told: Shown,
    told_at: Option<Instant>,
    watchers: HashMap<ConnectionId, Watcher<W>>,
    /// What other nodes say.
    claims: Claims,
}

/// What is kept only of some members.
struct Beside<W> {
    /// What other nodes were told last, until an interval has passed since.
    said: Option<Said>,
    watched: Option<Watched<W>>,
}

/// Whether a watcher who stands so to the member may see their presence.
fn allows(audience: Option<(u64, Audience)>, relation: Relation) -> bool {
    match audience {
        None => false,
        Some(_) if relation == Relation::Own => true,
        Some((_, Audience::Members)) => true,
        Some((_, Audience::Partners)) => relation == Relation::Partner,
        Some((_, Audience::Nobody)) => false,
    }
}

impl<W> Watched<W> {
    fn view(&self, relation: Relation) -> Shown {
        if allows(self.audience, relation) { self.told } else { Shown::HIDDEN }
    }
}

/// The presence of one member. `W` is the way to a watcher.
pub(super) struct State<W> {
    whereabouts: Whereabouts,
    /// Behind a pointer, because most members who are connected have none of it most of the time.
    beside: Option<Box<Beside<W>>>,
}

impl<W> Default for State<W> {
    fn default() -> Self {
        Self { whereabouts: Whereabouts::Gone, beside: None }
    }
}

impl<W: Clone> State<W> {
    /// Whether there is nothing to remember.
    pub(super) fn is_idle(&self) -> bool {
        self.beside.is_none() && matches!(self.whereabouts, Whereabouts::Gone)
    }

    fn watched(&self) -> Option<&Watched<W>> {
        self.beside.as_ref()?.watched.as_ref()
    }

    fn watched_mut(&mut self) -> Option<&mut Watched<W>> {
        self.beside.as_mut()?.watched.as_mut()
    }

    /// Whether somebody watches the member.
    pub(super) fn is_watched(&self) -> bool {
        self.watched().is_some()
    }

    fn beside(&mut self) -> &mut Beside<W> {
        self.beside.get_or_insert_with(|| Box::new(Beside { said: None, watched: None }))
    }

    /// Gives back the memory of what is not needed any more.
    fn trim(&mut self) {
        self.beside.take_if(|beside| beside.said.is_none() && beside.watched.is_none());
    }

    /// When [`Self::tick`] is due.
    pub(super) fn deadline(&self, pace: Pace) -> Option<Instant> {
        let grace = match self.whereabouts {
            Whereabouts::Leaving { due, .. } => Some(due),
            _ => None,
        };
        let change = self.watched().and_then(|watched| {
            let pending = watched.audience.is_some() && self.shown(watched) != watched.told;
            watched.told_at.filter(|_| pending).map(|at| at + pace.interval)
        });
        let said = self.beside.as_ref().and_then(|beside| Some(beside.said.as_ref()?.until(pace)));
        let claims = self.watched().and_then(|watched| watched.claims.deadline());
        [grace, change, said, claims].into_iter().flatten().min()
    }

    /// A device has arrived; `replaced` is the connection whose place it took.
    pub(super) fn arrive(&mut self, connection: ConnectionId, replaced: Option<ConnectionId>) {
        let device = Device { connection, away: false };
        match &mut self.whereabouts {
            Whereabouts::Here(devices) => {
                devices.retain(|known| known.connection != connection && Some(known.connection) != replaced);
                devices.push(device);
            }
            _ => self.whereabouts = Whereabouts::Here(smallvec![device]),
        }
    }

    /// A device has ended at `at`. Changes nothing unless it counts.
    pub(super) fn leave(&mut self, connection: ConnectionId, at: Timestamp, now: Instant, pace: Pace) {
        let Whereabouts::Here(devices) = &mut self.whereabouts else { return };
        let status = together(devices);
        devices.retain(|known| known.connection != connection);
        if devices.is_empty() {
            self.whereabouts = Whereabouts::Leaving { at, status, due: now + pace.grace };
        }
    }

    /// A device shows something else. Changes nothing unless it counts.
    pub(super) fn set_status(&mut self, connection: ConnectionId, status: DeviceStatus) {
        let Whereabouts::Here(devices) = &mut self.whereabouts else { return };
        if let Some(device) = devices.iter_mut().find(|known| known.connection == connection) {
            device.away = status == DeviceStatus::Away;
        }
    }

    /// Time has passed. Returns when the member was last seen if their grace period has ended: it is to be stored, and
    /// then [`Self::recorded`] is called.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Timestamp> {
        if let Some(watched) = self.watched_mut() {
            watched.last_seen = watched.last_seen.max(watched.claims.expire(now));
        }
        let Whereabouts::Leaving { at, status, due } = self.whereabouts else { return None };
        (due <= now).then(|| {
            self.whereabouts = Whereabouts::Recording { at, status };
            at
        })
    }

    /// The grace period ends now, whatever is left of it: the server stops.
    pub(super) fn cut_grace(&mut self) -> Option<Timestamp> {
        match self.whereabouts {
            Whereabouts::Leaving { at, status, .. } | Whereabouts::Recording { at, status } => {
                self.whereabouts = Whereabouts::Recording { at, status };
                Some(at)
            }
            Whereabouts::Here(_) | Whereabouts::Gone => None,
        }
    }

    /// When the member was last seen is stored. Changes nothing if they have come back since.
    pub(super) fn recorded(&mut self, last_seen: Timestamp) {
        if matches!(self.whereabouts, Whereabouts::Recording { at, .. } if at == last_seen) {
            self.whereabouts = Whereabouts::Gone;
            if let Some(watched) = self.watched_mut() {
                watched.last_seen = watched.last_seen.max(Some(last_seen));
            }
        }
    }

    /// A connection of `watcher` begins to watch `member`, who this is. It is shown nothing before [`Self::reveal`].
    pub(super) fn watch(&mut self, member: MemberId, connection: ConnectionId, watcher: MemberId, way: W) {
        let watched = self.beside().watched.get_or_insert_with(|| {
            let (audience, watchers, claims) = (None, HashMap::new(), Claims::default());
            Watched { audience, last_seen: None, told: Shown::HIDDEN, told_at: None, watchers, claims }
        });
        let relation = if watcher == member { Relation::Own } else { Relation::Stranger };
        watched.watchers.entry(connection).or_insert(Watcher { way, relation });
    }

    /// What the store knows has come; `is_partner` is about the watcher. Returns what the watcher is shown, and who else
    /// sees something else from now on: what was read may be newer than what is known.
    pub(super) fn reveal(&mut self, connection: ConnectionId, facts: Facts, is_partner: bool) -> Revealed<W> {
        let Facts { last_seen, audience, version } = facts;
        let mut revealed = Revealed { shown: Shown::HIDDEN, differing: Vec::new() };
        let Some(watched) = self.watched_mut() else { return revealed };
        watched.last_seen = watched.last_seen.max(last_seen);
        // What is known from a change may be newer than what was read.
        match self.learn_audience(version, audience) {
            // Who has not asked the store yet is shown the truth when it answers.
            None => {}
            before => revealed.differing = self.differing(before, Some(connection)),
        }
        let Some(watched) = self.watched_mut() else { return revealed };
        let Some(watcher) = watched.watchers.get_mut(&connection) else { return revealed };
        if is_partner && watcher.relation == Relation::Stranger {
            watcher.relation = Relation::Partner;
        }
        let relation = watcher.relation;
        revealed.shown = watched.view(relation);
        revealed
    }

    /// Takes over who may see the presence, if that is newer than what is known. Returns what was known before.
    fn learn_audience(&mut self, version: u64, audience: Audience) -> Option<(u64, Audience)> {
        let shown = self.shown(self.watched()?);
        let watched = self.watched_mut()?;
        let before = watched.audience;
        if before.is_none() {
            // Nobody was told anything so far.
            watched.told = shown;
        }
        if before.is_none_or(|(known, _)| known < version) {
            watched.audience = Some((version, audience));
        }
        before
    }

    /// What a watcher is shown now.
    pub(super) fn view(&self, connection: ConnectionId) -> Option<Shown> {
        let watched = self.watched()?;
        watched.watchers.get(&connection).map(|watcher| watched.view(watcher.relation))
    }

    /// A connection watches the member no longer.
    pub(super) fn unwatch(&mut self, connection: ConnectionId) {
        if let Some(beside) = &mut self.beside {
            beside.watched.take_if(|watched| {
                watched.watchers.remove(&connection);
                watched.watchers.is_empty()
            });
            self.trim();
        }
    }

    /// The ways to all watchers, whether they may see the presence or not.
    pub(super) fn watchers(&self) -> Vec<W> {
        self.watched().iter().flat_map(|watched| watched.watchers.values()).map(|watcher| watcher.way.clone()).collect()
    }

    /// The ways to those who watch the member, are no device of theirs, and have no conversation with them as far as is known.
    pub(super) fn strangers(&self) -> Vec<W> {
        let watchers = self.watched().into_iter().flat_map(|watched| watched.watchers.values());
        watchers.filter(|watcher| watcher.relation == Relation::Stranger).map(|watcher| watcher.way.clone()).collect()
    }

    /// The watchers that `is` is true for have a conversation with the member from now on. Returns those who see the
    /// member only now, and what.
    pub(super) fn met(&mut self, is: impl Fn(&W) -> bool) -> (Vec<W>, Shown) {
        let Some(watched) = self.watched_mut() else { return (Vec::new(), Shown::HIDDEN) };
        let (audience, told) = (watched.audience, watched.told);
        let opens = !allows(audience, Relation::Stranger) && allows(audience, Relation::Partner);
        let differs = opens && told != Shown::HIDDEN;
        let strangers = watched.watchers.values_mut().filter(|watcher| watcher.relation == Relation::Stranger);
        let met = strangers.filter(|watcher| is(&watcher.way)).map(|watcher| {
            watcher.relation = Relation::Partner;
            watcher.way.clone()
        });
        let met: Vec<W> = met.collect();
        (if differs { met } else { Vec::new() }, told)
    }

    /// The member has chosen who may see their presence. Returns those who see something else from now on, and what.
    pub(super) fn set_audience(&mut self, version: u64, audience: Audience) -> Vec<(W, Shown)> {
        let before = self.learn_audience(version, audience);
        self.differing(before, None)
    }

    /// Who sees something else than with the audience `before`, and what; without one of them.
    fn differing(&self, before: Option<(u64, Audience)>, without: Option<ConnectionId>) -> Vec<(W, Shown)> {
        let Some(watched) = self.watched().filter(|watched| watched.audience != before) else {
            return Vec::new();
        };
        let view = |audience, relation| if allows(audience, relation) { watched.told } else { Shown::HIDDEN };
        let others = watched.watchers.iter().filter(|(connection, _)| Some(**connection) != without);
        let differing = others.filter_map(|(_, Watcher { way, relation })| {
            let now = view(watched.audience, *relation);
            (view(before, *relation) != now).then(|| (way.clone(), now))
        });
        differing.collect()
    }

    /// Who is to be told of a change now, and what. Nobody while the interval since the last change has not ended.
    pub(super) fn news(&mut self, now: Instant, pace: Pace) -> Option<(Vec<W>, Shown)> {
        let shown = self.shown(self.watched()?);
        let watched = self.watched_mut()?;
        let is_due = watched.told_at.is_none_or(|at| at + pace.interval <= now);
        if watched.audience.is_none() || shown == watched.told || !is_due {
            return None;
        }
        (watched.told, watched.told_at) = (shown, Some(now));
        let allowed = watched.watchers.values().filter(|watcher| allows(watched.audience, watcher.relation));
        Some((allowed.map(|watcher| watcher.way.clone()).collect(), shown))
    }

    /// How the member is now, on all nodes.
    fn shown(&self, watched: &Watched<W>) -> Shown {
        let all = self.local().map(Showing::order).into_iter().chain(watched.claims.orders());
        let status = match all.filter(|order| counts(*order, watched.last_seen)).min_by_key(|order| rank(*order)) {
            None => return Shown { status: PresenceStatus::Offline, last_seen: watched.last_seen },
            Some((.., false)) => PresenceStatus::Online,
            Some((.., true)) => PresenceStatus::Away,
        };
        Shown { status, last_seen: None }
    }
}

fn is_away(status: DeviceStatus) -> bool {
    status == DeviceStatus::Away
}

/// What devices show together: away only when all are.
fn together(devices: &[Device]) -> DeviceStatus {
    if devices.iter().all(|device| device.away) { DeviceStatus::Away } else { DeviceStatus::Online }
}

#[cfg(test)]
mod tests;
