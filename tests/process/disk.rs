//! A disk that takes no more: requests fail with a clear error, nothing is acknowledged, and it all works again by
//! itself when there is room.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use members_book::clock::{Clock as _, SystemClock};
use protocol::{
    ClientFrame, ErrorCode, ServerFrame,
    server::{Error, MessageAccepted},
};
use reqwest::Method;
use serde_json::json;

use super::crash::preloadable;
use crate::harness::{
    Member,
    client::message_to,
    eventually,
    expo::{Expo, Trouble, token},
    process::{Process, command},
    server::http,
};

/// A server whose files may not grow beyond `kilobytes`.
fn limited(folder: &std::path::Path, kilobytes: u32) -> Process {
    limited_with(folder, kilobytes, &[])
}

/// The same with more settings.
fn limited_with(folder: &std::path::Path, kilobytes: u32, more: &[(&str, &str)]) -> Process {
    let mut server = command(folder);
    server.envs(more.iter().copied());
    // Writing beyond the limit is an error then, and not a deadly signal.
    let script = format!("trap '' XFSZ; ulimit -S -f {kilobytes}; exec \"$0\"");
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).arg(server.get_program()).current_dir(folder).env_clear();
    for (name, value) in server.get_envs() {
        shell.env(name, value.unwrap());
    }
    shell.env("LOG", "off").stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    Process::spawn(&mut shell)
}

/// How long files may be from now on.
fn make_room(server: &Process, bytes: &str) {
    let limit = format!("--fsize={bytes}:unlimited");
    let changed = Command::new("prlimit").args([&*limit, "--pid", &server.id().to_string()]).status().unwrap();
    assert!(changed.success());
}

#[tokio::test]
async fn a_full_disk_fails_requests_clearly_loses_nothing_and_is_got_over() {
    let folder = tempfile::tempdir().unwrap();
    let server = limited(folder.path(), 1500);
    let http = http();
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let ben = Member::register_at(server.addr, &http, "Ben").await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    let content = "x".repeat(4000);
    let mut acknowledged = Vec::new();
    let (refused, error) = loop {
        let frame = message_to(ben.id, &content);
        match anas.request(frame.clone()).await {
            ServerFrame::MessageAccepted(accepted) => acknowledged.push(accepted.message),
            ServerFrame::Error(error) => break (frame, error),
            other => panic!("{other:?}"),
        }
        assert!(acknowledged.len() < 10_000, "the limit has no effect");
    };
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.retry_after_ms.is_some());
    assert!(!acknowledged.is_empty());

    // The sockets stay, reading goes on, writing over REST fails as clearly, and health says so.
    assert_eq!(anas.history(acknowledged[0].conversation).await.last(), acknowledged.last());
    let patch = ana.request(Method::PATCH, "/api/members/me", json!({ "name": "Anna" })).await;
    assert_eq!(patch.status(), 503);
    let ready = http.get(format!("http://{}/readyz", server.addr)).send().await.unwrap();
    assert_eq!(ready.status(), 503);

    // Without a restart.
    make_room(&server, "unlimited");
    let retried: MessageAccepted = anas.ask(refused).await;
    assert!(!retried.duplicate, "what was refused was not stored");
    assert_eq!(retried.message.seq, acknowledged.len() as u64 + 1);
    acknowledged.push(retried.message);
    let ready = http.get(format!("http://{}/readyz", server.addr)).send().await.unwrap();
    assert_eq!(ready.status(), 200);
    for message in &acknowledged {
        assert_eq!(&bens.hear().await, message, "in order, and nothing that was refused");
    }

    server.kill();
    let server = Process::start(folder.path());
    let mut anas = ana.at(server.addr).connect().await;
    let conversation = anas.synced[0].clone();
    assert_eq!(conversation.last_seq, acknowledged.len() as u64);
    let _: protocol::server::Pong = anas.ask(ClientFrame::Ping(protocol::client::Ping {})).await;
}

/// What nobody could write down that it was sent is not sent; and what was sent is not sent again, though that could not be written down either.
#[tokio::test]
async fn while_the_disk_is_full_no_push_begins_and_none_is_doubled() {
    let mut expo = Expo::start().await;
    let folder = tempfile::tempdir().unwrap();
    let url = expo.url();
    let server = limited_with(folder.path(), 100_000, &[("PUSH_EXPO_URL", url.as_str()), ("PUSH_AFTER", "2s")]);
    let http = http();
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let ben = Member::register_at(server.addr, &http, "Ben").await;
    let cleo = Member::register_at(server.addr, &http, "Cleo").await;
    for (member, name) in [(&ben, "ben"), (&cleo, "cleo")] {
        let registration = json!({ "address": { "service": "expo", "token": token(name) }, "platform": "ios" });
        let response = member.request(Method::PUT, "/api/members/me/devices/phone/push", registration).await;
        assert_eq!(response.status(), 204);
    }
    expo.next([Trouble::Held]);
    let mut anas = ana.connect().await;
    anas.say(ben.id, "Sent").await;
    eventually("the service to hold it", async || (!expo.requests().is_empty()).then_some(())).await;
    anas.say(cleo.id, "Waits").await;
    make_room(&server, "0");
    expo.let_go();
    assert_eq!(expo.expect().await["body"], "Sent");
    // For longer than the other one has to wait, and than it is until a task is tried again.
    let full = Instant::now();
    while full.elapsed() < Duration::from_secs(5) {
        let answer = anas.request(message_to(cleo.id, "Not now")).await;
        assert!(matches!(answer, ServerFrame::Error(_)), "{answer:?}");
    }
    assert_eq!(expo.requests(), [1], "nothing else was tried");
    make_room(&server, "unlimited");
    assert_eq!(expo.expect().await["body"], "Waits");
    let database = rusqlite::Connection::open(folder.path().join("data/members-book.db")).unwrap();
    eventually("what became of both to be stored", async || {
        let waiting = database.query_row("SELECT count(*) FROM push_tasks", [], |row| row.get::<_, i64>(0)).unwrap();
        (waiting == 0).then_some(())
    })
    .await;
    let taken = expo.taken();
    assert_eq!(taken.iter().filter(|push| push["body"] == "Sent").count(), 1, "{taken:?}");
    server.kill();
}

