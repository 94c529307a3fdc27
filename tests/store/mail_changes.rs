//! Links that change the address of their member, and whom that is told.

use members_book::store::{
    changes::{Actor, Asking, Change, Changed, EmailProof, Overtaken},
    mail::{
        Asked, CHANGES_MAX, CHANGES_TO_MAX, CHANGES_WITHIN, LINK_LIFETIME, LINKS_WITHIN, Mail, NewChange, NewLink,
        Purpose, TokenId,
    },
    members::Suspension,
    sessions::{Exchange, Rotation, SESSIONS_OF_MEMBER},
    turns::Caller,
};
use protocol::MemberId;

use super::{
    fixture::Fixture,
    for_every_store,
    mail::{add, change, drain, issue, link, log_in, new_session, owner},
    sessions::{exchange, rotate_as},
};

for_every_store![
    a_link_that_changes_an_address_ends_the_former_and_is_used_once,
    a_link_that_changes_an_address_is_for_who_is_who_they_have_shown,
    a_session_that_the_server_ends_takes_the_links_with_it,
    an_account_is_taken_back_with_its_sessions_its_password_and_its_links,
    an_address_is_one_members_whoever_is_first,
    several_members_do_not_have_one_address_written_to_without_end,
    nobody_gets_an_address_that_nobody_registers_with,
    each_former_address_is_told_and_a_notice_goes_to_the_one_that_it_was_for,
    nobody_keeps_another_one_from_leaving_with_an_address,
];

/// A link that changes the address of a member, who has shown what they prove who they are with now.
pub(super) async fn new_change(f: &Fixture, member: MemberId, byte: u8, email: &str) -> NewChange {
    let link = NewLink { email: Some(email.to_owned()), ..link(f, member, Purpose::ChangeEmail, byte) };
    NewChange { link, credentials: f.credentials(member).await, code: None, by: Actor::default() }
}

/// Asks for another address.
async fn ask_change(f: &Fixture, member: MemberId, byte: u8, email: &str) -> bool {
    let asked = f.store.mail.issue_change(new_change(f, member, byte, email).await).await.unwrap();
    assert!(matches!(asked, Asked::Written | Asked::TooMany(_)), "{asked:?}");
    asked == Asked::Written
}

fn confirmed(byte: u8, email: &str) -> Change {
    Change::Email { email: email.to_owned(), proof: EmailProof::Link([byte; 32]) }
}

#[expect(clippy::cognitive_complexity, reason = "what holds, one after the other")]
async fn a_link_that_changes_an_address_ends_the_former_and_is_used_once(f: &Fixture) {
    let ana = f.member("Ana").await;
    let former = f.store.members.by_id(Caller::System, ana).await.unwrap().unwrap();
    assert!(ask_change(f, ana, 1, "first@example.com").await && ask_change(f, ana, 2, "second@example.com").await);
    assert_eq!(drain(f).await, [Mail::ChangeEmail { member: ana, token: TokenId([2; 16]) }], "in its place");
    let named = f.store.mail.link(Caller::System, [2; 32], Purpose::ChangeEmail, f.now()).await.unwrap();
    assert_eq!(named.unwrap().email.as_deref(), Some("second@example.com"));
    assert!(matches!(change(f, ana, confirmed(1, "first@example.com")).await, Changed::Stale));
    assert!(issue(f, ana, Purpose::ResetPassword, 3).await);
    drain(f).await;
    f.wait(1);
    let Changed::Done { after, .. } = change(f, ana, confirmed(2, "second@example.com")).await else { panic!() };
    assert_eq!((after.profile.email.as_str(), after.profile.email_verified_at), ("second@example.com", Some(f.now())));
    assert_eq!((after.version, after.credentials), (former.version + 1, former.credentials));
    let told = Mail::EmailChanged { member: ana, former: former.profile.email.clone(), at: f.now() };
    assert_eq!(drain(f).await, [told]);
    assert!(matches!(change(f, ana, confirmed(2, "second@example.com")).await, Changed::Stale));
    assert_eq!(owner(f, Purpose::ResetPassword, 3).await, None, "what was sent to the former address is over");
    assert!(f.store.members.by_email(Caller::System, &former.profile.email).await.unwrap().is_none());
    let found = f.store.members.by_email(Caller::System, "SECOND@example.com").await.unwrap();
    assert_eq!(found.unwrap().profile.id, ana);
    f.wait(CHANGES_WITHIN.as_secs());
    for byte in 10..10 + u8::try_from(CHANGES_MAX).unwrap() {
        assert!(ask_change(f, ana, byte, "third@example.com").await);
    }
    assert!(!ask_change(f, ana, 30, "third@example.com").await, "there were too many");
    f.wait(LINK_LIFETIME.as_secs());
    assert!(matches!(change(f, ana, confirmed(14, "third@example.com")).await, Changed::Stale), "it is too old");
}

