//! The numbered schema changes. The number of the last one applied is the file's `user_version`.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction};
use rusqlite_migration::{HookResult, M, Migrations};

use super::{StoreError, history, keys, members, row, search, tally, unavailable};

/// In their order. A released one is never edited: a change is a new one.
fn all() -> Vec<M<'static>> {
    vec![
        M::up(include_str!("migrations/0001_core.sql")),
        M::up_with_hook(include_str!("migrations/0002_directory.sql"), index_members),
        M::up(include_str!("migrations/0003_recommendations.sql")),
        M::up(include_str!("migrations/0004_chain.sql")),
        M::up(include_str!("migrations/0005_presence.sql")),
        M::up(include_str!("migrations/0006_epochs.sql")),
        M::up_with_hook(include_str!("migrations/0007_tally.sql"), tally_logs),
        M::up(include_str!("migrations/0008_erasure.sql")),
        M::up(include_str!("migrations/0009_plans.sql")),
        M::up(include_str!("migrations/0010_jobs.sql")),
        M::up(include_str!("migrations/0011_formats.sql")),
        M::up_with_hook(include_str!("migrations/0012_log.sql"), free_entries_of_indexes),
        M::up_with_hook(include_str!("migrations/0013_key_secret.sql"), |tx| Ok(keys::rebuild(tx)?)),
        M::up(include_str!("migrations/0014_sessions.sql")),
        M::up(include_str!("migrations/0015_registration.sql")),
        M::up(include_str!("migrations/0016_mail.sql")),
        M::up(include_str!("migrations/0017_second_factor.sql")),
        M::up(include_str!("migrations/0018_addresses.sql")),
        M::up(include_str!("migrations/0019_unverified.sql")),
        M::up(include_str!("migrations/0020_links.sql")),
        M::up(include_str!("migrations/0021_credentials.sql")),
        M::up(include_str!("migrations/0022_accounts.sql")),
        M::up(include_str!("migrations/0023_exchanges.sql")),
        M::up(include_str!("migrations/0024_mail_order.sql")),
        M::up(include_str!("migrations/0025_tokens.sql")),
        M::up(include_str!("migrations/0026_push.sql")),
        M::up(include_str!("migrations/0027_settings.sql")),
        M::up(include_str!("migrations/0028_late_exchanges.sql")),
        M::up(include_str!("migrations/0029_push_since.sql")),
        M::up(include_str!("migrations/0030_push_positions.sql")),
        M::up(include_str!("migrations/0031_configured.sql")),
        M::up(include_str!("migrations/0032_push_revisions.sql")),
        M::up(include_str!("migrations/0033_costs.sql")),
        M::up(include_str!("migrations/0034_mail_shares.sql")),
        M::up(include_str!("migrations/0035_claims.sql")),
        M::up(include_str!("migrations/0036_claim_keys.sql")),
        M::up(include_str!("migrations/0037_email_change.sql")),
        M::up(include_str!("migrations/0038_email_change_key.sql")),
        M::up(include_str!("migrations/0039_lists.sql")),
        M::up(include_str!("migrations/0040_replies.sql")),
        M::up(include_str!("migrations/0041_push_failures.sql")),
        M::up(include_str!("migrations/0042_mail_aside.sql")),
    ]
}

/// Gives every member that there is a name to sort by and a place in the search index.
fn index_members(tx: &Transaction<'_>) -> HookResult {
    // With a value for every column that came later.
    let mut query = tx.prepare(
        "SELECT *, 'partners' AS presence_to, 0 AS is_pending, NULL AS suspended_until, NULL AS suspension_reason,
             NULL AS invited_by, NULL AS invitation, NULL AS language, NULL AS email_verified_at, 0 AS must_verify,
             NULL AS second_factor_secret, NULL AS second_factor_at, NULL AS second_factor_step, NULL AS recovery_codes,
             0 AS credentials
         FROM members",
    )?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (key, record) = (row.get("key")?, members::record(row)?);
        tx.execute("UPDATE members SET name_key = ? WHERE key = ?", (record.name_key(), key))?;
        search::index(tx, key, &record)?;
    }
    Ok(())
}

