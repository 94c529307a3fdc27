//! Advice by the server's own rules.

use std::time::Duration;

use members_book::clock::ManualClock;
use protocol::{
    ErrorCode, MemberId, Timestamp,
    rest::ai::{
        Advice, AdviceSource, OptimizeResponse, ProfileField, Reason, ReasonKind, Recommendation,
        RecommendationsResponse,
    },
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{PICTURE, code, fields as fields_of};
use crate::harness::{Member, Server};

/// Registers a member with a company and a position.
pub async fn works_at(server: &Server, name: &str, company: &str, position: &str) -> Member {
    let member = server.member(name).await;
    patch(&member, json!({ "contact_info": { "company": company, "position": position } })).await;
    member
}

/// Changes a member's record.
pub async fn patch(member: &Member, body: Value) {
    let response = member.request(Method::PATCH, "/api/members/me", body).await;
    assert_eq!(response.status(), 200);
}

/// What is recommended to a member.
pub async fn recommended(member: &Member) -> RecommendationsResponse {
    let response = member.request(Method::GET, "/api/ai/recommendations", Value::Null).await;
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

/// What could be better about a member's profile.
pub async fn optimized(member: &Member) -> OptimizeResponse {
    let response = member.request(Method::POST, "/api/ai/profile/optimize", Value::Null).await;
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

/// The members that are recommended, with the reasons.
pub fn introductions(response: &RecommendationsResponse) -> Vec<(MemberId, Vec<Reason>)> {
    let introduction = |recommendation: &Recommendation| match &recommendation.advice {
        Advice::Connect(introduction) => Some((introduction.member_id, introduction.reasons.clone())),
        Advice::CompleteProfile(_) => None,
    };
    response.recommendations.iter().filter_map(introduction).collect()
}

/// The members that are recommended.
pub fn members(response: &RecommendationsResponse) -> Vec<MemberId> {
    introductions(response).into_iter().map(|(member, _)| member).collect()
}

fn fields(response: &RecommendationsResponse) -> Vec<ProfileField> {
    let completion = |recommendation: &Recommendation| match &recommendation.advice {
        Advice::CompleteProfile(completion) => Some(completion.field),
        Advice::Connect(_) => None,
    };
    response.recommendations.iter().filter_map(completion).collect()
}

/// Applies or dismisses a recommendation.
async fn decide(member: &Member, id: &str, decision: &str) -> reqwest::Response {
    member.request(Method::POST, &format!("/api/ai/recommendations/{id}/{decision}"), Value::Null).await
}

/// Sends a message and waits until it is stored.
pub async fn say(from: &Member, to: &Member, content: &str) {
    let mut client = from.connect().await;
    client.say(to.id, content).await;
}

#[tokio::test]
async fn those_who_have_something_in_common_are_recommended_and_it_is_said_what() {
    let server = Server::start().await;
    let ana = works_at(&server, "Ana", "Ação Capital", "Software Engineer").await;
    let twin = works_at(&server, "Ben", "ACAO CAPITAL Lda", "software engineer").await;
    let colleague = works_at(&server, "Cleo", "Ação Capital", "Lawyer").await;
    let engineer = works_at(&server, "Dora", "Globex", "Engineer").await;
    let response = recommended(&ana).await;
    assert_eq!((response.source, response.fallback), (AdviceSource::Local, None));
    let found = introductions(&response);
    assert_eq!(found.iter().map(|(member, _)| *member).collect::<Vec<_>>(), [twin.id, colleague.id, engineer.id]);
    let kinds: Vec<_> = found[0].1.iter().map(|reason| reason.kind).collect();
    assert_eq!(kinds, [ReasonKind::Company, ReasonKind::Position, ReasonKind::Tier]);
    assert_eq!(found[1].1[0].text, "You both work at Ação Capital.");
    let mut last = 1.0;
    for recommendation in &response.recommendations {
        assert!(recommendation.confidence_score <= last, "the most confident first");
        last = recommendation.confidence_score;
        assert!((recommendation.user_id, recommendation.is_applied) == (ana.id, false));
        if let Advice::Connect(introduction) = &recommendation.advice {
            let card = introduction.member.as_ref().unwrap();
            assert_eq!(card.id, introduction.member_id);
            assert!(["Ben", "Cleo", "Dora"].contains(&card.name.as_str()));
        }
    }
}

#[tokio::test]
async fn whom_one_talks_to_is_known_and_whom_they_talk_to_is_worth_meeting() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let (ben, cleo, dora) = (server.member("Ben").await, server.member("Cleo").await, server.member("Dora").await);
    let eve = server.member("Eve").await;
    for (from, to) in [(&ana, &ben), (&ana, &cleo), (&dora, &ben), (&dora, &cleo), (&eve, &ben)] {
        say(from, to, "hello").await;
    }
    let found = introductions(&recommended(&ana).await);
    let ids: Vec<_> = found.iter().map(|(member, _)| *member).collect();
    assert_eq!(ids, [dora.id, eve.id], "neither oneself nor whom one talks to already");
    let contacts = |reasons: &[Reason]| reasons.iter().any(|reason| reason.kind == ReasonKind::Contacts);
    assert!(contacts(&found[0].1));
    assert!(!contacts(&found[1].1), "a single contact in common would be told by name");
}

#[tokio::test]
async fn what_is_empty_in_ones_profile_is_recommended_until_it_is_filled_in() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let expected = [ProfileField::Company, ProfileField::Position, ProfileField::Picture, ProfileField::Phone];
    assert_eq!(fields(&recommended(&ana).await), expected);
    patch(&ana, json!({ "contact_info": { "company": "Acme", "phone": "+351 912" } })).await;
    assert_eq!(fields(&recommended(&ana).await), [ProfileField::Position, ProfileField::Picture]);
    patch(&ana, json!({ "contact_info": { "company": null } })).await;
    assert_eq!(fields(&recommended(&ana).await)[0], ProfileField::Company);
}

#[tokio::test]
async fn the_same_recommendation_has_the_same_id_and_is_stored_once() {
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |settings| settings.auth.access_token_ttl = Duration::from_secs(86_400)).await;
    let ana = works_at(&server, "Ana", "Acme", "Engineer").await;
    works_at(&server, "Ben", "Acme", "Lawyer").await;
    let first = recommended(&ana).await;
    assert!(!first.recommendations.is_empty());
    clock.advance(Duration::from_secs(60));
    assert_eq!(recommended(&ana).await, first);
    let (one, other) = tokio::join!(recommended(&ana), recommended(&ana));
    assert_eq!((&one, &other), (&first, &first));
    let id = |response: &RecommendationsResponse| response.recommendations[0].id;
    patch(&ana, json!({ "contact_info": { "position": "Lawyer" } })).await;
    let changed = recommended(&ana).await;
    assert!(changed.recommendations.iter().any(|recommendation| recommendation.id == id(&first)));
    assert_ne!(changed, first, "what is said about it follows the profile");
}

