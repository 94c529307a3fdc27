//! Mail that waits, and links that are good once.

use std::time::Duration;

use members_book::store::{
    audit::AuditRecord,
    changes::{Actor, Asking, Change, Changed, EmailProof, Overtaken},
    mail::{
        Asked, AskedFrom, CHANGES_MAX, CHANGES_TO_MAX, CHANGES_WITHIN, Expired, GoodLink, LINK_AGAIN, LINK_LIFETIME,
        LINK_SENDINGS, LINKS_FROM, LINKS_MAX, LINKS_WITHIN, Mail, NEW_DEVICES_MAX, NewChange, NewLink, Purpose,
        TakenMail, TokenId, UNVERIFIED_LINKS_FROM, WaitingMail, handed_out,
    },
    members::{NewMember, Registration, Suspension, UNVERIFIED_MAX, Way},
    sessions::{NewSession, NewToken, SessionDevice},
    turns::Caller,
};
use mongodb::bson::{Document, doc};
use protocol::{
    MemberId, SessionId,
    rest::{AuditAction, Language},
};
use tokio_util::sync::CancellationToken;

use super::{fixture::Fixture, for_every_store};

for_every_store![
    a_mail_is_taken_when_it_is_due_and_again_if_it_is_not_finished,
    one_that_takes_the_place_of_another_is_not_finished_with_it,
    what_is_due_later_than_anybody_waits_can_be_made_due,
    what_nobody_has_taken_is_due_whatever_clock_it_was_written_by,
    the_time_of_a_mail_begins_when_it_is_taken_for_the_first_time,
    what_concerns_members_goes_before_what_strangers_have_written,
    a_link_that_is_handed_out_is_good_once_and_in_the_audit_log,
    a_link_is_good_once_and_for_a_while,
    a_link_that_is_good_for_a_while_is_sent_again_and_a_newer_one_ends_none,
    using_a_link_ends_all_of_its_purpose,
    a_link_that_changes_an_address_ends_the_former_and_is_used_once,
    a_link_that_changes_an_address_is_for_who_is_who_they_have_shown,
    an_account_is_taken_back_with_its_sessions_its_password_and_its_links,
    an_address_is_one_members_whoever_is_first,
    several_members_do_not_have_one_address_written_to_without_end,
    nobody_gets_an_address_that_nobody_registers_with,
    each_former_address_is_told_and_a_notice_goes_to_the_one_that_it_was_for,
    nobody_keeps_another_one_from_leaving_with_an_address,
    however_often_strangers_ask_a_member_has_a_link_or_gets_one,
    a_thousand_networks_keep_no_member_from_a_link_and_send_few_mails,
    what_the_member_does_has_a_link_sent_again,
    what_is_set_aside_comes_last_and_keeps_its_place_in_the_queue,
    what_is_set_aside_untried_goes_before_what_was_tried,
    what_is_written_again_is_set_aside_no_more,
    a_link_whose_mail_was_given_up_was_not_sent,
    a_link_that_is_good_for_longer_is_not_forgotten_and_its_mail_waits_on,
    three_links_a_day_are_sent_to_an_address_that_nobody_has_shown_to_be_theirs,
    a_stranger_does_not_use_up_the_links_that_others_ask_for,
    each_of_several_new_devices_is_told_of_and_the_last_says_that_there_were_more,
    of_new_devices_at_once_no_more_than_five_wait,
    a_login_tells_of_its_device_with_its_commit_and_the_first_of_all_does_not,
    nothing_waits_for_who_is_rejected_or_waited_too_long,
    what_cannot_be_read_keeps_nothing_back_and_what_is_unknown_goes_with_its_time,
    a_link_is_used_up_once_by_however_many,
    a_changed_password_and_a_deactivation_end_links,
    a_changed_password_and_an_approval_are_told,
    nothing_but_notices_waits_for_who_has_left,
    a_member_has_a_language_and_a_verified_address,
];

