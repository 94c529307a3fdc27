//! What members and the club choose.

use std::time::Duration;

use members_book::{
    clock::ManualClock,
    config::{
        Settings,
        values::{PushShown, Switch},
    },
};
use protocol::{
    ClientFrame, CloseCode, ErrorCode, Timestamp,
    client::{PushRegister, PushUnregister},
    model::Platform,
    rest::{ClubInfo, Export, PushAddress, PushContent, PushKeys, PushSettings},
    server::{Error, Okay},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{choose, devices_of, register, settings_of, shown, text, try_register};
use crate::harness::{
    Server, eventually,
    expo::{Expo, Trouble, token},
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[tokio::test]
async fn as_much_is_shown_as_the_member_and_the_club_want() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    assert_eq!(settings_of(&ben).await.content, PushContent::Full);
    assert_eq!(choose(&ben, json!({ "content": "sender" })).await.content, PushContent::Sender);
    ana.connect().await.say(ben.id, "a secret").await;
    let push = expo.expect().await;
    assert_eq!((text(&push, "title"), text(&push, "body")), ("Ana", "New message"));
    choose(&ben, json!({ "content": "nothing" })).await;
    ana.connect().await.say(ben.id, "a secret").await;
    let push = expo.expect().await;
    assert_eq!((push.get("title"), text(&push, "body")), (None, "2 new messages"));
    // Nor which conversation it is, from which who has two members' ids could tell who they are.
    assert_eq!(push["data"], json!({ "kind": "message" }));
    let tag = text(&push, "tag").to_owned();
    assert!(tag.len() == 32 && text(&push, "collapseId") == tag, "{push}");
    ana.connect().await.say(ben.id, "a secret").await;
    assert_eq!(text(&expo.expect().await, "tag"), tag, "it takes the place of the one before");
    choose(&ben, json!({ "content": "full" })).await;
    let server = server.restart_with(|settings| settings.push.push_content = PushShown::Sender).await;
    let ana = ana.at(server.addr());
    ana.connect().await.say(ben.id, "a secret").await;
    let push = expo.expect().await;
    assert_eq!((text(&push, "title"), text(&push, "body")), ("Ana", "4 new messages"));
    assert!(expo.taken().iter().all(|push| !push.to_string().contains("secret")));
    server.stop().await;
}

#[tokio::test]
async fn in_quiet_hours_nothing_is_pushed_and_what_is_unread_at_their_end_is() {
    let mut expo = Expo::start().await;
    let clock = ManualClock::at(at("2026-12-01T21:59:00Z"));
    let server = Server::at(&clock, |settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    let night = json!({ "from": "22:00", "until": "07:30", "time_zone": "Europe/Lisbon" });
    choose(&ben, json!({ "quiet_hours": night })).await;
    let mut anas = ana.connect().await;
    anas.say(ben.id, "Good evening").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Good evening", 1)]);
    clock.set(at("2026-12-01T22:00:00Z"));
    anas.say(ben.id, "Good night").await;
    eventually("the push to be put off", async || {
        (server.metric(r#"push_tasks_total{outcome="quiet"}"#).await > 0.0).then_some(())
    })
    .await;
    assert_eq!(expo.taken().len(), 1);
    // Longer ago than PUSH_TTL, but for the night.
    clock.set(at("2026-12-02T07:30:00Z"));
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Good night (+1)", 2)]);
    let ben = ben.log_in().await;
    assert_eq!(choose(&ben, json!({ "quiet_hours": null })).await.quiet_hours, None);
    server.stop().await;
}

/// Waits until so many pushes were put off until the end of quiet hours.
async fn quiet(server: &Server, count: f64) {
    eventually("the push to be put off", async || {
        (server.metric(r#"push_tasks_total{outcome="quiet"}"#).await >= count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_the_end_of_quiet_hours_is_pushed_at_once_when_there_are_none_any_more() {
    let mut expo = Expo::start().await;
    let clock = ManualClock::at(at("2026-12-01T22:00:00Z"));
    let server = Server::at(&clock, |settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    let night =
        |until: &str| json!({ "quiet_hours": { "from": "22:00", "until": until, "time_zone": "Europe/Lisbon" } });
    choose(&ben, night("07:30")).await;
    ana.connect().await.say(ben.id, "Good night").await;
    quiet(&server, 1.0).await;
    // Longer ago than PUSH_TTL. A shorter night: it is over already.
    clock.set(at("2026-12-02T04:30:00Z"));
    let (ana, ben) = (ana.log_in().await, ben.log_in().await);
    choose(&ben, night("04:00")).await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Good night", 1)]);
    // A longer one is no end.
    choose(&ben, night("07:30")).await;
    ana.connect_as("laptop", None).await.say(ben.id, "Are you up?").await;
    quiet(&server, 2.0).await;
    choose(&ben, night("09:00")).await;
    quiet(&server, 3.0).await;
    assert_eq!(expo.taken().len(), 1);
    choose(&ben, json!({ "quiet_hours": null })).await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Are you up? (+1)", 2)]);
    server.stop().await;
}

/// A phone gets another token whenever its system likes.
#[tokio::test]
async fn what_waits_for_a_device_goes_to_the_token_that_it_has_by_then() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| {
        expo.set(settings);
        settings.push.push_after = Duration::from_secs(2);
    })
    .await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "one").await;
    expo.refuse(&token("one"), ["MessageRateExceeded"]);
    let mut anas = ana.connect().await;
    anas.say(ben.id, "Hello").await;
    eventually("the push to be put off", async || {
        (server.metric(r#"push_tasks_total{outcome="postponed"}"#).await > 0.0).then_some(())
    })
    .await;
    register(&ben, "phone", "two").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("two"), "Hello", 1)]);
    // While the device has its time to say that it has the message.
    anas.say(ben.id, "Again").await;
    register(&ben, "phone", "three").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("three"), "Again (+1)", 2)]);
    // And while the service is asked, which does not know the former one any more.
    expo.refuse(&token("three"), ["DeviceNotRegistered"]);
    let requests = expo.requests().len();
    expo.next([Trouble::Held]);
    anas.say(ben.id, "Still there?").await;
    eventually("the service to hold it", async || (expo.requests().len() > requests).then_some(())).await;
    register(&ben, "phone", "four").await;
    expo.let_go();
    assert_eq!(shown(&[expo.expect().await]), [(&*token("four"), "Still there? (+2)", 3)]);
    server.stop().await;
}

/// It is work of the store, whether there is a registration or not.
#[tokio::test]
async fn registering_and_ending_that_have_one_allowance() {
    let expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let ben = server.member("Ben").await;
    register(&ben, "phone", "ben").await;
    let path = "/api/members/me/devices/phone/push";
    let mut ended = 0;
    let refused = loop {
        let response = ben.request(Method::DELETE, path, Value::Null).await;
        if response.status() != StatusCode::NO_CONTENT {
            break response;
        }
        ended += 1;
        assert!(ended < 40, "nobody counts them");
    };
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(try_register(&ben, "phone", "ben").await.status(), StatusCode::TOO_MANY_REQUESTS);
    let mut phone = ben.connect_as("phone", None).await;
    let error: Error = phone.ask(ClientFrame::PushUnregister(PushUnregister {})).await;
    assert_eq!(error.code, ErrorCode::RateLimited);
    server.stop().await;
}

/// Whoever has copied an access token registers a device of their own with it.
#[tokio::test]
async fn what_was_registered_with_tokens_that_were_replaced_is_told_nothing() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, copied) = server.two_members().await;
    register(&copied, "phone", "ben").await;
    register(&copied, "thief", "thief").await;
    let mut before = copied.connect_as("phone", None).await;
    let body = json!({ "current_password": copied.password, "new_password": "battery staple" });
    let changed = copied.request(Method::PUT, "/api/members/me/password", body).await;
    let mut ben = copied.clone();
    ben.auth = changed.json().await.unwrap();
    assert_eq!(before.expect_close().await.code, CloseCode::Disconnected, "its client registers again by that");
    assert!(devices_of(&ben).await.is_empty());
    assert_eq!(try_register(&copied, "thief", "thief").await.status(), StatusCode::UNAUTHORIZED);
    register(&ben, "phone", "ben").await;
    ana.connect().await.say(ben.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Hello", 1)]);
    assert_eq!(expo.taken().len(), 1);
    server.stop().await;
}

/// Sessions that are over by their age are removed some time after that.
#[tokio::test]
async fn a_session_that_is_over_by_its_age_is_told_nothing() {
    let mut expo = Expo::start().await;
    let clock = ManualClock::at(at("2026-12-01T12:00:00Z"));
    let server = Server::at(&clock, |settings| {
        expo.set(settings);
        settings.auth.refresh_token_ttl = Duration::from_secs(7_200);
        settings.auth.session_lifetime = Duration::from_secs(7_200);
    })
    .await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    clock.set(at("2026-12-01T14:00:01Z"));
    let (ana, cleo) = (ana.log_in().await, server.member("Cleo").await);
    register(&cleo, "phone", "cleo").await;
    let mut anas = ana.connect().await;
    anas.say(ben.id, "Hello, Ben").await;
    anas.say(cleo.id, "Hello, Cleo").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("cleo"), "Hello, Cleo", 1)]);
    eventually("Ben's to be left out", async || {
        (server.metric(r#"push_tasks_total{outcome="signed_out"}"#).await > 0.0).then_some(())
    })
    .await;
    assert_eq!(expo.taken().len(), 1);
    server.stop().await;
}

/// As everything that one connection asks for one after the other.
#[tokio::test]
async fn registering_and_ending_that_are_done_in_the_order_in_which_they_were_asked_for() {
    let expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let ben = server.member("Ben").await;
    let mut phone = ben.connect_as("phone", None).await;
    for round in 0..10 {
        let address = PushAddress::Expo { token: token(&format!("ben-{round}")) };
        let register = ClientFrame::PushRegister(PushRegister { address, platform: Platform::Android });
        phone.post(register).await;
        let _: Okay = phone.ask(ClientFrame::PushUnregister(PushUnregister {})).await;
        assert!(devices_of(&ben).await.is_empty(), "{round}");
    }
    server.stop().await;
}

#[tokio::test]
async fn of_a_conversation_that_is_muted_nothing_is_pushed() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    let mut anas = ana.connect().await;
    let message = anas.say(ben.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Hello", 1)]);
    let path = format!("/api/conversations/{}/settings", message.conversation);
    let muted = json!({ "notify": "all", "muted_until": "9999-01-01T00:00:00.000Z" });
    for (count, settings) in
        [(1.0, muted), (2.0, json!({ "notify": "nothing" })), (3.0, json!({ "notify": "mentions" }))]
    {
        assert_eq!(ben.request(Method::PUT, &path, settings).await.status(), StatusCode::OK);
        anas.say(ben.id, "Not now").await;
        eventually("the push to be left out", async || {
            (server.metric(r#"push_tasks_total{outcome="muted"}"#).await == count).then_some(())
        })
        .await;
    }
    ben.request(Method::PUT, &path, json!({ "notify": "all" })).await;
    anas.say(ben.id, "And now?").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "And now? (+4)", 5)]);
    server.stop().await;
}

