//! Second factors: codes are used up, whoever uses them at the same moment.

use std::{net::IpAddr, time::Duration};

use futures_util::future::join_all;
use members_book::store::{
    changes::{Actor, Change, Changed},
    mail::Mail,
    members::MemberRecord,
    second_factor::{Code, CodeUse, StoredFactor},
    sessions::{NewSession, NewToken, SessionDevice},
    turns::Caller,
};
use protocol::{MemberId, SessionId, rest::AuditAction};
use tokio_util::sync::CancellationToken;

use super::{fixture::Fixture, for_every_store};

for_every_store![
    of_many_who_use_the_same_code_one_does,
    only_a_later_code_of_the_app_is_good,
    recovery_codes_are_replaced_with_a_code_that_is_good,
    it_is_turned_on_once_and_off_with_a_code,
    a_reset_ends_the_sessions_and_tells_the_member,
    who_leaves_leaves_nothing_of_it,
    a_session_knows_when_it_was_proved_and_whether_there_is_one,
];

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn factor(f: &Fixture) -> StoredFactor {
    let recovery_codes = (0..10).map(|number| [number; 32]).collect();
    StoredFactor { secret: vec![1, 2, 3], enabled_at: f.now(), last_step: 100, recovery_codes }
}

async fn with_factor(f: &Fixture) -> (MemberId, StoredFactor) {
    let (ana, factor) = (f.member("Ana").await, factor(f));
    f.change(ana, enable(f, 0, factor.clone())).await;
    (ana, factor)
}

fn used(factor: &StoredFactor, code: Code) -> CodeUse {
    CodeUse { enabled_at: factor.enabled_at, code }
}

fn app(factor: &StoredFactor, step: u64) -> CodeUse {
    used(factor, Code::App { step, resealed: None })
}

fn recovery(factor: &StoredFactor, number: u8) -> CodeUse {
    used(factor, Code::Recovery([number; 32]))
}

/// Whether a change was made, by the member themselves.
async fn changes(f: &Fixture, member: MemberId, change: Change) -> bool {
    let by = Actor::without_session(member, Some(FROM));
    match f.store.members.change(member, change, by, f.now(), CancellationToken::new()).await.unwrap() {
        Changed::Done { .. } => true,
        Changed::Stale => false,
        _ => panic!("neither"),
    }
}

async fn stored(f: &Fixture, member: MemberId) -> MemberRecord {
    f.store.members.by_id(Caller::System, member).await.unwrap().unwrap()
}

async fn actions(f: &Fixture) -> Vec<AuditAction> {
    let mut entries = f.store.audit.entries(None, 100).await.unwrap();
    entries.reverse();
    entries.into_iter().map(|(_, entry)| entry.action).collect()
}

/// The mails that wait, which are taken.
async fn mails(f: &Fixture) -> Vec<Mail> {
    let mut mails = Vec::new();
    while let Some(taken) = f.take_mail(Duration::ZERO).await {
        mails.push(taken.mail.clone().expect("it can be read"));
        f.store.mail.finish(taken).await.unwrap();
    }
    mails
}

async fn of_many_who_use_the_same_code_one_does(f: &Fixture) {
    let (ana, factor) = with_factor(f).await;
    for code in [app(&factor, 101), recovery(&factor, 3), app(&factor, 102), recovery(&factor, 4)] {
        let all = join_all((0..12).map(|_| changes(f, ana, Change::UseCode(code.clone())))).await;
        assert_eq!(all.into_iter().filter(|used| *used).count(), 1, "{code:?}");
    }
    let after = stored(f, ana).await;
    let left = after.second_factor.unwrap();
    assert_eq!((left.last_step, left.codes_left(), after.version), (102, 8, 1), "the profile is the same version");
    let expected = [AuditAction::SecondFactorEnabled, AuditAction::RecoveryCodeUsed, AuditAction::RecoveryCodeUsed];
    assert_eq!(actions(f).await, expected);
    let at = f.now();
    let told = mails(f).await;
    assert_eq!(told.len(), 2, "the newer one is in the place of the one before it");
    assert!(told.contains(&Mail::RecoveryCodeUsed { member: ana, at, left: 8 }), "{told:?}");
}

async fn only_a_later_code_of_the_app_is_good(f: &Fixture) {
    let (ana, factor) = with_factor(f).await;
    for (step, good) in [(99, false), (100, false), (102, true), (101, false), (102, false), (103, true)] {
        assert_eq!(changes(f, ana, Change::UseCode(app(&factor, step))).await, good, "{step}");
    }
    let resealed = used(&factor, Code::App { step: 104, resealed: Some(vec![9; 60]) });
    assert!(changes(f, ana, Change::UseCode(resealed)).await);
    let after = stored(f, ana).await.second_factor.unwrap();
    assert_eq!(after, StoredFactor { secret: vec![9; 60], last_step: 104, ..factor });
}

async fn recovery_codes_are_replaced_with_a_code_that_is_good(f: &Fixture) {
    let (ana, factor) = with_factor(f).await;
    let replace = |used, first: u8| Change::ReplaceRecoveryCodes { used, codes: vec![[first; 32], [first + 1; 32]] };
    assert!(!changes(f, ana, replace(app(&factor, 100), 77)).await);
    assert_eq!(stored(f, ana).await.second_factor.as_ref(), Some(&factor), "nothing has happened");
    assert!(changes(f, ana, replace(app(&factor, 101), 77)).await);
    assert!(!changes(f, ana, Change::UseCode(recovery(&factor, 1))).await);
    // With one of the new ones.
    assert!(changes(f, ana, replace(recovery(&factor, 77), 87)).await);
    let after = stored(f, ana).await.second_factor.unwrap();
    assert_eq!(after.recovery_codes, [[87; 32], [88; 32]]);
    let entries = f.store.audit.entries(None, 1).await.unwrap();
    let entry = &entries[0].1;
    assert_eq!((entry.action, entry.address), (AuditAction::RecoveryCodesReplaced, Some(FROM)));
    assert_eq!(entry.details, serde_json::json!({ "recovery_code": true }));
}

