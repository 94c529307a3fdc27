//! Advice: whom to meet, what to complete in one's profile, and how to word it better.

use serde::{Deserialize, Serialize};

use crate::{MemberId, RecommendationId, Timestamp, model::MemberCard};

/// The answer to `GET /api/ai/recommendations`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(optional_fields))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecommendationsResponse {
    /// What is recommended, most confident first. Nothing that was applied or dismissed.
    pub recommendations: Vec<Recommendation>,
    /// Who says whom to meet.
    pub source: AdviceSource,
    /// Why it was not the AI service, where one is set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub fallback: Option<AdviceFallback>,
}

/// One recommendation to one member. The same one keeps its id however often it is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Recommendation {
    /// The id of the recommendation.
    #[serde(rename = "_id")]
    pub id: RecommendationId,
    /// The member that it was made for.
    pub user_id: MemberId,
    /// What is recommended.
    #[serde(flatten)]
    pub advice: Advice,
    /// How sure its source is, 0 to 1.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1, example = 0.75))]
    pub confidence_score: f64,
    /// Who made it.
    pub source: AdviceSource,
    /// When it was made first.
    pub created_at: Timestamp,
    /// Whether the member followed it.
    pub is_applied: bool,
    /// When the member did not want it any more.
    pub dismissed_at: Option<Timestamp>,
}

impl Recommendation {
    /// Whether the member has done nothing with it yet.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !self.is_applied && self.dismissed_at.is_none()
    }
}

/// What is recommended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "recommendation_type", content = "recommendation_data", rename_all = "snake_case")]
pub enum Advice {
    /// To meet a member.
    Connect(Introduction),
    /// To fill in a field of one's profile.
    CompleteProfile(Completion),
}

/// A member to meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(optional_fields))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Introduction {
    /// The member to meet.
    pub member_id: MemberId,
    /// What everybody may see of them, as it is now. Not in the answers to apply and dismiss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub member: Option<MemberCard>,
    /// Why: at least one, the weightiest first.
    pub reasons: Vec<Reason>,
}

/// Why two members should meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reason {
    /// What it is about.
    pub kind: ReasonKind,
    /// The reason in a sentence, at most 300 characters. Not HTML; escape it when it is shown.
    pub text: String,
}

/// What a [`Reason`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// The same company, or one of a similar name.
    Company,
    /// The same position, or a similar one.
    Position,
    /// The same tier.
    Tier,
    /// Both talk to some of the same members. Which ones, and how many, is not told.
    Contacts,
    /// Whatever the AI service said.
    Service,
}

/// A field of one's profile to fill in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Completion {
    /// The field.
    pub field: ProfileField,
    /// Why, in a sentence.
    pub text: String,
}

/// A field of a profile, by its path in `PATCH /api/members/me`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ProfileField {
    /// The name to show.
    #[serde(rename = "name")]
    Name,
    /// The phone number.
    #[serde(rename = "contact_info.phone")]
    Phone,
    /// Where the member works.
    #[serde(rename = "contact_info.company")]
    Company,
    /// What the member does there.
    #[serde(rename = "contact_info.position")]
    Position,
    /// Where the picture is.
    #[serde(rename = "profile_image_url")]
    Picture,
}

impl ProfileField {
    /// The path of the field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Phone => "contact_info.phone",
            Self::Company => "contact_info.company",
            Self::Position => "contact_info.position",
            Self::Picture => "profile_image_url",
        }
    }
}

/// Who gives advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AdviceSource {
    /// The rules of this server.
    Local,
    /// The AI service that this server is set up with.
    Remote,
}

impl AdviceSource {
    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

/// Why the AI service did not answer, so that the local rules did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AdviceFallback {
    /// It did not answer in time.
    Timeout,
    /// It could not be reached, or answered with an error.
    Unavailable,
    /// It answered something that is not an answer.
    InvalidAnswer,
    /// As many questions as it may be asked at a time are under way.
    Busy,
    /// It failed several times in a row and is left alone for a while.
    CircuitOpen,
    /// The questions for today are used up: the member's, or those of the whole club.
    BudgetSpent,
}

impl AdviceFallback {
    /// The name on the wire and in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::InvalidAnswer => "invalid_answer",
            Self::Busy => "busy",
            Self::CircuitOpen => "circuit_open",
            Self::BudgetSpent => "budget_spent",
        }
    }
}

/// The answer to `POST /api/ai/profile/optimize`. Nothing of it is applied: that is for the member to do, with
/// `PATCH /api/members/me`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS), ts(optional_fields))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OptimizeResponse {
    /// What could be better, in the order of the fields of a profile; none if there is nothing.
    pub suggestions: Vec<FieldSuggestion>,
    /// How complete the profile is, 0 to 1.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1, example = 0.5))]
    pub completeness: f64,
    /// Who looked at company and position. The other fields never leave this server.
    pub source: AdviceSource,
    /// Why it was not the AI service, where one is set up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub fallback: Option<AdviceFallback>,
}

/// How one field of a profile could be better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "codegen", derive(ts_rs::TS))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldSuggestion {
    /// The field.
    pub field: ProfileField,
    /// What is there now.
    pub current: Option<String>,
    /// What could be there: valid for the field. `null` where only the member can know.
    pub suggestion: Option<String>,
    /// Why, in a sentence. Not HTML; escape it when it is shown.
    pub reason: String,
    /// How sure its source is, 0 to 1.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1, example = 0.75))]
    pub confidence_score: f64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_recommendation_has_the_fields_of_the_club() {
        let text = json!({
            "_id": "0123456789abcdef01234567", "user_id": "0123456789abcdef01234568",
            "recommendation_type": "complete_profile",
            "recommendation_data": { "field": "contact_info.company", "text": "Say where you work." },
            "confidence_score": 0.5, "source": "local", "created_at": "2026-11-22T19:18:17.383Z",
            "is_applied": false, "dismissed_at": null,
        });
        let recommendation: Recommendation = serde_json::from_value(text.clone()).unwrap();
        assert!(matches!(
            &recommendation.advice,
            Advice::CompleteProfile(Completion { field: ProfileField::Company, .. })
        ));
        assert_eq!(serde_json::to_value(&recommendation).unwrap(), text);
    }

    #[test]
    fn names_are_the_ones_on_the_wire() {
        use ProfileField::{Company, Name, Phone, Picture, Position};
        for field in [Name, Phone, Company, Position, Picture] {
            assert_eq!(serde_json::to_value(field).unwrap(), field.as_str());
        }
        use AdviceFallback::{BudgetSpent, Busy, CircuitOpen, InvalidAnswer, Timeout, Unavailable};
        for fallback in [Timeout, Unavailable, InvalidAnswer, Busy, CircuitOpen, BudgetSpent] {
            assert_eq!(serde_json::to_value(fallback).unwrap(), fallback.as_str());
        }
        for source in [AdviceSource::Local, AdviceSource::Remote] {
            assert_eq!(serde_json::to_value(source).unwrap(), source.as_str());
        }
    }
}
