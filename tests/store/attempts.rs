//! Exchanges of refresh tokens that have a name: what is repeated is told from what a thief does with a copied token.

use members_book::store::{
    sessions::{Exchange, Rotation, TokenOwner},
    turns::Caller,
};

use super::{
    fixture::Fixture,
    for_every_store,
    sessions::{exchange, hash, renewal, revoked, rotate, rotate_as, session},
};

for_every_store![
    a_clock_that_was_put_back_makes_no_spent_token_good,
    an_exchange_by_two_attempts_gives_a_thief_away,
    an_exchange_that_arrives_late_gives_nobody_away,
    of_exchanges_by_two_attempts_at_the_same_moment_one_is_a_thief,
    what_was_exchanged_without_an_attempt_is_not_given_by_one,
];

/// An exchange by an attempt.
async fn rotate_by(f: &Fixture, used: u8, next: u8, attempt: u8) -> Rotation {
    rotate_as(f, Exchange { attempt: Some([attempt; 32]), ..exchange(f, used, next) }).await
}

/// Found by an attacker: who had copied a token exchanged it as well, kept the answer until the member had used theirs, and held every
/// token that followed.
async fn an_exchange_by_two_attempts_gives_a_thief_away(f: &Fixture) {
    let ana = f.member("Ana").await;
    let id = session(f, ana, 1).await;
    for (used, attempt) in [(1, 7), (2, 8), (3, 9)] {
        let first = renewal(rotate_by(f, used, used + 1, attempt).await);
        f.wait(1);
        let again = renewal(rotate_by(f, used, used + 1, attempt).await);
        assert_eq!(
            (again.successor, again.generation, first.again, again.again),
            (hash(used + 1), first.generation, false, true)
        );
        assert_eq!(again.expires_at, first.expires_at);
    }
    let by_another = Exchange { attempt: Some([8; 32]), ..exchange(f, 3, 4) };
    let owner = f.store.sessions.owner(Caller::System, by_another.clone()).await.unwrap();
    assert_eq!(owner, Some(TokenOwner { member: ana, spent: true }));
    for _ in 0..2 {
        // Repeated, because its answer was late.
        let reused = f.store.sessions.rotate(ana, by_another.clone()).await.unwrap();
        assert!(matches!(reused, Rotation::Reused { session, member } if session == id && member == ana));
    }
    assert!(revoked(f, id).await);
    assert!(matches!(rotate_by(f, 3, 4, 9).await, Rotation::Invalid));
    assert!(matches!(rotate_by(f, 4, 5, 1).await, Rotation::Invalid), "the newest token went with its family");
}

/// Found by faults: an exchange whose answer was lost was repeated, and what it gave was used. Then the first request arrived, from a node
/// that had stood still, and ended the session as a thief's.
async fn an_exchange_that_arrives_late_gives_nobody_away(f: &Fixture) {
    let ana = f.member("Ana").await;
    let id = session(f, ana, 1).await;
    let late = |used, attempt| Exchange { attempt: Some([attempt; 32]), ..exchange(f, used, used + 1) };
    for (used, attempt, generation) in [(1, 7, 1), (2, 8, 2)] {
        renewal(rotate_by(f, used, used + 1, attempt).await);
        assert!(renewal(rotate_by(f, used, used + 1, attempt).await).again);
        f.store.sessions.confirm(ana, id, generation, f.now()).await.unwrap();
        f.wait(60);
        // Of the newest token, and of the one before that.
        for (used, attempt) in [(1, 7), (used, attempt)] {
            let owner = f.store.sessions.owner(Caller::System, late(used, attempt)).await.unwrap();
            assert_eq!(owner, None, "it is of no use to anybody");
            let rotated = f.store.sessions.rotate(ana, late(used, attempt)).await.unwrap();
            assert!(matches!(rotated, Rotation::Invalid));
        }
        assert!(!revoked(f, id).await);
    }
    // The successor's attempt is another one, and so is a thief's.
    for attempt in [8, 9] {
        let owner = f.store.sessions.owner(Caller::System, late(1, attempt)).await.unwrap();
        assert_eq!(owner, Some(TokenOwner { member: ana, spent: true }));
    }
    assert!(matches!(rotate_by(f, 1, 2, 9).await, Rotation::Reused { session, .. } if session == id));
    assert!(revoked(f, id).await);
}

/// Found by faults: to compare two times, of two nodes or of a clock that was put back, made a spent token good again.
async fn a_clock_that_was_put_back_makes_no_spent_token_good(f: &Fixture) {
    let ana = f.member("Ana").await;
    let id = session(f, ana, 1).await;
    renewal(rotate(f, 1, 2).await);
    let asked = exchange(f, 1, 2);
    f.wait(30);
    f.store.sessions.confirm(ana, id, 1, f.now()).await.unwrap();
    assert!(renewal(rotate_as(f, asked.clone()).await).again, "it was on its way");
    let before = Exchange { at: asked.at.before(std::time::Duration::from_millis(1)), ..asked };
    assert!(matches!(rotate_as(f, before).await, Rotation::Reused { session, .. } if session == id));
}

async fn of_exchanges_by_two_attempts_at_the_same_moment_one_is_a_thief(f: &Fixture) {
    for round in 0..5_u8 {
        let ana = f.member(&format!("Ana {round}")).await;
        let (used, next) = (10 * round + 1, 10 * round + 2);
        let id = session(f, ana, used).await;
        let both = [7, 8].map(|attempt| Exchange { attempt: Some([attempt; 32]), ..exchange(f, used, next) });
        let both = both.map(|exchange| f.store.sessions.rotate(ana, exchange));
        let both = futures_util::future::join_all(both).await;
        let is = |wanted: fn(&Rotation) -> bool| both.iter().filter(|each| wanted(each.as_ref().unwrap())).count();
        assert_eq!(is(|each| matches!(each, Rotation::Rotated(_))), 1);
        assert_eq!(is(|each| matches!(each, Rotation::Reused { .. })), 1);
        assert!(revoked(f, id).await);
    }
}

async fn what_was_exchanged_without_an_attempt_is_not_given_by_one(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let (of_ana, of_ben) = (session(f, ana, 1).await, session(f, ben, 11).await);
    // An app that is brought up to date begins to name its exchanges, whatever made the token that it has.
    rotate(f, 1, 2).await;
    assert!(!renewal(rotate_by(f, 2, 3, 7).await).again);
    assert!(!renewal(rotate(f, 3, 4).await).again);
    assert!(matches!(rotate_by(f, 3, 4, 7).await, Rotation::Reused { session, .. } if session == of_ana));
    rotate_by(f, 11, 12, 7).await;
    assert!(matches!(rotate(f, 11, 12).await, Rotation::Reused { session, .. } if session == of_ben));
}
