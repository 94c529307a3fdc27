//! What is told by mail, and to whom.

use members_book::store::{
    changes::{Actor, Change},
    mail::{AskedFrom, Mail, NEW_DEVICES_MAX, Purpose},
    members::{NewMember, Registration, UNVERIFIED_MAX, Way},
    turns::Caller,
};
use protocol::rest::Language;

use super::{
    fixture::Fixture,
    for_every_store,
    mail::{add, change, drain, forgot, issue, log_in, new_session, owner, unverified},
};

for_every_store![
    each_of_several_new_devices_is_told_of_and_the_last_says_that_there_were_more,
    of_new_devices_at_once_no_more_than_five_wait,
    a_login_tells_of_its_device_with_its_commit_and_the_first_of_all_does_not,
    nothing_waits_for_who_is_rejected_or_waited_too_long,
    a_changed_password_and_an_approval_are_told,
    nothing_but_notices_waits_for_who_has_left,
    a_member_has_a_language_and_a_verified_address,
];

/// The devices that mails tell of, and which of them say that there were more.
fn devices(mails: &[Mail]) -> Vec<(&str, bool)> {
    let device = |mail| match mail {
        &Mail::NewDevice { ref device, more, .. } => (device.as_str(), more),
        other => panic!("{other:?}"),
    };
    mails.iter().map(device).collect()
}

/// Found by reading: the notice of a second device took the place of that of the first, so one could hide behind the other.
async fn each_of_several_new_devices_is_told_of_and_the_last_says_that_there_were_more(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    for member in [ana, ben] {
        log_in(f, member, None).await;
    }
    let names: Vec<String> = (1..=NEW_DEVICES_MAX + 2).map(|number| format!("device {number}")).collect();
    for name in &names {
        f.wait(1);
        log_in(f, ana, Some(name)).await;
    }
    log_in(f, ben, Some("of Ben")).await;
    let mut told = drain(f).await;
    told.sort_unstable_by_key(|mail| match mail {
        Mail::NewDevice { device, .. } => device.clone(),
        other => panic!("{other:?}"),
    });
    let told = devices(&told);
    assert_eq!(
        told,
        [
            ("device 1", false),
            ("device 2", false),
            ("device 3", false),
            ("device 4", false),
            ("device 5", true),
            ("of Ben", false)
        ]
    );
    log_in(f, ana, Some("later")).await;
    assert_eq!(devices(&drain(f).await), [("later", false)]);
}

async fn of_new_devices_at_once_no_more_than_five_wait(f: &Fixture) {
    let ana = f.member("Ana").await;
    log_in(f, ana, None).await;
    let all = (0..12).map(|_| log_in(f, ana, Some("one of many")));
    futures_util::future::join_all(all).await;
    let told = drain(f).await;
    let told = devices(&told);
    assert_eq!((told.len() as u64, told.iter().filter(|(_, more)| *more).count()), (NEW_DEVICES_MAX, 1));
}

async fn a_login_tells_of_its_device_with_its_commit_and_the_first_of_all_does_not(f: &Fixture) {
    let ana = f.member("Ana").await;
    log_in(f, ana, Some("first")).await;
    assert_eq!(drain(f).await, []);
    let session = log_in(f, ana, Some("second")).await;
    let told = Mail::NewDevice { member: ana, session, device: "second".to_owned(), at: f.now(), more: false };
    assert_eq!(drain(f).await, [told]);
    log_in(f, ana, None).await;
    change(f, ana, Change::Active(false)).await;
    assert!(f.store.sessions.start(new_session(f, ana, Some("third")).await).await.unwrap().is_none());
    assert_eq!(drain(f).await, [], "nobody has logged in");
}

async fn nothing_waits_for_who_is_rejected_or_waited_too_long(f: &Fixture) {
    let from = std::net::IpAddr::from([192, 0, 2, 1]);
    let way = Way::Application { most: 5 };
    let mut waiting = Vec::new();
    for (number, name) in ["eva", "max", "ivo"].into_iter().enumerate() {
        let new = f.new_member(name, &format!("{name}@example.com"));
        let id = f
            .store
            .members
            .register(Registration { member: new, way, from, link: None, most_unverified: UNVERIFIED_MAX })
            .await
            .unwrap()
            .unwrap()
            .profile
            .id;
        assert!(issue(f, id, Purpose::VerifyEmail, u8::try_from(number).unwrap()).await);
        add(f, forgot(&format!("{}@EXAMPLE.com", name.to_uppercase()))).await;
        add(f, Mail::AddressTaken { email: format!("{name}@example.com"), asked: AskedFrom(1) }).await;
        waiting.push(id);
    }
    assert_eq!(f.store.mail.waiting().await.unwrap(), 9);
    f.store.members.reject(waiting[0], Actor::default(), f.now()).await.unwrap();
    assert_eq!(f.store.mail.waiting().await.unwrap(), 6);
    change(f, waiting[1], Change::Approve).await;
    f.wait(1);
    assert_eq!(f.store.members.purge_waiting(f.now()).await.unwrap(), 1);
    let left = drain(f).await;
    assert_eq!(left.len(), 4, "of who was approved, and that they were: {left:?}");
    let mut owners = Vec::new();
    for byte in 0..3 {
        owners.push(owner(f, Purpose::VerifyEmail, byte).await);
    }
    assert_eq!(owners, [None, Some(waiting[1]), None]);
}

