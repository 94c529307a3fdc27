//! Push where several nodes serve one club.

use std::time::Duration;

use members_book::config::values::Switch;
use reqwest::StatusCode;

use super::{devices_of, register, shown, text, try_register};
use crate::harness::{
    expo::{Expo, token},
    fleet::Fleet,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_told_once_whichever_node_it_and_its_messages_come_to() {
    let mut expo = Expo::start().await;
    let fleet = Fleet::on_a_bus(2, |settings| {
        expo.set(settings);
        settings.push.push_after = Duration::from_secs(1);
    })
    .await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    // The other node is the one that it is registered at.
    register(&fleet.at(&ben, 1), "phone", "ben").await;
    assert_eq!(devices_of(&fleet.at(&ben, 0)).await, ["phone"]);
    let mut anas = ana.connect().await;
    anas.say(ben.id, "One").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "One", 1)]);
    // What is acknowledged at one node is not told by the other.
    let mut phone = fleet.at(&ben, 1).connect_as("phone", None).await;
    let message = anas.say(ben.id, "Two").await;
    phone.hear().await;
    phone.read(message.conversation, message.seq).await;
    let cleo = fleet.nodes[0].member("Cleo").await;
    register(&cleo, "phone", "cleo").await;
    anas.say(cleo.id, "Hello").await;
    let push = loop {
        let push = expo.expect().await;
        if text(&push, "to") == token("cleo") {
            break push;
        }
        assert_eq!((text(&push, "body"), push["badge"].as_u64()), ("", Some(0)), "{push}");
    };
    assert_eq!(text(&push, "body"), "Hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_that_is_gone_has_stored_is_pushed_by_another() {
    let mut expo = Expo::start().await;
    let mut fleet = Fleet::on_a_bus(2, |settings| {
        expo.set(settings);
        settings.push.push_after = Duration::from_secs(3);
    })
    .await;
    let (ana, ben) = fleet.nodes[1].two_members().await;
    register(&ben, "phone", "ben").await;
    let gone = fleet.nodes.remove(0);
    ana.clone().at(gone.addr()).connect().await.say(ben.id, "The last word").await;
    gone.stop().await;
    assert!(expo.taken().is_empty());
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "The last word", 1)]);
}

/// Found by a look with faults: a node believed for a minute what devices a member has, and without a bus nothing told it otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_bus_a_device_that_another_node_has_registered_is_told_of_the_next_message() {
    let mut expo = Expo::start().await;
    let fleet = Fleet::with(2, |settings| expo.set(settings)).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let cleo = fleet.nodes[0].member("Cleo").await;
    register(&ben, "laptop", "laptop").await;
    let mut anas = ana.connect().await;
    // The node has looked for the devices of both now: one has some and the other has none.
    anas.say(cleo.id, "One").await;
    anas.say(ben.id, "One").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("laptop"), "One", 1)]);
    register(&fleet.at(&ben, 1), "phone", "phone").await;
    register(&fleet.at(&cleo, 1), "phone", "cleo").await;
    anas.say(ben.id, "Two").await;
    anas.say(cleo.id, "Two").await;
    let mut told = Vec::new();
    while told.len() < 3 {
        let push = expo.expect().await;
        assert_eq!(text(&push, "body"), "Two (+1)", "{push}");
        told.push(text(&push, "to").to_owned());
    }
    told.sort_unstable();
    assert_eq!(told, [token("cleo"), token("laptop"), token("phone")]);
}

/// What docs/push.md says of a fleet in which `PUSH` is not the same everywhere: too little is pushed, and one push too much, and nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_pushes_nothing_keeps_no_other_from_it() {
    let mut expo = Expo::start().await;
    let mut fleet = Fleet::on_a_bus(1, |settings| {
        expo.set(settings);
        settings.push.push_after = Duration::from_secs(1);
    })
    .await;
    fleet.join(|settings| settings.push.push = Switch::Off).await;
    fleet.is_whole().await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    register(&ben, "phone", "ben").await;
    assert_eq!(try_register(&fleet.at(&ben, 1), "phone", "ben").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let mut phone = fleet.at(&ben, 1).connect_as("phone", None).await;
    let mut anas = ana.connect().await;
    let first = anas.say(ben.id, "One").await;
    phone.hear().await;
    phone.delivered(first.conversation, first.seq).await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "One", 1)], "nobody heard that the phone has it");
    let second = anas.say(ben.id, "Two").await;
    phone.hear().await;
    phone.read(second.conversation, second.seq).await;
    fleet.at(&ana, 1).connect_as("laptop", None).await.say(ben.id, "Three").await;
    anas.say(ben.id, "Four").await;
    // Numbers alone may come between, and on a slow machine a push of its own for the third.
    loop {
        let push = expo.expect().await;
        let body = text(&push, "body").to_owned();
        assert!(!body.starts_with("One") && !body.starts_with("Two"), "{push}");
        if body.starts_with("Four") {
            assert_eq!(push["badge"], 2, "what was read is known everywhere: {push}");
            break;
        }
    }
}
