//! Guessing passwords, from many addresses.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use protocol::rest::AuthResponse;
use reqwest::Response;
use serde_json::{Value, json};

use crate::harness::{Member, Server};

const ACCOUNTS: usize = 100;
const ADDRESSES: usize = 1_000;
const GUESSES: usize = 10_000;

/// A server behind a proxy that says where requests come from.
async fn behind_a_proxy() -> Server {
    Server::with(|settings| settings.listen.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await
}

async fn log_in(server: &Server, from: &str, body: Value) -> Response {
    let request = server.http().post(server.url("/api/auth/login")).header("x-forwarded-for", from);
    request.json(&body).send().await.unwrap()
}

async fn with_proof(server: &Server, from: &str, member: &Member, proof: Option<&str>) -> Response {
    let email = &member.auth.member.email;
    let mut body = json!({ "email": email, "password": member.password });
    body["device_proof"] = json!(proof);
    log_in(server, from, body).await
}

fn address(number: usize) -> String {
    format!("10.{}.{}.{}", number % 250, number / 250 % 250, 1 + number % 7)
}

#[tokio::test]
async fn guesses_from_a_thousand_addresses_end_at_the_account_and_keep_no_member_out() {
    let server = behind_a_proxy().await;
    let members: Vec<Member> = stream::iter(0..ACCOUNTS).map(|_| server.member("Ana")).buffered(16).collect().await;
    let before = server.metric("password_seconds_count").await;
    let guess = |number: usize| {
        let (server, members) = (&server, &members);
        async move {
            // Half of the accounts do not exist, and nobody can tell.
            let email = match number % (2 * ACCOUNTS) {
                known if known < ACCOUNTS => members[known].auth.member.email.clone(),
                unknown => format!("nobody{unknown}@example.com"),
            };
            let body = json!({ "email": email, "password": format!("guess {number}") });
            (number % (2 * ACCOUNTS), log_in(server, &address(number % ADDRESSES), body).await.status().as_u16())
        }
    };
    let answers: Vec<(usize, u16)> = stream::iter(0..GUESSES).map(guess).buffer_unordered(64).collect().await;
    let mut hashed: BTreeMap<usize, u32> = BTreeMap::new();
    for (account, status) in answers {
        assert!(matches!(status, 401 | 429), "{status}");
        *hashed.entry(account).or_default() += u32::from(status == 401);
    }
    assert!(hashed.values().all(|hashed| *hashed == 10), "{hashed:?}");
    assert_eq!(server.metric("password_seconds_count").await - before, (20 * ACCOUNTS) as f64);
    // A stranger with the right password has to wait, and the member does not, wherever they are.
    for member in members.iter().step_by(10) {
        let stranger = with_proof(&server, "192.0.2.1", member, None).await;
        assert!(stranger.status() == 429 && stranger.headers().contains_key("retry-after"));
        let proof = member.auth.device_proof.as_deref();
        let own = with_proof(&server, "192.0.2.2", member, proof).await;
        assert_eq!(own.status(), 200);
        let own: AuthResponse = own.json().await.unwrap();
        assert_eq!(own.device_proof.as_deref(), proof, "a device stays the same");
    }
    // The proof of one member is nothing at the account of another.
    let foreign = with_proof(&server, "192.0.2.3", &members[0], members[1].auth.device_proof.as_deref()).await;
    assert_eq!(foreign.status(), 429);
}

#[tokio::test]
async fn a_device_has_so_many_wrong_passwords_as_well_and_the_right_one_gives_them_back() {
    let server = behind_a_proxy().await;
    let ana = server.member("Ana").await;
    let wrong = || {
        let mut body = json!({ "email": ana.auth.member.email, "password": "not this one" });
        body["device_proof"] = json!(ana.auth.device_proof);
        log_in(&server, "192.0.2.1", body)
    };
    for _ in 0..9 {
        assert_eq!(wrong().await.status(), 401);
    }
    assert_eq!(with_proof(&server, "192.0.2.1", &ana, ana.auth.device_proof.as_deref()).await.status(), 200);
    for _ in 0..10 {
        assert_eq!(wrong().await.status(), 401);
    }
    assert_eq!(wrong().await.status(), 429);
    // That of strangers is untouched.
    assert_eq!(with_proof(&server, "192.0.2.2", &ana, None).await.status(), 200);
    assert_eq!(with_proof(&server, "192.0.2.2", &ana, Some("nothing")).await.status(), 200);
    let too_long = with_proof(&server, "192.0.2.2", &ana, Some(&"x".repeat(200))).await;
    assert_eq!(super::fields(too_long).await, ["device_proof"]);
}
