//! Links in mails: good once, for a while, and so many.

use members_book::store::{
    audit::AuditRecord,
    changes::{Change, Changed},
    mail::{
        AskedFrom, LINK_AGAIN, LINK_LIFETIME, LINK_SENDINGS, LINKS_FROM, LINKS_MAX, LINKS_WITHIN, Mail, NewLink,
        Purpose, TokenId, UNVERIFIED_LINKS_FROM, handed_out,
    },
    sessions::{NewSession, NewToken, SessionDevice},
    turns::Caller,
};
use protocol::{MemberId, rest::AuditAction};

use super::{
    fixture::Fixture,
    for_every_store,
    mail::{change, drain, issue, link, owner, take, unverified},
};

for_every_store![
    a_link_that_is_handed_out_is_good_once_and_in_the_audit_log,
    a_link_is_good_once_and_for_a_while,
    a_link_that_is_good_for_a_while_is_sent_again_and_a_newer_one_ends_none,
    using_a_link_ends_all_of_its_purpose,
    however_often_strangers_ask_a_member_has_a_link_or_gets_one,
    a_thousand_networks_keep_no_member_from_a_link_and_send_few_mails,
    what_the_member_does_has_a_link_sent_again,
    a_link_whose_mail_was_given_up_was_not_sent,
    a_link_that_is_good_for_longer_is_not_forgotten_and_its_mail_waits_on,
    three_links_a_day_are_sent_to_an_address_that_nobody_has_shown_to_be_theirs,
    a_stranger_does_not_use_up_the_links_that_others_ask_for,
    a_link_is_used_up_once_by_however_many,
    a_changed_password_and_a_deactivation_end_links,
];

#[expect(clippy::cognitive_complexity, reason = "what it is good for, one after the other")]
async fn a_link_that_is_handed_out_is_good_once_and_in_the_audit_log(f: &Fixture) {
    let ana = f.member("Ana").await;
    let (action, details) = (AuditAction::ResetLinkMade, serde_json::json!({}));
    let entry = AuditRecord { at: f.now(), actor: None, action, target: Some(ana), details, address: None };
    f.store.mail.hand_out(handed_out(ana, [7; 32], f.now()), entry.clone()).await.unwrap();
    let entries = f.store.audit.entries(None, 10).await.unwrap();
    assert!(entries.iter().any(|(_, found)| *found == entry), "{entries:?}");
    assert_eq!(drain(f).await, [], "no mail brings it");
    assert_eq!(owner(f, Purpose::ResetPassword, 7).await, Some(ana));
    // Nobody has it sent: another one is made.
    assert!(issue(f, ana, Purpose::ResetPassword, 8).await);
    assert_eq!(drain(f).await, [Mail::ResetPassword { member: ana, token: TokenId([8; 16]) }]);
    f.wait(LINK_LIFETIME.as_secs());
    assert_eq!(owner(f, Purpose::ResetPassword, 7).await, None);
    f.store.mail.hand_out(handed_out(ana, [9; 32], f.now()), AuditRecord { at: f.now(), ..entry }).await.unwrap();
    let was_mailed = async |hash| {
        let link = f.store.mail.link(Caller::System, hash, Purpose::ResetPassword, f.now()).await.unwrap();
        link.map(|link| link.was_mailed)
    };
    assert_eq!(was_mailed([9; 32]).await, Some(false));
    assert!(issue(f, ana, Purpose::ResetPassword, 10).await);
    assert_eq!(was_mailed([10; 32]).await, Some(true));
    let used = Change::ResetPassword { link: [9; 32], hash: "another".to_owned(), by_mail: false };
    // Nobody has read a mail.
    let Changed::Done { after, .. } = change(f, ana, used.clone()).await else { panic!("it is good") };
    assert_eq!(after.profile.email_verified_at, None);
    assert!(matches!(change(f, ana, used).await, Changed::Stale));
}

