//! Whom one could recommend to a member. Every step looks at a bounded number of rows, through an index.

use std::collections::{HashMap, HashSet};

use protocol::MemberId;
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};

use super::members::record;
use crate::store::recommendations::{Candidate, PARTNERS, PARTNERS_OF_PARTNERS, Wanted};

/// For each candidate that is wanted, so many rows are looked at, excluded ones among them.
const ROWS_FOR_EACH: usize = 4;

/// Those who were found, in the order in which they were found.
struct Found {
    excluded: HashSet<i64>,
    contacts: HashMap<i64, u32>,
    candidates: Vec<Candidate>,
    limit: usize,
}

pub(super) fn candidates(
    connection: &Connection,
    member: MemberId,
    wanted: &Wanted,
    limit: usize,
) -> rusqlite::Result<Vec<Candidate>> {
    let mut own = connection.prepare_cached("SELECT key FROM members WHERE id = ?")?;
    let Some(own) = own.query_row([member.as_bytes()], |row| row.get::<_, i64>(0)).optional()? else {
        return Ok(Vec::new());
    };
    let partners = keys(connection, PARTNERS_OF, params![own, i64::MAX])?;
    let contacts = contacts(connection, own, partners.iter().take(PARTNERS))?;
    let mut excluded: HashSet<i64> = keys(connection, DECIDED, params![own])?.into_iter().collect();
    excluded.extend(partners);
    excluded.insert(own);
    let mut found = Found { excluded, contacts, candidates: Vec::new(), limit };
    let (half, rows) = (limit.div_ceil(2), limit.saturating_mul(ROWS_FOR_EACH));
    for (column, words) in [("company", &wanted.company), ("position", &wanted.position)] {
        let mut room = half;
        for pattern in patterns(column, words) {
            for key in keys(connection, BY_WORDS, params![pattern, rows])? {
                room -= found.add(connection, BY_KEY, params![key], room)?;
            }
        }
    }
    let mut acquainted: Vec<(u32, i64)> = found.contacts.iter().map(|(key, count)| (*count, *key)).collect();
    acquainted.sort_unstable_by(|a, b| b.cmp(a));
    let mut room = half;
    for (_, key) in acquainted.into_iter().take(rows) {
        room -= found.add(connection, BY_KEY, params![key], room)?;
    }
    if let Some(tier) = wanted.tier {
        found.add(connection, BY_TIER, params![tier.as_str(), rows], half)?;
    }
    found.add(connection, NEWEST, params![rows], limit)?;
    Ok(found.candidates)
}

const PARTNERS_OF: &str = "SELECT theirs.member FROM participants mine
    CROSS JOIN participants theirs ON theirs.conversation = mine.conversation AND theirs.member <> mine.member
    WHERE mine.member = ? ORDER BY mine.conversation DESC LIMIT ?";
const DECIDED: &str = "SELECT subject FROM recommendations
    WHERE user = ? AND subject IS NOT NULL AND (is_applied = 1 OR dismissed_at IS NOT NULL)";
/// In the order of the row id there is nothing to be rated, and the index is read as far as the limit only. A join with
/// `members` here would be left to the planner, which takes a small club from old statistics for a reason to scan.
const BY_WORDS: &str = "SELECT rowid FROM member_search WHERE member_search MATCH ? ORDER BY rowid DESC LIMIT ?";
const BY_KEY: &str = "SELECT * FROM members WHERE key = ? AND is_active = 1";
const BY_TIER: &str = "SELECT * FROM members INDEXED BY members_by_tier
    WHERE tier = ? AND is_active = 1 ORDER BY key DESC LIMIT ?";
const NEWEST: &str = "SELECT * FROM members WHERE is_active = 1 ORDER BY key DESC LIMIT ?";

/// What is looked for in a column of the search index: all of the words, then any of them.
fn patterns(column: &str, words: &[String]) -> Vec<String> {
    // Words have letters and digits only, so there is nothing to escape within the quotes.
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    let pattern = |operator: &str| format!("{column} : ({})", quoted.join(operator));
    match words.len() {
        0 => Vec::new(),
        1 => vec![pattern("")],
        _ => vec![pattern(" AND "), pattern(" OR ")],
    }
}

impl Found {
    /// Adds those of a query that are new, up to `room`; returns how many.
    fn add(
        &mut self,
        connection: &Connection,
        sql: &str,
        params: &[&dyn ToSql],
        room: usize,
    ) -> rusqlite::Result<usize> {
        let room = room.min(self.limit - self.candidates.len());
        if room == 0 {
            return Ok(0);
        }
        let mut query = connection.prepare_cached(sql)?;
        let mut rows = query.query(params)?;
        let mut added = 0;
        while added < room {
            let Some(row) = rows.next()? else { break };
            let key: i64 = row.get("key")?;
            if self.excluded.insert(key) {
                self.candidates.push(self.candidate(key, row)?);
                added += 1;
            }
        }
        Ok(added)
    }

    fn candidate(&self, key: i64, row: &Row<'_>) -> rusqlite::Result<Candidate> {
        let contacts_in_common = self.contacts.get(&key).copied().unwrap_or_default();
        Ok(Candidate { record: record(row)?, contacts_in_common })
    }
}

/// Who talks to the partners of a member, and to how many of them.
fn contacts<'a>(
    connection: &Connection,
    own: i64,
    partners: impl Iterator<Item = &'a i64>,
) -> rusqlite::Result<HashMap<i64, u32>> {
    let mut counts = HashMap::new();
    for partner in partners {
        let theirs: HashSet<i64> =
            keys(connection, PARTNERS_OF, params![partner, PARTNERS_OF_PARTNERS])?.into_iter().collect();
        for key in theirs {
            if key != own {
                *counts.entry(key).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

fn keys(connection: &Connection, sql: &str, params: &[&dyn ToSql]) -> rusqlite::Result<Vec<i64>> {
    connection.prepare_cached(sql)?.query_map(params, |row| row.get(0))?.collect()
}
