//! The numbered schema changes. The number of the last one applied is the file's `user_version`.

use rusqlite::{Connection, Transaction};
use rusqlite_migration::{HookResult, M, Migrations};

use super::{StoreError, members, search, unavailable};

/// In their order. A released one is never edited: a change is a new one.
fn all() -> Vec<M<'static>> {
    vec![
        M::up(include_str!("migrations/0001_core.sql")),
        M::up_with_hook(include_str!("migrations/0002_directory.sql"), index_members),
        M::up(include_str!("migrations/0003_recommendations.sql")),
    ]
}

/// Gives every member that there is a name to sort by and a place in the search index.
fn index_members(tx: &Transaction<'_>) -> HookResult {
    let mut query = tx.prepare("SELECT * FROM members")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (key, record) = (row.get("key")?, members::record(row)?);
        tx.execute("UPDATE members SET name_key = ? WHERE key = ?", (record.name_key(), key))?;
        search::index(tx, key, &record)?;
    }
    Ok(())
}

/// Applies what is missing, each in a transaction.
///
/// # Errors
/// When one fails, or when the file is from a newer version of the server.
pub(super) fn run(connection: &mut Connection) -> Result<(), StoreError> {
    Migrations::new(all())
        .to_latest(connection)
        .map_err(|error| unavailable(&format!("the schema cannot be brought up to date: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::members::MemberRecord;

    #[test]
    fn apply_to_an_empty_file_and_again() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection).unwrap();
        run(&mut connection).unwrap();
        let version: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, all().len());
    }

    #[test]
    fn members_of_an_older_file_are_found_by_name() {
        let mut connection = Connection::open_in_memory().unwrap();
        Migrations::new(vec![M::up(include_str!("migrations/0001_core.sql"))]).to_latest(&mut connection).unwrap();
        connection
            .execute_batch(
                "INSERT INTO members (id, name, email, email_key, password_hash, tier, user_type, created_at, updated_at, is_active)
                 VALUES (zeroblob(12), 'Ângela Sá', 'a@example.com', 'a@example.com', '', 'Infinity', 'member', 1, 1, 1)",
            )
            .unwrap();
        run(&mut connection).unwrap();
        let found = search::find(&connection, &["ange".to_owned(), "sa".to_owned()], 10).unwrap();
        assert_eq!(found.first().map(MemberRecord::name_key).as_deref(), Some("angela sa"));
    }

    #[test]
    fn a_file_from_a_newer_version_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", all().len() + 1).unwrap();
        assert!(matches!(run(&mut connection), Err(StoreError::Unavailable(_))));
    }
}
