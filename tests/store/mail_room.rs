//! How many mails wait, whose they are, and who has theirs sent first.

use members_book::store::{
    StoreError,
    archive::{MailRow, Row},
    changes::{Change, Changed},
    mail::{AskedFrom, LINK_LIFETIME, Mail, NewLink, Purpose, SHARE_MAX, STRANGERS_MAX, WAITING_MAX},
    members::{NewMember, Way},
    turns::Caller,
};
use protocol::MemberId;

use super::{
    fixture::Fixture,
    for_every_store,
    mail::{add, change, drain, link, owner},
    unverified::{invite, register},
};

for_every_store![
    no_more_wait_than_there_is_room_for,
    what_comes_of_a_mail_that_waits_takes_its_place,
    strangers_leave_room_for_members_and_for_who_was_invited,
    a_network_has_a_share_of_what_waits,
    networks_take_turns_and_an_address_that_is_asked_about_goes_first,
    who_has_not_verified_the_address_is_a_stranger,
];

fn asked_for(number: u64, asked: u64) -> Mail {
    Mail::ForgotPassword { email: format!("{number}@example.com"), asked: AskedFrom(asked) }
}

fn taken(number: u64, asked: u64) -> Mail {
    Mail::AddressTaken { email: format!("{number}@example.com"), asked: AskedFrom(asked) }
}

/// Has mails wait that strangers have asked for, from networks from 1 on, each with its share.
async fn fill(f: &Fixture, count: u64) {
    let row = |number: u64| {
        let mail = asked_for(number, 1 + number / SHARE_MAX);
        Row::Mail(MailRow { mail, due: f.now(), until: f.now().after(LINK_LIFETIME), attempts: 0 })
    };
    for first in (0..count).step_by(1_000) {
        f.store.archive.insert_rows((first..count.min(first + 1_000)).map(row).collect()).await.unwrap();
    }
}

async fn refuses(f: &Fixture, mail: Mail) -> bool {
    match f.store.mail.add(Caller::System, mail, f.now()).await {
        Ok(()) => false,
        Err(StoreError::Overloaded) => true,
        Err(error) => panic!("{error}"),
    }
}

async fn unverified(f: &Fixture, name: &str) -> MemberId {
    let new = NewMember { must_verify: true, ..f.new_member(name, &format!("{name}@example.org")) };
    f.store.members.insert(new, None).await.unwrap().unwrap().profile.id
}

async fn no_more_wait_than_there_is_room_for(f: &Fixture) {
    fill(f, WAITING_MAX).await;
    assert!(refuses(f, asked_for(0, 99)).await);
    add(f, asked_for(7, 1)).await;
    let ana = f.member("Ana").await;
    let refused = f.store.mail.issue(Caller::Member(ana), link(f, ana, Purpose::VerifyEmail, 1)).await;
    assert_eq!(refused, Err(StoreError::Overloaded));
    assert_eq!(owner(f, Purpose::VerifyEmail, 1).await, None);
    // What a change tells its member is written whether there is room or not: a stranger must not hide it.
    let (credentials, hash) = (0, "new".to_owned());
    assert!(matches!(change(f, ana, Change::Password { credentials, hash, keep: None }).await, Changed::Done { .. }));
    assert_eq!(f.store.mail.waiting().await.unwrap().count, WAITING_MAX + 1);
}

/// Found by an attacker: with a full queue nothing came of a forgotten password, and so nothing ever left it.
async fn what_comes_of_a_mail_that_waits_takes_its_place(f: &Fixture) {
    fill(f, WAITING_MAX).await;
    let ana = f.member("Ana").await;
    assert_eq!(f.store.mail.issue(Caller::System, link(f, ana, Purpose::ResetPassword, 1)).await, Ok(true));
    assert_eq!(owner(f, Purpose::ResetPassword, 1).await, Some(ana));
    let eva = unverified(f, "Eva").await;
    assert_eq!(f.store.mail.issue(Caller::System, link(f, eva, Purpose::ResetPassword, 2)).await, Ok(true));
    assert!(refuses(f, asked_for(0, 99)).await);
}

/// Found by an attacker: whoever filled the queue with made-up addresses kept out members and those who were invited.
async fn strangers_leave_room_for_members_and_for_who_was_invited(f: &Fixture) {
    fill(f, STRANGERS_MAX).await;
    assert!(refuses(f, asked_for(0, 99)).await);
    let ana = f.member("Ana").await;
    let free = f.store.members.register(super::unverified::registration(f, "Ben", Way::Free, 2)).await;
    assert_eq!(free.map(|registered| registered.is_ok()), Err(StoreError::Overloaded));
    let invitation = invite(f, ana, 2).await;
    let eva = register(f, "Eva", Way::Invitation(invitation.id), 3).await.unwrap();
    // Whether the address is taken or not: nobody can tell one from the other.
    assert!(register(f, "Ana", Way::Invitation(invitation.id), 4).await.is_err());
    assert_eq!(f.store.mail.issue(Caller::Member(ana), link(f, ana, Purpose::VerifyEmail, 5)).await, Ok(true));
    for (member, byte) in [(eva.profile.id, 3), (ana, 5)] {
        assert_eq!(owner(f, Purpose::VerifyEmail, byte).await, Some(member));
    }
    assert_eq!(f.store.mail.waiting().await.unwrap().count, STRANGERS_MAX + 3);
}