#[tokio::test]
async fn what_was_applied_or_dismissed_does_not_come_back() {
    let server = Server::start().await;
    let ana = works_at(&server, "Ana", "Acme", "Engineer").await;
    let ben = works_at(&server, "Ben", "Acme", "Lawyer").await;
    let cleo = works_at(&server, "Cleo", "Acme", "Doctor").await;
    let before = recommended(&ana).await;
    let of = |member: MemberId| {
        let about = |recommendation: &&Recommendation| matches!(&recommendation.advice, Advice::Connect(introduction) if introduction.member_id == member);
        before.recommendations.iter().find(about).unwrap().id.to_string()
    };
    let applied: Recommendation = decide(&ana, &of(ben.id), "apply").await.json().await.unwrap();
    assert!(applied.is_applied && applied.dismissed_at.is_none());
    let dismissed: Recommendation = decide(&ana, &of(cleo.id), "dismiss").await.json().await.unwrap();
    assert!(!dismissed.is_applied && dismissed.dismissed_at.is_some());
    // The same again changes nothing.
    assert_eq!(decide(&ana, &of(ben.id), "apply").await.json::<Recommendation>().await.unwrap(), applied);
    assert_eq!(decide(&ana, &of(cleo.id), "dismiss").await.json::<Recommendation>().await.unwrap(), dismissed);
    let phone = before.recommendations.iter().find(
        |one| matches!(&one.advice, Advice::CompleteProfile(completion) if completion.field == ProfileField::Phone),
    );
    decide(&ana, &phone.unwrap().id.to_string(), "dismiss").await;
    let after = recommended(&ana).await;
    assert!(members(&after).is_empty());
    assert_eq!(fields(&after), [ProfileField::Picture]);
    let server = server.restart().await;
    assert!(members(&recommended(&ana.at(server.addr())).await).is_empty(), "nor after a restart");
}

#[tokio::test]
async fn recommendations_belong_to_one_member() {
    let server = Server::start().await;
    let ana = works_at(&server, "Ana", "Acme", "Engineer").await;
    let ben = works_at(&server, "Ben", "Acme", "Lawyer").await;
    let id = recommended(&ana).await.recommendations[0].id.to_string();
    recommended(&ben).await;
    for decision in ["apply", "dismiss"] {
        assert_eq!(code(decide(&ben, &id, decision).await).await, ErrorCode::RecommendationNotFound);
        let refused = decide(&ana, "0123456789abcdef01234567", decision).await;
        assert_eq!(code(refused).await, ErrorCode::RecommendationNotFound);
        for wrong in ["x", "%ff", "%00"] {
            assert_eq!(fields_of(decide(&ana, wrong, decision).await).await, ["id"], "{wrong}");
        }
    }
    assert!(recommended(&ana).await.recommendations[0].is_open());
    for (method, path) in [
        (Method::GET, "/api/ai/recommendations".to_owned()),
        (Method::POST, "/api/ai/profile/optimize".to_owned()),
        (Method::POST, format!("/api/ai/recommendations/{id}/apply")),
        (Method::POST, format!("/api/ai/recommendations/{id}/dismiss")),
    ] {
        let response = server.http().request(method, server.url(&path)).send().await.unwrap();
        assert_eq!(code(response).await, ErrorCode::TokenMissing, "{path}");
    }
}

