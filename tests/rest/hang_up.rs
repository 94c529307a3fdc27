//! A decision takes effect, whoever hangs up.

use std::time::Duration;

use protocol::server::MemberPush;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::harness::{Client, Member, Server, within};

/// How long after the request the client is gone. Between the two, the server reads, commits and answers.
const GONE_AFTER: [Duration; 4] =
    [Duration::ZERO, Duration::from_micros(300), Duration::from_millis(1), Duration::from_millis(2)];
const TRIES: usize = 3;

/// Sends a whole request, and closes the connection without reading the answer.
async fn ask_and_hang_up(by: &Member, server: &Server, request: (Method, String, Value), after: Duration) {
    let (method, path, body) = request;
    let body = body.to_string();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        by.auth.access_token,
        body.len()
    );
    let mut stream = within("a connection", TcpStream::connect(server.addr())).await.unwrap();
    within("the request", stream.write_all(request.as_bytes())).await.unwrap();
    // Not to wait for anything: this is when the client goes.
    tokio::time::sleep(after).await;
}

/// Lets a client hang up on `ask` again and again; each time, `check` waits for what has to follow at the member's sockets.
async fn try_all(
    server: &Server,
    by: Option<&Member>,
    ask: impl AsyncFn(&Member) -> (Method, String, Value),
    check: impl AsyncFn(&mut Client),
) {
    for after in GONE_AFTER.iter().copied().cycle().take(GONE_AFTER.len() * TRIES) {
        let member = server.member("Ana").await;
        let mut client = member.connect().await;
        let request = ask(&member).await;
        ask_and_hang_up(by.unwrap_or(&member), server, request, after).await;
        check(&mut client).await;
    }
}

async fn closes_with(client: &mut Client, code: u16) {
    assert_eq!(client.expect_close().await.code.number(), code);
}

#[tokio::test]
async fn who_is_deactivated_is_disconnected() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ask = async |member: &Member| {
        (Method::PUT, format!("/api/admin/members/{}/active", member.id), json!({ "is_active": false }))
    };
    try_all(&server, Some(&admin), ask, async |client| closes_with(client, 4403).await).await;
}

#[tokio::test]
async fn who_logs_out_is_disconnected() {
    let server = Server::start().await;
    for all in [false, true] {
        let ask = async |_: &Member| (Method::POST, "/api/auth/logout".to_owned(), json!({ "all": all }));
        try_all(&server, None, ask, async |client| closes_with(client, 4401).await).await;
    }
}

#[tokio::test]
async fn whose_sessions_are_ended_is_disconnected() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ask = async |member: &Member| (Method::DELETE, format!("/api/admin/members/{}/sessions", member.id), json!({}));
    try_all(&server, Some(&admin), ask, async |client| closes_with(client, 4401).await).await;
}

#[tokio::test]
async fn who_leaves_is_disconnected() {
    let server = Server::start().await;
    let ask = async |_: &Member| (Method::DELETE, "/api/members/me".to_owned(), json!({}));
    try_all(&server, None, ask, async |client| closes_with(client, 4403).await).await;
}

#[tokio::test]
async fn a_session_whose_refresh_token_is_used_twice_is_disconnected() {
    let server = Server::start().await;
    let ask = async |member: &Member| {
        let next = member.with(member.refresh().await.json().await.unwrap());
        assert_eq!(next.request(Method::GET, "/api/members/me", Value::Null).await.status(), 200);
        (Method::POST, "/api/auth/refresh".to_owned(), json!({ "refresh_token": member.auth.refresh_token }))
    };
    try_all(&server, None, ask, async |client| closes_with(client, 4401).await).await;
}

#[tokio::test]
async fn a_change_of_the_role_is_pushed() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ask = async |member: &Member| {
        (Method::PUT, format!("/api/admin/members/{}/role", member.id), json!({ "user_type": "admin" }))
    };
    try_all(&server, Some(&admin), ask, async |client| {
        let push: MemberPush = client.expect().await;
        assert_eq!(push.member.user_type.as_str(), "admin");
    })
    .await;
}

#[tokio::test]
async fn the_end_of_the_waiting_is_not_the_end_of_the_work() {
    let server = Server::start().await;
    let mut members = Vec::new();
    for _ in 0..20 {
        members.push(server.member("Ana").await);
    }
    let server = server
        .restart_with(|settings| {
            settings.ai.ai_timeout = Duration::from_micros(500);
            settings.listen.request_timeout = Duration::from_millis(1);
        })
        .await;
    let mut given_up = 0;
    for member in members {
        let member = member.at(server.addr());
        let mut client = member.connect().await;
        match member.request(Method::DELETE, "/api/members/me", Value::Null).await.status().as_u16() {
            504 => given_up += 1,
            // The store was faster, as it is now and then.
            status => assert_eq!(status, 204),
        }
        closes_with(&mut client, 4403).await;
    }
    assert!(given_up > 0, "no request took too long");
}
