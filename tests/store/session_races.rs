//! Logins and refreshes that are under way while their member's credentials change, or while they are put out.

use members_book::store::{
    changes::Change,
    members::Suspension,
    second_factor::StoredFactor,
    sessions::{KeptSession, NewSession, Rotation},
};
use protocol::{MemberId, SessionId};

use super::{
    fixture::Fixture,
    for_every_store,
    sessions::{exchange, hash, new, rotate, rotate_as, session, token},
};

for_every_store![
    a_login_that_a_suspension_overtook_starts_no_session,
    nobody_stays_who_logs_in_or_refreshes_while_they_are_put_out,
    nobody_stays_who_refreshes_while_a_second_factor_is_turned_on,
];

/// Refreshes and logins that are made at the same moment as a change.
const AT_ONCE: u8 = 6;

async fn a_login_that_a_suspension_overtook_starts_no_session(f: &Fixture) {
    let ana = f.member("Ana").await;
    let login = new(f, ana, 1).await;
    let id = login.id;
    f.change(ana, suspended(f)).await;
    assert_eq!(f.store.sessions.start(login).await.unwrap(), None);
    assert_eq!(f.store.sessions.view(id).await.unwrap(), None);
}

fn suspended(f: &Fixture) -> Change {
    let until = f.now().after(std::time::Duration::from_secs(3_600));
    Change::Suspended(Some(Suspension { until, reason: None }))
}

/// No session of these is good, and no token that came of them.
async fn nobody_stays(f: &Fixture, sessions: Vec<SessionId>, tokens: impl IntoIterator<Item = u8>, what: &str) {
    // A later attempt than any of those.
    f.wait(1);
    for view in f.store.sessions.views(sessions).await.unwrap() {
        assert!(view.is_none_or(|view| view.revoked), "{what}: {view:?}");
    }
    for token in tokens {
        let rotation = rotate(f, token, 255).await;
        assert!(matches!(rotation, Rotation::Invalid | Rotation::Deactivated), "{what}: {token}");
    }
}

async fn logins(f: &Fixture, member: MemberId, first: u8) -> Vec<NewSession> {
    let mut logins = Vec::new();
    for number in 0..AT_ONCE {
        logins.push(new(f, member, first + number).await);
    }
    logins
}

async fn nobody_stays_who_logs_in_or_refreshes_while_they_are_put_out(f: &Fixture) {
    let changes = [
        ("password", Change::Password { credentials: 0, hash: "another".to_owned(), keep: None }),
        ("deactivated", Change::Active(false)),
        ("suspended", suspended(f)),
        ("second factor removed", Change::ResetSecondFactor),
        ("erased", Change::Erase),
    ];
    for ((what, change), round) in changes.into_iter().zip(0..) {
        let member = f.member(what).await;
        let first = round * 4 * AT_ONCE;
        if matches!(change, Change::ResetSecondFactor) {
            let keep = KeptSession { id: f.ids.session(), token: token(f, 254) };
            f.change(member, Change::EnableSecondFactor { credentials: 0, factor: factor(f), keep }).await;
        }
        let mut sessions = Vec::new();
        for number in 0..AT_ONCE {
            sessions.push(session(f, member, first + number).await);
        }
        let logins = logins(f, member, first + AT_ONCE).await;
        sessions.extend(logins.iter().map(|login| login.id));
        let next = first + 2 * AT_ONCE;
        let refreshes = (0..AT_ONCE).map(|number| rotate_as(f, exchange(f, first + number, next + number)));
        let (refreshes, logins) = (
            futures_util::future::join_all(refreshes),
            futures_util::future::join_all(logins.into_iter().map(|login| f.store.sessions.start(login))),
        );
        let (_, started, _) = tokio::join!(refreshes, logins, f.change(member, change));
        assert!(started.iter().all(Result::is_ok), "{what}");
        nobody_stays(f, sessions, first..next + AT_ONCE, what).await;
    }
}

fn factor(f: &Fixture) -> StoredFactor {
    StoredFactor { secret: vec![1], enabled_at: f.now(), last_step: 1, recovery_codes: Vec::new() }
}

/// The session in which that is done goes on with a token of its own, whatever was exchanged meanwhile.
async fn nobody_stays_who_refreshes_while_a_second_factor_is_turned_on(f: &Fixture) {
    let ana = f.member("Ana").await;
    let mut sessions = Vec::new();
    for number in 0..AT_ONCE {
        sessions.push(session(f, ana, number).await);
    }
    let logins = logins(f, ana, AT_ONCE).await;
    let own = sessions.remove(0);
    sessions.extend(logins.iter().map(|login| login.id));
    let keep = KeptSession { id: own, token: token(f, 200) };
    let refreshes = (0..AT_ONCE).map(|number| rotate_as(f, exchange(f, number, 2 * AT_ONCE + number)));
    let refreshes = futures_util::future::join_all(refreshes);
    let logins = futures_util::future::join_all(logins.into_iter().map(|login| f.store.sessions.start(login)));
    let change = f.change(ana, Change::EnableSecondFactor { credentials: 0, factor: factor(f), keep });
    tokio::join!(refreshes, logins, change);
    nobody_stays(f, sessions, 0..3 * AT_ONCE, "second factor").await;
    let Rotation::Rotated(renewal) = rotate(f, 200, 201).await else { panic!("its own session goes on") };
    assert_eq!((renewal.session, renewal.successor), (own, hash(201)));
}
