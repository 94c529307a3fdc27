//! Mail that waits, and links that are good once.

use std::time::Duration;

use members_book::store::{
    changes::{Actor, Change, Changed},
    mail::{
        AskedFrom, Expired, GoodLink, LINK_LIFETIME, LINKS_WITHIN, Lane, Mail, NewLink, Purpose, TakenMail, TokenId,
    },
    members::NewMember,
    sessions::{NewSession, NewToken, SessionDevice},
    turns::Caller,
};
use mongodb::bson::{Document, doc};
use protocol::{MemberId, SessionId, Timestamp};
use tokio_util::sync::CancellationToken;

use super::{fixture::Fixture, for_every_store};

for_every_store![
    a_mail_is_taken_when_it_is_due_and_again_if_it_is_not_finished,
    one_that_takes_the_place_of_another_is_not_finished_with_it,
    what_is_due_later_than_anybody_waits_can_be_made_due,
    what_nobody_has_taken_is_due_whatever_clock_it_was_written_by,
    the_time_of_a_mail_begins_when_it_is_taken_for_the_first_time,
    what_concerns_members_goes_before_what_strangers_have_written,
    each_lane_has_its_mails_and_what_is_set_aside_is_in_one_of_its_own,
    whoever_has_many_keeps_others_back_by_one_at_a_time,
    what_is_written_again_is_set_aside_no_more,
    what_cannot_be_read_keeps_nothing_back_and_what_is_unknown_goes_with_its_time,
];

pub(super) fn forgot(email: &str) -> Mail {
    Mail::ForgotPassword { email: email.to_owned(), asked: AskedFrom(1) }
}

pub(super) fn link(f: &Fixture, member: MemberId, purpose: Purpose, byte: u8) -> NewLink {
    NewLink {
        member,
        purpose,
        token: TokenId([byte; 16]),
        hash: [byte; 32],
        asked: AskedFrom(1),
        email: None,
        at: f.now(),
    }
}

pub(super) async fn issue(f: &Fixture, member: MemberId, purpose: Purpose, byte: u8) -> bool {
    f.store.mail.issue(Caller::System, link(f, member, purpose, byte)).await.unwrap()
}

pub(super) async fn owner(f: &Fixture, purpose: Purpose, byte: u8) -> Option<MemberId> {
    let found = f.store.mail.link(Caller::System, [byte; 32], purpose, f.now()).await.unwrap();
    found.map(|found: GoodLink| found.member)
}

pub(super) async fn add(f: &Fixture, mail: Mail) {
    f.store.mail.add(Caller::System, mail, f.now()).await.unwrap();
}

pub(super) async fn take(f: &Fixture) -> Option<TakenMail> {
    f.take_mail(Duration::from_secs(60)).await
}

/// Everything that is due, removed.
pub(super) async fn drain(f: &Fixture) -> Vec<Mail> {
    let mut all = Vec::new();
    while let Some(taken) = take(f).await {
        all.push(taken.mail.clone().expect("it can be read"));
        f.store.mail.finish(taken).await.unwrap();
    }
    all
}

pub(super) async fn change(f: &Fixture, member: MemberId, change: Change) -> Changed {
    f.store.members.change(member, change, Actor::default(), f.now(), CancellationToken::new()).await.unwrap()
}

#[expect(clippy::cognitive_complexity, reason = "what holds, one after the other")]
async fn a_mail_is_taken_when_it_is_due_and_again_if_it_is_not_finished(f: &Fixture) {
    assert_eq!(f.store.mail.waiting().await.unwrap(), 0);
    add(f, forgot("ana@example.com")).await;
    assert_eq!(f.store.mail.waiting().await.unwrap(), 1);
    let first = take(f).await.unwrap();
    assert_eq!((first.mail.as_ref(), first.attempts), (Some(&forgot("ana@example.com")), 1));
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
    add(f, forgot("ana@example.com")).await;
    assert_eq!(f.store.mail.expire(f.now(), Expired::All).await.unwrap(), 0);
    f.wait(30 * 60);
    assert_eq!(f.store.mail.expire(f.now(), Expired::Unknown).await.unwrap(), 0, "who takes it says so");
    assert_eq!(f.store.mail.expire(f.now(), Expired::All).await.unwrap(), 1);
}

