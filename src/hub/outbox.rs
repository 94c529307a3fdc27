//! The outbox of a connection: what is to be sent, bounded in frames and in bytes.
//!
//! Anybody may push, and pushing never waits. One task takes: the connection's own. The order to close has a place of
//! its own, so a full outbox cannot lose it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use protocol::CloseCode;

use super::{Frame, reply::Reply};
use crate::budget::Budget;

/// Something to be sent.
#[derive(Debug)]
pub enum Delivery {
    /// An event, encoded already.
    Event(Frame),
    /// The answer to a request of this connection.
    Reply(Box<Reply>),
}

/// Why and how to close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// The close code.
    pub code: CloseCode,
    /// When to come back.
    pub retry_after_ms: Option<u64>,
}

impl Close {
    /// Close with a code and no time to wait.
    #[must_use]
    pub const fn with(code: CloseCode) -> Self {
        Self { code, retry_after_ms: None }
    }
}

/// How much an outbox holds before its connection is cut.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    /// Frames.
    pub frames: usize,
    /// Bytes of encoded frames.
    pub bytes: usize,
}

/// What is to be sent on a connection. Small, because there is one for every idle client.
pub struct Outbox {
    state: Mutex<State>,
    frames_max: u32,
    bytes_max: u32,
    budget: Arc<Budget>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Delivery>,
    /// Of the events in `queue`, which are bounded by [`OutboxLimits::bytes`].
    bytes: usize,
    /// Of the replies in `queue`, which are bounded by the number of requests. Charged as well.
    replies: u32,
    /// Bytes that were taken and are being written. Charged, as `bytes` are.
    held: usize,
    /// Bytes that the client has sent of a message that is not complete. Charged as well.
    kept: u32,
    close: Option<Box<Close>>,
    overflowed: bool,
    /// Its memory is needed: whatever is being written is given up.
    cut: bool,
    /// The connection is being brought up to date by a sync.
    syncing: bool,
    /// Something was dropped meanwhile: the sync has to look once more.
    missed: bool,
    waker: Option<Waker>,
}

impl State {
    /// Attends, and takes everything that is queued. It is held until it was written.
    fn take(&mut self) -> VecDeque<Delivery> {
        self.waker = None;
        self.held = std::mem::take(&mut self.bytes) + bytes_of(std::mem::take(&mut self.replies));
        std::mem::take(&mut self.queue)
    }

    /// Only the connection's own task waits, so there is one waker.
    fn wait(&mut self, context: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            self.waker = Some(context.waker().clone());
        }
    }
}

impl Outbox {
    /// An empty outbox. Allocates its queue only while there is something in it.
    #[must_use]
    pub fn new(limits: OutboxLimits, budget: Arc<Budget>) -> Self {
        let bound = |limit| u32::try_from(limit).unwrap_or(u32::MAX);
        let (frames_max, bytes_max) = (bound(limits.frames), bound(limits.bytes));
        Self { state: Mutex::default(), frames_max, bytes_max, budget }
    }

    /// Queues something. When there is no room, everything queued is dropped, and the connection is closed as a slow
    /// consumer: it finds what it missed by sync. One that is syncing is not closed, and its sync looks once more.
    pub fn push(&self, delivery: Delivery) {
        let mut state = self.lock();
        if state.overflowed || state.missed {
            self.budget.metrics().outbox_dropped.inc();
            return;
        }
        match &delivery {
            Delivery::Event(frame) => {
                state.bytes += frame.len();
                self.budget.charge(frame.len());
            }
            Delivery::Reply(reply) => {
                let size = reply.size();
                if size > 0 {
                    // Each has 256 KiB at most, and there are as many as requests may be under way.
                    state.replies = state.replies.saturating_add(u32::try_from(size).unwrap_or(u32::MAX));
                    self.budget.charge(size);
                }
            }
        }
        state.queue.push_back(delivery);
        if self.is_full(&state) {
            if state.syncing {
                self.drop_queued(&mut state);
                state.missed = true;
                return;
            }
            self.budget.metrics().outbox_overflows.inc();
            self.overflow(&mut state);
        }
        wake(state);
    }

    /// Cuts the connection as if its outbox were full, because its memory is needed; one that is ending already ends at once.
    pub fn cut(&self) {
        let mut state = self.lock();
        state.cut = true;
        if !state.overflowed {
            self.overflow(&mut state);
        }
        wake(state);
    }

