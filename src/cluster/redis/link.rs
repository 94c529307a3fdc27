//! One link: connected, lost and connected again.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    address::Address,
    inbound::{self, Inbound, Message},
    outgoing::{Batch, Outgoing},
    pipelines::{Oldest, Pipelines},
    subscriptions::{Changes, Subscriptions},
    wire::{self, Names, Published},
};
use crate::{
    cluster::{Beat, Channel, Inbox, Loss, NodeId},
    ids::Ids,
    telemetry::Metrics,
};

/// Channels that one command subscribes to.
const CHUNK: usize = 1_000;
/// Publications of one pipeline.
const PIPELINE: usize = 500;
const PUBLISH: &str = "PUBLISH";
/// Bytes of one pipeline, unless one publication has more.
const PIPELINE_BYTES: usize = 1024 * 1024;
/// How long an own beat may take to come back.
const CANARY: Duration = Duration::from_secs(2);
/// How long an own beat or the answer to a publication may take until what others publish is not waited for any more: they
/// may wait as long, and the store has it by now.
const LATE: Duration = Duration::from_millis(500);
/// How long it was in time when it counts as that again: where each takes long, the next one has just been sent now and then.
const IN_TIME: Duration = Duration::from_secs(2);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long what is queued is published at the end.
const FLUSH: Duration = Duration::from_secs(2);
/// Beats of this node that have not come back.
const BEATS: usize = 64;
/// Nodes that are warned of once each.
const WARNED: usize = 1_000;
/// How often it is said that a link is not reached, for the same reason.
const REMIND: Duration = Duration::from_secs(60);

/// One link of the bus.
pub(super) struct Link {
    pub(super) number: usize,
    /// How many links there are.
    pub(super) links: usize,
    pub(super) node: NodeId,
    pub(super) address: Address,
    pub(super) names: Names,
    pub(super) outgoing: Outgoing,
    pub(super) subscriptions: Subscriptions,
    pub(super) inbox: Arc<dyn Inbox>,
    pub(super) ids: Arc<Ids>,
    pub(super) metrics: Arc<Metrics>,
    /// Whether the node was told last that the link is up.
    pub(super) told_up: Mutex<bool>,
    /// The own beats that have not come back, and when each was published.
    pub(super) beats: Mutex<VecDeque<(u64, Instant)>>,
    /// When the oldest publication was sent that is not answered.
    pub(super) unanswered: Arc<Oldest>,
    /// Whether the way there and back takes long.
    pub(super) late: AtomicBool,
    /// Which nodes were warned of that have other addresses.
    pub(super) warned: Mutex<HashSet<NodeId>>,
    pub(super) stop: CancellationToken,
    pub(super) flushed: Notify,
}

/// Why a link ended.
enum End {
    Lost(Loss, String),
    Stopped,
}

impl Link {
    /// Keeps the link, until it is stopped. For one task only.
    pub(super) async fn run(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        let mut said: Option<(String, Instant)> = None;
        loop {
            let (take, inbound) = inbound::queue();
            let started = Instant::now();
            let end = match self.stop.run_until_cancelled(self.address.connect(take)).await {
                None => End::Stopped,
                Some(Ok(connection)) => self.serve(connection, inbound).await,
                Some(Err(reason)) => End::Lost(Loss::LinkDown, reason),
            };
            let End::Lost(_, reason) = end else { return self.flushed.notify_one() };
            if said.as_ref().is_none_or(|(known, at)| *known != reason || at.elapsed() > REMIND) {
                let address = self.address.describe();
                tracing::warn!(link = self.number, address, reason, "this link of the bus (REDIS_URL) is not up");
                said = Some((reason, Instant::now()));
            }
            // It was up, or has hung for as long as a pause would take.
            if started.elapsed() > 2 * LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            // Not all nodes at the same moment.
            let jitter = Duration::from_millis(self.ids.below(u64::try_from(pause.as_millis()).unwrap_or(1).max(1)));
            if self.stop.run_until_cancelled(sleep(pause / 2 + jitter / 2)).await.is_none() {
                return self.flushed.notify_one();
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.metrics.bus_reconnects.inc();
        }
    }

    /// Serves while the connection is good.
    async fn serve(&self, connection: MultiplexedConnection, mut inbound: Inbound) -> End {
        self.beats().clear();
        self.late.store(false, Ordering::Relaxed);
        // Before it is looked whether anything is late: what was not answered on the connection before says nothing of this one.
        let pipelines = Pipelines::new(connection.clone(), &self.unanswered);
        let end = tokio::select! {
            end = self.publish(pipelines) => end,
            end = self.follow(connection) => end,
            end = self.hear(&mut inbound) => end,
            end = self.watch() => end,
            end = self.stopped() => end,
        };
        // First: who finds the link down shall know that the node was told.
        if let End::Lost(loss, _) = &end {
            self.lost(*loss);
        }
        self.outgoing.close();
        self.subscriptions.down();
        end
    }

    /// Tells the node that something may be missing on the link, unless it knows.
    pub(super) fn lost(&self, loss: Loss) {
        let mut told_up = self.told_up.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *told_up) {
            self.metrics.bus_links_up.dec();
            self.inbox.lost(self.number, loss);
        }
    }

