//! What becomes of pushes when the push service does not do what it should.

use std::time::Duration;

use members_book::clock::{Clock as _, ManualClock, SystemClock};

use super::{devices_of, register, shown, text};
use crate::harness::{
    Server, eventually,
    expo::{Expo, Trouble, token},
};

#[tokio::test]
async fn a_device_that_the_service_does_not_know_any_more_is_not_registered_any_more() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "gone").await;
    register(&ben, "laptop", "ben").await;
    expo.refuse(&token("gone"), ["DeviceNotRegistered"]);
    ana.connect().await.say(ben.id, "Hello").await;
    assert_eq!(text(&expo.expect().await, "to"), token("ben"));
    eventually("the end of the registration", async || (devices_of(&ben).await == ["laptop"]).then_some(())).await;
    eventually("that to be counted", async || {
        (server.metric(r#"push_tasks_total{outcome="gone"}"#).await == 1.0).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn what_the_service_finds_too_long_is_said_without_its_text() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    expo.refuse(&token("ben"), ["MessageTooBig"]);
    ana.connect().await.say(ben.id, &"é".repeat(4_000)).await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "New message", 1)]);
    server.stop().await;
}

#[tokio::test]
async fn what_is_too_much_for_a_device_or_has_no_ticket_is_told_later_and_once() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    let cleo = server.member("Cleo").await;
    register(&ben, "phone", "ben").await;
    register(&cleo, "phone", "cleo").await;
    expo.refuse(&token("ben"), ["MessageRateExceeded"]);
    let mut anas = ana.connect().await;
    anas.say(ben.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Hello", 1)]);
    expo.next([Trouble::NoTickets]);
    anas.say(cleo.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("cleo"), "Hello", 1)]);
    assert_eq!(expo.taken().len(), 2);
    assert_eq!(server.metric(r#"push_tasks_total{outcome="postponed"}"#).await, 2.0);
    server.stop().await;
}

#[tokio::test]
async fn while_the_service_is_down_nothing_is_lost_and_what_was_read_meanwhile_is_not_told() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    let cleo = server.member("Cleo").await;
    register(&ben, "phone", "ben").await;
    register(&cleo, "phone", "cleo").await;
    expo.next([Trouble::Status(503), Trouble::Status(503)]);
    let mut anas = ana.connect().await;
    let message = anas.say(ben.id, "For Ben").await;
    anas.say(cleo.id, "For Cleo").await;
    eventually("the service to be asked", async || (!expo.requests().is_empty()).then_some(())).await;
    ben.connect_as("laptop", None).await.read(message.conversation, message.seq).await;
    // Both were taken together or one after the other: Ben's may have gone before it was read.
    let mut told = vec![expo.expect().await];
    while text(&told[told.len() - 1], "to") != token("cleo") {
        told.push(expo.expect().await);
    }
    assert!(told.iter().filter(|push| text(push, "body") == "For Cleo").count() == 1, "{told:?}");
    assert_eq!(server.metric(r#"push_requests_total{service="expo",outcome="server_error"}"#).await, 2.0);
    server.stop().await;
}

#[tokio::test]
async fn what_is_read_while_it_waits_for_its_turn_is_not_told() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    expo.refuse(&token("ben"), ["MessageRateExceeded"]);
    let mut anas = ana.connect().await;
    let message = anas.say(ben.id, "Hello").await;
    eventually("the service to refuse it", async || (!expo.requests().is_empty()).then_some(())).await;
    ben.connect_as("laptop", None).await.read(message.conversation, message.seq).await;
    eventually("that it is not wanted any more", async || {
        let read = server.metric(r#"push_tasks_total{outcome="read"}"#).await;
        (read > 0.0).then_some(())
    })
    .await;
    let cleo = server.member("Cleo").await;
    register(&cleo, "phone", "cleo").await;
    anas.say(cleo.id, "Hello").await;
    assert_eq!(text(&expo.expect().await, "to"), token("cleo"));
    server.stop().await;
}

/// It has shown it, and it is not pushed again.
#[tokio::test]
async fn what_was_taken_and_not_answered_and_then_read_leaves_no_number_at_the_icon() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    let mut laptop = ben.connect_as("laptop", None).await;
    expo.next([Trouble::TakenAnd(502)]);
    let message = ana.connect().await.say(ben.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Hello", 1)]);
    laptop.read(message.conversation, message.seq).await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "", 0)]);
    assert_eq!(server.metric(r#"push_tasks_total{outcome="told"}"#).await, 0.0);
    server.stop().await;
}

#[tokio::test]
async fn a_slow_service_holds_nobody_else_up() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    let cleo = server.member("Cleo").await;
    register(&ben, "phone", "ben").await;
    register(&cleo, "phone", "cleo").await;
    expo.next([Trouble::Held]);
    let mut anas = ana.connect().await;
    anas.say(ben.id, "For Ben").await;
    eventually("the service to hold it", async || (!expo.requests().is_empty()).then_some(())).await;
    anas.say(cleo.id, "For Cleo").await;
    assert_eq!(text(&expo.expect().await, "to"), token("cleo"));
    expo.let_go();
    assert_eq!(text(&expo.expect().await, "to"), token("ben"));
    server.stop().await;
}

