//! Who is told of what, and who is not.

use std::time::Duration;

use protocol::{
    ClientFrame,
    client::{PresenceSet, PushRegister, PushUnregister},
    model::{DeviceStatus, Platform},
    rest::PushAddress,
    server::Okay,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{devices_of, register, shown, text};
use crate::harness::{
    Server, eventually,
    expo::{Expo, Trouble, token},
};

#[tokio::test]
async fn a_member_who_is_not_there_is_told_who_has_written_what() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    let message = ana.connect().await.say(ben.id, "Hello, Ben").await;
    let push = expo.expect().await;
    let conversation = message.conversation.to_string();
    assert_eq!((text(&push, "to"), text(&push, "title"), text(&push, "body")), (&*token("ben"), "Ana", "Hello, Ben"));
    assert_eq!(
        push["data"],
        json!({
            "kind": "message", "conversation": conversation, "seq": 1, "message_id": message.id.to_string(),
            "sender": ana.id.to_string(),
        })
    );
    assert_eq!((push["badge"].as_u64(), text(&push, "collapseId")), (Some(1), &*conversation));
    assert!(push["ttl"].as_u64().unwrap() > 3 * 3_600);
    server.stop().await;
}

#[tokio::test]
async fn who_acknowledges_is_not_told_and_a_device_that_does_not_is_connected_or_not() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| {
        expo.set(settings);
        settings.push.push_after = Duration::from_secs(2);
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let cleo = server.member("Cleo").await;
    for (member, device) in [(&ben, "phone"), (&ben, "laptop"), (&ben, "tablet"), (&cleo, "phone")] {
        register(member, device, &format!("{}-{device}", member.id)).await;
    }
    let (mut phone, mut laptop) = (ben.connect_as("phone", None).await, ben.connect_as("laptop", None).await);
    let mut anas = ana.connect().await;
    let message = anas.say(ben.id, "Hello, Ben").await;
    anas.say(cleo.id, "Hello, Cleo").await;
    phone.hear().await;
    laptop.hear().await;
    phone.delivered(message.conversation, message.seq).await;
    // The laptop is asleep and the tablet is not there. Cleo's push shows that the time is over.
    let told = [expo.expect().await, expo.expect().await, expo.expect().await];
    let mut to: Vec<&str> = told.iter().map(|push| text(push, "to")).collect();
    to.sort_unstable();
    let mut expected = [("laptop", &ben), ("tablet", &ben), ("phone", &cleo)]
        .map(|(device, member)| token(&format!("{}-{device}", member.id)));
    expected.sort();
    assert_eq!(to, expected);
    // What is read is not told to anybody.
    let message = anas.say(ben.id, "And again").await;
    anas.say(cleo.id, "And you").await;
    laptop.hear().await;
    laptop.read(message.conversation, message.seq).await;
    loop {
        let push = expo.expect().await;
        assert_ne!(text(&push, "body"), "And again (+1)");
        if text(&push, "to") == token(&format!("{}-phone", cleo.id)) {
            break;
        }
        assert!(push.get("body").is_none(), "only the number at the icons of the others changes: {push}");
    }
    server.stop().await;
}

/// An app in the background that the system lets run, or a tab that nobody sees, has a message where nobody looks.
#[tokio::test]
async fn a_device_that_is_not_in_use_is_told_though_it_says_that_it_has_the_message() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| {
        expo.set(settings);
        settings.push.push_after = Duration::from_secs(2);
    })
    .await;
    let (ana, ben) = server.two_members().await;
    let cleo = server.member("Cleo").await;
    register(&ben, "phone", "ben").await;
    register(&cleo, "phone", "cleo").await;
    let (mut anas, mut phone) = (ana.connect().await, ben.connect_as("phone", None).await);
    let status = |status| ClientFrame::PresenceSet(PresenceSet { status });
    let _: Okay = phone.ask(status(DeviceStatus::Away)).await;
    let message = anas.say(ben.id, "Nobody looks").await;
    phone.hear().await;
    phone.delivered(message.conversation, message.seq).await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Nobody looks", 1)]);
    let _: Okay = phone.ask(status(DeviceStatus::Online)).await;
    let message = anas.say(ben.id, "Ben looks").await;
    phone.hear().await;
    phone.delivered(message.conversation, message.seq).await;
    // Cleo's push shows that the time is over.
    anas.say(cleo.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("cleo"), "Hello", 1)]);
    server.stop().await;
}

