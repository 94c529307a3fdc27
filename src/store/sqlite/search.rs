//! The search index of members (FTS5): only what they share is in it.

use rusqlite::{Connection, params};

use super::members::record;
use crate::store::{members::MemberRecord, text};

/// Puts a member into the index as they are now, or takes them out.
pub(super) fn index(connection: &Connection, key: i64, record: &MemberRecord) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM member_search WHERE rowid = ?")?.execute([key])?;
    if !record.profile.is_active {
        return Ok(());
    }
    let shared = record.profile.shared();
    let words = |text: &str| text::words(text).join(" ");
    let optional = |text: Option<String>| words(&text.unwrap_or_default());
    let mut insert =
        connection.prepare_cached("INSERT INTO member_search (rowid, name, company, position) VALUES (?, ?, ?, ?)")?;
    let (company, position) = (shared.contact_info.company, shared.contact_info.position);
    insert.execute(params![key, words(&shared.name), optional(company), optional(position)]).map(drop)
}

/// Members of whom each word is the beginning of a word in the index, the better ones first.
pub(super) fn find(connection: &Connection, words: &[String], limit: usize) -> rusqlite::Result<Vec<MemberRecord>> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    // Words have letters and digits only, so there is nothing to escape within the quotes.
    let pattern: Vec<String> = words.iter().map(|word| format!("\"{word}\"*")).collect();
    // CROSS JOIN: the search index first, whatever the planner believes from statistics of a smaller club.
    let mut query = connection.prepare_cached(
        "SELECT m.* FROM member_search s CROSS JOIN members m ON m.key = s.rowid
         WHERE member_search MATCH ? ORDER BY bm25(member_search, 10, 3, 2) LIMIT ?",
    )?;
    let rows = query.query_map(params![pattern.join(" "), limit], record)?;
    rows.collect()
}
