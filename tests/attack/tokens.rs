//! A stolen refresh token is found out, whoever uses it first; what only looks like theft is not punished: an answer that was lost, and two
//! tabs that refresh at once.

use futures_util::future::join_all;
use protocol::{CloseCode, ErrorCode, rest::AuthResponse};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::post;
use crate::harness::{Member, Server, eventually};

async fn refresh(server: &Server, token: &str) -> Response {
    post(server, "/api/auth/refresh", json!({ "refresh_token": token })).await
}

async fn tokens(response: Response) -> AuthResponse {
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

async fn code(response: Response) -> ErrorCode {
    response.json::<protocol::Problem>().await.unwrap().code
}

async fn is_good(server: &Server, token: &str) -> bool {
    let asked = server.http().get(server.url("/api/members/me")).bearer_auth(token).send();
    asked.await.unwrap().status() == 200
}

/// A member and somebody who has got their tokens.
async fn robbed(server: &Server) -> (Member, Member) {
    let ana = server.member("Ana").await;
    (ana.clone(), ana)
}

#[tokio::test]
async fn a_thief_who_is_first_is_found_out_by_the_member_and_loses_everything() {
    let server = Server::start().await;
    let (ana, mut thief) = robbed(&server).await;
    let elsewhere = ana.log_in().await;
    thief.auth = tokens(thief.refresh().await).await;
    let mut socket = thief.connect().await;
    // The app of the member refreshes when its access token is over, or before.
    assert_eq!(code(ana.refresh().await).await, ErrorCode::RefreshTokenReused);
    assert_eq!(socket.expect_close().await.code, CloseCode::Unauthorized);
    assert!(!is_good(&server, &thief.auth.access_token).await && !is_good(&server, &ana.auth.access_token).await);
    assert_eq!(code(thief.refresh().await).await, ErrorCode::RefreshTokenInvalid);
    // Other sessions of the member are not concerned, and the member comes back.
    assert!(is_good(&server, &elsewhere.auth.access_token).await);
    assert!(is_good(&server, &ana.log_in().await.auth.access_token).await);
}

#[tokio::test]
async fn a_thief_who_is_late_is_found_out_too() {
    let server = Server::start().await;
    let (mut ana, thief) = robbed(&server).await;
    for _ in 0..5 {
        ana.auth = tokens(ana.refresh().await).await;
        assert!(is_good(&server, &ana.auth.access_token).await);
    }
    let mut socket = ana.connect().await;
    assert_eq!(code(thief.refresh().await).await, ErrorCode::RefreshTokenReused);
    assert_eq!(socket.expect_close().await.code, CloseCode::Unauthorized);
    assert_eq!(code(ana.refresh().await).await, ErrorCode::RefreshTokenInvalid);
}

/// Who repeats a refresh gets what the other one has got: they are told apart as soon as both go on.
#[tokio::test]
async fn a_thief_who_refreshes_at_the_same_moment_is_found_out_at_the_next_one() {
    let server = Server::start().await;
    let (mut ana, mut thief) = robbed(&server).await;
    ana.auth = tokens(ana.refresh().await).await;
    thief.auth = tokens(thief.refresh().await).await;
    assert_eq!(ana.auth.refresh_token, thief.auth.refresh_token);
    assert!(is_good(&server, &ana.auth.access_token).await && is_good(&server, &thief.auth.access_token).await);
    thief.auth = tokens(thief.refresh().await).await;
    assert!(is_good(&server, &thief.auth.access_token).await);
    assert_eq!(code(ana.refresh().await).await, ErrorCode::RefreshTokenReused);
    assert!(!is_good(&server, &thief.auth.access_token).await);
    assert_eq!(code(thief.refresh().await).await, ErrorCode::RefreshTokenInvalid);
}

#[tokio::test]
async fn a_stolen_token_is_nothing_after_a_log_out() {
    let server = Server::start().await;
    let (ana, thief) = robbed(&server).await;
    assert_eq!(ana.request(Method::POST, "/api/auth/logout", Value::Null).await.status(), 204);
    assert_eq!(code(thief.refresh().await).await, ErrorCode::RefreshTokenInvalid);
    assert!(!is_good(&server, &thief.auth.access_token).await);
}

/// The connection breaks before the answer has come, again and again.
#[tokio::test]
async fn a_member_who_never_hears_the_answer_is_not_taken_for_a_thief() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let body = json!({ "refresh_token": ana.auth.refresh_token }).to_string();
    let length = body.len();
    let request = format!(
        "POST /api/auth/refresh HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    for number in 1..=5_u8 {
        let mut socket = TcpStream::connect(server.addr()).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let exchanged = async || {
            let rotated = server.metric("refreshes_total{result=\"rotated\"}").await;
            let again = server.metric("refreshes_total{result=\"again\"}").await;
            (rotated + again >= f64::from(number)).then_some(())
        };
        eventually("the exchange", exchanged).await;
        drop(socket);
    }
    assert_eq!(server.metric("refreshes_total{result=\"rotated\"}").await, 1.0);
    let heard = tokens(ana.refresh().await).await;
    assert!(is_good(&server, &heard.access_token).await);
    let next = tokens(refresh(&server, &heard.refresh_token).await).await;
    assert!(is_good(&server, &next.access_token).await);
    assert_eq!(server.metric("refreshes_total{result=\"reused\"}").await, 0.0);
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_is_repeated() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let first = tokens(ana.refresh().await).await;
    let again = tokens(ana.refresh().await).await;
    assert_eq!((&again.refresh_token, again.refresh_expires_at), (&first.refresh_token, first.refresh_expires_at));
    assert_ne!(again.access_token, first.access_token);
    assert_eq!(server.metric("refreshes_total{result=\"again\"}").await, 1.0);
    // What was there before is used still: that says nothing.
    assert!(is_good(&server, &ana.auth.access_token).await);
    assert_eq!(tokens(ana.refresh().await).await.refresh_token, first.refresh_token);

    assert!(is_good(&server, &again.access_token).await, "it has arrived");
    assert_eq!(code(ana.refresh().await).await, ErrorCode::RefreshTokenReused);
    for token in [&ana.auth.access_token, &first.access_token, &again.access_token] {
        assert!(!is_good(&server, token).await);
    }
    assert_eq!(code(refresh(&server, &first.refresh_token).await).await, ErrorCode::RefreshTokenInvalid);
    assert_eq!(server.metric("refreshes_total{result=\"reused\"}").await, 1.0);
}

