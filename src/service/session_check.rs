//! The check of the sessions of all connections against the store.
//!
//! What ends a session on another node is told over the bus, and the bus may lose it. So every node of a store that several
//! nodes use asks the store now and then which of the sessions connected to it are over, and which members an administrator has
//! disconnected: no connection outlives its session by more than 35 s. So does a node that has the store for itself: a command
//! (`members-book admin …`) changes a member beside it. What a command has done is looked for every second.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use protocol::{CloseCode, MemberId, SessionId, Timestamp, rest::AuditAction};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::effects::{Effect, Effects};
use crate::{
    clock::Clock,
    hub::{Connection, Hub},
    ids::made_at,
    store::{
        AuditStore, SessionStore, StoreError,
        audit::{AuditPlace, AuditRecord},
        members::Standing,
        sessions::SessionView,
    },
    telemetry::Metrics,
};

/// From the beginning of a check to that of the next. With [`SPREAD`] a session is looked at every 30 s at least: it may be
/// among the first ones of a check and among the last ones of the next.
const EVERY: Duration = Duration::from_secs(25);
/// How long a check takes when nobody waits for it, so that the sessions of many connections are no burst of reads.
const SPREAD: Duration = Duration::from_secs(5);
/// The same when it is wanted now: the first are looked at at once.
const HURRIED: Duration = Duration::from_secs(2);
/// When a check that failed is made again: the database is away, and what is over is to end when it is back.
const SOON: Duration = Duration::from_millis(500);
/// How often it is looked for what a command has done.
const COMMANDS: Duration = Duration::from_secs(1);
/// Sessions that are looked at in one read: few enough that it keeps nobody waiting who reads beside it.
const CHUNK: usize = 100;
/// Entries of the audit log that are read at once.
const PAGE: usize = 500;
/// Places of the audit log that are looked at again: one of them may have got its entry late.
const AGAIN: u64 = 256;
/// How much later than an entry a connection may seem to have been opened that was opened before it: the clocks of nodes differ,
/// and the second of an id is begun.
const SKEW: Duration = Duration::from_secs(2);

/// What closes connections of a member whose sessions are good: an order of an administrator, and what replaces the tokens of the session
/// that stays.
const CLOSES: [AuditAction; 3] =
    [AuditAction::Disconnected, AuditAction::PasswordChanged, AuditAction::SecondFactorEnabled];

/// Why a connection is closed by the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Its session was logged out or revoked, or is gone.
    Revoked,
    /// Its member may not sign in any more.
    Deactivated,
    /// An administrator has disconnected its member, or the tokens of its session were replaced.
    Disconnected,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Deactivated => "deactivated",
            Self::Disconnected => "disconnected",
        }
    }

    const fn code(self) -> CloseCode {
        match self {
            Self::Revoked => CloseCode::Unauthorized,
            Self::Deactivated => CloseCode::Deactivated,
            Self::Disconnected => CloseCode::Disconnected,
        }
    }
}

/// Checks the sessions of connections against the store.
pub struct SessionCheck {
    /// The connections.
    pub hub: Arc<Hub>,
    /// Their sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// Who was disconnected.
    pub audit: Arc<dyn AuditStore>,
    /// Closes connections.
    pub effects: Arc<Effects>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// A check is wanted now.
    pub wanted: Notify,
}

impl SessionCheck {
    /// Asks for a check at once: something that closes connections may have been lost. Never waits.
    pub fn check_now(&self) {
        self.wanted.notify_one();
    }

    /// Checks now and then, and when it is asked to, until the stop.
    pub async fn run(&self, stop: CancellationToken) {
        // It may be started again after a fault: from the newest entries on, those that are looked at again included.
        let mut log = None;
        let (mut next, mut failing) = (Instant::now() + EVERY, false);
        let mut commands = self.newest().await.ok();
        loop {
            let hurry = tokio::select! {
                () = stop.cancelled() => return,
                () = self.wanted.notified() => true,
                () = sleep_until(next) => failing,
                () = sleep(COMMANDS) => {
                    let looked = stop.run_until_cancelled(self.follow_commands(&mut commands)).await;
                    if let Some(Err(error)) = looked {
                        tracing::debug!(%error, "it was not looked for what commands have done");
                    }
                    continue;
                }
            };
            let started = Instant::now();
            // Store calls run in tasks of their own: whoever stops waiting interrupts none.
            let checked = stop.run_until_cancelled(self.check(&mut log, if hurry { HURRIED } else { SPREAD }));
            let Some(checked) = checked.await else { return };
            match &checked {
                Ok(()) => {
                    self.metrics.session_check_seconds.observe(started.elapsed().as_secs_f64());
                    next = started + EVERY;
                }
                Err(error) => {
                    self.metrics.session_check_failures.inc();
                    tracing::debug!(%error, "the sessions of connections were not checked; it is tried again soon");
                    next = Instant::now() + SOON;
                }
            }
            failing = checked.is_err();
        }
    }

