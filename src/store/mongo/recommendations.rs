//! Recommendations, and what each member has cost the AI service today.
//!
//! The documents are those of the club's `ai_recommendations`; what is recommended is in them as it is in the API.

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use mongodb::{
    ClientSession,
    bson::{Binary, DateTime, Document, doc, oid::ObjectId, spec::BinarySubtype},
    options::FindOptions,
};
use protocol::{
    MemberId, RecommendationId, Timestamp,
    rest::ai::{Advice, AdviceSource, Recommendation},
};
use serde::{Deserialize, Serialize};

use super::{
    Core, Mongo, candidates,
    db::Db,
    document::{among, date, member_oid, time, word},
    fault::{Fault, is_duplicate},
    receipts,
};
use crate::store::{
    RecommendationStore, StoreError,
    recommendations::{Candidate, Decision, Draft, RecommendationRecord, Wanted},
    turns::{Caller, Turn},
};

const SOURCES: &[AdviceSource] = &[AdviceSource::Local, AdviceSource::Remote];
/// How often an allowance is looked at when others spend from it at the same moment.
const ATTEMPTS: usize = 3;

/// A document of `ai_recommendations`.
#[derive(Serialize, Deserialize)]
pub(super) struct RecommendationDoc {
    #[serde(rename = "_id")]
    id: ObjectId,
    user_id: ObjectId,
    /// `recommendation_type` and `recommendation_data`.
    #[serde(flatten)]
    advice: Advice,
    /// The member that is recommended, if it is one.
    subject_id: Option<ObjectId>,
    confidence_score: f64,
    source: String,
    basis: Binary,
    created_at: DateTime,
    refreshed_at: DateTime,
    is_applied: bool,
    dismissed_at: Option<DateTime>,
    /// Applied or dismissed.
    is_decided: bool,
    /// Grows with the order in which they were made.
    place: ObjectId,
}

impl RecommendationDoc {
    pub(super) fn of(record: RecommendationRecord, place: ObjectId) -> Self {
        let RecommendationRecord { recommendation, basis, refreshed_at } = record;
        let Recommendation { id, user_id, advice, confidence_score, source, created_at, is_applied, dismissed_at } =
            recommendation;
        Self {
            id: recommendation_oid(id),
            user_id: member_oid(user_id),
            subject_id: subject(&advice).map(member_oid),
            advice,
            confidence_score,
            source: source.as_str().to_owned(),
            basis: Binary { subtype: BinarySubtype::Generic, bytes: basis.to_vec() },
            created_at: date(created_at),
            refreshed_at: date(refreshed_at),
            is_applied,
            dismissed_at: dismissed_at.map(date),
            is_decided: is_applied || dismissed_at.is_some(),
            place,
        }
    }

    pub(super) fn into_record(self) -> Result<RecommendationRecord, Fault> {
        let basis = self.basis.bytes.as_slice().try_into();
        Ok(RecommendationRecord {
            recommendation: Recommendation {
                id: RecommendationId::from_bytes(self.id.bytes()),
                user_id: MemberId::from_bytes(self.user_id.bytes()),
                advice: self.advice,
                confidence_score: self.confidence_score,
                source: word("source", &self.source, SOURCES, AdviceSource::as_str)?,
                created_at: time(self.created_at),
                is_applied: self.is_applied,
                dismissed_at: self.dismissed_at.map(time),
            },
            basis: basis.map_err(|_| Fault::Data("basis has not 16 bytes".to_owned()))?,
            refreshed_at: time(self.refreshed_at),
        })
    }
}

fn recommendation_oid(id: RecommendationId) -> ObjectId {
    ObjectId::from_bytes(*id.as_bytes())
}

fn subject(advice: &Advice) -> Option<MemberId> {
    match advice {
        Advice::Connect(introduction) => Some(introduction.member_id),
        Advice::CompleteProfile(_) => None,
    }
}

