//! Calls that wait for a place, fair between those whose they are: for a thread that reads SQLite, for a connection to MongoDB.
//!
//! Callers take turns, whatever each has waiting; light calls, syncs and heavy calls take turns as well, and of several places
//! the long ones never have all. So whoever comes waits for one call of each of the others of that weight at most, and never for
//! everything of one, and a search does not wait for all who sync.

use std::collections::{HashMap, VecDeque};

use super::turns::{Caller, Turn, Weight};

/// Reads of one caller that wait, for each weight; more are refused.
pub(in crate::store) const EACH: usize = 256;
/// Reads that wait in all, for each weight. From half of it on only those are taken whose caller has none waiting yet.
pub(in crate::store) const ALL: usize = 8_192;

/// There is no room for the read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Full;

/// Reads of one weight.
struct Waiting<J> {
    /// Who has reads waiting, in the order of their turns.
    turns: VecDeque<Caller>,
    jobs: HashMap<Caller, VecDeque<J>>,
    count: usize,
}

impl<J> Waiting<J> {
    fn new() -> Self {
        Self { turns: VecDeque::new(), jobs: HashMap::new(), count: 0 }
    }

    fn push(&mut self, caller: Caller, job: J) -> Result<(), Full> {
        let own = self.jobs.get(&caller).map_or(0, VecDeque::len);
        if own >= EACH || self.count >= ALL || (self.count >= ALL / 2 && own > 0) {
            return Err(Full);
        }
        let jobs = self.jobs.entry(caller).or_default();
        if jobs.is_empty() {
            self.turns.push_back(caller);
        }
        jobs.push_back(job);
        self.count += 1;
        Ok(())
    }

    fn retain(&mut self, caller: Caller, keep: impl Fn(&J) -> bool) {
        let Some(jobs) = self.jobs.get_mut(&caller) else { return };
        let before = jobs.len();
        jobs.retain(keep);
        self.count -= before - jobs.len();
        if jobs.is_empty() {
            self.jobs.remove(&caller);
            self.turns.retain(|other| *other != caller);
        }
    }

    fn pop(&mut self) -> Option<J> {
        let caller = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&caller)?;
        let job = jobs.pop_front()?;
        if jobs.is_empty() {
            self.jobs.remove(&caller);
        } else {
            self.turns.push_back(caller);
        }
        self.count -= 1;
        Some(job)
    }
}

/// The calls that wait for one of a number of places.
pub(in crate::store) struct Queue<J> {
    light: Waiting<J>,
    sync: Waiting<J>,
    heavy: Waiting<J>,
    /// Long reads, syncs and heavy ones, that are running, and how many may.
    running: usize,
    places: usize,
    /// Whose turn it is when all have some.
    next: Weight,
}

impl<J> Queue<J> {
    /// An empty queue for a number of places, all but one of which long reads may have.
    pub(in crate::store) fn new(places: usize) -> Self {
        Self::with_heavy(places.saturating_sub(1).max(1))
    }

    /// An empty queue with so many places for long reads.
    pub(in crate::store) fn with_heavy(places: usize) -> Self {
        let [light, sync, heavy] = std::array::from_fn(|_| Waiting::new());
        Self { light, sync, heavy, running: 0, places, next: Weight::Light }
    }

    fn of(&mut self, weight: Weight) -> &mut Waiting<J> {
        match weight {
            Weight::Light => &mut self.light,
            Weight::Sync => &mut self.sync,
            Weight::Heavy => &mut self.heavy,
        }
    }

    /// Takes a read.
    pub(in crate::store) fn push(&mut self, turn: Turn, job: J) -> Result<(), Full> {
        self.of(turn.weight).push(turn.caller, job)
    }

    /// The read whose turn it is. It has to be [`Queue::finished`].
    pub(in crate::store) fn pop(&mut self) -> Option<(J, Weight)> {
        let mut weight = self.next;
        for _ in 0..3 {
            let may_run = weight.is_light() || self.running < self.places;
            if let Some(job) = may_run.then(|| self.of(weight).pop()).flatten() {
                self.next = after(weight);
                self.running += usize::from(!weight.is_light());
                return Some((job, weight));
            }
            weight = after(weight);
        }
        None
    }

    /// Keeps of the jobs of a caller that wait only some.
    pub(in crate::store) fn retain(&mut self, turn: Turn, keep: impl Fn(&J) -> bool) {
        self.of(turn.weight).retain(turn.caller, keep);
    }

