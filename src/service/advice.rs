//! Advice: whom to meet, what to complete in one's profile, and how to word it better.
//!
//! The local rules always have an answer. Where an AI service is set up it is asked whom to meet among those whom the
//! local rules found; when it has no good answer in time, theirs stands, and the answer says so.

mod asking;

use std::{collections::HashMap, sync::Arc, time::Duration};

use protocol::{
    ErrorCode, MemberId, RecommendationId, Timestamp,
    limits::INTRODUCTIONS_MAX,
    model::MemberCard,
    rest::{
        Profile,
        ai::{
            Advice as Advised, AdviceFallback, AdviceSource, Completion, FieldSuggestion, Introduction,
            OptimizeResponse, ProfileField, Recommendation, RecommendationsResponse,
        },
    },
};
use sha2::{Digest as _, Sha256};

pub use self::asking::{ClubBudget, Service};
use super::views;
use crate::{
    ai::{Candidate, Circle, Person, Suggestion, Wording, local::Local, profile, words},
    clock::Clock,
    failure::Failure,
    store::{
        MemberStore, RecommendationStore,
        members::{MemberRecord, StoredProfile},
        recommendations::{Basis, Decision, Draft, RecommendationRecord, Wanted},
        turns::Caller,
    },
};

/// Words of a company or a position that others are looked up by.
const WORDS: usize = 8;
/// Members that are looked at for one answer.
const CANDIDATES: usize = 200;
/// Of these, so many best ones are stored, shown, or sent to the service.
const SHORTLIST: usize = 20;
/// A recommendation that is made again and again is written again once in this time.
const REWRITE: Duration = Duration::from_secs(86_400);
/// A recommendation that is not made any more, and that its member did nothing with, is forgotten after this time.
const FORGET: Duration = Duration::from_secs(30 * 86_400);

/// Advice.
pub struct Advice {
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Recommendations.
    pub recommendations: Arc<dyn RecommendationStore>,
    /// The rules.
    pub local: Local,
    /// The AI service, where one is set up.
    pub service: Option<Service>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// What everybody may see of a member, as far as advice is concerned: the one place where it is taken from a profile,
/// for the ranking that others are shown and for the AI service alike.
#[must_use]
pub fn person(member: &StoredProfile) -> Person {
    only(views::shared(member))
}

fn only(profile: Profile) -> Person {
    Person {
        id: profile.id,
        tier: profile.tier,
        company: profile.contact_info.company,
        position: profile.contact_info.position,
        has_picture: profile.profile_image_url.is_some(),
    }
}

/// Whom to meet, before it is stored.
struct Introductions {
    drafts: Vec<Draft>,
    source: AdviceSource,
    fallback: Option<AdviceFallback>,
}

impl Advice {
    /// What is recommended to a member now. Stored, so that it can be applied or dismissed.
    ///
    /// # Errors
    /// `member_not_found`, or the store.
    pub async fn recommend(&self, member: MemberId) -> Result<RecommendationsResponse, Failure> {
        let own = self.member(member).await?;
        let (circle, cards) = self.circle(&own).await?;
        let ranking = self.local.rank(&circle);
        let shortlist = shortlist(&circle, &ranking);
        let now = self.clock.now();
        let completions: Vec<ProfileField> = profile::missing(&views::member(own.clone(), now)).collect();
        let of_members = shortlist.candidates.iter().map(|candidate| meeting(member, candidate.person.id));
        let ids = of_members.chain(completions.iter().map(|field| completing(member, *field))).collect();
        let stored = self.recommendations.find(member, ids).await?;

        let Introductions { mut drafts, source, fallback } =
            self.introductions(&shortlist, &ranking, &stored, now).await?;
        drafts.extend(completions.into_iter().map(|field| completion(member, field, now)));
        let mut records = self.keep(member, drafts, stored, now).await?;
        records.retain(|record| record.recommendation.is_open());
        let mut recommendations: Vec<Recommendation> =
            records.into_iter().filter_map(|record| shown(record.recommendation, &cards)).collect();
        recommendations.sort_by(|a, b| b.confidence_score.total_cmp(&a.confidence_score).then(a.id.cmp(&b.id)));
        Ok(RecommendationsResponse { recommendations, source, fallback })
    }

    /// Records what a member did with a recommendation.
    ///
    /// # Errors
    /// `recommendation_not_found`, also for that of another member; or the store.
    pub async fn decide(
        &self,
        member: MemberId,
        id: RecommendationId,
        decision: Decision,
    ) -> Result<Recommendation, Failure> {
        let record = self.recommendations.decide(member, id, decision, self.clock.now()).await?;
        Ok(record.ok_or(ErrorCode::RecommendationNotFound)?.recommendation)
    }