/// Found by an attacker: whoever filled the queue with made-up addresses kept members from hearing of a new device for hours.
async fn what_concerns_members_goes_before_what_strangers_have_written(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    assert_eq!(f.store.mail.oldest().await.unwrap(), None);
    let started = f.now();
    for number in 0..50 {
        add(f, forgot(&format!("nobody{number}@example.com"))).await;
    }
    add(f, Mail::AddressTaken { email: "taken@example.com".to_owned(), asked: AskedFrom(1) }).await;
    f.wait(1);
    assert!(issue(f, ben, Purpose::ResetPassword, 2).await);
    assert_eq!(f.store.mail.issue(Caller::Member(ana), link(f, ana, Purpose::VerifyEmail, 1)).await, Ok(true));
    f.wait(1);
    add(f, Mail::PasswordChanged { member: ana, at: f.now() }).await;
    assert_eq!(f.store.mail.oldest().await.unwrap(), Some(started), "whatever its time is");
    let kinds: Vec<_> = drain(f).await.iter().map(|mail| mail.kind().as_str()).collect();
    let mut first = kinds[..3].to_vec();
    first.sort_unstable();
    assert_eq!((kinds.len(), &first[..]), (54, &["password_changed", "reset_password", "verify_email"][..]));
    add(f, Mail::PasswordChanged { member: ana, at: f.now() }).await;
    assert_eq!(f.store.mail.oldest().await.unwrap(), Some(f.now()));
}

async fn one_that_takes_the_place_of_another_is_not_finished_with_it(f: &Fixture) {
    add(f, forgot("ana@example.com")).await;
    add(f, forgot("ANA@example.com")).await;
    assert_eq!(f.store.mail.waiting().await.unwrap(), 1);
    let first = take(f).await.unwrap();
    add(f, forgot("ana@example.com")).await;
    f.store.mail.finish(first.clone()).await.unwrap();
    f.store.mail.postpone(first, f.now().after(Duration::from_secs(1000))).await.unwrap();
    assert_eq!(drain(f).await, [forgot("ana@example.com")]);
}

async fn what_is_due_later_than_anybody_waits_can_be_made_due(f: &Fixture) {
    add(f, forgot("ana@example.com")).await;
    let taken = take(f).await.unwrap();
    f.store.mail.postpone(taken, f.now().after(Duration::from_secs(86_400))).await.unwrap();
    let hasten = async |seconds| {
        let after = f.now().after(Duration::from_secs(seconds));
        f.store.mail.hasten(after, f.now(), f.now()).await.unwrap()
    };
    let written = f.writes();
    assert_eq!((hasten(86_400).await, hasten(86_400).await), (0, 0));
    assert_eq!(f.writes(), written, "it is looked every few seconds");
    assert_eq!(take(f).await, None);
    assert_eq!(hasten(86_399).await, 1);
    assert_eq!(drain(f).await, [forgot("ana@example.com")]);
    assert_eq!(hasten(0).await, 0);
}

/// Found by a reviewer: a node whose clock was behind lost its mails, which others found too old when they came to them.
async fn the_time_of_a_mail_begins_when_it_is_taken_for_the_first_time(f: &Fixture) {
    let behind = f.now();
    f.wait(3_600);
    f.store.mail.add(Caller::System, forgot("ana@example.com"), behind).await.unwrap();
    let until = f.now().after(LINK_LIFETIME);
    for attempt in 1..=2 {
        let taken = take(f).await.unwrap();
        assert_eq!((taken.until, taken.attempts), (until, attempt));
        f.wait(60);
        f.store.mail.postpone(taken, f.now()).await.unwrap();
    }
    assert_eq!(f.store.mail.oldest().await.unwrap(), Some(behind.after(Duration::from_secs(3_600))));
}

