//! Members.

use members_book::{
    service::views,
    store::{
        changes::{Actor, Change, Changed},
        mail::{AskedFrom, NewLink, Purpose, TokenId},
        members::{EmailTaken, LastSeen, MemberCounts, NewMember, NotFirst},
        second_factor::StoredFactor,
        turns::Caller,
    },
};
use protocol::{
    MemberId, Timestamp,
    model::{Tier, UserType},
    rest::{Audience, AuditAction, ContactInfoPatch, MemberPatch, VisibilityPatch},
};
use tokio_util::sync::CancellationToken;

use super::{fixture::Fixture, for_every_store};

for_every_store![
    a_member_is_found_by_id_and_by_address_in_any_case,
    an_address_is_taken_once_whatever_its_case,
    a_hash_is_replaced_if_it_is_still_the_one,
    the_highest_cost_is_of_the_hashes_that_are_there,
    it_is_counted_how_often_credentials_are_replaced,
    a_patch_changes_what_it_names,
    last_seen_only_moves_forward,
    who_may_see_a_presence_is_kept,
    deactivating_is_kept,
    a_change_for_an_older_version_is_refused,
    a_change_that_was_given_up_is_not_made,
    who_has_left_is_only_a_name,
    the_last_administrator_stays,
    the_first_administrator_is_one,
];

async fn a_member_is_found_by_id_and_by_address_in_any_case(f: &Fixture) {
    let stored = f.member_with_email("Zoë", " Zoë.Ångström@Example.COM ").await;
    let by_id = f.store.members.by_id(Caller::System, stored.profile.id).await.unwrap().unwrap();
    let by_email = f.store.members.by_email(Caller::System, "ZOË.ångström@example.com").await.unwrap().unwrap();
    assert_eq!(by_id.profile, stored.profile);
    assert_eq!(by_email.profile, stored.profile);
    assert_eq!(by_id.password_hash, "hash of Zoë");
    assert_eq!((by_id.profile.tier, by_id.profile.user_type), (Tier::Disruption, UserType::Member));
    assert!(by_id.profile.is_active);
    assert!(f.store.members.by_id(Caller::System, f.ids.member()).await.unwrap().is_none());
    assert!(f.store.members.by_email(Caller::System, "nobody@example.com").await.unwrap().is_none());
}

async fn an_address_is_taken_once_whatever_its_case(f: &Fixture) {
    f.member_with_email("Ana", "ana@example.com").await;
    let again = f.store.members.insert(f.new_member("Other Ana", "ANA@example.com"), None).await.unwrap();
    assert_eq!(again.err(), Some(EmailTaken));
    // Two at the same moment: one of them gets it.
    let (one, other) = tokio::join!(
        f.store.members.insert(f.new_member("Ben", "ben@example.com"), None),
        f.store.members.insert(f.new_member("Ben", "Ben@example.com"), None),
    );
    assert!(one.unwrap().is_ok() != other.unwrap().is_ok());
}

/// By the count it is known which proofs of devices are from before.
#[expect(clippy::cognitive_complexity, reason = "what is counted, one after the other")]
async fn it_is_counted_how_often_credentials_are_replaced(f: &Fixture) {
    let ana = f.member("Ana").await;
    let stored = async || f.store.members.by_id(Caller::System, ana).await.unwrap().unwrap();
    let password = || Change::Password { credentials: 0, hash: "second".to_owned(), keep: None };
    f.change(ana, password()).await;
    // An attempt that is repeated, as its outcome was not known.
    f.change(ana, password()).await;
    assert_eq!((stored().await.credentials, stored().await.version), (1, 1));
    assert!(f.store.members.replace_hash(ana, "second".to_owned(), "at another cost".to_owned()).await.unwrap());
    f.change(ana, Change::Tier(Tier::Socio)).await;
    let reset = NewLink {
        member: ana,
        purpose: Purpose::ResetPassword,
        token: TokenId([1; 16]),
        hash: [1; 32],
        asked: AskedFrom(1),
        email: None,
        at: f.now(),
    };
    assert_eq!(stored().await.credentials, 1);
    assert!(f.store.mail.issue(Caller::System, reset).await.unwrap());
    f.change(ana, Change::ResetPassword { link: [1; 32], hash: "third".to_owned(), by_mail: true }).await;
    assert_eq!(stored().await.credentials, 2);
    // Whoever knew the password alone may have a proof of a device when a factor is turned on; and one that is reset may have been somebody's.
    f.change(ana, Change::ResetSecondFactor).await;
    assert_eq!(stored().await.credentials, 2, "there was none");
    let factor = StoredFactor { secret: vec![1], enabled_at: f.now(), last_step: 1, recovery_codes: Vec::new() };
    let enable =
        || Change::EnableSecondFactor { credentials: 2, factor: factor.clone(), keep: f.keep(f.ids.session()) };
    f.change(ana, enable()).await;
    f.change(ana, enable()).await;
    assert_eq!(stored().await.credentials, 3, "repeated");
    f.change(ana, Change::ResetSecondFactor).await;
    assert_eq!(stored().await.credentials, 4);
}

