//! `members-book demo`: a club to look at.

use std::{
    path::Path,
    process::{Output, Stdio},
};

use protocol::{
    model::UserType,
    rest::{AuthResponse, ConversationList, Directory, Unread},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::harness::{
    Member,
    database::Database,
    process::{Process, command},
    server::http,
    within,
};

fn demo(folder: &Path, url: &str, arguments: &[&str]) -> Output {
    let mut command = command(folder);
    command.arg("demo").args(arguments).env("DATABASE_URL", url).stderr(Stdio::piped()).output().unwrap()
}

/// The e-mail address and the password of those who can be logged in as.
fn logins(output: &Output) -> Vec<[String; 2]> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = said.lines().filter_map(|line| line.trim().split_once(" password "));
    let login = lines.map(|(who, password)| [who.split_whitespace().last().unwrap().to_owned(), password.to_owned()]);
    let logins: Vec<_> = login.collect();
    assert_eq!(logins.len(), 2, "{said}");
    logins
}

async fn log_in(server: &Process, [email, password]: &[String; 2]) -> Option<AuthResponse> {
    let url = format!("http://{}/api/auth/login", server.addr);
    let login = http().post(url).json(&json!({ "email": email, "password": password })).send();
    let response = within("login", login).await.unwrap();
    if response.status() == 200 { Some(response.json().await.unwrap()) } else { None }
}

async fn refresh(server: &Process, auth: &AuthResponse) -> u16 {
    let url = format!("http://{}/api/auth/refresh", server.addr);
    let refresh = http().post(url).json(&json!({ "refresh_token": auth.refresh_token })).send();
    within("refresh", refresh).await.unwrap().status().as_u16()
}

async fn get<T: DeserializeOwned>(server: &Process, auth: &AuthResponse, path: &str) -> T {
    let request = http().get(format!("http://{}{path}", server.addr)).bearer_auth(&auth.access_token);
    let response = within(path, request.send()).await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

#[expect(clippy::cognitive_complexity, reason = "what holds, one after the other")]
async fn can_be_looked_at(folder: &Path, url: &str) {
    let first = logins(&demo(folder, url, &["--members", "8"]));
    let server = Process::spawn(command(folder).env("DATABASE_URL", url));
    let before = log_in(&server, &first[0]).await.unwrap();
    drop(server);
    let second = logins(&demo(folder, url, &["--members", "12"]));
    let server = Process::spawn(command(folder).env("DATABASE_URL", url));
    assert!(!server.banner.iter().any(|line| line.trim().starts_with("setup")), "{:?}", server.banner);
    assert_eq!(refresh(&server, &before).await, 401, "sessions of former passwords are over");
    for ([first, second], role) in
        first.iter().zip(&second).map(|(a, b)| [a, b]).zip([UserType::Admin, UserType::Member])
    {
        assert_eq!(first[0], second[0]);
        assert!(log_in(&server, first).await.is_none(), "there are new passwords");
        assert_eq!(log_in(&server, second).await.unwrap().member.user_type, role);
    }
    let auth = log_in(&server, &second[1]).await.unwrap();
    let directory: Directory = get(&server, &auth, "/api/members").await;
    assert_eq!(directory.members.len(), 12, "those who were there are there once");
    assert!(directory.members.iter().any(|member| member.name == "Zoë Ångström"));
    assert!(directory.members.iter().any(|member| member.contact_info.company.is_some()));
    let conversations: ConversationList = get(&server, &auth, "/api/messages/conversations").await;
    assert!(conversations.conversations.len() >= 8, "{}", conversations.conversations.len());
    let unread: Unread = get(&server, &auth, "/api/messages/unread").await;
    assert!(unread.total > 0 && (unread.conversations.len()) < conversations.conversations.len());
    // What is said now comes after what was said.
    let other = conversations.conversations[0].last_message.as_ref().unwrap();
    let to = if other.sender_id == auth.member.id { other.receiver_id } else { other.sender_id };
    let message = json!({ "receiver_id": to, "content": "Hello!", "client_id": crate::harness::client_id() });
    let sent = http().post(format!("http://{}/api/messages", server.addr)).bearer_auth(&auth.access_token);
    let sent: serde_json::Value = sent.json(&message).send().await.unwrap().json().await.unwrap();
    assert_eq!(sent["seq"], other.seq + 1, "{sent}");

    // A server remembers what it has written: nobody else may write meanwhile, and a club of others is left alone.
    let refused = demo(folder, url, &[]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("DATABASE_URL"));
    Member::register_at(server.addr, &http(), "Somebody").await;
    drop(server);
}

#[tokio::test]
async fn a_demo_on_sqlite_can_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    can_be_looked_at(folder.path(), "sqlite:./demo.db").await;
    let refused = demo(folder.path(), "sqlite:./demo.db", &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("not of a demo club"), "{said}");
}

/// Whoever has registered with the address of one of its people must not become one of them.
#[tokio::test]
async fn a_demo_takes_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    for email in ["ines.vasconcelos@demo.example", "zoe.angstrom@demo.example"] {
        let url = format!("sqlite:./{}.db", email.len());
        let server = Process::spawn(command(folder.path()).env("DATABASE_URL", &url));
        let body = json!({ "name": "Somebody", "email": email, "password": "correct horse" });
        let registered = http().post(format!("http://{}/api/auth/register", server.addr)).json(&body).send();
        assert_eq!(within("registration", registered).await.unwrap().status(), 201);
        drop(server);
        let refused = demo(folder.path(), &url, &[]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains("not of a demo club"), "{said}");
    }
}

#[tokio::test]
async fn a_demo_on_mongodb_can_be_looked_at() {
    let (folder, database) = (tempfile::tempdir().unwrap(), Database::new().await);
    can_be_looked_at(folder.path(), &database.uri).await;
}