/// Found by a look from outside: it was pushed to the device that has it when quiet hours were over.
#[tokio::test]
async fn what_a_device_says_that_it_has_while_the_disk_is_full_is_not_forgotten() {
    let expo = Expo::start().await;
    let folder = tempfile::tempdir().unwrap();
    let url = expo.url();
    let server = limited_with(folder.path(), 100_000, &[("PUSH_EXPO_URL", url.as_str()), ("PUSH_AFTER", "1s")]);
    let http = http();
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let ben = Member::register_at(server.addr, &http, "Ben").await;
    let registration = json!({ "address": { "service": "expo", "token": token("ben") }, "platform": "ios" });
    let registered = ben.request(Method::PUT, "/api/members/me/devices/phone/push", registration).await;
    assert_eq!(registered.status(), 204);
    let hour = SystemClock.now().as_millis() / 3_600_000;
    let [from, until] = [hour - 1, hour + 2].map(|hour| format!("{:02}:00", hour % 24));
    let quiet = json!({ "quiet_hours": { "from": from, "until": until, "time_zone": "UTC" } });
    assert_eq!(ben.request(Method::PATCH, "/api/members/me/push", quiet).await.status(), 200);
    let (mut anas, mut laptop) = (ana.connect().await, ben.connect_as("laptop", None).await);
    let mut phone = ben.connect_as("phone", None).await;
    let message = anas.say(ben.id, "Hello").await;
    laptop.hear().await;
    laptop.delivered(message.conversation, message.seq).await;
    let database = rusqlite::Connection::open(folder.path().join("data/members-book.db")).unwrap();
    let count = |of: &str| database.query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get::<_, i64>(0));
    eventually("the push to wait", async || (count("push_tasks").unwrap() == 1).then_some(())).await;
    make_room(&server, "0");
    phone.delivered(message.conversation, message.seq).await;
    // For longer than it takes until that is to be written.
    let full = Instant::now();
    while full.elapsed() < Duration::from_secs(5) {
        let answer = anas.request(message_to(ben.id, "Not now")).await;
        assert!(matches!(answer, ServerFrame::Error(_)), "{answer:?}");
    }
    assert_eq!(count("push_marks").unwrap(), 0);
    make_room(&server, "unlimited");
    eventually("what it has said to be written", async || (count("push_marks").unwrap() == 1).then_some(())).await;
    let none = json!({ "quiet_hours": null });
    assert_eq!(ben.request(Method::PATCH, "/api/members/me/push", none).await.status(), 200);
    eventually("nobody to be told", async || (count("push_tasks").unwrap() == 0).then_some(())).await;
    assert!(expo.taken().is_empty(), "{:?}", expo.taken());
    server.kill();
}

/// Found from outside: a message whose sync had failed was refused as if nothing had happened, and was there after a crash.
#[tokio::test]
async fn what_was_written_and_not_synced_is_open_and_a_retry_settles_it() {
    let folder = tempfile::tempdir().unwrap();
    let library = preloadable("fail_syncs", folder.path());
    let server = Process::spawn(command(folder.path()).env("LD_PRELOAD", library).env("LOG", "off"));
    let ana = Member::register_at(server.addr, &http(), "Ana").await;
    let ben = Member::register_at(server.addr, &http(), "Ben").await;
    let mut anas = ana.connect().await;
    anas.say(ben.id, "1").await;
    std::fs::write(folder.path().join("FAIL"), "").unwrap();
    let second = message_to(ben.id, "2");
    let error: Error = anas.ask(second.clone()).await;
    assert_eq!(error.code, ErrorCode::Timeout, "whether it is stored is not known");
    server.kill();
    let server = Process::start(folder.path());
    let mut anas = ana.at(server.addr).connect().await;
    let settled: MessageAccepted = anas.ask(second).await;
    assert_eq!(settled.message.seq, 2);
    assert_eq!(anas.say(ben.id, "3").await.seq, 3);
    assert_eq!(anas.history(settled.message.conversation).await.len(), 3);
}
