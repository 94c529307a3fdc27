//! Advice by an AI service, and without it when it misbehaves.

use std::{collections::BTreeSet, time::Duration};

use members_book::{clock::ManualClock, config::Settings};
use protocol::{
    Timestamp,
    rest::ai::{AdviceFallback, AdviceSource, ProfileField, ReasonKind},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    PICTURE,
    ai::{introductions, members, optimized, patch, recommended, say, works_at},
};
use crate::harness::{AiService, Member, Server, ai::Behaviour, eventually, within};

fn uses(ai: &AiService) -> impl FnOnce(&mut Settings) {
    let url = ai.url().to_string();
    move |settings| {
        settings.ai.ai_service_url = Some(url.into());
        settings.ai.openai_api_key = Some("sk-the-key-of-the-club".into());
        settings.ai.ai_model = "the-model".to_owned();
    }
}

/// A server with a service, a member, and two colleagues of theirs.
async fn club(change: impl FnOnce(&mut Settings)) -> (AiService, Server, Member) {
    let ai = AiService::start().await;
    let uses = uses(&ai);
    let server = Server::with(|settings| {
        uses(settings);
        change(settings);
    })
    .await;
    let ana = works_at(&server, "Ana", "Acme", "Engineer").await;
    works_at(&server, "Ben", "Acme", "Lawyer").await;
    works_at(&server, "Cleo", "Acme", "Engineer").await;
    (ai, server, ana)
}

