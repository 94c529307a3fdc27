//! Recommendations, budgets, and whom one could recommend.

use members_book::{
    service::views,
    store::{
        changes::Change,
        recommendations::{Decision, Draft, RecommendationRecord, Wanted},
    },
};
use protocol::{
    MemberId, RecommendationId, Timestamp,
    model::Tier,
    rest::{
        ContactInfoPatch, MemberPatch, SharedWith, VisibilityPatch,
        ai::{Advice, AdviceSource, Completion, Introduction, ProfileField, Reason, ReasonKind},
    },
};

use super::{fixture::Fixture, for_every_store};

for_every_store![
    what_is_kept_is_found_by_its_member_only,
    the_same_recommendation_is_stored_once_and_keeps_its_beginning,
    a_decision_stays_and_is_not_overwritten,
    only_the_owner_decides,
    what_is_not_made_any_more_is_forgotten_unless_it_was_decided,
    a_budget_is_spent_and_comes_back_the_next_day,
    a_budget_is_not_overspent_by_many_at_once,
    those_who_share_something_come_first,
    all_words_count_more_than_one,
    what_is_not_shared_is_not_looked_up,
    who_is_known_decided_or_inactive_is_no_candidate,
    contacts_in_common_are_counted,
    there_are_no_more_candidates_than_asked_for,
    erasing_a_member_leaves_no_recommendation_of_them,
];

const LONG_AGO: Timestamp = Timestamp::from_millis(0);

fn id(name: u8) -> RecommendationId {
    RecommendationId::from_bytes([name; 12])
}

fn meet(f: &Fixture, name: u8, other: MemberId) -> Draft {
    let reasons = vec![Reason { kind: ReasonKind::Company, text: "You both work at \"Ação\".".to_owned() }];
    Draft {
        id: id(name),
        advice: Advice::Connect(Introduction { member_id: other, member: None, reasons }),
        confidence_score: 0.75,
        source: AdviceSource::Local,
        basis: [name; 16],
        refreshed_at: f.now(),
    }
}

fn complete(f: &Fixture, name: u8) -> Draft {
    let completion = Completion { field: ProfileField::Company, text: "Say where you work.".to_owned() };
    Draft { advice: Advice::CompleteProfile(completion), ..meet(f, name, f.ids.member()) }
}

async fn keep(f: &Fixture, member: MemberId, drafts: &[Draft]) -> Vec<RecommendationRecord> {
    f.store.recommendations.keep(member, drafts.to_vec(), LONG_AGO).await.unwrap()
}

async fn find(f: &Fixture, member: MemberId, names: &[u8]) -> Vec<RecommendationRecord> {
    f.store.recommendations.find(member, names.iter().map(|name| id(*name)).collect()).await.unwrap()
}

async fn decide(f: &Fixture, member: MemberId, name: u8, decision: Decision) -> Option<RecommendationRecord> {
    f.store.recommendations.decide(member, id(name), decision, f.now()).await.unwrap()
}

async fn what_is_kept_is_found_by_its_member_only(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let drafts = [meet(f, 2, ben), complete(f, 1)];
    let kept = keep(f, ana, &drafts).await;
    assert_eq!(kept.iter().map(RecommendationRecord::draft).collect::<Vec<_>>(), drafts, "in the order of the drafts");
    let recommendation = &kept[0].recommendation;
    assert_eq!((recommendation.user_id, recommendation.created_at), (ana, f.now()));
    assert!(recommendation.is_open());
    let mut found = find(f, ana, &[1, 2, 3]).await;
    found.sort_by_key(|record| std::cmp::Reverse(record.recommendation.id));
    assert_eq!(found, kept);
    assert_eq!(f.store.recommendations.all_of(ana).await.unwrap(), kept);
    assert!(find(f, ben, &[1, 2]).await.is_empty());
    assert!(keep(f, f.ids.member(), &[complete(f, 4)]).await.is_empty(), "for nobody");
    assert!(keep(f, ana, &[meet(f, 5, f.ids.member())]).await.is_empty(), "about nobody");
}

async fn the_same_recommendation_is_stored_once_and_keeps_its_beginning(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let first = keep(f, ana, &[meet(f, 1, ben)]).await.remove(0);
    f.wait(60);
    let better = Draft { confidence_score: 0.9, source: AdviceSource::Remote, basis: [9; 16], ..meet(f, 1, ben) };
    let (one, other) =
        tokio::join!(keep(f, ana, std::slice::from_ref(&better)), keep(f, ana, std::slice::from_ref(&better)));
    assert_eq!(one, other);
    assert_eq!(one[0].draft(), better);
    assert_eq!(one[0].recommendation.created_at, first.recommendation.created_at);
    assert_eq!(f.store.recommendations.all_of(ana).await.unwrap().len(), 1);
}

