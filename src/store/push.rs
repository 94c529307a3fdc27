//! Push: the devices that are told of messages while they do not say that they have them, and what they are to be told.
//!
//! A message that a device has not acknowledged in time becomes a *task*: one for each device and conversation, so that what is stored is
//! bounded by devices and not by messages. Its text is never in it: what a push says is made of the store when it is sent, from what
//! holds then. A worker takes what is due, and what it takes is due again after a while unless it was finished: a device is told
//! at least once, or the task is given up when its time is over.
//!
//! What devices have acknowledged is kept by device and conversation ([`DeviceMark`]), of registered devices only, written a moment after
//! the member's watermark and never in the way of it.

use async_trait::async_trait;
use protocol::{
    ConversationId, DeviceId, MemberId, SessionId, Timestamp,
    model::Platform,
    rest::{PushAddress, PushContent, QuietHours},
};
use reqwest::Url;
use sha2::{Digest as _, Sha256};

use super::{StoreError, turns::Caller};
use crate::position::Position;

mod tasks;

pub use tasks::StoredTask;
pub(super) use tasks::merged;

/// Devices of one member that are registered at a time. The one that was registered first goes when there is one more.
pub const DEVICES_MAX: usize = 20;
/// Tasks of one device that wait at a time; of more conversations, the one whose newest message is oldest goes.
pub const TASKS_MAX: usize = 100;
/// How many rows the calls take and give at once that are made in bulk.
pub const BULK_MAX: usize = 1_000;
/// Largest number of unread messages that [`PushStore::unread`] tells.
pub const UNREAD_MAX: u32 = 9_999;

/// The words for what a push shows, in the stores.
pub(super) const CONTENTS: &[(&str, PushContent)] = &[
    (PushContent::Nothing.as_str(), PushContent::Nothing),
    (PushContent::Sender.as_str(), PushContent::Sender),
    (PushContent::Full.as_str(), PushContent::Full),
];

/// [`DeviceRecord::badge`] of a device of which nobody knows which number it shows: larger than any that is unread, so it is told again.
pub const BADGE_UNKNOWN: u32 = u32::MAX;

/// What goes when no more than `most` may stay: the oldest, and of those of one age the smallest.
pub(super) fn surplus<A: Ord, T: Ord>(all: impl IntoIterator<Item = (A, T)>, most: usize) -> Vec<T> {
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all.into_iter().skip(most).map(|(_, gone)| gone).collect()
}

/// Tells devices of all members apart, and is of one length whatever a device is called: the beginning of a SHA-256 hash of the member and the
/// device. By it stores keep what there is of a device, and a copy goes through it in the same order in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceKey(pub [u8; 16]);

impl DeviceKey {
    /// That of a device of a member.
    #[must_use]
    pub fn of(member: MemberId, device: &DeviceId) -> Self {
        let hash: [u8; 32] =
            Sha256::new().chain_update(member.as_bytes()).chain_update(device.as_str()).finalize().into();
        Self(hash.first_chunk().copied().unwrap_or_default())
    }
}

/// Tells addresses apart: what is unique in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressHash(pub [u8; 32]);

impl AddressHash {
    /// That of an address, however it is written.
    #[must_use]
    pub fn of(address: &PushAddress) -> Self {
        let text = canonical(address);
        let service = address.service().as_str();
        Self(Sha256::new().chain_update(service).chain_update([0]).chain_update(text).finalize().into())
    }
}

/// An address as it is written by who gives them out: so one that is written in another way is the same. Both names of Expo's tokens lead to the
/// same device, a fragment is never sent, and the host and the usual port of a URL have one form (RFC 3986, section 6.2).
fn canonical(address: &PushAddress) -> String {
    match address {
        PushAddress::Expo { token } => match token.strip_prefix("ExpoPushToken[") {
            Some(rest) => format!("ExponentPushToken[{rest}"),
            None => token.clone(),
        },
        PushAddress::Web { endpoint, .. } => match Url::parse(endpoint) {
            Ok(mut url) => {
                url.set_fragment(None);
                url.into()
            }
            Err(_) => endpoint.clone(),
        },
    }
}

