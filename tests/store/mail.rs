//! Mail that waits, and links that are good once.

use std::time::Duration;

use members_book::store::{
    StoreError,
    archive::{MailRow, Row},
    changes::{Actor, Change, Changed},
    mail::{
        LINK_LIFETIME, LINKS_MAX, LINKS_WITHIN, Mail, NewLink, Purpose, TakenMail, TokenId, UNVERIFIED_LINKS_MAX,
        UNVERIFIED_LINKS_WITHIN, WAITING_MAX, WaitingMail,
    },
    members::NewMember,
    sessions::{NewSession, NewToken, SessionDevice},
    turns::Caller,
};
use protocol::{MemberId, rest::Language};
use tokio_util::sync::CancellationToken;

use super::{fixture::Fixture, for_every_store};

for_every_store![
    a_mail_is_taken_when_it_is_due_and_again_if_it_is_not_finished,
    one_that_takes_the_place_of_another_is_not_finished_with_it,
    no_more_wait_than_there_is_room_for,
    a_link_is_good_once_and_for_a_while,
    a_newer_link_takes_the_place_of_an_older_one_for_the_same_purpose,
    five_links_an_hour_are_made_for_a_member,
    three_links_a_day_are_made_for_an_address_that_nobody_has_shown_to_be_theirs,
    a_link_is_used_up_once_by_however_many,
    a_changed_password_and_a_deactivation_end_links,
    a_change_of_the_password_is_told,
    nothing_waits_for_who_has_left,
    a_member_has_a_language_and_a_verified_address,
];

fn forgot(email: &str) -> Mail {
    Mail::ForgotPassword { email: email.to_owned() }
}

fn link(f: &Fixture, member: MemberId, purpose: Purpose, byte: u8) -> NewLink {
    NewLink { member, purpose, token: TokenId([byte; 16]), hash: [byte; 32], at: f.now() }
}

async fn issue(f: &Fixture, member: MemberId, purpose: Purpose, byte: u8) -> bool {
    f.store.mail.issue(link(f, member, purpose, byte)).await.unwrap()
}

async fn owner(f: &Fixture, purpose: Purpose, byte: u8) -> Option<MemberId> {
    f.store.mail.link(Caller::System, [byte; 32], purpose, f.now()).await.unwrap()
}

async fn take(f: &Fixture) -> Option<TakenMail> {
    let now = f.now();
    f.store.mail.take(now, now.after(Duration::from_secs(60))).await.unwrap()
}

/// Everything that is due, removed.
async fn drain(f: &Fixture) -> Vec<Mail> {
    let mut all = Vec::new();
    while let Some(taken) = take(f).await {
        all.push(taken.mail.clone());
        f.store.mail.finish(taken).await.unwrap();
    }
    all
}

async fn change(f: &Fixture, member: MemberId, change: Change) -> Changed {
    f.store.members.change(member, change, Actor::default(), f.now(), CancellationToken::new()).await.unwrap()
}

async fn a_mail_is_taken_when_it_is_due_and_again_if_it_is_not_finished(f: &Fixture) {
    assert_eq!(f.store.mail.waiting().await.unwrap(), WaitingMail::default());
    f.store.mail.add(forgot("ana@example.com"), f.now()).await.unwrap();
    assert_eq!(f.store.mail.waiting().await.unwrap(), WaitingMail { count: 1, next: Some(f.now()) });
    let first = take(f).await.unwrap();
    assert_eq!((&first.mail, first.attempts), (&forgot("ana@example.com"), 1));
    assert_eq!(first.until, f.now().after(LINK_LIFETIME));
    assert_eq!(take(f).await, None, "it is being sent");
    f.wait(60);
    let second = take(f).await.unwrap();
    assert_eq!(second.attempts, 2);
    f.store.mail.postpone(second, f.now().after(Duration::from_secs(5))).await.unwrap();
    assert_eq!(take(f).await, None);
    f.wait(5);
    let third = take(f).await.unwrap();
    f.store.mail.finish(third).await.unwrap();
    f.wait(1000);
    assert_eq!(take(f).await, None);
    f.store.mail.add(forgot("ana@example.com"), f.now()).await.unwrap();
    assert_eq!(f.store.mail.expire(f.now()).await.unwrap(), 0);
    f.wait(30 * 60);
    assert_eq!(f.store.mail.expire(f.now()).await.unwrap(), 1);
}