/// Measured: of twenty members whose two tabs refreshed at once, twenty were logged out.
#[tokio::test]
async fn tabs_that_refresh_at_once_stay_signed_in() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let all = join_all((0..20).map(|_| ana.refresh())).await;
    let all: Vec<AuthResponse> = join_all(all.into_iter().map(tokens)).await;
    assert!(all.iter().all(|each| each.refresh_token == all[0].refresh_token));
    let good = join_all(all.iter().map(|each| is_good(&server, &each.access_token))).await;
    assert!(good.into_iter().all(|good| good));
    assert_eq!(server.metric("refreshes_total{result=\"rotated\"}").await, 1.0);
    let next = tokens(refresh(&server, &all[0].refresh_token).await).await;
    assert_ne!(next.refresh_token, all[0].refresh_token);
    assert_eq!(code(ana.refresh().await).await, ErrorCode::RefreshTokenReused, "two tokens ago");
}

#[tokio::test]
async fn a_hello_says_that_tokens_have_arrived() {
    let server = Server::start().await;
    let mut ana = server.member("Ana").await;
    let before = ana.clone();
    ana.auth = tokens(ana.refresh().await).await;
    let mut phone = ana.connect().await;
    assert_eq!(code(before.refresh().await).await, ErrorCode::RefreshTokenReused);
    assert_eq!(phone.expect_close().await.code, CloseCode::Unauthorized);
}

#[tokio::test]
async fn a_repeated_refresh_is_charged_and_a_reuse_is_not_put_off() {
    let server = Server::with(|settings| {
        settings.rates.rate_refreshes = 1;
        settings.rates.rate_refreshes_burst = 3;
    })
    .await;
    let ana = server.member("Ana").await;
    let mut last = ana.auth.clone();
    for _ in 0..3 {
        last = tokens(ana.refresh().await).await;
    }
    assert_eq!(code(ana.refresh().await).await, ErrorCode::RateLimited);
    assert!(is_good(&server, &last.access_token).await);
    assert_eq!(code(ana.refresh().await).await, ErrorCode::RefreshTokenReused);
}

