//! Presence: who watches whom, devices, grace, last seen.

use std::time::Duration;

use protocol::{
    ClientFrame, ErrorCode, MemberId,
    client::{PresenceSet, PresenceUnwatch, PresenceWatch},
    limits::WATCH_MAX,
    model::{DeviceStatus, PresenceStatus},
    server::{Error, MemberPush, Okay, PresencePush, PresenceSnapshot},
};
use serde_json::json;

use crate::harness::{Client, Server};

async fn set(client: &mut Client, status: DeviceStatus) {
    let _: Okay = client.ask(ClientFrame::PresenceSet(PresenceSet { status })).await;
}

async fn next_status(client: &mut Client) -> PresenceStatus {
    client.expect::<PresencePush>().await.status
}

#[tokio::test]
async fn a_watcher_sees_a_member_come_and_go() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    ben.show_presence_to("members").await;
    let mut anas = ana.connect().await;
    let snapshot = anas.watch(&[ben.id]).await;
    assert_eq!((snapshot[0].status, snapshot[0].last_seen), (PresenceStatus::Offline, None));
    let bens = ben.connect().await;
    assert_eq!(next_status(&mut anas).await, PresenceStatus::Online);
    drop(bens);
    let gone: PresencePush = anas.expect().await;
    assert_eq!((gone.member, gone.status), (ben.id, PresenceStatus::Offline));
    let last_seen = gone.last_seen.unwrap();
    let mut evas = server.member("Eva").await.connect().await;
    assert_eq!(evas.watch(&[ben.id]).await[0].last_seen, Some(last_seen), "whoever asks later is told the same");
}

#[tokio::test]
async fn last_seen_survives_a_restart() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    ben.show_presence_to("members").await;
    drop(ben.connect().await);
    let server = server.restart().await;
    let presence = ana.at(server.addr()).connect().await.watch(&[ben.id]).await;
    assert!(presence[0].last_seen.is_some());
}

#[tokio::test]
async fn nobody_gets_presence_that_they_did_not_ask_for() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    ben.show_presence_to("members").await;
    let mut anas = ana.connect().await;
    let mut bens = ben.connect().await;
    anas.expect_no::<PresencePush>().await;
    anas.watch(&[ben.id]).await;
    let _: Okay = anas.ask(ClientFrame::PresenceUnwatch(PresenceUnwatch { members: vec![ben.id] })).await;
    set(&mut bens, DeviceStatus::Away).await;
    anas.expect_no::<PresencePush>().await;
}

#[tokio::test]
async fn a_member_is_away_only_when_all_their_devices_are() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    ben.show_presence_to("members").await;
    let mut anas = ana.connect().await;
    let (mut phone, mut tablet) = (ben.connect_as("phone", None).await, ben.connect_as("tablet", None).await);
    assert_eq!(anas.watch(&[ben.id]).await[0].status, PresenceStatus::Online);
    set(&mut phone, DeviceStatus::Away).await;
    anas.expect_no::<PresencePush>().await;
    set(&mut tablet, DeviceStatus::Away).await;
    assert_eq!(next_status(&mut anas).await, PresenceStatus::Away);
    set(&mut phone, DeviceStatus::Online).await;
    assert_eq!(next_status(&mut anas).await, PresenceStatus::Online);
    drop(phone);
    assert_eq!(next_status(&mut anas).await, PresenceStatus::Away, "only the tablet is left");
}

#[tokio::test]
async fn a_reconnect_does_not_flicker() {
    let server = Server::with(|settings| settings.connections.presence_grace = Duration::from_secs(3600)).await;
    let (ana, ben) = server.two_members().await;
    ben.show_presence_to("members").await;
    let mut anas = ana.connect().await;
    let mut bens = ben.connect().await;
    anas.watch(&[ben.id]).await;
    for _ in 0..3 {
        drop(bens);
        bens = ben.connect().await;
    }
    bens.ping().await;
    anas.expect_no::<PresencePush>().await;
    drop(bens);
    // Within the grace a member still shows as they left, to new watchers too.
    let mut evas = server.member("Eva").await.connect().await;
    assert_eq!(evas.watch(&[ben.id]).await[0].status, PresenceStatus::Online);
}

#[tokio::test]
async fn members_who_do_not_exist_are_not_watched() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let nobody: MemberId = "0123456789abcdef01234567".parse().unwrap();
    let snapshot = ana.connect().await.watch(&[nobody, ben.id]).await;
    assert_eq!(snapshot.iter().map(|presence| presence.member).collect::<Vec<_>>(), [ben.id]);
}

#[tokio::test]
async fn one_connection_watches_so_many_and_no_more() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let mut anas = ana.connect().await;
    anas.watch(&[ben.id]).await;
    let strangers: Vec<MemberId> = (0..WATCH_MAX).map(|n| format!("{n:024x}").parse().unwrap()).collect();
    let too_many = ClientFrame::PresenceWatch(PresenceWatch { members: strangers.clone() });
    let error: Error = anas.ask(too_many).await;
    assert_eq!((error.code, error.field.as_deref()), (ErrorCode::ValidationFailed, Some("members")));
    // Those who do not exist take no place.
    let just_enough = ClientFrame::PresenceWatch(PresenceWatch { members: strangers[1..].to_vec() });
    for _ in 0..2 {
        let snapshot: PresenceSnapshot = anas.ask(just_enough.clone()).await;
        assert!(snapshot.members.is_empty());
    }
}

