//! What is logged, and what never is.

use std::process::Stdio;

use protocol::server::MessagePush;
use serde_json::{Value, json};

use crate::harness::{
    Member,
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
    let _: MessagePush = bens.expect().await;
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