#[expect(clippy::cognitive_complexity, reason = "what holds, one after the other")]
async fn it_is_turned_on_once_and_off_with_a_code(f: &Fixture) {
    let (ana, first) = with_factor(f).await;
    let other = StoredFactor { secret: vec![4], ..factor(f) };
    assert!(!changes(f, ana, enable(f, 1, other.clone())).await);
    assert!(changes(f, ana, enable(f, 0, first.clone())).await, "as after a lost answer");
    assert!(!changes(f, ana, Change::DisableSecondFactor(app(&first, 100))).await);
    assert!(changes(f, ana, Change::DisableSecondFactor(app(&first, 101))).await);
    assert_eq!(stored(f, ana).await.second_factor, None);
    assert!(!changes(f, ana, Change::UseCode(recovery(&first, 1))).await, "there is none");
    f.wait(1);
    let second = StoredFactor { enabled_at: f.now(), ..other };
    // Found by a reviewer: whoever had begun to turn it on with a password that is replaced could still do so, and put its member out.
    assert!(!changes(f, ana, enable(f, 0, second.clone())).await);
    assert!(changes(f, ana, enable(f, 1, second.clone())).await);
    assert!(!changes(f, ana, Change::UseCode(app(&first, 102))).await, "a code of the one before");
    assert_eq!(stored(f, ana).await.second_factor, Some(second));
    let expected =
        [AuditAction::SecondFactorEnabled, AuditAction::SecondFactorDisabled, AuditAction::SecondFactorEnabled];
    assert_eq!(actions(f).await, expected);
    assert_eq!(mails(f).await.len(), 2);
}

/// A second factor turned on, of who has these credentials.
fn enable(f: &Fixture, credentials: u64, factor: StoredFactor) -> Change {
    Change::EnableSecondFactor { credentials, factor, keep: f.keep(f.ids.session()) }
}

async fn session(f: &Fixture, member: MemberId) -> SessionId {
    let (id, ends_at) = (f.ids.session(), f.now().after(Duration::from_secs(3_600)));
    let hash = std::array::from_fn(|at| id.as_bytes()[at % 12]);
    let token = NewToken { hash, expires_at: ends_at };
    let (device, address) = (SessionDevice::default(), None);
    let credentials = f.credentials(member).await;
    let (at, tell_of) = (f.now(), None);
    let known_device = None;
    let new = NewSession { id, member, credentials, token, device, known_device, address, at, ends_at, tell_of };
    assert!(f.store.sessions.start(new).await.unwrap().is_some());
    id
}

async fn a_reset_ends_the_sessions_and_tells_the_member(f: &Fixture) {
    let (ana, _) = with_factor(f).await;
    let id = session(f, ana).await;
    let revoked = async || f.store.sessions.view(id).await.unwrap().unwrap().revoked;
    f.change(ana, Change::ResetSecondFactor).await;
    assert!(revoked().await && stored(f, ana).await.second_factor.is_none());
    assert_eq!(actions(f).await, [AuditAction::SecondFactorEnabled, AuditAction::SecondFactorReset]);
    assert!(mails(f).await.contains(&Mail::SecondFactorReset { member: ana, at: f.now() }));
    // Of who has none nothing changes.
    let next = session(f, ana).await;
    f.change(ana, Change::ResetSecondFactor).await;
    assert!(!f.store.sessions.view(next).await.unwrap().unwrap().revoked);
    assert_eq!((actions(f).await.len(), mails(f).await.len()), (2, 0));
}

async fn who_leaves_leaves_nothing_of_it(f: &Fixture) {
    let (ana, factor) = with_factor(f).await;
    f.change(ana, Change::Erase).await;
    assert_eq!(stored(f, ana).await.second_factor, None);
    let by = Actor::default();
    let late = Change::UseCode(app(&factor, 101));
    let late = f.store.members.change(ana, late, by, f.now(), CancellationToken::new()).await.unwrap();
    assert!(matches!(late, Changed::NotFound));
}

async fn a_session_knows_when_it_was_proved_and_whether_there_is_one(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let (one, other) = (session(f, ana).await, session(f, ana).await);
    let started = f.now();
    let proved = async || {
        let views = f.store.sessions.views(vec![one, other]).await.unwrap();
        let views: Vec<_> = views.into_iter().flatten().map(|view| (view.proved_at, view.has_second_factor)).collect();
        let single = f.store.sessions.view(one).await.unwrap().unwrap();
        assert_eq!(views[0], (single.proved_at, single.has_second_factor));
        views
    };
    assert_eq!(proved().await, [(started, false), (started, false)], "the login is a proof");
    f.wait(30);
    f.store.sessions.prove(ben, one, f.now()).await.unwrap();
    assert_eq!(proved().await[0].0, started, "it is not that member's");
    f.store.sessions.prove(ana, one, f.now()).await.unwrap();
    f.store.sessions.prove(ana, one, started).await.unwrap();
    assert_eq!(proved().await[0].0, f.now());
    // One that lies further ahead is of a clock that was wrong.
    let before = started.before(Duration::from_millis(1));
    f.store.sessions.prove(ana, one, before).await.unwrap();
    assert_eq!(proved().await[0].0, before);
    f.store.sessions.prove(ana, one, f.now()).await.unwrap();
    f.change(ana, enable(f, 0, factor(f))).await;
    assert_eq!(proved().await, [(f.now(), true), (started, true)]);
}
