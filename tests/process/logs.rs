//! What is logged, and what never is.

use std::process::Stdio;

use protocol::server::EntryPush;
use serde_json::{Value, json};

use crate::harness::{
    Member, eventually,
    process::{Process, command},
    server::http,
};

#[tokio::test]
async fn logs_are_json_with_one_line_for_a_connections_life_and_never_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let log = std::fs::File::create(&file).unwrap();
    let server = Process::spawn(command(folder.path()).env("LOG", "trace").stderr(Stdio::from(log)));
    let http = http();
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let ben = Member::register_at(server.addr, &http, "Ben").await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    anas.say(ben.id, "the content of a message").await;
    let _: EntryPush = bens.expect().await;
    ana.refresh().await;
    let wrong = json!({ "email": ana.auth.member.email, "password": "a wrong password" });
    http.post(format!("http://{}/api/auth/login", server.addr)).json(&wrong).send().await.unwrap();
    drop((anas, bens));
    server.signal("TERM");
    assert_eq!(server.wait().await.code(), Some(0));

    let log = std::fs::read_to_string(&file).unwrap();
    for secret in [
        "the content of a message",
        "a wrong password",
        &ana.password,
        &ana.auth.access_token,
        &ana.auth.refresh_token,
        &ana.auth.member.email,
    ] {
        assert!(!log.contains(secret), "{secret:?} is in the log");
    }
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let closed: Vec<&Value> = lines.iter().filter(|line| line["message"] == "connection closed").collect();
    assert_eq!(closed.len(), 2);
    for line in closed {
        for field in ["connection", "member", "peer", "received", "sent", "seconds"] {
            assert!(!line[field].is_null(), "{field} is not in {line}");
        }
    }
}

/// Found by an attacker: a proxy whose operator had told the server nothing of it opened the club to the world, without a word.
#[tokio::test]
async fn a_proxy_that_the_server_was_not_told_of_is_in_the_log_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let log = std::fs::File::create(&file).unwrap();
    let server = Process::spawn(command(folder.path()).env("LOG", "warn").stderr(Stdio::from(log)));
    let http = http();
    let ask = async |header: &str, value: &str| {
        let request = http.get(format!("http://{}/healthz", server.addr)).header(header, value);
        request.send().await.unwrap().status().as_u16()
    };
    for _ in 0..3 {
        assert_eq!(ask("host", "club.example.com").await, 421);
        assert_eq!(ask("x-forwarded-for", "198.51.100.7").await, 200);
        assert_eq!(ask("forwarded", "for=198.51.100.7").await, 200);
    }
    server.signal("TERM");
    assert_eq!(server.wait().await.code(), Some(0));
    let log = std::fs::read_to_string(&file).unwrap();
    let with = |words: &[&str]| log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(with(&["club.example.com", "PUBLIC_URL", "REGISTRATION"]), 1, "{log}");
    assert_eq!(with(&["127.0.0.1", "X-Forwarded-For", "TRUSTED_PROXIES does not name"]), 1, "{log}");
}

/// Found by an attacker: how long a wrong password takes tells of a member whose hash is much dearer than those of others; that it does was
/// said nowhere.
#[tokio::test]
async fn passwords_that_cost_more_than_is_made_up_for_are_in_the_log_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let server = Process::spawn(command(folder.path()).env("BCRYPT_COST", "8"));
    let http = http();
    for name in ["Ana", "Ben"] {
        Member::register_at(server.addr, &http, name).await;
    }
    server.signal("TERM");
    assert_eq!(server.wait().await.code(), Some(0));
    // Two steps are made up for, and no more.
    for (cost, is_said) in [("5", true), ("6", false)] {
        let file = folder.path().join("log");
        let log = std::fs::File::create(&file).unwrap();
        let mut server = command(folder.path());
        let server = Process::spawn(server.envs([("BCRYPT_COST", cost), ("LOG", "warn")]).stderr(Stdio::from(log)));
        let said = || {
            let log = std::fs::read_to_string(&file).unwrap();
            let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            lines.into_iter().find(|line| line["message"].as_str().is_some_and(|said| said.contains("made up for")))
        };
        if is_said {
            let said = eventually("the log says it", async || said()).await;
            assert_eq!((&said["hashes"], &said["above"], &said["more"]), (&json!(2), &json!(7), &json!(false)));
        }
        server.signal("TERM");
        assert_eq!(server.wait().await.code(), Some(0));
        assert_eq!(said().is_some(), is_said, "{cost}");
    }
}
