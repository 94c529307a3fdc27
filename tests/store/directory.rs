//! The directory, search, and the audit log.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use members_book::{
    service::views,
    store::{
        archive::{Part, Row},
        audit::{AuditFilter, AuditFound, AuditPlace, AuditRecord, EXAMINED, FORGOTTEN_AT_ONCE},
        changes::{Actor, Change},
        jobs::Job,
        members::{DirectoryPosition, Filter, Suspension},
        turns::Caller,
    },
    text,
};
use mongodb::bson::{Document, doc};
use protocol::{
    MemberId,
    model::{Tier, UserType},
    rest::{AuditAction, ContactInfoPatch, MemberPatch, SharedWith, VisibilityPatch},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{fixture::Fixture, for_every_store};

for_every_store![
    the_directory_is_ordered_by_name_without_accents_and_case,
    a_filter_leaves_out_who_does_not_fit,
    words_are_found_by_their_beginning,
    what_is_not_shared_is_not_found,
    a_change_is_in_the_audit_log_with_who_and_where,
    the_audit_log_is_paged_from_the_newest,
    a_page_of_the_audit_log_looks_at_so_many_entries_and_no_more,
    the_audit_log_is_followed_from_a_place_on,
    a_search_reads_so_many_and_whole_words_come_first,
    an_erased_member_leaves_no_address_and_is_not_seen_again,
    addresses_are_forgotten_a_part_at_a_time,
];

async fn names(f: &Fixture, filter: Filter) -> Vec<String> {
    let found = f.store.members.list(Caller::System, filter, None, 100).await.unwrap();
    found.into_iter().map(|record| record.profile.name).collect()
}

async fn the_directory_is_ordered_by_name_without_accents_and_case(f: &Fixture) {
    for (number, name) in ["zoë", "Álvaro", "ana", "Ângela", "Bruno", "ana"].iter().enumerate() {
        f.member_with_email(name, &format!("{number}@example.com")).await;
    }
    let all = names(f, Filter::default()).await;
    assert_eq!(all, ["Álvaro", "ana", "ana", "Ângela", "Bruno", "zoë"]);
    // Page by page, one at a time, it is the same list.
    let (mut paged, mut after) = (Vec::new(), None);
    while let Some(next) = f.store.members.list(Caller::System, Filter::default(), after, 1).await.unwrap().pop() {
        after = Some(DirectoryPosition { name_key: next.name_key(), id: next.profile.id });
        paged.push(next.profile.name);
    }
    assert_eq!(paged, all);
}

async fn a_filter_leaves_out_who_does_not_fit(f: &Fixture) {
    let (ana, ben, eva) = (f.member("Ana").await, f.member("Ben").await, f.member("Eva").await);
    f.member("Zoe").await;
    f.change(ana, Change::Tier(Tier::Socio)).await;
    f.change(ben, Change::Active(false)).await;
    f.change(eva, Change::Role(UserType::Admin)).await;
    let only = Filter::default();
    assert_eq!(names(f, Filter { tier: Some(Tier::Socio), ..only }).await, ["Ana"]);
    assert_eq!(names(f, Filter { is_active: Some(false), ..only }).await, ["Ben"]);
    assert_eq!(names(f, Filter { is_active: Some(true), ..only }).await, ["Ana", "Eva", "Zoe"]);
    assert_eq!(names(f, Filter { user_type: Some(UserType::Admin), ..only }).await, ["Eva"]);
    f.change(ana, Change::Erase).await;
    assert_eq!(names(f, only).await, ["Ben", "Eva", "Zoe"]);
}

async fn works_at(f: &Fixture, id: MemberId, company: &str, position: &str) {
    let contact_info = ContactInfoPatch {
        company: Some(Some(company.to_owned())),
        position: Some(Some(position.to_owned())),
        ..Default::default()
    };
    let patch = MemberPatch { contact_info: Some(contact_info), ..Default::default() };
    f.change(id, Change::Profile { edit: views::edit(patch), expected: None }).await;
}

async fn search(f: &Fixture, q: &str) -> Vec<String> {
    let found = f.store.members.search(f.ids.member(), text::words(q), 100).await.unwrap();
    let mut found: Vec<String> = found.into_iter().map(|record| record.profile.name).collect();
    found.sort();
    found
}

async fn words_are_found_by_their_beginning(f: &Fixture) {
    let (joao, ana) = (f.member("João Sá-Carneiro").await, f.member("Ana Lima").await);
    works_at(f, joao, "Águas do Porto", "Engenheiro").await;
    works_at(f, ana, "Lima & Sócios", "Advogada").await;
    assert_eq!(search(f, "JOAO").await, ["João Sá-Carneiro"]);
    assert_eq!(search(f, "carn").await, ["João Sá-Carneiro"]);
    assert_eq!(search(f, "aguas eng jo").await, ["João Sá-Carneiro"], "every word, in any field");
    assert_eq!(search(f, "lima adv").await, ["Ana Lima"]);
    assert_eq!(search(f, "lima porto").await, [""; 0]);
    assert_eq!(search(f, "ima").await, [""; 0], "the beginning of a word, and not any part of it");
    assert_eq!(search(f, "a").await, ["Ana Lima", "João Sá-Carneiro"]);
    works_at(f, ana, "Another", "Advogada").await;
    assert_eq!(search(f, "socios").await, [""; 0], "what has changed is not found any more");
    f.change(ana, Change::Active(false)).await;
    assert_eq!(search(f, "ana").await, [""; 0]);
}

async fn what_is_not_shared_is_not_found(f: &Fixture) {
    let ana = f.member("Ana").await;
    works_at(f, ana, "Acme", "Spy").await;
    let visibility = VisibilityPatch { position: Some(SharedWith::Nobody), ..Default::default() };
    let patch = MemberPatch { visibility: Some(visibility), ..Default::default() };
    f.change(ana, Change::Profile { edit: views::edit(patch), expected: None }).await;
    assert_eq!(search(f, "acme").await, ["Ana"]);
    assert_eq!(search(f, "spy").await, [""; 0]);
}

async fn a_search_reads_so_many_and_whole_words_come_first(f: &Fixture) {
    for number in 0..30 {
        f.member_with_email(&format!("Anabela Silvestre {number}"), &format!("{number}@example.com")).await;
    }
    let ana = f.member("Ana Silva").await;
    f.member("Bia").await;
    let found = async |q, limit| {
        let found = f.store.members.search(ana, text::words(q), limit).await.unwrap();
        found.into_iter().map(|record| record.profile.name).collect::<Vec<_>>()
    };
    assert_eq!(found("ana silva", 1).await, ["Ana Silva"]);
    let many = found("ana", 10).await;
    assert_eq!((many.len(), many[0].as_str()), (10, "Ana Silva"));
    assert_eq!(found("silv ana", 100).await.len(), 31, "every word of all of them, each member once");
    assert_eq!(found("ana bia", 100).await, [""; 0]);
}

async fn jobs(f: &Fixture) -> Vec<Job> {
    f.store.jobs.waiting(10).await.unwrap().into_iter().map(|(job, _)| job).collect()
}

/// Found by measuring: a million entries of one who left held the writer for seconds.
async fn addresses_are_forgotten_a_part_at_a_time(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let address = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    let entry = |actor, action, target| {
        let (target, details) = (Some(target), json!({}));
        AuditRecord { at: f.now(), actor, action, target, details, address }
    };
    let append = async |entry| f.store.audit.append(entry).await.unwrap();
    append(entry(None, AuditAction::LoginFailed, ana)).await;
    append(entry(Some(ben), AuditAction::TierChanged, ana)).await;
    append_often(f, &entry(Some(ana), AuditAction::Exported, ana), FORGOTTEN_AT_ONCE).await;
    append(entry(None, AuditAction::LoginFailed, ana)).await;
    append(entry(Some(ben), AuditAction::Exported, ben)).await;
    let left = async || {
        let mut entries = f.store.audit.after(AuditPlace(0), FORGOTTEN_AT_ONCE * 2).await.unwrap();
        entries.retain(|(_, entry)| entry.address.is_some());
        entries
    };
    let before = left().await;
    assert_eq!(before.len(), FORGOTTEN_AT_ONCE + 4);
    let next = f.store.audit.forget_addresses(ana, AuditPlace(0)).await.unwrap();
    // The failed login, the other's entry, and all but two of their own.
    assert_eq!(next, Some(before[FORGOTTEN_AT_ONCE - 1].0));
    assert_eq!(left().await.len(), 5, "the other's, two of their own, a failed login, the other's");
    // Whoever goes on after a crash may do a part twice.
    assert_eq!(f.store.audit.forget_addresses(ana, AuditPlace(0)).await.unwrap(), next);
    assert_eq!(f.store.audit.forget_addresses(ana, next.unwrap()).await.unwrap(), None);
    let actors: Vec<_> = left().await.into_iter().map(|(_, entry)| entry.actor).collect();
    assert_eq!(actors, [Some(ben), Some(ben)]);
}

/// Writes the same entry so often, all but the first one as rows of a copy: one after the other they take a minute in some databases.
async fn append_often(f: &Fixture, entry: &AuditRecord, count: usize) {
    f.store.audit.append(entry.clone()).await.unwrap();
    let (AuditPlace(first), _) = f.store.audit.entries(None, 1).await.unwrap()[0];
    let further = u64::try_from(count).unwrap() - 1;
    let rows = (1..=further).map(|number| Row::Audit(AuditPlace(first + number), entry.clone())).collect();
    f.store.archive.insert_rows(rows).await.unwrap();
    if let Some(database) = &f.database {
        let meta = database.open().await.collection::<Document>("meta");
        let taken = doc! { "$inc": { "place": i64::try_from(further).unwrap() } };
        meta.update_one(doc! { "_id": "audit" }, taken).await.unwrap();
    }
}

async fn an_erased_member_leaves_no_address_and_is_not_seen_again(f: &Fixture) {
    let (root, ana) = (f.member("Root").await, f.member("Ana").await);
    let at = |member: MemberId, last| Actor::without_session(member, Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))));
    let change = |id, change, by| f.store.members.change(id, change, by, f.now(), CancellationToken::new());
    change(root, Change::Tier(Tier::Socio), at(ana, 1)).await.unwrap();
    change(ana, Change::Tier(Tier::Socio), at(root, 2)).await.unwrap();
    let before = f.store.audit.of_member(ana, None, 10).await.unwrap();
    assert_eq!(before.len(), 2, "by the member, and about them");
    assert_eq!(f.store.audit.of_member(ana, Some(before[0].0), 10).await.unwrap(), before[1..]);
    // Whoever failed to log in as them may have been they.
    for target in [root, ana] {
        let (action, details, address) = (AuditAction::LoginFailed, json!({}), at(ana, 3).address);
        let entry = AuditRecord { at: f.now(), actor: None, action, target: Some(target), details, address };
        f.store.audit.append(entry).await.unwrap();
    }
    let suspension =
        || Some(Suspension { until: f.now().after(Duration::from_secs(60)), reason: Some("loud".to_owned()) });
    for member in [root, ana] {
        change(member, Change::Suspended(suspension()), at(root, 2)).await.unwrap();
    }
    change(ana, Change::Erase, at(ana, 1)).await.unwrap();
    assert_eq!(jobs(f).await, [Job::ForgetAddresses { member: ana, after: AuditPlace(0) }], "written with the change");
    assert_eq!(f.store.audit.forget_addresses(ana, AuditPlace(0)).await.unwrap(), None, "that was all");
    let log = log(f).await;
    let reasons: Vec<_> = log.iter().filter_map(|entry| entry.details.get("reason").cloned()).collect();
    assert_eq!(reasons, [json!("loud")], "why the other one was suspended");
    let addresses: Vec<_> = log.into_iter().map(|entry| (entry.action, entry.address)).collect();
    let of_root = at(root, 2).address;
    let expected = [
        (AuditAction::Erased, None),
        (AuditAction::SuspensionChanged, of_root),
        (AuditAction::SuspensionChanged, of_root),
        (AuditAction::LoginFailed, None),
        (AuditAction::LoginFailed, at(ana, 3).address),
        (AuditAction::TierChanged, of_root),
        (AuditAction::TierChanged, None),
    ];
    assert_eq!(addresses, expected, "the facts stay, and so does where others were");
    // Their connections end a little later.
    f.store.members.record_last_seen(vec![(ana, f.now()), (root, f.now())]).await.unwrap();
    let rows = f.store.archive.rows(Part::Members, None, 10).await.unwrap();
    let seen = |id| {
        rows.iter().find_map(|row| match row {
            Row::Member(row) if row.record.profile.id == id => Some(row.last_seen),
            _ => None,
        })
    };
    assert_eq!((seen(ana), seen(root)), (Some(None), Some(Some(f.now()))));
}

