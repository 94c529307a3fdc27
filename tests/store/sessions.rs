//! Sessions and refresh tokens.

use std::time::Duration;

use members_book::store::{
    archive::Part,
    changes::Change,
    sessions::{
        NewToken, Rotation, SESSIONS_OF_MEMBER, SessionView, TokenHash, TokenOwner, USED_TOKENS_OF_SESSION, VIEWS_MAX,
    },
    turns::Caller,
};
use protocol::{MemberId, SessionId, Timestamp, model::UserType};

use super::{fixture::Fixture, for_every_store};

for_every_store![
    a_session_is_seen_until_it_is_revoked,
    many_sessions_are_seen_at_once,
    a_refresh_token_is_used_once_and_gives_a_thief_away,
    a_use_of_a_token_can_be_repeated_until_its_answer_comes,
    two_uses_at_the_same_moment_are_a_reuse,
    expired_and_unknown_tokens_are_invalid,
    deactivating_a_member_ends_their_sessions,
    only_the_sessions_that_are_meant_are_revoked,
    a_login_that_a_deactivation_overtook_starts_no_session,
    a_token_has_an_owner,
    the_session_of_a_login_is_kept_however_the_clock_goes,
    expired_tokens_and_their_sessions_are_removed,
    so_many_used_tokens_are_kept,
    so_many_sessions_are_kept,
];

const LIFETIME: Duration = Duration::from_secs(3600);

fn token(f: &Fixture, name: u8) -> NewToken {
    NewToken { hash: hash(name), expires_at: f.now().after(LIFETIME) }
}

fn hash(name: u8) -> TokenHash {
    [name; 32]
}

async fn session(f: &Fixture, member: MemberId, first_token: u8) -> SessionId {
    let id = f.ids.session();
    assert!(f.store.sessions.start(id, member, token(f, first_token), f.now()).await.unwrap().is_some());
    id
}

async fn rotate(f: &Fixture, used: u8, next: u8) -> Rotation {
    let owner = f.store.sessions.owner(Caller::System, hash(used), f.now()).await.unwrap();
    // Of one that is unknown it is nobody's.
    let member = owner.map_or(MemberId::from_bytes([0; 12]), |owner| owner.member);
    f.store.sessions.rotate(member, hash(used), token(f, next), f.now()).await.unwrap()
}

async fn revoke(f: &Fixture, member: MemberId, session: SessionId) {
    f.store.sessions.revoke_many(member, vec![session], f.now()).await.unwrap();
}

async fn revoked(f: &Fixture, session: SessionId) -> bool {
    f.store.sessions.view(session).await.unwrap().unwrap().revoked
}

async fn a_session_is_seen_until_it_is_revoked(f: &Fixture) {
    let ana = f.member("Ana").await;
    f.wait(5);
    let id = session(f, ana, 1).await;
    let view = SessionView {
        member: ana,
        user_type: UserType::Member,
        is_active: true,
        suspended_until: None,
        revoked: false,
    };
    assert_eq!(f.store.sessions.view(id).await.unwrap(), Some(view));
    let login = f.store.members.by_id(Caller::System, ana).await.unwrap().unwrap().profile.last_login;
    assert_eq!(login, Some(f.now()));
    revoke(f, ana, id).await;
    assert!(revoked(f, id).await);
    let at = f.store.sessions.of_member(ana).await.unwrap()[0].revoked_at;
    f.wait(5);
    revoke(f, ana, id).await;
    assert_eq!(f.store.sessions.of_member(ana).await.unwrap()[0].revoked_at, at, "it was revoked already");
    assert_eq!(f.store.sessions.view(f.ids.session()).await.unwrap(), None);
    assert!(matches!(rotate(f, 1, 2).await, Rotation::Invalid), "a revoked session gets no new tokens");
}

async fn a_refresh_token_is_used_once_and_gives_a_thief_away(f: &Fixture) {
    let ana = f.member("Ana").await;
    let id = session(f, ana, 1).await;
    assert!(matches!(rotate(f, 1, 2).await, Rotation::Rotated { session, .. } if session == id));
    assert!(matches!(rotate(f, 2, 3).await, Rotation::Rotated { session, .. } if session == id));
    assert!(!revoked(f, id).await);
    assert!(matches!(rotate(f, 1, 4).await, Rotation::Reused { session, member } if session == id && member == ana));
    assert!(revoked(f, id).await);
    assert!(matches!(rotate(f, 3, 5).await, Rotation::Invalid), "the newest token went with its family");
}