#[expect(clippy::cognitive_complexity, reason = "one story, told in its order")]
async fn the_highest_cost_is_of_the_hashes_that_are_there(f: &Fixture) {
    let highest = async || f.store.members.highest_cost(Caller::System).await.unwrap();
    let stored = async |name: &str, password_hash: &str| {
        let new =
            NewMember { password_hash: password_hash.to_owned(), ..f.new_member(name, &format!("{name}@example.com")) };
        f.store.members.insert(new, None).await.unwrap().unwrap().profile.id
    };
    stored("Nobody", "").await;
    stored("Whoever", "hash of Whoever").await;
    // Dearer than any that the server makes, and what only begins like one: nobody waits for these.
    stored("Eve", "$2b$31$").await;
    stored("Eva", "$2b$9$").await;
    assert_eq!(highest().await, None);
    stored("Ana", "$2b$04$ana").await;
    assert_eq!(highest().await, Some(4));
    // Of an older version, from somewhere else.
    let ben = stored("Ben", "$2y$16$ben").await;
    let cara = stored("Cara", "$2b$12$cara").await;
    stored("Dan", "$2a$10$dan").await;
    assert_eq!(highest().await, Some(16));
    let costlier = async |than, most| f.store.members.count_costlier(than, most).await.unwrap();
    // That of Eve is of cost 31: no setting gives it, and it shows all the same.
    assert_eq!((costlier(16, 9).await, costlier(12, 9).await, costlier(10, 9).await), (1, 2, 3));
    assert_eq!((costlier(3, 9).await, costlier(3, 2).await), (5, 2), "counted up to so many");
    assert!(f.store.members.replace_hash(ben, "$2y$16$ben".to_owned(), "$2b$09$ben".to_owned()).await.unwrap());
    assert_eq!(highest().await, Some(12));
    f.change(cara, Change::Erase).await;
    assert_eq!(highest().await, Some(10));
}

async fn a_hash_is_replaced_if_it_is_still_the_one(f: &Fixture) {
    let id = f.member("Ana").await;
    let hash = async || f.store.members.by_id(Caller::System, id).await.unwrap().unwrap().password_hash;
    let replace =
        async |from: &str, to: &str| f.store.members.replace_hash(id, from.to_owned(), to.to_owned()).await.unwrap();
    let (before, version) = (hash().await, f.store.members.by_id(Caller::System, id).await.unwrap().unwrap().version);
    assert!(!replace("another", "new").await);
    assert_eq!(hash().await, before);
    assert!(replace(&before, "new").await);
    assert_eq!(
        (hash().await.as_str(), f.store.members.by_id(Caller::System, id).await.unwrap().unwrap().version),
        ("new", version)
    );
    f.change(id, Change::Erase).await;
    assert!(!replace("new", "newer").await, "who has left has no password");
}

fn profile(patch: MemberPatch) -> Change {
    Change::Profile { edit: views::edit(patch), expected: None }
}

