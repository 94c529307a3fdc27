//! Who comes in: registrations that wait, invitations, and members who are kept out until a time.

use std::{net::IpAddr, time::Duration};

use members_book::store::{
    addresses::Allowed,
    audit::AuditRecord,
    changes::{Actor, Asking, Change, Changed, EmailProof, Overtaken},
    conversations::Refusal,
    invitations::{CameBy, Created, InvitationRecord, NewInvitation, Withdrawn},
    members::{Filter, MemberRecord, NotRegistered, Registration, Rejected, Standing, Suspension, UNVERIFIED_MAX, Way},
    sessions::{NewSession, NewToken, SessionDevice},
    turns::Caller,
};
use protocol::{
    InvitationId, MemberId, Timestamp,
    model::{Tier, UserType},
    rest::{AuditAction, MemberStatus},
};
use tokio_util::sync::CancellationToken;

use super::{
    addresses,
    fixture::{Fixture, append},
    for_every_store, sessions, unverified,
};

for_every_store![
    of_many_who_have_the_same_invitation_as_many_come_in_as_it_has_uses,
    an_invitation_that_is_not_good_brings_nobody_in,
    a_maker_has_so_many_open_invitations_and_no_more,
    a_maker_makes_so_many_invitations_within_a_day_whatever_becomes_of_them,
    invitations_are_listed_the_newest_first,
    an_invitation_is_found_by_its_code_and_revoked_once,
    what_was_ordered_by_who_may_not_any_more_is_not_done,
    what_was_ordered_with_a_token_that_was_replaced_is_not_done,
    invitations_end_with_who_made_them_and_with_who_was_put_out,
    who_was_put_out_does_not_come_back_by_a_use_that_is_given_back,
    who_waits_is_nowhere_until_they_are_approved,
    who_waits_can_do_nothing_and_nothing_can_be_done_to_them,
    who_is_approved_is_a_member_like_others,
    who_is_rejected_leaves_nothing_but_an_audit_entry,
    so_many_wait_and_no_more_and_not_for_ever,
    a_suspension_ends_by_itself,
    the_last_administrator_who_may_sign_in_is_not_suspended,
    members_are_listed_by_their_standing,
];

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3_600)
}

async fn invite(f: &Fixture, maker: MemberId, uses: u32) -> InvitationRecord {
    let made = try_invite(f, maker, uses, 1_000).await;
    assert_eq!(made.0, Created::Done);
    made.1
}

/// Invitations that one member makes within a day here.
const MOST_MADE: usize = 20;

async fn try_invite(f: &Fixture, maker: MemberId, uses: u32, most_open: usize) -> (Created, InvitationRecord) {
    try_invite_as(f, Actor::without_session(maker, Some(FROM)), maker, (uses, most_open)).await
}

async fn try_invite_as(
    f: &Fixture,
    by: Actor,
    maker: MemberId,
    (uses, most_open): (u32, usize),
) -> (Created, InvitationRecord) {
    let id = f.ids.invitation();
    let mut code = [0; 32];
    code[..12].copy_from_slice(id.as_bytes());
    let record = InvitationRecord {
        id,
        code,
        tier: Tier::Infinity,
        uses,
        used: 0,
        created_by: maker,
        created_at: f.now(),
        expires_at: f.now().after(hours(1)),
        revoked_at: None,
        note: Some("for a friend".to_owned()),
    };
    let new = NewInvitation { record: record.clone(), most_open, most_made: MOST_MADE, needs_admin: false, by };
    let created = f.store.invitations.create(new.clone()).await.unwrap();
    if created == Created::Done {
        assert_eq!(f.store.invitations.create(new).await.unwrap(), Created::Done, "again, as after a lost answer");
    }
    (created, record)
}

async fn register(f: &Fixture, name: &str, way: Way) -> Result<MemberRecord, NotRegistered> {
    let member = f.new_member(name, &format!("{name}@example.com"));
    f.store
        .members
        .register(Registration { member, way, from: FROM, link: None, most_unverified: UNVERIFIED_MAX })
        .await
        .unwrap()
}