async fn a_decision_stays_and_is_not_overwritten(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    keep(f, ana, &[meet(f, 1, ben), complete(f, 2)]).await;
    f.wait(60);
    let dismissed = decide(f, ana, 1, Decision::Dismiss).await.unwrap();
    assert_eq!((dismissed.recommendation.is_applied, dismissed.recommendation.dismissed_at), (false, Some(f.now())));
    let applied = decide(f, ana, 2, Decision::Apply).await.unwrap();
    assert_eq!((applied.recommendation.is_applied, applied.recommendation.dismissed_at), (true, None));
    f.wait(60);
    assert_eq!(decide(f, ana, 1, Decision::Dismiss).await, Some(dismissed.clone()), "the second time changes nothing");
    assert_eq!(decide(f, ana, 2, Decision::Apply).await, Some(applied.clone()));
    let again = keep(f, ana, &[meet(f, 1, ben), complete(f, 2)]).await;
    assert_eq!(again, [dismissed, applied]);
    let both = decide(f, ana, 1, Decision::Apply).await.unwrap().recommendation;
    assert!(both.is_applied && both.dismissed_at.is_some());
}

async fn only_the_owner_decides(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let kept = keep(f, ana, &[meet(f, 1, ben)]).await;
    assert_eq!(decide(f, ben, 1, Decision::Apply).await, None);
    assert_eq!(decide(f, ana, 2, Decision::Dismiss).await, None);
    assert_eq!(find(f, ana, &[1]).await, kept);
}

async fn what_is_not_made_any_more_is_forgotten_unless_it_was_decided(f: &Fixture) {
    let (ana, ben, cleo) = (f.member("Ana").await, f.member("Ben").await, f.member("Cleo").await);
    keep(f, ana, &[meet(f, 1, ben), meet(f, 2, cleo), complete(f, 3)]).await;
    keep(f, ben, &[meet(f, 4, ana)]).await;
    decide(f, ana, 2, Decision::Dismiss).await.unwrap();
    f.wait(60);
    f.store.recommendations.keep(ana, vec![complete(f, 3)], f.now()).await.unwrap();
    let left: Vec<_> = find(f, ana, &[1, 2, 3]).await.iter().map(|record| record.recommendation.id).collect();
    assert_eq!(left, [id(2), id(3)]);
    assert_eq!(find(f, ben, &[4]).await.len(), 1, "another member's stay");
}

async fn a_budget_is_spent_and_comes_back_the_next_day(f: &Fixture) {
    let (ana, ben) = (f.member("Ana").await, f.member("Ben").await);
    let spend = async |member, day| f.store.recommendations.spend(member, day, 2).await.unwrap();
    assert!(spend(ana, 100).await && spend(ana, 100).await);
    assert!(!spend(ana, 100).await);
    assert!(!spend(ana, 99).await, "a clock that went back brings nothing back");
    assert!(spend(ben, 100).await, "another member has their own");
    assert_eq!(f.store.recommendations.spent(100).await, Ok(3));
    assert_eq!(f.store.recommendations.spent(99).await, Ok(0));
    assert!(spend(ana, 101).await && spend(ana, 101).await && !spend(ana, 101).await);
    assert!(!f.store.recommendations.spend(ana, 102, 0).await.unwrap());
    assert!(!spend(f.ids.member(), 100).await, "nobody has none");
}

async fn a_budget_is_not_overspent_by_many_at_once(f: &Fixture) {
    let ana = f.member("Ana").await;
    let many = (0..20).map(|_| f.store.recommendations.spend(ana, 100, 7));
    let allowed =
        futures_util::future::join_all(many).await.into_iter().filter(|spent| *spent.as_ref().unwrap()).count();
    assert_eq!(allowed, 7);
}

async fn works_at(f: &Fixture, name: &str, company: &str, position: &str) -> MemberId {
    let member = f.member(name).await;
    let some = |text: &str| (!text.is_empty()).then(|| Some(text.to_owned()));
    let contact = ContactInfoPatch { company: some(company), position: some(position), ..ContactInfoPatch::default() };
    let patch = MemberPatch { contact_info: Some(contact), ..MemberPatch::default() };
    f.change(member, Change::Profile { edit: views::edit(patch), expected: None }).await;
    member
}

fn wanted(company: &[&str], position: &[&str]) -> Wanted {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Wanted { company: words(company), position: words(position), tier: Some(Tier::Disruption) }
}

async fn candidates(f: &Fixture, member: MemberId, wanted: Wanted, limit: usize) -> Vec<(MemberId, u32)> {
    let found = f.store.recommendations.candidates(member, wanted, limit).await.unwrap();
    found.iter().map(|candidate| (candidate.record.profile.id, candidate.contacts_in_common)).collect()
}

async fn ids(f: &Fixture, member: MemberId, wanted: Wanted, limit: usize) -> Vec<MemberId> {
    candidates(f, member, wanted, limit).await.into_iter().map(|(id, _)| id).collect()
}

async fn those_who_share_something_come_first(f: &Fixture) {
    let ana = works_at(f, "Ana", "Acme", "Engineer").await;
    let engineer = works_at(f, "Ben", "Globex", "engineer of bridges").await;
    let colleague = works_at(f, "Cleo", "ACME Lda", "Lawyer").await;
    let nothing = works_at(f, "Dora", "Initech", "Lawyer").await;
    let found = ids(f, ana, wanted(&["acme"], &["engineer"]), 10).await;
    assert_eq!(found, [colleague, engineer, nothing], "and each of them once");
    assert_eq!(ids(f, ana, Wanted::default(), 10).await, [nothing, colleague, engineer], "the newest first");
    assert!(ids(f, f.ids.member(), Wanted::default(), 10).await.is_empty());
}