    /// What could be better about a member's own profile. Nothing is changed.
    ///
    /// # Errors
    /// `member_not_found`, or the store.
    pub async fn optimize(&self, member: MemberId) -> Result<OptimizeResponse, Failure> {
        let own = self.member(member).await?;
        // The member may see all of their own; the service what everybody may.
        let (whole, public) = (only(views::whole(&own)), person(&own));
        let own = views::member(own, self.clock.now());
        let mut wordings = self.local.wordings(&whole);
        let mut told = (AdviceSource::Local, None);
        if let Some(service) = self.service.as_ref().filter(|_| public.company.is_some() || public.position.is_some()) {
            let question = service.engine.optimize(&public);
            let asked = service.ask(&*self.recommendations, member, self.clock.now(), question);
            told = match asked.await {
                Ok(better) => {
                    // What was sent, the service has looked at: the rules have no say about that.
                    let sent = |field| match field {
                        ProfileField::Company => public.company.is_some(),
                        _ => public.position.is_some(),
                    };
                    wordings.retain(|wording| !sent(wording.field));
                    wordings.extend(better);
                    (service.engine.source(), None)
                }
                Err(fallback) => (AdviceSource::Local, Some(fallback)),
            };
        }
        let worded = wordings.into_iter().map(|Wording { field, suggestion, reason, confidence }| {
            let current = profile::value(&own, field).map(str::to_owned);
            FieldSuggestion { field, current, suggestion, reason, confidence_score: confidence }
        });
        let mut suggestions = profile::suggestions(&own);
        suggestions.extend(worded);
        suggestions.sort_by_key(|suggestion| suggestion.field);
        let (source, fallback) = told;
        Ok(OptimizeResponse { suggestions, completeness: profile::completeness(&own), source, fallback })
    }

    async fn member(&self, member: MemberId) -> Result<StoredProfile, Failure> {
        let record = self.members.by_id(Caller::Member(member), member).await?.ok_or(ErrorCode::MemberNotFound)?;
        Ok(record.profile)
    }

    /// A member and those who could be recommended to them, with what everybody may see of these.
    async fn circle(&self, own: &StoredProfile) -> Result<(Circle, HashMap<MemberId, MemberCard>), Failure> {
        let person_of = |record: &MemberRecord| person(&record.profile);
        let me = person(own);
        let of = |text: &Option<String>| text.iter().flat_map(|text| words::words(text)).take(WORDS).collect();
        let wanted = Wanted { company: of(&me.company), position: of(&me.position), tier: Some(me.tier) };
        let found = self.recommendations.candidates(own.id, wanted, CANDIDATES).await?;
        let cards =
            found.iter().map(|candidate| (candidate.record.profile.id, views::card(&candidate.record))).collect();
        let candidates = found
            .iter()
            .map(|found| Candidate { person: person_of(&found.record), contacts_in_common: found.contacts_in_common });
        Ok((Circle { own: me, candidates: candidates.collect() }, cards))
    }

    /// Whom the member should meet: what the service said some time ago, what it says now, or what the rules say.
    async fn introductions(
        &self,
        shortlist: &Circle,
        ranking: &[Suggestion],
        stored: &[RecommendationRecord],
        now: Timestamp,
    ) -> Result<Introductions, Failure> {
        let local = |fallback| Introductions {
            drafts: drafts(shortlist, ranking, AdviceSource::Local, now),
            source: AdviceSource::Local,
            fallback,
        };
        let Some(service) = self.service.as_ref().filter(|_| !shortlist.candidates.is_empty()) else {
            return Ok(local(None));
        };
        let source = service.engine.source();
        let again = still_good(shortlist, stored, source, now, service.refresh);
        if !again.is_empty() {
            return Ok(Introductions { drafts: again, source, fallback: None });
        }
        let question = service.engine.recommend(shortlist);
        let asked = service.ask(&*self.recommendations, shortlist.own.id, now, question);
        Ok(match asked.await {
            Ok(suggestions) => {
                Introductions { drafts: drafts(shortlist, &suggestions, source, now), source, fallback: None }
            }
            Err(fallback) => local(Some(fallback)),
        })
    }