async fn found(f: &Fixture, id: InvitationId) -> InvitationRecord {
    f.store.invitations.by_id(Caller::System, id).await.unwrap().unwrap()
}

async fn actions(f: &Fixture) -> Vec<AuditAction> {
    let mut entries = f.store.audit.entries(None, 100).await.unwrap();
    entries.reverse();
    entries.into_iter().map(|(_, entry)| entry.action).collect()
}

async fn of_many_who_have_the_same_invitation_as_many_come_in_as_it_has_uses(f: &Fixture) {
    let ana = f.member("Ana").await;
    for (uses, prefix) in [(1, "a"), (3, "b")] {
        let invitation = invite(f, ana, uses).await;
        let names: Vec<String> = (0..20).map(|number| format!("{prefix}{number}")).collect();
        let all = names.iter().map(|name| register(f, name, Way::Invitation(invitation.id)));
        let all = futures_util::future::join_all(all).await;
        let (came, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        assert_eq!((came.len(), refused.len()), (uses as usize, 20 - uses as usize));
        assert!(refused.into_iter().all(|refused| refused.err() == Some(NotRegistered::InvitationInvalid)));
        assert_eq!(found(f, invitation.id).await.used, uses);
        let CameBy { members, unverified } =
            f.store.invitations.came_by(Caller::System, vec![invitation.id]).await.unwrap().remove(0);
        assert_eq!(unverified, 0);
        assert_eq!(members.len(), uses as usize);
        for member in members {
            let invited = member.profile.invited.unwrap();
            assert_eq!((invited.by, invited.invitation), (ana, invitation.id));
            assert_eq!((member.profile.tier, member.profile.is_active), (Tier::Infinity, true));
        }
    }
    let used = actions(f).await.into_iter().filter(|action| *action == AuditAction::InvitationUsed).count();
    assert_eq!(used, 4);
}

async fn an_invitation_that_is_not_good_brings_nobody_in(f: &Fixture) {
    let ana = f.member("Ana").await;
    let invalid = Some(NotRegistered::InvitationInvalid);
    assert_eq!(register(f, "Ben", Way::Invitation(f.ids.invitation())).await.err(), invalid, "unknown");
    let invitation = invite(f, ana, 5).await;
    assert_eq!(register(f, "Ana", Way::Invitation(invitation.id)).await.err(), Some(NotRegistered::EmailTaken));
    assert_eq!(found(f, invitation.id).await.used, 0, "who does not come in takes no use");
    f.wait(3_600);
    assert_eq!(register(f, "Ben", Way::Invitation(invitation.id)).await.err(), invalid, "expired");
    let invitation = invite(f, ana, 5).await;
    assert!(register(f, "Ben", Way::Invitation(invitation.id)).await.is_ok());
    assert_eq!(f.store.invitations.revoke(invitation.id, Actor::default(), f.now()).await.unwrap(), Withdrawn::Done);
    assert_eq!(register(f, "Eva", Way::Invitation(invitation.id)).await.err(), invalid, "revoked");
    // What has expired is forgotten, and nothing else.
    f.wait(3_600);
    let open = invite(f, ana, 1).await;
    assert_eq!(f.store.invitations.purge(f.now().after(Duration::from_millis(1))).await.unwrap(), 2);
    assert!(f.store.invitations.by_id(Caller::System, invitation.id).await.unwrap().is_none());
    assert_eq!(found(f, open.id).await, open);
}

/// Found by an attacker: who revoked what they had used had as many as they liked.
async fn a_maker_makes_so_many_invitations_within_a_day_whatever_becomes_of_them(f: &Fixture) {
    let ana = f.member("Ana").await;
    for _ in 0..MOST_MADE {
        let invitation = invite(f, ana, 1).await;
        let by = Actor::without_session(ana, None);
        f.store.invitations.revoke(invitation.id, by, f.now()).await.unwrap();
    }
    assert_eq!(try_invite(f, ana, 1, 3).await.0, Created::TooMany);
    f.wait(86_400);
    assert_eq!(try_invite(f, ana, 1, 3).await.0, Created::Done);
}

async fn a_maker_has_so_many_open_invitations_and_no_more(f: &Fixture) {
    let ana = f.member("Ana").await;
    let all = futures_util::future::join_all((0..6).map(|_| try_invite(f, ana, 1, 3))).await;
    let mut made: Vec<_> = all.iter().filter(|(created, _)| *created == Created::Done).collect();
    assert_eq!(made.len(), 3, "at the same moment, too");
    let (_, first) = made.remove(0);
    register(f, "Ben", Way::Invitation(first.id)).await.unwrap();
    assert_eq!(try_invite(f, ana, 1, 3).await.0, Created::Done, "one was used");
    assert_eq!(try_invite(f, ana, 1, 3).await.0, Created::TooMany);
    f.wait(3_600);
    assert_eq!(try_invite(f, ana, 1, 3).await.0, Created::Done, "they have expired");
    f.change(ana, Change::Active(false)).await;
    assert_eq!(try_invite(f, ana, 1, 3).await.0, Created::NotAllowed);
    let created: Vec<_> =
        actions(f).await.into_iter().filter(|action| *action == AuditAction::InvitationCreated).collect();
    assert_eq!(created.len(), 5, "each once");
}

async fn invitations_are_listed_the_newest_first(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let mut made = Vec::new();
    for maker in [ana, ben, ana] {
        f.wait(1);
        made.push(invite(f, maker, 2).await);
    }
    let list = async |maker, before, limit| {
        let found = f.store.invitations.list(Caller::System, maker, before, limit).await.unwrap();
        found.into_iter().map(|found| found.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, 10).await, [made[2].id, made[1].id, made[0].id]);
    assert_eq!(list(None, Some(made[2].id), 1).await, [made[1].id]);
    assert_eq!(list(Some(ana), None, 10).await, [made[2].id, made[0].id]);
    assert_eq!(list(Some(ana), Some(made[2].id), 10).await, [made[0].id]);
}

/// Found by an attacker: who was an administrator, or signed in, when they asked, was obeyed after they were none.
#[expect(clippy::cognitive_complexity, reason = "who asks, and for what, one after the other")]
async fn what_was_ordered_by_who_may_not_any_more_is_not_done(f: &Fixture) {
    let root = f.member("Root").await;
    f.change(root, Change::Role(UserType::Admin)).await;
    let (ana, eva) = (f.member_with_email("Ana", "ana@example.com").await.profile.id, f.member("Eva").await);
    addresses::verify(f, ana, 1).await;
    f.change(ana, Change::Erase).await;
    f.change(eva, Change::Role(UserType::Admin)).await;
    let [of_root, of_eva] = [invite(f, root, 1).await, invite(f, eva, 1).await];
    let asking = sessions::session(f, eva, 1).await;
    let by = Actor { member: Some(eva), session: Some(sessions::in_session(asking)), address: Some(FROM) };
    let order = async || {
        let entry = AuditRecord {
            at: f.now(),
            actor: by.member,
            action: AuditAction::Disconnected,
            target: Some(root),
            details: serde_json::json!({ "connections": 0 }),
            address: by.address,
        };
        f.store.audit.append_order(entry, by).await.unwrap()
    };
    let allow = async |by| f.store.members.allow_address("ana@example.com", by, f.now()).await.unwrap();
    let revoke = async |which: &InvitationRecord| f.store.invitations.revoke(which.id, by, f.now()).await.unwrap();
    let logged = f.store.audit.entries(None, 100).await.unwrap().len();
    let became = f.change(eva, Change::Role(UserType::Member)).await;
    assert_eq!(became.profile.user_type, UserType::Member);
    let logged_since = async || f.store.audit.entries(None, 100).await.unwrap().len() - logged;
    let changed = logged_since().await;
    assert_eq!(order().await, Some(Overtaken::NoAdmin));
    assert_eq!(allow(by).await, Allowed::Overtaken(Overtaken::NoAdmin));
    assert_eq!(revoke(&of_root).await, Withdrawn::Overtaken(Overtaken::NoAdmin));
    // Her own ended with her role; a member who is signed in may revoke another one.
    assert_eq!(revoke(&of_eva).await, Withdrawn::Done);
    let own = invite(f, eva, 1).await;
    f.store.sessions.revoke_many(eva, vec![asking], f.now()).await.unwrap();
    assert_eq!(order().await, Some(Overtaken::SignedOut));
    assert_eq!(allow(by).await, Allowed::Overtaken(Overtaken::SignedOut));
    assert_eq!(revoke(&own).await, Withdrawn::Overtaken(Overtaken::SignedOut));
    assert_eq!(logged_since().await, changed + 1, "but for the invitation that was made");
    assert_eq!((found(f, own.id).await.revoked_at, found(f, of_root.id).await.revoked_at), (None, None));
    let roots = sessions::in_session(sessions::session(f, root, 2).await);
    let by = Actor { member: Some(root), session: Some(roots), address: Some(FROM) };
    assert_eq!(allow(by).await, Allowed::Done);
}

/// Found by a reviewer: an order that was given with a copied token was obeyed after the member had changed the password, and one of an
/// administrator after their second factor was gone. Nobody asked about who makes an invitation at all.
async fn what_was_ordered_with_a_token_that_was_replaced_is_not_done(f: &Fixture) {
    let (root, ana) = (f.member("Root").await, f.member("Ana").await);
    f.change(root, Change::Role(UserType::Admin)).await;
    let id = sessions::session(f, root, 1).await;
    let before = sessions::in_session(id);
    let as_root = |asking| Actor { member: Some(root), session: Some(asking), address: Some(FROM) };
    let orders = async |asking| {
        let (by, change) = (as_root(asking), Change::Tier(Tier::Socio));
        let made = try_invite_as(f, by, root, (1, 9)).await.0;
        let changed = f.store.members.change(ana, change, by, f.now(), CancellationToken::new()).await.unwrap();
        f.change(ana, Change::Tier(Tier::Disruption)).await;
        (made, matches!(changed, Changed::Done { .. }))
    };
    assert_eq!(orders(before).await, (Created::Done, true));
    let credentials = f.store.members.by_id(Caller::System, root).await.unwrap().unwrap().credentials;
    f.change(root, Change::Password { credentials, hash: "new".to_owned(), keep: Some(f.keep(id)) }).await;
    assert_eq!(orders(before).await, (Created::Overtaken(Overtaken::TokenReplaced), false));
    let after = Asking { generation: Some(1), ..before };
    assert_eq!(orders(after).await, (Created::Done, true));
    // As a member they go on, without the second factor that the club demands of administrators.
    let without = Asking { demands_second_factor: true, ..after };
    assert_eq!(orders(without).await, (Created::Done, false));
    f.store.sessions.revoke_many(root, vec![id], f.now()).await.unwrap();
    assert_eq!(orders(after).await, (Created::Overtaken(Overtaken::SignedOut), false));
}

async fn an_invitation_is_found_by_its_code_and_revoked_once(f: &Fixture) {
    let ana = f.member("Ana").await;
    let made = [invite(f, ana, 2).await, invite(f, ana, 2).await];
    let by_code = f.store.invitations.by_code(Caller::System, made[1].code).await.unwrap();
    assert_eq!(by_code.as_ref(), Some(&made[1]));
    assert!(f.store.invitations.by_code(Caller::System, [9; 32]).await.unwrap().is_none());
    let first = f.now();
    for _ in 0..2 {
        let by = Actor::without_session(ana, Some(FROM));
        assert_eq!(f.store.invitations.revoke(made[0].id, by, f.now()).await.unwrap(), Withdrawn::Done);
        f.wait(1);
    }
    assert_eq!(found(f, made[0].id).await.revoked_at, Some(first));
    let unknown = f.store.invitations.revoke(f.ids.invitation(), Actor::default(), f.now()).await.unwrap();
    assert_eq!(unknown, Withdrawn::NotFound);
    let revoked = actions(f).await.into_iter().filter(|action| *action == AuditAction::InvitationRevoked).count();
    assert_eq!(revoked, 1);
}

async fn invitations_end_with_who_made_them_and_with_who_was_put_out(f: &Fixture) {
    let until = |seconds| Some(Suspension { until: f.now().after(Duration::from_secs(seconds)), reason: None });
    let email = |email: &str, proof| Change::Email { email: email.to_owned(), proof };
    let changes: [(Change, bool, bool); 8] = [
        (Change::Active(false), true, true),
        (Change::Suspended(until(60)), true, true),
        (Change::Erase, true, true),
        (Change::Role(UserType::Member), true, false),
        // Found by an attacker: whoever had taken an account brought others in after it was taken back.
        (email("back@example.com", EmailProof::TakenOver), true, false),
        (email("new@example.com", EmailProof::Command), false, false),
        (Change::Tier(Tier::Socio), false, false),
        (Change::Suspended(None), false, false),
    ];
    for (number, (change, ends_made, ends_came)) in changes.into_iter().enumerate() {
        let maker = f.member(&format!("maker{number}")).await;
        let came_by = invite(f, maker, 5).await;
        let member = register(f, &format!("member{number}"), Way::Invitation(came_by.id)).await.unwrap().profile.id;
        if matches!(change, Change::Role(_)) {
            f.change(member, Change::Role(UserType::Admin)).await;
            f.change(f.member("another").await, Change::Role(UserType::Admin)).await;
        }
        let (made, other) = (invite(f, member, 5).await, invite(f, maker, 5).await);
        let before = actions(f).await.len();
        f.change(member, change.clone()).await;
        assert_eq!(found(f, made.id).await.revoked_at.is_some(), ends_made, "{change:?}: what they made");
        assert_eq!(found(f, came_by.id).await.revoked_at.is_some(), ends_came, "{change:?}: what they came by");
        assert!(found(f, other.id).await.revoked_at.is_none(), "{change:?}: another one");
        let is_told = actions(f).await[before..].contains(&AuditAction::InvitationRevoked);
        assert_eq!(is_told, ends_made, "{change:?}");
        let forgets = matches!(change, Change::Erase);
        assert_eq!(found(f, made.id).await.note.is_none(), forgets, "{change:?}: notes");
    }
}

/// Found by a reviewer: a use that came back opened an invitation that had brought in somebody who was put out.
async fn who_was_put_out_does_not_come_back_by_a_use_that_is_given_back(f: &Fixture) {
    for (number, change) in (0..).zip([Change::Active(false), Change::Erase]) {
        let maker = f.member(&format!("maker{number}")).await;
        let invitation = invite(f, maker, 2).await;
        let bad = register(f, &format!("bad{number}"), Way::Invitation(invitation.id)).await.unwrap().profile.id;
        let sock = unverified::register(f, &format!("sock{number}"), Way::Invitation(invitation.id), 2 * number).await;
        let sock = sock.unwrap().profile.id;
        // One that the member has made, and which is used up as well.
        let made = invite(f, bad, 1).await;
        unverified::register(f, &format!("friend{number}"), Way::Invitation(made.id), 2 * number + 1).await.unwrap();
        f.change(bad, change.clone()).await;
        for ended in [&invitation, &made] {
            assert!(found(f, ended.id).await.revoked_at.is_some(), "{change:?}: used up");
        }
        f.wait(60);
        assert_eq!(f.store.members.purge_unverified(f.now(), f.now()).await.unwrap(), 2);
        assert!(f.store.members.by_id(Caller::System, sock).await.unwrap().is_none());
        assert_eq!(found(f, invitation.id).await.used, 1, "{change:?}: the use is given back");
        let again = register(f, &format!("again{number}"), Way::Invitation(invitation.id)).await;
        assert_eq!(again.err(), Some(NotRegistered::InvitationInvalid), "{change:?}");
    }
}

async fn names(f: &Fixture, filter: Filter) -> Vec<String> {
    let found = f.store.members.list(Caller::System, filter, None, 10).await.unwrap();
    found.into_iter().map(|found| found.profile.name).collect()
}

fn pending(f: &Fixture) -> Filter {
    Filter { status: Some((MemberStatus::Pending, f.now())), ..Filter::default() }
}

async fn who_waits_is_nowhere_until_they_are_approved(f: &Fixture) {
    let ana = f.member("Ana").await;
    let eva = register(f, "Eva", Way::Application { most: 5 }).await.unwrap();
    assert_eq!(eva.profile.standing(f.now()), Standing::Pending);
    let eva = eva.profile.id;
    let stored = f.store.members.by_id(Caller::System, eva).await.unwrap().unwrap();
    assert!(stored.profile.is_pending && !stored.profile.is_active);
    let pending = pending(f);
    assert_eq!(names(f, Filter::default()).await, ["Ana"]);
    assert_eq!(names(f, Filter { is_active: Some(false), ..Filter::default() }).await, [""; 0]);
    assert_eq!(names(f, pending).await, ["Eva"]);
    assert_eq!(names(f, Filter { tier: Some(Tier::Socio), ..pending }).await, [""; 0]);
    assert!(f.store.members.search(ana, vec!["eva".to_owned()], 10).await.unwrap().is_empty());
    assert!(f.store.members.last_seen(Caller::System, vec![eva]).await.unwrap().is_empty());
}

async fn new_session(f: &Fixture, member: MemberId, first_token: u8) -> NewSession {
    let found = f.store.members.by_id(Caller::System, member).await.unwrap().unwrap();
    let ends_at = f.now().after(hours(9));
    NewSession {
        id: f.ids.session(),
        member,
        token: NewToken { hash: [first_token; 32], expires_at: ends_at },
        device: SessionDevice::default(),
        known_device: None,
        address: None,
        at: f.now(),
        ends_at,
        credentials: found.credentials,
        tell_of: None,
    }
}

async fn who_waits_can_do_nothing_and_nothing_can_be_done_to_them(f: &Fixture) {
    let ana = f.member("Ana").await;
    let eva = register(f, "Eva", Way::Application { most: 5 }).await.unwrap().profile.id;
    let counts = f.store.members.count(f.now()).await.unwrap();
    assert_eq!((counts.all, counts.active, counts.waiting), (1, 1, 1));
    assert_eq!(f.store.members.count_waiting(Caller::System).await.unwrap(), 1);
    let write = append(ana, eva, crate::harness::client_id(), "hello");
    assert!(matches!(f.apply(write).await, Err(Refusal::MemberNotFound)));
    assert!(f.store.sessions.start(new_session(f, eva, 1).await).await.unwrap().is_none());
    // Nothing else can be changed of them.
    for change in [Change::Active(true), Change::Tier(Tier::Socio), Change::Role(UserType::Admin), Change::Erase] {
        let by = Actor::default();
        let changed = f.store.members.change(eva, change, by, f.now(), CancellationToken::new()).await.unwrap();
        assert!(matches!(changed, Changed::NotFound));
    }
}

async fn who_is_approved_is_a_member_like_others(f: &Fixture) {
    let ana = f.member("Ana").await;
    let eva = register(f, "Eva", Way::Application { most: 5 }).await.unwrap().profile.id;
    let approved = f.change(eva, Change::Approve).await;
    assert_eq!(approved.profile.standing(f.now()), Standing::Active);
    assert_eq!(f.change(eva, Change::Approve).await.version, approved.version, "again");
    assert_eq!(names(f, Filter::default()).await, ["Ana", "Eva"]);
    assert_eq!(names(f, pending(f)).await, [""; 0]);
    assert_eq!(f.store.members.search(ana, vec!["eva".to_owned()], 10).await.unwrap().len(), 1);
    f.say(ana, eva, "welcome").await;
    assert_eq!(f.store.members.reject(eva, Actor::default(), f.now()).await.unwrap(), Rejected::Decided);
    assert_eq!(actions(f).await, [AuditAction::ApplicationApproved]);
}

async fn who_is_rejected_leaves_nothing_but_an_audit_entry(f: &Fixture) {
    let by = Actor::without_session(f.member("Ana").await, Some(FROM));
    let eva = register(f, "Eva", Way::Application { most: 5 }).await.unwrap().profile.id;
    assert_eq!(register(f, "EVA", Way::Free).await.err(), Some(NotRegistered::EmailTaken));
    // Found by a reviewer: who had asked for it and was put out meanwhile still removed them.
    let over = Actor { session: Some(sessions::in_session(f.ids.session())), ..by };
    let refused = Rejected::Overtaken(Overtaken::SignedOut);
    assert_eq!(f.store.members.reject(eva, over, f.now()).await.unwrap(), refused);
    assert!(f.store.members.by_id(Caller::System, eva).await.unwrap().is_some());
    assert_eq!(f.store.members.reject(eva, by, f.now()).await.unwrap(), Rejected::Done);
    assert!(f.store.members.by_id(Caller::System, eva).await.unwrap().is_none());
    assert_eq!(f.store.members.reject(eva, by, f.now()).await.unwrap(), Rejected::NotFound);
    assert!(register(f, "Eva", Way::Free).await.is_ok(), "the address is free");
    let entries = f.store.audit.entries(None, 10).await.unwrap();
    let [(_, entry)] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((entry.action, entry.actor, entry.target), (AuditAction::ApplicationRejected, by.member, Some(eva)));
}

async fn so_many_wait_and_no_more_and_not_for_ever(f: &Fixture) {
    let names: Vec<String> = (0..6).map(|number| format!("m{number}")).collect();
    let all = names.iter().map(|name| register(f, name, Way::Application { most: 4 }));
    let all = futures_util::future::join_all(all).await;
    let refused: Vec<_> = all.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused, [NotRegistered::TooManyWaiting; 2]);
    f.wait(10);
    assert_eq!(f.store.members.purge_waiting(f.now().before(Duration::from_secs(11))).await.unwrap(), 0);
    assert_eq!(f.store.members.purge_waiting(f.now()).await.unwrap(), 4);
    assert_eq!(f.store.members.count_waiting(Caller::System).await.unwrap(), 0);
    assert!(register(f, "m0", Way::Application { most: 4 }).await.is_ok());
}