async fn one_that_takes_the_place_of_another_is_not_finished_with_it(f: &Fixture) {
    f.store.mail.add(forgot("ana@example.com"), f.now()).await.unwrap();
    f.store.mail.add(forgot("ANA@example.com"), f.now()).await.unwrap();
    assert_eq!(f.store.mail.waiting().await.unwrap().count, 1);
    let first = take(f).await.unwrap();
    f.store.mail.add(forgot("ana@example.com"), f.now()).await.unwrap();
    f.store.mail.finish(first.clone()).await.unwrap();
    f.store.mail.postpone(first, f.now().after(Duration::from_secs(1000))).await.unwrap();
    assert_eq!(drain(f).await, [forgot("ana@example.com")]);
}

async fn no_more_wait_than_there_is_room_for(f: &Fixture) {
    let row = |number: u64| {
        let (mail, due, until) = (forgot(&format!("{number}@example.com")), f.now(), f.now().after(LINK_LIFETIME));
        Row::Mail(MailRow { mail, due, until, attempts: 0 })
    };
    for first in (0..WAITING_MAX).step_by(1_000) {
        f.store.archive.insert_rows((first..first + 1_000).map(row).collect()).await.unwrap();
    }
    assert_eq!(f.store.mail.add(forgot("one@more.example"), f.now()).await, Err(StoreError::Overloaded));
    f.store.mail.add(forgot("7@example.com"), f.now()).await.unwrap();
    let ana = f.member("Ana").await;
    let refused = f.store.mail.issue(link(f, ana, Purpose::VerifyEmail, 1)).await;
    assert_eq!(refused, Err(StoreError::Overloaded));
    assert_eq!(owner(f, Purpose::VerifyEmail, 1).await, None);
    // A change is made, whether its notice has room or not.
    let (former, hash) = ("hash of Ana".to_owned(), "new".to_owned());
    assert!(matches!(change(f, ana, Change::Password { former, hash, keep: None }).await, Changed::Done { .. }));
    assert_eq!(f.store.mail.waiting().await.unwrap().count, WAITING_MAX);
}

#[expect(clippy::cognitive_complexity, reason = "what holds, one after the other")]
async fn a_link_is_good_once_and_for_a_while(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    assert!(issue(f, ana, Purpose::ResetPassword, 1).await);
    let token = TokenId([1; 16]);
    assert_eq!(drain(f).await, [Mail::ResetPassword { member: ana, token }]);
    assert_eq!(owner(f, Purpose::ResetPassword, 1).await, Some(ana));
    assert_eq!((owner(f, Purpose::VerifyEmail, 1).await, owner(f, Purpose::ResetPassword, 2).await), (None, None));
    let reset = |byte: u8| Change::ResetPassword { link: [byte; 32], hash: "new".to_owned() };
    // Neither for another member, nor for another purpose.
    assert!(matches!(change(f, ben, reset(1)).await, Changed::Stale));
    assert!(matches!(change(f, ana, Change::VerifyEmail { link: [1; 32] }).await, Changed::Stale));
    let session = f.ids.session();
    let token = NewToken { hash: [9; 32], expires_at: f.now().after(LINKS_WITHIN) };
    let (device, at, ends_at) = (SessionDevice::default(), f.now(), token.expires_at);
    let password_hash = "hash of Ana".to_owned();
    let new = NewSession { id: session, member: ana, token, device, address: None, at, ends_at, password_hash };
    assert!(f.store.sessions.start(new).await.unwrap().is_some());
    let Changed::Done { after, .. } = change(f, ana, reset(1)).await else { panic!("it is good") };
    assert_eq!((after.password_hash.as_str(), after.profile.email_verified_at), ("new", Some(f.now())));
    assert!(f.store.sessions.view(session).await.unwrap().unwrap().revoked);
    assert_eq!(owner(f, Purpose::ResetPassword, 1).await, None);
    assert!(matches!(change(f, ana, reset(1)).await, Changed::Stale));
    assert!(issue(f, ana, Purpose::VerifyEmail, 3).await);
    f.wait(30 * 60);
    assert_eq!(owner(f, Purpose::VerifyEmail, 3).await, None);
    assert!(matches!(change(f, ana, Change::VerifyEmail { link: [3; 32] }).await, Changed::Stale));
}

