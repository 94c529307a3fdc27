use protocol::MemberId;

use super::*;
use crate::store::sqlite::state::MemberRef;

/// Found by reading: what a job had remembered before it failed was believed by the next one of the same transaction.
#[test]
fn what_a_failed_job_remembered_is_not_believed_by_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let mut connection = crate::store::sqlite::connect(&path).unwrap();
    crate::store::sqlite::migrations::run(&mut connection).unwrap();
    let metrics = Arc::new(Metrics::new());
    let supervisor = Supervisor::new(Arc::clone(&metrics), <_>::default());
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
    let ids = Arc::new(Ids::new(Arc::clone(&clock), Arc::new(crate::ids::SystemEntropy)));
    let mut thread = WriterThread {
        checkpoints: Checkpoints::spawn(&path, 100, &supervisor).unwrap(),
        builder: None,
        slice: None,
        memory: Memory::open(&connection).unwrap(),
        is_undone: false,
        connection,
        flushed: Arc::new(Flushed::new(0)),
        injected: Injected { clock, ids, metrics },
        health: Arc::default(),
    };
    let member = MemberId::from_bytes([1; 12]);
    let (failed, mut first) = oneshot::channel::<Result<(), StoreError>>();
    let (good, mut second) = oneshot::channel();
    let remember = move |tx: &mut Tx<'_>| {
        let invented = MemberRef { key: 1, is_active: true, user_type: protocol::model::UserType::Member };
        tx.memory.members.insert(member, invented);
        Err(rusqlite::Error::QueryReturnedNoRows)
    };
    let look = move |tx: &mut Tx<'_>| Ok(tx.memory.members.get(&member).is_some());
    let mut batch: Vec<Box<dyn Write>> = vec![
        Box::new(Call { work: Some(remember), value: None, answer: failed }),
        Box::new(Call { work: Some(look), value: None, answer: good }),
    ];
    thread.commit(&mut batch);
    assert!(first.try_recv().unwrap().is_err());
    assert!(!second.try_recv().unwrap().unwrap(), "it believed what was undone");
    thread.checkpoints.finish();
}
