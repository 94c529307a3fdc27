//! Addresses that nobody registers with.

use std::{net::IpAddr, time::Duration};

use members_book::store::{
    addresses::Allowed,
    archive::{Part, Row},
    changes::{Actor, Change},
    invitations::{Created, InvitationRecord, NewInvitation},
    mail::{AskedFrom, NewLink, Purpose, TokenId},
    members::{MemberRecord, NotRegistered, Registration, UNVERIFIED_MAX, Way},
    turns::Caller,
};
use protocol::{MemberId, model::Tier, rest::AuditAction};

use super::{fixture::Fixture, for_every_store};

for_every_store![
    who_had_verified_the_address_and_has_left_does_not_register_again,
    who_had_not_verified_it_may,
    an_administrator_lets_them,
    many_who_leave_at_the_same_moment_all_stay_out,
    no_use_of_an_invitation_comes_back,
];

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

async fn register(f: &Fixture, name: &str, email: &str, way: Way) -> Result<MemberRecord, NotRegistered> {
    let new = Registration {
        member: f.new_member(name, email),
        way,
        from: FROM,
        link: None,
        most_unverified: UNVERIFIED_MAX,
    };
    f.store.members.register(new).await.unwrap()
}

/// Shows that the address of a member is theirs.
pub(super) async fn verify(f: &Fixture, member: MemberId, byte: u8) {
    let (purpose, token, hash, at) = (Purpose::VerifyEmail, TokenId([byte; 16]), [byte; 32], f.now());
    assert!(
        f.store
            .mail
            .issue(Caller::System, NewLink { member, purpose, token, hash, asked: AskedFrom(1), email: None, at })
            .await
            .unwrap()
    );
    f.change(member, Change::VerifyEmail { link: hash }).await;
}

/// A member with a verified address, who has left.
async fn former(f: &Fixture, email: &str, byte: u8) -> MemberId {
    let member = f.member_with_email("Ana", email).await.profile.id;
    verify(f, member, byte).await;
    f.change(member, Change::Erase).await;
    member
}

/// Makes an invitation of somebody.
async fn invite(f: &Fixture, maker: MemberId, uses: u32) -> InvitationRecord {
    let record = InvitationRecord {
        id: f.ids.invitation(),
        code: f.ids.secret(),
        tier: Tier::Disruption,
        uses,
        used: 0,
        created_by: maker,
        created_at: f.now(),
        expires_at: f.now().after(Duration::from_secs(3_600)),
        revoked_at: None,
        note: None,
    };
    let by = Actor::without_session(maker, Some(FROM));
    let new = NewInvitation { record: record.clone(), most_open: 10, most_made: 100, needs_admin: false, by };
    assert_eq!(f.store.invitations.create(new).await.unwrap(), Created::Done);
    record
}

async fn used(f: &Fixture, invitation: &InvitationRecord) -> u32 {
    f.store.invitations.by_id(Caller::System, invitation.id).await.unwrap().unwrap().used
}

async fn who_had_verified_the_address_and_has_left_does_not_register_again(f: &Fixture) {
    let maker = f.member("Maker").await;
    let invitation = invite(f, maker, 2).await;
    former(f, "Ana@Example.com", 1).await;
    for way in [Way::Free, Way::Invitation(invitation.id), Way::Application { most: 5 }] {
        for email in ["Ana@Example.com", "ana@example.com"] {
            let refused = register(f, "Ana", email, way).await.err();
            assert_eq!(refused, Some(NotRegistered::EmailTaken), "{way:?} {email}");
        }
        assert!(register(f, "Ben", &format!("ben{}@example.com", way.name()), way).await.is_ok(), "{way:?}");
    }
    assert_eq!(used(f, &invitation).await, 1, "what was refused took none");
    assert!(f.store.members.by_email(Caller::System, "ana@example.com").await.unwrap().is_none());
    // Nothing but a hash is kept, and nobody finds it without the key.
    let rows = f.store.archive.rows(Part::BarredAddresses, None, 10).await.unwrap();
    assert!(matches!(&rows[..], [Row::BarredAddress(hash)] if *hash != [0; 32]));
    // An operator may make whom they want.
    assert!(f.store.members.insert(f.new_member("Ana", "ana@example.com"), None).await.unwrap().is_ok());
}

