//! The worker: takes tasks that are due, hands them to couriers, and stores what became of them.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    convert::Infallible,
    pin::pin,
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    future::{Either, select},
    stream::FuturesUnordered,
};
use protocol::{DeviceId, MemberId, Timestamp};
use tokio::{
    sync::{AcquireError, SemaphorePermit},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Push,
    hand::End,
    held::Batch,
    lease::{self, Lease},
    quiet,
};
use crate::{
    push,
    service::clock_watch::Steps,
    store::{
        StoreError,
        push::{DeviceMark, Settled, TakenTask, WaitingTasks},
        turns::Caller,
    },
};

/// Tasks that are taken together: as many as one request of a courier takes.
pub(super) const TOGETHER: usize = 100;
/// Of how many of these it is found out at a time what they say.
pub(super) const AT_ONCE: usize = 6;
/// How many are under way at a time: couriers limit themselves what they send.
const UNDER_WAY: usize = 64;
/// How long more is not taken because a courier has no room: others may have some.
pub(super) const ROOM: Duration = Duration::from_millis(250);
/// How often it is counted what waits.
const COUNT: Duration = Duration::from_secs(10);
/// How often it is looked for tasks that nobody told of: those of other nodes.
const LOOK: Duration = Duration::from_secs(5);
/// When a task is tried again after it failed once; twice as long each time.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest time until then.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// For how long what became of tasks is tried to be stored: a database that is gone comes back, and who was told is not to be told again then.
const INSIST: Duration = Duration::from_secs(300);
/// The longest time between two attempts.
const INSIST_PAUSE: Duration = Duration::from_secs(1);
/// How often tasks are removed that are too old.
const EXPIRE: Duration = Duration::from_secs(60);
/// How often it is looked for addresses at which nobody is any more.
const RECEIPTS: Duration = Duration::from_secs(1);
/// By how much the clocks of two nodes may differ.
const AHEAD: Duration = Duration::from_secs(5);
/// The longest quiet hours.
const DAY: Duration = Duration::from_secs(86_400);

/// Waits for something of the store while what is under way goes on: it has to say so, or another node does it again.
async fn beside<T>(under_way: &mut FuturesUnordered<impl Future<Output = ()>>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            Some(()) = under_way.next() => {}
        }
    }
}