#[tokio::test]
async fn of_a_conversation_that_is_archived_messages_are_pushed_as_of_any_other() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    let mut anas = ana.connect().await;
    let message = anas.say(ben.id, "Hello").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Hello", 1)]);
    let path = format!("/api/conversations/{}/settings", message.conversation);
    for (count, settings) in [(2, json!({ "notify": "all", "archived": true })), (3, json!({ "notify": "all" }))] {
        assert_eq!(ben.request(Method::PUT, &path, settings).await.status(), StatusCode::OK);
        anas.say(ben.id, "Still there?").await;
        let text = format!("Still there? (+{})", count - 1);
        assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), &*text, count)]);
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_too_old_is_not_pushed() {
    let mut expo = Expo::start().await;
    let clock = ManualClock::at(at("2026-12-01T12:00:00Z"));
    let server = Server::at(&clock, |settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "ben").await;
    expo.refuse(&token("ben"), ["InvalidCredentials"]);
    let mut anas = ana.connect().await;
    anas.say(ben.id, "Lunch?").await;
    eventually("the push to be put off", async || {
        (server.metric(r#"push_tasks_total{outcome="postponed"}"#).await > 0.0).then_some(())
    })
    .await;
    clock.set(at("2026-12-01T16:00:01Z"));
    eventually("the push to be given up", async || {
        (server.metric(r#"push_tasks_total{outcome="expired"}"#).await > 0.0).then_some(())
    })
    .await;
    assert!(expo.taken().is_empty());
    let ana = ana.log_in().await;
    ana.connect_as("laptop", None).await.say(ben.id, "Dinner?").await;
    assert_eq!(shown(&[expo.expect().await]), [(&*token("ben"), "Dinner? (+1)", 2)]);
    server.stop().await;
}

#[tokio::test]
async fn a_club_that_pushes_nothing_says_so() {
    let server = Server::with(|settings| settings.push.push = Switch::Off).await;
    let (ana, ben) = server.two_members().await;
    let about =
        async || -> ClubInfo { server.http().get(server.url("/api/club")).send().await.unwrap().json().await.unwrap() };
    assert!(!about().await.push.enabled);
    let refused = try_register(&ben, "phone", "ben").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], ErrorCode::PushUnavailable.as_str());
    ana.connect().await.say(ben.id, "Hello").await;
    assert!(devices_of(&ben).await.is_empty());
    server.stop().await;
    let server = Server::start().await;
    let about: ClubInfo = server.http().get(server.url("/api/club")).send().await.unwrap().json().await.unwrap();
    assert!(about.push.enabled && about.push.web_key.is_none());
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_registered_or_chosen_is_named() {
    let server = Server::start().await;
    let ben = server.member("Ben").await;
    let field = async |method: Method, path: &str, body: Value| {
        let response = ben.request(method, path, body.clone()).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        let problem: Value = response.json().await.unwrap();
        problem["errors"][0]["field"].as_str().unwrap().to_owned()
    };
    let device = "/api/members/me/devices/phone/push";
    let bad_token = json!({ "address": { "service": "expo", "token": "https://evil.example" }, "platform": "ios" });
    assert_eq!(field(Method::PUT, device, bad_token).await, "address.token");
    for (address, named) in [
        (json!({ "service": "expo", "token": 5 }), "address.token"),
        (json!({ "service": "expo" }), "address.token"),
        (json!({ "service": "sms" }), "address.service"),
        (json!(["expo", token("ben")]), "address"),
        (json!({ "service": "web", "endpoint": "https://push.example/x", "keys": ["a", "b"] }), "address.keys"),
        (
            json!({ "service": "web", "endpoint": "https://push.example/x", "keys": { "auth": "a" } }),
            "address.keys.p256dh",
        ),
    ] {
        assert_eq!(field(Method::PUT, device, json!({ "address": address, "platform": "ios" })).await, named);
    }
    let array = json!({ "quiet_hours": ["22:00", "07:00", "UTC"] });
    let quiet =
        |from: &str, zone: &str| json!({ "quiet_hours": { "from": from, "until": "07:00", "time_zone": zone } });
    let push = "/api/members/me/push";
    assert_eq!(field(Method::PATCH, push, array).await, "quiet_hours");
    assert_eq!(field(Method::PATCH, push, quiet("22:00", "Europe/Atlantis")).await, "quiet_hours.time_zone");
    assert!(field(Method::PATCH, push, quiet("25:00", "Europe/Lisbon")).await.starts_with("quiet_hours"));
    // Nothing is pushed to browsers without somebody whom their push services can ask.
    let key = "A".repeat(87);
    let web = json!({
        "address": { "service": "web", "endpoint": "https://push.example/x", "keys": { "p256dh": key, "auth": "A".repeat(22) } },
        "platform": "web",
    });
    assert_eq!(ben.request(Method::PUT, device, web).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    server.stop().await;
}

/// What is registered and never pushed to would look as if it worked.
#[tokio::test]
async fn what_a_browser_could_never_be_told_at_is_refused_by_name() {
    let settings = |settings: &mut Settings| settings.push.push_contact = Some("mailto:ops@example.com".to_owned());
    let server = Server::with(settings).await;
    let ben = server.member("Ben").await;
    let device = "/api/members/me/devices/browser/push";
    let point = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    let secret = "BTBZMqHH6r4Tts7J_aSIgg";
    let answer = async |endpoint: &str, p256dh: &str, auth: &str| {
        let keys = json!({ "p256dh": p256dh, "auth": auth });
        let address = json!({ "service": "web", "endpoint": endpoint, "keys": keys });
        ben.request(Method::PUT, device, json!({ "address": address, "platform": "web" })).await
    };
    let endpoint = "https://push.example.com/s/x";
    let bad_keys = [
        (point.replace("iw4", "iw8"), secret, "address.keys.p256dh"),
        ("A".repeat(87), secret, "address.keys.p256dh"),
        (point.to_owned(), "BTBZMqHH6r4Tts7J_aSI", "address.keys.auth"),
    ];
    let bad_places = [
        "http://push.example.com/s/x",
        "http://127.0.0.1:8080/s/x",
        "https://127.0.0.1/s/x",
        "https://10.0.0.7/s/x",
        "https://[::1]/s/x",
        "https://intranet/s/x",
        "https://localhost/s/x",
        "https://localhost./s/x",
        "https://user@push.example.com/s/x",
        "https://push.example.com:8443/s/x",
        "https://",
    ]
    .map(|place| (place, point.to_owned(), secret, "address.endpoint"));
    let bad_keys = bad_keys.map(|(point, secret, named)| (endpoint, point, secret, named));
    for (endpoint, point, secret, named) in bad_keys.into_iter().chain(bad_places) {
        let refused = answer(endpoint, &point, secret).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{endpoint} {point} {secret}");
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["errors"][0]["field"], named, "{endpoint} {point} {secret}");
    }
    // As it is and as it may be written, on another device: it is one address, and belongs to the last of them.
    for endpoint in [endpoint, "HTTPS://PUSH.example.com:443/s/x#fragment"] {
        assert_eq!(answer(endpoint, point, secret).await.status(), StatusCode::NO_CONTENT, "{endpoint}");
    }
    let address = PushAddress::Web {
        endpoint: "https://push.example.com:443/s/x".to_owned(),
        keys: PushKeys { p256dh: point.to_owned(), auth: secret.to_owned() },
    };
    let mut other = ben.connect_as("other", None).await;
    let _: Okay = other.ask(ClientFrame::PushRegister(PushRegister { address, platform: Platform::Web })).await;
    assert_eq!(devices_of(&ben).await, ["other"]);
    let intranet = PushAddress::Web {
        endpoint: "https://intranet/s/x".to_owned(),
        keys: PushKeys { p256dh: point.to_owned(), auth: secret.to_owned() },
    };
    let refused = PushRegister { address: intranet, platform: Platform::Web };
    let error: Error = other.ask(ClientFrame::PushRegister(refused)).await;
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::ValidationFailed, Some("address.endpoint")));
    server.stop().await;
}

#[tokio::test]
async fn both_names_of_a_token_lead_to_the_same_device() {
    let expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ana, "phone", "shared").await;
    let other_name = token("shared").replace("ExponentPushToken", "ExpoPushToken");
    let body = json!({ "address": { "service": "expo", "token": other_name }, "platform": "ios" });
    let registered = ben.request(Method::PUT, "/api/members/me/devices/phone/push", body).await;
    assert_eq!(registered.status(), StatusCode::NO_CONTENT);
    assert_eq!((devices_of(&ana).await, devices_of(&ben).await), (vec![], vec!["phone".to_owned()]));
    server.stop().await;
}

