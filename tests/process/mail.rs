//! Mail over the death of the server, and what it says of mail when it starts.

use std::process::{Command, Stdio};

use protocol::{Problem, rest::AuthResponse};
use serde_json::json;

use super::command_line::{run, run_as};
use crate::harness::{
    eventually,
    process::{self, Process},
    server::http,
    smtp::{How, MailServer, Trouble},
};

fn sending(folder: &std::path::Path, mail: &MailServer) -> Command {
    let mut command = process::command(folder);
    command.env("SMTP_URL", mail.url()).env("SMTP_CA_FILE", mail.ca_file());
    command
        .env("MAIL_FROM", "club@example.com")
        .env("PUBLIC_URL", "https://club.example.com")
        .env("REGISTRATION", "open");
    command
}

/// Killed between the commit and the mail: whoever was answered gets theirs.
#[tokio::test]
async fn a_mail_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mail = MailServer::down(How::StartTls).await;
    let server = Process::spawn(&mut sending(folder.path(), &mail));
    let url = |server: &Process, path: &str| format!("http://{}/api/auth/{path}", server.addr);
    let mut emails = Vec::new();
    for number in 0..5 {
        let email = format!("member{number}@example.com");
        let body = json!({ "name": "Ana", "email": email, "password": "correct horse battery" });
        assert_eq!(http().post(url(&server, "register")).json(&body).send().await.unwrap().status(), 202);
        emails.push(email);
    }
    server.kill();
    mail.launch().await;
    let server = Process::spawn(&mut sending(folder.path(), &mail));
    let mut to = Vec::new();
    for number in 0..emails.len() {
        let received = mail.mail(number).await;
        let verified = http()
            .post(url(&server, "email/verify"))
            .json(&json!({ "token": received.token(), "password": "correct horse battery" }))
            .send();
        assert_eq!(verified.await.unwrap().status(), 204);
        to.push(received.to);
    }
    to.sort_unstable();
    assert_eq!(to, emails);
}

/// Killed as soon as each was answered: what a login and a change tell their member, and the sessions that the change ends.
#[tokio::test]
async fn what_a_login_and_a_change_tell_their_member_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let create = ["admin", "create", "--name", "Ana", "--email", "ana@example.com"];
    assert!(run(folder.path(), &create, "correct horse battery").status.success());
    let mail = MailServer::down(How::StartTls).await;
    let login = json!({ "email": "ana@example.com", "password": "correct horse battery" });
    let post = async |server: &Process, path: &str, body: &serde_json::Value| {
        let url = format!("http://{}/api/auth/{path}", server.addr);
        http().post(url).json(body).send().await.unwrap()
    };
    let server = Process::spawn(&mut sending(folder.path(), &mail));
    let first: AuthResponse = post(&server, "login", &login).await.json().await.unwrap();
    let second: AuthResponse = post(&server, "login", &login).await.json().await.unwrap();
    server.kill();
    let server = Process::spawn(&mut sending(folder.path(), &mail));
    let changed = http()
        .put(format!("http://{}/api/members/me/password", server.addr))
        .bearer_auth(&first.access_token)
        .json(&json!({ "current_password": "correct horse battery", "new_password": "battery staple horse" }))
        .send();
    assert_eq!(changed.await.unwrap().status(), 200);
    server.kill();
    let server = Process::spawn(&mut sending(folder.path(), &mail));
    let ended = post(&server, "refresh", &json!({ "refresh_token": second.refresh_token })).await;
    assert_eq!(ended.status(), 401);
    mail.launch().await;
    let mut subjects = [mail.mail(0).await.subject, mail.mail(1).await.subject];
    subjects.sort_unstable();
    assert!(subjects[0].contains("device") && subjects[1].contains("password was changed"), "{subjects:?}");
}

/// Found by faults: it waited for minutes, until the lease of the process that was killed ended.
#[tokio::test]
async fn a_mail_that_was_in_hand_at_a_kill_is_sent_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let mail = MailServer::start(How::StartTls).await;
    mail.expect([Trouble::Hangs]);
    let server = Process::spawn(&mut sending(folder.path(), &mail));
    let body = json!({ "name": "Ana", "email": "ana@example.com", "password": "correct horse battery" });
    let url = format!("http://{}/api/auth/register", server.addr);
    assert_eq!(http().post(url).json(&body).send().await.unwrap().status(), 202);
    mail.had_all().await;
    server.kill();
    let _server = Process::spawn(&mut sending(folder.path(), &mail));
    assert_eq!(mail.mail(0).await.to, "ana@example.com");
}

