//! Who has to be told of what this node has stored: once devices have had their time, those that have not acknowledged it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use protocol::{ConversationId, DeviceId, MemberId, Timestamp};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Push,
    acks::{Reader, Unwritten},
    devices::Registered,
    intake::Pending,
    numbers,
};
use crate::{
    position::Position,
    store::{
        StoreError,
        push::{BULK_MAX, DeviceMark, NewTask, Subject},
    },
};

/// How often what devices have said is written, and up to where this node has looked.
const WRITE: Duration = Duration::from_secs(2);
/// How often it is asked whether any device is registered at all, where no other node can register one.
const COUNT: Duration = Duration::from_secs(60);
/// The same where another node can, and the bus may have lost that.
const COUNT_SHARED: Duration = Duration::from_secs(10);
/// When what failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// Messages that are looked at together.
const TOGETHER: usize = 1_000;
/// How often at most it is decided who is told where other nodes register devices: each time is a read of those, unless there is more than one
/// read takes.
const TOGETHER_FOR: Duration = Duration::from_millis(100);

/// A message that a member may have to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) member: MemberId,
    pub(super) conversation: ConversationId,
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    /// It was stored beyond a position, or at `latest`.
    pub(super) floor: Position,
    /// Up to which position it was stored.
    pub(super) latest: Position,
}

impl From<Pending> for Candidate {
    fn from(Pending { member, conversation, seq, at, floor, latest, .. }: Pending) -> Self {
        Self { member, conversation, seq, at, floor, latest }
    }
}

/// When things are done that are done now and then.
struct Times {
    written: Instant,
    turned: Instant,
    counted: Option<Instant>,
}

impl Push {
    /// Looks at what was stored when its time has come, again and again.
    pub(super) async fn watch(&self) {
        let intake = &self.parts.intake;
        let now = Instant::now();
        let mut times = Times { written: now, turned: now, counted: None };
        // What was taken and not decided when this was started again is looked for in the store.
        let written = Position(self.written.load(Ordering::Relaxed));
        if written != self.begun {
            intake.look_from(written);
        }
        loop {
            let due = intake.due(Instant::now(), TOGETHER);
            let is_full = due.len() >= TOGETHER;
            if !due.is_empty() {
                self.tell(due.into_iter().map(Candidate::from).collect()).await;
            }
            self.now_and_then(&mut times).await;
            if is_full {
                continue;
            }
            // What is stored meanwhile is not due before then.
            let now = Instant::now();
            let latest = now + intake.after().clamp(Duration::from_millis(1), WRITE);
            let least = if self.options.is_shared { TOGETHER_FOR } else { Duration::ZERO };
            let wait = intake.next().map_or(latest, |next| next.min(latest)).saturating_duration_since(now).max(least);
            sleep(if intake.is_on() { wait } else { WRITE }).await;
        }
    }

    async fn now_and_then(&self, times: &mut Times) {
        let (intake, now) = (&self.parts.intake, Instant::now());
        if now.duration_since(times.turned) >= (2 * intake.after()).max(2 * WRITE) {
            times.turned = now;
            intake.turn();
        }
        if now.duration_since(times.written) >= WRITE.min(intake.after()) {
            times.written = now;
            self.write_what_was_heard().await;
        }
        let every = if self.options.is_shared { COUNT_SHARED } else { COUNT };
        // Where no other node registers devices, nobody has to ask whether there is one since there was none.
        let is_needed = intake.is_on() || self.options.is_shared;
        if times.counted.is_none_or(|counted| is_needed && now.duration_since(counted) >= every) {
            match self.count().await {
                Ok(()) => times.counted = Some(now),
                Err(error) => tracing::debug!(%error, "it is not known whether any device is registered"),
            }
        }
    }

    /// Asks whether any device is registered: if none is, nothing is taken in.
    async fn count(&self) -> Result<(), StoreError> {
        let intake = &self.parts.intake;
        let (registrations, before) = (intake.registrations(), (self.parts.published)());
        let count = self.parts.store.count().await?;
        self.parts.metrics.push_devices.set(i64::try_from(count).unwrap_or(i64::MAX));
        if count > 0 {
            if !intake.is_on() {
                intake.turn_on();
            }
        } else {
            // Another node may have registered one that this one has not heard of.
            intake.turn_off(registrations, self.options.is_shared.then_some(before));
            self.write_place_at(before).await;
        }
        Ok(())
    }