    /// Whether its memory is needed.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.lock().cut
    }

    /// Waits until its memory is needed.
    pub async fn cut_off(&self) {
        self.wait(|state| state.cut).await;
    }

    fn is_full(&self, state: &State) -> bool {
        let exceeds = |count, max| u32::try_from(count).map_or(true, |count: u32| count > max);
        exceeds(state.queue.len(), self.frames_max) || exceeds(state.bytes, self.bytes_max)
    }

    fn overflow(&self, state: &mut State) {
        self.drop_queued(state);
        state.overflowed = true;
        state.close.get_or_insert_with(|| Box::new(Close::with(CloseCode::SlowConsumer)));
    }

    fn drop_queued(&self, state: &mut State) {
        let dropped = u64::try_from(state.queue.len()).unwrap_or(u64::MAX);
        self.budget.metrics().outbox_dropped.inc_by(dropped);
        self.empty(state);
    }

    fn empty(&self, state: &mut State) {
        state.queue = VecDeque::new();
        self.budget.release(std::mem::take(&mut state.bytes) + bytes_of(std::mem::take(&mut state.replies)));
    }

    /// The connection has ended: nothing is kept for it any more, and nothing is taken.
    pub fn end(&self) {
        let mut state = self.lock();
        state.overflowed = true;
        self.empty(&mut state);
        self.settle(&mut state);
        self.budget.release(bytes_of(std::mem::take(&mut state.kept)));
    }

    /// Charges what the client has sent and cannot be handed on yet, a message that is not complete or requests that wait,
    /// instead of what was charged for that before.
    pub fn keep(&self, kept: u32) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.kept, kept);
        drop(state);
        self.budget.charge(bytes_of(kept.saturating_sub(before)));
        self.budget.release(bytes_of(before.saturating_sub(kept)));
    }

    /// Charges what the connection's own task is about to write beside what is queued: a sync. It is given
    /// back when the task waits for more to send, or has to stop.
    pub fn hold(&self, bytes: usize) {
        self.lock().held += bytes;
        self.budget.charge(bytes);
    }

    /// Bytes that are charged for this connection.
    #[must_use]
    pub fn charged(&self) -> usize {
        let state = self.lock();
        state.bytes + bytes_of(state.replies) + state.held + bytes_of(state.kept)
    }

    /// Gives back what was being written, once it was or never will be.
    fn settle(&self, state: &mut State) {
        if state.held > 0 {
            self.budget.release(std::mem::take(&mut state.held));
        }
    }

    /// What was held is written.
    pub fn written(&self) {
        self.settle(&mut self.lock());
    }

    /// A sync begins to read the store: what is pushed from now on is kept for after it.
    pub fn begin_sync(&self) {
        let mut state = self.lock();
        (state.syncing, state.missed) = (true, false);
    }

    /// The sync was sent; true if nothing that was pushed since [`Self::begin_sync`] was dropped. Otherwise the store has
    /// to be read once more.
    #[must_use]
    pub fn end_sync(&self) -> bool {
        let mut state = self.lock();
        state.syncing = state.missed;
        !state.missed
    }

    /// Orders the connection to close after what is queued. The first order counts.
    pub fn close(&self, close: Close) {
        let mut state = self.lock();
        state.close.get_or_insert_with(|| Box::new(close));
        wake(state);
    }

    /// The connection's task is at work, and looks in here before it waits again: until then it need not be woken. A task
    /// that wakes itself has another thread woken for nothing.
    pub fn attend(&self) {
        self.lock().waker = None;
    }

    /// Takes everything that is queued, in its order. Attends, too.
    #[must_use]
    pub fn take(&self) -> VecDeque<Delivery> {
        let mut state = self.lock();
        self.settle(&mut state);
        state.take()
    }

    /// The order to close, if there is one.
    #[must_use]
    pub fn closing(&self) -> Option<Close> {
        self.lock().close.as_deref().copied()
    }

    /// Takes everything that is queued, in its order, with the order to close; ready if there is any of it. What was taken
    /// before is written.
    pub fn poll_take(&self, context: &mut Context<'_>) -> Poll<(VecDeque<Delivery>, Option<Close>)> {
        let mut state = self.lock();
        self.settle(&mut state);
        if state.queue.is_empty() && state.close.is_none() {
            state.wait(context);
            return Poll::Pending;
        }
        Poll::Ready((state.take(), state.close.as_deref().copied()))
    }

    /// Waits until something is queued, even if the connection is to close.
    pub async fn filled(&self) {
        self.wait(|state| {
            self.settle(state);
            !state.queue.is_empty()
        })
        .await;
    }

    /// Waits until the connection is to close, whatever is queued.
    pub async fn ordered_to_close(&self) -> Close {
        self.wait(|state| state.close.is_some()).await;
        self.closing().unwrap_or(Close::with(CloseCode::Internal))
    }

    /// Waits until the connection has to be cut because it cannot keep up.
    pub async fn overflowed(&self) {
        self.wait(|state| {
            if state.overflowed {
                self.settle(state);
            }
            state.overflowed
        })
        .await;
    }

    async fn wait(&self, until: impl Fn(&mut State) -> bool) {
        poll_fn(|context| {
            let mut state = self.lock();
            if until(&mut state) {
                return Poll::Ready(());
            }
            state.wait(context);
            Poll::Pending
        })
        .await;
    }

    /// The lock is held for a few instructions and never across a call that could panic, so it cannot be poisoned.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.budget.release(self.charged());
    }
}

