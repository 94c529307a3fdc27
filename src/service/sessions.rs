//! Where members are signed in: the list of their sessions, ending them, naming them.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use protocol::{
    CloseCode, ErrorCode, MemberId, SessionId, Timestamp,
    rest::{DeviceInfo, Session, SessionList},
    shown,
};
use tokio::{sync::OnceCell, time::timeout};

use super::{
    accounts::Authorized,
    decisions::{or_when_unknown, until_known},
    effects::{self, Effect, Effects},
};
use crate::{
    clock::Clock,
    failure::Failure,
    store::{
        SessionStore, StoreError,
        sessions::{SessionDevice, SessionRecord},
    },
};

/// How long a request waits until it is stored that its tokens have arrived. It is stored even if that takes longer.
const CONFIRMATION_PATIENCE: Duration = Duration::from_millis(500);

/// Sessions of members.
pub struct Sessions {
    /// What is stored of them.
    pub store: Arc<dyn SessionStore>,
    /// What follows from their end.
    pub effects: Arc<Effects>,
    /// How long one lives.
    pub lifetime: Duration,
    /// Those that are being confirmed by this node.
    pub confirming: Mutex<HashSet<SessionId>>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// Which sessions of a member are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    One(SessionId),
    AllBut(SessionId),
    All,
}

impl Sessions {
    /// The sessions of a member that are good, the one that was used last first. `current`: that of who asks.
    ///
    /// # Errors
    /// The store.
    pub async fn list(&self, member: MemberId, current: SessionId) -> Result<SessionList, Failure> {
        let mut good = self.good(member).await?;
        good.sort_unstable_by_key(|session| std::cmp::Reverse((session.last_used_at, session.created_at, session.id)));
        Ok(SessionList { sessions: good.into_iter().map(|record| self.view(record, current)).collect() })
    }

    /// Names the device of a session.
    ///
    /// # Errors
    /// `session_not_found` for one that is not the member's, or is over; or the store.
    pub async fn rename(&self, who: &Authorized, session: SessionId, name: &str) -> Result<Session, Failure> {
        let mut record = self.find(who.member, session).await?;
        let name = shown_name(name);
        let renamed = until_known(|_| self.store.rename(who.member, session, name.clone())).await?.outcome;
        if !renamed {
            return Err(ErrorCode::SessionNotFound.into());
        }
        record.device.name = Some(name);
        Ok(self.view(record, who.session))
    }

    /// Ends a session of a member. Its connections are closed with 4401.
    ///
    /// # Errors
    /// `session_not_found` for one that is not the member's, or is over; or the store.
    pub async fn end(&self, who: &Authorized, session: SessionId) -> Result<(), Failure> {
        self.find(who.member, session).await?;
        self.end_those(who.member, Which::One(session)).await
    }

    /// Ends every session of a member but the one of the request. Their connections are closed with 4401.
    ///
    /// # Errors
    /// The store.
    pub async fn end_others(&self, who: &Authorized) -> Result<(), Failure> {
        self.end_those(who.member, Which::AllBut(who.session)).await
    }

    /// Ends the session of the request, or all sessions of the member. Their connections are closed with 4401.
    ///
    /// # Errors
    /// The store.
    pub async fn log_out(&self, who: &Authorized, all: bool) -> Result<(), Failure> {
        self.end_those(who.member, if all { Which::All } else { Which::One(who.session) }).await
    }

    /// Ends all sessions of a member. Their connections are closed with 4401.
    ///
    /// # Errors
    /// The store.
    pub(super) async fn end_all(&self, member: MemberId) -> Result<(), Failure> {
        self.end_those(member, Which::All).await
    }

    /// The tokens of a generation of a session were used, so they have arrived. That is stored once, by whoever comes first, who
    /// waits for it a moment. If it cannot be, the next use of them tries again.
    pub(super) async fn confirm(&self, member: MemberId, session: SessionId, generation: u64) {
        let Some(_confirming) = Confirming::enter(&self.confirming, session) else { return };
        let confirmed = self.store.confirm(member, session, generation, self.clock.now());
        if let Ok(Err(error)) = timeout(CONFIRMATION_PATIENCE, confirmed).await {
            tracing::debug!(%session, %error, "it is not stored that tokens have arrived; it is tried again");
        }
    }

    /// A session is over ([`effects::of_ended`]).
    pub(super) fn is_over(&self, member: MemberId, session: SessionId) {
        self.effects.apply(effects::of_ended(member, session));
    }