async fn a_patch_changes_what_it_names(f: &Fixture) {
    let id = f.member("Ana").await;
    f.wait(10);
    let contact_info = ContactInfoPatch { phone: Some(Some("1".into())), ..Default::default() };
    let patch = MemberPatch { name: Some(" Ana Lima ".into()), contact_info: Some(contact_info), ..Default::default() };
    let changed = f.change(id, profile(patch.clone())).await;
    assert_eq!(changed.profile.name, "Ana Lima");
    assert_eq!(changed.profile.contact.phone.as_deref(), Some("1"));
    assert_eq!((changed.profile.updated_at, changed.version), (f.now(), 2));
    assert_eq!(f.store.members.by_id(Caller::System, id).await.unwrap().unwrap().profile, changed.profile);
    f.wait(10);
    let same = f.change(id, profile(patch)).await;
    assert_eq!((same.profile, same.version), (changed.profile, 2), "what changes nothing is not written");
    let removed = ContactInfoPatch { phone: Some(None), ..Default::default() };
    let patch = MemberPatch { contact_info: Some(removed), ..Default::default() };
    let changed = f.change(id, profile(patch)).await;
    assert_eq!(changed.profile.contact.phone, None);
    let nobody = f.ids.member();
    let nobody = f
        .store
        .members
        .change(nobody, Change::Active(true), Actor::default(), f.now(), CancellationToken::new())
        .await
        .unwrap();
    assert!(matches!(nobody, Changed::NotFound));
}

async fn a_change_that_was_given_up_is_not_made(f: &Fixture) {
    let id = f.member("Ana").await;
    let given_up = CancellationToken::new();
    given_up.cancel();
    let changed = f.store.members.change(id, Change::Active(false), Actor::default(), f.now(), given_up).await.unwrap();
    assert!(matches!(changed, Changed::GivenUp));
    assert!(f.store.members.by_id(Caller::System, id).await.unwrap().unwrap().profile.is_active);
}

async fn a_change_for_an_older_version_is_refused(f: &Fixture) {
    let id = f.member("Ana").await;
    let rename = |name: &str, expected| {
        let patch = MemberPatch { name: Some(name.to_owned()), ..Default::default() };
        let change = Change::Profile { edit: views::edit(patch), expected: Some(expected) };
        f.store.members.change(id, change, Actor::default(), f.now(), CancellationToken::new())
    };
    // Two at the same moment, made for the same version: one of them is refused.
    let (one, other) = tokio::join!(rename("One", 1), rename("Other", 1));
    let done = [one.unwrap(), other.unwrap()].iter().filter(|changed| matches!(changed, Changed::Done { .. })).count();
    assert_eq!(done, 1);
    assert!(matches!(rename("Late", 1).await.unwrap(), Changed::Stale));
    assert!(matches!(rename("In time", 2).await.unwrap(), Changed::Done { .. }));
}

async fn who_has_left_is_only_a_name(f: &Fixture) {
    let ana = f.member_with_email("Ana", "ana@example.com").await.profile.id;
    f.store.members.record_last_seen(vec![(ana, f.now())]).await.unwrap();
    let record = f.change(ana, Change::Erase).await;
    assert_eq!((record.profile.name.as_str(), record.profile.is_active), ("Former member", false));
    let stored = f.store.members.by_id(Caller::System, ana).await.unwrap().unwrap();
    assert!(stored.is_erased && stored.password_hash.is_empty());
    assert!(f.store.members.by_email(Caller::System, "ana@example.com").await.unwrap().is_none());
    // Whoever asks again, because the first answer was lost, is told what is true.
    assert!(f.change(ana, Change::Erase).await.is_erased);
    for change in [Change::Active(true), Change::Tier(Tier::Infinity)] {
        let changed =
            f.store.members.change(ana, change, Actor::default(), f.now(), CancellationToken::new()).await.unwrap();
        assert!(matches!(changed, Changed::NotFound));
    }
    assert_eq!(f.store.members.count(f.now()).await.unwrap(), MemberCounts { all: 1, active: 0, waiting: 0 });
    f.member_with_email("Another Ana", "ana@example.com").await;
}

async fn the_last_administrator_stays(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    f.change(ana, Change::Role(UserType::Admin)).await;
    let attempt = |id, change| f.store.members.change(id, change, Actor::default(), f.now(), CancellationToken::new());
    for change in [Change::Role(UserType::Member), Change::Active(false), Change::Erase] {
        assert!(matches!(attempt(ana, change).await.unwrap(), Changed::LastAdmin));
    }
    f.change(ben, Change::Role(UserType::Admin)).await;
    // Both at the same moment: one of them stays.
    let (one, other) =
        tokio::join!(attempt(ana, Change::Role(UserType::Member)), attempt(ben, Change::Role(UserType::Member)));
    let refused = [one.unwrap(), other.unwrap()].iter().filter(|changed| matches!(changed, Changed::LastAdmin)).count();
    assert_eq!(refused, 1);
}