/// Found by an attacker: one network filled the queue, and everybody else was refused.
async fn a_network_has_a_share_of_what_waits(f: &Fixture) {
    fill(f, SHARE_MAX).await;
    assert!(refuses(f, asked_for(SHARE_MAX, 1)).await && refuses(f, taken(0, 1)).await);
    let free = f.store.members.register(super::unverified::registration(f, "Ben", Way::Free, 2)).await;
    assert_eq!(free.map(|registered| registered.is_ok()), Err(StoreError::Overloaded));
    add(f, asked_for(0, 1)).await;
    add(f, asked_for(SHARE_MAX, 2)).await;
    let ana = f.member("Ana").await;
    assert_eq!(f.store.mail.issue(Caller::Member(ana), link(f, ana, Purpose::VerifyEmail, 1)).await, Ok(true));
    let invitation = invite(f, ana, 1).await;
    register(f, "Eva", Way::Invitation(invitation.id), 3).await.unwrap();
    let now = f.now();
    for _ in 0..3 {
        let first = f.store.mail.take(now, now.after(LINK_LIFETIME)).await.unwrap().unwrap();
        f.store.mail.finish(first).await.unwrap();
    }
    add(f, asked_for(SHARE_MAX, 1)).await;
}

/// Found by an attacker: a member's forgotten password waited behind thousands of registrations of others.
async fn networks_take_turns_and_an_address_that_is_asked_about_goes_first(f: &Fixture) {
    for number in 0..20 {
        add(f, taken(number, 1)).await;
        f.wait(1);
    }
    add(f, taken(100, 2)).await;
    f.wait(1);
    add(f, asked_for(200, 3)).await;
    add(f, asked_for(201, 1)).await;
    let place = |mails: &[Mail], wanted: &Mail| mails.iter().position(|mail| mail == wanted).unwrap();
    let now = f.now();
    let mut sent = Vec::new();
    for _ in 0..10 {
        let first = f.store.mail.take(now, now.after(LINK_LIFETIME)).await.unwrap().unwrap();
        sent.extend(first.mail.clone());
        f.store.mail.finish(first).await.unwrap();
    }
    assert!(place(&sent, &asked_for(200, 3)) < 2 && place(&sent, &asked_for(201, 1)) < 2, "they cost no mail");
    assert!(place(&sent, &taken(100, 2)) < 4, "{sent:?}");
    assert_eq!(sent[4..], [1, 2, 3, 4, 5, 6].map(|number| taken(number, 1)), "each in its order");
    // Who comes later takes turns with those who wait, and does not go before all of them.
    for number in 300..305 {
        add(f, taken(number, 4)).await;
    }
    let rest = drain(f).await;
    assert!(place(&rest, &taken(300, 4)) < 2 && place(&rest, &taken(304, 4)) < 10, "{rest:?}");
    assert!(place(&rest, &taken(10, 1)) < 8, "{rest:?}");
}

/// Else whoever registers many addresses has all of their mails sent before those of others.
async fn who_has_not_verified_the_address_is_a_stranger(f: &Fixture) {
    fill(f, SHARE_MAX).await;
    let eva = unverified(f, "Eva").await;
    let refused = f.store.mail.issue(Caller::Member(eva), link(f, eva, Purpose::VerifyEmail, 1)).await;
    assert_eq!(refused, Err(StoreError::Overloaded));
    let elsewhere = NewLink { asked: AskedFrom(2), ..link(f, eva, Purpose::VerifyEmail, 1) };
    assert_eq!(f.store.mail.issue(Caller::Member(eva), elsewhere).await, Ok(true));
    for byte in 2..4 {
        let other = unverified(f, ["Ida", "Uma"][usize::from(byte) - 2]).await;
        assert_eq!(f.store.mail.issue(Caller::System, link(f, other, Purpose::ResetPassword, byte)).await, Ok(true));
    }
    let ana = f.member("Ana").await;
    f.wait(1);
    assert_eq!(f.store.mail.issue(Caller::System, link(f, ana, Purpose::ResetPassword, 9)).await, Ok(true));
    let now = f.now();
    let first = f.store.mail.take(now, now.after(LINK_LIFETIME)).await.unwrap().unwrap();
    assert_eq!(first.mail.and_then(|mail| mail.member()), Some(ana), "members go first");
}