#[tokio::test]
async fn what_receipts_say_a_quarter_of_an_hour_later_counts() {
    let mut expo = Expo::start().await;
    let clock = ManualClock::at(SystemClock.now());
    let server = Server::at(&clock, |settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    expo.receipt(&token("ben"), "DeviceNotRegistered");
    ana.connect().await.say(ben.id, "Hello").await;
    expo.expect().await;
    eventually("the ticket to be stored", async || {
        (server.metric(r#"push_tasks_total{outcome="told"}"#).await > 0.0).then_some(())
    })
    .await;
    assert_eq!(devices_of(&ben).await, ["phone"]);
    clock.advance(Duration::from_secs(15 * 60));
    eventually("the receipt to be asked for", async || (expo.asked().len() == 1).then_some(())).await;
    let ben = ben.log_in().await;
    eventually("the end of the registration", async || devices_of(&ben).await.is_empty().then_some(())).await;
    server.stop().await;
}

/// Found by a look from outside: within a day the repeated registration was the former one.
#[tokio::test]
async fn what_a_receipt_says_of_a_push_before_a_registration_was_repeated_does_not_end_it() {
    let mut expo = Expo::start().await;
    let clock = ManualClock::at(SystemClock.now());
    let server = Server::at(&clock, |settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    let cleo = server.member("Cleo").await;
    let mut anas = ana.connect().await;
    for (member, name) in [(&ben, "ben"), (&cleo, "cleo")] {
        register(member, "phone", name).await;
        expo.receipt(&token(name), "DeviceNotRegistered");
        anas.say(member.id, "Hello").await;
        assert_eq!(text(&expo.expect().await, "to"), token(name));
    }
    eventually("both tickets to be stored", async || {
        (server.metric(r#"push_tasks_total{outcome="told"}"#).await > 1.0).then_some(())
    })
    .await;
    clock.advance(Duration::from_secs(3 * 60));
    register(&ben, "phone", "ben").await;
    clock.advance(Duration::from_secs(12 * 60));
    let (ben, cleo) = (ben.log_in().await, cleo.log_in().await);
    // What is said of Ben's is believed, or not, before what is said of Cleo's.
    eventually("the end of one registration", async || devices_of(&cleo).await.is_empty().then_some(())).await;
    assert_eq!(expo.asked().len(), 2);
    assert_eq!(devices_of(&ben).await, ["phone"]);
    server.stop().await;
}

#[tokio::test]
async fn tickets_without_ids_are_tickets() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    expo.without_ids();
    ana.connect().await.say(ben.id, "Hello").await;
    expo.expect().await;
    eventually("the ticket to be stored", async || {
        (server.metric(r#"push_tasks_total{outcome="told"}"#).await > 0.0).then_some(())
    })
    .await;
    assert_eq!(expo.requests(), [1]);
    server.stop().await;
}

/// Whoever has many devices does not take what is there for all: what is more waits, and is one push with what comes meanwhile.
#[tokio::test]
async fn a_member_is_sent_so_many_pushes_at_a_time_and_nothing_is_lost() {
    let expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    for number in 0..20 {
        register(&ben, &format!("d{number}"), &format!("d{number}")).await;
    }
    let mut anas = ana.connect().await;
    let mut paced = 0.0;
    for number in 1..30 {
        anas.say(ben.id, &format!("{number}")).await;
        eventually("something to come of it", async || {
            let told = server.metric(r#"push_tasks_total{outcome="told"}"#).await;
            paced = server.metric(r#"rate_limited_total{limit="push_pace"}"#).await;
            (told >= f64::from(number) * 20.0 || paced > 0.0).then_some(())
        })
        .await;
        if paced > 0.0 {
            let last = format!("{number} (+{})", number - 1);
            eventually("all devices to be told all", async || {
                let taken = expo.taken();
                let told = taken.iter().filter(|push| text(push, "body") == last).count();
                (told >= 20).then_some(())
            })
            .await;
            break;
        }
    }
    assert!(paced > 0.0, "they were never too many");
    server.stop().await;
}