    /// A read has ended.
    pub(in crate::store) fn finished(&mut self, weight: Weight) {
        self.running -= usize::from(!weight.is_light());
    }

    /// Whether nothing waits.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.light.count + self.sync.count + self.heavy.count == 0
    }
}

/// Whose turn it is after a weight.
const fn after(weight: Weight) -> Weight {
    match weight {
        Weight::Light => Weight::Sync,
        Weight::Sync => Weight::Heavy,
        Weight::Heavy => Weight::Light,
    }
}

#[cfg(test)]
mod tests {
    use protocol::MemberId;

    use super::*;

    fn member(number: u8) -> MemberId {
        MemberId::from_bytes([number; 12])
    }

    #[test]
    fn callers_take_turns_however_much_one_has_waiting() {
        let mut queue = Queue::new(4);
        for number in 0..200 {
            queue.push(Turn::light(member(1)), (1, number)).unwrap();
        }
        queue.push(Turn::light(member(2)), (2, 0)).unwrap();
        queue.push(Turn::SYSTEM, (3, 0)).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(job, _)| job).collect();
        assert_eq!(order[..5], [(1, 0), (2, 0), (3, 0), (1, 1), (1, 2)]);
        assert_eq!(order.len(), 202);
        assert!(queue.is_empty() && queue.light.jobs.is_empty() && queue.light.turns.is_empty(), "nothing is kept");
    }

    #[test]
    fn heavy_reads_leave_a_thread_to_the_light_ones() {
        let mut queue = Queue::new(3);
        for number in 0..10 {
            queue.push(Turn::heavy(member(number)), "heavy").unwrap();
        }
        assert_eq!((queue.pop(), queue.pop()), (Some(("heavy", Weight::Heavy)), Some(("heavy", Weight::Heavy))));
        assert_eq!(queue.pop(), None, "the third thread waits for something light");
        queue.push(Turn::light(member(0)), "light").unwrap();
        assert_eq!(queue.pop(), Some(("light", Weight::Light)));
        queue.finished(Weight::Light);
        assert_eq!(queue.pop(), None);
        queue.finished(Weight::Heavy);
        assert_eq!(queue.pop(), Some(("heavy", Weight::Heavy)));
    }

    #[test]
    fn light_and_heavy_reads_take_turns() {
        let mut queue = Queue::new(1);
        for _ in 0..3 {
            queue.push(Turn::light(member(1)), ()).unwrap();
            queue.push(Turn::heavy(member(1)), ()).unwrap();
        }
        let order: Vec<_> = std::iter::from_fn(|| {
            let (_, weight) = queue.pop()?;
            queue.finished(weight);
            Some(weight)
        })
        .collect();
        assert_eq!(order, [Weight::Light, Weight::Heavy].repeat(3));
    }

    #[test]
    fn a_search_does_not_wait_for_all_who_sync() {
        let mut queue = Queue::new(3);
        for number in 0..100 {
            queue.push(Turn::sync(member(number)), "sync").unwrap();
        }
        queue.push(Turn::heavy(member(200)), "search").unwrap();
        let mut pop = || queue.pop().map(|(job, _)| job);
        assert_eq!([pop(), pop(), pop()], [Some("sync"), Some("search"), None], "together they leave a place");
        queue.push(Turn::light(member(201)), "history").unwrap();
        assert_eq!(queue.pop(), Some(("history", Weight::Light)));
        queue.finished(Weight::Heavy);
        assert_eq!(queue.pop(), Some(("sync", Weight::Sync)));
    }

    #[test]
    fn whoever_has_too_much_waiting_is_refused_and_nobody_else() {
        let mut queue = Queue::new(4);
        for _ in 0..EACH {
            queue.push(Turn::heavy(member(1)), ()).unwrap();
        }
        assert_eq!(queue.push(Turn::heavy(member(1)), ()), Err(Full));
        queue.push(Turn::heavy(member(2)), ()).unwrap();
        for number in 3..255 {
            while queue.heavy.count < ALL / 2 && queue.push(Turn::heavy(member(number)), ()).is_ok() {}
        }
        assert_eq!(queue.heavy.count, ALL / 2);
        assert_eq!(queue.push(Turn::heavy(member(2)), ()), Err(Full), "has one waiting already");
        queue.push(Turn::heavy(member(255)), ()).unwrap();
    }
}