async fn log(f: &Fixture) -> Vec<AuditRecord> {
    let entries = f.store.audit.entries(None, 100).await.unwrap();
    entries.into_iter().map(|(_, entry)| entry).collect()
}

async fn the_audit_log_is_followed_from_a_place_on(f: &Fixture) {
    let ana = f.member("Ana").await;
    for active in [false, true, false, true] {
        f.change(ana, Change::Active(active)).await;
    }
    let mut all = f.store.audit.entries(None, 100).await.unwrap();
    all.reverse();
    assert_eq!(all.len(), 4);
    let after = async |place, limit| f.store.audit.after(place, limit).await.unwrap();
    assert_eq!(after(AuditPlace(0), 100).await, all, "the oldest first");
    assert_eq!(after(all[0].0, 2).await, all[1..3]);
    assert_eq!(after(all[3].0, 2).await, []);
    f.change(ana, Change::Active(false)).await;
    let [(_, newest)] = &after(all[3].0, 2).await[..] else { panic!("one more") };
    assert_eq!((newest.action, newest.target), (AuditAction::ActiveChanged, Some(ana)));
}

async fn a_change_is_in_the_audit_log_with_who_and_where(f: &Fixture) {
    let (root, ana) = (f.member("Root").await, f.member("Ana").await);
    let by = Actor::without_session(root, Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))));
    let rename = |name: &str| {
        let patch = MemberPatch { name: Some(name.to_owned()), ..Default::default() };
        Change::Profile { edit: views::edit(patch), expected: None }
    };
    let change = |change, by| f.store.members.change(ana, change, by, f.now(), CancellationToken::new());
    change(Change::Tier(Tier::Socio), by).await.unwrap();
    change(Change::Tier(Tier::Socio), by).await.unwrap();
    change(rename("Ana Lima"), Actor { member: Some(ana), ..by }).await.unwrap();
    change(rename("Ana L."), by).await.unwrap();
    let log = log(f).await;
    let actions: Vec<AuditAction> = log.iter().map(|entry| entry.action).collect();
    assert_eq!(
        actions,
        [AuditAction::ProfileChanged, AuditAction::TierChanged],
        "no change, and one's own, leave none"
    );
    let expected = AuditRecord {
        at: f.now(),
        actor: Some(root),
        action: AuditAction::TierChanged,
        target: Some(ana),
        details: json!({ "from": "Disruption", "to": "Sócio" }),
        address: by.address,
    };
    assert_eq!(log[1], expected);
    assert_eq!(log[0].details, json!({ "fields": ["name"] }));
}

