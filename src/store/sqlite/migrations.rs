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
        M::up(include_str!("migrations/0004_chain.sql")),
        M::up(include_str!("migrations/0005_presence.sql")),
        M::up(include_str!("migrations/0006_epochs.sql")),
    ]
}

/// Gives every member that there is a name to sort by and a place in the search index.
fn index_members(tx: &Transaction<'_>) -> HookResult {
    // With a value for every column that came later.
    let mut query = tx.prepare("SELECT *, 'partners' AS presence_to FROM members")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (key, record) = (row.get("key")?, members::record(row)?);
        tx.execute("UPDATE members SET name_key = ? WHERE key = ?", (record.name_key(), key))?;
        search::index(tx, key, &record)?;
    }
    Ok(())
}

/// How many there are.
pub(super) fn count() -> usize {
    all().len()
}

/// How many are missing.
pub(super) fn pending(connection: &Connection) -> rusqlite::Result<usize> {
    let version: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(all().len().saturating_sub(version))
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
    fn logs_of_an_older_file_become_chains() {
        let mut connection = Connection::open_in_memory().unwrap();
        Migrations::new(all()[..3].to_vec()).to_latest(&mut connection).unwrap();
        connection
            .execute_batch(
                "INSERT INTO members (id, name, email, email_key, password_hash, tier, user_type, created_at, updated_at, is_active)
                 VALUES (zeroblob(12), 'Ana', 'a@example.com', 'a@example.com', '', 'Infinity', 'member', 1, 1, 1);
                 INSERT INTO conversations (id, kind, last_seq, last_at, last_position, changed)
                 VALUES (zeroblob(12), 'direct', 40, 1, 90, 90), (randomblob(12), 'direct', 0, 1, 0, 0);
                 WITH RECURSIVE n(seq) AS (VALUES (1) UNION ALL SELECT seq + 1 FROM n WHERE seq < 40)
                 INSERT INTO entries (position, conversation, seq, sender, id, client_id, at, content)
                 SELECT 2 * seq, 1, seq, 1, randomblob(12), randomblob(16), 1, 'x' FROM n;",
            )
            .unwrap();
        run(&mut connection).unwrap();
        let mut query = connection.prepare(super::super::history::BEFORE).unwrap();
        let seqs = |bound: i64| {
            let rows = query.query_map((1, bound, 100), |row| row.get("seq")).unwrap();
            rows.collect::<rusqlite::Result<Vec<u64>>>().unwrap()
        };
        assert_eq!([i64::MAX, 33, 32, 1].map(seqs), [41, 33, 32, 1].map(|end| (1..end).rev().collect::<Vec<_>>()));
    }

    /// Nothing that reads a log looks through all of them.
    #[test]
    fn logs_are_read_by_their_keys() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection).unwrap();
        for sql in [super::super::history::BEFORE, super::super::history::BETWEEN] {
            let mut query = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = query.query_map((1, 2, 3), |row| row.get::<_, String>("detail")).unwrap();
            let plan = steps.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ");
            assert!(
                plan.contains("INDEX entries_by_seq (conversation=? AND seq>?)") && !plan.contains("SCAN e"),
                "{plan}"
            );
        }
    }

    #[test]
    fn a_file_from_a_newer_version_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", all().len() + 1).unwrap();
        assert!(matches!(run(&mut connection), Err(StoreError::Unavailable(_))));
    }
}
