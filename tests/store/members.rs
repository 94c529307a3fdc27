//! Members.

use members_book::store::members::{EmailTaken, LastSeen};
use protocol::{
    MemberId, Timestamp,
    model::{Tier, UserType},
    rest::{ContactInfoPatch, MemberPatch},
};

use super::{fixture::Fixture, for_every_store};

for_every_store![
    a_member_is_found_by_id_and_by_address_in_any_case,
    an_address_is_taken_once_whatever_its_case,
    a_patch_changes_what_it_names,
    last_seen_only_moves_forward,
    deactivating_is_kept,
];

async fn a_member_is_found_by_id_and_by_address_in_any_case(f: &Fixture) {
    let stored = f.member_with_email("Zoë", " Zoë.Ångström@Example.COM ").await;
    let by_id = f.store.members.by_id(stored.profile.id).await.unwrap().unwrap();
    let by_email = f.store.members.by_email("ZOË.ångström@example.com").await.unwrap().unwrap();
    assert_eq!(by_id.profile, stored.profile);
    assert_eq!(by_email.profile, stored.profile);
    assert_eq!(by_id.password_hash, "hash of Zoë");
    assert_eq!((by_id.profile.tier, by_id.profile.user_type), (Tier::Disruption, UserType::Member));
    assert!(by_id.profile.is_active);
    assert!(f.store.members.by_id(f.ids.member()).await.unwrap().is_none());
    assert!(f.store.members.by_email("nobody@example.com").await.unwrap().is_none());
}

async fn an_address_is_taken_once_whatever_its_case(f: &Fixture) {
    f.member_with_email("Ana", "ana@example.com").await;
    let again = f.store.members.insert(f.new_member("Other Ana", "ANA@example.com")).await.unwrap();
    assert_eq!(again.err(), Some(EmailTaken));
    // Two at the same moment: one of them gets it.
    let (one, other) = tokio::join!(
        f.store.members.insert(f.new_member("Ben", "ben@example.com")),
        f.store.members.insert(f.new_member("Ben", "Ben@example.com")),
    );
    assert!(one.unwrap().is_ok() != other.unwrap().is_ok());
}

async fn a_patch_changes_what_it_names(f: &Fixture) {
    let id = f.member("Ana").await;
    f.wait(10);
    let contact_info = ContactInfoPatch { phone: Some(Some("1".into())), ..Default::default() };
    let patch = MemberPatch { name: Some(" Ana Lima ".into()), contact_info: Some(contact_info), ..Default::default() };
    let changed = f.store.members.update(id, patch.clone(), f.now()).await.unwrap().unwrap().profile;
    assert_eq!((changed.name.as_str(), changed.contact_info.phone.as_deref()), ("Ana Lima", Some("1")));
    assert_eq!(changed.updated_at, f.now());
    assert_eq!(f.store.members.by_id(id).await.unwrap().unwrap().profile, changed);
    f.wait(10);
    let same = f.store.members.update(id, patch, f.now()).await.unwrap().unwrap().profile;
    assert_eq!(same, changed, "a patch that changes nothing does not touch updated_at");
    let removed = ContactInfoPatch { phone: Some(None), ..Default::default() };
    let patch = MemberPatch { contact_info: Some(removed), ..Default::default() };
    let changed = f.store.members.update(id, patch, f.now()).await.unwrap().unwrap().profile;
    assert_eq!(changed.contact_info.phone, None);
    let nobody = f.store.members.update(f.ids.member(), MemberPatch::default(), f.now()).await.unwrap();
    assert!(nobody.is_none());
}

async fn last_seen_only_moves_forward(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let seen = async |members: &[MemberId]| f.store.members.last_seen(members.to_vec()).await.unwrap();
    assert_eq!(seen(&[ana, f.ids.member()]).await, [LastSeen { member: ana, at: None }]);
    let (early, late) = (Timestamp::from_millis(1_000), Timestamp::from_millis(2_000));
    f.store.members.record_last_seen(vec![(ana, late), (ben, early)]).await.unwrap();
    f.store.members.record_last_seen(vec![(ana, early)]).await.unwrap();
    let expected = [LastSeen { member: ana, at: Some(late) }, LastSeen { member: ben, at: Some(early) }];
    assert_eq!(seen(&[ana, ben]).await, expected);
}

async fn deactivating_is_kept(f: &Fixture) {
    let ana = f.member("Ana").await;
    let record = f.store.members.set_active(ana, false, f.now()).await.unwrap().unwrap();
    assert!(!record.profile.is_active);
    assert!(f.store.members.last_seen(vec![ana]).await.unwrap().is_empty(), "one who may not be seen");
    let record = f.store.members.set_active(ana, true, f.now()).await.unwrap().unwrap();
    assert!(record.profile.is_active);
    assert!(f.store.members.set_active(f.ids.member(), false, f.now()).await.unwrap().is_none());
}