    async fn end_those(&self, member: MemberId, which: Which) -> Result<(), Failure> {
        let now = self.clock.now();
        // The same ones at each attempt, and none that is started while it is made.
        let sessions = OnceCell::new_with(match which {
            Which::One(session) => Some(vec![session]),
            Which::AllBut(_) | Which::All => None,
        });
        let revoke = async |_| {
            let sessions = sessions.get_or_try_init(|| self.valid(member, which)).await?;
            self.store.revoke_many(member, sessions.clone(), now).await
        };
        let close = |code| {
            if which == Which::All {
                // All of them: whose session was started in the meantime comes back with a new token.
                self.effects.close(member, None, code);
            } else {
                for session in sessions.get().into_iter().flatten() {
                    self.effects.close(member, Some(*session), code);
                }
            }
        };
        // It may have happened. Whoever may still sign in comes back.
        or_when_unknown(until_known(revoke), || close(CloseCode::Disconnected)).await?;
        self.effects.apply(sessions.get().into_iter().flatten().copied().map(Effect::EndSession));
        close(CloseCode::Unauthorized);
        Ok(())
    }

    /// The sessions that are meant and not revoked.
    async fn valid(&self, member: MemberId, which: Which) -> Result<Vec<SessionId>, StoreError> {
        let of_member = self.store.of_member(member).await?;
        let valid = of_member.iter().filter(|known| known.revoked_at.is_none()).map(|known| known.id);
        Ok(valid.filter(|session| which != Which::AllBut(*session)).collect())
    }

    async fn good(&self, member: MemberId) -> Result<Vec<SessionRecord>, StoreError> {
        let now = self.clock.now();
        let of_member = self.store.of_member(member).await?;
        Ok(of_member.into_iter().filter(|session| session.is_good(now, self.lifetime)).collect())
    }

    /// When the session of who asks ends at the latest.
    pub(super) async fn ends(&self, who: &Authorized) -> Result<Option<Timestamp>, StoreError> {
        let of_member = self.store.of_member(who.member).await?;
        Ok(of_member.iter().find(|known| known.id == who.session).map(|known| known.ends(self.lifetime)))
    }

    /// How many good sessions a member has.
    pub(super) async fn count(&self, member: MemberId) -> Result<usize, StoreError> {
        Ok(self.good(member).await?.len())
    }

    async fn find(&self, member: MemberId, session: SessionId) -> Result<SessionRecord, Failure> {
        let found = self.good(member).await?.into_iter().find(|known| known.id == session);
        found.ok_or_else(|| ErrorCode::SessionNotFound.into())
    }

    fn view(&self, record: SessionRecord, current: SessionId) -> Session {
        Session {
            id: record.id,
            is_current: record.id == current,
            created_at: record.created_at,
            last_used_at: record.last_used_at,
            expires_at: record.ends(self.lifetime),
            address: record.address.map(|address| address.to_string()),
            last_address: record.last_address.map(|address| address.to_string()),
            device: device_info(record.device),
        }
    }
}

/// A device as clients see it.
pub(super) fn device_info(SessionDevice { name, platform }: SessionDevice) -> DeviceInfo {
    DeviceInfo { name, platform }
}

/// A device as it is stored.
pub(super) fn stored_device(device: Option<DeviceInfo>) -> SessionDevice {
    let DeviceInfo { name, platform } = device.unwrap_or_default();
    SessionDevice { name: name.as_deref().map(shown_name), platform }
}

fn shown_name(name: &str) -> String {
    shown::normalized(name.trim())
}

/// A session that is being confirmed.
struct Confirming<'a> {
    sessions: &'a Mutex<HashSet<SessionId>>,
    session: SessionId,
}

impl<'a> Confirming<'a> {
    /// Nothing if somebody confirms it already.
    fn enter(sessions: &'a Mutex<HashSet<SessionId>>, session: SessionId) -> Option<Self> {
        // Only of one that was entered: what is made here takes it out again.
        let entered = lock(sessions).insert(session);
        entered.then(|| Self { sessions, session })
    }
}

impl Drop for Confirming<'_> {
    fn drop(&mut self) {
        lock(self.sessions).remove(&self.session);
    }
}

/// Held for one instruction, which does not panic.
fn lock(sessions: &Mutex<HashSet<SessionId>>) -> MutexGuard<'_, HashSet<SessionId>> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_confirmed_by_one_at_a_time() {
        let (sessions, session) = (Mutex::default(), SessionId::from_bytes([1; 12]));
        let first = Confirming::enter(&sessions, session);
        assert!(first.is_some() && Confirming::enter(&sessions, session).is_none());
        assert!(Confirming::enter(&sessions, SessionId::from_bytes([2; 12])).is_some());
        drop(first);
        assert!(Confirming::enter(&sessions, session).is_some());
    }

    #[test]
    fn a_name_is_kept_as_others_are_shown_it() {
        let given = DeviceInfo { name: Some(" Jose\u{301} ".to_owned()), platform: None };
        assert_eq!(stored_device(Some(given)).name.as_deref(), Some("José"));
        assert_eq!(stored_device(None), SessionDevice::default());
    }
}
