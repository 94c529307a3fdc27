//! What is SQLite's own.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use members_book::{
    position::Position,
    service::views,
    store::{StoreError, changes::Change, turns::Caller},
};
use protocol::rest::{ContactInfoPatch, MemberPatch};
use rusqlite::{Connection, ErrorCode, params};

use super::{fixture::Fixture, mail::drain};
use crate::harness::eventually;

/// Members who ask for much wait behind themselves, and so does whoever tries to sign in from one address.
#[tokio::test]
async fn what_a_member_asks_for_keeps_nobody_else_waiting() {
    let f = Fixture::sqlite();
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let members = &f.store.members;
    let greedy = Caller::Member(ana);
    let many = (0..1_000).map(|_| members.last_seen(greedy, vec![ben; 500]));
    let (many, (by_id, by_email, check)) = tokio::join!(futures_util::future::join_all(many), async {
        let by_email = members.by_email(Caller::Address([192, 0, 2, 1].into()), "nobody@example.com");
        tokio::join!(members.by_id(Caller::Member(ben), ana), by_email, f.store.backend.check())
    });
    assert!(many.contains(&Err(StoreError::Overloaded)), "the surplus is refused");
    assert!(by_id.unwrap().is_some() && by_email.unwrap().is_none() && check.is_ok());
}

#[tokio::test]
async fn everything_is_there_after_a_reopening() {
    let f = Fixture::sqlite();
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let message = f.say(ana, ben, "hello").await;
    let position = f.store.log.position().await.unwrap();
    let id = f.store.backend.store_id();
    f.store.backend.close().await;
    let folder = Arc::clone(&f.folder);
    drop(f);

    let f = Fixture::sqlite_in(folder).unwrap();
    assert_eq!(f.store.backend.store_id(), id);
    assert_eq!(f.store.log.position().await.unwrap(), position);
    assert_eq!(f.say(ben, ana, "hi").await.seq, message.seq + 1);
    assert_eq!(f.store.log.position().await.unwrap(), Position(position.0 + 1));
}

#[tokio::test]
async fn a_second_server_on_the_same_file_is_refused() {
    let f = Fixture::sqlite();
    let Err(StoreError::Unavailable(reason)) = Fixture::sqlite_in(Arc::clone(&f.folder)) else { panic!() };
    assert!(reason.contains("in use by another server"), "{reason}");
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let f = Fixture::sqlite();
    f.store.backend.close().await;
    assert!(matches!(f.store.members.by_id(Caller::System, f.ids.member()).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(f.store.log.apply(Vec::new()).await, Err(StoreError::Unavailable(_))));
    assert!(f.store.backend.check().await.is_err());
}

#[tokio::test]
async fn nobody_else_on_the_machine_can_read_the_file() {
    let f = Fixture::sqlite();
    f.member("Ana").await;
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        let mode = std::fs::metadata(f.folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// The rules are in the database too: whoever writes beside the server cannot break them.
#[tokio::test]
async fn the_database_itself_refuses_what_must_not_be() {
    let f = Fixture::sqlite();
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.say(ana, ben, "hello").await;
    f.store.backend.close().await;
    let file = Connection::open(f.folder.path().join("store.db")).unwrap();
    file.pragma_update(None, "foreign_keys", true).unwrap();
    let refused = |sql: &str| match file.execute(sql, params![]) {
        Err(rusqlite::Error::SqliteFailure(error, _)) => error.code == ErrorCode::ConstraintViolation,
        other => panic!("{sql}: {other:?}"),
    };
    let copy = "INSERT INTO entries (position, conversation, seq, sender, id, client_id, at, content)
                SELECT position + 1";
    let other_ids = "randomblob(12), randomblob(16), at, content FROM entries";
    // The index has every 32nd.
    file.execute(&format!("{copy}, conversation, 32, sender, {other_ids}"), params![]).unwrap();
    let again = copy.replace("position + 1", "position + 2");
    assert!(refused(&format!("{again}, conversation, 32, sender, {other_ids} WHERE seq = 1")), "the same seq twice");
    assert!(refused("UPDATE participants SET read = 1, delivered = 0"), "read before it was delivered");
    assert!(refused("UPDATE members SET email_key = 'ana@example.com'"), "one address for two");
    assert!(refused("UPDATE members SET tier = 'Gold'"), "no such tier");
    assert!(refused("DELETE FROM members"), "members with messages");
}

/// Who leaves is in no page of the file and in no frame of the log, however often their record was written before.
#[tokio::test]
async fn an_erased_member_leaves_no_bytes() {
    let f = Fixture::sqlite();
    let mut others = Vec::new();
    for number in 0..40 {
        others.push(f.member(&format!("Neighbour{number}")).await);
    }
    let ana = f.member("Xyzanaxyz").await;
    let patch = |company: &str, phone: &str| {
        let contact_info = ContactInfoPatch {
            phone: Some(Some(phone.to_owned())),
            company: Some(Some(company.to_owned())),
            position: Some(Some(format!("{company} position"))),
        };
        let patch = MemberPatch { contact_info: Some(contact_info), ..Default::default() };
        Change::Profile { edit: views::edit(patch), expected: None }
    };
    // Records grow, so that rows move between pages.
    for round in 0..3 {
        f.change(ana, patch(&format!("Qwvcompany{round}"), "+351 900 123 987")).await;
        for id in &others {
            f.change(*id, patch(&"Company ".repeat(round + 1), "+351 1")).await;
        }
    }
    let secrets = ["xyzana", "qwvcompany", "qwvcompany2 position", "900 123 987", "hash of xyz"];
    let there = |secret: &str| {
        ["store.db", "store.db-wal"].iter().any(|name| {
            let bytes = std::fs::read(f.folder.path().join(name)).unwrap().to_ascii_lowercase();
            bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
        })
    };
    assert_eq!(secrets.map(there), [true; 5]);
    f.change(ana, Change::Erase).await;
    assert_eq!(
        secrets.map(there),
        [true, false, false, false, false],
        "the address, in the mail that tells it: {secrets:?}"
    );
    drain(&f).await;
    eventually("the address is gone once that is sent", async || (!there("xyzana")).then_some(())).await;
    assert!(there("neighbour7"), "the others are there");
}
