//! The one road of durable changes to conversations.
//!
//! Commands of one conversation go down one lane. A lane gathers what arrived while the store was busy with the last
//! batch, commits it, publishes what happened *in the order in which it was stored*, and answers. So a conversation's
//! events leave in the order of `seq`, nothing is pushed or acknowledged before it is durable, and it makes no
//! difference whether the connection that asked is still there.

use std::{
    iter,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::future::BoxFuture;
use protocol::{
    ConnectionId, ConversationId, ErrorCode, ServerFrame,
    model::ConversationInfo,
    server::{MessagePush, Receipt},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    answered,
    asker::{Asker, Responder},
    awaited::Awaited,
    backlog::Backlog,
    events::{Author, Events},
    fleet::Told,
    room::{self, Room},
    views,
};
use crate::{
    cluster::event::EntryPlace,
    failure::Failure,
    hub::MessageFrame,
    position::StreamPosition,
    store::{
        ConversationLog, Recovery, StoreError,
        conversations::{Appended, Applied, Command, Marked, Membership, Outcome, Refusal, Untold},
        entries::StoredEntry,
    },
    supervisor::Supervisor,
    telemetry::Metrics,
};

/// Commands in one commit.
const BATCH: usize = 4_096;
/// Bytes of the room from which on a batch takes no more: a lane that hangs keeps no more from the others.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

type Queued = (Command, Asker);

/// The lanes.
pub struct Sequencer {
    log: Arc<dyn ConversationLog>,
    recovery: Option<Arc<dyn Recovery>>,
    lanes: Box<[mpsc::Sender<Queued>]>,
    progress: Arc<Progress>,
    room: Room,
}

/// What the lanes tell everybody.
struct Progress {
    /// For each lane, the store's horizon when its batch began: what the batch does gets larger positions, or is of
    /// another epoch. Nothing while it has none.
    floors: Box<[Mutex<Option<StreamPosition>>]>,
    /// For each lane, whether the store has not answered it in time; its new commands fail at once until it does.
    stalled: Box<[AtomicBool]>,
    /// Entries that may not have been published yet, though their lanes are beyond them.
    awaited: Arc<Awaited>,
}

impl Progress {
    /// Nothing is known of any lane yet.
    fn new(lanes: usize, awaited: Arc<Awaited>) -> Self {
        Self {
            awaited,
            floors: (0..lanes).map(|_| Mutex::default()).collect(),
            stalled: (0..lanes).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    fn floor(&self, lane: usize) -> Option<StreamPosition> {
        self.floors.get(lane).and_then(|floor| *floor.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_stalled(&self, lane: usize, stalled: bool) {
        if let Some(own) = self.stalled.get(lane) {
            own.store(stalled, Ordering::Relaxed);
        }
    }

    fn is_stalled(&self, lane: usize) -> bool {
        self.stalled.get(lane).is_some_and(|stalled| stalled.load(Ordering::Relaxed))
    }

    /// Whether any lane waits for the store.
    fn is_any_stalled(&self) -> bool {
        self.stalled.iter().any(|stalled| stalled.load(Ordering::Relaxed))
    }

    /// Everything up to here is durable and in the outboxes of those who are connected: the horizon, unless a lane is
    /// at work whose events may be earlier.
    ///
    /// The horizon is read first. A batch that begins after that gets larger positions, and one that began before
    /// shows in its floor until its events are out. While one is at work that began in another epoch, there is no place
    /// that would be right.
    fn published(&self, horizon: StreamPosition) -> StreamPosition {
        let floors = self.floors.iter().filter_map(|floor| *floor.lock().unwrap_or_else(PoisonError::into_inner));
        // After those: a lane says what it waits for before it goes on.
        floors.chain(iter::once_with(|| self.awaited.floor()).flatten()).fold(horizon, |published, floor| {
            let position = published.position.min(floor.position);
            if floor.epoch == published.epoch {
                StreamPosition { position, ..published }
            } else {
                StreamPosition::NOWHERE
            }
        })
    }
}

/// The tasks of the lanes.
pub struct Lanes {
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Lanes {
    /// Takes no more commands, and waits until those that are queued have been committed and published.
    pub async fn finish(self) {
        self.stop.cancel();
        for lane in self.tasks {
            // A lane that panicked has dropped its queue, and with it told those who wait.
            let _ = lane.await;
        }
    }
}

impl Sequencer {
    /// Starts the lanes.
    #[must_use]
    pub fn start(
        log: Arc<dyn ConversationLog>,
        recovery: Option<Arc<dyn Recovery>>,
        (events, told, awaited): (&Events, &Arc<Told>, &Arc<Awaited>),
        deadline: Duration,
        metrics: &Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> (Self, Lanes) {
        let count = log.lanes().max(1);
        let (progress, stop) = (Arc::new(Progress::new(count, Arc::clone(awaited))), CancellationToken::new());
        let (lanes, tasks) = (0..count)
            .map(|number| {
                let (sender, receiver) = mpsc::channel(room::COMMANDS);
                let lane = Lane {
                    number,
                    log: Arc::clone(&log),
                    events: events.clone(),
                    told: Arc::clone(told),
                    progress: Arc::clone(&progress),
                    deadline,
                    metrics: Arc::clone(metrics),
                };
                (sender, supervisor.until(stop.clone(), "lane", lane.run(receiver, stop.clone())))
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let room = Room::new(deadline);
        (Self { log, recovery, lanes: lanes.into(), progress, room }, Lanes { tasks, stop })
    }

    /// The room that a command has to have before it is submitted.
    #[must_use]
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Whether the lane of a conversation takes commands.
    ///
    /// # Errors
    /// `unavailable` while the store has not answered it in time.
    pub fn takes(&self, conversation: ConversationId) -> Result<(), Failure> {
        let stalled = self.lane_of(conversation).is_some_and(|(number, _)| self.progress.is_stalled(number));
        if stalled { Err(does_not_answer().into()) } else { Ok(()) }
    }

    /// Takes a command that has room; never waits. Its answer comes when it is durable, or when it failed.
    pub fn submit(&self, command: Command, asker: Asker) {
        if let Err(failure) = self.takes(command.conversation()) {
            return asker.fail(failure);
        }
        let Some((_, lane)) = self.lane_of(command.conversation()) else { return };
        // It has a place for every command that has room, so it is only ever closed.
        if let Err(refused) = lane.try_send((command, asker)) {
            let (_, asker) = refused.into_inner();
            asker.fail(ErrorCode::Draining.into());
        }
    }

    /// Finishes what nodes that are gone have left half done, and tells those who are connected.
    ///
    /// # Errors
    /// The store; then it is found once more.
    pub async fn recover(&self) -> Result<(), Failure> {
        let Some(recovery) = &self.recovery else { return Ok(()) };
        let unfinished = recovery.unfinished().await?;
        for &conversation in &unfinished.conversations {
            let permit = self.room.clone().wait([0], Instant::now()).await?;
            let refresh = |respond| {
                self.submit(Command::Refresh(conversation), Asker::new(None, Responder::Refreshed(respond), permit));
            };
            answered(refresh).await?;
        }
        Ok(recovery.finished(unfinished).await?)
    }

    /// Whether a sync may start from a place: it is of an epoch of the store, and not beyond what is known of that.
    #[must_use]
    pub fn accepts(&self, place: StreamPosition) -> bool {
        self.log.accepts(place)
    }

    /// Everything up to here is durable, and in the outboxes of those who are connected.
    #[must_use]
    pub fn published(&self) -> StreamPosition {
        self.progress.published(self.log.horizon())
    }

    /// Whether the store commits in time, as far as is known.
    ///
    /// # Errors
    /// A commit has taken longer than it may, and is not done yet.
    pub fn check(&self) -> Result<(), StoreError> {
        let stalled = self.progress.is_any_stalled();
        if stalled { Err(does_not_answer()) } else { Ok(()) }
    }

    fn lane_of(&self, conversation: ConversationId) -> Option<(usize, &mpsc::Sender<Queued>)> {
        // The id is a hash already.
        let [.., a, b] = *conversation.as_bytes();
        let number = usize::from(u16::from_be_bytes([a, b]));
        let number = number.checked_rem(self.lanes.len())?;
        Some((number, self.lanes.get(number)?))
    }
}

struct Lane {
    number: usize,
    log: Arc<dyn ConversationLog>,
    events: Events,
    told: Arc<Told>,
    progress: Arc<Progress>,
    deadline: Duration,
    metrics: Arc<Metrics>,
}

impl Lane {
    /// Round and round: gathers, lets the store commit, and tells what the commit before did *while* it commits. The store
    /// has the next batch before anything else is done with the last one, so that it never waits for us.
    async fn run(self, mut queue: mpsc::Receiver<Queued>, stop: CancellationToken) {
        let mut committed: Option<(Applied, Vec<Asker>)> = None;
        let mut queued = Vec::new();
        loop {
            if committed.is_some() {
                // What is there already goes first. If nothing is, what was committed is told at once.
                gather(&mut queue, &mut queued);
                if queued.is_empty()
                    && let Some((applied, askers)) = committed.take()
                {
                    self.settle(applied, askers);
                    self.set_floor(None);
                }
            }
            if queued.is_empty() {
                let received = tokio::select! {
                    received = queue.recv() => received,
                    () = stop.cancelled(), if !queue.is_closed() => {
                        queue.close();
                        continue;
                    }
                };
                let Some(first) = received else { break };
                queued.push(first);
                gather(&mut queue, &mut queued);
            }
            let (commands, mut askers): (Vec<Command>, Vec<Asker>) = queued.drain(..).unzip();
            // Before anything of the batch gets its position. While the last batch is not told yet, its floor stands: it is
            // the lower one.
            let floor = self.log.horizon();
            if committed.is_none() {
                self.set_floor(Some(floor));
            }
            let mut applying = self.log.apply(commands);
            // The first poll hands the batch over.
            let first = futures_util::poll!(&mut applying);
            if let Some((applied, askers)) = committed.take() {
                self.settle(applied, askers);
                self.set_floor(Some(floor));
            }
            let applied = match first {
                Poll::Ready(applied) => applied,
                Poll::Pending => self.outcome(applying, &mut askers, &mut queue).await,
            };
            match applied {
                Ok(applied) => committed = Some((applied, askers)),
                Err(error) => {
                    for asker in &mut askers {
                        self.refuse(asker, error.clone().into());
                    }
                    // Some of it may have been stored.
                    self.events.unsure();
                    self.set_floor(None);
                }
            }
        }
    }

    fn set_floor(&self, floor: Option<StreamPosition>) {
        if let Some(own) = self.progress.floors.get(self.number) {
            *own.lock().unwrap_or_else(PoisonError::into_inner) = floor;
        }
    }

    /// Waits for the outcome of a batch, however long it takes: what has become durable must be published. Who waits is
    /// answered when the deadline passes, and so is everybody who comes after.
    async fn outcome(
        &self,
        mut applying: BoxFuture<'_, Result<Applied, StoreError>>,
        askers: &mut [Asker],
        queue: &mut mpsc::Receiver<Queued>,
    ) -> Result<Applied, StoreError> {
        if let Ok(applied) = timeout(self.deadline, &mut applying).await {
            return applied;
        }
        tracing::error!("the store has not committed in time");
        self.progress.set_stalled(self.number, true);
        for asker in askers {
            self.refuse(asker, StoreError::Timeout.into());
            // Whoever was told that it is unknown is told like everybody else when it happens after all.
            asker.origin = None;
        }
        let applied = loop {
            tokio::select! {
                applied = &mut applying => break applied,
                Some((_, mut asker)) = queue.recv() => {
                    self.refuse(&mut asker, does_not_answer().into());
                }
                else => break applying.await,
            }
        };
        if applied.is_ok() {
            tracing::info!("the store commits again");
        }
        self.progress.set_stalled(self.number, false);
        applied
    }

    /// Publishes what happened, in its order, and answers.
    fn settle(&self, applied: Applied, mut askers: Vec<Asker>) {
        let Applied { outcomes, untold, .. } = applied;
        let superseded = superseded_receipts(&outcomes, &askers);
        let mut untold = Backlog::new(untold, &outcomes, &askers);
        for ((outcome, asker), superseded) in outcomes.into_iter().zip(&mut askers).zip(superseded) {
            match outcome {
                Ok(outcome) => {
                    if let Some((conversation, seq)) = place_of(&outcome) {
                        untold.up_to(conversation, seq, |untold, origin| self.tell(&untold, origin));
                    }
                    let pushed = if superseded { None } else { self.publish(&outcome, asker.origin) };
                    self.told.pushed(&outcome);
                    self.reply(asker, Ok(outcome), pushed);
                }
                Err(refusal) => self.refuse(asker, refusal.into()),
            }
        }
        untold.rest(|untold, origin| self.tell(&untold, origin));
    }

    /// Tells of what another node has stored.
    fn tell(&self, Untold { message, membership }: &Untold, origin: Option<ConnectionId>) {
        self.metrics.messages_recovered.inc();
        let floor = self.progress.floor(self.number).unwrap_or(StreamPosition::NOWHERE);
        self.push(message, membership, origin, Author::AnotherNode { floor });
    }

    fn push(
        &self,
        message: &StoredEntry,
        membership: &Membership,
        origin: Option<ConnectionId>,
        author: Author,
    ) -> Option<MessageFrame> {
        let first = message.seq == 1;
        let info = || ConversationInfo { kind: membership.kind, members: membership.members.to_vec() };
        let push = || MessagePush { message: views::message(message.clone()), conversation: first.then(info) };
        let StoredEntry { conversation, seq, at, sender, .. } = *message;
        let sender = origin.map(|_| sender);
        let entry = EntryPlace { conversation, seq, at, sender };
        let pushed = self.events.message_to_members(&membership.members, origin, entry, author, push);
        if first {
            self.events.met(&membership.members);
        }
        pushed
    }

    /// Tells others what happened. Returns the frame of a message, if anybody got it.
    fn publish(&self, outcome: &Outcome, origin: Option<ConnectionId>) -> Option<MessageFrame> {
        match outcome {
            Outcome::Appended(Appended { duplicate: true, .. }) => {
                self.metrics.messages_duplicate.inc();
                None
            }
            Outcome::Appended(Appended { message, membership, .. }) => {
                self.metrics.messages_stored.inc();
                self.push(message, membership, origin, Author::ThisNode)
            }
            Outcome::Marked(Marked { moved: false, .. }) | Outcome::Refreshed => None,
            Outcome::Marked(Marked { conversation, member, delivered, read, at, membership, .. }) => {
                let receipt = Receipt {
                    conversation: *conversation,
                    member: *member,
                    delivered: *delivered,
                    read: *read,
                    at: *at,
                };
                self.events.to_members(&membership.members, origin, &ServerFrame::Receipt(receipt));
                self.metrics.receipts.inc();
                None
            }
        }
    }

    fn refuse(&self, asker: &mut Asker, failure: Failure) {
        self.reply(asker, Err(failure), None);
    }

    fn reply(&self, asker: &mut Asker, answer: Result<Outcome, Failure>, pushed: Option<MessageFrame>) {
        let Some(responder) = asker.responder.take() else { return };
        if responder.is_to_a_message() {
            match &answer {
                Ok(_) => self.metrics.message_seconds.observe(asker.since().elapsed().as_secs_f64()),
                Err(failure) if failure.code.http_status() < 500 => drop(self.metrics.messages_refused.inc()),
                Err(_) => drop(self.metrics.messages_failed.inc()),
            }
        }
        responder.give(answer, pushed);
    }
}

fn does_not_answer() -> StoreError {
    StoreError::Unavailable("it does not answer".to_owned())
}

/// Adds what waits to a batch, as far as it takes more.
fn gather(queue: &mut mpsc::Receiver<Queued>, batch: &mut Vec<Queued>) {
    let mut bytes = batch.iter().map(|(_, asker)| asker.bytes()).sum::<usize>();
    while batch.len() < BATCH
        && bytes < BATCH_BYTES
        && let Ok(next) = queue.try_recv()
    {
        bytes += next.1.bytes();
        batch.push(next);
    }
}

/// The conversation of an outcome, and up to which `seq` its members have to know of entries when it is told.
fn place_of(outcome: &Outcome) -> Option<(ConversationId, u64)> {
    match outcome {
        Outcome::Appended(Appended { message, .. }) => Some((message.conversation, message.seq)),
        Outcome::Marked(Marked { conversation, delivered, .. }) => Some((*conversation, *delivered)),
        Outcome::Refreshed => None,
    }
}

/// Which outcomes are receipts that a later one of the same batch, member and conversation makes unnecessary. Only one of
/// the same connection does: whoever asked is not told, and another device of the member would never hear of the earlier one.
fn superseded_receipts(outcomes: &[Result<Outcome, Refusal>], askers: &[Asker]) -> Vec<bool> {
    let mut later = std::collections::HashSet::new();
    let mut superseded: Vec<bool> = outcomes
        .iter()
        .zip(askers)
        .rev()
        .map(|(outcome, asker)| match outcome {
            Ok(Outcome::Marked(Marked { conversation, member, moved: true, .. })) => {
                !later.insert((*conversation, *member, asker.origin))
            }
            _ => false,
        })
        .collect();
    superseded.reverse();
    superseded
}

#[cfg(test)]
mod tests {
    use protocol::{MemberId, Timestamp, model::ConversationKind};

    use super::*;
    use crate::{
        cluster::Uplink,
        position::{Epoch, Position},
    };

    fn place(epoch: u8, position: u64) -> StreamPosition {
        StreamPosition { epoch: Epoch([epoch; 8]), position: Position(position) }
    }

    #[test]
    fn one_lane_that_hangs_is_not_forgotten_when_another_one_recovers() {
        let progress = Progress::new(3, Arc::new(Awaited::new(Uplink::default())));
        progress.set_stalled(0, true);
        progress.set_stalled(1, true);
        progress.set_stalled(0, false);
        assert!(progress.is_any_stalled());
        assert_eq!([0, 1, 2].map(|lane| progress.is_stalled(lane)), [false, true, false], "others are served");
        progress.set_stalled(1, false);
        assert!(!progress.is_any_stalled());
    }

    /// The phone reads up to 10, the tablet receives 11, in one batch: the tablet hears of both numbers from the phone's.
    #[test]
    fn only_a_later_receipt_of_the_same_connection_makes_one_unnecessary() {
        let (phone, tablet) = (ConnectionId::from_bytes([1; 12]), ConnectionId::from_bytes([2; 12]));
        let (conversation, member) = (ConversationId::from_bytes([3; 12]), MemberId::from_bytes([4; 12]));
        let membership = Membership { kind: ConversationKind::Direct, members: [member].into() };
        let marked = |delivered, read| {
            let (membership, at) = (membership.clone(), Timestamp::from_millis(1));
            Ok(Outcome::Marked(Marked {
                conversation,
                member,
                delivered,
                read,
                moved: true,
                unread: None,
                last_seq: 11,
                at,
                membership,
            }))
        };
        let asker = |origin| Asker::answered(origin);
        let outcomes = [marked(9, 9), marked(10, 10), marked(11, 10), marked(11, 11)];
        let askers = [phone, phone, tablet, tablet].map(asker);
        assert_eq!(superseded_receipts(&outcomes, &askers), [true, false, true, false]);
    }

    #[test]
    fn what_a_busy_lane_has_not_told_is_not_published() {
        let progress = |floors: &[Option<StreamPosition>]| Progress {
            floors: floors.iter().map(|floor| Mutex::new(*floor)).collect(),
            ..Progress::new(0, Arc::new(Awaited::new(Uplink::default())))
        };
        assert_eq!(progress(&[None, None]).published(place(1, 9)), place(1, 9));
        assert_eq!(progress(&[Some(place(1, 4)), Some(place(1, 7))]).published(place(1, 9)), place(1, 4));
        // The clock of the database has gone back: positions of before say nothing about those of now.
        assert_eq!(progress(&[None, Some(place(1, 40))]).published(place(2, 9)), StreamPosition::NOWHERE);
        assert_eq!(progress(&[Some(place(1, 40)), Some(place(2, 5))]).published(place(2, 9)), StreamPosition::NOWHERE);
    }
}
