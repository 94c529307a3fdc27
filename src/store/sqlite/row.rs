//! Columns to types and back.

use protocol::{Timestamp, model::ConversationKind};
use rusqlite::{Connection, Row, types::Type};

use super::StoreError;
use crate::store::rules;

/// A time column.
pub(super) fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

/// A time column that may be empty.
pub(super) fn optional_time(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// One of a fixed set of words in a text column.
pub(super) fn word<T: Copy>(row: &Row<'_>, column: &str, known: &[(&str, T)]) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    known
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, format!("{column} is {text:?}").into()))
}

/// The kind of a conversation.
pub(super) fn kind(row: &Row<'_>) -> rusqlite::Result<ConversationKind> {
    let word: String = row.get("kind")?;
    rules::kind_of(&word).ok_or_else(|| inconsistent("a conversation is of no kind that we know"))
}

/// A number that changes whenever another process has changed the file. Of the transaction that is under way.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

/// The data contradicts itself: a fault of ours.
pub(super) fn inconsistent(what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Null, what.into())
}

/// What an error of SQLite means for the caller.
#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    match &error {
        // Constraints are checked before they can be hit, so a violation is a fault of ours.
        rusqlite::Error::SqliteFailure(code, _) if code.code != rusqlite::ErrorCode::ConstraintViolation => {
            StoreError::Unavailable(error.to_string())
        }
        _ => StoreError::Inconsistent(error.to_string()),
    }
}