async fn last_seen_only_moves_forward(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let seen = async |members: &[MemberId]| f.store.members.last_seen(Caller::System, members.to_vec()).await.unwrap();
    let (audience, version) = (Audience::Partners, 1);
    assert_eq!(seen(&[ana, f.ids.member()]).await, [LastSeen { member: ana, at: None, audience, version }]);
    let (early, late) = (Timestamp::from_millis(1_000), Timestamp::from_millis(2_000));
    f.store.members.record_last_seen(vec![(ana, late), (ben, early)]).await.unwrap();
    f.store.members.record_last_seen(vec![(ana, early)]).await.unwrap();
    let expected = |member, at| LastSeen { member, at: Some(at), audience, version };
    assert_eq!(seen(&[ana, ben]).await, [expected(ana, late), expected(ben, early)]);
}

async fn who_may_see_a_presence_is_kept(f: &Fixture) {
    let ana = f.member("Ana").await;
    for (number, audience) in [Audience::Nobody, Audience::Members, Audience::Partners].into_iter().enumerate() {
        let visibility = VisibilityPatch { presence: Some(audience), ..Default::default() };
        let patch = MemberPatch { visibility: Some(visibility), ..Default::default() };
        let changed = f.change(ana, profile(patch)).await;
        assert_eq!(changed.profile.visibility.presence, audience);
        assert_eq!(
            f.store.members.by_id(Caller::System, ana).await.unwrap().unwrap().profile.visibility.presence,
            audience
        );
        let version = 2 + u64::try_from(number).unwrap();
        let seen = f.store.members.last_seen(Caller::System, vec![ana]).await.unwrap();
        assert_eq!(seen, [LastSeen { member: ana, at: None, audience, version }]);
    }
}

async fn deactivating_is_kept(f: &Fixture) {
    let ana = f.member("Ana").await;
    assert!(!f.change(ana, Change::Active(false)).await.profile.is_active);
    assert!(f.store.members.last_seen(Caller::System, vec![ana]).await.unwrap().is_empty(), "one who may not be seen");
    assert!(f.change(ana, Change::Active(true)).await.profile.is_active);
}

async fn the_first_administrator_is_one(f: &Fixture) {
    f.member_with_email("Ana", "ana@example.com").await;
    assert!(!f.store.members.has_admin().await.unwrap());
    let admin = |email: &str| NewMember { user_type: UserType::Admin, ..f.new_member("Rita", email) };
    let first = async |member: NewMember| {
        let by = Actor::without_session(member.id, Some([192, 0, 2, 1].into()));
        f.store.members.insert_first_admin(member, by).await.unwrap()
    };
    assert_eq!(first(admin("ANA@example.com")).await.err(), Some(NotFirst::EmailTaken));
    assert!(!f.store.members.has_admin().await.unwrap());
    // Several at the same moment: one of them is it.
    let made =
        futures_util::future::join_all((0..4).map(|number| first(admin(&format!("{number}@example.com"))))).await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(refused.into_iter().map(Result::err).collect::<Vec<_>>(), [Some(NotFirst::HasAdmin); 3]);
    let made = made.into_iter().next().unwrap().unwrap().profile;
    assert_eq!((made.user_type, made.is_active), (UserType::Admin, true));
    assert!(f.store.members.has_admin().await.unwrap());
    let stored = f.store.members.by_id(Caller::System, made.id).await.unwrap().unwrap();
    assert_eq!(stored.profile, made);
    let entries = f.store.audit.entries(None, 10).await.unwrap();
    let [(_, entry)] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((entry.action, entry.actor, entry.target), (AuditAction::AdminCreated, Some(made.id), Some(made.id)));
    assert_eq!(f.store.members.count(f.now()).await.unwrap(), MemberCounts { all: 2, active: 2, waiting: 0 });
}