/// Found by reading: a mail that a node wrote whose clock was ahead waited until the clocks of the others had come to that.
async fn what_nobody_has_taken_is_due_whatever_clock_it_was_written_by(f: &Fixture) {
    let taken = forgot("ana@example.com");
    add(f, taken.clone()).await;
    let in_hand = take(f).await.unwrap();
    f.store.mail.postpone(in_hand, f.now().after(Duration::from_secs(60))).await.unwrap();
    let ahead = f.now().after(Duration::from_secs(60));
    f.store.mail.add(Caller::System, forgot("ben@example.com"), ahead).await.unwrap();
    assert_eq!(take(f).await, None);
    let hasten = async || f.store.mail.hasten(f.now().after(LINK_LIFETIME), f.now(), f.now()).await.unwrap();
    assert_eq!((hasten().await, hasten().await), (1, 0));
    assert_eq!(drain(f).await, [forgot("ben@example.com")], "what somebody has in hand stays with them");
    f.wait(60);
    assert_eq!(drain(f).await, [taken]);
}

pub(super) async fn unverified(f: &Fixture) -> MemberId {
    let ana = NewMember { must_verify: true, ..f.new_member("Ana", "ana@example.com") };
    f.store.members.insert(ana, None).await.unwrap().unwrap().profile.id
}

pub(super) async fn new_session(f: &Fixture, member: MemberId, tell_of: Option<&str>) -> NewSession {
    let credentials = f.credentials(member).await;
    let id = f.ids.session();
    let mut hash = [0; 32];
    hash[..12].copy_from_slice(id.as_bytes());
    let (at, ends_at) = (f.now(), f.now().after(LINKS_WITHIN));
    let (token, device) = (NewToken { hash, expires_at: ends_at }, SessionDevice::default());
    let (address, known_device, tell_of) = (None, None, tell_of.map(str::to_owned));
    NewSession { id, member, token, device, known_device, address, at, ends_at, credentials, tell_of }
}

pub(super) async fn log_in(f: &Fixture, member: MemberId, tell_of: Option<&str>) -> SessionId {
    let new = new_session(f, member, tell_of).await;
    let id = new.id;
    f.store.sessions.start(new).await.unwrap().expect("they may");
    id
}

/// Writes a text into a field of a mail, past the store.
async fn overwrite(f: &Fixture, mail: &Mail, field: &str, value: &str) {
    if let Some(database) = &f.database {
        let mails = database.open().await.collection::<Document>("mail");
        let set = doc! { "$set": { field: value } };
        assert_eq!(mails.update_one(doc! { "_id": mail.key() }, set).await.unwrap().matched_count, 1);
    } else {
        let file = rusqlite::Connection::open(f.folder.path().join("store.db")).unwrap();
        file.busy_timeout(Duration::from_secs(10)).unwrap();
        let sql = format!("UPDATE mail SET {field} = ? WHERE key = ?");
        assert_eq!(file.execute(&sql, [value, &mail.key()]).unwrap(), 1);
    }
}

/// Found by reading: one body that could not be read was the first that was due for ever, and no mail was sent any more.
async fn what_cannot_be_read_keeps_nothing_back_and_what_is_unknown_goes_with_its_time(f: &Fixture) {
    let (unreadable, unknown) = (forgot("eva@example.com"), forgot("max@example.com"));
    for mail in [&unreadable, &unknown] {
        add(f, mail.clone()).await;
    }
    overwrite(f, &unreadable, "body", "{}").await;
    overwrite(f, &unknown, "kind", "of_a_later_version").await;
    f.wait(1);
    add(f, forgot("ana@example.com")).await;
    let first = take(f).await.unwrap();
    assert_eq!((&first.key, first.kind, &first.mail), (&unreadable.key(), unreadable.kind(), &None));
    f.store.mail.finish(first).await.unwrap();
    assert_eq!(drain(f).await, [forgot("ana@example.com")]);
    assert_eq!(f.store.mail.expire(f.now(), Expired::Unknown).await.unwrap(), 0);
    f.wait(LINK_LIFETIME.as_secs());
    assert_eq!(f.store.mail.expire(f.now(), Expired::Unknown).await.unwrap(), 1);
    assert_eq!(f.store.mail.waiting().await.unwrap(), 0);
}