#[tokio::test]
async fn a_device_registers_itself_over_its_socket_and_ends_that() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    let mut bens = ben.connect_as("phone", None).await;
    let address = PushAddress::Expo { token: token("ben") };
    let register = PushRegister { address, platform: Platform::Android };
    let _: Okay = bens.ask(ClientFrame::PushRegister(register)).await;
    assert_eq!(devices_of(&ben).await, ["phone"]);
    let mut anas = ana.connect().await;
    anas.say(ben.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Hello", 1)]);
    let _: Okay = bens.ask(ClientFrame::PushUnregister(PushUnregister {})).await;
    assert!(devices_of(&ben).await.is_empty());
    // Nothing goes to it, and something to the one that comes after it.
    anas.say(ben.id, "Are you there?").await;
    let cleo = server.member("Cleo").await;
    super::register(&cleo, "phone", "cleo").await;
    anas.say(cleo.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("cleo"), "Hello", 1)]);
    server.stop().await;
}

#[tokio::test]
async fn further_messages_replace_the_push_of_the_first_and_the_badge_is_what_is_unread() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    let cleo = server.member("Cleo").await;
    register(&ben, "phone", "ben").await;
    let mut anas = ana.connect().await;
    let first = anas.say(ben.id, "One").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "One", 1)]);
    anas.say(ben.id, "Two").await;
    let second = expo.expect().await;
    assert_eq!(shown(std::slice::from_ref(&second)), [(&*token("ben"), "Two (+1)", 2)]);
    assert_eq!(text(&second, "collapseId"), first.conversation.to_string());
    cleo.connect().await.say(ben.id, "Hi").await;
    let other = expo.expect().await;
    assert_eq!(shown(std::slice::from_ref(&other)), [(&*token("ben"), "Hi", 3)]);
    assert_ne!(text(&other, "tag"), text(&second, "tag"));
    server.stop().await;
}

#[tokio::test]
async fn what_is_read_on_one_device_lowers_the_number_at_the_icon_of_the_other() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben-phone").await;
    let mut anas = ana.connect().await;
    let message = anas.say(ben.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben-phone"), "Hello", 1)]);
    let mut laptop = ben.connect_as("laptop", None).await;
    laptop.read(message.conversation, message.seq).await;
    let push = expo.expect().await;
    assert_eq!(shown(std::slice::from_ref(&push)), [(&*token("ben-phone"), "", 0)]);
    assert_eq!((&push["_contentAvailable"], push.get("title"), push.get("sound")), (&json!(true), None, None));
    // There is nothing to be taken away any more.
    let message = anas.say(ben.id, "Hello again").await;
    laptop.hear().await;
    laptop.read(message.conversation, message.seq).await;
    let cleo = server.member("Cleo").await;
    register(&cleo, "phone", "cleo").await;
    anas.say(cleo.id, "Hello").await;
    loop {
        let push = expo.expect().await;
        if text(&push, "to") == token("cleo") {
            break;
        }
        // On a machine that was too slow to read in time.
        assert_eq!(text(&push, "body"), "Hello again", "{push}");
    }
    server.stop().await;
}