fn forgot(email: &str) -> Mail {
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

async fn issue(f: &Fixture, member: MemberId, purpose: Purpose, byte: u8) -> bool {
    f.store.mail.issue(Caller::System, link(f, member, purpose, byte)).await.unwrap()
}

pub(super) async fn owner(f: &Fixture, purpose: Purpose, byte: u8) -> Option<MemberId> {
    let found = f.store.mail.link(Caller::System, [byte; 32], purpose, f.now()).await.unwrap();
    found.map(|found: GoodLink| found.member)
}

pub(super) async fn add(f: &Fixture, mail: Mail) {
    f.store.mail.add(Caller::System, mail, f.now()).await.unwrap();
}

async fn take(f: &Fixture) -> Option<TakenMail> {
    let now = f.now();
    f.store.mail.take(now, now.after(Duration::from_secs(60))).await.unwrap()
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
    assert_eq!(f.store.mail.waiting().await.unwrap(), WaitingMail::default());
    add(f, forgot("ana@example.com")).await;
    assert_eq!(f.store.mail.waiting().await.unwrap(), WaitingMail { count: 1, next: Some(f.now()) });
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
    assert_eq!(kinds[..2], ["verify_email", "password_changed"], "what no stranger has asked for");
    assert_eq!((kinds.len(), kinds[2]), (54, "reset_password"), "a stranger may have");
    add(f, Mail::PasswordChanged { member: ana, at: f.now() }).await;
    assert_eq!(f.store.mail.oldest().await.unwrap(), Some(f.now()));
}

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

async fn one_that_takes_the_place_of_another_is_not_finished_with_it(f: &Fixture) {
    add(f, forgot("ana@example.com")).await;
    add(f, forgot("ANA@example.com")).await;
    assert_eq!(f.store.mail.waiting().await.unwrap().count, 1);
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
        f.store.mail.hasten(after, f.now()).await.unwrap()
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
    let hasten = async || f.store.mail.hasten(f.now().after(LINK_LIFETIME), f.now()).await.unwrap();
    assert_eq!((hasten().await, hasten().await), (1, 0));
    assert_eq!(drain(f).await, [forgot("ben@example.com")], "what somebody has in hand stays with them");
    f.wait(60);
    assert_eq!(drain(f).await, [taken]);
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

async fn unverified(f: &Fixture) -> MemberId {
    let ana = NewMember { must_verify: true, ..f.new_member("Ana", "ana@example.com") };
    f.store.members.insert(ana, None).await.unwrap().unwrap().profile.id
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

async fn new_session(f: &Fixture, member: MemberId, tell_of: Option<&str>) -> NewSession {
    let credentials = f.credentials(member).await;
    let id = f.ids.session();
    let mut hash = [0; 32];
    hash[..12].copy_from_slice(id.as_bytes());
    let (at, ends_at) = (f.now(), f.now().after(LINKS_WITHIN));
    let (token, device) = (NewToken { hash, expires_at: ends_at }, SessionDevice::default());
    let (address, known_device, tell_of) = (None, None, tell_of.map(str::to_owned));
    NewSession { id, member, token, device, known_device, address, at, ends_at, credentials, tell_of }
}

async fn log_in(f: &Fixture, member: MemberId, tell_of: Option<&str>) -> SessionId {
    let new = new_session(f, member, tell_of).await;
    let id = new.id;
    f.store.sessions.start(new).await.unwrap().expect("they may");
    id
}

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
    assert_eq!(f.store.mail.waiting().await.unwrap().count, 9);
    f.store.members.reject(waiting[0], Actor::default(), f.now()).await.unwrap();
    assert_eq!(f.store.mail.waiting().await.unwrap().count, 6);
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
    assert_eq!(f.store.mail.waiting().await.unwrap(), WaitingMail::default());
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

/// Found by an attacker and by faults: one mail that the mail server closed at was tried again before all others, for a day.
async fn what_is_set_aside_comes_last_and_keeps_its_place_in_the_queue(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let notice = |member| Mail::PasswordChanged { member, at: f.now() };
    let of_stranger = Mail::AddressTaken { email: "ana@example.com".to_owned(), asked: AskedFrom(1) };
    let (made, asked) = (Mail::ResetPassword { member: ana, token: TokenId([1; 16]) }, forgot("ben@example.com"));
    add(f, notice(ana)).await;
    add(f, of_stranger.clone()).await;
    assert!(issue(f, ana, Purpose::ResetPassword, 1).await);
    let mut aside = Vec::new();
    for _ in 0..3 {
        let taken = take(f).await.unwrap();
        aside.extend(taken.mail.clone());
        f.store.mail.set_aside(taken, f.now()).await.unwrap();
    }
    assert_eq!(aside, [notice(ana), made, of_stranger], "members first");
    assert_eq!(f.store.mail.waiting().await.unwrap().count, 3);
    add(f, asked.clone()).await;
    add(f, notice(ben)).await;
    let until = f.now().after(Duration::from_secs(60));
    let first = f.store.mail.take_aside(f.now(), until).await.unwrap().unwrap();
    assert!(first.mail.as_ref().is_some_and(|mail| aside.contains(mail)), "{first:?}");
    // Taken twice, and set aside again.
    f.store.mail.set_aside(first.clone(), f.now()).await.unwrap();
    let all = drain(f).await;
    assert_eq!(all[..2], [notice(ben), asked], "{all:?}");
    assert_eq!((all.len(), all[2..].iter().all(|mail| aside.contains(mail))), (5, true), "{all:?}");
}

/// Found by faults: beside mails that hang, one that was set aside for its domain alone was never tried.
async fn what_is_set_aside_untried_goes_before_what_was_tried(f: &Fixture) {
    let ana = f.member("Ana").await;
    let notice = |member| Mail::PasswordChanged { member, at: f.now() };
    for mail in [notice(ana), forgot("eva@example.com")] {
        add(f, mail).await;
    }
    for early in [0, 60] {
        let taken = take(f).await.unwrap();
        f.store.mail.set_aside(taken, f.now().before(Duration::from_secs(early))).await.unwrap();
    }
    assert_eq!(drain(f).await, [forgot("eva@example.com"), notice(ana)]);
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
    assert_eq!(f.store.mail.take_aside(f.now(), until).await.unwrap(), None);
    assert_eq!(drain(f).await, [notice(ana)]);
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
