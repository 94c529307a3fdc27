//! What this node asks all others: how many connections members have, and how the nodes are.
//!
//! Whoever asks waits for the answers of the nodes that live, and half a second at most: what has not come by then is missing
//! in what they are told, and they are told that.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol::{MemberId, limits, rest::NodeStats};
use tokio::{sync::Notify, time::timeout};

use super::Fleet;
use crate::cluster::{
    Channel, NodeId,
    event::{Answer, Note, Question},
};

/// How long answers are waited for.
const ANSWERED: Duration = Duration::from_millis(500);

/// Members of whom a question can be, at most: a page of them.
const MEMBERS_MAX: usize = limits::PAGE_MAX as usize;

/// Questions that wait for answers.
#[derive(Default)]
pub(super) struct Questions {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Open>>,
}

struct Open {
    missing: HashSet<NodeId>,
    answers: Vec<Answer>,
    complete: Arc<Notify>,
}

/// A question, until it is dropped.
struct Asked<'a> {
    questions: &'a Questions,
    number: u64,
    complete: Arc<Notify>,
}

/// What others have answered, and how many have not.
struct Answers {
    answers: Vec<Answer>,
    missing: usize,
}

impl Questions {
    fn ask(&self, of: HashSet<NodeId>) -> Asked<'_> {
        let (number, complete) = (self.next.fetch_add(1, Ordering::Relaxed), Arc::<Notify>::default());
        let open = Open { missing: of, answers: Vec::new(), complete: Arc::clone(&complete) };
        self.open().insert(number, open);
        Asked { questions: self, number, complete }
    }

    /// A node has answered. What was not asked, or is answered twice, is passed over.
    pub(super) fn answer(&self, number: u64, from: NodeId, answer: &Answer) {
        let mut all = self.open();
        let Some(open) = all.get_mut(&number) else { return };
        if open.missing.remove(&from) {
            open.answers.push(answer.clone());
            if open.missing.is_empty() {
                open.complete.notify_one();
            }
        }
    }

    /// Held for some instructions, and never across a call that could panic.
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked<'_> {
    /// What was answered until now.
    fn take(&self) -> Answers {
        let open = self.questions.open().remove(&self.number);
        open.map_or(Answers { answers: Vec::new(), missing: 0 }, |open| Answers {
            answers: open.answers,
            missing: open.missing.len(),
        })
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.questions.open().remove(&self.number);
    }
}

impl Fleet {
    /// Asks all other nodes. Takes half a second at most.
    async fn ask(&self, question: Question) -> Answers {
        let others: HashSet<NodeId> = self.roster().others().collect();
        let is_alone = others.is_empty();
        let asked = self.questions.ask(others);
        if !is_alone && self.parts.uplink.bus().is_some() {
            let note = || Note::Ask { number: asked.number, question }.into();
            self.parts.uplink.publish(Channel::Everybody, note);
            // What has not come is missing.
            let _ = timeout(ANSWERED, asked.complete.notified()).await;
        }
        asked.take()
    }

    /// How many connections each of these members has at other nodes, and how many nodes did not say so.
    pub async fn connections_elsewhere(&self, members: &[MemberId]) -> (Vec<u32>, usize) {
        let mut sums = vec![0_u32; members.len()];
        let Answers { answers, missing } = self.ask(Question::Connections { members: members.to_vec() }).await;
        for answer in answers {
            let Answer::Connections { counts } = answer else { continue };
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = sum.saturating_add(count);
            }
        }
        (sums, missing)
    }

    /// How the other nodes are, by name, and how many did not say so.
    pub async fn stats_elsewhere(&self) -> (Vec<NodeStats>, usize) {
        let Answers { answers, missing } = self.ask(Question::Stats).await;
        let stats = answers.into_iter().filter_map(|answer| match answer {
            Answer::Stats(stats) => Some(*stats),
            Answer::Connections { .. } => None,
        });
        let mut stats: Vec<NodeStats> = stats.collect();
        stats.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        (stats, missing)
    }

    /// Another node asks.
    pub(super) fn asked(&self, from: NodeId, number: u64, question: &Question) {
        let answer = match question {
            Question::Connections { members } => {
                let count = |member: &MemberId| self.parts.hub.connections_of(*member).len();
                let counts =
                    members.iter().take(MEMBERS_MAX).map(|member| u32::try_from(count(member)).unwrap_or(u32::MAX));
                Answer::Connections { counts: counts.collect() }
            }
            Question::Stats => Answer::Stats(Box::new(self.stats())),
        };
        self.parts.uplink.publish(Channel::Node(from), || Note::Answer { number, answer }.into());
    }

    /// How this node is.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        let own = self.parts.store.listing().borrow().as_ref().map(|listing| listing.own);
        self.parts.own.stats(own, &self.doubts())
    }
}
