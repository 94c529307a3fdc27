//! The search index of members (FTS5): only what they share is in it.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::members::record;
use crate::{
    store::members::{Contact, MemberRecord},
    text,
};

/// Puts a member into the index as they are now, or takes them out.
pub(super) fn index(connection: &Connection, key: i64, record: &MemberRecord) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM member_search WHERE rowid = ?")?.execute([key])?;
    if !record.profile.is_active {
        return Ok(());
    }
    let Contact { company, position, .. } = record.profile.shared_contact();
    let words = |text: &str| text::words(text).join(" ");
    let optional = |text: Option<String>| words(&text.unwrap_or_default());
    let mut insert =
        connection.prepare_cached("INSERT INTO member_search (rowid, name, company, position) VALUES (?, ?, ?, ?)")?;
    insert.execute(params![key, words(&record.profile.name), optional(company), optional(position)]).map(drop)
}

/// Members of whom each word is a whole word in the index, then those of whom it is a beginning; no more than `limit`.
///
/// In the order of the row id there is nothing to be rated, and the index is read as far as the limit only.
pub(super) fn find(connection: &Connection, words: &[String], limit: usize) -> rusqlite::Result<Vec<MemberRecord>> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    if words.is_empty() {
        return Ok(found);
    }
    let mut matching = connection
        .prepare_cached("SELECT rowid FROM member_search WHERE member_search MATCH ? ORDER BY rowid LIMIT ?")?;
    let mut by_key = connection.prepare_cached("SELECT * FROM members WHERE key = ?")?;
    for end in ["", "*"] {
        // Words have letters and digits only, so there is nothing to escape within the quotes.
        let pattern: Vec<String> = words.iter().map(|word| format!("\"{word}\"{end}")).collect();
        let keys = matching.query_map(params![pattern.join(" "), limit], |row| row.get::<_, i64>(0))?;
        for key in keys {
            let key = key?;
            if found.len() < limit && seen.insert(key) {
                found.push(by_key.query_row([key], record)?);
            }
        }
    }
    Ok(found)
}