#[expect(clippy::cognitive_complexity, reason = "what holds, one after the other")]
async fn a_newer_link_takes_the_place_of_an_older_one_for_the_same_purpose(f: &Fixture) {
    let ana = f.member("Ana").await;
    assert!(issue(f, ana, Purpose::ResetPassword, 1).await && issue(f, ana, Purpose::VerifyEmail, 2).await);
    assert!(issue(f, ana, Purpose::ResetPassword, 3).await);
    assert_eq!(owner(f, Purpose::ResetPassword, 1).await, None);
    assert_eq!(owner(f, Purpose::VerifyEmail, 2).await, Some(ana));
    assert_eq!(owner(f, Purpose::ResetPassword, 3).await, Some(ana));
    assert_eq!(f.store.mail.waiting().await.unwrap().count, 2);
    // Used up although the address was verified before.
    assert!(matches!(change(f, ana, Change::VerifyEmail { link: [2; 32] }).await, Changed::Done { .. }));
    assert!(issue(f, ana, Purpose::VerifyEmail, 4).await);
    assert!(matches!(change(f, ana, Change::VerifyEmail { link: [4; 32] }).await, Changed::Done { .. }));
    assert!(matches!(change(f, ana, Change::VerifyEmail { link: [4; 32] }).await, Changed::Stale));
}

async fn five_links_an_hour_are_made_for_a_member(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let start = f.now();
    let many = (0..20).map(|byte| f.store.mail.issue(link(f, ana, Purpose::ALL[usize::from(byte % 2)], byte)));
    let made = futures_util::future::join_all(many).await;
    assert_eq!(made.into_iter().filter(|made| *made == Ok(true)).count(), LINKS_MAX as usize, "however many at once");
    assert!(issue(f, ben, Purpose::VerifyEmail, 100).await);
    f.wait(LINKS_WITHIN.as_secs() - 1);
    assert!(!issue(f, ana, Purpose::VerifyEmail, 101).await);
    f.wait(1);
    assert!(issue(f, ana, Purpose::VerifyEmail, 102).await);
    assert_eq!(f.store.mail.purge_links(start).await.unwrap(), 0);
    assert_eq!(owner(f, Purpose::VerifyEmail, 102).await, Some(ana));
    f.wait(UNVERIFIED_LINKS_WITHIN.as_secs());
    assert!(f.store.mail.purge_links(f.now()).await.unwrap() > 0);
}

async fn three_links_a_day_are_made_for_an_address_that_nobody_has_shown_to_be_theirs(f: &Fixture) {
    let ana = NewMember { must_verify: true, ..f.new_member("Ana", "ana@example.com") };
    let ana = f.store.members.insert(ana, None).await.unwrap().unwrap().profile.id;
    let many = (0..20).map(|byte| f.store.mail.issue(link(f, ana, Purpose::ALL[usize::from(byte % 2)], byte)));
    let made = futures_util::future::join_all(many).await;
    assert_eq!(made.into_iter().filter(|made| *made == Ok(true)).count(), UNVERIFIED_LINKS_MAX as usize);
    f.wait(LINKS_WITHIN.as_secs());
    f.store.mail.purge_links(f.now()).await.unwrap();
    assert!(!issue(f, ana, Purpose::ResetPassword, 100).await, "however often it is tidied up");
    f.wait(UNVERIFIED_LINKS_WITHIN.as_secs() - LINKS_WITHIN.as_secs());
    assert!(issue(f, ana, Purpose::ResetPassword, 101).await);
    change(f, ana, Change::ResetPassword { link: [101; 32], hash: "new".to_owned() }).await;
    for byte in 102..=105 {
        assert!(issue(f, ana, Purpose::ResetPassword, byte).await, "like others from then on");
    }
}