async fn a_page_of_the_audit_log_looks_at_so_many_entries_and_no_more(f: &Fixture) {
    let (ana, ben) = (f.ids.member(), f.ids.member());
    let entry = |actor, action, target| {
        let (at, actor, target, details) = (f.now(), Some(actor), Some(target), json!({}));
        AuditRecord { at, actor, action, target, details, address: None }
    };
    let append = async |actor, action, target| f.store.audit.append(entry(actor, action, target)).await.unwrap();
    append(ben, AuditAction::Exported, ana).await;
    // All in one moment: pages go on within it.
    append_often(f, &entry(ana, AuditAction::MemberRead, ana), EXAMINED).await;
    append(ben, AuditAction::MemberRead, ana).await;
    f.wait(1);
    append(ben, AuditAction::MemberRead, ben).await;
    let both = AuditFilter { actor: Some(ben), target: Some(ana), ..AuditFilter::default() };
    let page = async |filter, before| f.store.audit.page(filter, before, 1).await.unwrap();
    let first = page(both, None).await;
    assert_eq!((first.entries.len(), first.entries[0].1.action), (1, AuditAction::MemberRead));
    let second = page(both, first.next).await;
    assert_eq!((second.entries.len(), second.next.is_some()), (0, true), "so many were looked at");
    let third = page(both, second.next).await;
    assert_eq!((third.entries.len(), third.next), (1, None));
    assert_eq!(third.entries[0].1.action, AuditAction::Exported);
    let since = AuditFilter { since: Some(f.now()), ..AuditFilter::default() };
    let AuditFound { entries, next } = page(since, None).await;
    assert_eq!((entries.len(), entries[0].1.target, next), (1, Some(ben), None));
    // What is left out is looked at all the same.
    let not_action = [AuditAction::MemberRead].into_iter().collect();
    let without = AuditFilter { not_action, ..AuditFilter::default() };
    let looked = page(without, None).await;
    assert_eq!((looked.entries.len(), looked.next.is_some()), (0, true));
    let AuditFound { entries, next } = page(without, looked.next).await;
    assert_eq!((entries[0].1.action, next), (AuditAction::Exported, None));
    let until = AuditFilter { until: Some(f.now()), actor: Some(ben), ..AuditFilter::default() };
    let AuditFound { entries, next } = page(until, None).await;
    assert_eq!((entries[0].1.target, next.is_some()), (Some(ana), true));
}

async fn the_audit_log_is_paged_from_the_newest(f: &Fixture) {
    let target = f.ids.member();
    for number in 0..5 {
        let details = json!({ "number": number });
        let action = AuditAction::Disconnected;
        let entry = AuditRecord { at: f.now(), actor: None, action, target: Some(target), details, address: None };
        f.store.audit.append(entry).await.unwrap();
    }
    let (mut numbers, mut before) = (Vec::new(), None);
    loop {
        let page = f.store.audit.entries(before, 2).await.unwrap();
        let Some((place, _)) = page.last() else { break };
        before = Some(*place);
        numbers.extend(page.iter().map(|(_, entry)| entry.details["number"].as_u64().unwrap()));
    }
    assert_eq!(numbers, [4, 3, 2, 1, 0]);
}
