//! One lane: gathers commands, commits them, and tells what happened in the order in which it was stored.

use std::{sync::Arc, task::Poll, time::Duration};

use futures_util::future::BoxFuture;
use protocol::{
    ConnectionId, ConversationId, ServerFrame,
    model::ConversationInfo,
    server::{EntryPush, Receipt},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Queued, does_not_answer, progress::Progress};
use crate::{
    cluster::event::EntryPlace,
    failure::Failure,
    hub::EntryFrame,
    position::{Position, StreamPosition},
    service::{
        asker::Asker,
        backlog::Backlog,
        events::{Author, Events},
        fleet::Told,
        push::{Intake, Stored},
        views,
    },
    store::{
        ConversationLog, StoreError,
        conversations::{Appended, Applied, Command, Configured, Marked, Membership, Outcome, Refusal, Untold},
        entries::StoredEntry,
    },
    telemetry::Metrics,
};

/// Commands in one commit.
const BATCH: usize = 4_096;
/// Bytes of the room from which on a batch takes no more: a lane that hangs keeps no more from the others.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// After which position, and up to which, what a batch has stored is.
type PositionRange = (Position, Position);

/// A lane.
pub(super) struct Lane {
    pub(super) number: usize,
    pub(super) log: Arc<dyn ConversationLog>,
    pub(super) events: Events,
    pub(super) told: Arc<Told>,
    pub(super) intake: Arc<Intake>,
    pub(super) progress: Arc<Progress>,
    pub(super) deadline: Duration,
    pub(super) metrics: Arc<Metrics>,
}

impl Lane {
    /// Round and round: gathers, lets the store commit, and tells what the commit before did *while* it commits. The store
    /// has the next batch before anything else is done with the last one, so that it never waits for us.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Queued>, stop: CancellationToken) {
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
                    if error.is_unknown() {
                        // Some of it may have been stored, long ago.
                        self.events.unsure(floor);
                    }
                    self.set_floor(None);
                }
            }
        }
    }

    fn set_floor(&self, floor: Option<StreamPosition>) {
        self.progress.set_floor(self.number, floor);
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
        let Applied { outcomes, untold, latest, .. } = applied;
        // What the batch has stored is beyond it.
        let floor = self.intake.is_on().then(|| self.progress.floor(self.number)).flatten();
        let range = floor.map(|floor| (floor.position, latest));
        let superseded = superseded_receipts(&outcomes, &askers);
        let mut untold = Backlog::new(untold, &outcomes, &askers);
        for ((outcome, asker), superseded) in outcomes.into_iter().zip(&mut askers).zip(superseded) {
            match outcome {
                Ok(outcome) => {
                    if let Some((conversation, seq)) = place_of(&outcome) {
                        untold.up_to(conversation, seq, |untold, origin| self.tell(&untold, origin, range));
                    }
                    let pushed = if superseded { None } else { self.publish(&outcome, asker.origin, range) };
                    self.told.pushed(&outcome);
                    self.reply(asker, Ok(outcome), pushed);
                }
                Err(refusal) => self.refuse(asker, refusal.into()),
            }
        }
        untold.rest(|untold, origin| self.tell(&untold, origin, range));
    }

    /// Tells of what another node has stored, or this one in a batch whose outcome was not known.
    fn tell(
        &self,
        Untold { message, ours, membership }: &Untold,
        origin: Option<ConnectionId>,
        range: Option<PositionRange>,
    ) {
        self.metrics.messages_recovered.inc();
        let author = if *ours {
            Author::ThisNode
        } else {
            Author::AnotherNode { floor: self.progress.floor(self.number).unwrap_or(StreamPosition::NOWHERE) }
        };
        if *ours {
            self.take_in(message, membership, range);
        }
        self.push(message, membership, origin, author);
    }

    /// Has those told later who do not say in time that they have a message that this node has stored.
    fn take_in(&self, message: &StoredEntry, membership: &Membership, range: Option<PositionRange>) {
        let Some((floor, latest)) = range else { return };
        let StoredEntry { conversation, seq, sender, at, .. } = *message;
        let members = &membership.members;
        self.intake.stored(&Stored { lane: self.number, floor, latest, conversation, seq, sender, at, members });
    }

    fn push(
        &self,
        message: &StoredEntry,
        membership: &Membership,
        origin: Option<ConnectionId>,
        author: Author,
    ) -> Option<EntryFrame> {
        let first = message.seq == 1;
        let info = || ConversationInfo { kind: membership.kind, members: membership.members.to_vec() };
        let push = || EntryPush { entry: views::entry(message.clone()), conversation: first.then(info) };
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
    fn publish(
        &self,
        outcome: &Outcome,
        origin: Option<ConnectionId>,
        range: Option<PositionRange>,
    ) -> Option<EntryFrame> {
        match outcome {
            Outcome::Appended(Appended { duplicate: true, .. }) => {
                self.metrics.messages_duplicate.inc();
                None
            }
            Outcome::Appended(Appended { message, membership, .. }) => {
                self.metrics.messages_stored.inc();
                self.take_in(message, membership, range);
                self.push(message, membership, origin, Author::ThisNode)
            }
            Outcome::Marked(Marked { moved: false, .. })
            | Outcome::Configured(Configured { changed: false, .. })
            | Outcome::Refreshed => None,
            Outcome::Configured(configured) => {
                let push = ServerFrame::ConversationSettingsPush(views::settings(configured));
                self.events.to_members(&[configured.member], origin, &push);
                None
            }
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

    fn reply(&self, asker: &mut Asker, answer: Result<Outcome, Failure>, pushed: Option<EntryFrame>) {
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
        Outcome::Configured(_) | Outcome::Refreshed => None,
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
    use protocol::{ConversationId, MemberId, Timestamp, model::ConversationKind};

    use super::*;

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
}