async fn calls(server: &Server, outcome: &str) -> f64 {
    server.metric(&format!(r#"ai_calls_total{{outcome="{outcome}"}}"#)).await
}

#[tokio::test]
async fn the_service_says_whom_to_meet_and_is_not_asked_again_for_a_while() {
    let (ai, server, ana) = club(|_| ()).await;
    let first = recommended(&ana).await;
    assert_eq!((first.source, first.fallback), (AdviceSource::Remote, None));
    let found = introductions(&first);
    assert_eq!(found.len(), 2);
    for (_, reasons) in &found {
        assert_eq!((reasons[0].kind, reasons[0].text.as_str()), (ReasonKind::Service, "The model says so."));
    }
    assert_eq!(recommended(&ana).await, first, "with the same ids");
    assert_eq!(ai.asked(), 1);
    // What it said was made from a profile that is another one now.
    patch(&ana, json!({ "contact_info": { "position": "Chief Engineer" } })).await;
    assert_eq!(recommended(&ana).await.source, AdviceSource::Remote);
    assert_eq!(ai.asked(), 2);
    assert_eq!(calls(&server, "answered").await, 2.0);
    assert_eq!(server.metric("ai_seconds_count").await, 2.0);
    let server = server.restart().await;
    recommended(&ana.at(server.addr())).await;
    assert_eq!(ai.asked(), 2, "nor after a restart");
}

#[tokio::test]
async fn what_was_dismissed_is_neither_shown_nor_sent_again() {
    let (ai, _server, ana) = club(|settings| settings.ai.ai_refresh = Duration::ZERO).await;
    let first = recommended(&ana).await;
    let id = first.recommendations[0].id;
    let gone = members(&first)[0];
    ana.request(Method::POST, &format!("/api/ai/recommendations/{id}/dismiss"), Value::Null).await;
    let second = recommended(&ana).await;
    assert_eq!(second.source, AdviceSource::Remote);
    assert!(!members(&second).contains(&gone));
    let (_, request) = ai.requests().pop().unwrap();
    let data: Value = serde_json::from_str(request["messages"][1]["content"].as_str().unwrap()).unwrap();
    assert_eq!(data["candidates"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_but_tier_company_and_position_leaves_the_server() {
    let (ai, server, ana) = club(|_| ()).await;
    let dora = works_at(&server, "Dora", "Acme", "Engineer").await;
    let secret = json!({ "contact_info": { "phone": "+351 912 345 678" }, "profile_image_url": PICTURE });
    patch(&ana, secret.clone()).await;
    patch(&dora, secret).await;
    let eve = server.member("Eve").await;
    say(&ana, &eve, "the words of a private message").await;
    say(&dora, &eve, "the words of a private message").await;
    assert_eq!(recommended(&ana).await.source, AdviceSource::Remote);
    assert_eq!(optimized(&ana).await.source, AdviceSource::Remote);
    assert_eq!(ai.asked(), 2);
    for (headers, request) in ai.requests() {
        assert_eq!(headers["authorization"], "Bearer sk-the-key-of-the-club");
        let body = request.to_string();
        for member in [&ana, &dora, &eve] {
            let email = &member.auth.member.email;
            for private in [&member.id.to_string(), email, &member.auth.member.name, &member.auth.access_token] {
                assert!(!body.contains(private.as_str()), "{private} is in {body}");
            }
        }
        for private in ["912", "/api/photos/", "private message", "example.com", "contacts", "sk-the-key"] {
            assert!(!body.contains(private), "{private} is in {body}");
        }
        assert_eq!(request["model"], "the-model");
        let format = &request["response_format"];
        assert_eq!((&format["type"], &format["json_schema"]["strict"]), (&json!("json_schema"), &json!(true)));
        // What docs/ai.md lists, and nothing else.
        let data: Value = serde_json::from_str(request["messages"][1]["content"].as_str().unwrap()).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let person = BTreeSet::from(["company", "position", "tier"].map(str::to_owned));
        assert_eq!(keys(&data["member"]), person);
        for candidate in data["candidates"].as_array().into_iter().flatten() {
            assert_eq!(keys(candidate), BTreeSet::from(["candidate", "profile"].map(str::to_owned)));
            assert_eq!(keys(&candidate["profile"]), person);
        }
        assert!(data.as_object().unwrap().keys().all(|key| key == "member" || key == "candidates"));
    }
}

#[tokio::test]
async fn what_a_member_does_not_share_is_not_sent_and_what_was_said_about_it_is_forgotten() {
    let (ai, server, ana) = club(|_| ()).await;
    let dora = works_at(&server, "Dora", "Acme", "Rocketeer").await;
    let said = json!({ "introductions": [{ "candidate": "c1", "reason": "A rocketeer of Acme.", "confidence": 0.9 }] });
    ai.behave(Behaviour::Say(said.to_string()));
    recommended(&ana).await;
    ai.behave(Behaviour::Answer);
    for member in [&ana, &dora] {
        patch(member, json!({ "visibility": { "company": "nobody", "position": "nobody" } })).await;
    }
    let after = recommended(&ana).await;
    assert!(!serde_json::to_string(&after).unwrap().contains("ocketeer"));
    assert_eq!(ai.asked(), 2);
    let (_, request) = ai.requests().pop().unwrap();
    let data: Value = serde_json::from_str(request["messages"][1]["content"].as_str().unwrap()).unwrap();
    assert!(!data.to_string().contains("Rocketeer"), "{data}");
    assert_eq!(data["member"], json!({ "tier": "Disruption" }));
    assert_eq!(optimized(&ana).await.source, AdviceSource::Local, "nothing is left that could be sent");
    assert_eq!(ai.asked(), 2);
}

#[tokio::test]
async fn however_the_service_misbehaves_there_is_an_answer_in_time_that_says_so() {
    let timeout = Duration::from_millis(300);
    let (ai, server, ana) = club(|settings| {
        settings.ai.ai_timeout = timeout;
        settings.ai.ai_failures_max = 1_000;
        settings.ai.ai_daily_budget = 1_000;
    })
    .await;
    let say = |introductions: Value| Behaviour::Say(json!({ "introductions": introductions }).to_string());
    let one = |candidate: &str, confidence: f64| json!([{ "candidate": candidate, "reason": "Because.", "confidence": confidence }]);
    let long = json!([{ "candidate": "c1", "reason": "x".repeat(301), "confidence": 0.5 }]);
    let member = server.member("Dora").await.id.to_string();
    use AdviceFallback::{InvalidAnswer, Timeout, Unavailable};
    for (behaviour, fallback) in [
        (Behaviour::Status(500), Unavailable),
        (Behaviour::Status(503), Unavailable),
        (Behaviour::Status(401), Unavailable),
        (Behaviour::Status(429), Unavailable),
        (Behaviour::Status(302), Unavailable),
        (Behaviour::Hang, Timeout),
        (Behaviour::Cut, Unavailable),
        (Behaviour::Body("{".to_owned()), InvalidAnswer),
        (Behaviour::Body(String::new()), InvalidAnswer),
        (Behaviour::Body("{\"choices\": []}".to_owned()), InvalidAnswer),
        (Behaviour::Body("x".repeat(1_000_000)), InvalidAnswer),
        (Behaviour::Say("I am sorry, I cannot do that.".to_owned()), InvalidAnswer),
        (say(one("c99", 0.5)), InvalidAnswer),
        (say(one(&member, 0.5)), InvalidAnswer),
        (say(one("c1", 1.5)), InvalidAnswer),
        (say(long), InvalidAnswer),
        (say(json!([])), InvalidAnswer),
    ] {
        ai.behave(behaviour.clone());
        let started = tokio::time::Instant::now();
        let response = recommended(&ana).await;
        assert!(started.elapsed() < timeout + Duration::from_secs(5), "{behaviour:?}");
        assert_eq!((response.source, response.fallback), (AdviceSource::Local, Some(fallback)), "{behaviour:?}");
        let found = introductions(&response);
        assert_eq!(found.len(), 3, "{behaviour:?}");
        assert_eq!(found[0].1[0].kind, ReasonKind::Company, "{behaviour:?}");
        let response = optimized(&ana).await;
        assert_eq!((response.source, response.fallback), (AdviceSource::Local, Some(fallback)), "{behaviour:?}");
    }
    ai.behave(Behaviour::Answer);
    assert_eq!(recommended(&ana).await.source, AdviceSource::Remote);
    assert!(calls(&server, "invalid_answer").await > 1.0 && calls(&server, "timeout").await == 2.0);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_no_trouble() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", gone.local_addr().unwrap());
    drop(gone);
    let server = Server::with(|settings| settings.ai.ai_service_url = Some(url.into())).await;
    let ana = works_at(&server, "Ana", "Acme", "Engineer").await;
    let response = optimized(&ana).await;
    assert_eq!((response.source, response.fallback), (AdviceSource::Local, Some(AdviceFallback::Unavailable)));
}

#[tokio::test]
async fn who_keeps_failing_is_left_alone_and_tried_again() {
    let (ai, server, ana) = club(|settings| {
        settings.ai.ai_failures_max = 2;
        settings.ai.ai_cooldown = Duration::from_secs(1);
    })
    .await;
    ai.behave(Behaviour::Status(500));
    assert_eq!(recommended(&ana).await.fallback, Some(AdviceFallback::Unavailable));
    assert_eq!(recommended(&ana).await.fallback, Some(AdviceFallback::Unavailable));
    for _ in 0..5 {
        assert_eq!(recommended(&ana).await.fallback, Some(AdviceFallback::CircuitOpen));
    }
    assert_eq!(ai.asked(), 2, "an open circuit asks nothing");
    assert_eq!((server.metric("ai_circuit").await, calls(&server, "circuit_open").await), (2.0, 5.0));
    ai.behave(Behaviour::Answer);
    eventually("the circuit closes", async || {
        let response = recommended(&ana).await;
        (response.source == AdviceSource::Remote).then_some(())
    })
    .await;
    assert_eq!((server.metric("ai_circuit").await, ai.asked()), (0.0, 3));
}

#[tokio::test]
async fn a_service_that_asks_to_be_left_alone_is() {
    let (ai, _server, ana) = club(|_| ()).await;
    ai.behave(Behaviour::TooMany(60));
    assert_eq!(recommended(&ana).await.fallback, Some(AdviceFallback::Unavailable));
    ai.behave(Behaviour::Answer);
    assert_eq!(recommended(&ana).await.fallback, Some(AdviceFallback::CircuitOpen));
    assert_eq!(ai.asked(), 1);
}

#[tokio::test]
async fn a_member_has_so_many_questions_a_day() {
    let ai = AiService::start().await;
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let uses = uses(&ai);
    let server = Server::at(&clock, |settings| {
        uses(settings);
        settings.ai.ai_daily_budget = 2;
        settings.auth.access_token_ttl = Duration::from_secs(3 * 86_400);
    })
    .await;
    let ana = works_at(&server, "Ana", "Acme", "Engineer").await;
    let ben = works_at(&server, "Ben", "Acme", "Lawyer").await;
    assert_eq!(optimized(&ana).await.source, AdviceSource::Remote);
    assert_eq!(recommended(&ana).await.source, AdviceSource::Remote);
    assert_eq!(optimized(&ana).await.fallback, Some(AdviceFallback::BudgetSpent));
    assert_eq!(recommended(&ana).await.source, AdviceSource::Remote, "what was said already costs nothing");
    assert_eq!(optimized(&ben).await.source, AdviceSource::Remote, "everybody has their own");
    assert_eq!(ai.asked(), 3);
    clock.advance(Duration::from_secs(86_400));
    assert_eq!(optimized(&ana).await.source, AdviceSource::Remote);
    assert_eq!(calls(&server, "budget_spent").await, 1.0);
}

#[tokio::test]
async fn the_club_has_so_many_questions_a_day_whoever_asks() {
    let ai = AiService::start().await;
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let uses = uses(&ai);
    let server = Server::at(&clock, |settings| {
        uses(settings);
        settings.auth.access_token_ttl = Duration::from_secs(3 * 86_400);
        settings.ai.ai_daily_budget_club = 2;
    })
    .await;
    let ana = works_at(&server, "Ana", "Acme", "Engineer").await;
    let ben = works_at(&server, "Ben", "Acme", "Lawyer").await;
    for member in [&ana, &ben] {
        assert_eq!(optimized(member).await.source, AdviceSource::Remote);
    }
    let newcomer = works_at(&server, "Finn", "Globex", "Doctor").await;
    assert_eq!(optimized(&newcomer).await.fallback, Some(AdviceFallback::BudgetSpent));
    assert_eq!(ai.asked(), 2);
    clock.advance(Duration::from_secs(86_400));
    assert_eq!(optimized(&newcomer).await.source, AdviceSource::Remote);
}

#[tokio::test]
async fn so_many_questions_are_asked_at_a_time_and_nobody_waits_for_their_turn() {
    let (ai, server, ana) = club(|settings| settings.ai.ai_concurrency = 1).await;
    let ben = works_at(&server, "Finn", "Globex", "Doctor").await;
    ai.behave(Behaviour::Hang);
    let waiting = tokio::spawn(async move { optimized(&ana).await });
    eventually("the first question", async || (ai.asked() == 1).then_some(())).await;
    let response = optimized(&ben).await;
    assert_eq!((response.source, response.fallback), (AdviceSource::Local, Some(AdviceFallback::Busy)));
    assert_eq!(ai.asked(), 1);
    let response = within("the deadline", waiting).await.unwrap();
    assert_eq!(response.fallback, Some(AdviceFallback::Timeout));
}

#[tokio::test]
async fn the_service_words_company_and_position_and_nothing_else() {
    let (ai, _server, ana) = club(|_| ()).await;
    let response = optimized(&ana).await;
    assert_eq!((response.source, response.fallback), (AdviceSource::Remote, None));
    let found: Vec<_> =
        response.suggestions.iter().map(|suggestion| (suggestion.field, suggestion.suggestion.as_deref())).collect();
    let expected = [
        (ProfileField::Phone, None),
        (ProfileField::Company, Some("In better words")),
        (ProfileField::Position, Some("In better words")),
        (ProfileField::Picture, None),
    ];
    assert_eq!(found, expected);
    let own: Value = ana.request(Method::GET, "/api/members/me", Value::Null).await.json().await.unwrap();
    assert_eq!(own["contact_info"]["company"], "Acme", "nothing is applied by itself");
    // Where nothing is written, there is nothing to word, and nothing to ask.
    patch(&ana, json!({ "contact_info": { "company": null, "position": null } })).await;
    assert_eq!(optimized(&ana).await.source, AdviceSource::Local);
    assert_eq!(ai.asked(), 1);
}