/// When the next mail of each lane is due.
async fn next(f: &Fixture) -> Vec<Option<Timestamp>> {
    let mut all = Vec::new();
    for lane in Lane::ALL {
        all.push(f.store.mail.next(lane).await.unwrap());
    }
    all
}

/// The mails of a lane that are due, in their order; each is set aside.
async fn set_aside(f: &Fixture, lane: Lane) -> Vec<Mail> {
    let mut all = Vec::new();
    while let Some(taken) = f.store.mail.take(lane, 0, f.now(), f.now().after(LINK_LIFETIME)).await.unwrap() {
        all.extend(taken.mail.clone());
        let due = f.now().after(Duration::from_secs(all.len() as u64));
        f.store.mail.set_aside(TakenMail { attempts: 7, ..taken }, due).await.unwrap();
    }
    all
}

/// Found by an attacker and by faults: one mail that the mail server closed at was tried again before all others, for a day; and each that hung
/// kept those of others back for as long as that took, of strangers those of members.
#[expect(clippy::cognitive_complexity, reason = "what holds, one after the other")]
async fn each_lane_has_its_mails_and_what_is_set_aside_is_in_one_of_its_own(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Max").await, f.member("Ben").await, unverified(f).await);
    let notice = Mail::PasswordChanged { member: ana, at: f.now() };
    let taken = Mail::AddressTaken { email: "ana@example.com".to_owned(), asked: AskedFrom(1) };
    let asked = forgot("eva@example.com");
    let link_of = |member, byte| Mail::ResetPassword { member, token: TokenId([byte; 16]) };
    assert_eq!(next(f).await, [None; 5]);
    for mail in [&notice, &taken, &asked] {
        add(f, mail.clone()).await;
    }
    assert!(issue(f, ben, Purpose::ResetPassword, 1).await, "the address is his");
    assert!(issue(f, eva, Purpose::ResetPassword, 2).await, "nobody knows whose it is");
    let now = Some(f.now());
    assert_eq!(next(f).await, [now, now, None, now, None]);
    let of_members = vec![notice, link_of(ben, 1)];
    let of_strangers = vec![taken, link_of(eva, 2)];
    let first = f.store.mail.take(Lane::Lookups, 0, f.now(), f.now().after(LINK_LIFETIME)).await.unwrap().unwrap();
    assert_eq!(first.mail.clone(), Some(asked), "it costs no mail, and waits for none");
    f.store.mail.finish(first).await.unwrap();
    assert_eq!(set_aside(f, Lane::Members).await, of_members);
    assert_eq!(set_aside(f, Lane::Strangers).await, of_strangers);
    let soon = Some(f.now().after(Duration::from_secs(1)));
    assert_eq!((f.store.mail.waiting().await.unwrap(), next(f).await), (4, vec![None, None, soon, None, soon]));
    f.wait(10);
    // Set aside once more, where they are.
    assert_eq!(set_aside(f, Lane::MembersAside).await, of_members);
    let mut aside = set_aside(f, Lane::StrangersAside).await;
    assert_eq!(aside, of_strangers);
    f.wait(10);
    let first = f.store.mail.take(Lane::StrangersAside, 0, f.now(), f.now()).await.unwrap().unwrap();
    assert_eq!((first.attempts, first.mail), (8, Some(aside.remove(0))), "as often as it is said");
    assert_eq!(drain(f).await.len(), 4);
}

