//! How many mails wait, whose they are, and who has theirs sent first.

use std::ops::Range;

use members_book::store::{
    StoreError,
    archive::{MailRow, Row},
    changes::{Change, Changed, EmailProof},
    mail::{Asked, AskedFrom, LINK_LIFETIME, Lane, MEMBERS_MAX, Mail, NewLink, Purpose, SHARE_MAX, STRANGERS_MAX},
    members::{NewMember, Way},
    turns::Caller,
};
use protocol::{InvitationId, MemberId};

use super::{
    fixture::Fixture,
    for_every_store,
    mail::{add, change, drain, link, owner},
    mail_changes::new_change,
    unverified::{invite, register, registration},
};

for_every_store![
    a_queue_that_fills_up_keeps_out_who_fills_it,
    members_have_a_bound_and_what_is_made_or_told_has_none,
    networks_take_turns_and_an_address_that_is_asked_about_goes_first,
    nobody_has_the_mail_of_another_sent_later,
    the_link_of_a_mail_that_gives_way_is_sent_when_it_is_asked_for_again,
];

/// An address that nobody registers with: of a member who has left.
const LEFT: &str = "uma@example.com";

fn asked_for(number: u64, asked: u64) -> Mail {
    Mail::ForgotPassword { email: format!("{number}@example.com"), asked: AskedFrom(asked) }
}

fn taken(number: u64, asked: u64) -> Mail {
    Mail::AddressTaken { email: format!("{number}@example.com"), asked: AskedFrom(asked) }
}

/// Has mails wait that strangers have asked for, from networks from 1 on, each with its share.
async fn fill(f: &Fixture, numbers: Range<u64>) {
    let row = |number: u64| {
        let mail = asked_for(number, 1 + number / SHARE_MAX);
        Row::Mail(MailRow { mail, due: f.now(), until: f.now().after(LINK_LIFETIME), attempts: 0 })
    };
    for first in numbers.clone().step_by(1_000) {
        f.store.archive.insert_rows((first..numbers.end.min(first + 1_000)).map(row).collect()).await.unwrap();
    }
}

/// Has as many mails wait of members as there may be.
async fn fill_members(f: &Fixture) {
    let row = |number: u64| {
        let member = f.ids.member();
        let mail = Mail::Approved { member, at: f.now() };
        let later = f.now().after(std::time::Duration::from_secs(number));
        Row::Mail(MailRow { mail, due: f.now(), until: later.after(LINK_LIFETIME), attempts: 0 })
    };
    for first in (0..MEMBERS_MAX).step_by(1_000) {
        f.store.archive.insert_rows((first..first + 1_000).map(row).collect()).await.unwrap();
    }
}

