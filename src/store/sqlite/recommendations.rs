//! Recommendations.

use async_trait::async_trait;
use protocol::{
    MemberId, RecommendationId, Timestamp,
    rest::ai::{Advice, AdviceSource, Recommendation},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Type};
use serde_json::{Value, json};

use super::{
    Sqlite, candidates,
    readers::snapshot,
    row::{optional_time, time, word},
};
use crate::store::{
    RecommendationStore, StoreError,
    recommendations::{Candidate, Decision, Draft, RecommendationRecord, Wanted},
    turns::Turn,
};

const SOURCES: &[(&str, AdviceSource)] =
    &[(AdviceSource::Local.as_str(), AdviceSource::Local), (AdviceSource::Remote.as_str(), AdviceSource::Remote)];

/// Reads a recommendation from a row of [`FIND`] or [`ALL`].
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<RecommendationRecord> {
    let data: String = row.get("recommendation_data")?;
    let not_json = |error: serde_json::Error| {
        rusqlite::Error::FromSqlConversionFailure(0, Type::Text, format!("recommendation_data: {error}").into())
    };
    let data: Value = serde_json::from_str(&data).map_err(not_json)?;
    let kind: String = row.get("recommendation_type")?;
    let advice = json!({ "recommendation_type": kind, "recommendation_data": data });
    Ok(RecommendationRecord {
        recommendation: Recommendation {
            id: RecommendationId::from_bytes(row.get("id")?),
            user_id: MemberId::from_bytes(row.get("user_id")?),
            advice: serde_json::from_value(advice).map_err(not_json)?,
            confidence_score: row.get("confidence_score")?,
            source: word(row, "source", SOURCES)?,
            created_at: time(row, "created_at")?,
            is_applied: row.get("is_applied")?,
            dismissed_at: optional_time(row, "dismissed_at")?,
        },
        basis: row.get("basis")?,
        refreshed_at: time(row, "refreshed_at")?,
    })
}

const FIND: &str = "SELECT r.*, m.id AS user_id FROM recommendations r JOIN members m ON m.key = r.user
    WHERE r.id = ? AND m.id = ?";
const ALL: &str = "SELECT r.*, m.id AS user_id FROM recommendations r JOIN members m ON m.key = r.user
    WHERE m.id = ? ORDER BY r.created_at, r.key";

fn find(
    connection: &Connection,
    member: MemberId,
    ids: impl IntoIterator<Item = RecommendationId>,
) -> rusqlite::Result<Vec<RecommendationRecord>> {
    let mut query = connection.prepare_cached(FIND)?;
    let mut found = Vec::new();
    for id in ids {
        found.extend(query.query_row(params![id.as_bytes(), member.as_bytes()], record).optional()?);
    }
    Ok(found)
}

fn keep(
    connection: &Connection,
    member: MemberId,
    drafts: &[Draft],
    forget_before: Timestamp,
) -> rusqlite::Result<Vec<RecommendationRecord>> {
    let mut forget = connection.prepare_cached(
        "DELETE FROM recommendations WHERE user = (SELECT key FROM members WHERE id = ?) AND refreshed_at < ?
         AND is_applied = 0 AND dismissed_at IS NULL",
    )?;
    forget.execute(params![member.as_bytes(), forget_before.as_millis()])?;
    let mut upsert = connection.prepare_cached(
        "INSERT INTO recommendations (id, user, recommendation_type, recommendation_data, subject, confidence_score,
             source, basis, created_at, refreshed_at)
         SELECT ?1, key, ?3, ?4, (SELECT key FROM members WHERE id = ?5), ?6, ?7, ?8, ?9, ?9 FROM members
         WHERE id = ?2 AND (?5 IS NULL OR EXISTS (SELECT 1 FROM members WHERE id = ?5))
         ON CONFLICT (id) DO UPDATE SET recommendation_data = excluded.recommendation_data,
             confidence_score = excluded.confidence_score, source = excluded.source, basis = excluded.basis,
             refreshed_at = excluded.refreshed_at
         WHERE is_applied = 0 AND dismissed_at IS NULL",
    )?;
    for draft in drafts {
        let subject = match &draft.advice {
            Advice::Connect(introduction) => Some(introduction.member_id),
            Advice::CompleteProfile(_) => None,
        };
        let (kind, data) = columns(&draft.advice)?;
        upsert.execute(params![
            draft.id.as_bytes(),
            member.as_bytes(),
            kind,
            data,
            subject.as_ref().map(MemberId::as_bytes),
            draft.confidence_score,
            draft.source.as_str(),
            draft.basis,
            draft.refreshed_at.as_millis(),
        ])?;
    }
    find(connection, member, drafts.iter().map(|draft| draft.id))
}