/// A device that is registered for pushes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    /// Its member.
    pub member: MemberId,
    /// It.
    pub device: DeviceId,
    /// The session that registered it: when that ends, nothing is pushed to it any more.
    pub session: SessionId,
    /// Where pushes go.
    pub address: PushAddress,
    /// What it is.
    pub platform: Platform,
    /// When it was registered last.
    pub registered_at: Timestamp,
    /// From which position of the log on it has been registered, whatever its address was: what was stored before is not pushed to it. The
    /// store's own: whoever registers a device or copies it leaves it at 0, and of one that is registered again the store keeps it. No clock of
    /// a node is in it, so it holds whatever those show.
    pub since: Position,
    /// The number that it was told last to show at its icon; nothing if it was told none that is larger than zero since it was last told zero.
    /// [`BADGE_UNKNOWN`] if it was told two at the same time: nobody knows in which order they come to it.
    pub badge: Option<u32>,
    /// Tells this registration of its address from every other one.
    pub revision: RegistrationId,
}

/// Tells one registration of an address from the next, without any clock: another number each time that a device is registered. The store's own:
/// whoever registers a device or copies it leaves it at 0, which is also that of what a version registered that did not know of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RegistrationId(pub(crate) i64);

/// Up to which entry of a conversation a device has said that it has all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceMark {
    /// The member.
    pub member: MemberId,
    /// The device.
    pub device: DeviceId,
    /// The conversation.
    pub conversation: ConversationId,
    /// The entry. Only ever grows.
    pub seq: u64,
}

/// What a device is to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// The number at its icon, silently: something was read on another device.
    Badge,
    /// Messages of a conversation.
    Messages(ConversationId),
}

/// The key of [`Subject::Badge`]: no conversation has this id, which is a hash.
const BADGE: [u8; 12] = [0; 12];

impl Subject {
    /// What it is stored as.
    pub(super) const fn key(&self) -> [u8; 12] {
        match self {
            Self::Badge => BADGE,
            Self::Messages(conversation) => *conversation.as_bytes(),
        }
    }

    /// What is stored as this.
    pub(super) fn of(key: [u8; 12]) -> Self {
        if key == BADGE { Self::Badge } else { Self::Messages(ConversationId::from_bytes(key)) }
    }
}

/// A task to be written: messages that a device has not acknowledged, or the badge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// The member.
    pub member: MemberId,
    /// The device.
    pub device: DeviceId,
    /// What of.
    pub subject: Subject,
    /// The first message; 0 of the badge. A task that waits keeps the smaller of both.
    pub first: u64,
    /// The last message; 0 of the badge. A task that waits gets the larger of both.
    pub last: u64,
    /// When the last message was stored.
    pub at: Timestamp,
    /// When it is due. A task that waits is due at the earlier of both times, unless it was tried: then it keeps its own.
    pub due: Timestamp,
}

/// A task that a worker has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenTask {
    /// What is to be told.
    pub task: NewTask,
    /// How often it was taken, this time included.
    pub attempts: u32,
    /// How often it was tried and failed, by whoever had it in hand, since it was last written anew.
    pub failures: u32,
    /// Whether a push service may have taken it before without that having been stored: then nobody knows which number the device shows. Whoever
    /// had it in hand and cannot tell sets it, and it stays so until a push is known to have been taken.
    pub is_in_doubt: bool,
    /// Another number each time that it is written, drawn by chance: what was added meanwhile is not finished with it.
    pub revision: i64,
}

/// The number at its icon that a device was told to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToldBadge {
    /// It.
    pub badge: u32,
    /// [`DeviceRecord::badge`] when it was found out what the device is told.
    pub before: Option<u32>,
}

impl ToldBadge {
    /// What is kept of it, where this is. If another push was told to be taken meanwhile, nobody knows which of both came last. The same may be
    /// said twice.
    pub(super) fn shown(self, kept: Option<u32>) -> Option<u32> {
        let shown = (self.badge > 0).then_some(self.badge);
        if kept == self.before || kept == shown { shown } else { Some(BADGE_UNKNOWN) }
    }
}