#[tokio::test]
async fn who_was_deactivated_is_not_recommended_any_more() {
    let server = Server::start().await;
    let ana = works_at(&server, "Ana", "Acme", "Engineer").await;
    let ben = works_at(&server, "Ben", "Acme", "Lawyer").await;
    assert_eq!(members(&recommended(&ana).await), [ben.id]);
    server.set_active(ben.id, false).await;
    assert!(!members(&recommended(&ana).await).contains(&ben.id));
}

#[tokio::test]
async fn what_a_member_does_not_share_recommends_them_to_nobody() {
    let server = Server::start().await;
    let ana = works_at(&server, "Ana", "Acme", "Engineer").await;
    let ben = works_at(&server, "Ben", "Acme", "Lawyer").await;
    let kinds = |response: &RecommendationsResponse| {
        let (member, reasons) = introductions(response).remove(0);
        assert_eq!(member, ben.id);
        reasons.iter().map(|reason| reason.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&recommended(&ana).await), [ReasonKind::Company, ReasonKind::Tier]);
    patch(&ben, json!({ "visibility": { "company": "nobody" } })).await;
    let response = recommended(&ana).await;
    assert_eq!(kinds(&response), [ReasonKind::Tier]);
    assert!(!serde_json::to_string(&response).unwrap().contains("Acme"));
    // Nor is what one does not share oneself told to others, or used for oneself.
    assert_eq!(introductions(&recommended(&ben).await)[0].1[0].kind, ReasonKind::Tier);
    let company = optimized(&ben).await.suggestions.iter().any(|one| one.field == ProfileField::Company);
    assert!(!company, "it is there for the member to see");
}

#[tokio::test]
async fn an_export_has_what_was_recommended_and_erasing_removes_it() {
    let server = Server::start().await;
    let ana = works_at(&server, "Ana", "Acme", "Engineer").await;
    let ben = works_at(&server, "Ben", "Acme", "Lawyer").await;
    let shown = recommended(&ana).await;
    let export: Value = ana.request(Method::GET, "/api/members/me/export", Value::Null).await.json().await.unwrap();
    let exported = export["recommendations"].as_array().unwrap();
    assert_eq!(exported.len(), shown.recommendations.len());
    assert!(exported.iter().any(|one| one["recommendation_data"]["member_id"] == ben.id.to_string()));
    assert_eq!(ben.request(Method::DELETE, "/api/members/me", Value::Null).await.status(), 204);
    let export: Value = ana.request(Method::GET, "/api/members/me/export", Value::Null).await.json().await.unwrap();
    assert!(!export["recommendations"].to_string().contains(&ben.id.to_string()));
    assert!(members(&recommended(&ana).await).is_empty());
}

#[tokio::test]
async fn a_profile_is_looked_at_and_not_touched() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    patch(
        &ana,
        json!({ "name": "ana lima", "contact_info": { "phone": "00351 912-345-678", "position": "HEAD OF SALES" } }),
    )
    .await;
    let before: Value = ana.request(Method::GET, "/api/members/me", Value::Null).await.json().await.unwrap();
    let response = optimized(&ana).await;
    assert_eq!((response.source, response.fallback, response.completeness), (AdviceSource::Local, None, 0.5));
    let found: Vec<_> =
        response.suggestions.iter().map(|suggestion| (suggestion.field, suggestion.suggestion.as_deref())).collect();
    let expected = [
        (ProfileField::Name, Some("Ana Lima")),
        (ProfileField::Phone, Some("+351 912 345 678")),
        (ProfileField::Company, None),
        (ProfileField::Position, Some("Head of Sales")),
        (ProfileField::Picture, None),
    ];
    assert_eq!(found, expected);
    assert_eq!(response.suggestions[1].current.as_deref(), Some("00351 912-345-678"));
    let after: Value = ana.request(Method::GET, "/api/members/me", Value::Null).await.json().await.unwrap();
    assert_eq!(after, before);

    // Every suggestion can be sent back as it is, and then there is nothing more to say about it.
    let contact = json!({ "phone": found[1].1, "position": found[3].1, "company": "Acme" });
    patch(&ana, json!({ "name": found[0].1, "contact_info": contact, "profile_image_url": PICTURE })).await;
    let response = optimized(&ana).await;
    assert_eq!((response.suggestions, response.completeness), (vec![], 1.0));
}