    /// Tells the node that the link is up, unless it knows, or something that it was not to wait for is not heard yet.
    fn settle(&self) {
        let mut told_up = self.told_up.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: somebody who has waited too long says so before this, or after it.
        if !*told_up && self.subscriptions.settled() {
            *told_up = true;
            self.outgoing.open();
            self.metrics.bus_links_up.inc();
            self.inbox.up(self.number);
        }
    }

    /// The stop, and what is queued then has its time.
    async fn stopped(&self) -> End {
        self.stop.cancelled().await;
        sleep(FLUSH).await;
        tracing::warn!(link = self.number, "what was queued for other nodes was not published; they sweep");
        End::Stopped
    }

    /// Publishes what is queued, batch after batch; after the stop, until nothing is. The answers to a batch are not awaited before
    /// the next one goes: a message is not to wait for the way there and back of the one before it.
    async fn publish(&self, mut pipelines: Pipelines) -> End {
        let end = async {
            loop {
                let batch = tokio::select! {
                    biased;
                    answer = pipelines.answered() => {
                        self.outgoing.published(answer?);
                        continue;
                    }
                    batch = self.next_batch(), if pipelines.has_room() => batch,
                };
                let Some(batch) = batch else { return self.settle_all(&mut pipelines).await };
                self.publish_batch(&mut pipelines, batch).await?;
            }
        };
        match end.await {
            Ok(()) => End::Stopped,
            Err(error) => End::Lost(Loss::LinkDown, redis::RedisError::to_string(&error)),
        }
    }

    /// What is queued, once something is; nothing when the bus stops and nothing is queued.
    async fn next_batch(&self) -> Option<Batch> {
        match self.stop.run_until_cancelled(self.outgoing.next()).await {
            Some(batch) => Some(batch),
            None => self.outgoing.take(),
        }
    }

    /// Sends a batch in pipelines. Its beat goes when all before it is known to have arrived: it says so.
    async fn publish_batch(&self, pipelines: &mut Pipelines, batch: Batch) -> redis::RedisResult<()> {
        let Batch { publications, beat, bytes } = batch;
        let mut publications = publications.into_iter().peekable();
        while publications.peek().is_some() {
            let (mut pipeline, mut count, mut size) = (redis::pipe(), 0, 0);
            while let Some((channel, payload)) = publications
                .next_if(|(_, next)| count == 0 || (count < PIPELINE && size + next.len() <= PIPELINE_BYTES))
            {
                (count, size) = (count + 1, size + payload.len());
                pipeline.add_command(self.publication(channel, &payload));
            }
            self.metrics.bus_bytes_sent.inc_by(u64::try_from(size).unwrap_or(0));
            while !pipelines.has_room() {
                self.outgoing.published(pipelines.answered().await?);
            }
            // They count until the last of them is answered.
            let counted = if publications.peek().is_none() { bytes } else { 0 };
            pipelines.send(pipeline, counted).await;
        }
        if let Some(beat) = beat {
            self.settle_all(pipelines).await?;
            self.sent(beat.number);
            let late = self.late.load(Ordering::Relaxed);
            let beat = Beat { link: self.number, links: self.links, late, ..beat };
            let payload = wire::beat(self.node, &beat);
            let mut pipeline = redis::pipe();
            pipeline.add_command(self.publication(Channel::Everybody, &payload));
            pipelines.send(pipeline, 0).await;
        }
        Ok(())
    }

    /// The command that publishes something, in memory of its size.
    fn publication(&self, channel: Channel, payload: &[u8]) -> redis::Cmd {
        let name = self.names.of(channel);
        let mut command = redis::Cmd::with_capacity(3, PUBLISH.len() + name.len() + payload.len());
        command.arg(PUBLISH).arg(name).arg(payload);
        command
    }

    /// Waits for the answers to all that was sent.
    async fn settle_all(&self, pipelines: &mut Pipelines) -> redis::RedisResult<()> {
        while !pipelines.is_empty() {
            self.outgoing.published(pipelines.answered().await?);
        }
        Ok(())
    }