#[expect(clippy::cognitive_complexity, reason = "what holds, one after the other")]
async fn a_link_is_good_once_and_for_a_while(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    assert!(issue(f, ana, Purpose::ResetPassword, 1).await);
    let token = TokenId([1; 16]);
    assert_eq!(drain(f).await, [Mail::ResetPassword { member: ana, token }]);
    assert_eq!(owner(f, Purpose::ResetPassword, 1).await, Some(ana));
    assert_eq!((owner(f, Purpose::VerifyEmail, 1).await, owner(f, Purpose::ResetPassword, 2).await), (None, None));
    let reset = |byte: u8| Change::ResetPassword { link: [byte; 32], hash: "new".to_owned(), by_mail: true };
    // Neither for another member, nor for another purpose.
    assert!(matches!(change(f, ben, reset(1)).await, Changed::Stale));
    assert!(matches!(change(f, ana, Change::VerifyEmail { link: [1; 32] }).await, Changed::Stale));
    let session = f.ids.session();
    let token = NewToken { hash: [9; 32], expires_at: f.now().after(LINKS_WITHIN) };
    let (device, at, ends_at) = (SessionDevice::default(), f.now(), token.expires_at);
    let credentials = 0;
    let (id, member, address, tell_of) = (session, ana, None, None);
    let known_device = None;
    let new = NewSession { id, member, token, device, known_device, address, at, ends_at, credentials, tell_of };
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

async fn a_link_that_is_good_for_a_while_is_sent_again_and_a_newer_one_ends_none(f: &Fixture) {
    let ana = f.member("Ana").await;
    let token = TokenId([1; 16]);
    assert!(issue(f, ana, Purpose::ResetPassword, 1).await);
    assert_eq!(drain(f).await, [Mail::ResetPassword { member: ana, token }]);
    f.wait((LINK_LIFETIME - LINK_AGAIN).as_secs() - 1);
    assert!(issue(f, ana, Purpose::ResetPassword, 2).await);
    assert_eq!(drain(f).await, [Mail::ResetPassword { member: ana, token }], "the same link");
    assert_eq!(owner(f, Purpose::ResetPassword, 2).await, None);
    f.wait(1);
    assert!(issue(f, ana, Purpose::ResetPassword, 3).await);
    assert_eq!(drain(f).await, [Mail::ResetPassword { member: ana, token: TokenId([3; 16]) }]);
    for byte in [1, 3] {
        assert_eq!(owner(f, Purpose::ResetPassword, byte).await, Some(ana), "somebody may be about to click it");
    }
    f.wait(LINK_AGAIN.as_secs());
    assert_eq!(owner(f, Purpose::ResetPassword, 1).await, None);
    assert_eq!(owner(f, Purpose::ResetPassword, 3).await, Some(ana));
}

async fn using_a_link_ends_all_of_its_purpose(f: &Fixture) {
    let ana = f.member("Ana").await;
    assert!(issue(f, ana, Purpose::ResetPassword, 1).await && issue(f, ana, Purpose::VerifyEmail, 2).await);
    f.wait((LINK_LIFETIME - LINK_AGAIN).as_secs());
    assert!(issue(f, ana, Purpose::VerifyEmail, 3).await);
    assert!(matches!(change(f, ana, Change::VerifyEmail { link: [2; 32] }).await, Changed::Done { .. }));
    assert_eq!((owner(f, Purpose::VerifyEmail, 2).await, owner(f, Purpose::VerifyEmail, 3).await), (None, None));
    assert_eq!(owner(f, Purpose::ResetPassword, 1).await, Some(ana));
    // A link is used up although the address was verified before, and what is over is not sent again.
    assert!(issue(f, ana, Purpose::VerifyEmail, 4).await);
    assert!(matches!(change(f, ana, Change::VerifyEmail { link: [4; 32] }).await, Changed::Done { .. }));
    assert!(matches!(change(f, ana, Change::VerifyEmail { link: [4; 32] }).await, Changed::Stale));
}

/// Found by reading: five requests of a stranger, and for half of each hour nobody could set a new password.
async fn however_often_strangers_ask_a_member_has_a_link_or_gets_one(f: &Fixture) {
    let ana = f.member("Ana").await;
    let (mut asked, mut mailbox) = (Vec::new(), Vec::new());
    for minute in (0_u8..150).step_by(5) {
        for _ in 0..3 {
            if issue(f, ana, Purpose::ResetPassword, minute).await {
                asked.push(minute);
            }
        }
        for mail in drain(f).await {
            let Mail::ResetPassword { token, .. } = mail else { panic!("{mail:?}") };
            mailbox.push(token.0[0]);
        }
        let newest = *mailbox.last().unwrap();
        assert_eq!(owner(f, Purpose::ResetPassword, newest).await, Some(ana), "minute {minute}: {mailbox:?}");
        let in_an_hour = asked.iter().filter(|at| **at + 60 > minute).count();
        assert!(in_an_hour <= 3 * LINK_SENDINGS as usize, "minute {minute}: {asked:?}");
        f.wait(5 * 60);
    }
}

/// Asks for a link from a network; whether a mail comes of it.
async fn ask(f: &Fixture, member: MemberId, purpose: Purpose, byte: u8, from: u64) -> bool {
    let asked = NewLink { asked: AskedFrom(from), ..link(f, member, purpose, byte) };
    f.store.mail.issue(Caller::System, asked).await.unwrap()
}

/// Found by an attacker: whose address was not verified got no link all day once strangers had asked for twelve, and a member whose was got
/// 144 mails a day.
async fn a_thousand_networks_keep_no_member_from_a_link_and_send_few_mails(f: &Fixture) {
    let (ana, ben) = (unverified(f).await, f.member("Ben").await);
    let mut mailbox: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
    let (mut network, mut made) = (1_000, 0);
    for looks in 0..40 {
        for (member, mails) in [ana, ben].into_iter().zip(&mut mailbox) {
            // The last one is the member, from where nobody else is.
            for from in [network, 1] {
                made += u8::from(ask(f, member, Purpose::ResetPassword, made, from).await);
                for mail in drain(f).await {
                    let Mail::ResetPassword { token, .. } = mail else { panic!("{mail:?}") };
                    mails.push(token.0[0]);
                }
            }
            network += 1;
            let newest = *mails.last().unwrap();
            let owner = owner(f, Purpose::ResetPassword, newest).await;
            assert_eq!(owner, Some(member), "after {looks} times twenty minutes: {mails:?}");
        }
        f.wait(20 * 60);
    }
    assert_eq!(mailbox.map(|mails| mails.len()), [LINKS_MAX as usize; 2]);
    // The other purpose has one all the same: none of it is in the mailbox.
    assert!(ask(f, ana, Purpose::VerifyEmail, 201, 7).await);
    assert_eq!(owner(f, Purpose::VerifyEmail, 201).await, Some(ana));
    assert!(!ask(f, ana, Purpose::VerifyEmail, 202, 7).await);
}

/// What is over is in nobody's way.
async fn what_the_member_does_has_a_link_sent_again(f: &Fixture) {
    let ana = f.member("Ana").await;
    for round in 0..3_u8 {
        let mut sent = 0;
        for byte in 0..30 {
            sent += u32::from(ask(f, ana, Purpose::ResetPassword, round * 30 + byte, 100 + u64::from(byte)).await);
            f.wait(25 * 60);
        }
        assert_eq!(sent, LINKS_MAX, "round {round}");
        let newest = round * 30 + u8::try_from(LINKS_MAX).unwrap() - 1;
        f.wait(5 * 60);
        assert_eq!(owner(f, Purpose::ResetPassword, newest).await, None, "nobody has asked");
        assert!(!ask(f, ana, Purpose::ResetPassword, 255, 1).await);
        let reset = Change::ResetPassword { link: [newest; 32], hash: format!("{round}"), by_mail: true };
        assert!(matches!(change(f, ana, reset).await, Changed::Done { .. }));
        assert_eq!(owner(f, Purpose::ResetPassword, newest).await, None);
    }
}

/// Found by an attacker: mails that were refused, or that an outage outlived, counted, and after twelve of them the link was made good for longer
/// that nobody had got.
async fn a_link_whose_mail_was_given_up_was_not_sent(f: &Fixture) {
    let ana = f.member("Ana").await;
    for round in 0..2 * u8::try_from(LINKS_MAX).unwrap() {
        assert!(ask(f, ana, Purpose::ResetPassword, round, 1).await, "{round}");
        let taken = take(f).await.unwrap();
        f.store.mail.give_up(taken).await.unwrap();
        assert_eq!(drain(f).await, []);
        f.wait(25 * 60);
    }
    assert!(ask(f, ana, Purpose::ResetPassword, 100, 1).await);
    let [Mail::ResetPassword { token: TokenId([byte, ..]), .. }] = drain(f).await[..] else { panic!("it is mailed") };
    assert_eq!(owner(f, Purpose::ResetPassword, byte).await, Some(ana), "and good");
    assert!(ask(f, ana, Purpose::ResetPassword, 101, 1).await, "once more, as any other");
    assert!(!ask(f, ana, Purpose::ResetPassword, 102, 1).await);
}

async fn a_link_that_is_good_for_longer_is_not_forgotten_and_its_mail_waits_on(f: &Fixture) {
    let ana = unverified(f).await;
    assert!(issue(f, ana, Purpose::ResetPassword, 1).await && issue(f, ana, Purpose::ResetPassword, 2).await);
    f.wait(20 * 60);
    assert!(issue(f, ana, Purpose::ResetPassword, 3).await);
    // No mail is sent meanwhile: the mail server is down.
    let mut waited = 20;
    while waited < 24 * 60 - 50 {
        f.wait(25 * 60);
        waited += 25;
        assert!(!issue(f, ana, Purpose::ResetPassword, 4).await, "after {waited} minutes");
    }
    f.wait((24 * 60 - 1 - waited) * 60);
    assert!(!issue(f, ana, Purpose::ResetPassword, 5).await);
    f.wait(25 * 60);
    f.store.mail.purge_links(f.now()).await.unwrap();
    assert_eq!(owner(f, Purpose::ResetPassword, 3).await, Some(ana), "it is a day old, and was asked for just now");
    assert_eq!(take(f).await.unwrap().mail, Some(Mail::ResetPassword { member: ana, token: TokenId([3; 16]) }));
    assert!(issue(f, ana, Purpose::ResetPassword, 6).await, "it counts no more");
    assert_eq!(owner(f, Purpose::ResetPassword, 3).await, Some(ana));
    f.wait(LINK_LIFETIME.as_secs());
    f.store.mail.purge_links(f.now()).await.unwrap();
    assert_eq!(owner(f, Purpose::ResetPassword, 3).await, None);
}

/// What is sent again counts as well.
async fn three_links_a_day_are_sent_to_an_address_that_nobody_has_shown_to_be_theirs(f: &Fixture) {
    let ana = unverified(f).await;
    let many =
        (0..20).map(|byte| f.store.mail.issue(Caller::System, link(f, ana, Purpose::ALL[usize::from(byte % 2)], byte)));
    let made = futures_util::future::join_all(many).await;
    assert_eq!(made.into_iter().filter(|made| *made == Ok(true)).count(), UNVERIFIED_LINKS_FROM as usize);
    f.wait(60 * 60);
    f.store.mail.purge_links(f.now()).await.unwrap();
    assert!(!issue(f, ana, Purpose::ResetPassword, 100).await, "however often it is tidied up");
    f.wait(LINKS_WITHIN.as_secs() - 60 * 60);
    f.store.mail.purge_links(f.now()).await.unwrap();
    assert!(issue(f, ana, Purpose::ResetPassword, 101).await);
    change(f, ana, Change::ResetPassword { link: [101; 32], hash: "new".to_owned(), by_mail: true }).await;
    for byte in 102..=105 {
        assert!(issue(f, ana, Purpose::ALL[usize::from(byte % 2)], byte).await, "like others from then on");
    }
}

/// Found by an attacker: three requests of a stranger, and the one whose address it was got no link all day.
async fn a_stranger_does_not_use_up_the_links_that_others_ask_for(f: &Fixture) {
    let both = [(unverified(f).await, UNVERIFIED_LINKS_FROM, 0), (f.member("Ben").await, LINKS_FROM, 100)];
    for (member, most, first) in both {
        let mut sent = 0;
        for byte in first..first + 20 {
            sent += u32::from(ask(f, member, Purpose::ResetPassword, byte, 1).await);
            f.wait(25 * 60);
        }
        assert_eq!(sent, most);
        assert!(ask(f, member, Purpose::ResetPassword, first + 30, 2).await, "the owner");
        assert!(ask(f, member, Purpose::ResetPassword, first + 31, 3).await, "the same link again");
        let used = Change::ResetPassword { link: [first + 30; 32], hash: "new".to_owned(), by_mail: true };
        assert!(matches!(change(f, member, used).await, Changed::Done { .. }));
    }
}

async fn a_link_is_used_up_once_by_however_many(f: &Fixture) {
    let ana = f.member("Ana").await;
    assert!(issue(f, ana, Purpose::ResetPassword, 1).await);
    let uses = (0..20)
        .map(|number| change(f, ana, Change::ResetPassword { link: [1; 32], hash: number.to_string(), by_mail: true }));
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
    let (credentials, hash) = (0, "new".to_owned());
    change(f, ana, Change::Password { credentials, hash, keep: None }).await;
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