async fn who_had_not_verified_it_may(f: &Fixture) {
    let ana = f.member_with_email("Ana", "ana@example.com").await.profile.id;
    f.change(ana, Change::Active(false)).await;
    assert_eq!(register(f, "Ana", "ANA@example.com", Way::Free).await.err(), Some(NotRegistered::EmailTaken));
    f.change(ana, Change::Erase).await;
    assert!(register(f, "Ana", "ana@example.com", Way::Free).await.is_ok());
    assert_eq!(f.store.archive.count(Part::BarredAddresses).await.unwrap(), 0);
}

async fn an_administrator_lets_them(f: &Fixture) {
    let root = f.member("Root").await;
    let by = Actor::without_session(root, Some(FROM));
    let allow = async |email| f.store.members.allow_address(email, by, f.now()).await.unwrap();
    assert_eq!(allow("ana@example.com").await, Allowed::NotBarred, "there is not even a key");
    former(f, "ana@example.com", 1).await;
    former(f, "ben@example.com", 2).await;
    assert_eq!(allow(" ANA@example.com").await, Allowed::Done);
    assert_eq!(allow("ana@example.com").await, Allowed::NotBarred, "once");
    assert!(register(f, "Ana", "ana@example.com", Way::Free).await.is_ok());
    assert_eq!(register(f, "Ben", "ben@example.com", Way::Free).await.err(), Some(NotRegistered::EmailTaken));
    let entries = f.store.audit.entries(None, 10).await.unwrap();
    let allowed: Vec<_> = entries.iter().filter(|(_, entry)| entry.action == AuditAction::AddressAllowed).collect();
    let [(_, entry)] = &allowed[..] else { panic!("{allowed:?}") };
    assert_eq!((entry.actor, entry.target, entry.address), (Some(root), Some(root), Some(FROM)));
    assert_eq!(entry.details, serde_json::json!({}), "the log outlives whoever has the address");
}

async fn many_who_leave_at_the_same_moment_all_stay_out(f: &Fixture) {
    let emails: Vec<String> = (0..6).map(|number| format!("m{number}@example.com")).collect();
    let mut members = Vec::new();
    for (byte, email) in (1..).zip(&emails) {
        let member = f.member_with_email("Ana", email).await.profile.id;
        verify(f, member, byte).await;
        members.push(member);
    }
    futures_util::future::join_all(members.into_iter().map(|member| f.change(member, Change::Erase))).await;
    for email in &emails {
        assert_eq!(register(f, "Ana", email, Way::Free).await.err(), Some(NotRegistered::EmailTaken));
    }
    assert_eq!(f.store.archive.count(Part::Secrets).await.unwrap(), 1);
}

async fn no_use_of_an_invitation_comes_back(f: &Fixture) {
    let maker = f.member("Maker").await;
    let (of_one, of_two) = (invite(f, maker, 1).await, invite(f, maker, 2).await);
    for (name, invitation) in [("ana", &of_one), ("ben", &of_two)] {
        let email = format!("{name}@example.com");
        let member = register(f, name, &email, Way::Invitation(invitation.id)).await.unwrap().profile.id;
        f.change(member, Change::Active(false)).await;
        f.change(member, Change::Active(true)).await;
        f.change(member, Change::Erase).await;
        assert_eq!(used(f, invitation).await, 1, "{name}");
        let again = register(f, name, &email, Way::Invitation(invitation.id)).await.err();
        assert_eq!(again, Some(NotRegistered::InvitationInvalid), "{name}: used up, or revoked with who was put out");
    }
}