async fn what_is_not_shared_is_not_looked_up(f: &Fixture) {
    let ana = works_at(f, "Ana", "Acme", "").await;
    let shy = works_at(f, "Ben", "Acme", "").await;
    let open = works_at(f, "Cleo", "Acme", "").await;
    works_at(f, "Dora", "Globex", "").await;
    let visibility = VisibilityPatch { company: Some(SharedWith::Nobody), ..VisibilityPatch::default() };
    let patch = MemberPatch { visibility: Some(visibility), ..MemberPatch::default() };
    f.change(shy, Change::Profile { edit: views::edit(patch), expected: None }).await;
    assert_eq!(ids(f, ana, wanted(&["acme"], &[]), 10).await[0], open);
    assert_eq!(ids(f, ana, wanted(&["acme"], &[]), 2).await.len(), 2);
    assert_ne!(ids(f, ana, wanted(&["acme"], &[]), 2).await[1], shy);
}

async fn all_words_count_more_than_one(f: &Fixture) {
    let ana = works_at(f, "Ana", "", "Software Engineer").await;
    let both = works_at(f, "Ben", "", "Engineer of Software").await;
    let one = works_at(f, "Cleo", "", "Civil Engineer").await;
    assert_eq!(ids(f, ana, wanted(&[], &["engineer", "software"]), 10).await, [both, one]);
}

async fn who_is_known_decided_or_inactive_is_no_candidate(f: &Fixture) {
    let ana = works_at(f, "Ana", "Acme", "").await;
    let partner = works_at(f, "Ben", "Acme", "").await;
    let gone = works_at(f, "Cleo", "Acme", "").await;
    let dismissed = works_at(f, "Dora", "Acme", "").await;
    let applied = works_at(f, "Eve", "Acme", "").await;
    let left = works_at(f, "Finn", "Acme", "").await;
    f.say(partner, ana, "hello").await;
    f.change(gone, Change::Active(false)).await;
    keep(f, ana, &[meet(f, 1, dismissed), meet(f, 2, applied), meet(f, 3, left)]).await;
    decide(f, ana, 1, Decision::Dismiss).await.unwrap();
    decide(f, ana, 2, Decision::Apply).await.unwrap();
    assert_eq!(ids(f, ana, wanted(&["acme"], &[]), 10).await, [left]);
    assert_eq!(ids(f, partner, wanted(&["acme"], &[]), 10).await.len(), 3, "for others they are");
}

async fn contacts_in_common_are_counted(f: &Fixture) {
    let (ana, ben, cleo) = (f.member("Ana").await, f.member("Ben").await, f.member("Cleo").await);
    let (dora, eve, finn) = (f.member("Dora").await, f.member("Eve").await, f.member("Finn").await);
    for (from, to) in [(ana, ben), (cleo, ana), (dora, ben), (cleo, dora), (eve, cleo)] {
        f.say(from, to, "hello").await;
    }
    let found = candidates(f, ana, Wanted::default(), 10).await;
    assert_eq!(found, [(dora, 2), (eve, 1), (finn, 0)]);
}

async fn there_are_no_more_candidates_than_asked_for(f: &Fixture) {
    let ana = works_at(f, "Ana", "Acme", "").await;
    for name in 0..8 {
        works_at(f, &format!("Member {name}"), "Acme", "").await;
    }
    let other = works_at(f, "Zoe", "Globex", "Lawyer").await;
    assert_eq!(ids(f, ana, wanted(&["acme"], &[]), 3).await.len(), 3);
    let found = ids(f, ana, wanted(&["acme"], &["lawyer"]), 4).await;
    assert!(found.len() == 4 && found.contains(&other), "one company does not take every place: {found:?}");
    assert!(ids(f, ana, wanted(&["acme"], &[]), 0).await.is_empty());
}

async fn erasing_a_member_leaves_no_recommendation_of_them(f: &Fixture) {
    let (ana, ben, cleo) = (f.member("Ana").await, f.member("Ben").await, f.member("Cleo").await);
    keep(f, ana, &[meet(f, 1, ben), complete(f, 2)]).await;
    keep(f, ben, &[meet(f, 3, ana), meet(f, 4, cleo)]).await;
    assert!(f.store.recommendations.spend(ana, 100, 1).await.unwrap());
    f.change(ana, Change::Erase).await;
    assert!(f.store.recommendations.all_of(ana).await.unwrap().is_empty());
    let left = f.store.recommendations.all_of(ben).await.unwrap();
    assert_eq!(left.iter().map(|record| record.recommendation.id).collect::<Vec<_>>(), [id(4)]);
    assert!(f.store.recommendations.spend(ana, 100, 1).await.unwrap(), "not even what they spent is remembered");
}