/// What became of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is over: told, given up, or not wanted any more. It stays if it was written again since, from the message after `last` on.
    Finished {
        /// The number that the device was told to show, if it was told one.
        badge: Option<ToldBadge>,
    },
    /// It is tried again.
    Postponed {
        /// When.
        due: Timestamp,
        /// [`TakenTask::failures`], and one more if it was tried.
        failures: u32,
    },
    /// Whoever has it in hand goes on with it.
    Kept {
        /// When others may take it.
        until: Timestamp,
    },
}

/// What waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WaitingTasks {
    /// How many.
    pub count: u64,
    /// When the first of them is due.
    pub next: Option<Timestamp>,
}

/// What a member has chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushChoice {
    /// How much of a message is shown.
    pub content: PushContent,
    /// When nothing is pushed.
    pub quiet_hours: Option<QuietHours>,
}

impl Default for PushChoice {
    fn default() -> Self {
        Self { content: PushContent::Full, quiet_hours: None }
    }
}

/// Quiet hours that are over before their end, because their member has chosen others: what they have put off is due now, and as young as what
/// waits for their end would be then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// When they would have ended.
    pub until: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// Entries of a conversation that were stored one after the other, for somebody who looks whether devices have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its members.
    pub members: Vec<MemberId>,
    /// Each entry, ascending by its number.
    pub entries: Vec<StoredPlace>,
}

/// An entry, as far as it matters to who looks whether devices have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPlace {
    /// Its number.
    pub seq: u64,
    /// Who has sent it.
    pub sender: MemberId,
    /// When it was stored, by the clock of the node that did it.
    pub at: Timestamp,
    /// It has no later position than this one.
    pub latest: Position,
}

/// How far a member's devices have got in a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// What the member has read.
    pub read: u64,
    /// What each registered device has acknowledged; those that have said nothing are left out.
    pub devices: Vec<(DeviceId, u64)>,
}

/// What a node has stored and may not have looked through before it was gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unlooked {
    /// Which node; the store's own business.
    pub(super) node: [u8; 12],
    /// Everything that it stored up to here was looked through.
    pub after: Position,
}

/// Devices that are registered for pushes, and what they are to be told.
#[async_trait]
pub trait PushStore: Send + Sync {
    /// Registers a device. It takes the place of one of the same member and id, whose tasks go on to the new address; and of all others with
    /// the same address, whoever's they are: their tasks go with them. Beyond [`DEVICES_MAX`] of the member, the one that was registered first goes,
    /// by the order in which the store came to know of them and not by anybody's clock.
    ///
    /// False, and nothing is done, if its session has ended, or its tokens were replaced since they were good from the generation `good_from` on:
    /// whoever has a copy of the former must not be faster than what ends them.
    ///
    /// # Errors
    /// The store.
    async fn register(&self, record: DeviceRecord, good_from: u64) -> Result<bool, StoreError>;

    /// Ends the registration of a device, with its marks and tasks. False if there is none.
    ///
    /// # Errors
    /// The store.
    async fn unregister(&self, member: MemberId, device: &DeviceId) -> Result<bool, StoreError>;

    /// Nobody is at an address any more, as somebody knows who has looked at this registration of it: that ends, unless the address was
    /// registered again since.
    ///
    /// # Errors
    /// The store.
    async fn address_gone(&self, address: AddressHash, registration: RegistrationId) -> Result<(), StoreError>;

    /// The registered devices of members, [`BULK_MAX`] members at most, the one that was registered last first.
    ///
    /// # Errors
    /// The store.
    async fn devices(&self, by: Caller, members: Vec<MemberId>) -> Result<Vec<DeviceRecord>, StoreError>;

    /// What a member has chosen; the default if nothing.
    ///
    /// # Errors
    /// The store.
    async fn choice(&self, by: Caller, member: MemberId) -> Result<PushChoice, StoreError>;

    /// Stores what a member has chosen, and with it that tasks are due that quiet hours have put off which are over by that.
    ///
    /// # Errors
    /// The store.
    async fn choose(&self, member: MemberId, choice: PushChoice, ended: Option<Ended>) -> Result<(), StoreError>;