/// One test: a queue is filled once.
async fn a_queue_that_fills_up_keeps_out_who_fills_it(f: &Fixture) {
    let ana = f.member("Ana").await;
    let invitation = invite(f, ana, 4).await.id;
    fill(f, 0..SHARE_MAX).await;
    a_network_has_a_share(f, ana, invitation).await;
    who_has_not_verified_the_address_is_a_stranger(f).await;
    fill(f, SHARE_MAX..STRANGERS_MAX).await;
    who_floods_pushes_out_their_own_flood(f).await;
    strangers_leave_room_for_members_and_for_who_was_invited(f, invitation).await;
    what_comes_of_a_mail_that_waits_takes_its_place(f).await;
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

/// Found by an attacker: one network filled the queue, and everybody else was refused.
async fn a_network_has_a_share(f: &Fixture, ana: MemberId, invitation: InvitationId) {
    assert!(refuses(f, asked_for(SHARE_MAX, 1)).await && refuses(f, taken(0, 1)).await);
    let free = f.store.members.register(registration(f, "Ben", Way::Free, 2)).await;
    assert_eq!(free.map(|registered| registered.is_ok()), Err(StoreError::Overloaded));
    add(f, asked_for(0, 1)).await;
    add(f, asked_for(0, 99)).await;
    assert_eq!(f.store.mail.issue(Caller::Member(ana), link(f, ana, Purpose::VerifyEmail, 1)).await, Ok(true));
    register(f, "Eva", Way::Invitation(invitation), 3).await.unwrap();
    // Two of members, one from elsewhere, three of its own.
    for _ in 0..6 {
        let first = f.take_mail(LINK_LIFETIME).await.unwrap();
        f.store.mail.finish(first).await.unwrap();
    }
    add(f, asked_for(0, 1)).await;
    add(f, asked_for(SHARE_MAX + 1, 1)).await;
    let mut number = SHARE_MAX + 2;
    while !refuses(f, asked_for(number, 1)).await {
        number += 1;
    }
    assert!(number < SHARE_MAX + 6, "its share is full again");
}

/// Else whoever registers many addresses has all of their mails sent before those of others.
async fn who_has_not_verified_the_address_is_a_stranger(f: &Fixture) {
    let (ida, uma, zoe) = (unverified(f, "Ida").await, unverified(f, "Uma").await, f.member("Zoe").await);
    let refused = f.store.mail.issue(Caller::Member(ida), link(f, ida, Purpose::VerifyEmail, 4)).await;
    assert_eq!(refused, Err(StoreError::Overloaded));
    let elsewhere = NewLink { asked: AskedFrom(98), ..link(f, ida, Purpose::VerifyEmail, 4) };
    assert_eq!(f.store.mail.issue(Caller::Member(ida), elsewhere).await, Ok(true));
    assert_eq!(f.store.mail.issue(Caller::System, link(f, uma, Purpose::ResetPassword, 5)).await, Ok(true));
    f.wait(1);
    assert_eq!(f.store.mail.issue(Caller::System, link(f, zoe, Purpose::ResetPassword, 6)).await, Ok(true));
    let next = async |lane| {
        let taken = f.store.mail.take(lane, 0, f.now(), f.now().after(LINK_LIFETIME)).await.unwrap();
        taken.and_then(|taken| taken.mail).and_then(|mail| mail.member())
    };
    assert_eq!([next(Lane::Members).await, next(Lane::Members).await], [Some(zoe), None], "members go first");
    let strangers = [next(Lane::Strangers).await, next(Lane::Strangers).await, next(Lane::Strangers).await];
    assert!(strangers.contains(&Some(ida)), "in turns: {strangers:?}");
}

/// Found by an attacker: nine networks filled the part of strangers, and whoever had forgotten a password was refused, administrators too.
async fn who_floods_pushes_out_their_own_flood(f: &Fixture) {
    let waiting = f.store.mail.waiting().await.unwrap();
    // Others flood as well, and everybody has what they ask for.
    for network in 1_000..1_003 {
        add(f, taken(network, network)).await;
    }
    add(f, asked_for(1, 97)).await;
    let mut ben = registration(f, "Ben", Way::Free, 7);
    ben.link = ben.link.map(|link| NewLink { asked: AskedFrom(96), ..link });
    f.store.members.register(ben).await.unwrap().unwrap();
    let after = f.store.mail.waiting().await.unwrap();
    assert!(after <= waiting.max(STRANGERS_MAX) + 10, "{waiting} {after}");
    assert!(refuses(f, asked_for(30_000, 2)).await, "a network has its share, and no more");
}

/// Found by an attacker: whoever filled the queue with made-up addresses kept out members and those who were invited.
async fn strangers_leave_room_for_members_and_for_who_was_invited(f: &Fixture, invitation: InvitationId) {
    register(f, "Pia", Way::Invitation(invitation), 8).await.unwrap();
    // Whether the address is taken or not: nobody can tell one from the other.
    assert!(register(f, "Ana", Way::Invitation(invitation), 9).await.is_err());
    let rui = f.member("Rui").await;
    assert_eq!(f.store.mail.issue(Caller::Member(rui), link(f, rui, Purpose::VerifyEmail, 10)).await, Ok(true));
}

/// A flood must not use up the links of who is pushed out by it: that mail was not sent.
async fn the_link_of_a_mail_that_gives_way_is_sent_when_it_is_asked_for_again(f: &Fixture) {
    let (ida, lia) = (unverified(f, "Ida").await, unverified(f, "Lia").await);
    let ask = async |member, byte, asked| {
        let wanted = NewLink { asked: AskedFrom(asked), ..link(f, member, Purpose::VerifyEmail, byte) };
        f.store.mail.issue(Caller::Member(member), wanted).await
    };
    // The last of all: behind everything of a network that has its share but for one.
    let row = |number: u64| {
        let mail = taken(number, 90);
        Row::Mail(MailRow { mail, due: f.now(), until: f.now().after(LINK_LIFETIME), attempts: 0 })
    };
    f.store.archive.insert_rows((0..SHARE_MAX - 1).map(row).collect()).await.unwrap();
    fill(f, 0..STRANGERS_MAX - SHARE_MAX).await;
    assert_eq!(ask(ida, 1, 90).await, Ok(true));
    assert_eq!(ask(lia, 2, 91).await, Ok(true), "which takes the place of the last");
    for _ in 0..5 {
        let first = f.take_mail(LINK_LIFETIME).await.unwrap();
        f.store.mail.finish(first).await.unwrap();
    }
    assert_eq!(ask(ida, 3, 90).await, Ok(true), "as the first");
    assert_eq!(owner(f, Purpose::VerifyEmail, 3).await, None, "the same link");
    assert_eq!((ask(ida, 4, 90).await, ask(ida, 5, 90).await), (Ok(true), Ok(false)), "once more");
}

/// Found by an attacker: with a full queue nothing came of a forgotten password, and so nothing ever left it.
async fn what_comes_of_a_mail_that_waits_takes_its_place(f: &Fixture) {
    let ivo = f.member("Ivo").await;
    let waiting = f.store.mail.waiting().await.unwrap();
    assert_eq!(f.store.mail.issue(Caller::System, link(f, ivo, Purpose::ResetPassword, 12)).await, Ok(true));
    assert_eq!(owner(f, Purpose::ResetPassword, 12).await, Some(ivo));
    assert_eq!(f.store.mail.waiting().await.unwrap(), waiting + 1);
}

/// With [`LEFT`].
async fn somebody_has_left(f: &Fixture) {
    let uma = f.member("Uma").await;
    let asked = new_change(f, uma, 15, LEFT).await;
    assert_eq!(f.store.mail.issue_change(asked).await, Ok(Asked::Written));
    let verified = Change::Email { email: LEFT.to_owned(), proof: EmailProof::Link([15; 32]) };
    for change_of in [verified, Change::Erase] {
        assert!(matches!(change(f, uma, change_of).await, Changed::Done { .. }));
    }
}

/// No mail is written to the one, which takes no room.
async fn nobody_can_tell_an_address_of_who_has_left_from_another(f: &Fixture, member: MemberId) {
    for (byte, email) in [(13, LEFT), (14, "free@example.com")] {
        let refused = f.store.mail.issue_change(new_change(f, member, byte, email).await).await;
        assert_eq!(refused, Err(StoreError::Overloaded), "{email}");
    }
}

async fn members_have_a_bound_and_what_is_made_or_told_has_none(f: &Fixture) {
    let ivo = f.member("Ivo").await;
    somebody_has_left(f).await;
    fill_members(f).await;
    let refused = f.store.mail.issue(Caller::Member(ivo), link(f, ivo, Purpose::VerifyEmail, 11)).await;
    assert_eq!(refused, Err(StoreError::Overloaded));
    assert_eq!(owner(f, Purpose::VerifyEmail, 11).await, None);
    nobody_can_tell_an_address_of_who_has_left_from_another(f, ivo).await;
    add(f, asked_for(1, 1)).await;
    let waiting = f.store.mail.waiting().await.unwrap();
    assert_eq!(f.store.mail.issue(Caller::System, link(f, ivo, Purpose::ResetPassword, 12)).await, Ok(true));
    assert_eq!(owner(f, Purpose::ResetPassword, 12).await, Some(ivo));
    // What a change tells its member is written whether there is room or not: a stranger must not hide it.
    let (credentials, hash) = (0, "new".to_owned());
    assert!(matches!(change(f, ivo, Change::Password { credentials, hash, keep: None }).await, Changed::Done { .. }));
    assert_eq!(f.store.mail.waiting().await.unwrap(), waiting + 2);
}

/// Found by reading: a mail that a stranger asked for as well was sent when it was the stranger's turn; and thousands of links that strangers
/// had asked for went before a notice.
async fn nobody_has_the_mail_of_another_sent_later(f: &Fixture) {
    let (ana, ben) = (unverified(f, "Ana").await, f.member("Ben").await);
    let ask = async |member, byte, asked| {
        let wanted = NewLink { asked: AskedFrom(asked), ..link(f, member, Purpose::ResetPassword, byte) };
        f.store.mail.issue(Caller::System, wanted).await.unwrap()
    };
    let mut others = Vec::new();
    for number in 0..20_u8 {
        let member = unverified(f, &format!("Other{number}")).await;
        assert!(ask(member, 100 + number, 1).await);
        others.push(member);
    }
    assert!(ask(ana, 1, 2).await, "ana");
    assert!(ask(ana, 2, 1).await, "and a stranger");
    f.wait(1);
    let eva = f.member("Eva").await;
    assert!(ask(eva, 4, 1).await);
    assert_eq!(f.store.mail.issue(Caller::Member(ben), link(f, ben, Purpose::VerifyEmail, 3)).await, Ok(true));
    add(f, Mail::PasswordChanged { member: ben, at: f.now() }).await;
    let sent = drain(f).await;
    let whose: Vec<Option<MemberId>> = sent.iter().map(Mail::member).collect();
    let first = |member| whose[..3].iter().filter(|first| **first == Some(member)).count();
    assert_eq!((first(ben), first(eva)), (2, 1), "what no stranger has asked for, and a member: {sent:?}");
    assert!(whose[3..5].contains(&Some(others[0])) && whose[3..5].contains(&Some(ana)), "in turns: {sent:?}");
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
    let mut sent = Vec::new();
    for _ in 0..10 {
        let first = f.take_mail(LINK_LIFETIME).await.unwrap();
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
