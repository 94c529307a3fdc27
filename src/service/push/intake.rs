//! What this node has stored and not looked at yet: whether devices have acknowledged it in time. In memory; after a crash it is looked for in the
//! store, from the *place* on up to which everything was looked at.
//!
//! Called by the lanes for every message and by connections for every acknowledgement, and costs them next to nothing: as long as no device of
//! the club is registered one load of a flag, and after that a lock that nobody else holds for long.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use protocol::{ConversationId, DeviceId, MemberId, Timestamp};
use tokio::{sync::Notify, time::Instant};

use super::acks::{Acks, Heard, Unwritten};
use crate::position::Position;

/// Messages that are kept in memory, for all members that they are for: about 64 bytes each.
const KEPT: usize = 262_144;

/// A message that a member may have to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) member: MemberId,
    pub(super) conversation: ConversationId,
    pub(super) seq: u64,
    /// When it was stored.
    pub(super) at: Timestamp,
    /// It was stored beyond.
    pub(super) floor: Position,
    /// And up to.
    pub(super) latest: Position,
    /// When it is looked whether devices have it.
    due: Instant,
}

/// What one lane of the sequencer has stored.
#[derive(Default)]
struct Lane {
    pending: VecDeque<Pending>,
    /// There was no room for what was stored beyond.
    behind: Option<Position>,
}

/// A new message, as the lane that stored it hands it over.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// The number of the lane.
    pub lane: usize,
    /// It was stored beyond.
    pub floor: Position,
    /// And up to.
    pub latest: Position,
    /// The conversation.
    pub conversation: ConversationId,
    /// Its number.
    pub seq: u64,
    /// Who has sent it.
    pub sender: MemberId,
    /// When it was stored.
    pub at: Timestamp,
    /// Who is in the conversation.
    pub members: &'a [MemberId],
}

#[derive(Default)]
struct Looking {
    /// Somebody looks in the store, or is going to, for what was stored beyond.
    from: Option<Position>,
    /// While no device is registered, as far as is known, and other nodes register some: nothing that was stored up to here is for any.
    idle_since: Option<Position>,
    /// Counts registrations, so that one that comes meanwhile is not missed.
    registrations: u64,
}

/// What this node has stored and not looked at yet.
pub struct Intake {
    after: Duration,
    each: usize,
    is_on: AtomicBool,
    lanes: Box<[Mutex<Lane>]>,
    acks: Acks,
    looking: Mutex<Looking>,
    /// There is something to be looked for in the store.
    pub(super) look: Notify,
}

impl Intake {
    /// Of so many lanes; devices have so long to acknowledge. Off, it takes nothing, ever.
    #[must_use]
    pub fn new(lanes: usize, after: Duration, is_on: bool) -> Self {
        Self::keeping(KEPT, lanes, after, is_on)
    }

    fn keeping(kept: usize, lanes: usize, after: Duration, is_on: bool) -> Self {
        let lanes = lanes.max(1);
        Self {
            after,
            each: (kept / lanes).max(1),
            // Until it is known whether any device is registered.
            is_on: AtomicBool::new(is_on),
            lanes: (0..lanes).map(|_| Mutex::default()).collect(),
            acks: Acks::default(),
            looking: Mutex::default(),
            look: Notify::new(),
        }
    }

    /// How long devices have to acknowledge.
    pub(super) const fn after(&self) -> Duration {
        self.after
    }

    /// Whether any device may be registered.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// A message was stored by this node. Never waits.
    pub fn stored(&self, stored: &Stored<'_>) {
        let Some(lane) = self.lanes.get(stored.lane).filter(|_| self.is_on()) else { return };
        let due = Instant::now() + self.after;
        let mut lane = lock(lane);
        for member in stored.members.iter().filter(|member| **member != stored.sender) {
            if lane.behind.is_some() || lane.pending.len() >= self.each {
                // What comes after it is looked for in the store as well: nothing that is later is looked at before.
                lane.behind.get_or_insert(stored.floor);
                return;
            }
            let Stored { floor, latest, conversation, seq, at, .. } = *stored;
            lane.pending.push_back(Pending { member: *member, conversation, seq, at, floor, latest, due });
        }
    }

    /// A device of a member has everything up to an entry, or the member has read it: durable already. Never waits.
    pub fn acknowledged(
        &self,
        member: MemberId,
        device: Option<&DeviceId>,
        conversation: ConversationId,
        seq: u64,
        is_read: bool,
    ) {
        if self.is_on() {
            self.acks.hear((conversation, member), device, seq, is_read);
        }
    }