    /// Checks every connection once, over so long.
    async fn check(&self, log: &mut Option<Followed>, over: Duration) -> Result<(), StoreError> {
        let log = match log {
            Some(log) => log,
            None => log.insert(Followed::since(self.audit.entries(None, 1).await?.first())),
        };
        self.check_disconnected(log).await?;
        let sessions = self.hub.signed_in(|connection| (connection.session, connection.member));
        // Each once, however many connections it has.
        let sessions: Vec<(SessionId, MemberId)> =
            sessions.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect();
        let started = Instant::now();
        let chunks = u32::try_from(sessions.len().div_ceil(CHUNK)).unwrap_or(u32::MAX);
        for (number, chunk) in sessions.chunks(CHUNK).enumerate() {
            // At once if the reads took longer than that.
            sleep_until(started + over * u32::try_from(number).unwrap_or(u32::MAX) / chunks).await;
            self.check_sessions(chunk).await?;
        }
        Ok(())
    }

    /// Closes connections of members whom a command has changed since the last look. What has its place late is left to the check.
    async fn follow_commands(&self, last: &mut Option<AuditPlace>) -> Result<(), StoreError> {
        let Some(after) = *last else {
            *last = Some(self.newest().await?);
            return Ok(());
        };
        let entries = self.audit.after(after, PAGE).await?;
        let by_command = entries.iter().filter(|(_, entry)| entry.actor.is_none());
        let members: BTreeSet<MemberId> = by_command.filter_map(|(_, entry)| entry.target).collect();
        for member in members {
            let of_member = |connection: &Connection| (connection.session, connection.member);
            let sessions: BTreeMap<SessionId, MemberId> = self.hub.of_member(member, of_member).into_iter().collect();
            for chunk in sessions.into_iter().collect::<Vec<_>>().chunks(CHUNK) {
                self.check_sessions(chunk).await?;
            }
        }
        *last = entries.last().map_or(*last, |(place, _)| Some(*place));
        Ok(())
    }

    /// The last place of the audit log.
    async fn newest(&self) -> Result<AuditPlace, StoreError> {
        Ok(self.audit.entries(None, 1).await?.first().map_or(AuditPlace(0), |(place, _)| *place))
    }

    async fn check_sessions(&self, sessions: &[(SessionId, MemberId)]) -> Result<(), StoreError> {
        let views = self.sessions.views(sessions.iter().map(|(session, _)| *session).collect()).await?;
        for ((session, member), view) in sessions.iter().zip(views) {
            if let Some(reason) = over(view, self.clock.now()) {
                self.effects.apply([Effect::EndSession(*session)]);
                self.close(*member, reason, |connection| connection.session == *session);
            }
        }
        Ok(())
    }

    /// Closes connections of members who were disconnected on another node, if this one did not hear of it.
    async fn check_disconnected(&self, log: &mut Followed) -> Result<(), StoreError> {
        let mut after = log.again();
        loop {
            let entries = self.audit.after(after, PAGE).await?;
            for (place, entry) in &entries {
                let is_order = log.is_new(*place) && CLOSES.contains(&entry.action);
                let Some(target) = entry.target.filter(|_| is_order) else { continue };
                if !self.effects.kicks.was_heard(target, entry.at) {
                    let before = |connection: &Connection| made_at(connection.id) <= entry.at.after(SKEW);
                    self.close(target, Reason::Disconnected, before);
                }
            }
            match entries.last() {
                Some((place, _)) if entries.len() == PAGE => after = *place,
                _ => return Ok(()),
            }
        }
    }

    fn close(&self, member: MemberId, reason: Reason, is_meant: impl Fn(&Connection) -> bool) {
        let is_meant = |connection: &Connection| is_meant(connection) && connection.outbox.closing().is_none();
        let connections = self.effects.close_if(member, is_meant, reason.code());
        if connections > 0 {
            tracing::info!(%member, connections, reason = reason.name(), "connections whose time is over were closed");
            self.metrics.session_check_closed(reason.name(), connections);
        }
    }
}

