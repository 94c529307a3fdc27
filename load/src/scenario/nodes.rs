//! The nodes that clients connect to, how they choose one, and what the clients together know of them.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng as _, rngs::StdRng};
use tokio::time::Instant;

use super::hops::Hops;
use crate::book::Verdict;

/// A delivery across nodes that takes longer is a slow one, unless something else is said. In milliseconds.
const SLOW: u64 = 50;
/// Deliveries across nodes are counted by tenths of a second.
const BUCKET: Duration = Duration::from_millis(100);
/// So many tenths in a row have to be good.
const GOOD: usize = 10;

/// Where members connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Anywhere at first, and to another node each time they come back.
    Hopping,
    /// Both members of a pair at one node.
    Together,
    /// The members of a pair at different nodes.
    Across,
}

/// One node.
struct Node {
    addr: SocketAddr,
    /// Messages that were accepted here.
    accepted: AtomicU64,
}

/// Deliveries across nodes in a tenth of a second.
#[derive(Debug, Default, Clone, Copy)]
struct Bucket {
    fast: u32,
    slow: u32,
}

/// All nodes. One alone is a server as ever.
pub(crate) struct Nodes {
    nodes: Box<[Node]>,
    placement: Placement,
    /// Of those who stay where they are.
    pub(super) hops: Hops,
    /// Since then, by when they arrived.
    started: Instant,
    buckets: Mutex<Vec<Bucket>>,
    /// What a slow delivery is, in milliseconds.
    slow: AtomicU64,
    /// What all comparisons of views with the log have found.
    verdict: Mutex<Verdict>,
}

impl Nodes {
    /// These nodes.
    pub(crate) fn new(addrs: &[SocketAddr], placement: Placement) -> Self {
        let node = |addr: &SocketAddr| Node { addr: *addr, accepted: AtomicU64::new(0) };
        Self {
            nodes: addrs.iter().map(node).collect(),
            hops: Hops::default(),
            placement,
            started: Instant::now(),
            buckets: Mutex::default(),
            slow: AtomicU64::new(SLOW),
            verdict: Mutex::default(),
        }
    }

    /// Whether pairs stay where they are, so that within one node and across nodes can be compared.
    pub(crate) fn is_compared(&self) -> bool {
        self.placement != Placement::Hopping
    }

    /// Whether there are several.
    pub(crate) fn is_fleet(&self) -> bool {
        self.nodes.len() > 1
    }

    /// Where a node listens.
    pub(crate) fn addr(&self, node: usize) -> Option<SocketAddr> {
        self.nodes.get(node).map(|node| node.addr)
    }

    /// Where a member begins.
    pub(crate) fn first(&self, member: usize, random: &mut StdRng) -> usize {
        let nodes = self.nodes.len().max(1);
        match self.placement {
            Placement::Hopping if nodes > 1 => random.random_range(0..nodes),
            Placement::Hopping | Placement::Together => (member / 2) % nodes,
            Placement::Across => (member / 2 + member % 2) % nodes,
        }
    }

    /// Where a member comes back to.
    pub(crate) fn next(&self, node: usize, random: &mut StdRng) -> usize {
        let nodes = self.nodes.len();
        if self.placement != Placement::Hopping || nodes < 2 {
            return node;
        }
        (node + random.random_range(1..nodes)) % nodes
    }

    /// A message was accepted by a node.
    pub(crate) fn accepted(&self, node: usize) {
        if let Some(node) = self.nodes.get(node) {
            node.accepted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Messages that each node has accepted.
    pub(crate) fn accepted_by_each(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.accepted.load(Ordering::Relaxed)).collect()
    }

    /// From now on a delivery across nodes is slow when it takes longer than this.
    pub(crate) fn call_slow(&self, beyond: Duration) {
        self.slow.store(u64::try_from(beyond.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A message arrived from another node.
    pub(crate) fn arrived(&self, took: Duration) {
        let place = self.bucket(Instant::now());
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() <= place {
            buckets.resize(place + 1, Bucket::default());
        }
        if let Some(bucket) = buckets.get_mut(place) {
            if took.as_millis() > u128::from(self.slow.load(Ordering::Relaxed)) {
                bucket.slow += 1;
            } else {
                bucket.fast += 1;
            }
        }
    }

    fn bucket(&self, at: Instant) -> usize {
        let tenths = at.saturating_duration_since(self.started).as_millis() / BUCKET.as_millis();
        usize::try_from(tenths).unwrap_or(usize::MAX)
    }

    /// How long after a moment deliveries across nodes were fast again and stayed so for a second; none: not yet.
    pub(crate) fn whole_after(&self, moment: Instant) -> Option<Duration> {
        let (first, now) = (self.bucket(moment), self.bucket(Instant::now()));
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |place: usize| buckets.get(place).copied().unwrap_or_default();
        // The tenth that is not over says nothing yet.
        let last = now.checked_sub(GOOD).filter(|last| *last >= first)?;
        let good = (first..=last).find(|begin| is_good((*begin..*begin + GOOD).map(at)))?;
        let at = self.started + BUCKET * u32::try_from(good).ok()?;
        Some(at.saturating_duration_since(moment))
    }

    /// A view was compared with the log.
    pub(crate) fn judged(&self, verdict: Verdict) {
        let mut all = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        all.lost += verdict.lost;
        all.doubled += verdict.doubled;
        all.holes += verdict.holes;
        all.missing += verdict.missing;
        all.passed += verdict.passed;
    }

    /// What all comparisons have found.
    pub(crate) fn verdict(&self) -> Verdict {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether messages came across in every half of the time, and hardly any was slow: a busy machine makes one wait now and then.
fn is_good(buckets: impl Iterator<Item = Bucket>) -> bool {
    let (mut fast, mut slow) = (0, 0);
    for bucket in buckets {
        fast += bucket.fast;
        slow += bucket.slow;
        if bucket.slow > bucket.fast {
            return false;
        }
    }
    fast > 0 && slow * 50 <= fast
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn nodes(placement: Placement) -> Nodes {
        let addrs: Vec<SocketAddr> = (1..=3).map(|port| ([127, 0, 0, 1], port).into()).collect();
        Nodes::new(&addrs, placement)
    }

    #[test]
    fn pairs_are_together_or_across_and_stay() {
        let mut random = StdRng::seed_from_u64(1);
        for pair in 0..10 {
            let ends =
                |nodes: &Nodes, random: &mut StdRng| (nodes.first(pair * 2, random), nodes.first(pair * 2 + 1, random));
            let (one, other) = ends(&nodes(Placement::Together), &mut random);
            assert_eq!(one, other);
            let (one, other) = ends(&nodes(Placement::Across), &mut random);
            assert_ne!(one, other);
            assert_eq!(nodes(Placement::Across).next(one, &mut random), one);
            assert_ne!(nodes(Placement::Hopping).next(one, &mut random), one);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_whole_once_messages_come_fast_for_a_second() {
        let nodes = nodes(Placement::Hopping);
        let fault = Instant::now();
        for tenth in 0..40 {
            let took = if tenth < 15 { 400 } else { 3 };
            nodes.arrived(Duration::from_millis(took));
            assert!(tenth >= 25 || nodes.whole_after(fault).is_none(), "{tenth}");
            tokio::time::advance(BUCKET).await;
        }
        assert_eq!(nodes.whole_after(fault), Some(Duration::from_millis(1_500)));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_not_whole() {
        let nodes = nodes(Placement::Hopping);
        let fault = Instant::now();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(nodes.whole_after(fault), None);
    }
}
