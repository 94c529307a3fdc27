use std::path::Path;

use protocol::{ClientMessageId, ConversationId, MemberId, MessageId};

use super::*;
use crate::{
    ids::Ids,
    store::{
        conversations::{Append, Command, NewConversation},
        sqlite::{log, state::MemberRef},
    },
};

fn thread(folder: &Path) -> WriterThread {
    let path = folder.join("test.db");
    let mut connection = crate::store::sqlite::connect(&path).unwrap();
    crate::store::sqlite::migrations::run(&mut connection).unwrap();
    let metrics = Arc::new(Metrics::new());
    let supervisor = Supervisor::new(Arc::clone(&metrics), <_>::default());
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
    let ids = Arc::new(Ids::new(Arc::clone(&clock), Arc::new(crate::ids::SystemEntropy)));
    WriterThread {
        checkpoints: Checkpoints::spawn(&path, 100, &metrics, &supervisor).unwrap(),
        builder: None,
        slice: None,
        memory: Memory::open(&connection).unwrap(),
        is_undone: false,
        is_open: false,
        version: 0,
        connection,
        flushed: Arc::new(Flushed::new(0)),
        injected: Injected { clock, ids, metrics },
        health: Arc::default(),
    }
}

fn call<T: Send + 'static>(
    only_reads: bool,
    work: impl FnOnce(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
) -> (Box<dyn Write>, oneshot::Receiver<Result<T, StoreError>>) {
    let (answer, receiver) = oneshot::channel();
    (Box::new(Call { work: Some(work), value: None, only_reads, answer }), receiver)
}

/// Found from outside: on a full disk a sync was told of messages of the same transaction, which was undone then.
#[test]
fn a_read_beside_the_rows_sees_nothing_that_is_not_committed() {
    let folder = tempfile::tempdir().unwrap();
    let thread = thread(folder.path());
    // A row that the end of the transaction refuses, as a full disk does.
    thread
        .connection
        .execute_batch(
            "CREATE TABLE parent (key INTEGER PRIMARY KEY);
             CREATE TABLE child (parent INTEGER REFERENCES parent (key) DEFERRABLE INITIALLY DEFERRED);",
        )
        .unwrap();
    let (write, mut written) = call(false, |tx| tx.connection.execute("INSERT INTO child VALUES (1)", []));
    let (read, mut seen) =
        call(true, |tx| tx.connection.query_row("SELECT count(*) FROM child", [], |row| row.get::<_, i64>(0)));
    // Both are there before the thread begins, so they are gathered together.
    let (sender, queue) = bounded(2);
    sender.send(write).ok().unwrap();
    sender.send(read).ok().unwrap();
    drop(sender);
    thread.run(&queue);
    assert!(written.try_recv().unwrap().is_err());
    assert_eq!(seen.try_recv().unwrap(), Ok(0));
}

/// Found by reading: what a job had remembered before it failed was believed by the next one of the same transaction.
#[test]
fn what_a_failed_job_remembered_is_not_believed_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut thread = thread(folder.path());
    let member = MemberId::from_bytes([1; 12]);
    let (remember, mut first) = call(false, move |tx| -> rusqlite::Result<()> {
        let invented =
            MemberRef { key: 1, is_active: true, suspended_until: None, user_type: protocol::model::UserType::Member };
        tx.memory.members.insert(member, invented);
        Err(rusqlite::Error::QueryReturnedNoRows)
    });
    let (look, mut second) = call(false, move |tx| Ok(tx.memory.members.get(&member).is_some()));
    let mut batch = vec![remember, look];
    thread.commit(&mut batch);
    assert!(first.try_recv().unwrap().is_err());
    assert!(!second.try_recv().unwrap().unwrap(), "it believed what was undone");
    thread.checkpoints.finish();
}