/// Stores a recommendation of another store, unless it is there.
pub(super) fn restore(connection: &Connection, record: &RecommendationRecord) -> rusqlite::Result<()> {
    let made = Draft { refreshed_at: record.recommendation.created_at, ..record.draft() };
    let Recommendation { user_id, id, is_applied, dismissed_at, .. } = &record.recommendation;
    if !find(connection, *user_id, [*id])?.is_empty() {
        return Ok(());
    }
    keep(connection, *user_id, &[made], Timestamp::from_millis(i64::MIN))?;
    let mut update = connection
        .prepare_cached("UPDATE recommendations SET refreshed_at = ?, is_applied = ?, dismissed_at = ? WHERE id = ?")?;
    let dismissed_at = dismissed_at.map(Timestamp::as_millis);
    update.execute(params![record.refreshed_at.as_millis(), is_applied, dismissed_at, id.as_bytes()]).map(drop)
}

/// The type and the data of a recommendation, as they are stored.
fn columns(advice: &Advice) -> rusqlite::Result<(String, String)> {
    let written =
        serde_json::to_value(advice).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let part = |name: &str| written.get(name).cloned().unwrap_or_default();
    let kind = part("recommendation_type").as_str().unwrap_or_default().to_owned();
    Ok((kind, part("recommendation_data").to_string()))
}

fn decide(
    connection: &Connection,
    member: MemberId,
    id: RecommendationId,
    decision: Decision,
    at: Timestamp,
) -> rusqlite::Result<Option<RecommendationRecord>> {
    let applied = decision == Decision::Apply;
    let dismissed_at = (decision == Decision::Dismiss).then(|| at.as_millis());
    let mut update = connection.prepare_cached(
        "UPDATE recommendations SET is_applied = max(is_applied, ?), dismissed_at = coalesce(dismissed_at, ?)
         WHERE id = ? AND user = (SELECT key FROM members WHERE id = ?)",
    )?;
    update.execute(params![applied, dismissed_at, id.as_bytes(), member.as_bytes()])?;
    Ok(find(connection, member, [id])?.pop())
}

fn spend(connection: &Connection, member: MemberId, day: i64, limit: u32) -> rusqlite::Result<bool> {
    if limit == 0 {
        return Ok(false);
    }
    let mut spend = connection.prepare_cached(
        "INSERT INTO ai_budgets (member, day, spent) SELECT key, ?2, 1 FROM members WHERE id = ?1
         ON CONFLICT (member) DO UPDATE SET
             spent = CASE WHEN excluded.day > day THEN 1 ELSE spent + 1 END, day = max(day, excluded.day)
         WHERE excluded.day > day OR spent < ?3",
    )?;
    spend.execute(params![member.as_bytes(), day, limit]).map(|rows| rows == 1)
}

/// Removes what is recommended to a member, what recommends them to others, and their budget.
pub(super) fn forget(connection: &Connection, key: i64) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM recommendations WHERE user = ?",
        "DELETE FROM recommendations WHERE subject = ?",
        "DELETE FROM ai_budgets WHERE member = ?",
    ] {
        connection.prepare_cached(sql)?.execute([key])?;
    }
    Ok(())
}

fn all_of(connection: &Connection, member: MemberId) -> rusqlite::Result<Vec<RecommendationRecord>> {
    connection.prepare_cached(ALL)?.query_map([member.as_bytes()], record)?.collect()
}

#[async_trait]
impl RecommendationStore for Sqlite {
    async fn candidates(&self, member: MemberId, wanted: Wanted, limit: usize) -> Result<Vec<Candidate>, StoreError> {
        self.read(Turn::heavy(member), move |connection| {
            snapshot(connection, |connection| candidates::candidates(connection, member, &wanted, limit))
        })
        .await
    }

    async fn find(
        &self,
        member: MemberId,
        ids: Vec<RecommendationId>,
    ) -> Result<Vec<RecommendationRecord>, StoreError> {
        self.read(Turn::light(member), move |connection| find(connection, member, ids)).await
    }

    async fn keep(
        &self,
        member: MemberId,
        drafts: Vec<Draft>,
        forget_before: Timestamp,
    ) -> Result<Vec<RecommendationRecord>, StoreError> {
        self.write(move |tx| keep(tx.connection, member, &drafts, forget_before)).await
    }

    async fn decide(
        &self,
        member: MemberId,
        id: RecommendationId,
        decision: Decision,
        at: Timestamp,
    ) -> Result<Option<RecommendationRecord>, StoreError> {
        self.write(move |tx| decide(tx.connection, member, id, decision, at)).await
    }

    async fn spend(&self, member: MemberId, day: i64, limit: u32) -> Result<bool, StoreError> {
        self.write(move |tx| spend(tx.connection, member, day, limit)).await
    }

    async fn spent(&self, day: i64) -> Result<u64, StoreError> {
        self.read(Turn::SYSTEM, move |connection| {
            let sum = "SELECT ifnull(sum(spent), 0) FROM ai_budgets WHERE day = ?";
            connection.prepare_cached(sum)?.query_row([day], |row| row.get(0))
        })
        .await
    }

    async fn all_of(&self, member: MemberId) -> Result<Vec<RecommendationRecord>, StoreError> {
        self.read(Turn::light(member), move |connection| all_of(connection, member)).await
    }
}