/// Why the connections of a session are over, if they are.
fn over(view: Option<SessionView>, now: Timestamp) -> Option<Reason> {
    match view {
        Some(view) if view.standing(now) != Standing::Active => Some(Reason::Deactivated),
        Some(view) if !view.revoked => None,
        Some(_) | None => Some(Reason::Revoked),
    }
}

/// How far the audit log was followed.
#[derive(Debug)]
struct Followed {
    /// The last place that had an entry.
    last: u64,
    /// Those of the last [`AGAIN`] places whose entries were looked at.
    seen: BTreeSet<u64>,
}

impl Followed {
    /// From the newest entry on. Those before it that are looked at again close nothing that was opened after them.
    fn since(newest: Option<&(AuditPlace, AuditRecord)>) -> Self {
        Self { last: newest.map_or(0, |(AuditPlace(place), _)| *place), seen: BTreeSet::new() }
    }

    /// After which place the log is read: the last places are read again.
    fn again(&self) -> AuditPlace {
        AuditPlace(self.last.saturating_sub(AGAIN))
    }

    /// Whether an entry is looked at for the first time.
    fn is_new(&mut self, AuditPlace(place): AuditPlace) -> bool {
        self.last = self.last.max(place);
        let is_new = place > self.last.saturating_sub(AGAIN) && self.seen.insert(place);
        self.seen = self.seen.split_off(&(self.again().0 + 1));
        is_new
    }
}

#[cfg(test)]
mod tests {
    use protocol::model::UserType;

    use super::*;

    fn new(log: &mut Followed, places: impl IntoIterator<Item = u64>) -> Vec<u64> {
        places.into_iter().filter(|place| log.is_new(AuditPlace(*place))).collect()
    }

    #[test]
    fn an_entry_is_looked_at_once_though_its_place_was_taken_before_others() {
        let mut log = Followed { last: 0, seen: BTreeSet::new() };
        assert_eq!(new(&mut log, [1, 2, 4]), [1, 2, 4]);
        assert_eq!(new(&mut log, [1, 2, 3, 4, 5]), [3, 5]);
        let many: Vec<u64> = (6..=1_000).collect();
        assert_eq!(new(&mut log, many.clone()), many);
        assert_eq!(log.again(), AuditPlace(1_000 - AGAIN));
        assert!(new(&mut log, (1_001 - AGAIN)..=1_000).is_empty());
        assert!(log.seen.len() <= usize::try_from(AGAIN).unwrap());
    }

    #[test]
    fn the_state_of_its_member_comes_before_that_of_a_session() {
        let view = |is_active, revoked| {
            let member = MemberId::from_bytes([1; 12]);
            let user_type = UserType::Member;
            let (suspended_until, generation, good_from, confirmed) = (None, 0, 0, true);
            let (ends_at, proved_at, has_second_factor) = (None, Timestamp::from_millis(0), false);
            let view = SessionView {
                member,
                user_type,
                is_active,
                suspended_until,
                revoked,
                generation,
                good_from,
                confirmed,
                ends_at,
                proved_at,
                has_second_factor,
                created_at: proved_at,
                known_device: None,
            };
            over(Some(view), Timestamp::from_millis(0))
        };
        let suspended = SessionView {
            member: MemberId::from_bytes([1; 12]),
            user_type: UserType::Member,
            is_active: true,
            suspended_until: Some(Timestamp::from_millis(1_000)),
            revoked: true,
            generation: 0,
            good_from: 0,
            confirmed: true,
            ends_at: None,
            proved_at: Timestamp::from_millis(0),
            has_second_factor: false,
            created_at: Timestamp::from_millis(0),
            known_device: None,
        };
        assert_eq!(over(Some(suspended), Timestamp::from_millis(999)), Some(Reason::Deactivated));
        assert_eq!(over(Some(suspended), Timestamp::from_millis(1_000)), Some(Reason::Revoked), "that has ended");
        assert_eq!(view(true, false), None);
        assert_eq!(view(true, true), Some(Reason::Revoked));
        assert_eq!((view(false, true), view(false, false)), (Some(Reason::Deactivated), Some(Reason::Deactivated)));
        assert_eq!(over(None, Timestamp::from_millis(0)), Some(Reason::Revoked), "it is gone");
    }
}