/// Found by an attacker: who was on the way to ask for one when the password changed, or they were put out, had it all the same.
#[expect(clippy::cognitive_complexity, reason = "what holds, one after the other")]
async fn a_link_that_changes_an_address_is_for_who_is_who_they_have_shown(f: &Fixture) {
    let until = f.now().after(LINKS_WITHIN);
    let out = [
        (Change::Suspended(Some(Suspension { until, reason: None })), Asked::Overtaken(Overtaken::SignedOut)),
        (Change::Active(false), Asked::Overtaken(Overtaken::SignedOut)),
        (Change::Erase, Asked::NotFound),
        (Change::Password { credentials: 0, hash: "new".to_owned(), keep: None }, Asked::Stale),
    ];
    for (change_of, refused) in out {
        let ana = f.member_with_email("Ana", "ana@example.com").await.profile.id;
        let session = log_in(f, ana, None).await;
        let asking = Asking { id: session, generation: Some(0), demands_second_factor: false };
        let by = Actor { member: Some(ana), session: Some(asking), address: None };
        let on_its_way = NewChange { by, ..new_change(f, ana, 1, "new@example.com").await };
        f.change(ana, change_of).await;
        drain(f).await;
        assert_eq!(f.store.mail.issue_change(on_its_way.clone()).await, Ok(refused));
        assert_eq!((owner(f, Purpose::ChangeEmail, 1).await, drain(f).await), (None, vec![]), "{refused:?}");
        f.change(ana, Change::Erase).await;
        // Nor after the end of all sessions, which ends what was asked for before.
        let ben = f.member("Ben").await;
        let session = log_in(f, ben, None).await;
        let asking = Asking { id: session, ..asking };
        let by = Actor { member: Some(ben), session: Some(asking), address: None };
        let asked = NewChange { by, ..new_change(f, ben, 2, "new@example.com").await };
        assert_eq!(f.store.mail.issue_change(asked.clone()).await, Ok(Asked::Written));
        f.store.sessions.revoke_many(ben, vec![session], f.now()).await.unwrap();
        assert_eq!(owner(f, Purpose::ChangeEmail, 2).await, None);
        assert!(matches!(change(f, ben, confirmed(2, "new@example.com")).await, Changed::Stale));
        assert_eq!(f.store.mail.issue_change(asked).await, Ok(Asked::Overtaken(Overtaken::SignedOut)));
        f.change(ben, Change::Erase).await;
        drain(f).await;
    }
    assert_eq!(f.store.mail.asked_changes(f.member("Eva").await).await, Ok(Vec::new()));
}

/// Found by an attacker and by faults: the session of a thief ended because its token was used twice, or because there were a hundred newer ones,
/// and the link that it had asked for gave them the account.
#[expect(clippy::cognitive_complexity, reason = "what holds, one after the other")]
async fn a_session_that_the_server_ends_takes_the_links_with_it(f: &Fixture) {
    let ana = f.member("Ana").await;
    for byte in [1, 2] {
        let session = new_session(f, ana, None).await;
        let (id, used) = (session.id, session.token.hash);
        f.store.sessions.start(session).await.unwrap().expect("they may");
        assert!(ask_change(f, ana, byte, "thief@example.com").await);
        // Nothing ends.
        f.store.sessions.revoke_many(ana, Vec::new(), f.now()).await.unwrap();
        assert_eq!(owner(f, Purpose::ChangeEmail, byte).await, Some(ana));
        f.wait(1);
        if byte == 1 {
            let mut next = Exchange { used, ..exchange(f, 0, 11) };
            assert!(matches!(rotate_as(f, next.clone()).await, Rotation::Rotated(_)));
            (next.used, next.successor) = (next.successor, [12; 32]);
            assert!(matches!(rotate_as(f, next.clone()).await, Rotation::Rotated(_)));
            f.wait(1);
            (next.used, next.successor, next.at) = (used, [13; 32], f.now());
            assert!(matches!(rotate_as(f, next).await, Rotation::Reused { session, .. } if session == id));
        } else {
            for _ in 0..SESSIONS_OF_MEMBER {
                log_in(f, ana, None).await;
            }
        }
        assert_eq!(owner(f, Purpose::ChangeEmail, byte).await, None);
        assert!(matches!(change(f, ana, confirmed(byte, "thief@example.com")).await, Changed::Stale));
    }
}