/// Gives every conversation that there is its tally, and every 32nd of its entries.
fn tally_logs(tx: &Transaction<'_>) -> HookResult {
    let mut conversations = tx.prepare("SELECT key, newest FROM conversations WHERE newest IS NOT NULL")?;
    let mut rows = conversations.query([])?;
    while let Some(row) = rows.next()? {
        let (key, newest): (i64, u64) = (row.get(0)?, row.get(1)?);
        tally_log(tx, key, newest)?;
    }
    Ok(())
}

/// Walks a log twice from its end, so that it takes no memory however long it is: counts, then takes away entry by entry.
fn tally_log(tx: &Transaction<'_>, conversation: i64, newest: u64) -> rusqlite::Result<()> {
    let mut senders = tx.prepare_cached(&format!("{BACKWARDS} SELECT sender, count(*) FROM log GROUP BY sender"))?;
    let counted = senders.query_map([newest], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut sent: BTreeMap<i64, u64> = counted.collect::<rusqlite::Result<_>>()?;
    let tally = |sent: &BTreeMap<i64, u64>| tally::encode(sent.iter().map(|(key, sent)| (*key, *sent)));
    tx.prepare_cached("UPDATE conversations SET tally = ? WHERE key = ?")?.execute((tally(&sent), conversation))?;
    let mut entries = tx.prepare_cached(&format!("{BACKWARDS} SELECT position, seq, sender FROM log"))?;
    let mut update = tx.prepare_cached("UPDATE entries SET tally = ? WHERE position = ?")?;
    let mut rows = entries.query([newest])?;
    while let Some(row) = rows.next()? {
        let (position, seq, sender): (i64, u64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if seq.is_multiple_of(history::INDEXED) {
            update.execute((tally(&sent), position))?;
        }
        if let Some(sent) = sent.get_mut(&sender) {
            *sent -= 1;
        }
    }
    Ok(())
}

/// Takes from the table what was there to find entries, which runs of keys do since (the next change makes them): the index of client ids, and
/// the one that `UNIQUE` of the id stands for, which SQLite drops only once it is an index like others. The rows stay
/// where they are, however many there are.
fn free_entries_of_indexes(tx: &Transaction<'_>) -> HookResult {
    tx.execute_batch(
        "DROP INDEX entries_by_client_id;
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET name = 'entries_by_id', sql = 'CREATE UNIQUE INDEX entries_by_id ON entries (id)'
         WHERE type = 'index' AND name = 'sqlite_autoindex_entries_1';
         UPDATE sqlite_schema SET sql = replace(replace(replace(sql, 'NOT NULL UNIQUE CHECK', 'NOT NULL CHECK'),
             ' REFERENCES conversations (key)', ''), ' REFERENCES members (key)', '')
         WHERE type = 'table' AND name = 'entries';
         PRAGMA writable_schema = RESET;
         DROP INDEX entries_by_id;",
    )?;
    Ok(())
}

/// A log from its newest entry on: its position.
const BACKWARDS: &str = "WITH RECURSIVE log AS (
    SELECT position, previous, seq, sender FROM entries WHERE position = ?
    UNION ALL
    SELECT e.position, e.previous, e.seq, e.sender FROM log CROSS JOIN entries e ON e.position = log.previous
)";

/// How many there are.
pub(super) fn count() -> usize {
    all().len()
}

/// How many are missing.
///
/// # Errors
/// When the file is from a newer version of the server, or cannot be read.
pub(super) fn pending(connection: &Connection) -> Result<usize, StoreError> {
    let version: usize =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(row::store_error)?;
    all().len().checked_sub(version).ok_or_else(|| {
        unavailable(
            "its schema is from a newer version of the server: start that one, or go back to a backup from before",
        )
    })
}

/// Applies what is missing, each in a transaction.
///
/// # Errors
/// When one fails, or when the file is from a newer version of the server.
pub(super) fn run(connection: &mut Connection) -> Result<(), StoreError> {
    let pending = pending(connection)?;
    let done = Migrations::new(all()).to_latest(connection);
    done.map_err(|error| unavailable(&format!("the schema cannot be brought up to date: {}", reason(error))))?;
    if pending > 0 {
        tell(connection, count() - pending);
    }
    Ok(())
}

/// What went wrong, without the statements, which may be a whole schema.
fn reason(error: rusqlite_migration::Error) -> String {
    match error {
        rusqlite_migration::Error::RusqliteError { err: rusqlite::Error::SqlInputError { msg, .. }, .. } => msg,
        rusqlite_migration::Error::RusqliteError { err, .. } => err.to_string(),
        other => other.to_string(),
    }
}

/// Tells what has become of the file: an operator may have meant another one, or wait for an upgrade.
fn tell(connection: &Connection, from: usize) {
    let (path, to) = (connection.path().unwrap_or_default(), count());
    match from {
        0 => tracing::info!(path, "a new, empty store was made"),
        _ => tracing::info!(path, "the store was brought from schema {from} to {to}"),
    }
}

/// A file as a version had it that knew so many of them.
#[cfg(test)]
pub(super) fn run_to(connection: &mut Connection, count: usize) -> rusqlite_migration::Result<()> {
    Migrations::new(all()[..count].to_vec()).to_latest(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::members::{MemberRecord, Standing};
    use crate::store::sqlite::{claims, conversations, email_change, push, sessions};

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
    fn who_has_not_verified_the_address_in_an_older_file_is_hidden_and_who_has_signed_in_stays() {
        let mut connection = Connection::open_in_memory().unwrap();
        run_to(&mut connection, 16).unwrap();
        let columns = "(id, name, email, email_key, password_hash, tier, user_type, created_at, updated_at, is_active,
            is_pending, must_verify, last_login)";
        for (name, user_type, is_active, is_pending, last_login) in [
            ("stranger", "member", 1, 0, None),
            ("applicant", "member", 0, 1, None),
            ("member", "member", 1, 0, Some(1)),
            ("admin", "admin", 1, 0, None),
            ("deactivated", "member", 0, 0, None),
        ] {
            let sql = format!(
                "INSERT INTO members {columns} VALUES (randomblob(12), ?1, ?1, ?1, '', 'Infinity', ?2, 1, 1, ?3, ?4, 1, ?5)"
            );
            connection.execute(&sql, (name, user_type, is_active, is_pending, last_login)).unwrap();
        }
        connection.execute("INSERT INTO member_search (rowid, name) SELECT key, name FROM members", ()).unwrap();
        run(&mut connection).unwrap();
        let mut query = connection.prepare("SELECT * FROM members ORDER BY key").unwrap();
        let now = protocol::Timestamp::from_millis(2);
        let standings = query.query_map([], |row| Ok(members::record(row)?.profile.standing(now))).unwrap();
        let standings = standings.collect::<rusqlite::Result<Vec<_>>>().unwrap();
        let (hidden, active) = (Standing::Unverified, Standing::Active);
        assert_eq!(standings, [hidden, hidden, active, active, Standing::Deactivated]);
        assert!(search::find(&connection, &["stranger".to_owned()], 10).unwrap().is_empty());
        assert_eq!(search::find(&connection, &["member".to_owned()], 10).unwrap().len(), 1);
    }

    #[test]
    fn what_was_in_hand_when_an_older_server_ended_may_have_been_pushed() {
        let mut connection = Connection::open_in_memory().unwrap();
        run_to(&mut connection, 31).unwrap();
        connection
            .execute_batch(
                "INSERT INTO members (id, name, email, email_key, password_hash, tier, user_type, created_at, updated_at, is_active)
                 VALUES (zeroblob(12), 'Ana', 'a@example.com', 'a@example.com', '', 'Infinity', 'member', 1, 1, 1);
                 INSERT INTO push_devices (id, member, device, session, address, hash, platform, registered_at)
                 SELECT zeroblob(16), key, 'phone', zeroblob(12), '', zeroblob(32), 'ios', 1 FROM members;
                 INSERT INTO push_tasks (device, subject, first, last, at, due, attempts, revision)
                 SELECT key, randomblob(12), 1, 1, 1, number, number - 1, 1 FROM push_devices, (SELECT 1 AS number UNION ALL SELECT 2);",
            )
            .unwrap();
        run(&mut connection).unwrap();
        let now = protocol::Timestamp::from_millis(5);
        let taken = push::tasks::take(&connection, now, now, 10).unwrap();
        assert_eq!(taken.iter().map(|taken| taken.is_in_doubt).collect::<Vec<_>>(), [false, true]);
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
        let mut ids = history::MemberIds::of(None);
        let conversation = protocol::ConversationId::from_bytes([0; 12]);
        let seqs = |bound: u64| {
            let mut seqs = Vec::new();
            let mut log = history::LogReader { connection: &connection, key: 1, conversation, ids: &mut ids };
            log.before(bound, |entry| {
                seqs.push(entry.seq);
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
            seqs
        };
        assert_eq!(
            [history::NEVER, 33, 32, 1].map(seqs),
            [41, 33, 32, 1].map(|end| (1..end).rev().collect::<Vec<_>>())
        );
    }

    #[test]
    fn logs_of_an_older_file_are_tallied() {
        let mut connection = Connection::open_in_memory().unwrap();
        Migrations::new(all()[..4].to_vec()).to_latest(&mut connection).unwrap();
        connection
            .execute_batch(
                "INSERT INTO members (id, name, email, email_key, password_hash, tier, user_type, created_at, updated_at, is_active)
                 VALUES (randomblob(12), 'Ana', 'a', 'a', '', 'Infinity', 'member', 1, 1, 1),
                        (randomblob(12), 'Ben', 'b', 'b', '', 'Infinity', 'member', 1, 1, 1);
                 INSERT INTO conversations (id, kind, last_seq, last_at, last_position, changed, newest)
                 VALUES (zeroblob(12), 'direct', 100, 1, 200, 200, 200), (randomblob(12), 'direct', 0, 1, 0, 0, NULL);
                 WITH RECURSIVE n(seq) AS (VALUES (1) UNION ALL SELECT seq + 1 FROM n WHERE seq < 100)
                 INSERT INTO entries (position, conversation, seq, sender, id, client_id, at, content, previous)
                 SELECT 2 * seq, 1, seq, 1 + (seq % 3 = 0), randomblob(12), randomblob(16), 1, 'x', nullif(2 * seq - 2, 0)
                 FROM n;",
            )
            .unwrap();
        run(&mut connection).unwrap();
        let tally: Vec<u8> =
            connection.query_row("SELECT tally FROM conversations WHERE key = 1", [], |row| row.get(0)).unwrap();
        let log = super::super::unread::Log { conversation: 1, last_seq: 100, newest: Some(200), tally: Some(&tally) };
        for (read, last) in (0..=100).flat_map(|last| (0..=last).map(move |read| (read, last))) {
            let count = |member| super::super::unread::count(&connection, &log, member, (read, last)).unwrap().count;
            let of_ben = (read + 1..=last).filter(|seq| seq % 3 == 0).count() as u64;
            assert_eq!((count(1), count(2)), (of_ben, last - read - of_ben), "{read} to {last}");
        }
    }

    /// Made without a copy of the rows, so that it takes as long for few as for many; the file has to be sound after it.
    #[test]
    fn entries_of_an_older_file_are_found_by_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let mut connection = Connection::open(&path).unwrap();
        run_to(&mut connection, 11).unwrap();
        connection
            .execute_batch(
                "INSERT INTO members (id, name, email, email_key, password_hash, tier, user_type, created_at, updated_at, is_active)
                 VALUES (zeroblob(12), 'Ana', 'a', 'a', '', 'Infinity', 'member', 1, 1, 1);
                 INSERT INTO conversations (id, kind, last_seq, last_at, last_position, changed)
                 VALUES (zeroblob(12), 'direct', 700, 1, 1400, 1400);
                 WITH RECURSIVE n(seq) AS (VALUES (1) UNION ALL SELECT seq + 1 FROM n WHERE seq < 700)
                 INSERT INTO entries (position, conversation, seq, sender, id, client_id, at, content)
                 SELECT 2 * seq, 1, seq, 1, randomblob(12), randomblob(16), 1, 'x' FROM n;",
            )
            .unwrap();
        run(&mut connection).unwrap();
        let keys = keys::Keys::open(&connection).unwrap();
        let mut query = connection.prepare("SELECT position, client_id, id FROM entries").unwrap();
        let mut rows = query.query([]).unwrap();
        let mut found = 0;
        while let Some(row) = rows.next().unwrap() {
            let position: u64 = row.get(0).unwrap();
            let client = keys.hashing.client_id(1, 1, protocol::ClientMessageId::from_bytes(row.get(1).unwrap()));
            let message = keys.hashing.message(protocol::MessageId::from_bytes(row.get(2).unwrap()));
            for key in [client, message] {
                assert_eq!(keys.find(&connection, key).unwrap(), [position]);
            }
            found += 1;
        }
        assert_eq!(found, 700);
        let look = |sql: &str| {
            let connection = Connection::open(&path).unwrap();
            let mut query = connection.prepare(sql).unwrap();
            let rows = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
            rows.collect::<rusqlite::Result<Vec<_>>>().unwrap()
        };
        assert_eq!(look("PRAGMA integrity_check"), ["ok"]);
        assert_eq!(
            look("SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'entries'"),
            ["entries_by_seq"]
        );
        let table = look("SELECT sql FROM sqlite_schema WHERE name = 'entries'");
        assert!(!table.iter().any(|sql| sql.contains("UNIQUE") || sql.contains("REFERENCES")), "{table:?}");
    }

    /// As the version before had them, without the secret, and as a kill between the two changes leaves it: without any.
    #[test]
    fn runs_of_a_file_without_a_secret_are_made_anew() {
        for runs in ["", OLD_RUN] {
            let mut connection = Connection::open_in_memory().unwrap();
            run_to(&mut connection, 12).unwrap();
            let entries = "INSERT INTO entries (position, conversation, seq, sender, id, client_id, at, content)
                VALUES (1, 1, 1, 1, zeroblob(12), zeroblob(16), 1, 'x'), (2, 1, 2, 1, randomblob(12), randomblob(16), 1, 'x');";
            connection.execute_batch(&format!("{entries}{runs}")).unwrap();
            run(&mut connection).unwrap();
            let keys = keys::Keys::open(&connection).unwrap();
            let client = keys.hashing.client_id(1, 1, protocol::ClientMessageId::from_bytes([0; 16]));
            let message = keys.hashing.message(protocol::MessageId::from_bytes([0; 12]));
            for key in [client, message] {
                assert_eq!(keys.find(&connection, key).unwrap(), [1]);
            }
            assert_eq!(keys.runs(), 1, "none of before is left");
        }
    }

    /// A run of another hash: its filter would say that nothing is in it.
    const OLD_RUN: &str = "INSERT INTO key_runs VALUES (7, 1, 0, 2, 2, zeroblob(64));
        INSERT INTO key_pages VALUES (7 << 32, zeroblob(56));";

    /// What is unread is found by keys too, in a bounded number of steps.
    #[test]
    fn unread_messages_are_counted_by_keys() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection).unwrap();
        let plan = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
            let mut query = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = query.query_map(values, |row| row.get::<_, String>("detail")).unwrap();
            steps.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
        };
        let nearest = plan(super::super::unread::NEAREST, &[&1, &2]);
        assert!(nearest.contains("INDEX entries_by_seq (conversation=? AND seq>?)"), "{nearest}");
        let own = plan(super::super::unread::OWN_SINCE, &[&1, &2, &3]);
        assert!(!own.contains("SCAN e"), "{own}");
    }

    /// Found by an attacker: statistics of a club of five conversations stayed for ever, and every hello then looked through
    /// the conversations of everybody.
    #[test]
    fn a_member_finds_their_own_whatever_statistics_say() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection).unwrap();
        let trap = "ANALYZE; DELETE FROM sqlite_stat1;
            INSERT INTO sqlite_stat1 VALUES ('conversations', NULL, '5'),
                ('conversations', 'sqlite_autoindex_conversations_1', '5 1'),
                ('participants', 'participants_by_member', '4830 69 1'), ('participants', 'participants', '4830 2 1'),
                ('sessions', 'sessions_by_member', '40000 20000'), ('refresh_tokens', 'refresh_tokens_by_session', '3 3');
            ANALYZE sqlite_schema;";
        connection.execute_batch(trap).unwrap();
        for sql in [conversations::ROWS, conversations::PARTNERS, sessions::USED_OF_MEMBER] {
            let sql = format!("EXPLAIN QUERY PLAN {sql}");
            let mut query = connection.prepare(&sql).unwrap();
            let values = rusqlite::params_from_iter(1..=query.parameter_count());
            let steps = query.query_map(values, |row| row.get::<_, String>("detail")).unwrap();
            let plan = steps.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ");
            assert!(!plan.contains("SCAN") && !plan.contains("AUTOMATIC"), "{sql}: {plan}");
        }
    }

    #[test]
    fn statistics_of_a_former_version_are_gone_and_none_come() {
        let mut connection = Connection::open_in_memory().unwrap();
        Migrations::new(all()[..8].to_vec()).to_latest(&mut connection).unwrap();
        connection.execute_batch("ANALYZE").unwrap();
        run(&mut connection).unwrap();
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'";
        assert_eq!(connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }

    /// By the index over whose they are, whatever is asked for; a list of what is unread is counted by keys, as above.
    #[test]
    fn a_list_is_found_by_the_index_of_its_member() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection).unwrap();
        let mut query = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", conversations::ROWS)).unwrap();
        let values = rusqlite::params![[0_u8; 12], 0, history::NEVER, 51, Some(true), Some(false), true];
        let steps = query.query_map(values, |row| row.get::<_, String>("detail")).unwrap();
        let plan = steps.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ");
        for step in
            ["SEARCH p USING INDEX participants_by_member (member=?)", "SEARCH c USING INTEGER PRIMARY KEY (rowid=?)"]
        {
            assert!(plan.contains(step) && !plan.contains("SCAN c"), "{plan}");
        }
    }

    #[test]
    fn nothing_of_an_older_file_is_archived_or_at_the_top() {
        let mut connection = Connection::open_in_memory().unwrap();
        run_to(&mut connection, 38).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        let sql =
            "INSERT INTO participants (conversation, member, notify, settings_revision) VALUES (1, 1, 'nothing', 3)";
        connection.execute_batch(sql).unwrap();
        run(&mut connection).unwrap();
        let sql = "SELECT notify, archived, pinned, settings_revision FROM participants";
        let found = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
        assert_eq!(found.unwrap(), ("nothing".to_owned(), false, false, 3));
    }

    /// Whether a push service has taken what a former version had in hand is not known; what nobody had taken, nobody has sent.
    #[test]
    fn what_a_former_version_had_in_hand_is_in_doubt() {
        let mut connection = Connection::open_in_memory().unwrap();
        Migrations::new(all()[..31].to_vec()).to_latest(&mut connection).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        let sql = "INSERT INTO push_tasks (device, subject, first, last, at, due, attempts, revision)
             VALUES (1, x'010000000000000000000000', 1, 1, 0, 0, 1, 7), (1, x'020000000000000000000000', 1, 1, 0, 0, 0, 8)";
        connection.execute_batch(sql).unwrap();
        run(&mut connection).unwrap();
        let mut query = connection.prepare("SELECT attempts, unsettled FROM push_tasks ORDER BY subject").unwrap();
        let found = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(found.collect::<rusqlite::Result<Vec<(u32, u32)>>>().unwrap(), [(1, 1), (0, 0)]);
    }

    /// Nothing that reads a log looks through all of them.
    #[test]
    fn logs_are_read_by_their_keys() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection).unwrap();
        let plan = |sql: &str| {
            let mut query = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let values = rusqlite::params_from_iter(1..=query.parameter_count());
            let steps = query.query_map(values, |row| row.get::<_, String>("detail")).unwrap();
            steps.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
        };
        for sql in [history::START, history::BETWEEN] {
            let plan = plan(sql);
            assert!(
                plan.contains("INDEX entries_by_seq (conversation=? AND seq>?)") && !plan.contains("SCAN e"),
                "{plan}"
            );
        }
        assert_eq!(plan(history::STEP), "SEARCH entries USING INTEGER PRIMARY KEY (rowid=?)");
    }

    /// However many members there are.
    #[test]
    fn the_highest_cost_is_found_at_the_end_of_an_index() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection).unwrap();
        let mut query = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", members::HIGHEST_COST)).unwrap();
        let steps = query.query_map(["$2b$04", "$2b$17"], |row| row.get::<_, String>("detail")).unwrap();
        let plan = steps.collect::<rusqlite::Result<Vec<_>>>().unwrap();
        assert_eq!(plan, ["SEARCH members USING COVERING INDEX members_by_cost (<expr>>? AND <expr><?)"]);
        let mut query = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", members::COSTLIER)).unwrap();
        let steps =
            query.query_map(rusqlite::params!["$2b$04", "$2b$17", 9], |row| row.get::<_, String>("detail")).unwrap();
        let plan = steps.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ");
        assert!(plan.contains("SEARCH members USING COVERING INDEX members_by_cost (<expr>>? AND <expr><?)"), "{plan}");
    }

    /// However many links there are.
    #[test]
    fn claims_are_found_by_their_indexes() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection).unwrap();
        for (sql, index) in [
            (claims::COUNT, "links_claims"),
            (claims::OLD, "links_claims"),
            (claims::COUNT_OF, "links_by_invitation"),
            (claims::HOLDS, "links_by_address"),
            (claims::FORGET, "links_by_address"),
            (email_change::FULL_SINCE, "links_by_email"),
        ] {
            let mut query = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let values = rusqlite::params_from_iter(1..=query.parameter_count());
            let steps = query.query_map(values, |row| row.get::<_, String>("detail")).unwrap();
            let plan = steps.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ");
            assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
        }
    }

    /// However many devices and tasks there are.
    #[test]
    fn pushes_are_found_by_their_keys() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection).unwrap();
        for sql in [push::devices::DEVICES_OF, push::MARKS_OF, push::tasks::TASK, push::tasks::DUE, push::tasks::HURRY]
        {
            let mut query = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let values = rusqlite::params_from_iter(1..=query.parameter_count());
            let steps = query.query_map(values, |row| row.get::<_, String>("detail")).unwrap();
            let plan = steps.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ");
            assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
        }
    }

    #[test]
    fn a_file_from_a_newer_version_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", all().len() + 1).unwrap();
        assert!(matches!(run(&mut connection), Err(StoreError::Unavailable(_))));
    }
}