/// Found by faults: a mail whose link had ended meanwhile was gone without a word.
#[tokio::test]
async fn a_mail_that_is_dropped_with_its_link_is_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let log = std::fs::File::create(&file).unwrap();
    let has = async |words: &str| {
        let found = async || std::fs::read_to_string(&file).unwrap().contains(words).then_some(());
        eventually(words, found).await;
    };
    let create = ["admin", "create", "--name", "Ana", "--email", "ana@example.com"];
    assert!(run(folder.path(), &create, "correct horse battery").status.success());
    let mail = MailServer::down(How::StartTls).await;
    // Nor is there an administrator who could not be written to.
    let nowhere = ["admin", "create", "--name", "Rita", "--email", "rita@localhost"];
    let refused = run_as(sending(folder.path(), &mail), &nowhere, "correct horse battery");
    assert!(
        !refused.status.success()
            && String::from_utf8_lossy(&refused.stderr).contains("no mail goes to rita@localhost")
    );
    let server = Process::spawn(sending(folder.path(), &mail).env("LOG", "info").stderr(Stdio::from(log)));
    let post = async |path: &str, body: serde_json::Value| {
        let url = format!("http://{}/api/auth/password/{path}", server.addr);
        http().post(url).json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(post("forgot", json!({ "email": "ana@example.com" })).await, 202);
    has("no mail can be sent").await;
    let link = run(folder.path(), &["admin", "reset-link", "--email", "ana@example.com"], "");
    let link = String::from_utf8_lossy(&link.stdout).trim().to_owned();
    let token = link.split_once("?token=").unwrap().1;
    assert_eq!(post("reset", json!({ "token": token, "new_password": "battery staple horse" })).await, 200);
    mail.launch().await;
    has("a mail is dropped: its link has ended").await;
    assert_eq!(mail.mail(0).await.subject, "Your password was reset", "that is all");
}

/// Found by newcomers: the log said that no mail can be sent, and not to which server; and it said so when a member waited for the first one.
#[tokio::test]
async fn a_mail_server_that_is_not_reached_is_named_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let mail = MailServer::down(How::StartTls).await;
    let log = std::fs::File::create(&file).unwrap();
    let server = Process::spawn(sending(folder.path(), &mail).env("LOG", "warn").stderr(Stdio::from(log)));
    let named = format!("localhost:{}: connecting", mail.port());
    let says = async |words: &str| {
        let found = async || {
            let text = std::fs::read_to_string(&file).unwrap();
            text.lines().any(|line| line.contains(words) && line.contains(&named)).then_some(())
        };
        eventually(words, found).await;
    };
    says("the mail server cannot be used as it is set up").await;
    let body = json!({ "name": "Ana", "email": "ana@example.com", "password": "correct horse battery" });
    let url = format!("http://{}/api/auth/register", server.addr);
    assert_eq!(http().post(&url).json(&body).send().await.unwrap().status(), 202);
    says("no mail can be sent").await;
    for email in ["root@localhost", "ana@127.0.0.1", "ana%example.com@example.org"] {
        let body = json!({ "name": "Ana", "email": email, "password": "correct horse battery" });
        let refused = http().post(&url).json(&body).send().await.unwrap();
        assert_eq!(refused.status(), 422, "{email}");
        let problem: Problem = refused.json().await.unwrap();
        assert_eq!(problem.errors[0].field, "email", "{problem:?}");
    }
}

#[tokio::test]
async fn the_server_says_where_mail_goes_and_refuses_to_start_without_what_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let line = |server: &Process| {
        let line = server.banner.iter().find_map(|line| line.trim().strip_prefix("mail ")).unwrap();
        line.trim().to_owned()
    };
    let server = Process::start(folder.path());
    assert!(line(&server).starts_with("to the log"), "{:?}", server.banner);
    drop(server);
    let server = Process::spawn(process::command(folder.path()).env("HOST", "0.0.0.0"));
    assert!(line(&server).starts_with("none"), "{:?}", server.banner);
    drop(server);
    let mail = MailServer::down(How::StartTls).await;
    let server = Process::spawn(&mut sending(folder.path(), &mail));
    assert!(line(&server).contains("(STARTTLS), from club@example.com"), "{:?}", server.banner);
    assert!(!server.banner.iter().any(|line| line.contains("hunter")), "{:?}", server.banner);
    drop(server);
    for missing in ["MAIL_FROM", "PUBLIC_URL"] {
        let mut command = sending(folder.path(), &mail);
        let ended = command.env_remove(missing).stderr(Stdio::piped()).output().unwrap();
        let problem = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(problem.contains(&format!("{missing}: needed with SMTP_URL")), "{problem}");
    }
    let mut command = sending(folder.path(), &mail);
    let ended = command.env("SMTP_CA_FILE", "/nowhere.pem").stderr(Stdio::piped()).output().unwrap();
    assert!(String::from_utf8_lossy(&ended.stderr).contains("SMTP_CA_FILE: /nowhere.pem"));
}
