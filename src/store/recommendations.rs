//! Recommendations, what a member may cost the AI service, and whom one could recommend.

use async_trait::async_trait;
use protocol::{
    MemberId, RecommendationId, Timestamp,
    model::Tier,
    rest::ai::{Advice, AdviceSource, Recommendation},
};

use super::{StoreError, members::MemberRecord};

/// Partners of a member, the newest first, whose partners are looked at for candidates.
pub(super) const PARTNERS: usize = 50;
/// Partners of each of these, the newest first.
pub(super) const PARTNERS_OF_PARTNERS: usize = 100;

/// A fingerprint of what a recommendation was made from. When that has changed, its text may tell what nobody may see
/// any more.
pub type Basis = [u8; 16];

/// A recommendation to be stored. Its id follows from whom it is for and what it recommends.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Its id.
    pub id: RecommendationId,
    /// What is recommended, without [`protocol::rest::ai::Introduction::member`].
    pub advice: Advice,
    /// How sure its source is, 0 to 1.
    pub confidence_score: f64,
    /// Who made it.
    pub source: AdviceSource,
    /// What it was made from.
    pub basis: Basis,
    /// When it was made.
    pub refreshed_at: Timestamp,
}

/// A recommendation as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct RecommendationRecord {
    /// What the member may see.
    pub recommendation: Recommendation,
    /// What it was made from.
    pub basis: Basis,
    /// When it was made last.
    pub refreshed_at: Timestamp,
}

impl RecommendationRecord {
    /// What would store this.
    #[must_use]
    pub fn draft(&self) -> Draft {
        let Recommendation { id, advice, confidence_score, source, .. } = self.recommendation.clone();
        Draft { id, advice, confidence_score, source, basis: self.basis, refreshed_at: self.refreshed_at }
    }
}

/// What a member did with a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// They followed it.
    Apply,
    /// They do not want it.
    Dismiss,
}

/// What those who could be recommended should have. Words are as in [`crate::text::words`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The company that they share has all of these words, or one of them.
    pub company: Vec<String>,
    /// So has the position that they share.
    pub position: Vec<String>,
    /// Their tier.
    pub tier: Option<Tier>,
}

/// Somebody who could be recommended to a member.
#[derive(Clone)]
pub struct Candidate {
    /// Their whole record: what of it may be told is not the store's to decide.
    pub record: MemberRecord,
    /// How many members talk to both, as far as it was counted.
    pub contacts_in_common: u32,
}

/// Recommendations. When a member is erased ([`super::changes::Change::Erase`]), their recommendations, those of them to
/// others and their budget go with them.
#[async_trait]
pub trait RecommendationStore: Send + Sync {
    /// Up to `limit` active members that could be recommended to a member: those of a wanted company, of a wanted
    /// position, with contacts in common, the newest of the wanted tier (half of `limit` at most from each), and the
    /// newest; the newest first within each. Without the member, those they talk to already, and those whose recommendation they applied or dismissed.
    ///
    /// Looks at a bounded number of members for each of these, and at no message.
    ///
    /// # Errors
    /// The store.
    async fn candidates(&self, member: MemberId, wanted: Wanted, limit: usize) -> Result<Vec<Candidate>, StoreError>;

    /// Those of these recommendations that are stored for a member, in no particular order.
    ///
    /// # Errors
    /// The store.
    async fn find(&self, member: MemberId, ids: Vec<RecommendationId>)
    -> Result<Vec<RecommendationRecord>, StoreError>;

    /// Stores recommendations to a member. One that is stored already keeps its id and the time of its making, and is
    /// not touched if it was applied or dismissed. Open ones that were last made before `forget_before` are removed.
    /// Returns what is stored for each draft, in the order of the drafts. Nothing is stored for a member, or about one,
    /// that does not exist.
    ///
    /// # Errors
    /// The store.
    async fn keep(
        &self,
        member: MemberId,
        drafts: Vec<Draft>,
        forget_before: Timestamp,
    ) -> Result<Vec<RecommendationRecord>, StoreError>;

    /// Records what a member did with one of their recommendations; nothing changes the second time. `None`: they have
    /// no such recommendation.
    ///
    /// # Errors
    /// The store.
    async fn decide(
        &self,
        member: MemberId,
        id: RecommendationId,
        decision: Decision,
        at: Timestamp,
    ) -> Result<Option<RecommendationRecord>, StoreError>;

    /// Takes one from a member's allowance of `limit` questions on a day (days since the Unix epoch, UTC); false if it
    /// is used up. A day that is past counts as the newest one.
    ///
    /// # Errors
    /// The store.
    async fn spend(&self, member: MemberId, day: i64, limit: u32) -> Result<bool, StoreError>;

    /// What members have spent on a day, those who have left excepted.
    ///
    /// # Errors
    /// The store.
    async fn spent(&self, day: i64) -> Result<u64, StoreError>;

    /// All recommendations that are stored for a member, oldest first; for the export of their data.
    ///
    /// # Errors
    /// The store.
    async fn all_of(&self, member: MemberId) -> Result<Vec<RecommendationRecord>, StoreError>;
}