#[tokio::test]
async fn an_answer_that_was_lost_before_the_secret_was_changed_comes_again() {
    let former = "the former secret of 32 bytes or more";
    let server = Server::with(|settings| settings.auth.jwt_secret = Some(former.into())).await;
    let ana = server.member("Ana").await;
    let lost = tokens(ana.refresh().await).await;
    let server = server
        .restart_with(|settings| {
            settings.auth.jwt_secret = Some("the new secret also of 32 bytes or more".into());
            settings.auth.jwt_secret_previous = vec![former.into()];
        })
        .await;
    let ana = ana.at(server.addr());
    let again = tokens(ana.refresh().await).await;
    assert_eq!(again.refresh_token, lost.refresh_token);
    let next = tokens(refresh(&server, &again.refresh_token).await).await;
    assert!(is_good(&server, &next.access_token).await);
}

const OF_ANA: &str = "the-attempt-of-ana";
const OF_THE_THIEF: &str = "the-attempt-of-the-thief";

/// Found by an attacker: a thief who exchanged the copied token too, and kept the answer until the member had used theirs, held whatever
/// followed, cycle after cycle, unseen.
#[tokio::test]
async fn a_thief_who_follows_is_found_out_within_one_cycle() {
    for thief_is_first in [true, false] {
        let server = Server::start().await;
        let (mut ana, mut thief) = robbed(&server).await;
        let elsewhere = ana.log_in().await;
        let refused = if thief_is_first {
            thief.auth = tokens(thief.refresh_by(OF_THE_THIEF).await).await;
            ana.refresh_by(OF_ANA).await
        } else {
            ana.auth = tokens(ana.refresh_by(OF_ANA).await).await;
            thief.refresh_by(OF_THE_THIEF).await
        };
        // Before anybody has used what the first has got.
        assert_eq!(code(refused).await, ErrorCode::RefreshTokenReused, "{thief_is_first}");
        assert!(!is_good(&server, &thief.auth.access_token).await && !is_good(&server, &ana.auth.access_token).await);
        for gone in [&ana, &thief] {
            assert_eq!(code(gone.refresh_by(OF_ANA).await).await, ErrorCode::RefreshTokenInvalid);
        }
        assert!(is_good(&server, &elsewhere.auth.access_token).await, "another session is not concerned");
        assert!(is_good(&server, &ana.log_in().await.auth.access_token).await);
        assert_eq!(server.metric("refreshes_total{result=\"reused\"}").await, 1.0);
    }
}

/// Who does not say an attempt is none of those who have said one.
#[tokio::test]
async fn a_thief_without_an_attempt_is_found_out_too() {
    let server = Server::start().await;
    let (mut ana, thief) = robbed(&server).await;
    ana.auth = tokens(ana.refresh_by(OF_ANA).await).await;
    let mut socket = ana.connect().await;
    assert_eq!(code(thief.refresh().await).await, ErrorCode::RefreshTokenReused);
    assert_eq!(socket.expect_close().await.code, CloseCode::Unauthorized);
}

/// Nor can a thief put the discovery off: what gives them away is not counted.
#[tokio::test]
async fn a_thief_who_uses_up_the_exchanges_of_the_member_is_found_out() {
    let server = Server::with(|settings| {
        settings.rates.rate_refreshes = 1;
        settings.rates.rate_refreshes_burst = 3;
    })
    .await;
    let (ana, thief) = robbed(&server).await;
    for _ in 0..3 {
        tokens(thief.refresh_by(OF_THE_THIEF).await).await;
    }
    assert_eq!(code(thief.refresh_by(OF_THE_THIEF).await).await, ErrorCode::RateLimited);
    assert_eq!(code(ana.refresh_by(OF_ANA).await).await, ErrorCode::RefreshTokenReused);
}

#[tokio::test]
async fn a_lost_answer_and_tabs_that_refresh_at_once_have_the_same_attempt() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let lost = tokens(ana.refresh_by(OF_ANA).await).await;
    let server = server.restart().await;
    let ana = ana.at(server.addr());
    let all = join_all((0..20).map(|_| ana.refresh_by(OF_ANA))).await;
    let all: Vec<AuthResponse> = join_all(all.into_iter().map(tokens)).await;
    assert!(all.iter().all(|each| each.refresh_token == lost.refresh_token));
    let good = join_all(all.iter().map(|each| is_good(&server, &each.access_token))).await;
    assert!(good.into_iter().all(|good| good));
    // The next exchange is another one.
    let next = ana.with(lost);
    let next = join_all((0..5).map(|_| next.refresh_by("the-next-attempt-of-ana"))).await;
    for each in join_all(next.into_iter().map(tokens)).await {
        assert!(is_good(&server, &each.access_token).await);
    }
    assert_eq!(server.metric("refreshes_total{result=\"reused\"}").await, 0.0);
}
