use std::path::Path;

use protocol::MemberId;

use super::*;
use crate::store::sqlite::state::MemberRef;

fn thread(folder: &Path) -> WriterThread {
    let path = folder.join("test.db");
    let mut connection = crate::store::sqlite::connect(&path).unwrap();
    crate::store::sqlite::migrations::run(&mut connection).unwrap();
    let metrics = Arc::new(Metrics::new());
    let supervisor = Supervisor::new(Arc::clone(&metrics), <_>::default());
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
    let ids = Arc::new(Ids::new(Arc::clone(&clock), Arc::new(crate::ids::SystemEntropy)));
    WriterThread {
        checkpoints: Checkpoints::spawn(&path, 100, &supervisor).unwrap(),
        builder: None,
        slice: None,
        memory: Memory::open(&connection).unwrap(),
        is_undone: false,
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
        let invented = MemberRef { key: 1, is_active: true, user_type: protocol::model::UserType::Member };
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
