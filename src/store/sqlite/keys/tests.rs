use std::path::Path;

use protocol::{ClientMessageId, MessageId};
use rusqlite::params;

use super::*;
use crate::{store::sqlite::migrations, supervisor::Supervisor};

fn ids(number: u64) -> (ClientMessageId, MessageId) {
    let (mut client, mut message) = ([7; 16], [9; 12]);
    client[..8].copy_from_slice(&number.to_be_bytes());
    message[..8].copy_from_slice(&number.to_be_bytes());
    (ClientMessageId::from_bytes(client), MessageId::from_bytes(message))
}

fn keys_of(keys: &Keys, number: u64) -> [Key; 2] {
    let (client, message) = ids(number);
    [keys.hashing.client_id(1, 1, client), keys.hashing.message(message)]
}

/// What the writer does: appends, and takes what the builder has made, `slices` at most.
fn append(connection: &Connection, keys: &mut Keys, builder: &Builder, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let (client, message) = ids(number);
        let sql = "INSERT INTO entries (position, conversation, seq, sender, id, client_id, at, content)
            VALUES (?, 1, ?, 1, ?, ?, 1, '')";
        connection.execute(sql, params![number, number, message.as_bytes(), client.as_bytes()]).unwrap();
        let [client, message] = keys_of(keys, number);
        keys.insert(number, client, message);
        keys.keep();
        while let Some(task) = keys.task() {
            builder.give(task);
        }
        let slice = match builder.slices() {
            Some(slices) if keys.must_wait() => slices.recv().ok(),
            slices => slices.and_then(|slices| slices.try_recv().ok()),
        };
        if let Some(slice) = slice {
            Keys::write(connection, &slice).unwrap();
            keys.written(slice);
        }
    }
}

/// Until nothing is left to be made.
fn finish(connection: &Connection, keys: &mut Keys, builder: &Builder) {
    while keys.sealed.is_some() || keys.is_merging {
        let slice = builder.slices().unwrap().recv().unwrap();
        Keys::write(connection, &slice).unwrap();
        keys.written(slice);
        while let Some(task) = keys.task() {
            builder.give(task);
        }
    }
}

fn open(path: &Path) -> (Connection, Keys, Builder) {
    let mut connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF").unwrap();
    migrations::run(&mut connection).unwrap();
    let mut keys = Keys::open(&connection).unwrap();
    keys.table = 512;
    let builder = Builder::spawn(path, &Supervisor::new(Arc::default(), <_>::default())).unwrap();
    (connection, keys, builder)
}

fn assert_all_found(connection: &Connection, keys: &Keys, until: u64) {
    for number in 1..until {
        for key in keys_of(keys, number) {
            assert_eq!(keys.find(connection, key).unwrap(), [number]);
        }
    }
    for absent in until..until + 100 {
        assert!(keys_of(keys, absent).iter().all(|key| keys.find(connection, *key).unwrap().is_empty()));
    }
}

#[test]
fn every_entry_is_found_through_tables_runs_merges_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let (connection, mut keys, builder) = open(&path);
    append(&connection, &mut keys, &builder, 1..10_000);
    assert_all_found(&connection, &keys, 10_000);
    // A kill: what is being made is gone, and its first pages are there.
    drop((builder, keys, connection));
    let (connection, mut keys, builder) = open(&path);
    assert_all_found(&connection, &keys, 10_000);
    append(&connection, &mut keys, &builder, 10_000..30_000);
    finish(&connection, &mut keys, &builder);
    assert_all_found(&connection, &keys, 30_000);
    assert!(keys.runs.iter().any(|run| run.level == 2), "merged twice");
    assert!(keys.runs.len() < 3 * FAN_IN, "{} runs", keys.runs.len());
    drop((builder, keys, connection));
    let (connection, keys, builder) = open(&path);
    assert_all_found(&connection, &keys, 30_000);
    // What nobody uses any more is removed.
    let known = "SELECT count(*) FROM key_pages WHERE page >> 32 NOT IN (SELECT number FROM key_runs)";
    let unused = || connection.query_row(known, [], |row| row.get::<_, u64>(0)).unwrap();
    while unused() > 0 {
        Keys::write(&connection, &builder.slices().unwrap().recv().unwrap()).unwrap();
    }
}

/// Its ids would be taken for new ones, and a retry stored twice.
#[test]
fn a_page_of_a_run_that_is_missing_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (connection, mut keys, builder) = open(&folder.path().join("test.db"));
    append(&connection, &mut keys, &builder, 1..600);
    finish(&connection, &mut keys, &builder);
    assert_all_found(&connection, &keys, 600);
    assert!(connection.execute("DELETE FROM key_pages", []).unwrap() > 0);
    let [client, message] = keys_of(&keys, 1);
    for key in [client, message] {
        assert!(keys.find(&connection, key).is_err());
    }
    // Nor is it merged away.
    let page = keys.runs[0].place.page(message);
    assert!(builder::read_page(&connection, page, &mut Vec::new()).is_err());
}

#[test]
fn what_was_undone_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let (connection, mut keys, _builder) = open(&folder.path().join("test.db"));
    let [client, message] = keys_of(&keys, 1);
    keys.insert(1, client, message);
    keys.keep();
    keys.insert(2, client, message);
    assert_eq!(keys.find(&connection, client).unwrap(), [2, 1]);
    keys.undo();
    assert_eq!(keys.find(&connection, client).unwrap(), [1]);
}
