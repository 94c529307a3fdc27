//! Whose call goes to the database next.
//!
//! The driver hands the connections of its pool to whoever comes first, so without this the calls of one member would stand
//! before those of all others. A call waits until its caller has few enough under way, in the order in which these came,
//! and then for its turn among all callers ([`crate::store::queue`]). Reads and writes have places of their own; together
//! they leave connections of the pool to the log, to the beat and to work that is under way for longer than anybody waits.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::store::{
    StoreError,
    queue::{Full, Queue},
    turns::{Turn, Weight},
};

/// Commands that one heavy read has under way at the same time.
pub(super) const PARALLEL: usize = 4;
/// Light calls of one caller under way, at most, however large the pool is.
const LIGHT_EACH: usize = 8;
/// Heavy ones.
const HEAVY_EACH: usize = 2;
/// Calls of one caller under way and waiting, for each weight; more are refused.
const EACH: usize = 256;

/// How many calls may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    /// In all.
    all: usize,
    /// Heavy ones among them.
    heavy: usize,
    /// Light ones of one caller.
    light_each: usize,
    /// Heavy ones of one caller.
    heavy_each: usize,
}

impl Limits {
    /// Reads, for a pool of so many connections: two fifths of it, and a fifth more for what heavy ones do in parallel.
    fn reads(pool: usize) -> Self {
        let (all, heavy) = ((pool * 2 / 5).max(2), (pool / 4 / PARALLEL).max(1));
        Self { all, heavy, light_each: (all / 4).clamp(1, LIGHT_EACH), heavy_each: (heavy / 2).clamp(1, HEAVY_EACH) }
    }

    /// Writes that are not the log's: an eighth of it.
    fn writes(pool: usize) -> Self {
        let all = (pool / 8).max(3);
        Self { all, heavy: 1, light_each: (all / 4).clamp(1, LIGHT_EACH), heavy_each: 1 }
    }
}

/// Whose calls are under way or wait.
pub(super) struct CallGate {
    limits: Limits,
    callers: Arc<Mutex<HashMap<Turn, CallerCalls>>>,
    gate: Arc<Mutex<Gate>>,
}

/// What all callers share.
struct Gate {
    queue: Queue<oneshot::Sender<Pass>>,
    free: usize,
}

struct CallerCalls {
    free: Arc<Semaphore>,
    /// Those under way and those that wait: without any the entry is gone.
    users: usize,
}

/// A call under way. Given back when it is dropped.
pub(super) struct Permit {
    _pass: Pass,
    _permit: OwnedSemaphorePermit,
    _user: CallerUse,
}

/// A place among all callers.
struct Pass {
    /// Nothing once it was given back.
    gate: Option<Arc<Mutex<Gate>>>,
    weight: Weight,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else { return };
        lock(&gate).give_back(self.weight);
        advance(&gate);
    }
}

impl Gate {
    fn give_back(&mut self, weight: Weight) {
        self.free += 1;
        self.queue.finished(weight);
    }
}

/// Somebody in the queue; who leaves it without a place leaves nothing in there.
struct Queued<'a> {
    gate: &'a Mutex<Gate>,
    turn: Turn,
    left: bool,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if !self.left {
            lock(self.gate).queue.retain(self.turn, |sender| !sender.is_closed());
        }
    }
}

/// Somebody who waits or calls.
struct CallerUse {
    callers: Arc<Mutex<HashMap<Turn, CallerCalls>>>,
    turn: Turn,
}

impl Drop for CallerUse {
    fn drop(&mut self) {
        if let Entry::Occupied(mut places) = lock(&self.callers).entry(self.turn) {
            places.get_mut().users -= 1;
            if places.get().users == 0 {
                places.remove();
            }
        }
    }
}

impl CallGate {
    /// The turns of reads, for a pool of so many connections.
    pub(super) fn of_reads(pool: usize) -> Self {
        Self::new(Limits::reads(pool))
    }

    /// The turns of writes.
    pub(super) fn of_writes(pool: usize) -> Self {
        Self::new(Limits::writes(pool))
    }

    fn new(limits: Limits) -> Self {
        let gate = Gate { queue: Queue::with_heavy(limits.heavy), free: limits.all };
        Self { limits, callers: Arc::default(), gate: Arc::new(Mutex::new(gate)) }
    }

    /// Waits for the turn of a call.
    pub(super) async fn wait(&self, turn: Turn) -> Result<Permit, StoreError> {
        let (free, user) = self.enter(turn)?;
        // It is never closed.
        let permit = free.acquire_owned().await.map_err(|_| StoreError::Overloaded)?;
        // Dropped after the receiver, whose sender is closed by then.
        let mut queued = Queued { gate: &self.gate, turn, left: false };
        let (sender, pass) = oneshot::channel();
        lock(&self.gate).queue.push(turn, sender).map_err(|Full| StoreError::Overloaded)?;
        advance(&self.gate);
        // Every sender in the queue is used in the end.
        let pass = pass.await.map_err(|_| StoreError::Overloaded)?;
        queued.left = true;
        Ok(Permit { _pass: pass, _permit: permit, _user: user })
    }

    fn enter(&self, turn: Turn) -> Result<(Arc<Semaphore>, CallerUse), StoreError> {
        let mut callers = lock(&self.callers);
        let size = match turn.weight {
            Weight::Light => self.limits.light_each,
            Weight::Sync | Weight::Heavy => self.limits.heavy_each,
        };
        let places =
            callers.entry(turn).or_insert_with(|| CallerCalls { free: Arc::new(Semaphore::new(size)), users: 0 });
        if places.users >= EACH {
            return Err(StoreError::Overloaded);
        }
        places.users += 1;
        Ok((Arc::clone(&places.free), CallerUse { callers: Arc::clone(&self.callers), turn }))
    }
}

