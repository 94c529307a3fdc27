//! What every answer has around it: rate limits, request ids, security headers, compression, origins.

use protocol::ErrorCode;
use reqwest::{Method, StatusCode, header};
use serde_json::Value;

use super::code;
use crate::harness::{Server, client};

#[tokio::test]
async fn a_member_is_told_what_is_left_and_when_to_come_back() {
    let server = Server::with(|settings| {
        settings.rates.rate_requests = 1;
        settings.rates.rate_requests_burst = 3;
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let me = async |member: &crate::harness::Member| member.request(Method::GET, "/api/members/me", Value::Null).await;
    let first = me(&ana).await;
    assert_eq!(first.headers()["ratelimit-policy"], r#""member";q=3;w=3"#);
    assert_eq!(first.headers()["ratelimit"], r#""member";r=2;t=1"#);
    let mut refused = me(&ana).await;
    for _ in 0..10 {
        if refused.status() == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        refused = me(&ana).await;
    }
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.headers()["ratelimit"], r#""member";r=0;t=1"#);
    assert_eq!(code(refused).await, ErrorCode::RateLimited);
    assert_eq!(me(&ben).await.status(), 200, "another member has an allowance of their own");
    assert_eq!(server.http().get(server.url("/healthz")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_address_is_limited_and_a_trusted_proxy_speaks_for_many() {
    let server = Server::with(|settings| {
        settings.rates.rate_address = 1;
        settings.rates.rate_address_burst = 2;
        settings.listen.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let from = async |address: &str| {
        let request = server.http().get(server.url("/api/members")).header("x-forwarded-for", address);
        request.send().await.unwrap()
    };
    let until_refused = async |address: &str| {
        for _ in 0..10 {
            if from(address).await.status() == StatusCode::TOO_MANY_REQUESTS {
                return true;
            }
        }
        false
    };
    assert!(until_refused("198.51.100.7").await);
    assert!(until_refused("203.0.113.1, 198.51.100.8").await);
    assert_eq!(from("198.51.100.9").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(from("198.51.100.8, 198.51.100.10").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn every_answer_has_an_id_and_says_how_to_treat_it() {
    let server = Server::start().await;
    let ask = async |id: Option<&str>| {
        let request = server.http().get(server.url("/api/members/me"));
        let request = id.into_iter().fold(request, |request, id| request.header("x-request-id", id));
        request.send().await.unwrap()
    };
    assert_eq!(ask(Some("trace-1.2:3")).await.headers()["x-request-id"], "trace-1.2:3");
    let made = ask(None).await.headers()["x-request-id"].clone();
    assert_eq!(made.len(), 24);
    for unfit in ["a b", &"x".repeat(65), "a\u{7f}"] {
        if let Ok(unfit) = header::HeaderValue::from_str(unfit) {
            let response = ask(unfit.to_str().ok()).await;
            assert_ne!(response.headers()["x-request-id"], unfit);
        }
    }
    let response = ask(None).await;
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
}

#[tokio::test]
async fn long_answers_are_compressed_and_short_ones_are_not() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    for number in 0..10 {
        server.member(&format!("Member {number}")).await;
    }
    let encoding = async |path: &str, accept: &str| {
        let request = server.http().get(server.url(path)).bearer_auth(&ana.auth.access_token);
        let response = request.header(header::ACCEPT_ENCODING, accept).send().await.unwrap();
        response.headers().get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(encoding("/api/members", "gzip").await.as_deref(), Some("gzip"));
    assert_eq!(encoding("/api/members", "gzip, br").await.as_deref(), Some("br"));
    assert_eq!(encoding("/api/members", "identity").await, None);
    assert_eq!(encoding("/api/members/me", "gzip, br").await, None);
}

#[tokio::test]
async fn a_page_of_another_site_cannot_open_a_socket() {
    let server = Server::start().await;
    let own = format!("http://{}", server.addr());
    let status = async |origin: Option<&str>| {
        let stream = tokio::net::TcpStream::connect(server.addr()).await.unwrap();
        client::upgrade_from(stream, origin).await
    };
    assert_eq!(status(None).await, 101);
    assert_eq!(status(Some("http://localhost:8081")).await, 101);
    assert_eq!(status(Some(&own)).await, 101, "an app sends the origin of the server itself");
    assert_eq!(status(Some("https://evil.example")).await, 403);
    assert_eq!(status(Some("null")).await, 403);
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let body = serde_json::json!({ "name": "x".repeat(70_000) });
    let response = ana.request(Method::PATCH, "/api/members/me", body).await;
    assert_eq!(code(response).await, ErrorCode::PayloadTooLarge);
    let request = server.http().get(server.url("/api/members/me")).header("x-long", "x".repeat(40_000));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}
