//! Opening, closing, and the health of the store.

use std::path::Path;

use super::*;
use crate::store::sessions::{Exchange, Rotation};

/// A kill of the process does not show a missing fsync, a loss of power does.
#[test]
fn a_commit_is_synced_before_it_returns() {
    let folder = tempfile::tempdir().unwrap();
    let connection = connect(&folder.path().join("test.db")).unwrap();
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!((journal.as_str(), pragma("synchronous"), pragma("foreign_keys")), ("wal", 2, 1));
}

fn open(path: &Path, exclusive: bool) -> Result<Store, StoreError> {
    open_with(path, exclusive, Duration::from_secs(5))
}

fn open_with(path: &Path, exclusive: bool, timeout: Duration) -> Result<Store, StoreError> {
    let metrics = Arc::new(Metrics::new());
    let supervisor = Supervisor::new(Arc::clone(&metrics), <_>::default());
    let clock = Arc::new(crate::clock::SystemClock);
    let ids = Arc::new(Ids::new(Arc::clone(&clock) as _, Arc::new(crate::ids::SystemEntropy)));
    let options = Options { path: path.to_owned(), readers: 1, timeout, exclusive };
    Sqlite::open(options, clock, ids, metrics, &supervisor)
}

/// Found by a newcomer: the database of another program was adopted without a word.
#[test]
fn a_file_that_is_no_store_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    let dump = "CREATE TABLE meta (only INTEGER, store_id BLOB, position INTEGER)";
    for (content, problem) in [
        ("CREATE TABLE a (b)", "database of another program"),
        ("CREATE TABLE members (id)", "database of another program"),
        ("PRAGMA journal_mode = WAL; CREATE TABLE a (b)", "database of another program"),
        ("CREATE TABLE meta (key, value); PRAGMA user_version = 3", "database of another program"),
        ("PRAGMA user_version = 13", "database of another program"),
        (dump, "as after a dump"),
    ] {
        let _ = fs::remove_file(&path);
        Connection::open(&path).unwrap().execute_batch(content).unwrap();
        let before = fs::read(&path).unwrap();
        for refused in [open(&path, true).err(), open(&path, false).err(), migrate(&path, false).err()] {
            let refused = refused.unwrap().to_string();
            assert!(refused.contains(problem) && refused.contains("other.db"), "{content}: {refused}");
        }
        assert_eq!(fs::read(&path).unwrap(), before, "{content}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{content}");
    }
}

#[tokio::test]
async fn an_empty_file_is_as_good_as_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    assert!(migrate(&path, true).unwrap_err().to_string().contains("test.db"));
    fs::write(&path, "").unwrap();
    assert!(migrate(&path, true).unwrap_err().to_string().contains("empty file"));
    open(&path, true).unwrap().backend.close().await;
    assert!(migrate(&path, true).unwrap().is_empty());
}

/// `admin create` of a newer version beside a server of an older one.
#[tokio::test]
async fn a_command_beside_a_server_does_not_change_the_schema_under_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    migrations::run_to(&mut Connection::open(&path).unwrap(), migrations::count() - 1).unwrap();
    let server = lock(&path).unwrap();
    let refused = open(&path, false).err().unwrap().to_string();
    assert!(refused.contains("schema") && refused.contains("in use by another server"), "{refused}");
    drop(server);
    open(&path, false).unwrap().backend.close().await;
    let _server = lock(&path).unwrap();
    open(&path, false).unwrap().backend.close().await;
}