/// An app repeats its registration at each start.
#[tokio::test]
async fn what_changes_nothing_is_not_counted_and_is_registered_anew_every_two_minutes() {
    let expo = Expo::start().await;
    let clock = ManualClock::at(at("2026-12-01T12:00:00Z"));
    let server = Server::at(&clock, |settings| expo.set(settings)).await;
    let ben = server.member("Ben").await;
    for _ in 0..40 {
        register(&ben, "phone", "ben").await;
        choose(&ben, json!({ "content": "full", "quiet_hours": null })).await;
    }
    let first = settings_of(&ben).await;
    assert_eq!(first.content_max, Some(PushContent::Full));
    clock.set(at("2026-12-01T12:01:59Z"));
    register(&ben, "phone", "ben").await;
    assert_eq!(settings_of(&ben).await, first);
    clock.set(at("2026-12-01T12:02:01Z"));
    register(&ben, "phone", "ben").await;
    assert!(settings_of(&ben).await.devices[0].registered_at > first.devices[0].registered_at);
    server.stop().await;
}

#[tokio::test]
async fn a_registration_that_is_repeated_is_the_same_and_one_more_is_another() {
    let mut expo = Expo::start().await;
    let server = Server::with(|settings| expo.set(settings)).await;
    let (ana, ben) = server.two_members().await;
    register(&ben, "phone", "one").await;
    let first = settings_of(&ben).await.devices;
    register(&ben, "phone", "one").await;
    assert_eq!(settings_of(&ben).await.devices, first);
    register(&ben, "phone", "two").await;
    assert_eq!(devices_of(&ben).await, ["phone"]);
    ana.connect().await.say(ben.id, "Hello").await;
    assert_eq!(text(&expo.expect().await, "to"), token("two"));
    let export = ben.request(Method::GET, "/api/members/me/export", Value::Null).await.text().await.unwrap();
    assert!(!export.contains("ExponentPushToken"), "{export}");
    let export: Export = serde_json::from_str(&export).unwrap();
    assert_eq!(PushSettings { content_max: Some(PushContent::Full), ..export.push }, settings_of(&ben).await);
    let path = "/api/members/me/devices/phone/push";
    for _ in 0..2 {
        assert_eq!(ben.request(Method::DELETE, path, Value::Null).await.status(), StatusCode::NO_CONTENT);
    }
    assert!(devices_of(&ben).await.is_empty());
    server.stop().await;
}
