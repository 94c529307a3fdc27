//! The one road of durable changes to conversations.
//!
//! Commands of one conversation go down one lane. A lane gathers what arrived while the store was busy with the last
//! batch, commits it, publishes what happened *in the order in which it was stored*, and answers. So a conversation's
//! events leave in the order of `seq`, nothing is pushed or acknowledged before it is durable, and it makes no
//! difference whether the connection that asked is still there.

mod lane;
mod progress;

use std::{sync::Arc, time::Duration};

use futures_util::future::try_join_all;
use protocol::{ConversationId, ErrorCode};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{lane::Lane, progress::Progress};
use super::{
    answered,
    asker::{Asker, Responder},
    awaited::Awaited,
    events::Events,
    fleet::Told,
    push::Intake,
    room::{self, Room},
};
use crate::{
    failure::Failure,
    position::{Epoch, StreamPosition},
    store::{ConversationLog, Recovery, StoreError, conversations::Command},
    supervisor::Supervisor,
    telemetry::Metrics,
};

/// Conversations that are refreshed at the same time.
const REFRESHED: usize = 64;

type Queued = (Command, Asker);

/// The lanes.
pub struct Sequencer {
    log: Arc<dyn ConversationLog>,
    recovery: Option<Arc<dyn Recovery>>,
    lanes: Box<[mpsc::Sender<Queued>]>,
    progress: Arc<Progress>,
    room: Room,
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
        intake: &Arc<Intake>,
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
                    intake: Arc::clone(intake),
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

    /// Finishes what was left half done, by nodes that are gone and by this one, and tells those who are connected.
    ///
    /// # Errors
    /// The store; then it is found once more.
    pub async fn recover(&self) -> Result<(), Failure> {
        let Some(recovery) = &self.recovery else { return Ok(()) };
        let unfinished = recovery.unfinished().await?;
        for some in unfinished.conversations.chunks(REFRESHED) {
            try_join_all(some.iter().map(|conversation| self.refresh(*conversation))).await?;
        }
        Ok(recovery.finished(unfinished).await?)
    }

    async fn refresh(&self, conversation: ConversationId) -> Result<(), Failure> {
        let permit = self.room.clone().wait([0], Instant::now()).await?;
        let refresh = |respond| {
            self.submit(Command::Refresh(conversation), Asker::new(None, Responder::Refreshed(respond), permit));
        };
        answered(refresh).await
    }

    /// Waits until what is known of the store is of now.
    ///
    /// # Errors
    /// The store.
    pub async fn current(&self) -> Result<(), Failure> {
        Ok(self.log.current().await?)
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

    /// The epoch of the store.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.log.horizon().epoch
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

fn does_not_answer() -> StoreError {
    StoreError::Unavailable("it does not answer".to_owned())
}
