//! Clocks that are wrong, and set right.

use std::time::Duration;

use members_book::clock::{Clock as _, ManualClock, SystemClock};
use protocol::Timestamp;

use super::{devices_of, register, settings_of, shown};
use crate::harness::{
    Server, eventually,
    expo::{Expo, Trouble, token},
};

const HOUR: Duration = Duration::from_secs(3_600);

/// A clock that is an hour ahead, and what it shows when it is set right.
fn ahead() -> (ManualClock, Timestamp) {
    let right = SystemClock.now();
    (ManualClock::at(right.after(HOUR)), right)
}

#[tokio::test]
async fn a_device_is_told_of_what_comes_after_its_registration_whatever_the_clock_shows() {
    let mut expo = Expo::start().await;
    let (clock, right) = ahead();
    let server = Server::at(&clock, |settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    let cleo = server.member("Cleo").await;
    let mut anas = ana.connect().await;
    anas.say(cleo.id, "Before").await;
    register(&ben, "phone", "ben").await;
    register(&cleo, "phone", "cleo").await;
    clock.set(right);
    anas.say(ben.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Hello", 1)]);
    anas.say(cleo.id, "After").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("cleo"), "After (+1)", 2)]);
    assert_eq!(expo.taken().len(), 2);
    // Registered again, it is of now.
    register(&ben, "phone", "ben").await;
    assert_eq!(settings_of(&ben).await.devices[0].registered_at, right);
    server.stop().await;
}

#[tokio::test]
async fn an_address_at_which_nobody_is_goes_though_it_was_registered_in_the_future() {
    let expo = Expo::start().await;
    let (clock, right) = ahead();
    let server = Server::at(&clock, |settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    clock.set(right);
    expo.refuse(&token("ben"), ["DeviceNotRegistered"]);
    ana.connect().await.say(ben.id, "Hello").await;
    eventually("the registration to end", async || devices_of(&ben).await.is_empty().then_some(())).await;
    server.stop().await;
}

#[tokio::test]
async fn what_waits_is_not_late_by_what_the_clock_was_set_back() {
    let mut expo = Expo::start().await;
    let (clock, right) = ahead();
    let server = Server::at(&clock, |settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    expo.next([Trouble::Status(500)]);
    ana.connect().await.say(ben.id, "Hello").await;
    // Until when is found out by the clock that is ahead: by one that is right it would be for longer than that stands still here.
    eventually("the push to be put off", async || {
        (server.metric(r#"push_tasks_total{outcome="postponed"}"#).await > 0.0).then_some(())
    })
    .await;
    // What it has put off is stored when it stops.
    clock.set(right);
    let server = server.restart_at(&clock, |_| ()).await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Hello", 1)]);
    server.stop().await;
}
