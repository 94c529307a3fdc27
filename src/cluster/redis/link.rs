//! One link: connected, lost and connected again.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use redis::{PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    address::Address,
    outgoing::{Batch, Outgoing},
    subscriptions::{Changes, Subscriptions},
    wire::{self, Names, Published},
};
use crate::{
    cluster::{Channel, Inbox, Loss, NodeId},
    ids::Ids,
    telemetry::Metrics,
};

/// What has come and was not looked at yet, at most: with more, the link is made anew.
const INBOUND: usize = 8_192;
/// Channels that one command subscribes to.
const CHUNK: usize = 1_000;
/// Publications of one pipeline.
const PIPELINE: usize = 500;
/// How long an own beat may take to come back.
const CANARY: Duration = Duration::from_secs(2);
/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long what is queued is published at the end.
const FLUSH: Duration = Duration::from_secs(2);
/// Beats of this node that have not come back.
const BEATS: usize = 64;

/// One link of the bus.
pub(super) struct Link {
    pub(super) number: usize,
    pub(super) node: NodeId,
    pub(super) address: Address,
    pub(super) names: Names,
    pub(super) outgoing: Outgoing,
    pub(super) subscriptions: Subscriptions,
    pub(super) inbox: Arc<dyn Inbox>,
    pub(super) ids: Arc<Ids>,
    pub(super) metrics: Arc<Metrics>,
    /// The link does not do what it should, and is to be made anew.
    pub(super) broken: Notify,
    /// The own beats that have not come back, and when each was published.
    pub(super) beats: Mutex<VecDeque<(u64, Instant)>>,
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
        // One that never came up has lost nothing.
        loop {
            let (sender, receiver) = mpsc::channel(INBOUND);
            let overflowed = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&overflowed);
            let heard =
                move |info: PushInfo| sender.try_send(info).inspect_err(|_| flag.store(true, Ordering::Relaxed));
            let connected = self.stop.run_until_cancelled(self.address.connect(heard)).await;
            let end = match connected {
                None => return self.flushed.notify_one(),
                Some(Ok((publisher, subscriber))) => {
                    let started = Instant::now();
                    let end = self.serve(publisher, subscriber, receiver, &overflowed).await;
                    if started.elapsed() > LONGEST_PAUSE {
                        pause = FIRST_PAUSE;
                    }
                    end
                }
                Some(Err(reason)) => End::Lost(Loss::LinkDown, reason),
            };
            match end {
                End::Stopped => return self.flushed.notify_one(),
                End::Lost(loss, reason) => {
                    tracing::debug!(link = self.number, ?loss, reason, "the link of the bus is not up");
                }
            }
            // Not all nodes at the same moment.
            let jitter = Duration::from_millis(self.ids.below(u64::try_from(pause.as_millis()).unwrap_or(1).max(1)));
            if self.stop.run_until_cancelled(sleep(pause + jitter)).await.is_none() {
                return self.flushed.notify_one();
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.metrics.bus_reconnects.inc();
        }
    }

    /// Serves while both connections are good.
    async fn serve(
        &self,
        publisher: MultiplexedConnection,
        mut subscriber: MultiplexedConnection,
        mut inbound: mpsc::Receiver<PushInfo>,
        overflowed: &AtomicBool,
    ) -> End {
        let all = self.subscriptions.all();
        if let Err(reason) = self.subscribe(&mut subscriber, &all).await {
            return End::Lost(Loss::LinkDown, reason);
        }
        self.beats.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.outgoing.open();
        self.subscriptions.up(&all);
        self.metrics.bus_links_up.inc();
        self.inbox.up(self.number);
        let under_way = AtomicBool::new(false);
        let end = tokio::select! {
            biased;
            () = self.stop.cancelled() => End::Stopped,
            end = self.publish(publisher.clone(), &under_way) => end,
            end = self.follow(subscriber) => end,
            end = self.hear(&mut inbound, overflowed) => end,
            end = self.watch(overflowed) => end,
        };
        if matches!(end, End::Stopped) {
            self.flush(publisher, under_way.load(Ordering::Relaxed)).await;
        }
        self.metrics.bus_links_up.dec();
        self.outgoing.close(under_way.load(Ordering::Relaxed));
        self.subscriptions.down();
        if let End::Lost(loss, reason) = &end {
            tracing::warn!(link = self.number, address = self.address.describe(), reason, "a link of the bus is lost");
            self.inbox.lost(self.number, *loss);
        }
        end
    }

    /// Publishes what is queued, batch after batch.
    async fn publish(&self, mut connection: MultiplexedConnection, under_way: &AtomicBool) -> End {
        loop {
            let batch = self.outgoing.next().await;
            under_way.store(true, Ordering::Relaxed);
            if let Err(error) = self.publish_batch(&mut connection, batch).await {
                return End::Lost(Loss::LinkDown, error.to_string());
            }
            under_way.store(false, Ordering::Relaxed);
        }
    }

    async fn publish_batch(&self, connection: &mut MultiplexedConnection, batch: Batch) -> redis::RedisResult<()> {
        let Batch { channels, beat } = batch;
        for some in channels.chunks(PIPELINE) {
            let mut pipeline = redis::pipe();
            for (channel, payload) in some {
                self.metrics.bus_bytes_sent.inc_by(u64::try_from(payload.len()).unwrap_or(0));
                pipeline.cmd("PUBLISH").arg(self.names.of(*channel)).arg(&payload[..]).ignore();
            }
            pipeline.query_async::<()>(connection).await?;
        }
        if let Some(beat) = beat {
            self.sent(beat.number);
            let payload = wire::beat(self.node, &beat);
            let name = self.names.of(Channel::Everybody);
            redis::cmd("PUBLISH").arg(name).arg(&payload[..]).query_async::<()>(connection).await?;
        }
        Ok(())
    }

    /// Publishes what is queued at the end.
    async fn flush(&self, mut connection: MultiplexedConnection, under_way: bool) {
        if under_way {
            // What was being published is published again by nobody: others hear that it may be missing.
            return;
        }
        if let Some(batch) = self.outgoing.take() {
            let published = timeout(FLUSH, self.publish_batch(&mut connection, batch)).await;
            if !matches!(published, Ok(Ok(()))) {
                tracing::warn!(link = self.number, "what was queued for other nodes was not published; they sweep");
            }
        }
    }

    /// Subscribes and unsubscribes as it is wanted.
    async fn follow(&self, mut connection: MultiplexedConnection) -> End {
        loop {
            let Changes { subscribe, unsubscribe } = self.subscriptions.next().await;
            for some in unsubscribe.chunks(CHUNK) {
                let names: Vec<String> = some.iter().map(|channel| self.names.of(*channel)).collect();
                if let Err(error) = connection.unsubscribe(names).await {
                    return End::Lost(Loss::LinkDown, error.to_string());
                }
            }
            if let Err(reason) = self.subscribe(&mut connection, &subscribe).await {
                return End::Lost(Loss::LinkDown, reason);
            }
            self.subscriptions.confirm(&subscribe);
        }
    }

    async fn subscribe(&self, connection: &mut MultiplexedConnection, channels: &[Channel]) -> Result<(), String> {
        for some in channels.chunks(CHUNK) {
            let names: Vec<String> = some.iter().map(|channel| self.names.of(*channel)).collect();
            connection.subscribe(names).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Gives the node what others publish.
    async fn hear(&self, inbound: &mut mpsc::Receiver<PushInfo>, overflowed: &AtomicBool) -> End {
        while let Some(PushInfo { kind, data }) = inbound.recv().await {
            match kind {
                PushKind::Message => self.message(data),
                PushKind::Disconnection => break,
                _ => {}
            }
            // A busy node is to do its other work as well.
            tokio::task::consume_budget().await;
        }
        match overflowed.load(Ordering::Relaxed) {
            true => End::Lost(Loss::Overflow, "more has come than could be taken".to_owned()),
            false => End::Lost(Loss::LinkDown, "the connection has ended".to_owned()),
        }
    }

    fn message(&self, data: Vec<Value>) {
        let mut data = data.into_iter();
        let (Some(Value::BulkString(name)), Some(Value::BulkString(payload))) = (data.next(), data.next()) else {
            return;
        };
        self.metrics.bus_bytes_received.inc_by(u64::try_from(payload.len()).unwrap_or(0));
        let Some(channel) = self.names.channel(&name) else { return };
        let Some((from, published)) = wire::read(Bytes::from(payload)) else {
            return self.metrics.bus_event("received", "unknown");
        };
        match published {
            Published::Beat(beat) if from == self.node => self.came_back(beat.number),
            Published::Beat(beat) => self.inbox.beat(self.number, from, beat),
            Published::Events(_) if from == self.node => {}
            Published::Events(events) => {
                for event in wire::events(events) {
                    self.metrics.bus_event("received", event.kind());
                    self.inbox.event(from, channel, event);
                }
            }
        }
    }

    /// Looks whether the link still does what it should.
    async fn watch(&self, overflowed: &AtomicBool) -> End {
        let mut tick = interval(CANARY / 4);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.broken.notified() => {
                    return End::Lost(Loss::LinkDown, "a subscription was not confirmed in time".to_owned());
                }
            }
            if overflowed.load(Ordering::Relaxed) {
                return End::Lost(Loss::Overflow, "more has come than could be taken".to_owned());
            }
            let oldest = self.beats.lock().unwrap_or_else(PoisonError::into_inner).front().map(|(_, at)| *at);
            if oldest.is_some_and(|at| at.elapsed() > CANARY) {
                return End::Lost(Loss::Canary, "what this node publishes does not come back".to_owned());
            }
        }
    }

    fn sent(&self, number: u64) {
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        if beats.len() < BEATS {
            beats.push_back((number, Instant::now()));
        }
    }

    fn came_back(&self, number: u64) {
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, at)) = beats.pop_front_if(|(sent, _)| *sent <= number) {
            self.metrics.bus_round_trip_seconds.observe(at.elapsed().as_secs_f64());
        }
    }
}