async fn a_link_is_used_up_once_by_however_many(f: &Fixture) {
    let ana = f.member("Ana").await;
    assert!(issue(f, ana, Purpose::ResetPassword, 1).await);
    let uses = (0..20).map(|number| change(f, ana, Change::ResetPassword { link: [1; 32], hash: number.to_string() }));
    let done = futures_util::future::join_all(uses).await;
    assert_eq!(done.iter().filter(|done| matches!(done, Changed::Done { .. })).count(), 1);
    assert!(done.iter().all(|done| matches!(done, Changed::Done { .. } | Changed::Stale)));
}

async fn a_changed_password_and_a_deactivation_end_links(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    for (number, member) in [ana, ben].into_iter().enumerate() {
        let byte = u8::try_from(number).unwrap();
        assert!(issue(f, member, Purpose::ResetPassword, 1 + byte).await);
        assert!(issue(f, member, Purpose::VerifyEmail, 3 + byte).await);
    }
    let (former, hash) = ("hash of Ana".to_owned(), "new".to_owned());
    change(f, ana, Change::Password { former, hash, keep: None }).await;
    change(f, ben, Change::Active(false)).await;
    change(f, ben, Change::Active(true)).await;
    for byte in [1, 2] {
        assert_eq!(owner(f, Purpose::ResetPassword, byte).await, None);
        assert_eq!(owner(f, Purpose::VerifyEmail, 2 + byte).await, None);
    }
    // The same password, hashed at another cost, ends nothing.
    assert!(issue(f, ana, Purpose::ResetPassword, 5).await);
    assert!(f.store.members.replace_hash(ana, "new".to_owned(), "the same".to_owned()).await.unwrap());
    assert_eq!(owner(f, Purpose::ResetPassword, 5).await, Some(ana));
}

async fn a_change_of_the_password_is_told(f: &Fixture) {
    let ana = f.member("Ana").await;
    let at = f.now();
    let (former, hash) = ("hash of Ana".to_owned(), "new".to_owned());
    change(f, ana, Change::Password { former, hash, keep: None }).await;
    assert_eq!(drain(f).await, [Mail::PasswordChanged { member: ana, at }]);
    assert!(issue(f, ana, Purpose::ResetPassword, 1).await);
    drain(f).await;
    change(f, ana, Change::ResetPassword { link: [1; 32], hash: "newer".to_owned() }).await;
    assert_eq!(drain(f).await, [Mail::PasswordReset { member: ana, at }]);
    change(f, ana, Change::Active(false)).await;
    assert_eq!(drain(f).await, []);
}

async fn nothing_waits_for_who_has_left(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let at = f.now();
    for member in [ana, ben] {
        f.store.mail.add(Mail::NewDevice { member, device: "Phone".to_owned(), at }, at).await.unwrap();
    }
    f.store.mail.add(forgot("ANA@example.com"), at).await.unwrap();
    f.store.mail.add(Mail::AddressTaken { email: "Ana@example.com".to_owned() }, at).await.unwrap();
    assert!(issue(f, ana, Purpose::ResetPassword, 1).await);
    change(f, ana, Change::Erase).await;
    let left = drain(f).await;
    assert_eq!(left.iter().map(Mail::member).collect::<Vec<_>>(), [Some(ben)]);
    assert_eq!(owner(f, Purpose::ResetPassword, 1).await, None);
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