async fn a_suspension_ends_by_itself(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let start = async |byte: u8| {
        let new = new_session(f, ana, byte).await;
        let session = new.id;
        f.store.sessions.start(new).await.unwrap().map(|_| session)
    };
    let session = start(1).await.unwrap();
    let until = f.now().after(Duration::from_secs(60));
    let suspension = Suspension { until, reason: Some("shouted".to_owned()) };
    let suspended = f.change(ana, Change::Suspended(Some(suspension.clone()))).await;
    assert_eq!(suspended.profile.suspension, Some(suspension));
    let view = f.store.sessions.view(session).await.unwrap().unwrap();
    assert_eq!((view.revoked, view.standing(f.now())), (true, Standing::Suspended(until)));
    assert!(start(2).await.is_none());
    assert!(matches!(
        f.apply(append(ana, ben, crate::harness::client_id(), "hello")).await,
        Err(Refusal::SenderDeactivated)
    ));
    f.say(ben, ana, "they can be written to").await;
    assert_eq!(f.store.members.search(ben, vec!["ana".to_owned()], 10).await.unwrap().len(), 1, "and found");
    f.wait(60);
    assert_eq!(f.store.sessions.view(session).await.unwrap().unwrap().standing(f.now()), Standing::Active);
    f.say(ana, ben, "back").await;
    assert!(start(3).await.is_some());
    let stored = f.store.members.by_id(Caller::System, ana).await.unwrap().unwrap();
    assert_eq!(stored.profile.suspension, None, "what is over leaves nothing");
    assert_eq!(actions(f).await, [AuditAction::SuspensionChanged]);
}