    /// Has those told who have to be, whatever the store does meanwhile.
    pub(super) async fn tell(&self, candidates: Vec<Candidate>) {
        loop {
            match self.try_to_tell(&candidates).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(%error, "who is to be pushed to is not known yet; it is tried again");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Has those told who have to be.
    ///
    /// # Errors
    /// The store; then it may be tried again.
    pub(super) async fn try_to_tell(&self, candidates: &[Candidate]) -> Result<(), StoreError> {
        let tasks = self.decide(candidates).await?;
        for some in tasks.chunks(BULK_MAX) {
            self.parts.store.add(some.to_vec(), None).await?;
        }
        if !tasks.is_empty() {
            self.wanted.notify_one();
        }
        Ok(())
    }

    /// Which devices have to be told of what.
    async fn decide(&self, candidates: &[Candidate]) -> Result<Vec<NewTask>, StoreError> {
        let devices = self.devices.of(candidates.iter().map(|candidate| candidate.member)).await?;
        let newest = self.newest(candidates, &devices).await?;
        let mut open: HashMap<(MemberId, ConversationId, DeviceId), NewTask> = HashMap::new();
        let due = self.parts.clock.now();
        for Candidate { member, conversation, seq, at, latest, .. } in candidates.iter().copied() {
            let Some(devices) = devices.get(&member) else { continue };
            let latest = newest.get(&conversation).map_or(latest, |newest| latest.min(*newest));
            let heard = self.parts.intake.heard(member, conversation);
            let has_it = |device: &DeviceId| heard.as_ref().is_some_and(|heard| heard.has(device, seq));
            for device in devices.iter().filter(|device| device.since <= latest && !has_it(&device.device)) {
                let device = device.device.clone();
                let subject = Subject::Messages(conversation);
                let task = open.entry((member, conversation, device.clone())).or_insert(NewTask {
                    member,
                    device,
                    subject,
                    first: seq,
                    last: seq,
                    at,
                    due,
                });
                task.first = task.first.min(seq);
                if task.last <= seq {
                    (task.last, task.at) = (seq, at);
                }
            }
        }
        self.without_known(open).await
    }

    /// Up to which position there are entries in some conversations: those with a message of which nobody knows whether it was stored before a
    /// device was registered, because the database has answered late and the device came in between.
    async fn newest(
        &self,
        candidates: &[Candidate],
        devices: &HashMap<MemberId, Arc<[Registered]>>,
    ) -> Result<HashMap<ConversationId, Position>, StoreError> {
        let is_open = |candidate: &&Candidate| {
            let mut theirs = devices.get(&candidate.member).into_iter().flat_map(|devices| devices.iter());
            theirs.any(|device| candidate.floor < device.since && device.since <= candidate.latest)
        };
        let open: HashSet<ConversationId> =
            candidates.iter().filter(is_open).map(|candidate| candidate.conversation).collect();
        let open: Vec<ConversationId> = open.into_iter().collect();
        let mut newest = HashMap::with_capacity(open.len());
        for some in open.chunks(BULK_MAX) {
            newest.extend(self.parts.store.newest(some.to_vec()).await?);
        }
        Ok(newest)
    }

    /// Without what devices have said to other nodes, or to the process before this one.
    async fn without_known(
        &self,
        mut open: HashMap<(MemberId, ConversationId, DeviceId), NewTask>,
    ) -> Result<Vec<NewTask>, StoreError> {
        let places: HashSet<(MemberId, ConversationId)> =
            open.keys().map(|(member, conversation, _)| (*member, *conversation)).collect();
        let places: Vec<(MemberId, ConversationId)> = places.into_iter().collect();
        let mut known = HashMap::with_capacity(places.len());
        for some in places.chunks(BULK_MAX) {
            known.extend(some.iter().copied().zip(self.parts.store.progress(some.to_vec()).await?));
        }
        open.retain(|(member, conversation, device), task| {
            let Some(progress) = known.get(&(*member, *conversation)) else { return true };
            let has = progress.devices.iter().find(|(known, _)| known == device).map_or(0, |(_, seq)| *seq);
            let has = has.max(progress.read);
            task.first = task.first.max(has + 1);
            task.last > has
        });
        Ok(open.into_values().collect())
    }

    /// Writes what devices have said, and then up to where this node has looked: if what was read was lost with this process, somebody compares
    /// the numbers at icons.
    async fn write_what_was_heard(&self) {
        // Before what was heard is taken: what is read has a position too, and is heard before that is published. Up to a place that was published
        // later somebody may have read something that nobody has written, and after a crash nobody would look.
        let published = (self.parts.published)();
        if self.write_marks().await && self.parts.intake.is_on() {
            // What is not looked at yet lies before.
            self.write_place_at(self.parts.intake.place(published)).await;
        }
    }

    /// Writes what was heard last. To be called when nothing is heard any more.
    pub async fn finish(&self) {
        if self.parts.couriers.is_empty() {
            self.pass_over().await;
        } else {
            self.write_what_was_heard().await;
        }
    }

    /// Writes what devices have said, and has the number at the icons of other devices changed where something was read. Whether that was stored.
    async fn write_marks(&self) -> bool {
        let unwritten = self.parts.intake.unwritten();
        let written = async {
            let Unwritten { marks, readers } = &unwritten;
            let members = marks.iter().map(|mark| mark.member).chain(readers.iter().map(|(member, _)| *member));
            let devices = self.devices.of(members.collect::<HashSet<_>>()).await?;
            let is_registered = |mark: &&DeviceMark| {
                devices.get(&mark.member).is_some_and(|known| known.iter().any(|known| known.device == mark.device))
            };
            let marks: Vec<DeviceMark> = marks.iter().filter(is_registered).cloned().collect();
            for some in marks.chunks(BULK_MAX) {
                self.parts.store.acknowledge(some.to_vec()).await?;
            }
            let at = self.parts.clock.now();
            let lowered = |(member, reader): &(MemberId, Reader)| {
                let devices = devices.get(member).into_iter().flat_map(|known| known.iter());
                let others = devices.filter(move |known| known.has_badge && Some(&known.device) != reader.as_ref());
                others.map(|known| numbers::task((*member, known.device.clone()), at)).collect::<Vec<_>>()
            };
            let tasks: Vec<NewTask> = readers.iter().flat_map(lowered).collect();
            for some in tasks.chunks(BULK_MAX) {
                self.parts.store.add(some.to_vec(), None).await?;
                self.wanted.notify_one();
            }
            Ok::<_, StoreError>(())
        };
        match timeout(Duration::from_secs(10), written).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::debug!(%error, "what devices have acknowledged was not written"),
            Err(_) => tracing::debug!("what devices have acknowledged was not written in time"),
        }
        // Nobody says it again: a device would be told of what it has, after quiet hours too, and a number at an icon that is wrong stays so.
        self.parts.intake.put_back(unwritten);
        false
    }

    /// Before a device is registered that may be the only one: what was stored until now is for nobody, and nobody looks for it after a crash.
    pub(super) async fn leave_behind(&self) {
        // Where another node can register devices it is asked every few seconds, and written up to where there was none.
        if !self.options.is_shared && !self.parts.intake.is_on() {
            self.write_place_at((self.parts.published)()).await;
        }
    }

    /// Writes up to where this node has looked.
    async fn write_place_at(&self, place: Position) {
        // What the process before this one has left counts from its own place as long as nobody has looked through it.
        let is_new = place.0 != self.written.load(Ordering::Relaxed) && place != Position::default();
        if !is_new || !self.has_looked_back.load(Ordering::Acquire) {
            return;
        }
        match self.parts.store.add(Vec::new(), Some(place)).await {
            Ok(()) => self.written.store(place.0, Ordering::Relaxed),
            Err(error) => tracing::debug!(%error, "up to where was looked who is to be pushed to was not written"),
        }
    }
}
