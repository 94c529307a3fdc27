//! What a node publishes on one link: gathered by channel, bounded, and the beat behind it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::BytesMut;
use tokio::{sync::Notify, task::yield_now};

use super::wire;
use crate::cluster::{Beat, Channel, Event, NodeId};

/// Bytes that wait to be published on one link.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a publication costs besides its events.
const OVERHEAD: usize = 128;
/// Bytes of a publication from which on another one is begun: what a node receives together is kept together in its memory, as long
/// as one of its clients has not taken it.
const PUBLICATION: usize = 64 * 1024;

/// What is to be published.
pub(super) struct Outgoing {
    node: NodeId,
    queue: Mutex<Queue>,
    /// There is something.
    queued: Notify,
}

#[derive(Default)]
struct Queue {
    /// Whether the link takes anything.
    open: bool,
    /// In the order in which each was begun.
    publications: Vec<(Channel, BytesMut)>,
    /// The newest publication of each channel.
    places: HashMap<Channel, usize>,
    bytes: usize,
    /// Bytes that were taken to be published, and are not confirmed.
    under_way: usize,
    beat: Option<Beat>,
    beats: u64,
    /// How often something was lost.
    losses: u64,
    /// Something was dropped since the last beat.
    dropped: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.publications.is_empty() && self.beat.is_none()
    }
}

/// What is published together.
pub(super) struct Batch {
    /// What goes to each channel; those of one channel in their order.
    pub(super) publications: Vec<(Channel, BytesMut)>,
    /// The beat behind it.
    pub(super) beat: Option<Beat>,
    /// What it counts for until [`Outgoing::published`] is told.
    pub(super) bytes: usize,
}

impl Outgoing {
    pub(super) fn new(node: NodeId) -> Self {
        Self { node, queue: Mutex::default(), queued: Notify::new() }
    }

    /// Queues an event. False if it was dropped: the link is down, or there is no room.
    pub(super) fn push(&self, channel: Channel, event: &Event) -> bool {
        let mut queue = self.lock();
        let size = event.size();
        if !queue.open || queue.bytes + queue.under_way + size > BYTES_MAX {
            queue.dropped = true;
            return false;
        }
        let Queue { publications, places, bytes, .. } = &mut *queue;
        let known = places.get(&channel).and_then(|place| publications.get_mut(*place));
        if let Some((_, payload)) = known.filter(|(_, payload)| payload.len() + size <= PUBLICATION) {
            event.encode(payload);
        } else {
            let mut payload = wire::begin(self.node);
            event.encode(&mut payload);
            places.insert(channel, publications.len());
            publications.push((channel, payload));
            *bytes += OVERHEAD;
        }
        *bytes += size;
        drop(queue);
        self.queued.notify_one();
        true
    }

    /// Something was not published: the next beat says that something is lost.
    pub(super) fn lose(&self) {
        self.lock().dropped = true;
    }

    /// Queues a beat, behind everything that is queued. A beat that is still queued is replaced, but the last one stays the last.
    pub(super) fn beat(&self, beat: Beat) {
        let mut queue = self.lock();
        if queue.open {
            let last = beat.last || queue.beat.is_some_and(|queued| queued.last);
            queue.beat = Some(Beat { last, ..beat });
            drop(queue);
            self.queued.notify_one();
        }
    }

    /// Waits for something to publish, and then for the tasks that are about to run: a commit tells many at once, and what the first
    /// of them publishes would go alone.
    pub(super) async fn next(&self) -> Batch {
        loop {
            let queued = self.queued.notified();
            if self.lock().is_empty() {
                queued.await;
            }
            yield_now().await;
            if let Some(batch) = self.take() {
                return batch;
            }
        }
    }

    /// Everything that is queued.
    pub(super) fn take(&self) -> Option<Batch> {
        let mut queue = self.lock();
        if queue.is_empty() {
            return None;
        }
        queue.places.clear();
        let bytes = std::mem::take(&mut queue.bytes);
        queue.under_way += bytes;
        if std::mem::take(&mut queue.dropped) {
            queue.losses += 1;
        }
        let (losses, number) = (queue.losses, queue.beats + 1);
        let beat = queue.beat.take().map(|beat| Beat { losses, number, ..beat });
        queue.beats += u64::from(beat.is_some());
        Some(Batch { publications: std::mem::take(&mut queue.publications), beat, bytes })
    }

    /// The link takes events from now on.
    pub(super) fn open(&self) {
        self.lock().open = true;
    }

    /// So much of what was taken has been published.
    pub(super) fn published(&self, bytes: usize) {
        if bytes > 0 {
            let mut queue = self.lock();
            queue.under_way = queue.under_way.saturating_sub(bytes);
        }
    }