    /// Stores what devices have acknowledged, [`BULK_MAX`] at most. Of devices that are not registered nothing is kept.
    ///
    /// # Errors
    /// The store.
    async fn acknowledge(&self, marks: Vec<DeviceMark>) -> Result<(), StoreError>;

    /// How far members and their devices have got in conversations, in the order of what is asked, [`BULK_MAX`] at most.
    ///
    /// # Errors
    /// The store.
    async fn progress(&self, of: Vec<(MemberId, ConversationId)>) -> Result<Vec<Progress>, StoreError>;

    /// What a member has not read, in all conversations together: messages of others, up to 9,999.
    ///
    /// # Errors
    /// The store.
    async fn unread(&self, member: MemberId) -> Result<u32, StoreError>;

    /// Writes tasks, [`BULK_MAX`] at most, and the place of this node in the log with them: everything that was stored by this node up to
    /// there is acknowledged, or a task.
    ///
    /// # Errors
    /// The store.
    async fn add(&self, tasks: Vec<NewTask>, place: Option<Position>) -> Result<(), StoreError>;

    /// What somebody has to look through for what was stored and is neither acknowledged nor a task: of this node, as it was started before, or
    /// of one that is gone, or so silent that it begins nothing any more (then it is told again until that is gone); nothing if there is nothing. Whoever gets it looks, adds tasks, and says [`Self::looked`]; until `until` nobody
    /// else gets it. To be asked once before this node stores anything: from then on what it stores is not forgotten.
    ///
    /// # Errors
    /// The store.
    async fn unlooked(&self, now: Timestamp, until: Timestamp) -> Result<Option<Unlooked>, StoreError>;

    /// It was looked through.
    ///
    /// # Errors
    /// The store.
    async fn looked(&self, unlooked: Unlooked) -> Result<(), StoreError>;

    /// What was stored after a position and up to another, in order, about `limit` entries; and up to where that is, which is not further than
    /// is certain to be complete.
    ///
    /// # Errors
    /// The store.
    async fn stored(
        &self,
        after: Position,
        until: Position,
        limit: usize,
    ) -> Result<(Vec<Stretch>, Position), StoreError>;

    /// Up to which position conversations have entries, [`BULK_MAX`] at most: that of the newest. Those without any are left out.
    ///
    /// # Errors
    /// The store.
    async fn newest(&self, of: Vec<ConversationId>) -> Result<Vec<(ConversationId, Position)>, StoreError>;

    /// Takes tasks that are due, those that have been for longest first, `limit` at most. They are due again at `until`.
    ///
    /// # Errors
    /// The store.
    async fn take(&self, now: Timestamp, until: Timestamp, limit: usize) -> Result<Vec<TakenTask>, StoreError>;

    /// Has tasks due at a time that would be only after `beyond`, of those whose last message was stored after `stored_after`: a clock has shown
    /// more than it does. Of those that quiet hours have put off it is found out again. Returns how many.
    ///
    /// # Errors
    /// The store.
    async fn rouse(&self, due: Timestamp, beyond: Timestamp, stored_after: Timestamp) -> Result<u64, StoreError>;

    /// Stores what became of tasks that were taken.
    ///
    /// # Errors
    /// The store.
    async fn settle(&self, settled: Vec<(TakenTask, Settled)>) -> Result<(), StoreError>;

    /// What waits.
    ///
    /// # Errors
    /// The store.
    async fn waiting(&self) -> Result<WaitingTasks, StoreError>;

    /// When the first task is due; nothing if none waits. Costs little, however many wait.
    ///
    /// # Errors
    /// The store.
    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Removes tasks whose last message was stored before a time. Returns how many.
    ///
    /// # Errors
    /// The store.
    async fn expire(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Devices that show a number at their icons, [`BULK_MAX`] at most, in the order of their keys, after one of them.
    ///
    /// # Errors
    /// The store.
    async fn with_badge(&self, after: Option<DeviceKey>) -> Result<Vec<(MemberId, DeviceId)>, StoreError>;

    /// About how many devices are registered; zero only if none is.
    ///
    /// # Errors
    /// The store.
    async fn count(&self) -> Result<u64, StoreError>;
}