async fn a_use_of_a_token_can_be_repeated_until_its_answer_comes(f: &Fixture) {
    let ana = f.member("Ana").await;
    let id = session(f, ana, 1).await;
    for _ in 0..2 {
        assert!(matches!(rotate(f, 1, 2).await, Rotation::Rotated { session, .. } if session == id));
    }
    assert!(!revoked(f, id).await);
    for _ in 0..2 {
        assert!(matches!(rotate(f, 1, 4).await, Rotation::Reused { session, .. } if session == id));
    }
    f.wait(1);
    assert!(matches!(rotate(f, 1, 5).await, Rotation::Invalid), "somebody else comes too late");
}

async fn two_uses_at_the_same_moment_are_a_reuse(f: &Fixture) {
    let ana = f.member("Ana").await;
    let id = session(f, ana, 1).await;
    let (one, other) = tokio::join!(rotate(f, 1, 2), rotate(f, 1, 3));
    let rotated = [&one, &other].iter().filter(|rotation| matches!(rotation, Rotation::Rotated { .. })).count();
    assert_eq!(rotated, 1);
    assert!(revoked(f, id).await);
}

async fn expired_and_unknown_tokens_are_invalid(f: &Fixture) {
    let ana = f.member("Ana").await;
    let id = session(f, ana, 1).await;
    assert!(matches!(rotate(f, 9, 2).await, Rotation::Invalid));
    f.wait(LIFETIME.as_secs());
    assert!(matches!(rotate(f, 1, 2).await, Rotation::Invalid));
    assert!(!revoked(f, id).await, "an expired token is no sign of a thief");
}

async fn deactivating_a_member_ends_their_sessions(f: &Fixture) {
    let ana = f.member("Ana").await;
    let id = session(f, ana, 1).await;
    f.change(ana, Change::Active(false)).await;
    let view = f.store.sessions.view(id).await.unwrap().unwrap();
    assert!(view.revoked && !view.is_active);
    f.change(ana, Change::Active(true)).await;
    assert!(matches!(rotate(f, 1, 2).await, Rotation::Invalid), "a session stays revoked");
}

async fn many_sessions_are_seen_at_once(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    let (good, revoked) = (session(f, ana, 1).await, session(f, ana, 2).await);
    let (inactive, erased) = (session(f, ben, 3).await, session(f, eva, 4).await);
    revoke(f, ana, revoked).await;
    f.change(ben, Change::Active(false)).await;
    f.change(eva, Change::Erase).await;
    // In the order in which they are asked for, twice if asked for twice, and as each of them is seen alone.
    let asked = vec![erased, good, f.ids.session(), revoked, inactive, good];
    let seen = f.store.sessions.views(asked.clone()).await.unwrap();
    let mut alone = Vec::new();
    for session in asked {
        alone.push(f.store.sessions.view(session).await.unwrap());
    }
    assert_eq!(seen, alone);
    let state = |view: &Option<SessionView>| view.map(|view| (view.member, view.is_active, view.revoked));
    let states: Vec<_> = seen.iter().map(state).collect();
    assert_eq!(states[1..5], [Some((ana, true, false)), None, Some((ana, true, true)), Some((ben, false, true))]);
    assert!(states[0].is_none_or(|(_, is_active, _)| !is_active));
    assert_eq!(f.store.sessions.views(Vec::new()).await.unwrap(), []);
    // As many as can be asked for.
    let unknown: Vec<SessionId> = (0..VIEWS_MAX).map(|_| f.ids.session()).collect();
    assert_eq!(f.store.sessions.views(unknown).await.unwrap(), vec![None; VIEWS_MAX]);
}

async fn only_the_sessions_that_are_meant_are_revoked(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let (one, two, others) = (session(f, ana, 1).await, session(f, ana, 2).await, session(f, ben, 3).await);
    let later = session(f, ana, 4).await;
    f.store.sessions.revoke_many(ana, vec![one, two], f.now()).await.unwrap();
    assert!(revoked(f, one).await && revoked(f, two).await && !revoked(f, others).await && !revoked(f, later).await);
}

/// Found by an attacker: the session was good once the member was active again, and that of somebody erased stayed.
async fn a_login_that_a_deactivation_overtook_starts_no_session(f: &Fixture) {
    for (name, change) in [("Ana", Change::Active(false)), ("Ben", Change::Erase)] {
        let ana = f.member(name).await;
        f.change(ana, change).await;
        let id = f.ids.session();
        assert_eq!(f.store.sessions.start(id, ana, token(f, 1), f.now()).await.unwrap(), None);
        assert_eq!(f.store.sessions.view(id).await.unwrap(), None);
    }
    assert_eq!(f.store.archive.count(Part::RefreshTokens).await.unwrap(), 0);
}