async fn find(db: &Db, member: MemberId, ids: Vec<RecommendationId>) -> Result<Vec<RecommendationRecord>, Fault> {
    let filter = among(ids.iter().copied().map(recommendation_oid));
    let found: Vec<RecommendationDoc> = db.all("ai_recommendations", filter, FindOptions::default()).await?;
    let own = found.into_iter().filter(|found| found.user_id == member_oid(member));
    let mut records = own.map(RecommendationDoc::into_record).collect::<Result<Vec<_>, _>>()?;
    records.sort_by_key(|record| ids.iter().position(|id| *id == record.recommendation.id));
    Ok(records)
}

/// Those of these members that exist.
async fn existing(db: &Db, members: impl IntoIterator<Item = MemberId>) -> Result<Vec<ObjectId>, Fault> {
    let fields = FindOptions::builder().projection(doc! { "_id": 1 }).build();
    let found: Vec<Document> = db.all("members", among(members.into_iter().map(member_oid)), fields).await?;
    Ok(found.iter().filter_map(|member| member.get_object_id("_id").ok()).collect())
}

async fn keep(
    core: &Core,
    db: &Db,
    member: MemberId,
    drafts: Vec<Draft>,
    forget_before: Timestamp,
) -> Result<Vec<RecommendationRecord>, Fault> {
    let own = member_oid(member);
    let old = doc! { "user_id": own, "is_decided": false, "refreshed_at": { "$lt": date(forget_before) } };
    db.collection::<Document>("ai_recommendations").delete_many(old).await?;
    let subjects = drafts.iter().filter_map(|draft| subject(&draft.advice));
    let there = existing(db, subjects.chain([member])).await?;
    let ids = drafts.iter().map(|draft| draft.id).collect();
    let mut updates = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let about = subject(&draft.advice).map(member_oid);
        if !there.contains(&own) || about.is_some_and(|about| !there.contains(&about)) {
            continue;
        }
        let advice = mongodb::bson::serialize_to_document(&draft.advice)?;
        let mut set = doc! {
            "confidence_score": draft.confidence_score,
            "source": draft.source.as_str(),
            "basis": Binary { subtype: BinarySubtype::Generic, bytes: draft.basis.to_vec() },
            "refreshed_at": date(draft.refreshed_at),
        };
        set.extend(advice);
        let begin = doc! {
            "user_id": own,
            "subject_id": about,
            "created_at": date(draft.refreshed_at),
            "is_applied": false,
            "dismissed_at": null,
            "is_decided": false,
            "place": ObjectId::from_bytes(*core.ids.message().as_bytes()),
        };
        // One that was decided does not match, and cannot be inserted a second time: it stays as it is.
        let open = doc! { "_id": recommendation_oid(draft.id), "is_decided": { "$ne": true } };
        updates.push(doc! { "q": open, "u": { "$set": set, "$setOnInsert": begin }, "upsert": true });
    }
    receipts::run_updates(db, "ai_recommendations", updates).await?;
    find(db, member, ids).await
}

async fn decide(
    db: &Db,
    member: MemberId,
    id: RecommendationId,
    decision: Decision,
    at: Timestamp,
) -> Result<Option<RecommendationRecord>, Fault> {
    let mut own = doc! { "_id": recommendation_oid(id), "user_id": member_oid(member) };
    let set = match decision {
        Decision::Apply => doc! { "is_applied": true, "is_decided": true },
        Decision::Dismiss => {
            own.insert("dismissed_at", doc! { "$eq": null });
            doc! { "dismissed_at": date(at), "is_decided": true }
        }
    };
    db.collection::<Document>("ai_recommendations").update_one(own, doc! { "$set": set }).await?;
    Ok(find(db, member, vec![id]).await?.pop())
}

