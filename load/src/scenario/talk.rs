//! What everybody who talks shares, and the part that one of them has.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use protocol::MemberId;
use tokio::{
    sync::{Barrier, Semaphore},
    time::Instant,
};

use super::{graph::Acquaintance, nodes::Nodes};
use crate::{
    client_ids::ClientIds,
    link::Opening,
    pace::Due,
    recorder::Recorder,
    target::{Account, Target},
};

/// What everybody who talks shares.
pub(crate) struct Talk {
    pub(crate) recorder: Arc<Recorder>,
    /// None: a relay, which knows no protocol.
    pub(crate) target: Option<Target>,
    pub(crate) opening: Opening,
    pub(crate) nodes: Nodes,
    /// Whether it is certainly one node that answers.
    pub(crate) alone: bool,
    /// Messages of a member on their way at a time, in a closed loop.
    pub(crate) window: usize,
    /// Characters of a message.
    pub(crate) size: usize,
    pub(crate) client_ids: ClientIds,
    /// Whether every message is said to be delivered and read.
    pub(crate) receipts: bool,
    /// The chance to lose the connection with a frame, in a million.
    pub(crate) drops_per_million: u32,
    /// How long to try to come back.
    pub(crate) patience: Duration,
    pub(crate) audited: Audited,
    pub(crate) started: Instant,
    pub(crate) start: Barrier,
    /// Those who may connect at the same time, at the beginning and for the audit.
    pub(crate) doors: Semaphore,
    /// When all connections were cut, and over how long they wait before they come back.
    pub(crate) cut: OnceLock<(Instant, Duration)>,
    /// How often somebody who has said everything looks whether all is heard.
    pub(crate) look: Duration,
    /// Nothing more is to be said.
    pub(crate) stop: AtomicBool,
    pub(crate) said: Said,
    pub(crate) preload: Preload,
}

/// Messages that are sent before those that are measured, by whoever comes to it first.
pub(crate) struct Preload(AtomicI64);

impl Preload {
    pub(crate) fn new(messages: u64) -> Self {
        Self(AtomicI64::new(i64::try_from(messages).unwrap_or(i64::MAX)))
    }

    /// Whether there is none left to be sent.
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= 0
    }

    /// Takes one that is to be sent.
    pub(super) fn take(&self) -> bool {
        !self.is_over() && self.0.fetch_sub(1, Ordering::Relaxed) > 0
    }
}

/// What is read again at the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Audited {
    /// The newest entries of a conversation.
    pub(crate) entries: u64,
    /// Conversations of a member, drawn at random: of all others only how they ended is compared.
    pub(crate) conversations: usize,
}

/// What members know of each other beside what the server tells them.
pub(crate) struct Said {
    /// Messages that each side of each conversation has sent.
    sent: Box<[[AtomicU64; 2]]>,
    /// The members who have said everything.
    silent: Box<[AtomicBool]>,
    /// The newest message of each side that was accepted, and its watermark that was confirmed.
    stored: Box<[[(AtomicU64, AtomicU64); 2]]>,
}

impl Said {
    /// Nobody has said anything.
    pub(crate) fn nothing(members: usize, conversations: usize) -> Self {
        let sent = (0..conversations).map(|_| Default::default()).collect();
        let stored = (0..conversations).map(|_| Default::default()).collect();
        Self { sent, silent: (0..members).map(|_| AtomicBool::new(false)).collect(), stored }
    }

    fn counter(&self, conversation: usize, side: usize) -> Option<&AtomicU64> {
        self.sent.get(conversation)?.get(side)
    }

    /// A side of a conversation has sent a message.
    pub(super) fn count(&self, conversation: usize, side: usize) {
        if let Some(sent) = self.counter(conversation, side) {
            sent.fetch_add(1, Ordering::Release);
        }
    }

    /// Messages that a side of a conversation has sent so far.
    pub(super) fn sent(&self, conversation: usize, side: usize) -> u64 {
        self.counter(conversation, side).map_or(0, |sent| sent.load(Ordering::Acquire))
    }

    /// The server has confirmed a message of a side, or its watermark.
    pub(super) fn confirm(&self, conversation: usize, side: usize, message: u64, read: u64) {
        if let Some((stored, marked)) = self.stored.get(conversation).and_then(|sides| sides.get(side)) {
            stored.fetch_max(message, Ordering::AcqRel);
            marked.fetch_max(read, Ordering::AcqRel);
        }
    }

    /// The newest message of a side that was accepted, and its watermark that was confirmed.
    pub(super) fn stored(&self, conversation: usize, side: usize) -> (u64, u64) {
        let stored = self.stored.get(conversation).and_then(|sides| sides.get(side));
        stored.map_or((0, 0), |(stored, marked)| (stored.load(Ordering::Acquire), marked.load(Ordering::Acquire)))
    }

    /// A member says nothing more.
    pub(super) fn fall_silent(&self, member: usize) {
        if let Some(silent) = self.silent.get(member) {
            silent.store(true, Ordering::Release);
        }
    }

    pub(super) fn is_silent(&self, member: usize) -> bool {
        self.silent.get(member).is_some_and(|silent| silent.load(Ordering::Acquire))
    }
}

/// With whom a member talks, and how much.
pub(crate) struct Part {
    pub(crate) account: Account,
    /// The number of this member.
    pub(crate) member: usize,
    /// Who the others are, and in which conversations.
    pub(crate) others: Vec<(Acquaintance, MemberId)>,
    /// How many messages; none: until the stop.
    pub(crate) quota: Option<u64>,
    /// When they are due; none: as soon as the window has room.
    pub(crate) due: Option<Due>,
    pub(crate) seed: u64,
    /// Where the connections come from, if that matters.
    pub(crate) from: Option<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_sent_before_as_were_asked_for() {
        let preload = Preload::new(3);
        assert_eq!((0..5).filter(|_| preload.take()).count(), 3);
        assert!(preload.is_over() && Preload::new(0).is_over());
    }
}
