//! The documents and the pages that show them. `tests/browser` looks at the pages in a browser.

use std::io::Read as _;

use members_book::http::web::has_app;
use protocol::ErrorCode;
use reqwest::{Response, StatusCode, header};
use serde_json::Value;

use super::{code, problem};
use crate::harness::{Server, within};

async fn get(server: &Server, path: &str, accept_encoding: &str) -> Response {
    let request = server.http().get(server.url(path)).header(header::ACCEPT_ENCODING, accept_encoding);
    within(path, request.send()).await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

#[tokio::test]
async fn the_documents_are_those_in_the_repository_and_for_everybody() {
    let server = Server::start().await;
    for (path, committed) in [
        ("/api/openapi.json", include_str!("../../protocol/schema/openapi.json")),
        ("/api/asyncapi.json", include_str!("../../protocol/schema/asyncapi.json")),
    ] {
        let response = get(&server, path, "identity").await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(header(&response, "content-type"), "application/json");
        assert_eq!(header(&response, "cache-control"), "no-cache");
        let served: Value = response.json().await.unwrap();
        assert_eq!(served, serde_json::from_str::<Value>(committed).unwrap(), "{path}");
        assert_eq!(header(&get(&server, path, "gzip").await, "content-encoding"), "gzip");
    }
}

#[tokio::test]
async fn whoever_comes_without_a_path_is_told_where_everything_is() {
    let server = Server::start().await;
    let ask = async |accept: &str| {
        let request = server.http().get(server.url("/")).header(header::ACCEPT, accept);
        within("/", request.send()).await.unwrap()
    };
    let response = ask("text/html,application/xhtml+xml,*/*;q=0.8").await;
    assert_eq!(header(&response, "content-type"), "text/html; charset=utf-8");
    assert!(header(&response, "content-security-policy").starts_with("default-src 'none'; style-src 'self'; "));
    assert!(header(&response, "vary").contains("accept"));
    let page = response.text().await.unwrap();
    assert!(page.contains(env!("CARGO_PKG_VERSION")) && !page.contains('{'), "{page}");
    for link in page.split(['"', '\'']).filter(|text| text.starts_with("/api/")) {
        assert_eq!(get(&server, link, "gzip").await.status(), 200, "{link}");
    }
    let response = ask("*/*").await;
    assert_eq!(header(&response, "content-type"), "application/json");
    let service: Value = response.json().await.unwrap();
    assert_eq!(service["name"], "members-book");
    assert_eq!(service["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&service["api"], &service["websocket"]), (&"/api/openapi.json".into(), &"/ws".into()));
    assert_eq!(service["app"].is_string(), has_app());
}

/// As it is in this build: what it is made of is tested with a tiny one, where it is served.
#[tokio::test]
async fn the_app_is_served_if_it_is_in_the_binary() {
    let server = Server::start().await;
    let redirected = get(&server, "/app", "gzip").await;
    assert_eq!(redirected.url().path(), "/app/");
    let response = get(&server, "/app/members/anybody", "gzip").await;
    if !has_app() {
        let refused = problem(response).await;
        assert!(refused.code == ErrorCode::NotFound && refused.detail.contains("without the app"), "{refused:?}");
        return;
    }
    assert_eq!(header(&response, "content-type"), "text/html; charset=utf-8");
    assert_eq!(header(&response, "x-content-type-options"), "nosniff");
    assert_eq!(header(&response, "referrer-policy"), "no-referrer");
    assert_eq!(header(&response, "cross-origin-opener-policy"), "same-origin");
    let tag = header(&response, "etag").to_owned();
    let page = response.text().await;
    let known = server.http().get(server.url("/app/")).header(header::IF_NONE_MATCH, tag);
    assert_eq!(known.send().await.unwrap().status(), StatusCode::NOT_MODIFIED);
    let head = server.http().head(server.url("/app/")).send().await.unwrap();
    assert_eq!((head.status(), header(&head, "content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    for part in page.unwrap_or_default().split('"').filter(|text| text.starts_with("/app/")) {
        assert_eq!(get(&server, part, "gzip").await.status(), 200, "{part}");
    }
}

#[tokio::test]
async fn a_page_may_load_its_own_parts_and_nothing_else() {
    let server = Server::start().await;
    for (path, evaluates) in [("/api/docs/", false), ("/api/redoc", false), ("/api/asyncapi", true)] {
        let response = get(&server, path, "gzip").await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(header(&response, "content-type"), "text/html; charset=utf-8");
        assert_eq!(header(&response, "x-content-type-options"), "nosniff");
        let policy = header(&response, "content-security-policy").to_owned();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("http"), "{path}: {policy}");
        assert_eq!(policy.contains("'unsafe-eval'"), evaluates, "{path}: {policy}");
        let page = response.text().await.unwrap();
        assert!(!page.contains("://"), "{path} names another host");
        for part in page.split('"').filter(|text| text.starts_with("/api/assets/")) {
            assert_eq!(get(&server, part, "gzip").await.status(), 200, "{part}");
        }
    }
    let response = get(&server, "/api/docs", "gzip").await;
    assert_eq!(response.url().path(), "/api/docs/");
}

#[tokio::test]
async fn what_has_a_version_in_its_path_is_kept_for_ever_and_compressed_for_who_can_read_it() {
    let server = Server::start().await;
    let path = "/api/assets/redoc-2.5.4/redoc.standalone.js";
    let compressed = get(&server, path, "gzip, deflate, br").await;
    assert_eq!(header(&compressed, "content-encoding"), "gzip");
    assert_eq!(header(&compressed, "content-type"), "text/javascript; charset=utf-8");
    assert_eq!(header(&compressed, "cache-control"), "public, max-age=31536000, immutable");
    assert!(header(&compressed, "vary").contains("accept-encoding"));
    let plain = get(&server, path, "identity").await;
    assert_eq!(header(&plain, "content-encoding"), "");
    let (compressed, plain) = (compressed.bytes().await.unwrap(), plain.bytes().await.unwrap());
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&compressed[..]).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == plain, "both are the same script");

    for path in ["/api/assets/", "/api/assets/nothing.js", "/api/assets/../mod.rs", "/api/assets/redoc-2.5.4/"] {
        let response = get(&server, path, "gzip").await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(code(response).await, ErrorCode::NotFound);
    }
}

#[tokio::test]
async fn whoever_finds_a_problem_of_security_is_told_where_to_report_it() {
    let path = "/.well-known/security.txt";
    let server = Server::start().await;
    assert_eq!(code(get(&server, path, "identity").await).await, ErrorCode::NotFound, "not set");
    let server = Server::with(|settings| {
        settings.security.security_contact = vec!["mailto:security@example.com".to_owned()];
        settings.listen.public_url = "https://club.example.com".to_owned();
    })
    .await;
    let response = get(&server, path, "identity").await;
    assert_eq!((response.status().as_u16(), header(&response, "content-type")), (200, "text/plain; charset=utf-8"));
    let text = response.text().await.unwrap();
    let lines: Vec<(&str, &str)> = text.lines().map(|line| line.split_once(": ").unwrap()).collect();
    assert_eq!(lines.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["Contact", "Expires", "Canonical"]);
    assert_eq!(lines[0].1, "mailto:security@example.com");
    assert_eq!(lines[2].1, "https://club.example.com/.well-known/security.txt");
    let expires: protocol::Timestamp = lines[1].1.parse().unwrap();
    let day = std::time::Duration::from_secs(86_400);
    let now = members_book::clock::Clock::now(&members_book::clock::SystemClock);
    assert!(expires > now.after(day * 170) && expires < now.after(day * 365), "{text}");
}
