//! Pushes that wait, or are under way, while something else changes.

use std::{path::Path, time::Duration};

use members_book::{
    clock::{Clock as _, ManualClock, SystemClock},
    config::values::Switch,
};
use protocol::ServerFrame;
use reqwest::{Method, StatusCode};
use rusqlite::Connection;
use serde_json::json;

use super::{devices_of, register, shown, text};
use crate::harness::{
    Server,
    client::message_to,
    eventually,
    expo::{Expo, Trouble, token},
};

async fn outcome(server: &Server, name: &str, count: f64) {
    let metric = format!(r#"push_tasks_total{{outcome="{name}"}}"#);
    eventually(name, async || (server.metric(&metric).await == count).then_some(())).await;
}

/// The service has refused it for now, and it is tried again.
#[tokio::test]
async fn what_waits_is_not_pushed_to_who_logs_out_or_mutes_meanwhile() {
    let mut expo = Expo::start().await;
    let clock = ManualClock::at(SystemClock.now());
    let server = Server::at(&clock, |settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    let (cleo, dora) = (server.member("Cleo").await, server.member("Dora").await);
    let mut anas = ana.connect().await;
    let mut conversations = Vec::new();
    for (member, name) in [(&ben, "ben"), (&cleo, "cleo"), (&dora, "dora")] {
        register(member, "phone", name).await;
        expo.refuse(&token(name), ["MessageRateExceeded"]);
        conversations.push(anas.say(member.id, "Hello").await.conversation);
    }
    outcome(&server, "postponed", 3.0).await;
    assert_eq!(ben.request(Method::POST, "/api/auth/logout", json!({})).await.status(), StatusCode::NO_CONTENT);
    let path = format!("/api/conversations/{}/settings", conversations[1]);
    assert_eq!(cleo.request(Method::PUT, &path, json!({ "notify": "nothing" })).await.status(), StatusCode::OK);
    // All are due at once then.
    clock.advance(Duration::from_secs(10));
    assert_eq!(shown(&[expo.expect().await]), [(&*token("dora"), "Hello", 1)]);
    outcome(&server, "muted", 1.0).await;
    outcome(&server, "told", 1.0).await;
    assert_eq!(expo.taken().len(), 1);
    server.stop().await;
}

/// As with a token that the service finds wrong, which no app would have.
#[tokio::test]
async fn a_device_for_which_everything_is_refused_is_not_registered_any_more() {
    let mut expo = Expo::start().await;
    let clock = ManualClock::at(SystemClock.now());
    let server = Server::at(&clock, |settings| expo.set(settings)).await;
    let (mut ana, mut ben) = server.two_members().await;
    register(&ben, "phone", "wrong").await;
    register(&ben, "tablet", "ben").await;
    assert_eq!(ben.request(Method::DELETE, "/api/members/me/devices/tablet/push", json!(null)).await.status(), 204);
    expo.next([Trouble::Status(400); 20]);
    let mut anas = ana.connect().await;
    for number in 1..=19 {
        if number == 10 {
            // What is wrong with the server would be put right within an hour.
            clock.advance(Duration::from_secs(3_600));
            (ana, ben) = (ana.log_in().await, ben.log_in().await);
            anas = ana.connect().await;
        }
        anas.say(ben.id, "Hello").await;
        outcome(&server, "refused", f64::from(number)).await;
        assert_eq!(devices_of(&ben).await, ["phone"]);
    }
    anas.say(ben.id, "Hello").await;
    eventually("the end of the registration", async || devices_of(&ben).await.is_empty().then_some(())).await;
    outcome(&server, "ended", 1.0).await;
    // The app registers it again at its next start.
    register(&ben, "phone", "right").await;
    anas.say(ben.id, "Hello again").await;
    assert_eq!(text(&expo.expect().await, "to"), token("right"));
    server.stop().await;
}

/// Locks the database of a server: nothing is written until it is dropped.
fn lock(folder: &Path) -> Connection {
    let database = Connection::open(folder.join("test.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    database
}

/// What the service has taken cannot be written down, for longer than its lease is good.
#[tokio::test]
async fn a_database_that_is_locked_while_pushes_are_sent_doubles_none() {
    let mut expo = Expo::start().await;
    let clock = ManualClock::at(SystemClock.now());
    let server = Server::at(&clock, |settings| {
        expo.set(settings);
        settings.store.store_timeout = Duration::from_secs(1);
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let cleo = server.member("Cleo").await;
    register(&ben, "phone", "ben").await;
    expo.next([Trouble::Held]);
    let mut anas = ana.connect().await;
    anas.say(ben.id, "Hello").await;
    eventually("the service to hold it", async || (!expo.requests().is_empty()).then_some(())).await;
    let locked = lock(&server.settings().store.data_dir);
    expo.let_go();
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Hello", 1)]);
    let answer = anas.request(message_to(cleo.id, "Not now")).await;
    assert!(matches!(answer, ServerFrame::Error(_)), "{answer:?}");
    clock.advance(Duration::from_secs(60));
    drop(locked);
    let database = Connection::open(server.settings().store.data_dir.join("test.db")).unwrap();
    eventually("what became of it to be stored", async || {
        let waiting = database.query_row("SELECT count(*) FROM push_tasks", [], |row| row.get::<_, i64>(0)).unwrap();
        (waiting == 0).then_some(())
    })
    .await;
    let to_ben = expo.taken().into_iter().filter(|push| text(push, "to") == token("ben"));
    assert_eq!(to_ben.count(), 1);
    server.stop().await;
}

/// Found by a look from outside: it was, when they were turned on again.
#[tokio::test]
async fn what_was_stored_while_pushes_are_off_is_not_pushed_later() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    ana.connect().await.say(ben.id, "On").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "On", 1)]);
    let server = server.restart_with(|settings| settings.push.push = Switch::Off).await;
    ana.at(server.addr()).connect().await.say(ben.id, "Off").await;
    let server = server.restart_with(|settings| settings.push.push = Switch::On).await;
    let cleo = server.member("Cleo").await;
    cleo.connect().await.say(ben.id, "On again").await;
    // What is looked through at the start makes its tasks before that.
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "On again", 3)]);
    assert_eq!(expo.taken().len(), 2);
    server.stop().await;
}