/// Found by a look from outside: it was not stored yet that the phone shows a number, and nobody compared afterwards.
#[tokio::test]
async fn what_is_read_while_its_push_is_under_way_leaves_no_number_at_the_icon() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    let cleo = server.member("Cleo").await;
    register(&ben, "phone", "ben").await;
    register(&cleo, "phone", "cleo").await;
    let (mut bens, mut cleos) = (ben.connect_as("laptop", None).await, cleo.connect_as("laptop", None).await);
    let mut anas = ana.connect().await;
    let of_cleo = anas.say(cleo.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("cleo"), "Hello", 1)]);
    expo.next([Trouble::TakenAndHeld]);
    let of_ben = anas.say(ben.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Hello", 1)]);
    bens.read(of_ben.conversation, of_ben.seq).await;
    // What was read until now was looked at when Cleo's number has changed.
    cleos.read(of_cleo.conversation, of_cleo.seq).await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("cleo"), "", 0)]);
    expo.let_go();
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "", 0)]);
    server.stop().await;
}

/// Nobody knows which of both the phone shows: the number that is right is told once more.
#[tokio::test]
async fn of_two_pushes_whose_tickets_come_in_another_order_the_number_is_right_in_the_end() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    let cleo = server.member("Cleo").await;
    register(&ben, "phone", "ben").await;
    expo.next([Trouble::TakenAndHeld]);
    ana.connect().await.say(ben.id, "From Ana").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "From Ana", 1)]);
    cleo.connect().await.say(ben.id, "From Cleo").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "From Cleo", 2)]);
    eventually("the second ticket to be stored", async || {
        (server.metric(r#"push_tasks_total{outcome="told"}"#).await > 0.0).then_some(())
    })
    .await;
    expo.let_go();
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "", 2)]);
    server.stop().await;
}

#[tokio::test]
async fn a_phone_that_has_another_owner_shows_nothing_of_the_former() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    let cleo = server.member("Cleo").await;
    register(&ben, "phone", "the-phone").await;
    register(&cleo, "phone", "the-phone").await;
    assert!(devices_of(&ben).await.is_empty());
    assert_eq!(devices_of(&cleo).await, ["phone"]);
    let mut anas = ana.connect().await;
    anas.say(ben.id, "For Ben").await;
    anas.say(cleo.id, "For Cleo").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("the-phone"), "For Cleo", 1)]);
    server.stop().await;
}

#[tokio::test]
async fn who_has_logged_out_is_told_nothing() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    let cleo = server.member("Cleo").await;
    let bens_laptop = ben.log_in().await;
    register(&ben, "phone", "ben-phone").await;
    register(&bens_laptop, "laptop", "ben-laptop").await;
    register(&cleo, "phone", "cleo").await;
    // That it is registered is remembered.
    let mut anas = ana.connect().await;
    anas.say(ben.id, "One").await;
    let both = [expo.expect().await, expo.expect().await];
    assert!(both.iter().all(|push| text(push, "body") == "One"));
    assert_eq!(ben.request(Method::POST, "/api/auth/logout", json!({})).await.status(), StatusCode::NO_CONTENT);
    anas.say(ben.id, "Two").await;
    anas.say(cleo.id, "Two").await;
    let mut told = [expo.expect().await, expo.expect().await].map(|push| text(&push, "to").to_owned());
    told.sort();
    assert_eq!(told, [token("ben-laptop"), token("cleo")]);
    assert_eq!(devices_of(&bens_laptop).await, ["laptop"]);
    // Whoever is suspended neither.
    server.set_active(ben.id, false).await;
    anas.say(cleo.id, "Three").await;
    assert_eq!(text(&expo.expect().await, "to"), token("cleo"));
    server.stop().await;
}

#[tokio::test]
async fn who_has_left_has_no_device_any_more() {
    let expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let ben = server.member("Ben").await;
    register(&ben, "phone", "ben").await;
    assert_eq!(ben.request(Method::DELETE, "/api/members/me", Value::Null).await.status(), StatusCode::NO_CONTENT);
    let cleo = server.member("Cleo").await;
    register(&cleo, "phone", "ben").await;
    assert_eq!(devices_of(&cleo).await, ["phone"]);
    server.stop().await;
}