/// What was exchanged before exchanges had names is given again to who has none, and its successor is exchanged by one.
#[tokio::test]
async fn a_session_of_an_older_file_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let mut connection = Connection::open(&path).unwrap();
    migrations::run_to(&mut connection, 21).unwrap();
    connection
        .execute_batch(
            "INSERT INTO members (id, name, email, email_key, password_hash, tier, user_type, created_at, updated_at, is_active)
             VALUES (zeroblob(12), 'Ana', 'a', 'a', '', 'Infinity', 'member', 1, 1, 1);
             INSERT INTO sessions (id, member, created_at, generation, newest) VALUES (zeroblob(12), 1, 1, 1, unhex(replace(hex(zeroblob(32)), '00', '02')));
             INSERT INTO refresh_tokens (hash, session, expires_at, used_at)
             VALUES (unhex(replace(hex(zeroblob(32)), '00', '01')), 1, 1000, 1), (unhex(replace(hex(zeroblob(32)), '00', '02')), 1, 1000, NULL);",
        )
        .unwrap();
    drop(connection);
    let store = open(&path, true).unwrap();
    let member = protocol::MemberId::from_bytes([0; 12]);
    let rotate = async |used: u8, attempt: Option<u8>| {
        let exchange = Exchange {
            used: [used; 32],
            successor: [used + 1; 32],
            former: Vec::new(),
            attempt: attempt.map(|name| [name; 32]),
            address: None,
            at: protocol::Timestamp::from_millis(10),
            token_lifetime: Duration::from_secs(1),
            session_lifetime: Duration::from_secs(1),
        };
        match store.sessions.rotate(member, exchange).await.unwrap() {
            Rotation::Rotated(renewal) => Some(renewal.again),
            _ => None,
        }
    };
    assert_eq!(rotate(1, None).await, Some(true));
    assert_eq!((rotate(2, Some(7)).await, rotate(2, Some(7)).await), (Some(false), Some(true)));
    assert_eq!(rotate(2, None).await, None);
    store.backend.close().await;
}

/// Found by a kill between an erasure and the scrub that follows it: the log had the profile until an orderly stop.
#[tokio::test]
async fn a_start_leaves_nothing_in_the_log_of_before() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("test.db"), folder.path().join("copy.db"));
    let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    let store = open(&path, true).unwrap();
    store.backend.check().await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('unforgettable'); DELETE FROM t").unwrap();
    let has = |path: &Path| {
        let bytes = fs::read(log(path)).unwrap_or_default();
        bytes.windows(13).any(|window| window == b"unforgettable")
    };
    assert!(has(&path));
    // As a kill leaves them.
    fs::copy(&path, &copy).unwrap();
    fs::copy(log(&path), log(&copy)).unwrap();
    let started = open(&copy, true).unwrap();
    assert!(!has(&copy));
    started.backend.close().await;
    store.backend.close().await;
}

/// Found from outside: a start beside a process that wrote, and be it for a moment, failed at once.
#[tokio::test]
async fn a_start_waits_for_another_process_that_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    open(&path, true).unwrap().backend.close().await;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let starting = tokio::task::spawn_blocking(move || open(&path, true));
    // Long enough for a start to meet it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    other.execute_batch("COMMIT").unwrap();
    starting.await.unwrap().unwrap().backend.close().await;
}

#[tokio::test]
async fn a_transaction_that_hangs_is_no_good_health_whatever_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let store = open_with(&path, true, Duration::from_millis(50)).unwrap();
    store.backend.check().await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Of a member's record, that is of no lane of messages.
    let late = store.members.record_last_seen(Vec::new()).await;
    assert_eq!(late, Err(StoreError::Timeout));
    // The writer has begun a moment after the call whose time is up.
    let mut unwell = store.backend.check().await;
    while unwell.is_ok() {
        tokio::task::yield_now().await;
        unwell = store.backend.check().await;
    }
    assert!(matches!(unwell, Err(StoreError::Unavailable(_))), "it is known, and not waited for: {unwell:?}");
    other.execute_batch("COMMIT").unwrap();
    while store.backend.check().await.is_err() {
        tokio::task::yield_now().await;
    }
    store.backend.close().await;
}

/// Found by reading: with many sessions it ended with an error, and was done all the same.
#[tokio::test]
async fn what_ends_after_a_restore_takes_the_time_that_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let store = open_with(&path, true, Duration::ZERO).unwrap();
    let at = protocol::Timestamp::from_millis(1_795_370_633_000);
    let ended = store.backend.end_after_restore(Ending { at, invitations: true }).await.unwrap();
    assert_eq!(ended, Ended { invitations: Some(0), ..Ended::default() });
    store.backend.close().await;
}