async fn the_last_administrator_who_may_sign_in_is_not_suspended(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    for member in [ana, ben] {
        f.change(member, Change::Role(UserType::Admin)).await;
    }
    assert_eq!(f.store.members.admins(10, false).await.unwrap().len(), 2);
    let suspended = || Change::Suspended(Some(Suspension { until: f.now().after(hours(1)), reason: None }));
    f.change(ana, suspended()).await;
    let change = async |member, change| {
        let by = Actor::default();
        f.store.members.change(member, change, by, f.now(), CancellationToken::new()).await.unwrap()
    };
    for last in [suspended(), Change::Active(false), Change::Erase, Change::Role(UserType::Member)] {
        assert!(matches!(change(ben, last).await, Changed::LastAdmin));
    }
    assert!(f.store.members.has_admin().await.unwrap());
    f.wait(3_600);
    assert!(matches!(change(ben, suspended()).await, Changed::Done { .. }), "the other one is back");
    assert!(matches!(change(ana, Change::Active(false)).await, Changed::LastAdmin));
}

#[expect(clippy::cognitive_complexity, reason = "each standing, one after the other")]
async fn members_are_listed_by_their_standing(f: &Fixture) {
    for name in ["Ana", "Ben", "Cid", "Dot"] {
        f.member(name).await;
    }
    register(f, "Eva", Way::Application { most: 5 }).await.unwrap();
    let id = async |name: &str| {
        f.store.members.by_email(Caller::System, &format!("{name}@example.com")).await.unwrap().unwrap().profile.id
    };
    let until = |seconds| Some(Suspension { until: f.now().after(Duration::from_secs(seconds)), reason: None });
    f.change(id("Ben").await, Change::Active(false)).await;
    f.change(id("Cid").await, Change::Suspended(until(100))).await;
    f.change(id("Dot").await, Change::Suspended(until(10))).await;
    f.wait(10);
    let listed = async |status, is_active| {
        let filter = Filter { status: Some((status, f.now())), is_active, ..Filter::default() };
        let found = f.store.members.list(Caller::System, filter, None, 10).await.unwrap();
        let each: Vec<_> = found.iter().map(|found| found.profile.standing(f.now())).collect();
        (found.into_iter().map(|found| found.profile.name).collect::<Vec<_>>(), each)
    };
    let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let until = |at: Timestamp| Standing::Suspended(at);
    let cid = f.store.members.by_id(Caller::System, id("Cid").await).await.unwrap().unwrap();
    let cid = until(cid.profile.suspension.unwrap().until);
    assert_eq!(f.store.members.count(f.now()).await.unwrap().active, 2, "Ana, and Dot again");
    assert_eq!(listed(MemberStatus::Active, None).await, (of(&["Ana", "Dot"]), vec![Standing::Active; 2]));
    assert_eq!(listed(MemberStatus::Suspended, None).await, (of(&["Cid"]), vec![cid]));
    assert_eq!(listed(MemberStatus::Deactivated, None).await, (of(&["Ben"]), vec![Standing::Deactivated]));
    assert_eq!(listed(MemberStatus::Pending, None).await, (of(&["Eva"]), vec![Standing::Pending]));
    assert_eq!(listed(MemberStatus::Suspended, Some(false)).await.0, of(&[]));
    assert_eq!(listed(MemberStatus::Deactivated, Some(true)).await.0, of(&[]));
}