/// Found by reading: a slice that came while another waited to be written was thrown away, and keys with it.
#[test]
fn a_transaction_that_is_undone_loses_no_slice_of_keys() {
    let folder = tempfile::tempdir().unwrap();
    let mut thread = thread(folder.path());
    let supervisor = Supervisor::new(Arc::default(), <_>::default());
    thread.builder = Some(Builder::spawn(&folder.path().join("test.db"), &supervisor).unwrap());
    // Enough for a run of several slices; each key leads to its own position.
    let hashing = thread.memory.keys.hashing;
    let key = |number: u64| {
        hashing.message(MessageId::from_bytes(std::array::from_fn(|at| {
            number.to_be_bytes().get(at).copied().unwrap_or_default()
        })))
    };
    let keys = 140_000;
    for number in 1..=keys / 2 {
        thread.memory.keys.insert(number, key(number), key(number + keys));
    }
    thread.memory.keys.keep();
    thread.give_tasks();
    let (sender, queue) = bounded(1);
    let mut batch = Vec::new();
    // Nothing can be written: the slice in hand stays there, and the builder has further ones.
    let other = Connection::open(folder.path().join("test.db")).unwrap();
    thread.connection.busy_timeout(Duration::ZERO).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut turn = |thread: &mut WriterThread| {
        let (nothing, _) = call(false, |_| Ok(()));
        let _ = sender.try_send(nothing);
        assert!(thread.gather(&queue, &mut batch));
        thread.commit(&mut batch);
    };
    while thread.slice.is_none() {
        turn(&mut thread);
    }
    while thread.builder.as_ref().and_then(Builder::slices).unwrap().is_empty() {
        std::thread::yield_now();
    }
    turn(&mut thread);
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    let runs = |thread: &WriterThread| -> i64 {
        thread.connection.query_row("SELECT count(*) FROM key_runs", [], |row| row.get(0)).unwrap()
    };
    while runs(&thread) == 0 {
        turn(&mut thread);
    }
    let again = Keys::open(&thread.connection).unwrap();
    for number in (1..=keys / 2).step_by(37) {
        assert_eq!(again.find(&thread.connection, key(number)).unwrap(), [number], "{number}");
    }
    drop(sender);
    thread.run(&queue);
}

fn insert_members(connection: &Connection, members: &[MemberId]) {
    for member in members {
        let sql =
            "INSERT INTO members (id, name, email, email_key, password_hash, tier, user_type, created_at, updated_at,
                       is_active)
                   VALUES (?1, 'x', hex(?1), hex(?1), '', 'Disruption', 'member', 0, 0, 1)";
        connection.execute(sql, [member.as_bytes()]).unwrap();
    }
}

fn append(conversation: u8, [sender, receiver]: [MemberId; 2], number: u8) -> Command {
    Command::Append(Append {
        conversation: ConversationId::from_bytes([conversation; 12]),
        create: Some(NewConversation::direct(sender, receiver)),
        sender,
        client_id: ClientMessageId::from_bytes([number; 16]),
        content: "x".to_owned(),
        reply_to: None,
    })
}

/// Found by a profile: the first slice of a flush had all that was written since the last one, and everybody waited for it.
#[test]
fn a_flush_begins_with_no_more_than_a_slice() {
    let folder = tempfile::tempdir().unwrap();
    let mut thread = thread(folder.path());
    let members: Vec<_> = (0..=200).map(|number| MemberId::from_bytes([number; 12])).collect();
    insert_members(&thread.connection, &members);
    let commands = members[1..].iter().zip(1..).map(|(member, number)| append(number, [members[0], *member], 1));
    let commands: Vec<_> = commands.collect();
    let (stored, mut answer) = call(false, move |tx| log::apply(tx, commands));
    thread.commit(&mut vec![stored]);
    assert!(answer.try_recv().unwrap().is_ok());
    let rows = |thread: &WriterThread| -> usize {
        let sql = "SELECT count(*) FROM conversations WHERE last_seq > 0";
        thread.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let slices = [64, 128, 192, 200].map(|expected| {
        thread.memory.states.flush(&thread.connection, thread.memory.position).unwrap();
        (rows(&thread), expected)
    });
    assert!(slices.iter().all(|(rows, expected)| rows == expected), "{slices:?}");
    assert!(!thread.memory.states.is_flushing());
    thread.checkpoints.finish();
}

/// Found by reading: a shutdown after a transaction that was undone wrote what was undone into the rows.
#[test]
fn a_shutdown_believes_nothing_that_was_undone() {
    let folder = tempfile::tempdir().unwrap();
    let mut thread = thread(folder.path());
    let path = folder.path().join("test.db");
    let supervisor = Supervisor::new(Arc::default(), <_>::default());
    thread.builder = Some(Builder::spawn(&path, &supervisor).unwrap());
    let members = [1, 2].map(|number| MemberId::from_bytes([number; 12]));
    insert_members(&thread.connection, &members);
    let append = move |number| append(3, members, number);
    let (stored, mut first) = call(false, move |tx| log::apply(tx, vec![append(1)]));
    let (undone, mut second) = call(false, move |tx| -> rusqlite::Result<()> {
        log::apply(tx, vec![append(2)])?;
        Err(rusqlite::Error::QueryReturnedNoRows)
    });
    thread.commit(&mut vec![stored]);
    thread.commit(&mut vec![undone]);
    assert!(first.try_recv().unwrap().is_ok() && second.try_recv().unwrap().is_err());
    let (_, queue) = bounded(0);
    thread.run(&queue);
    let after = Connection::open(path).unwrap();
    let row = "SELECT last_seq, (SELECT count(*) FROM entries) FROM conversations";
    let (last, entries): (u64, u64) = after.query_row(row, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!((last, entries), (1, 1));
}
