//! The numbered schema changes. The number of the last one applied is the file's `user_version`.

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use super::{StoreError, unavailable};

/// In their order. A released one is never edited: a change is a new one.
const ALL: &[M<'_>] =
    &[M::up(include_str!("migrations/0001_core.sql")), M::up(include_str!("migrations/0003_recommendations.sql"))];

/// Applies what is missing, each in a transaction.
///
/// # Errors
/// When one fails, or when the file is from a newer version of the server.
pub(super) fn run(connection: &mut Connection) -> Result<(), StoreError> {
    Migrations::from_slice(ALL)
        .to_latest(connection)
        .map_err(|error| unavailable(&format!("the schema cannot be brought up to date: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apply_to_an_empty_file_and_again() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection).unwrap();
        run(&mut connection).unwrap();
        let version: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, ALL.len());
    }

    #[test]
    fn a_file_from_a_newer_version_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", ALL.len() + 1).unwrap();
        assert!(matches!(run(&mut connection), Err(StoreError::Unavailable(_))));
    }
}
