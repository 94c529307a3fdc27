//! What a store that several nodes share tells each of them: who else uses it, and what has changed, by whomever.
//!
//! A store that one process has for itself has nothing of this.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use protocol::{ConversationId, MemberId, Timestamp, model::Watermarks};
use tokio::{sync::watch, time::Instant};

use super::{
    StoreError,
    conversations::{ConversationState, StoreId},
    members::MemberRecord,
};
use crate::{
    ids::NodeId,
    position::{Position, StreamPosition},
};

/// Tells secrets apart without telling what they are: a keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretId(pub [u8; 8]);

/// Another node that uses the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedNode {
    /// Which.
    pub id: NodeId,
    /// How often it has joined, from 1 on: one that was taken for dead and comes back joins again.
    pub generation: u64,
    /// Up to where it had published what it stored when it joined again; zero if it joined for the first time.
    pub joined_from: Position,
    /// Its name, for people.
    pub name: String,
    /// Which secret it signs with, if it has said so.
    pub secret: Option<SecretId>,
    /// Whether it is dead: what it has left is not finished yet.
    pub dead: bool,
}

/// What a clock showed that is read over a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// What it showed at some moment between the two others.
    pub at: Timestamp,
    /// When it was asked.
    pub asked: Instant,
    /// When the answer was there.
    pub answered: Instant,
}

impl ClockReading {
    /// How long the answer took.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.answered.saturating_duration_since(self.asked)
    }

    /// What it shows at a later moment, as if it had been read halfway: right to within half of the round trip either way.
    #[must_use]
    pub fn shows_at(&self, moment: Instant) -> Timestamp {
        let halfway = self.asked + self.round_trip() / 2;
        self.at.after(moment.saturating_duration_since(halfway))
    }
}

/// The nodes that use the store: made with each beat of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The database.
    pub store: StoreId,
    /// This node.
    pub own: NodeId,
    /// How often it has joined.
    pub generation: u64,
    /// Everything stamped up to here is visible, and is by this node, by one of `others`, or by one that has left them: a node
    /// that joins later stores with larger positions.
    pub horizon: StreamPosition,
    /// The others that live, as far as is known.
    pub others: Arc<[ListedNode]>,
}

/// A conversation that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedConversation {
    /// Which.
    pub id: ConversationId,
    /// When it changed last.
    pub changed: Position,
    /// Its members, and how far each has got.
    pub members: Vec<Watermarks>,
    /// The revisions of what members have set; of those who have.
    pub revisions: Vec<(MemberId, u64)>,
    /// The newest entry.
    pub last_seq: u64,
    /// When that was stored.
    pub last_at: Timestamp,
}

/// Of which conversation something was missed, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Which.
    pub conversation: ConversationId,
    /// Everything up to this entry was delivered; how much was is not known if it is 0.
    pub after: u64,
    /// Its members who are to have it.
    pub members: Vec<MemberId>,
}

/// Most conversations that [`FleetStore::changes`] returns.
pub const CHANGES_MAX: usize = 10_000;

/// Most members that [`FleetStore::profiles`] returns.
pub const PROFILES_MAX: usize = 1_000;

/// A store that several nodes share.
#[async_trait]
pub trait FleetStore: Send + Sync {
    /// The nodes that use the store, as of the latest beat of this one; nothing before the first.
    fn listing(&self) -> watch::Receiver<Option<Listing>>;

    /// Tells the other nodes which secret this one signs with, from its next beat on.
    fn signs_with(&self, secret: SecretId);

    /// What the clock showed that all nodes share, as of the latest beat of this one; nothing before the first.
    fn reading(&self) -> Option<ClockReading>;

    /// The conversations that changed after a position, those that changed first come first: [`CHANGES_MAX`] at most.
    ///
    /// # Errors
    /// The store.
    async fn changes(&self, since: Position) -> Result<Vec<ChangedConversation>, StoreError>;

    /// The members whose profile changed at a time or later, by the clocks of the nodes, those that changed first come first:
    /// [`PROFILES_MAX`] at most. Those who have registered and changed nothing since are left out.
    ///
    /// # Errors
    /// The store.
    async fn profiles(&self, since: Timestamp) -> Result<Vec<MemberRecord>, StoreError>;

    /// A member was changed by another node: what is remembered of them is forgotten.
    fn forget_member(&self, member: MemberId);

    /// Conversations as some of their members see them, each with the newest entries that were missed: of those after
    /// [`Missed::after`], and stored after a position (about: some may be among them that are a little older),
    /// [`protocol::limits::SYNC_MISSED_ENTRIES`] at most. Those that do not exist are left out.
    ///
    /// # Errors
    /// The store.
    async fn states(
        &self,
        missed: Vec<Missed>,
        since: Position,
    ) -> Result<Vec<(MemberId, ConversationState)>, StoreError>;
}