impl Push {
    /// Hands over what is due until the stop, and then finishes what is under way.
    pub(super) async fn dispatch(&self, stop: &CancellationToken) {
        let mut under_way = FuturesUnordered::new();
        let (mut expired, mut counted) = (Instant::now(), None::<Instant>);
        let mut late = Late::new(self.parts.clock.now());
        while !stop.is_cancelled() {
            let mut rest = LOOK;
            if under_way.len() < UNDER_WAY && self.parts.intake.is_on() {
                if expired.elapsed() >= EXPIRE {
                    expired = Instant::now();
                    beside(&mut under_way, self.expire()).await;
                }
                if counted.is_none_or(|at| at.elapsed() >= COUNT) {
                    counted = Some(Instant::now());
                    beside(&mut under_way, self.count_waiting()).await;
                }
                beside(&mut under_way, self.rouse(&mut late)).await;
                let Ok(composing) = beside(&mut under_way, self.room()).await else { break };
                match beside(&mut under_way, self.take()).await {
                    Ok((taken, lease)) if !taken.is_empty() => {
                        under_way.push(self.deliver(taken, lease, composing));
                        rest = Duration::ZERO;
                    }
                    Ok(_) => rest = beside(&mut under_way, self.rest()).await,
                    Err(error) => {
                        tracing::debug!(%error, "no pushes were taken; it is tried again");
                        rest = PAUSE;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Some(()) = under_way.next() => {}
                () = self.wanted.notified() => {}
                () = sleep(rest) => {}
            }
        }
        let finish = async { while under_way.next().await.is_some() {} };
        // What does not end in time is taken again when its lease is over.
        let _ = timeout(self.options.finishing, finish).await;
    }

    /// Waits until more may be taken. While a courier has no room it is waited for a moment, and then taken all the same: there may be something
    /// for others, and what is for that one is put off.
    async fn room(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        let all = async {
            for room in self.rooms.iter().flatten() {
                drop(room.acquire().await);
            }
        };
        let _ = timeout(ROOM, all).await;
        self.composing.acquire().await
    }

    /// Takes what is due, as far as anybody brings it.
    async fn take(&self) -> Result<(Vec<TakenTask>, Lease), StoreError> {
        let length = lease::length(self.options.store_timeout);
        let (lease, now) = (Lease::new(length, Instant::now()), self.parts.clock.now());
        if !self.resting().is_zero() {
            return Ok((Vec::new(), lease));
        }
        Ok((self.parts.store.take(now, now.after(length), TOGETHER).await?, lease))
    }

    /// How long no courier takes anything.
    fn resting(&self) -> Duration {
        self.parts.couriers.iter().map(|courier| courier.rests()).min().unwrap_or(LOOK)
    }

    /// For how long nothing becomes due, or when to look again.
    async fn rest(&self) -> Duration {
        let Ok(next) = self.parts.store.next_due().await else { return PAUSE };
        let due = next.map_or(LOOK, |next| next.since(self.parts.clock.now()));
        // One that was due a moment ago was taken by another node.
        due.max(self.resting()).clamp(Duration::from_millis(20), LOOK)
    }

    async fn count_waiting(&self) {
        if let Ok(WaitingTasks { count, .. }) = self.parts.store.waiting().await {
            self.parts.metrics.push_waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Has tasks due that would be only when the clock shows again what it has shown before it was set back, if it was.
    async fn rouse(&self, late: &mut Late) {
        let length = lease::length(self.options.store_timeout);
        let now = self.parts.clock.now();
        let Some(stored_after) = late.look((now, Instant::now()), length) else { return };
        match self.parts.store.rouse(now, now.after(length), stored_after).await {
            Ok(0) => late.when = None,
            Ok(tasks) => {
                tracing::info!(tasks, "pushes are due now that were put off by a clock that was ahead");
                late.when = None;
            }
            Err(error) => tracing::debug!(%error, "it is tried again to find pushes that a clock has put off"),
        }
    }

    async fn expire(&self) {
        // Compose knows it exactly; this is for what nobody takes.
        let before = self.parts.clock.now().before(self.options.ttl + DAY);
        match self.parts.store.expire(before).await {
            Ok(removed) => (0..removed.min(10_000)).for_each(|_| self.parts.metrics.push_task("expired")),
            Err(error) => tracing::debug!(%error, "pushes that are too old were not removed"),
        }
    }

    /// Hands tasks over, and stores what became of them.
    async fn deliver(&self, taken: Vec<TakenTask>, lease: Lease, composing: SemaphorePermit<'_>) {
        let (batch, taken, again) = self.held.hold(taken, lease);
        // What becomes of those is stored by who has them in hand.
        (0..again).for_each(|_| self.parts.metrics.push_task("taken_again"));
        let work = pin!(self.hand_over(taken, &batch, composing));
        match select(work, pin!(self.keep(&batch))).await {
            Either::Left(((), _)) => {}
            Either::Right((never, _)) => match never {},
        }
    }

    /// Says again and again that tasks are under way still. Calls of the store run in tasks of their own: whoever stops this interrupts none.
    async fn keep(&self, batch: &Batch<'_>) -> Infallible {
        let mut begun = Instant::now();
        loop {
            // However long that took: what counts is when it was said.
            sleep_until(begun + lease::RENEW).await;
            let _writing = batch.writing.lock().await;
            begun = Instant::now();
            let until = self.parts.clock.now().after(lease::length(self.options.store_timeout));
            let kept = batch.renewed().into_iter().map(|taken| (taken, Settled::Kept { until })).collect();
            match self.parts.store.settle(kept).await {
                // If another node has them since, nothing was stored, and it is late: this one has nothing to hand over any more.
                Ok(()) if batch.lease.is_held() => batch.lease.renew(begun),
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "that pushes are under way still was not stored"),
            }
        }
    }

    /// A task that is tried again, later each time that it was tried, and never all at the same time.
    pub(super) fn postponed(&self, mut taken: TakenTask, why: &'static str, asked: Option<Duration>) -> End {
        let (pause, failures) = match push::is_untried(why) {
            true => (asked.unwrap_or_default().max(PAUSE), taken.failures),
            false => (pause_after(taken.failures.saturating_add(1), asked), taken.failures.saturating_add(1)),
        };
        let half = u64::try_from(pause.as_millis() / 2).unwrap_or(u64::MAX);
        let jitter = Duration::from_millis(self.parts.ids.below(half.saturating_add(1)));
        tracing::debug!(why, attempts = taken.attempts, failures, "a push is tried again later");
        let due = self.parts.clock.now().after(pause + jitter);
        taken.is_in_doubt |= push::may_be_taken(why);
        End::of(taken, Settled::Postponed { due, failures }, "postponed")
    }

    /// Stores what became of tasks; which devices were told first: then nobody tells them again, whatever becomes of the rest.
    pub(super) async fn settle(&self, batch: &Batch<'_>, ends: Vec<End>) {
        for end in &ends {
            self.parts.metrics.push_task(end.outcome);
        }
        let told: Vec<DeviceMark> = ends.iter().filter_map(|end| end.told.clone()).collect();
        if !told.is_empty() {
            self.insist(|| self.parts.store.acknowledge(told.clone())).await;
        }
        let toggled: Vec<MemberId> = ends.iter().filter_map(End::toggled).collect();
        let numbers: HashSet<(MemberId, DeviceId)> = ends.iter().filter_map(End::told_badge).collect();
        let quiet: Vec<(TakenTask, Timestamp)> = ends.iter().filter_map(End::quiet).collect();
        let settled: Vec<(TakenTask, Settled)> = ends.into_iter().map(|end| (end.taken, end.settled)).collect();
        let is_over = |settled: &Settled| matches!(settled, Settled::Finished { .. });
        // What is put off is not under way any more. What is over is, until that is stored.
        batch.let_go(settled.iter().filter(|(_, settled)| !is_over(settled)).map(|(taken, _)| taken));
        if !settled.is_empty() {
            self.insist(|| async {
                let _writing = batch.writing.lock().await;
                self.parts.store.settle(settled.clone()).await
            })
            .await;
        }
        batch.settled(settled.iter().map(|(taken, _)| taken));
        // After it is stored that a device shows a number: whatever is read from now on is to be taken away from it, by whatever node.
        for member in toggled {
            self.changed(member);
        }
        // After that, too: what was read before it was stored is seen here, and what is read from now on by who hears of it.
        if !numbers.is_empty() {
            self.insist(|| self.compare_told(&numbers)).await;
        }
        if !quiet.is_empty() {
            self.look_at_quiet_hours_again(quiet).await;
        }
    }

    /// Who has chosen other quiet hours while tasks were in hand has not hurried those, which were put off since: they are due now.
    async fn look_at_quiet_hours_again(&self, quiet: Vec<(TakenTask, Timestamp)>) {
        let (now, mut ends, mut awake) = (self.parts.clock.now(), HashMap::new(), Vec::new());
        for (taken, until) in quiet {
            let member = taken.task.member;
            if let Entry::Vacant(place) = ends.entry(member) {
                let Ok(choice) = self.parts.store.choice(Caller::System, member).await else { continue };
                place.insert(choice.quiet_hours.and_then(|quiet| quiet::until(&quiet, now)));
            }
            if ends.get(&member).is_some_and(|end| *end != Some(until)) {
                let failures = taken.failures;
                awake.push((taken, Settled::Postponed { due: now, failures }));
            }
        }
        if !awake.is_empty() {
            self.insist(|| self.parts.store.settle(awake.clone())).await;
            self.wanted.notify_one();
        }
    }

    /// Has something stored, and tries again if that fails. In the end the tasks are due again when their lease is over.
    pub(super) async fn insist<F: Future<Output = Result<(), StoreError>>>(&self, store: impl Fn() -> F) {
        let (begun, mut pause) = (Instant::now(), Duration::from_millis(100));
        while let Err(error) = store().await {
            tracing::debug!(%error, "what became of pushes was not stored");
            if begun.elapsed() >= INSIST {
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(INSIST_PAUSE);
        }
    }

    /// Removes addresses at which nobody is any more, as couriers find out.
    pub(super) async fn ask_for_receipts(&self) {
        loop {
            for courier in &self.parts.couriers {
                for (address, registration) in courier.found_gone().await {
                    self.insist(|| self.parts.store.address_gone(address, registration)).await;
                }
            }
            sleep(RECEIPTS).await;
        }
    }
}

/// When tasks are looked for that a clock has put off that is not ahead any more.
struct Late {
    steps: Steps,
    when: Option<Instant>,
    /// Of those only whose last message was stored after that.
    stored_after: Timestamp,
}

impl Late {
    /// At the start. It may have been set back since tasks were written: those tell by when their messages were stored.
    fn new(now: Timestamp) -> Self {
        let started = Instant::now();
        Self { steps: Steps::new(now, started), when: Some(started), stored_after: now.after(AHEAD) }
    }

    /// Whether they are to be looked for now, and which. After a step back when what is in hand was said to be by the new time.
    fn look(&mut self, (wall, at): (Timestamp, Instant), lease: Duration) -> Option<Timestamp> {
        if self.steps.look(wall, at).is_some_and(|milliseconds| milliseconds < 0) {
            (self.when, self.stored_after) = (Some(at + lease), Timestamp::from_millis(0));
        }
        self.when.filter(|when| *when <= at).map(|_| self.stored_after)
    }
}

/// How long to wait after so many failures: twice as long each time, and as long at least as the service asks for. Never not at all: while
/// one request is tried to see whether a service is back, the others would be asked for again and again.
fn pause_after(failures: u32, asked: Option<Duration>) -> Duration {
    let doubled = failures.saturating_sub(1).min(16);
    PAUSE.saturating_mul(1 << doubled).min(PAUSE_MAX).max(asked.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_waits_longer_each_time_and_is_never_made_at_once() {
        let seconds = |failures, asked: Option<u64>| pause_after(failures, asked.map(Duration::from_secs)).as_secs();
        assert_eq!([1, 2, 3, 4, 39].map(|failures| seconds(failures, None)), [2, 4, 8, 16, 300]);
        assert_eq!([Some(600), Some(10), Some(0)].map(|asked| seconds(3, asked)), [600, 10, 8], "nobody asks for less");
    }
}