    /// The link is down: what was queued, or was under way, is lost.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        let Queue { beats, losses, dropped, bytes, under_way, .. } = *queue;
        *queue = Queue { beats, losses, dropped: dropped || bytes + under_way > 0, ..Queue::default() };
    }

    /// Held for some instructions, and never across a call that could panic.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::MemberId;

    use super::*;
    use crate::{cluster::event::Relayed, position::StreamPosition};

    fn frame(bytes: usize) -> Event {
        Event::Frame(Relayed { index: 0, entry: None, text: Bytes::from(vec![b'x'; bytes]) })
    }

    fn member(number: u8) -> Channel {
        Channel::Member(MemberId::from_bytes([number; 12]))
    }

    fn open() -> Outgoing {
        let outgoing = Outgoing::new(NodeId([1; 12]));
        outgoing.open();
        outgoing
    }

    #[test]
    fn events_of_a_channel_go_together_and_the_beat_goes_last() {
        let outgoing = open();
        outgoing.push(member(1), &frame(1));
        outgoing.beat(Beat::at(1, StreamPosition::NOWHERE));
        outgoing.push(member(2), &frame(1));
        outgoing.push(member(1), &frame(2));
        let batch = outgoing.take().unwrap();
        let counts = batch.publications.iter().map(|(channel, payload)| {
            let events = payload.clone().freeze().slice(wire::HEAD..);
            (*channel, wire::events(events).count())
        });
        assert_eq!(counts.collect::<Vec<_>>(), [(member(1), 2), (member(2), 1)]);
        let beat = batch.beat.unwrap();
        assert_eq!((beat.number, beat.losses), (1, 0));
        assert!(outgoing.take().is_none());
    }

    #[test]
    fn a_publication_is_not_large_and_those_of_a_channel_keep_their_order() {
        let outgoing = open();
        for bytes in 1..=10 {
            outgoing.push(member(1), &frame(20_000 + bytes));
            outgoing.push(member(2), &frame(1));
        }
        let batch = outgoing.take().unwrap();
        assert!(batch.publications.iter().all(|(_, payload)| payload.len() <= PUBLICATION));
        let of_one = batch.publications.iter().filter(|(channel, _)| *channel == member(1));
        let lengths = of_one.flat_map(|(_, payload)| wire::events(payload.clone().freeze().slice(wire::HEAD..)));
        let lengths = lengths.map(|event| match event {
            Some(Event::Frame(Relayed { text, .. })) => text.len() - 20_000,
            Some(Event::Note(_)) | None => 0,
        });
        assert_eq!(lengths.collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    }

    #[test]
    fn what_waits_for_its_confirmation_counts() {
        let outgoing = open();
        while outgoing.push(member(1), &frame(256 * 1024)) {}
        let batch = outgoing.take().unwrap();
        assert!(!outgoing.push(member(1), &frame(256 * 1024)));
        outgoing.published(batch.bytes);
        assert!(outgoing.push(member(1), &frame(256 * 1024)));
    }

    #[test]
    fn batches_under_way_count_together_until_each_is_confirmed() {
        let outgoing = open();
        let batch = || {
            (0..60).for_each(|_| assert!(outgoing.push(member(1), &frame(256 * 1024))));
            outgoing.take().unwrap()
        };
        let (first, second) = (batch(), batch());
        while outgoing.push(member(1), &frame(256 * 1024)) {}
        assert!(outgoing.take().unwrap().bytes < first.bytes / 2, "both count");
        outgoing.published(first.bytes);
        let third = batch();
        outgoing.published(second.bytes);
        outgoing.beat(Beat::at(1, StreamPosition::NOWHERE));
        assert_eq!(outgoing.take().unwrap().beat.unwrap().losses, 1, "what had no room");
        outgoing.close();
        outgoing.open();
        outgoing.beat(Beat::at(1, StreamPosition::NOWHERE));
        let next = outgoing.take().unwrap();
        assert_eq!(next.beat.unwrap().losses, 2, "the third one was not confirmed");
        assert_eq!(third.bytes, first.bytes);
    }

    #[test]
    fn what_was_dropped_shows_in_the_next_beat() {
        let outgoing = open();
        let losses = || {
            outgoing.beat(Beat::at(1, StreamPosition::NOWHERE));
            let batch = outgoing.take().unwrap();
            outgoing.published(batch.bytes);
            batch.beat.unwrap().losses
        };
        assert_eq!(losses(), 0);
        while outgoing.push(member(1), &frame(256 * 1024)) {}
        assert!(!outgoing.push(member(2), &frame(256 * 1024)));
        assert_eq!(losses(), 1, "once for all that had no room");
        assert_eq!(losses(), 1);
        outgoing.close();
        assert!(!outgoing.push(member(1), &frame(1)), "the link is down");
        outgoing.open();
        assert_eq!(losses(), 2);
        outgoing.push(member(1), &frame(1));
        assert!(outgoing.take().is_some());
        outgoing.close();
        outgoing.open();
        assert_eq!(losses(), 3, "what was under way may not have arrived");
        outgoing.push(member(1), &frame(1));
        outgoing.published(outgoing.take().unwrap().bytes);
        outgoing.close();
        outgoing.open();
        assert_eq!(losses(), 3, "nothing was");
    }
}
