//! What a crash does not lose.

use std::{path::Path, process::Command, time::Duration};

use super::{register, shown, text};
use crate::harness::{
    Member, Server, eventually,
    expo::{Expo, Trouble, token},
    process::{self, Process},
    server::http,
};

fn command(folder: &Path, expo: &Expo, after: &str) -> Command {
    let mut command = process::command(folder);
    command.env("PUSH_EXPO_URL", expo.url().as_str()).env("PUSH_AFTER", after);
    command
}

#[tokio::test]
async fn a_message_that_waited_for_its_time_is_pushed_after_a_crash() {
    let mut expo = Expo::start().await;
    let folder = tempfile::tempdir().unwrap();
    let server = Process::spawn(&mut command(folder.path(), &expo, "1s"));
    let http = http();
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let ben = Member::register_at(server.addr, &http, "Ben").await;
    register(&ben, "phone", "ben").await;
    ana.connect().await.say(ben.id, "Before the crash").await;
    server.kill();
    assert!(expo.taken().is_empty());
    let server = Process::spawn(&mut command(folder.path(), &expo, "1s"));
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Before the crash", 1)]);
    ana.at(server.addr).connect().await.say(ben.id, "After it").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "After it (+1)", 2)]);
    server.kill();
}

#[tokio::test]
async fn a_push_that_was_under_way_is_sent_again_after_a_crash_and_one_that_was_taken_is_not() {
    let mut expo = Expo::start().await;
    let folder = tempfile::tempdir().unwrap();
    let server = Process::spawn(&mut command(folder.path(), &expo, "50ms"));
    let http = http();
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let ben = Member::register_at(server.addr, &http, "Ben").await;
    register(&ben, "phone", "ben").await;
    let mut anas = ana.connect().await;
    anas.say(ben.id, "One").await;
    assert_eq!(text(&expo.expect().await, "body"), "One");
    // The service has it, and so has the server a moment later: the next push has its turn after that.
    anas.say(ben.id, "Two").await;
    assert_eq!(text(&expo.expect().await, "body"), "Two (+1)");
    server.kill();
    let server = Process::spawn(&mut command(folder.path(), &expo, "50ms"));
    let cleo = Member::register_at(server.addr, &http, "Cleo").await;
    ana.at(server.addr).connect().await.say(cleo.id, "Hello").await;
    assert!(expo.taken().iter().filter(|push| text(push, "body") == "One").count() == 1);
    server.kill();
}

#[tokio::test]
async fn what_a_server_had_in_hand_when_it_died_is_pushed_seconds_after_it_is_back() {
    let mut expo = Expo::start().await;
    let folder = tempfile::tempdir().unwrap();
    let server = Process::spawn(&mut command(folder.path(), &expo, "50ms"));
    let http = http();
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let ben = Member::register_at(server.addr, &http, "Ben").await;
    register(&ben, "phone", "ben").await;
    expo.next([Trouble::Held]);
    ana.connect().await.say(ben.id, "Hello").await;
    eventually("the service to hold it", async || (!expo.requests().is_empty()).then_some(())).await;
    server.kill();
    let server = Process::spawn(&mut command(folder.path(), &expo, "50ms"));
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Hello", 1)]);
    server.kill();
}

#[tokio::test]
async fn a_server_that_stops_finishes_what_is_under_way() {
    let expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    expo.next([Trouble::Held]);
    ana.connect().await.say(ben.id, "Hello").await;
    eventually("the service to hold it", async || (!expo.requests().is_empty()).then_some(())).await;
    let (server, ()) = tokio::join!(server.restart(), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        expo.let_go();
    });
    let ana = ana.at(server.addr());
    ana.connect().await.say(ben.id, "Again").await;
    eventually("the next push", async || (expo.taken().len() >= 2).then_some(())).await;
    let taken = expo.taken();
    let bodies: Vec<&str> = taken.iter().map(|push| text(push, "body")).collect();
    assert_eq!(bodies, ["Hello", "Again (+1)"]);
    server.stop().await;
}

/// Found by a look with faults: who has read what was in memory for two seconds, and the number at the icon stayed for good.
#[tokio::test]
async fn a_number_at_an_icon_is_right_again_though_a_crash_came_after_what_was_read() {
    let mut expo = Expo::start().await;
    let folder = tempfile::tempdir().unwrap();
    let server = Process::spawn(&mut command(folder.path(), &expo, "2s"));
    let http = http();
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let ben = Member::register_at(server.addr, &http, "Ben").await;
    register(&ben, "phone", "ben").await;
    let message = ana.connect().await.say(ben.id, "Hello").await;
    let mut laptop = ben.connect_as("laptop", None).await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Hello", 1)]);
    // The service has it, and a moment later the server knows what the phone shows.
    let database = rusqlite::Connection::open(folder.path().join("data/members-book.db")).unwrap();
    eventually("what the phone shows to be stored", async || {
        database.query_row("SELECT badge FROM push_devices WHERE badge = 1", [], |row| row.get::<_, i64>(0)).ok()
    })
    .await;
    drop(database);
    laptop.read(message.conversation, message.seq).await;
    server.kill();
    let server = Process::spawn(&mut command(folder.path(), &expo, "50ms"));
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "", 0)]);
    server.kill();
}

/// Nobody had stored that it was taken, and what was read is not pushed again: so nobody took the number away.
#[tokio::test]
async fn a_number_that_was_set_before_a_crash_is_taken_away_though_nobody_knows_that_it_was_set() {
    let mut expo = Expo::start().await;
    let folder = tempfile::tempdir().unwrap();
    let server = Process::spawn(&mut command(folder.path(), &expo, "50ms"));
    let http = http();
    let ana = Member::register_at(server.addr, &http, "Ana").await;
    let ben = Member::register_at(server.addr, &http, "Ben").await;
    register(&ben, "phone", "ben").await;
    expo.next([Trouble::TakenAndHeld]);
    let message = ana.connect().await.say(ben.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Hello", 1)]);
    server.kill();
    let server = Process::spawn(&mut command(folder.path(), &expo, "50ms"));
    // Before the lease of the process that is gone is over.
    ben.at(server.addr).connect_as("laptop", None).await.read(message.conversation, message.seq).await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "", 0)]);
    server.kill();
}