async fn a_changed_password_and_an_approval_are_told(f: &Fixture) {
    let ana = f.member("Ana").await;
    let at = f.now();
    let (credentials, hash) = (0, "new".to_owned());
    change(f, ana, Change::Password { credentials, hash, keep: None }).await;
    assert_eq!(drain(f).await, [Mail::PasswordChanged { member: ana, at }]);
    assert!(issue(f, ana, Purpose::ResetPassword, 1).await);
    drain(f).await;
    change(f, ana, Change::ResetPassword { link: [1; 32], hash: "newer".to_owned(), by_mail: true }).await;
    assert_eq!(drain(f).await, [Mail::PasswordReset { member: ana, at }]);
    change(f, ana, Change::Active(false)).await;
    change(f, ana, Change::Approve).await;
    assert_eq!(drain(f).await, []);
    let from = std::net::IpAddr::from([192, 0, 2, 1]);
    let (member, way) = (f.new_member("Eva", "eva@example.com"), Way::Application { most: 5 });
    let new = Registration { member, way, from, link: None, most_unverified: UNVERIFIED_MAX };
    let eva = f.store.members.register(new).await.unwrap().unwrap().profile.id;
    change(f, eva, Change::Approve).await;
    change(f, eva, Change::Approve).await;
    assert_eq!(drain(f).await, [Mail::Approved { member: eva, at }]);
}

/// Found by faults: whoever had taken an account hid it by deleting that, which removed the notices that waited.
async fn nothing_but_notices_waits_for_who_has_left(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let at = f.now();
    let email = f.store.members.by_id(Caller::System, ana).await.unwrap().unwrap().profile.email;
    for member in [ana, ben] {
        let (session, device) = (f.ids.session(), "Phone".to_owned());
        add(f, Mail::NewDevice { member, session, device, at, more: false }).await;
    }
    add(f, forgot("ANA@example.com")).await;
    add(f, Mail::AddressTaken { email: "Ana@example.com".to_owned(), asked: AskedFrom(1) }).await;
    assert!(issue(f, ana, Purpose::ResetPassword, 1).await);
    change(f, ana, Change::Erase).await;
    let left = drain(f).await;
    let of_ben = left.iter().filter(|mail| mail.member() == Some(ben)).count();
    let to_ana: Vec<&Mail> = left.iter().filter_map(notice_to(&email)).collect();
    assert_eq!((of_ben, left.len()), (1, 3), "{left:?}");
    assert!(to_ana.contains(&&Mail::Left { member: ana, at: f.now() }), "{to_ana:?}");
    assert!(to_ana.iter().any(|notice| matches!(notice, Mail::NewDevice { .. })), "{to_ana:?}");
    assert_eq!(owner(f, Purpose::ResetPassword, 1).await, None);
    // It may be another's address.
    let eva = unverified(f).await;
    change(f, eva, Change::Erase).await;
    assert_eq!(drain(f).await, []);
}

/// What a mail to a former address tells.
fn notice_to(email: &str) -> impl Fn(&Mail) -> Option<&Mail> {
    move |mail| match mail {
        Mail::FormerNotice { former, notice } if former == email => Some(&**notice),
        _ => None,
    }
}

async fn a_member_has_a_language_and_a_verified_address(f: &Fixture) {
    let new = NewMember { language: Some(Language::Pt), must_verify: true, ..f.new_member("Ana", "ana@example.com") };
    let id = new.id;
    f.store.members.insert(new, None).await.unwrap().unwrap();
    let read = async || f.store.members.by_id(Caller::System, id).await.unwrap().unwrap();
    let ana = read().await;
    assert_eq!(
        (ana.profile.language, ana.profile.email_verified_at, ana.profile.must_verify),
        (Some(Language::Pt), None, true)
    );
    f.wait(1);
    assert!(issue(f, id, Purpose::VerifyEmail, 1).await);
    change(f, id, Change::VerifyEmail { link: [1; 32] }).await;
    let verified = read().await;
    assert_eq!((verified.profile.email_verified_at, verified.profile.must_verify), (Some(f.now()), false));
    assert!(verified.version > ana.version, "the member sees a difference");
    let edit = members_book::store::changes::ProfileEdit { language: Some(None), ..<_>::default() };
    change(f, id, Change::Profile { edit, expected: None }).await;
    assert_eq!(read().await.profile.language, None);
    change(f, id, Change::Erase).await;
    assert_eq!(read().await.profile.email_verified_at, None);
}
