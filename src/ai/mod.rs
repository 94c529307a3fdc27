//! Advice: whom to meet, and how to word a profile better.
//!
//! Two engines behind one trait. What they are given is all that they know: [`Person`] has nothing of a member but what
//! every member may see, and neither name, address, phone number nor message.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`local`] | the engine that is always there: ranks by rules and says why |
//! | [`remote`] | the engine that asks any service with OpenAI's chat completions |
//! | [`guard`] | when the service is asked: deadline, places, circuit breaker |
//! | [`profile`] | what can be said about a member's own profile without asking anybody |
//! | [`words`] | comparing what people write |
//!
//! Only `service` calls these; they call nobody but the service of [`remote`].

pub mod guard;
pub mod local;
pub mod profile;
pub mod remote;
pub mod words;

use std::time::Duration;

use async_trait::async_trait;
use protocol::{
    MemberId,
    model::Tier,
    rest::ai::{AdviceFallback, AdviceSource, ProfileField, Reason},
};
use serde::Serialize;

/// What every member may see of another, as far as advice is concerned. Made in one place:
/// [`crate::service::advice::person`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Who it is.
    pub id: MemberId,
    /// The kind of membership.
    pub tier: Tier,
    /// Where they work.
    pub company: Option<String>,
    /// What they do there.
    pub position: Option<String>,
    /// Whether they have a picture.
    pub has_picture: bool,
}

/// Somebody who could be recommended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub person: Person,
    /// How many members talk to both. Ranks; is never told as a number and never leaves the server.
    pub contacts_in_common: u32,
}

/// A member and those who could be recommended to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// The member.
    pub own: Person,
    /// The others, in the order of the local ranking when it was made.
    pub candidates: Vec<Candidate>,
}

/// Whom to meet and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// Whom.
    pub member: MemberId,
    /// Why; at least one.
    pub reasons: Vec<Reason>,
    /// How sure, 0 to 1.
    pub confidence: f64,
}

/// How a field could be worded better.
#[derive(Debug, Clone, PartialEq)]
pub struct Wording {
    /// The field: company or position.
    pub field: ProfileField,
    /// The better words, valid for the field; none where only the member can know.
    pub suggestion: Option<String>,
    /// Why.
    pub reason: String,
    /// How sure, 0 to 1.
    pub confidence: f64,
}

/// Why an engine gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// The kind of trouble.
    pub fallback: AdviceFallback,
    /// How long the service asked to be left alone.
    pub pause: Option<Duration>,
}

impl From<AdviceFallback> for Trouble {
    fn from(fallback: AdviceFallback) -> Self {
        Self { fallback, pause: None }
    }
}

/// Whoever gives advice.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Which one it is.
    fn source(&self) -> AdviceSource;

    /// Whom of the candidates the member should meet: the best first, none of them twice.
    ///
    /// # Errors
    /// When there is no answer, or one that cannot be trusted.
    async fn recommend(&self, circle: &Circle) -> Result<Vec<Suggestion>, Trouble>;

    /// How company and position could be worded better: at most one wording for each.
    ///
    /// # Errors
    /// When there is no answer, or one that cannot be trusted.
    async fn optimize(&self, own: &Person) -> Result<Vec<Wording>, Trouble>;
}

/// A confidence as it is stored and shown: two decimals.
#[must_use]
pub fn rounded(confidence: f64) -> f64 {
    (confidence * 100.0).round() / 100.0
}
