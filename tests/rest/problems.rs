//! Requests that are wrong before anybody looks at what they want; health; browsers.

use protocol::ErrorCode;
use reqwest::{Method, header};
use serde_json::Value;

use super::code;
use crate::harness::Server;

#[tokio::test]
async fn what_is_not_there_is_not_found_and_what_cannot_be_done_is_not_allowed() {
    let server = Server::start().await;
    let request =
        async |method: Method, path: &str| server.http().request(method, server.url(path)).send().await.unwrap();
    assert_eq!(code(request(Method::GET, "/api/nothing").await).await, ErrorCode::NotFound);
    assert_eq!(code(request(Method::GET, "/nothing").await).await, ErrorCode::NotFound);
    for beginning in ["/api", "/api/"] {
        let page = request(Method::GET, beginning).await;
        assert_eq!((page.status().as_u16(), page.url().path()), (200, "/api/docs/"), "{beginning}");
    }
    assert_eq!(code(request(Method::DELETE, "/api/auth/login").await).await, ErrorCode::MethodNotAllowed);
    assert_eq!(code(request(Method::POST, "/ws").await).await, ErrorCode::MethodNotAllowed);
}

#[tokio::test]
async fn a_body_has_to_be_json_of_a_bearable_size() {
    let server = Server::start().await;
    let post = async |content_type: &str, body: String| {
        let request = server.http().post(server.url("/api/auth/login")).header(header::CONTENT_TYPE, content_type);
        request.body(body).send().await.unwrap()
    };
    let json = "application/json";
    for malformed in ["", "{", "nonsense", "[]", "null", "{} {}", "\u{0}"] {
        assert_eq!(code(post(json, malformed.to_owned()).await).await, ErrorCode::Malformed, "{malformed}");
    }
    let said =
        async |body: &str| post(json, body.to_owned()).await.json::<Value>().await.unwrap()["detail"].to_string();
    assert!(said(r#"{"email":"\ud800"}"#).await.contains("a lone surrogate escape"));
    assert!(said("{\"email\":\"\n\"}").await.contains("a control character must be escaped"));
    let huge = format!("{{\"email\":\"{}\"}}", "x".repeat(70_000));
    assert_eq!(code(post(json, huge).await).await, ErrorCode::PayloadTooLarge);
    assert_eq!(code(post("text/plain", "{}".to_owned()).await).await, ErrorCode::UnsupportedMediaType);
    assert_eq!(code(post("Application/JSON; charset=utf-8", "{}".to_owned()).await).await, ErrorCode::ValidationFailed);
}

#[tokio::test]
async fn health_and_readiness_are_told() {
    let server = Server::start().await;
    for path in ["/healthz", "/readyz"] {
        let response = server.http().get(server.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.json::<Value>().await.unwrap()["status"], "ok");
    }
}

#[tokio::test]
async fn pages_of_known_origins_may_call_and_others_may_not() {
    let server = Server::start().await;
    let preflight = async |origin: &str| {
        let request = server
            .http()
            .request(Method::OPTIONS, server.url("/api/members/me"))
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "PATCH")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type");
        let response = request.send().await.unwrap();
        response.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(preflight("http://localhost:8081").await.as_deref(), Some("http://localhost:8081"));
    assert_eq!(preflight("https://evil.example").await, None);
}

#[tokio::test]
async fn requests_are_counted_by_route_and_not_by_path() {
    let server = Server::start().await;
    for path in ["/healthz", "/api/whatever", "/api/something-else"] {
        server.http().get(server.url(path)).send().await.unwrap();
    }
    let count = async |route: &str, status: u16| {
        let labels = format!(r#"{{method="GET",route="{route}",status="{status}"}}"#);
        server.metric(&format!("http_requests_total{labels}")).await
    };
    assert_eq!(count("/healthz", 200).await, 1.0);
    assert_eq!(count("unmatched", 404).await, 2.0);
}
