//! Profiles that changed while something was in doubt: read again, and told to those who are connected here.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use protocol::{MemberId, Timestamp};

use super::Fleet;
use crate::{
    position::Position,
    service::views,
    store::{StoreError, fleet::PROFILES_MAX, members::MemberRecord},
};

/// What the clocks of nodes may differ by: each stamps the profiles that it changes with its own.
const APART: Duration = Duration::from_secs(10);
/// Members whose profile is remembered to have been told. With more, some are told again.
const REMEMBERED: usize = 10_000;

/// The versions of profiles that were told here while sweeping.
#[derive(Default)]
pub(super) struct ProfilesTold(Mutex<HashMap<MemberId, u64>>);

impl ProfilesTold {
    /// Whether a profile is to be told: it was not, in this version or a later one.
    fn first(&self, member: MemberId, version: u64) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED && !told.contains_key(&member) {
            told.clear();
        }
        let known = told.entry(member).or_default();
        let is_first = *known < version;
        *known = version.max(*known);
        is_first
    }

    /// Nothing is in doubt any more.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = HashMap::new();
    }
}

impl Fleet {
    /// Tells those who are connected here of the profiles that changed after a position.
    pub(super) async fn sweep_profiles(&self, since: Position) -> Result<(), StoreError> {
        let apart = u64::try_from(APART.as_millis()).unwrap_or(u64::MAX);
        let millis = i64::try_from(since.0.saturating_sub(apart)).unwrap_or(i64::MAX);
        let mut since = Timestamp::from_millis(millis);
        loop {
            let changed = self.parts.store.profiles(since).await?;
            let (found, last) = (changed.len(), changed.last().map(|record| record.profile.updated_at));
            for record in changed {
                if self.profiles_told.first(record.profile.id, record.version) {
                    self.tell_profile(&record).await;
                }
            }
            match last {
                // Those of the same millisecond as the last one come again.
                Some(last) if found >= PROFILES_MAX && last > since => since = last,
                _ => return Ok(()),
            }
        }
    }

    async fn tell_profile(&self, record: &MemberRecord) {
        let (member, version) = (record.profile.id, record.version);
        let audience = record.profile.visibility.presence;
        // As if the node that changed it had been heard.
        self.parts.watching.set_audience_here(member, version, audience);
        self.parts.effects.announcements.tell_here(views::card(record)).await;
    }
}