/// Found by an attacker and by faults: whoever logged in again and again kept the links of all others back, and one network's addresses at
/// domains that hang those of all others.
#[expect(clippy::cognitive_complexity, reason = "two lanes, one after the other")]
async fn whoever_has_many_keeps_others_back_by_one_at_a_time(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let until = f.now().after(LINK_LIFETIME);
    let next = async |lane, first| {
        let taken = f.store.mail.take(lane, first, f.now(), until).await.unwrap();
        let member = taken.as_ref().and_then(|taken| taken.mail.as_ref()).and_then(Mail::member);
        (member, taken.unwrap())
    };
    for number in 0..3 {
        let session = f.ids.session();
        let notice = Mail::NewDevice { member: ana, session, device: number.to_string(), at: f.now(), more: false };
        add(f, notice).await;
    }
    assert!(issue(f, ben, Purpose::ResetPassword, 1).await);
    assert_eq!(next(Lane::Members, 2).await.0, Some(ana), "the turn of what tells something");
    assert_eq!(next(Lane::Members, 1).await.0, Some(ben), "and of links");
    for first in [1, 2] {
        assert_eq!(next(Lane::Members, first).await.0, Some(ana), "of which there are none now");
    }
    drain(f).await;

    // Nor does it help to have many accounts: links that were asked for take turns by who has asked.
    for number in 0..3 {
        let member = f.member(&format!("Max{number}")).await;
        assert!(issue(f, member, Purpose::ResetPassword, 10 + number).await);
    }
    let elsewhere = NewLink { asked: AskedFrom(77), ..link(f, ana, Purpose::ResetPassword, 20) };
    assert_eq!(f.store.mail.issue(Caller::System, elsewhere).await, Ok(true));
    let first = [next(Lane::Members, 1).await.0, next(Lane::Members, 1).await.0];
    assert!(first.contains(&Some(ana)), "{first:?}");
    drain(f).await;

    // Three of one network and member wait aside before one of another does.
    for (asked, count) in [(1, 3), (2, 1)] {
        for number in 0..count {
            let email = format!("{number}@{asked}.example.com");
            add(f, Mail::AddressTaken { email, asked: AskedFrom(asked) }).await;
        }
    }
    let changed = [
        Mail::PasswordChanged { member: ana, at: f.now() },
        Mail::PasswordReset { member: ana, at: f.now() },
        Mail::PasswordChanged { member: ben, at: f.now() },
    ];
    for notice in changed {
        add(f, notice).await;
    }
    assert_eq!((set_aside(f, Lane::Strangers).await.len(), set_aside(f, Lane::Members).await.len()), (4, 3));
    f.wait(60);
    let asked = async || next(Lane::StrangersAside, 0).await.1.mail.and_then(|mail| mail.asked()).unwrap().0;
    let networks = [asked().await, asked().await, asked().await, asked().await];
    assert!([[1, 2, 1, 1], [2, 1, 1, 1]].contains(&networks), "{networks:?}");
    let aside = async || next(Lane::MembersAside, 0).await.0;
    let members = [aside().await, aside().await, aside().await];
    assert!(members[..2].contains(&Some(ben)) && members[2] == Some(ana), "{members:?}");
    drain(f).await;
}

async fn what_is_written_again_is_set_aside_no_more(f: &Fixture) {
    let ana = f.member("Ana").await;
    let notice = |member| Mail::PasswordChanged { member, at: f.now() };
    let until = f.now().after(Duration::from_secs(60));
    add(f, notice(ana)).await;
    let taken = take(f).await.unwrap();
    f.store.mail.set_aside(taken.clone(), f.now()).await.unwrap();
    add(f, notice(ana)).await;
    f.store.mail.finish(taken).await.unwrap();
    assert_eq!(f.store.mail.take(Lane::MembersAside, 0, f.now(), until).await.unwrap(), None);
    assert_eq!(drain(f).await, [notice(ana)]);
}