    /// Subscribes to all that is wanted, then subscribes and unsubscribes as that changes.
    async fn follow(&self, mut connection: MultiplexedConnection) -> End {
        let mut changes = Changes { subscribe: self.subscriptions.all(), unsubscribe: Vec::new() };
        loop {
            if let Err(error) = self.change(&mut connection, &changes).await {
                return End::Lost(Loss::LinkDown, error.to_string());
            }
            self.subscriptions.confirm(&changes.subscribe);
            self.settle();
            changes = self.subscriptions.next().await;
        }
    }

    async fn change(&self, connection: &mut MultiplexedConnection, changes: &Changes) -> redis::RedisResult<()> {
        let names = |some: &[Channel]| some.iter().map(|channel| self.names.of(*channel)).collect::<Vec<_>>();
        for some in changes.unsubscribe.chunks(CHUNK) {
            connection.unsubscribe(names(some)).await?;
        }
        for some in changes.subscribe.chunks(CHUNK) {
            connection.subscribe(names(some)).await?;
        }
        Ok(())
    }

    /// Gives the node what others publish.
    async fn hear(&self, inbound: &mut Inbound) -> End {
        while let Some(message) = inbound.next().await {
            self.message(message);
            // A busy node is to do its other work as well.
            tokio::task::consume_budget().await;
        }
        if inbound.has_overflowed() {
            End::Lost(Loss::Overflow, "more has come than could be taken".to_owned())
        } else {
            End::Lost(Loss::LinkDown, "the connection has ended".to_owned())
        }
    }

    fn message(&self, message: Message) {
        let Message { channel, payload } = message;
        self.metrics.bus_bytes_received.inc_by(u64::try_from(payload.len()).unwrap_or(0));
        let Some(channel) = self.names.channel(&channel) else { return };
        let Some((from, published)) = wire::read(Bytes::from(payload)) else { return self.unknown() };
        match published {
            Published::Beat(beat) if from == self.node => self.came_back(beat.number),
            Published::Events(_) if from == self.node => {}
            ref published if !self.inbox.hears(from, matches!(published, Published::Events(_))) => {}
            Published::Beat(beat) if (beat.link, beat.links) != (self.number, self.links) => self.warn_of(from),
            Published::Beat(beat) => self.inbox.beat(self.number, from, beat),
            Published::Events(events) => {
                for event in wire::events(events) {
                    let Some(event) = event else {
                        self.unknown();
                        continue;
                    };
                    self.metrics.bus_event("received", event.kind());
                    self.inbox.event(from, channel, event);
                }
            }
        }
    }

    /// Another node has said something that this version does not know.
    fn unknown(&self) {
        self.metrics.bus_event("received", "unknown");
        self.inbox.lost(self.number, Loss::Unknown);
    }

    /// Another node has other addresses, or the same in another order: it looks for members elsewhere. Its beat does not count, so it
    /// is a silent one.
    fn warn_of(&self, from: NodeId) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() >= WARNED {
            warned.clear();
        }
        if warned.insert(from) {
            let address = self.address.describe();
            tracing::warn!(
                node = %from,
                address,
                "another node has another REDIS_URL: both sweep the store while that is so. Set the same addresses in the same order on all nodes"
            );
        }
    }

    /// Looks whether what this node publishes still comes back.
    async fn watch(&self) -> End {
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut late_at: Option<Instant> = None;
        loop {
            tick.tick().await;
            let beat = self.beats().front().map(|(_, at)| *at);
            if beat.is_some_and(|at| at.elapsed() > CANARY) {
                return End::Lost(Loss::Canary, "what this node publishes does not come back".to_owned());
            }
            let oldest = beat.into_iter().chain(self.unanswered.sent_at()).min();
            if oldest.is_some_and(|at| at.elapsed() > LATE) {
                late_at = Some(Instant::now());
            }
            let is_late = late_at.is_some_and(|at| at.elapsed() < IN_TIME);
            if self.late.swap(is_late, Ordering::Relaxed) != is_late {
                self.inbox.late(self.number, is_late);
            }
        }
    }

    /// Somebody has waited too long for a channel to be heard: what is published there may be missed until it is. False if it is
    /// heard by now.
    pub(super) fn late(&self, channel: Channel) -> bool {
        let is_late = self.subscriptions.late(channel);
        if is_late {
            self.lost(Loss::LinkDown);
            self.subscriptions.wake();
        }
        is_late
    }

    fn sent(&self, number: u64) {
        let mut beats = self.beats();
        if beats.len() < BEATS {
            beats.push_back((number, Instant::now()));
        }
    }

    fn came_back(&self, number: u64) {
        let mut beats = self.beats();
        while let Some((_, at)) = beats.pop_front_if(|(sent, _)| *sent <= number) {
            self.metrics.bus_round_trip_seconds.observe(at.elapsed().as_secs_f64());
        }
    }

    /// Held for some instructions, and never across a call that could panic.
    fn beats(&self) -> std::sync::MutexGuard<'_, VecDeque<(u64, Instant)>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