#[tokio::test]
async fn a_changed_profile_reaches_those_who_should_know() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let (eva, leo) = (server.member("Eva").await, server.member("Leo").await);
    let (mut phone, mut tablet) = (ana.connect_as("phone", None).await, ana.connect_as("tablet", None).await);
    let (mut talks, mut watches, mut stranger) = (ben.connect().await, eva.connect().await, leo.connect().await);
    talks.say(ana.id, "hi").await;
    watches.watch(&[ana.id]).await;
    let patch = json!({ "name": "Ana Lima", "contact_info": { "phone": "+351 1" } });
    let changed = ana.request(reqwest::Method::PATCH, "/api/members/me", patch).await;
    assert_eq!(changed.status(), 200);
    for client in [&mut phone, &mut tablet, &mut talks, &mut watches] {
        let push: MemberPush = client.expect().await;
        assert_eq!((push.member.id, push.member.name.as_str()), (ana.id, "Ana Lima"));
        client.expect_no::<MemberPush>().await;
    }
    stranger.expect_no::<MemberPush>().await;
    // What others cannot see tells them nothing.
    ana.request(reqwest::Method::PATCH, "/api/members/me", json!({ "contact_info": { "phone": "+351 2" } })).await;
    talks.expect_no::<MemberPush>().await;
}

#[tokio::test]
async fn a_stranger_sees_nothing_and_a_partner_everything() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let mut bens = ben.connect().await;
    set(&mut bens, DeviceStatus::Away).await;
    let mut anas = ana.connect().await;
    let hidden = anas.watch(&[ben.id]).await;
    assert_eq!((hidden[0].status, hidden[0].last_seen), (PresenceStatus::Offline, None));
    set(&mut bens, DeviceStatus::Online).await;
    anas.expect_no::<PresencePush>().await;
    // The first message between them makes them partners, whoever sent it.
    bens.say(ana.id, "hi").await;
    assert_eq!(next_status(&mut anas).await, PresenceStatus::Online);
    set(&mut bens, DeviceStatus::Away).await;
    assert_eq!(next_status(&mut anas).await, PresenceStatus::Away);
    // Whoever asks later is a partner from the beginning.
    assert_eq!(ana.connect_as("tablet", None).await.watch(&[ben.id]).await[0].status, PresenceStatus::Away);
}

#[tokio::test]
async fn who_may_see_a_presence_takes_effect_at_once() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let eva = server.member("Eva").await;
    let (mut anas, mut evas, mut bens) = (ana.connect().await, eva.connect().await, ben.connect().await);
    anas.say(ben.id, "hi").await;
    for client in [&mut anas, &mut evas, &mut bens] {
        client.watch(&[ben.id]).await;
    }
    ben.show_presence_to("members").await;
    assert_eq!(next_status(&mut evas).await, PresenceStatus::Online);
    anas.expect_no::<PresencePush>().await;
    ben.show_presence_to("nobody").await;
    for client in [&mut anas, &mut evas] {
        let hidden: PresencePush = client.expect().await;
        assert_eq!((hidden.status, hidden.last_seen), (PresenceStatus::Offline, None));
    }
    set(&mut bens, DeviceStatus::Away).await;
    assert_eq!(next_status(&mut bens).await, PresenceStatus::Away, "members see themselves");
    for client in [&mut anas, &mut evas] {
        client.expect_no::<PresencePush>().await;
    }
    drop(bens);
    ben.show_presence_to("partners").await;
    assert_eq!(anas.expect::<PresencePush>().await.member, ben.id);
    evas.expect_no::<PresencePush>().await;
    let bad = json!({ "visibility": { "presence": "friends" } });
    let refused = ben.request(reqwest::Method::PATCH, "/api/members/me", bad).await;
    assert_eq!(refused.status(), 422);
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(problem["errors"][0]["field"], "visibility.presence");
}

#[tokio::test]
async fn names_that_flap_are_told_once_per_interval_and_to_oneself_at_once() {
    let server = Server::with(|settings| settings.connections.profile_interval = Duration::from_millis(500)).await;
    let (ana, ben) = server.two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    bens.say(ana.id, "hi").await;
    for number in 0..20 {
        let patch = json!({ "name": format!("Ana {number}") });
        assert_eq!(ana.request(reqwest::Method::PATCH, "/api/members/me", patch).await.status(), 200);
        assert_eq!(anas.expect::<MemberPush>().await.member.name, format!("Ana {number}"));
    }
    let mut told = 0;
    while bens.expect::<MemberPush>().await.member.name != "Ana 19" {
        told += 1;
    }
    assert!(told < 19, "{told} times before the last");
}

#[tokio::test]
async fn statuses_and_changes_of_profiles_are_limited() {
    let server = Server::with(|settings| {
        settings.rates.rate_statuses = 1;
        settings.rates.rate_statuses_burst = 2;
        settings.rates.rate_profiles = 1;
        settings.rates.rate_profiles_burst = 2;
    })
    .await;
    let ana = server.member("Ana").await;
    let mut anas = ana.connect().await;
    set(&mut anas, DeviceStatus::Away).await;
    set(&mut anas, DeviceStatus::Online).await;
    let error: Error = anas.ask(ClientFrame::PresenceSet(PresenceSet { status: DeviceStatus::Away })).await;
    assert_eq!(error.code, ErrorCode::RateLimited);
    assert!(error.retry_after_ms.is_some());
    let rename = |name: &str| json!({ "name": name });
    for expected in [200, 200, 429] {
        let changed = ana.request(reqwest::Method::PATCH, "/api/members/me", rename("New")).await;
        assert_eq!(changed.status(), expected);
    }
    let admin = server.admin().await;
    let path = format!("/api/members/{}", ana.id);
    for name in ["One", "Two", "Three"] {
        assert_eq!(admin.request(reqwest::Method::PATCH, &path, rename(name)).await.status(), 200);
    }
}