/// Wakes the connection's task, after giving back the lock that it is going to take.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn bytes_of(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use protocol::{
        ClientMessageId, ConversationId, ServerFrame,
        server::{Okay, TypingPush},
    };
    use tokio_test::{assert_pending, assert_ready, task::spawn};

    use super::*;
    use crate::{hub::Ticket, telemetry::Metrics};

    fn outbox(frames: usize, bytes: usize) -> Outbox {
        let budget = Budget::new(usize::MAX, Arc::new(Metrics::new()));
        Outbox::new(OutboxLimits { frames, bytes }, Arc::new(budget))
    }

    fn event() -> Delivery {
        let typing = TypingPush {
            conversation: ConversationId::from_bytes([0; 12]),
            member: protocol::MemberId::from_bytes([0; 12]),
            active: true,
        };
        Delivery::Event(Frame::push(&ServerFrame::TypingPush(typing)))
    }

    #[test]
    fn what_is_pushed_is_taken_in_order_and_wakes() {
        let outbox = outbox(10, 10_000);
        let mut ready = spawn(poll_fn(|context| outbox.poll_take(context)));
        assert_pending!(ready.poll());
        outbox.push(event());
        let result = Ok(Some(ServerFrame::Okay(Okay::default()).into()));
        outbox.push(Delivery::Reply(Box::new(Reply { ticket: Ticket(1), result })));
        assert!(ready.is_woken());
        let (taken, close) = assert_ready!(ready.poll());
        assert_eq!(close, None);
        assert!(matches!(taken[0], Delivery::Event(_)));
        assert!(matches!(taken[1], Delivery::Reply(_)));
        assert!(outbox.take().is_empty());
    }

    /// Found by reading: eight pages that waited behind a ninth were charged to nobody.
    #[test]
    fn a_page_that_waits_is_charged_until_it_is_written() {
        let outbox = outbox(10, 10_000);
        let message = protocol::model::Message {
            id: protocol::MessageId::from_bytes([1; 12]),
            conversation: ConversationId::from_bytes([1; 12]),
            seq: 1,
            sender: protocol::MemberId::from_bytes([2; 12]),
            client_id: ClientMessageId::from_bytes([1; 16]),
            content: "x".repeat(60_000),
            at: protocol::Timestamp::from_millis(0),
            reply_to: None,
        };
        let history = protocol::server::History {
            conversation: message.conversation,
            entries: vec![protocol::model::Entry::Message(message)],
            more: false,
        };
        let page = || {
            let result = Ok(Some(ServerFrame::History(history.clone()).into()));
            Delivery::Reply(Box::new(Reply { ticket: Ticket(1), result }))
        };
        let charged = |outbox: &Outbox| {
            let charged = outbox.budget.metrics().memory_charged.get();
            assert_eq!(usize::try_from(charged).unwrap(), outbox.charged());
            outbox.charged()
        };
        outbox.push(page());
        outbox.push(page());
        assert!(charged(&outbox) > 120_000 && outbox.closing().is_none(), "the limit of bytes is for events");
        let taken = outbox.take();
        assert!(charged(&outbox) > 120_000, "they are being written");
        drop(taken);
        outbox.written();
        assert_eq!(charged(&outbox), 0);
        outbox.push(page());
        outbox.cut();
        assert_eq!(charged(&outbox), 0);
        outbox.end();
        outbox.push(page());
        assert_eq!(charged(&outbox), 0);
    }

    #[test]
    fn one_frame_too_many_cuts_the_connection() {
        let outbox = outbox(2, 10_000);
        outbox.push(event());
        outbox.push(event());
        assert_eq!(outbox.closing(), None);
        outbox.push(event());
        assert_eq!(outbox.closing(), Some(Close::with(CloseCode::SlowConsumer)));
        outbox.push(event());
        assert!(outbox.take().is_empty(), "what a slow consumer missed is found by sync");
    }

    #[test]
    fn one_byte_too_many_cuts_the_connection() {
        let Delivery::Event(frame) = event() else { unreachable!() };
        let outbox = outbox(10, frame.len() * 2);
        outbox.push(event());
        outbox.push(event());
        assert_eq!(outbox.closing(), None);
        outbox.push(event());
        assert_eq!(outbox.closing().unwrap().code, CloseCode::SlowConsumer);
        assert_ready!(spawn(outbox.overflowed()).poll());
    }

    #[test]
    fn what_does_not_fit_during_a_sync_is_read_once_more_and_cuts_nobody() {
        let outbox = outbox(2, 10_000);
        outbox.begin_sync();
        for _ in 0..4 {
            outbox.push(event());
        }
        assert_eq!(outbox.closing(), None);
        assert!(!outbox.end_sync() && outbox.take().is_empty());
        outbox.begin_sync();
        outbox.push(event());
        assert!(outbox.end_sync());
        assert_eq!(outbox.take().len(), 1, "kept for after the sync");
        for _ in 0..3 {
            outbox.push(event());
        }
        assert_eq!(outbox.closing(), Some(Close::with(CloseCode::SlowConsumer)), "the sync is over");
    }

    #[test]
    fn an_order_to_close_is_never_lost_and_the_first_one_counts() {
        let outbox = outbox(1, 10_000);
        outbox.push(event());
        outbox.close(Close::with(CloseCode::Deactivated));
        outbox.close(Close::with(CloseCode::GoingAway));
        assert_eq!(outbox.closing(), Some(Close::with(CloseCode::Deactivated)));
        assert_eq!(outbox.take().len(), 1, "what was queued before is still sent");
        assert_ready!(spawn(outbox.ordered_to_close()).poll());
        assert_pending!(spawn(outbox.filled()).poll());
        assert_pending!(spawn(outbox.overflowed()).poll());
    }

    /// Found from outside: 65,535 bytes of a frame of 65,536 were charged to nobody.
    #[test]
    fn what_has_come_of_a_message_is_charged_until_it_is_complete_or_the_end() {
        let budget = Arc::new(Budget::new(usize::MAX, Arc::new(Metrics::new())));
        let outbox = Outbox::new(OutboxLimits { frames: 10, bytes: 1000 }, Arc::clone(&budget));
        let charged = || budget.metrics().memory_charged.get();
        for (kept, expected) in [(60_000, 60_000), (70, 70), (0, 0), (500, 500)] {
            outbox.keep(kept);
            assert_eq!((charged(), outbox.charged()), (expected, usize::try_from(expected).unwrap()));
        }
        outbox.end();
        assert_eq!(charged(), 0);
    }

    #[test]
    fn bytes_are_charged_until_they_were_written_or_dropped() {
        let outbox = outbox(2, 10_000);
        let budget = Arc::clone(&outbox.budget);
        let charged = || usize::try_from(budget.metrics().memory_charged.get()).unwrap();
        let Delivery::Event(frame) = event() else { unreachable!() };
        outbox.push(event());
        outbox.push(event());
        let taken = outbox.take();
        assert_eq!(charged(), frame.len() * 2, "they are being written");
        outbox.push(event());
        assert_eq!((charged(), outbox.charged()), (frame.len() * 3, frame.len() * 3));
        drop(taken);
        assert_ready!(spawn(outbox.filled()).poll());
        assert_eq!(charged(), frame.len());
        outbox.hold(1000);
        assert_eq!(charged(), frame.len() + 1000);
        outbox.cut();
        assert_eq!(outbox.closing(), Some(Close::with(CloseCode::SlowConsumer)));
        assert_ready!(spawn(outbox.overflowed()).poll());
        assert_eq!(charged(), 0);
        outbox.hold(7);
        drop(outbox);
        assert_eq!(charged(), 0);
    }
}