/// Found by an attacker: who had taken an account was still in when its owner had the address again.
async fn an_account_is_taken_back_with_its_sessions_its_password_and_its_links(f: &Fixture) {
    let ana = f.member_with_email("Ana", "thief@example.com").await;
    let (id, credentials) = (ana.profile.id, ana.credentials);
    let session = log_in(f, id, None).await;
    assert!(issue(f, id, Purpose::ResetPassword, 1).await && ask_change(f, id, 2, "other@example.com").await);
    drain(f).await;
    let back = |email: &str| Change::Email { email: email.to_owned(), proof: EmailProof::TakenOver };
    let Changed::Done { after, ended, .. } = change(f, id, back("ana@example.com")).await else { panic!() };
    assert_eq!((after.profile.email.as_str(), after.password_hash.as_str()), ("ana@example.com", ""));
    assert_eq!((ended, after.credentials), (vec![session], credentials + 1), "no proof of a device is good either");
    assert_eq!((owner(f, Purpose::ResetPassword, 1).await, owner(f, Purpose::ChangeEmail, 2).await), (None, None));
    let told = Mail::EmailChanged { member: id, former: "thief@example.com".to_owned(), at: f.now() };
    assert_eq!(drain(f).await, [told]);
    // The same where the address is the member's still.
    let ben = f.member_with_email("Ben", "ben@example.com").await.profile.id;
    let session = log_in(f, ben, None).await;
    assert!(issue(f, ben, Purpose::ResetPassword, 3).await);
    let Changed::Done { after, ended, .. } = change(f, ben, back("ben@example.com")).await else { panic!() };
    assert_eq!((after.password_hash.as_str(), ended), ("", vec![session]));
    assert_eq!(owner(f, Purpose::ResetPassword, 3).await, None);
}

async fn an_address_is_one_members_whoever_is_first(f: &Fixture) {
    let mut members = Vec::new();
    for byte in 0..8 {
        let member = f.member_with_email("Ana", &format!("ana{byte}@example.com")).await.profile.id;
        assert!(ask_change(f, member, 40 + byte, "One@example.com").await);
        members.push(member);
    }
    let all = members.iter().zip(40..).map(|(member, byte)| change(f, *member, confirmed(byte, "one@example.com")));
    let all = futures_util::future::join_all(all).await;
    let done = all.iter().filter(|changed| matches!(changed, Changed::Done { .. })).count();
    let taken = all.iter().filter(|changed| matches!(changed, Changed::EmailTaken)).count();
    assert_eq!((done, taken), (1, 7));
    let by_hand = Change::Email { email: "ONE@example.com".to_owned(), proof: EmailProof::Command };
    let owner = f.store.members.by_email(Caller::System, "one@example.com").await.unwrap().unwrap().profile.id;
    let other = members.into_iter().find(|member| *member != owner).unwrap();
    assert!(matches!(change(f, other, by_hand.clone()).await, Changed::EmailTaken));
    // The same in another case stays verified.
    let Changed::Done { before, after, .. } = change(f, owner, by_hand).await else { panic!() };
    assert_eq!(after.profile.email_verified_at, before.profile.email_verified_at);
    assert!(after.profile.email_verified_at.is_some());
}

async fn several_members_do_not_have_one_address_written_to_without_end(f: &Fixture) {
    let mut byte = 0;
    let mut ask = async |member, email: &str| {
        byte += 1;
        ask_change(f, member, byte, email).await
    };
    let mut members = Vec::new();
    for number in 0..4 {
        members.push(f.member_with_email("Ana", &format!("ana{number}@example.com")).await.profile.id);
    }
    let mut asked = 0;
    for email in ["one@example.com", " One@example.COM", "ONE@example.com", "one@Example.com"] {
        for member in &members[..3] {
            assert!(ask(*member, email).await, "{asked}");
            asked += 1;
        }
    }
    assert_eq!(asked, CHANGES_TO_MAX);
    assert!(!ask(members[0], "one@example.com").await, "it gets no more of them");
    assert!(ask(members[0], "two@example.com").await, "another one does");
    assert!(ask(members[3], "one@example.com").await, "nobody is kept from it by others");
    assert!(!ask(members[3], "one@example.com").await);
    drain(f).await;
    f.wait(LINKS_WITHIN.as_secs());
    assert!(ask(members[0], "one@example.com").await, "a day later");
}

