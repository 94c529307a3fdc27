//! The numbers at icons, where one may be another than what is unread: a task finds out, and tells the device.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use protocol::{DeviceId, MemberId, Timestamp};

use super::Push;
use crate::store::{
    StoreError,
    push::{BULK_MAX, DeviceKey, DeviceRecord, NewTask, Subject},
    turns::Caller,
};

/// How long after something was read the number at the icons of other devices changes: who reads one conversation reads the next.
const BADGE: Duration = Duration::from_secs(1);
/// One number at an icon after the other is compared with what is unread, where there are many.
const COMPARE: Duration = Duration::from_millis(5);
/// Of how many members it is counted at a time what they have not read.
const AT_ONCE: usize = 16;

/// Has the number at the icon of a device found out, a moment after `at`.
pub(super) fn task((member, device): (MemberId, DeviceId), at: Timestamp) -> NewTask {
    NewTask { member, device, subject: Subject::Badge, first: 0, last: 0, at, due: at.after(BADGE) }
}

impl Push {
    /// Compares the numbers that devices show, as is stored since they were told, with what is unread now: what was read while a push was under way,
    /// on whatever node, lowered none, because it was not stored yet that the device shows one. What came meanwhile has a push of its own, and a
    /// number that nobody knows is larger than all. To be repeated if it fails; after a crash all numbers are compared.
    ///
    /// # Errors
    /// The store.
    pub(super) async fn compare_told(&self, told: &HashSet<(MemberId, DeviceId)>) -> Result<(), StoreError> {
        let members: HashSet<MemberId> = told.iter().map(|(member, _)| *member).collect();
        let devices = self.parts.store.devices(Caller::System, members.into_iter().collect()).await?;
        let mut shown: HashMap<MemberId, Vec<(DeviceId, u32)>> = HashMap::new();
        for record in devices.into_iter().filter(|record| self.is_silent(record)) {
            let DeviceRecord { member, device, badge, .. } = record;
            let of = (member, device);
            if let Some(badge) = badge.filter(|_| told.contains(&of)) {
                shown.entry(member).or_default().push((of.1, badge));
            }
        }
        let at = self.parts.clock.now();
        let each = shown.into_iter().map(|(member, devices)| async move {
            let unread = self.parts.store.unread(member).await?;
            let wrong = devices.into_iter().filter(|(_, badge)| *badge > unread);
            Ok::<_, StoreError>(wrong.map(|(device, _)| task((member, device), at)).collect::<Vec<_>>())
        });
        let wrong: Vec<Vec<NewTask>> = stream::iter(each).buffer_unordered(AT_ONCE).try_collect().await?;
        let wrong: Vec<NewTask> = wrong.into_iter().flatten().collect();
        for some in wrong.chunks(BULK_MAX) {
            self.parts.store.add(some.to_vec(), None).await?;
            self.wanted.notify_one();
        }
        Ok(())
    }

    /// Has every device that shows a number at its icon compared with what is unread: who has read something was known to a process that is gone.
    pub(super) async fn compare_numbers(&self) -> Result<(), StoreError> {
        let (mut after, mut due) = (None, self.parts.clock.now());
        loop {
            let some = self.parts.store.with_badge(after).await?;
            let at = self.parts.clock.now();
            let compare = |(member, device): &(MemberId, DeviceId)| {
                due = due.after(COMPARE);
                NewTask { due, ..task((*member, device.clone()), at) }
            };
            self.parts.store.add(some.iter().map(compare).collect(), None).await?;
            self.wanted.notify_one();
            if some.len() < BULK_MAX {
                return Ok(());
            }
            after = some.last().map(|(member, device)| DeviceKey::of(*member, device));
        }
    }
}