    /// How far a member's devices have got in a conversation, as far as was heard lately.
    pub(super) fn heard(&self, member: MemberId, conversation: ConversationId) -> Option<Heard> {
        self.acks.of(member, conversation)
    }

    /// Forgets what was heard too long ago. To be called when devices have had time to acknowledge, again and again.
    pub(super) fn turn(&self) {
        self.acks.turn();
    }

    /// Takes what devices have said and is not written yet.
    pub(super) fn unwritten(&self) -> Unwritten {
        self.acks.take()
    }

    /// Takes back what was not written.
    pub(super) fn put_back(&self, unwritten: Unwritten) {
        self.acks.put_back(unwritten);
    }

    /// Takes messages whose time has come, about so many at most.
    pub(super) fn due(&self, now: Instant, max: usize) -> Vec<Pending> {
        let mut due = Vec::new();
        for lane in &self.lanes {
            let mut lane = lock(lane);
            let room = max.saturating_sub(due.len());
            let count = lane.pending.iter().take(room).take_while(|pending| pending.due <= now).count();
            due.extend(lane.pending.drain(..count));
            if lane.pending.is_empty() && lane.pending.capacity() > self.each / 8 {
                lane.pending.shrink_to_fit();
            }
        }
        due
    }

    /// When the next message is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lock(lane).pending.front().map(|pending| pending.due)).min()
    }

    /// Up to where everything that this node has stored was looked at, if what was taken was. `published`: up to where it was handed over, read
    /// before this is called.
    pub(super) fn place(&self, published: Position) -> Position {
        let of_lane = |lane: &Mutex<Lane>| {
            let lane = lock(lane);
            lane.pending.front().map(|pending| pending.floor).into_iter().chain(lane.behind).min()
        };
        let waiting = self.lanes.iter().filter_map(of_lane).chain(self.looking().from);
        waiting.fold(published, Position::min)
    }

    /// From where on somebody has to look in the store, because there was no room for what was stored, or because a device was registered on
    /// another node; nothing if nobody has to. What is stored from now on is taken again. To be followed by [`Self::looked`].
    pub(super) fn begin_look(&self) -> Option<Position> {
        let mut looking = self.looking();
        for lane in &self.lanes {
            let mut lane = lock(lane);
            if lane.behind.is_some() && lane.pending.len() <= self.each / 2 {
                let behind = lane.behind.take();
                looking.from = looking.from.into_iter().chain(behind).min();
            }
        }
        looking.from
    }

    /// That was done, from there on.
    pub(super) fn looked(&self, from: Position) {
        let mut looking = self.looking();
        if looking.from == Some(from) {
            looking.from = None;
        }
    }

    /// Has somebody look in the store for what was stored beyond a position.
    pub(super) fn look_from(&self, from: Position) {
        let mut looking = self.looking();
        looking.from = Some(looking.from.map_or(from, |known| known.min(from)));
        drop(looking);
        self.look.notify_one();
    }

    /// A device is going to be registered, or was registered by another node: whatever is stored may be for it.
    pub(super) fn turn_on(&self) {
        let mut looking = self.looking();
        looking.registrations += 1;
        self.is_on.store(true, Ordering::Release);
        if let Some(since) = looking.idle_since.take() {
            looking.from = Some(looking.from.map_or(since, |known| known.min(since)));
            drop(looking);
            self.look.notify_one();
        }
    }

    /// How many registrations there were, to be read before it is asked whether any device is registered.
    pub(super) fn registrations(&self) -> u64 {
        self.looking().registrations
    }

    /// None was, nor was one since: what is stored is for nobody. `since`: up to where what was stored had been handed over before it was asked,
    /// if another node may register one before this one knows: what is stored from there on is looked for then. Without it a device is for what
    /// comes after [`Self::turn_on`], and nobody looks for anything.
    pub(super) fn turn_off(&self, registrations: u64, since: Option<Position>) {
        let mut looking = self.looking();
        if looking.registrations != registrations {
            return;
        }
        looking.idle_since = since;
        looking.from = None;
        self.is_on.store(false, Ordering::Release);
        drop(looking);
        for lane in &self.lanes {
            *lock(lane) = Lane::default();
        }
        self.acks.take();
    }

    fn looking(&self) -> MutexGuard<'_, Looking> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(4);
    const ANA: MemberId = MemberId::from_bytes([1; 12]);
    const BEN: MemberId = MemberId::from_bytes([2; 12]);
    const HERE: ConversationId = ConversationId::from_bytes([3; 12]);

    fn message(lane: usize, floor: u64, seq: u64) -> Stored<'static> {
        let at = Timestamp::from_millis(0);
        let floor = Position(floor);
        Stored { lane, floor, latest: floor, conversation: HERE, seq, sender: ANA, at, members: &[ANA, BEN] }
    }

    fn seqs(pending: &[Pending]) -> Vec<u64> {
        pending.iter().map(|pending| pending.seq).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_due_for_all_but_its_sender_when_devices_had_their_time() {
        let intake = Intake::new(2, AFTER, true);
        let start = Instant::now();
        intake.stored(&message(0, 10, 1));
        tokio::time::advance(Duration::from_secs(1)).await;
        intake.stored(&message(1, 12, 2));
        assert_eq!(intake.next(), Some(start + AFTER));
        assert!(intake.due(start + AFTER - Duration::from_millis(1), 10).is_empty());
        let due = intake.due(start + AFTER, 10);
        assert_eq!((seqs(&due), due[0].member), (vec![1], BEN));
        assert_eq!(seqs(&intake.due(start + 2 * AFTER, 10)), [2]);
        assert_eq!(intake.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_place_is_before_everything_that_waits() {
        let intake = Intake::new(2, AFTER, true);
        assert_eq!(intake.place(Position(9)), Position(9));
        intake.stored(&message(0, 10, 1));
        intake.stored(&message(1, 7, 2));
        assert_eq!(intake.place(Position(20)), Position(7));
        assert_eq!(intake.place(Position(5)), Position(5), "another lane has not handed over what it has stored");
        tokio::time::advance(AFTER).await;
        intake.due(Instant::now(), 1);
        assert_eq!(intake.place(Position(20)), Position(7), "one was taken, of the other lane");
        intake.due(Instant::now(), 10);
        assert_eq!(intake.place(Position(20)), Position(20));
    }

    #[tokio::test(start_paused = true)]
    async fn what_there_is_no_room_for_is_looked_for_in_the_store() {
        let intake = Intake::keeping(4, 1, AFTER, true);
        for seq in 1..=9 {
            intake.stored(&message(0, seq, seq));
        }
        assert_eq!(intake.begin_look(), None, "there is no room yet");
        assert_eq!(intake.place(Position(20)), Position(1));
        tokio::time::advance(AFTER).await;
        assert_eq!(seqs(&intake.due(Instant::now(), 10)), [1, 2, 3, 4]);
        assert_eq!(intake.place(Position(20)), Position(5));
        assert_eq!(intake.begin_look(), Some(Position(5)));
        intake.stored(&message(0, 10, 10));
        assert_eq!(intake.place(Position(20)), Position(5), "somebody looks from there on");
        assert_eq!(intake.begin_look(), Some(Position(5)), "and again if that failed");
        intake.looked(Position(5));
        assert_eq!(intake.begin_look(), None);
        assert_eq!(intake.place(Position(20)), Position(10));
    }

    #[tokio::test(start_paused = true)]
    async fn while_no_device_is_registered_nothing_is_taken_and_nothing_is_missed_later() {
        let intake = Intake::new(1, AFTER, true);
        let before = intake.registrations();
        intake.stored(&message(0, 10, 1));
        intake.turn_on();
        intake.turn_off(before, Some(Position(11)));
        assert!(intake.is_on(), "one was registered while it was asked");
        intake.turn_off(intake.registrations(), Some(Position(11)));
        intake.stored(&message(0, 12, 2));
        intake.acknowledged(BEN, None, HERE, 2, true);
        assert_eq!((intake.is_on(), intake.next()), (false, None));
        assert!(intake.heard(BEN, HERE).is_none());
        intake.turn_on();
        assert_eq!(intake.begin_look(), Some(Position(11)), "since when it was not known that there is one");
        intake.stored(&message(0, 14, 3));
        assert!(intake.next().is_some());
    }

    /// Found by a reviewer: whoever registered the first device of a club had its whole log read, from the start of the server on.
    #[tokio::test(start_paused = true)]
    async fn where_no_other_node_registers_devices_nobody_looks_for_what_was_before_the_first() {
        let intake = Intake::new(1, AFTER, true);
        intake.turn_off(intake.registrations(), None);
        intake.stored(&message(0, 10, 1));
        intake.turn_on();
        assert_eq!(intake.begin_look(), None);
        intake.stored(&message(0, 12, 2));
        assert_eq!((intake.place(Position(14)), intake.begin_look()), (Position(12), None));
    }
}