#[expect(clippy::cognitive_complexity, reason = "what holds, one after the other")]
async fn nobody_gets_an_address_that_nobody_registers_with(f: &Fixture) {
    let (ana, uma) = (f.member("Ana").await, f.member("Uma").await);
    assert!(ask_change(f, uma, 1, "uma@example.com").await);
    assert!(matches!(change(f, uma, confirmed(1, "uma@example.com")).await, Changed::Done { .. }));
    assert!(ask_change(f, ana, 2, "uma2@example.com").await);
    f.change(uma, Change::Erase).await;
    drain(f).await;
    assert!(ask_change(f, ana, 3, "UMA@example.com").await, "as of any other");
    assert_eq!(drain(f).await, [], "but nobody is written to");
    assert_eq!((owner(f, Purpose::ChangeEmail, 2).await, owner(f, Purpose::ChangeEmail, 3).await), (None, None));
    let at_once = |proof| Change::Email { email: "uma@example.com".to_owned(), proof };
    assert!(matches!(change(f, ana, at_once(EmailProof::Password(7))).await, Changed::Stale));
    assert!(matches!(change(f, ana, at_once(EmailProof::Password(0))).await, Changed::EmailTaken));
    let Changed::Done { after, .. } = change(f, ana, at_once(EmailProof::Command)).await else { panic!() };
    assert_eq!((after.profile.email.as_str(), after.profile.email_verified_at), ("uma@example.com", None));
}

/// Found by an attacker: a second change took the place of the notice to the first address, leaving removed it, and what waited meanwhile went
/// to the new address.
async fn each_former_address_is_told_and_a_notice_goes_to_the_one_that_it_was_for(f: &Fixture) {
    let ana = f.member_with_email("Ana", "ana@example.com").await.profile.id;
    let (at, session, device) = (f.now(), f.ids.session(), "Phone".to_owned());
    let noticed = Mail::NewDevice { member: ana, session, device, at, more: false };
    add(f, noticed.clone()).await;
    add(f, Mail::PasswordChanged { member: ana, at }).await;
    let set = async |email: &str| {
        let set = Change::Email { email: email.to_owned(), proof: EmailProof::Command };
        assert!(matches!(change(f, ana, set).await, Changed::Done { .. }));
    };
    set("thief@example.com").await;
    add(f, Mail::SecondFactorReset { member: ana, at }).await;
    set("Thief@example.com").await;
    change(f, ana, Change::Erase).await;
    let mut left = drain(f).await;
    left.sort_by_key(Mail::key);
    let to = |former: &str, notice: Mail| Mail::FormerNotice { former: former.to_owned(), notice: Box::new(notice) };
    let changed = |former: &str| Mail::EmailChanged { member: ana, former: former.to_owned(), at };
    let mut expected = vec![
        to("ana@example.com", noticed),
        to("ana@example.com", Mail::PasswordChanged { member: ana, at }),
        changed("ana@example.com"),
        to("thief@example.com", Mail::SecondFactorReset { member: ana, at }),
        changed("thief@example.com"),
        to("Thief@example.com", Mail::Left { member: ana, at }),
    ];
    expected.sort_by_key(Mail::key);
    assert_eq!(left, expected);
}

/// Found by an attacker: whoever had the address that a member gets who leaves kept them from that.
async fn nobody_keeps_another_one_from_leaving_with_an_address(f: &Fixture) {
    let ana = f.member("Ana").await;
    let squatter = f.member_with_email("Eva", &format!("{ana}@erased.invalid")).await;
    assert!(matches!(change(f, ana, Change::Erase).await, Changed::Done { .. }));
    let found = f.store.members.by_email(Caller::System, &squatter.profile.email).await.unwrap().unwrap();
    assert_eq!(found.profile.id, squatter.profile.id);
    assert!(f.store.members.by_id(Caller::System, ana).await.unwrap().unwrap().is_erased);
    assert!(matches!(change(f, squatter.profile.id, Change::Erase).await, Changed::Done { .. }));
}