async fn spend(db: &Db, member: MemberId, day: i64, limit: u32) -> Result<bool, Fault> {
    if limit == 0 || existing(db, [member]).await?.is_empty() {
        return Ok(false);
    }
    let (budgets, id) = (db.collection::<Document>("ai_budgets"), member_oid(member));
    for _ in 0..ATTEMPTS {
        let has_some = doc! { "_id": id, "day": { "$gte": day }, "spent": { "$lt": i64::from(limit) } };
        if budgets.update_one(has_some, doc! { "$inc": { "spent": 1_i64 } }).await?.matched_count > 0 {
            return Ok(true);
        }
        let is_past = doc! { "_id": id, "day": { "$lt": day } };
        let begin = doc! { "day": day, "spent": 1_i64 };
        if budgets.update_one(is_past, doc! { "$set": begin.clone() }).await?.matched_count > 0 {
            return Ok(true);
        }
        let mut first = doc! { "_id": id };
        first.extend(begin);
        match budgets.insert_one(first).await {
            Ok(_) => return Ok(true),
            // It is used up, or another one began the day at the same moment.
            Err(error) if is_duplicate(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Removes what is recommended to a member, what recommends them to others, and their budget.
pub(super) async fn forget(db: &Db, session: &mut ClientSession, member: MemberId) -> Result<(), Fault> {
    let (recommendations, id) = (db.collection::<Document>("ai_recommendations"), member_oid(member));
    for filter in [doc! { "user_id": id }, doc! { "subject_id": id }] {
        recommendations.delete_many(filter).session(&mut *session).await?;
    }
    db.collection::<Document>("ai_budgets").delete_one(doc! { "_id": id }).session(session).await?;
    Ok(())
}

async fn all_of(db: &Db, member: MemberId) -> Result<Vec<RecommendationRecord>, Fault> {
    let found = db.collection::<RecommendationDoc>("ai_recommendations");
    let found = found.find(doc! { "user_id": member_oid(member) }).max_time(db.max_time).await?;
    let mut found: Vec<RecommendationDoc> = found.try_collect().await?;
    found.sort_unstable_by_key(|found| (found.created_at, found.place));
    found.into_iter().map(RecommendationDoc::into_record).collect()
}

#[async_trait]
impl RecommendationStore for Mongo {
    async fn candidates(&self, member: MemberId, wanted: Wanted, limit: usize) -> Result<Vec<Candidate>, StoreError> {
        self.read(Turn::heavy(member), async move |_, db| candidates::candidates(&db, member, &wanted, limit).await)
            .await
    }

    async fn find(
        &self,
        member: MemberId,
        ids: Vec<RecommendationId>,
    ) -> Result<Vec<RecommendationRecord>, StoreError> {
        self.read(Turn::light(member), async move |_, db| find(&db, member, ids).await).await
    }

    async fn keep(
        &self,
        member: MemberId,
        drafts: Vec<Draft>,
        forget_before: Timestamp,
    ) -> Result<Vec<RecommendationRecord>, StoreError> {
        self.write(Caller::Member(member), async move |core, db| keep(&core, &db, member, drafts, forget_before).await)
            .await
    }

    async fn decide(
        &self,
        member: MemberId,
        id: RecommendationId,
        decision: Decision,
        at: Timestamp,
    ) -> Result<Option<RecommendationRecord>, StoreError> {
        self.write(Caller::Member(member), async move |_, db| decide(&db, member, id, decision, at).await).await
    }

    async fn spend(&self, member: MemberId, day: i64, limit: u32) -> Result<bool, StoreError> {
        self.write(Caller::Member(member), async move |_, db| spend(&db, member, day, limit).await).await
    }

    async fn spent(&self, day: i64) -> Result<u64, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| {
            let options = FindOptions::builder().projection(doc! { "spent": 1 }).build();
            let found: Vec<Document> = db.all("ai_budgets", doc! { "day": day }, options).await?;
            let spent = found.iter().filter_map(|budget| budget.get_i64("spent").ok());
            Ok(spent.filter_map(|spent| u64::try_from(spent).ok()).sum())
        })
        .await
    }

    async fn all_of(&self, member: MemberId) -> Result<Vec<RecommendationRecord>, StoreError> {
        self.read(Turn::light(member), async move |_, db| all_of(&db, member).await).await
    }
}
