//! Which devices of a member are registered. Where no other node registers any they are remembered, so that it is not asked for every message.
//! Among other nodes they are read when it is decided who is told, once for all who have a message due: what another node has registered by then
//! counts, whatever the bus has lost.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol::{DeviceId, MemberId};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::{
    position::Position,
    store::{
        PushStore, StoreError,
        push::{BULK_MAX, DeviceRecord},
        turns::Caller,
    },
};

/// Members whose devices are remembered: about 150 bytes each, and 100 more for a device.
const MEMBERS: usize = 50_000;
/// How long what is remembered is believed.
const LIFETIME: Duration = Duration::from_secs(60);

/// A device that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registered {
    pub(super) device: DeviceId,
    /// From which position on: what was stored before is not for it.
    pub(super) since: Position,
    /// Whether it shows a number at its icon.
    pub(super) has_badge: bool,
}

/// The devices of a member; nothing without any.
type Known = Option<Arc<[Registered]>>;

/// Which devices are registered.
pub(super) struct Devices {
    store: Arc<dyn PushStore>,
    known: Cache<MemberId, (Instant, Known)>,
    /// Nothing is remembered: another node may have changed it, and there may be no bus, or it has lost that.
    is_shared: bool,
    /// Counts what was forgotten, so that what was read before that is not remembered after it.
    forgotten: AtomicU64,
}

impl Devices {
    /// Those of a store, which other nodes change too if it is shared.
    pub(super) fn new(store: Arc<dyn PushStore>, is_shared: bool) -> Self {
        Self { store, known: Cache::new(if is_shared { 0 } else { MEMBERS }), is_shared, forgotten: AtomicU64::new(0) }
    }

    /// The devices of a member are not what they were.
    pub(super) fn forget(&self, member: MemberId) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.known.remove(&member);
    }

    /// The devices of members who have any. Asks the store once for all that are not remembered.
    ///
    /// # Errors
    /// The store.
    pub(super) async fn of(
        &self,
        members: impl IntoIterator<Item = MemberId>,
    ) -> Result<HashMap<MemberId, Arc<[Registered]>>, StoreError> {
        let now = Instant::now();
        let (mut found, mut asked) = (HashMap::new(), HashMap::new());
        for member in members {
            match self.known.get(&member) {
                Some((at, known)) if now.duration_since(at) < LIFETIME => {
                    found.extend(known.map(|known| (member, known)));
                }
                _ => drop(asked.insert(member, Vec::new())),
            }
        }
        let forgotten = self.forgotten.load(Ordering::Acquire);
        let members: Vec<MemberId> = asked.keys().copied().collect();
        for some in members.chunks(BULK_MAX) {
            for device in self.store.devices(Caller::System, some.to_vec()).await? {
                let DeviceRecord { member, device, since, badge, .. } = device;
                let registered = Registered { device, since, has_badge: badge.is_some() };
                asked.entry(member).or_default().push(registered);
            }
        }
        let is_current = self.forgotten.load(Ordering::Acquire) == forgotten;
        for (member, devices) in asked {
            let known: Known = (!devices.is_empty()).then(|| devices.into());
            if is_current && !self.is_shared {
                self.known.insert(member, (now, known.clone()));
            }
            found.extend(known.map(|known| (member, known)));
        }
        Ok(found)
    }
}