    /// Stores recommendations, if that would change anything.
    async fn keep(
        &self,
        member: MemberId,
        drafts: Vec<Draft>,
        stored: Vec<RecommendationRecord>,
        now: Timestamp,
    ) -> Result<Vec<RecommendationRecord>, Failure> {
        let by_id: HashMap<_, _> = stored.into_iter().map(|record| (record.recommendation.id, record)).collect();
        let unchanged = drafts.iter().all(|draft| {
            by_id.get(&draft.id).is_some_and(|record| {
                let made = record.refreshed_at;
                let same = record.draft() == Draft { refreshed_at: made, ..draft.clone() };
                let lately = made == draft.refreshed_at || made.after(REWRITE) > now;
                !record.recommendation.is_open() || (same && lately)
            })
        });
        if unchanged {
            return Ok(drafts.iter().filter_map(|draft| by_id.get(&draft.id).cloned()).collect());
        }
        let forget_before = Timestamp::from_millis(
            now.as_millis().saturating_sub(i64::try_from(FORGET.as_millis()).unwrap_or(i64::MAX)),
        );
        Ok(self.recommendations.keep(member, drafts, forget_before).await?)
    }
}

/// The best of a ranking, with all that is known about them.
fn shortlist(circle: &Circle, ranking: &[Suggestion]) -> Circle {
    let of = |member| circle.candidates.iter().find(|candidate| candidate.person.id == member).cloned();
    let best = ranking.iter().take(SHORTLIST).filter_map(|suggestion| of(suggestion.member));
    Circle { own: circle.own.clone(), candidates: best.collect() }
}

/// What the service said before and would be true still.
fn still_good(
    shortlist: &Circle,
    stored: &[RecommendationRecord],
    source: AdviceSource,
    now: Timestamp,
    refresh: Duration,
) -> Vec<Draft> {
    let good = |record: &&RecommendationRecord| {
        let Advised::Connect(introduction) = &record.recommendation.advice else { return false };
        let candidate = shortlist.candidates.iter().find(|candidate| candidate.person.id == introduction.member_id);
        record.recommendation.source == source
            && record.recommendation.is_open()
            && record.refreshed_at.after(refresh) > now
            && candidate.is_some_and(|candidate| record.basis == basis(&shortlist.own, &candidate.person))
    };
    stored.iter().filter(good).map(RecommendationRecord::draft).collect()
}

fn drafts(circle: &Circle, suggestions: &[Suggestion], source: AdviceSource, now: Timestamp) -> Vec<Draft> {
    let own = &circle.own;
    let draft = |suggestion: &Suggestion| {
        let person = &circle.candidates.iter().find(|candidate| candidate.person.id == suggestion.member)?.person;
        let reasons = suggestion.reasons.clone();
        Some(Draft {
            id: meeting(own.id, person.id),
            advice: Advised::Connect(Introduction { member_id: person.id, member: None, reasons }),
            confidence_score: suggestion.confidence,
            source,
            basis: basis(own, person),
            refreshed_at: now,
        })
    };
    suggestions.iter().filter_map(draft).take(INTRODUCTIONS_MAX).collect()
}

fn completion(member: MemberId, field: ProfileField, now: Timestamp) -> Draft {
    let (text, confidence_score) = profile::why(field);
    Draft {
        id: completing(member, field),
        advice: Advised::CompleteProfile(Completion { field, text: text.to_owned() }),
        confidence_score,
        source: AdviceSource::Local,
        basis: digest(&[text.as_bytes()]),
        refreshed_at: now,
    }
}

/// A recommendation as it is shown: with what everybody may see of the member that it is about.
fn shown(recommendation: Recommendation, cards: &HashMap<MemberId, MemberCard>) -> Option<Recommendation> {
    let advice = match recommendation.advice {
        Advised::Connect(introduction) => {
            let member = Some(cards.get(&introduction.member_id)?.clone());
            Advised::Connect(Introduction { member, ..introduction })
        }
        Advised::CompleteProfile(completion) => Advised::CompleteProfile(completion),
    };
    Some(Recommendation { advice, ..recommendation })
}

/// The id of the recommendation to one member to meet another.
fn meeting(member: MemberId, other: MemberId) -> RecommendationId {
    RecommendationId::from_bytes(digest(&[b"connect", member.as_bytes(), other.as_bytes()]))
}

/// The id of the recommendation to a member to fill in a field.
fn completing(member: MemberId, field: ProfileField) -> RecommendationId {
    RecommendationId::from_bytes(digest(&[b"complete_profile", member.as_bytes(), field.as_str().as_bytes()]))
}

/// A fingerprint of what an introduction is made from.
fn basis(own: &Person, other: &Person) -> Basis {
    // Plain structs of texts, which can always be written.
    let written = |person| serde_json::to_vec(person).unwrap_or_default();
    digest(&[&written(own), &written(other)])
}

/// The first bytes of the SHA-256 of these parts, told apart by their lengths.
fn digest<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let mut first = [0; N];
    first.iter_mut().zip(hash.finalize()).for_each(|(byte, hashed)| *byte = hashed);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recommendation_has_one_id_for_one_thing() {
        let (ana, ben) = (MemberId::from_bytes([1; 12]), MemberId::from_bytes([2; 12]));
        assert_eq!(meeting(ana, ben), meeting(ana, ben));
        assert_ne!(meeting(ana, ben), meeting(ben, ana));
        assert_ne!(completing(ana, ProfileField::Company), completing(ana, ProfileField::Position));
        assert_ne!(completing(ana, ProfileField::Company), completing(ben, ProfileField::Company));
    }

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(digest::<16>(&[b"ab", b"c"]), digest::<16>(&[b"a", b"bc"]));
    }
}
