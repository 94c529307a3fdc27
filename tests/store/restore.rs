//! What a restored backup has brought back is ended.

use std::{sync::Arc, time::Duration};

use members_book::{
    service::messaging::direct_conversation,
    store::{
        archive::{MailRow, Part, Row},
        invitations::InvitationRecord,
        mail::{Mail, Purpose, handed_out},
        push::{DeviceMark, DeviceRecord, NewTask, Subject},
        restore::{Ended, Ending},
        sessions::Rotation,
        turns::Caller,
    },
};
use mongodb::bson::{Document, doc};
use protocol::{
    DeviceId, MemberId,
    model::Tier,
    rest::{AuditAction, PushAddress},
};
use serde_json::json;

use crate::harness::database::Server;

use super::{
    fixture::Fixture,
    for_every_store, push,
    sessions::{exchange, revoked, session},
};

for_every_store![
    what_a_backup_has_brought_back_is_ended_and_in_the_audit_log,
    registrations_for_pushes_end_with_all_that_hangs_on_them,
    invitations_are_kept_open_for_who_says_so,
];

const HOUR: Duration = Duration::from_secs(3_600);

fn invitation(f: &Fixture, by: MemberId, byte: u8) -> InvitationRecord {
    InvitationRecord {
        id: f.ids.invitation(),
        code: [byte; 32],
        tier: Tier::Infinity,
        uses: 3,
        used: 1,
        created_by: by,
        created_at: f.now(),
        expires_at: f.now().after(HOUR),
        revoked_at: None,
        note: None,
    }
}

async fn end(f: &Fixture, invitations: bool) -> Ended {
    f.store.backend.end_after_restore(Ending { at: f.now(), invitations }).await.unwrap()
}

#[expect(clippy::cognitive_complexity, reason = "everything that comes back, in one club")]
async fn what_a_backup_has_brought_back_is_ended_and_in_the_audit_log(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let sessions = [session(f, ana, 1).await, session(f, ben, 11).await];
    let (open, expired) = (invitation(f, ana, 1), invitation(f, ana, 2));
    let expired = InvitationRecord { expires_at: f.now(), ..expired };
    let (mail, due, until) = (Mail::PasswordChanged { member: ana, at: f.now() }, f.now(), f.now().after(HOUR));
    let rows = vec![
        Row::Link(handed_out(ana, [7; 32], f.now())),
        Row::Mail(MailRow { mail, due, until, attempts: 0 }),
        Row::Invitation(open.clone()),
        Row::Invitation(expired.clone()),
    ];
    for row in rows {
        f.store.archive.insert_rows(vec![row]).await.unwrap();
    }

    let ended = end(f, true).await;
    assert_eq!(ended, Ended { sessions: 2, links: 1, mails: 1, invitations: Some(1) });
    for session in sessions {
        assert!(revoked(f, session).await);
    }
    assert!(matches!(f.store.sessions.rotate(ana, exchange(f, 1, 2)).await.unwrap(), Rotation::Invalid));
    let link = f.store.mail.link(Caller::System, [7; 32], Purpose::ResetPassword, f.now()).await.unwrap();
    assert_eq!((link, f.store.mail.waiting().await.unwrap()), (None, 0));
    let revoked_at = async |id| f.store.invitations.by_id(Caller::System, id).await.unwrap().unwrap().revoked_at;
    assert_eq!((revoked_at(open.id).await, revoked_at(expired.id).await), (Some(f.now()), None));
    let (_, entry) = f.store.audit.entries(None, 1).await.unwrap().remove(0);
    let details = json!({ "sessions": 2, "links": 1, "mails": 1, "invitations": 1 });
    assert_eq!((entry.action, entry.actor, entry.target), (AuditAction::Restored, None, None));
    assert_eq!(entry.details, details);

    // Whoever runs it again finds nothing, and signs in as ever.
    assert_eq!(end(f, true).await, Ended { invitations: Some(0), ..Ended::default() });
    let again = session(f, ana, 21).await;
    assert!(!revoked(f, again).await);
}

/// Found by looking at what one store does and the other does not: whoever was given a phone after the backup got the texts of its former owner.
async fn registrations_for_pushes_end_with_all_that_hangs_on_them(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let at = session(f, ana, 1).await;
    let conversation = direct_conversation(ana, ben);
    // One of a session that the backup has, and one of none.
    for (member, device, session) in [(ana, "phone", Some(at)), (ben, "tablet", None)] {
        let address = PushAddress::Expo { token: format!("ExponentPushToken[{device}]") };
        let record = push::record(f, member, device, address);
        let session = session.unwrap_or(record.session);
        assert!(f.store.push.register(DeviceRecord { session, ..record }, 0).await.unwrap());
        let (device, subject) = (device.parse::<DeviceId>().unwrap(), Subject::Messages(conversation));
        let mark = DeviceMark { member, device: device.clone(), conversation, seq: 3 };
        f.store.push.acknowledge(vec![mark]).await.unwrap();
        let task = NewTask { member, device, subject, first: 4, last: 5, at: f.now(), due: f.now() };
        f.store.push.add(vec![task], None).await.unwrap();
    }
    end(f, true).await;
    for part in [Part::PushDevices, Part::PushMarks, Part::PushTasks] {
        assert_eq!(f.store.archive.count(part).await.unwrap(), 0, "{part:?}");
    }
    assert_eq!((push::devices(f, &[ana, ben]).await, f.store.push.waiting().await.unwrap().count), (vec![], 0));
}

async fn invitations_are_kept_open_for_who_says_so(f: &Fixture) {
    let ana = f.member("Ana").await;
    let open = invitation(f, ana, 1);
    f.store.archive.insert_rows(vec![Row::Invitation(open.clone())]).await.unwrap();
    assert_eq!(end(f, false).await, Ended::default());
    let found = f.store.invitations.by_id(Caller::System, open.id).await.unwrap();
    assert_eq!(found, Some(open));
}

/// Found by reading: with many sessions it ended in the middle, and a server was started all the same.
#[tokio::test]
async fn a_slow_database_is_waited_for_and_what_was_lost_on_the_way_is_counted_once() {
    const SESSIONS: i64 = 2_500;
    let server = Server::with_fail_points().await;
    let database = Arc::new(server.database());
    let f = Fixture::mongodb_with(Arc::clone(&database), Duration::from_secs(1));
    f.store.backend.opened().await.unwrap();
    let sessions = database.open().await.collection::<Document>("sessions");
    let many = (0..SESSIONS).map(|number| doc! { "token": number, "revoked_at": null });
    sessions.insert_many(many).await.unwrap();
    // More often than beats and the first command: those after it are slow, too.
    let slow = doc! { "failCommands": ["update"], "blockConnection": true, "blockTimeMS": 1_500 };
    server.fail(doc! { "times": 1 }, slow).await;
    let ended = f.store.backend.end_after_restore(Ending { at: f.now(), invitations: true }).await.unwrap();
    assert_eq!(ended.sessions, SESSIONS.unsigned_abs());
    assert_eq!(sessions.count_documents(doc! { "revoked_at": null }).await.unwrap(), 0);

    sessions.update_many(doc! {}, doc! { "$set": { "revoked_at": null } }).await.unwrap();
    server.fail(doc! { "times": 1 }, doc! { "failCommands": ["update"], "closeConnection": true }).await;
    let ended = f.store.backend.end_after_restore(Ending { at: f.now(), invitations: true }).await.unwrap();
    assert_eq!(ended.sessions, SESSIONS.unsigned_abs());
    assert_eq!(sessions.count_documents(doc! { "revoked_at": null }).await.unwrap(), 0);
}