async fn a_token_has_an_owner(f: &Fixture) {
    let ana = f.member("Ana").await;
    let id = session(f, ana, 1).await;
    rotate(f, 1, 2).await;
    let owner = async |name| f.store.sessions.owner(Caller::System, hash(name), f.now()).await.unwrap();
    assert_eq!(owner(1).await, Some(TokenOwner { member: ana, used: true }));
    assert_eq!(owner(2).await, Some(TokenOwner { member: ana, used: false }));
    assert_eq!(owner(3).await, None);
    revoke(f, ana, id).await;
    assert_eq!((owner(1).await, owner(2).await), (None, None), "whoever has it spends nothing of its member's");
    session(f, ana, 4).await;
    f.wait(LIFETIME.as_secs());
    assert_eq!(owner(4).await, None);
}

async fn the_session_of_a_login_is_kept_however_the_clock_goes(f: &Fixture) {
    let ana = f.member("Ana").await;
    for name in 0..u8::try_from(SESSIONS_OF_MEMBER).unwrap() {
        session(f, ana, name).await;
    }
    f.clock.set(f.now().after(Duration::from_secs(3600)));
    session(f, ana, 200).await;
    f.clock.set(Timestamp::from_millis(f.now().as_millis() - 7_200_000));
    let id = session(f, ana, 201).await;
    assert!(!revoked(f, id).await, "ids grow with time, and this one is smaller");
}

async fn expired_tokens_and_their_sessions_are_removed(f: &Fixture) {
    let ana = f.member("Ana").await;
    let old = session(f, ana, 1).await;
    f.wait(LIFETIME.as_secs() + 1);
    let fresh = session(f, ana, 2).await;
    assert_eq!(f.store.sessions.purge(f.now()).await.unwrap(), 1);
    assert_eq!(f.store.sessions.view(old).await.unwrap(), None);
    assert!(f.store.sessions.view(fresh).await.unwrap().is_some());
    assert_eq!(f.store.sessions.purge(f.now()).await.unwrap(), 0);
}

async fn so_many_used_tokens_are_kept(f: &Fixture) {
    let ana = f.member("Ana").await;
    let id = session(f, ana, 1).await;
    let kept = u8::try_from(USED_TOKENS_OF_SESSION).unwrap();
    for used in 1..=kept + 10 {
        f.wait(1);
        assert!(matches!(rotate(f, used, used + 1).await, Rotation::Rotated { .. }));
    }
    let stored = f.store.archive.count(Part::RefreshTokens).await.unwrap();
    assert_eq!(stored, u64::from(kept) + 1, "those that are kept, and the one that is good");
    assert!(matches!(rotate(f, 10, 200).await, Rotation::Invalid), "too long ago to tell");
    assert!(!revoked(f, id).await);
    assert!(matches!(rotate(f, 11, 200).await, Rotation::Reused { .. }), "the oldest that is kept");
    assert!(revoked(f, id).await);
}

/// Found by an attacker: 40,000 logins of one account made every refresh of its tokens hold the writer for 28 ms.
async fn so_many_sessions_are_kept(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let start = async |member, name: u8| {
        let id = f.ids.session();
        (id, f.store.sessions.start(id, member, token(f, name), f.now()).await.unwrap().unwrap())
    };
    let (of_ben, _) = start(ben, 0).await;
    let kept = u8::try_from(SESSIONS_OF_MEMBER).unwrap();
    let mut sessions = Vec::new();
    for name in 1..=kept {
        f.wait(1);
        let (id, ended) = start(ana, name).await;
        assert_eq!(ended, []);
        sessions.push(id);
    }
    revoke(f, ana, sessions[50]).await;
    assert_eq!(start(ana, kept + 1).await.1, [], "the revoked one went first");
    assert_eq!(start(ana, kept + 2).await.1, [sessions[0]], "then the oldest");
    for gone in [sessions[50], sessions[0]] {
        assert_eq!(f.store.sessions.view(gone).await.unwrap(), None);
    }
    assert_eq!(f.store.sessions.of_member(ana).await.unwrap().len(), SESSIONS_OF_MEMBER);
    let tokens = f.store.archive.count(Part::RefreshTokens).await.unwrap();
    assert_eq!(tokens, SESSIONS_OF_MEMBER as u64 + 1, "theirs went with them");
    assert!(!revoked(f, of_ben).await);
}