/// Gives the places that are free to those whose turn it is.
fn advance(gate: &Arc<Mutex<Gate>>) {
    loop {
        let mut state = lock(gate);
        if state.free == 0 {
            return;
        }
        let Some((sender, weight)) = state.queue.pop() else { return };
        state.free -= 1;
        drop(state);
        let pass = Pass { gate: Some(Arc::clone(gate)), weight };
        if let Err(mut pass) = sender.send(pass) {
            // Somebody who waits no more. Not dropped: that would come back here, once for each of them.
            pass.gate = None;
            lock(gate).give_back(weight);
        }
    }
}

/// Nothing under the locks panics.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt as _;
    use protocol::MemberId;

    use super::*;

    type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Permit, StoreError>> + 'a>>;

    fn heavy(number: u8) -> Turn {
        Turn::heavy(MemberId::from_bytes([number; 12]))
    }

    fn light(number: u8) -> Turn {
        Turn::light(MemberId::from_bytes([number; 12]))
    }

    fn now(turns: &CallGate, turn: Turn) -> Option<Permit> {
        turns.wait(turn).now_or_never().map(Result::unwrap)
    }

    /// Takes all light places, each caller as many as it may have.
    fn taken(turns: &CallGate) -> Vec<Permit> {
        let Limits { all, light_each, .. } = turns.limits;
        let callers =
            (0..u8::try_from(all / light_each).unwrap()).flat_map(|number| (0..light_each).map(move |_| number));
        let taken: Vec<_> = callers.map(|number| now(turns, light(number)).unwrap()).collect();
        assert_eq!(lock(&turns.gate).free, 0);
        taken
    }

    /// Polls in this order, as those who wait would be woken.
    fn arrived(waiting: &mut [Waiting<'_>]) -> Vec<usize> {
        let mut arrived = Vec::new();
        for (number, waiting) in waiting.iter_mut().enumerate() {
            if waiting.as_mut().now_or_never().is_some() {
                arrived.push(number);
            }
        }
        arrived
    }

    #[test]
    fn the_calls_of_all_leave_connections_to_the_log() {
        for pool in [1, 4, 10, 64, 100, 500] {
            let (reads, writes) = (Limits::reads(pool), Limits::writes(pool));
            let most = reads.all + reads.heavy * (PARALLEL - 1) + writes.all;
            assert!(pool < 24 || most <= pool * 4 / 5, "{most} of {pool}");
            assert!(pool < 10 || most <= pool, "{most} of {pool}");
            assert!(reads.heavy < reads.all && reads.light_each < reads.all && reads.heavy_each <= reads.heavy);
        }
    }

    #[tokio::test]
    async fn a_member_has_so_many_calls_at_a_time_and_others_have_theirs() {
        let turns = CallGate::of_reads(64);
        let Limits { heavy_each, .. } = turns.limits;
        let mut places: Vec<_> = (0..heavy_each).map(|_| now(&turns, heavy(1)).unwrap()).collect();
        let mut waiting: Vec<Waiting<'_>> =
            (heavy_each..EACH).map(|_| Box::pin(turns.wait(heavy(1))) as Waiting<'_>).collect();
        assert!(arrived(&mut waiting).is_empty());
        assert_eq!(turns.wait(heavy(1)).await.err(), Some(StoreError::Overloaded), "too many wait");
        let others: Vec<_> = (0..heavy_each).map(|_| now(&turns, Turn::HEAVY_SYSTEM).unwrap()).collect();
        assert!(now(&turns, Turn::HEAVY_SYSTEM).is_none(), "the server is a caller like others");
        assert!(now(&turns, light(1)).is_some(), "a light one");
        places.pop();
        assert!(waiting[0].as_mut().now_or_never().is_some(), "the first one that waits");
        drop((places, waiting, others));
        assert!(lock(&turns.callers).is_empty(), "nothing is kept");
        assert_eq!(lock(&turns.gate).free, turns.limits.all);
    }

    /// Found by an attacker: fifteen members had all ten connections of the driver's pool, and who came then waited for seconds.
    #[tokio::test]
    async fn when_all_places_are_taken_callers_take_turns() {
        let turns = CallGate::of_reads(16);
        let mut taken = taken(&turns);
        let mut waiting: Vec<Waiting<'_>> =
            vec![Box::pin(turns.wait(light(100))), Box::pin(turns.wait(light(100))), Box::pin(turns.wait(light(101)))];
        assert!(arrived(&mut waiting).is_empty());
        taken.pop();
        assert!(waiting[0].as_mut().now_or_never().is_some());
        taken.pop();
        assert!(waiting[2].as_mut().now_or_never().is_some(), "the second one of another comes after this one");
    }

    /// Outside of a runtime, where a task that polls that much would be made to pause.
    #[test]
    fn who_waits_no_more_takes_no_place() {
        let turns = CallGate::of_reads(16);
        let mut taken = taken(&turns);
        let mut gone: Waiting<'_> = Box::pin(turns.wait(light(100)));
        let mut stays: Waiting<'_> = Box::pin(turns.wait(light(101)));
        assert!(gone.as_mut().now_or_never().is_none() && stays.as_mut().now_or_never().is_none());
        drop(gone);
        // A long hang leaves nothing behind either: neither in the queue, nor on the stack of who gives the first place back.
        for number in 0..20_000_u32 {
            let mut member = [7; 12];
            member[..4].copy_from_slice(&number.to_be_bytes());
            assert!(turns.wait(Turn::light(MemberId::from_bytes(member))).now_or_never().is_none());
        }
        taken.pop();
        assert!(stays.as_mut().now_or_never().is_some());
        drop((taken, stays));
        assert_eq!(lock(&turns.gate).free, turns.limits.all);
    }
}
