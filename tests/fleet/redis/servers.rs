//! Servers that share a Redis: what one of them does reaches the clients of the other at once; without Redis a little later.

use std::time::Duration;

use members_book::clock::{Clock as _, SystemClock};
use protocol::{
    CloseCode, ServerFrame,
    model::Entry,
    rest::{AuthResponse, SessionList},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::harness::{Client, eventually, fleet::Fleet, proxy::Proxy, redis::Redis};

/// Waits for an entry that others stored: whether it was pushed, or found by a sweep.
async fn found(client: &mut Client, seq: u64) -> &'static str {
    loop {
        match client.next_frame().await {
            ServerFrame::EntryPush(push) if push.entry.seq() == seq => return "pushed",
            ServerFrame::Sync(sync) => {
                let entries = sync.conversations.iter().flat_map(|known| &known.entries);
                if entries.map(Entry::seq).any(|known| known == seq) {
                    return "swept";
                }
            }
            _ => {}
        }
    }
}

/// Waits until a node is degraded, for this reason and no other.
async fn is_degraded(fleet: &Fleet, node: usize, reason: &str) {
    let degraded = json!({ "status": "degraded", "reasons": [reason] });
    eventually(reason, async || (fleet.readiness(node).await == degraded).then_some(())).await;
}

async fn is_ok(fleet: &Fleet, node: usize) -> bool {
    fleet.readiness(node).await == json!({ "status": "ok" })
}

/// Found by a measurement: a node alone paid a fifth of its processor time for a Redis that nobody else listens to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_publishes_nothing_and_whoever_is_at_one_that_joins_misses_nothing() {
    let redis = Redis::start().await;
    let url = redis.url();
    let mut fleet = Fleet::on_redis(&[&url]).await;
    let published = "bus_events_total{direction=\"sent\",kind=\"frame\"}";
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let mut anas = ana.connect().await;
    anas.say(ben.id, "alone").await;
    assert_eq!(fleet.nodes[0].metric(published).await, 0.0);
    fleet.join(|settings| settings.cluster.redis_url = Some(url.clone().into())).await;
    // From the first moment on, in which its peer does not know of it.
    let mut bens = fleet.at(&ben, 1).connect().await;
    for seq in 2..=20 {
        assert_eq!(anas.say(ben.id, "to the one that joined").await.seq, seq);
        found(&mut bens, seq).await;
    }
    fleet.is_whole().await;
    anas.say(ben.id, "heard").await;
    assert_eq!(found(&mut bens, 21).await, "pushed");
    assert!(fleet.nodes[0].metric(published).await >= 1.0);
    // The other way round: the one that stays is alone again.
    fleet.nodes.remove(0).stop().await;
    fleet.is_whole().await;
    let before = fleet.nodes[0].metric(published).await;
    bens.say(ana.id, "alone again").await;
    assert_eq!(fleet.nodes[0].metric(published).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_reach_other_servers_through_redis_and_not_by_a_sweep() {
    let redis = Redis::start().await;
    let fleet = Fleet::on_redis(&[&redis.url(), &redis.url()]).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let ben = fleet.at(&ben, 1);
    let (mut anas, mut bens) = (ana.connect().await, ben.connect().await);
    for number in 1..=20 {
        let (from_ana, from_ben) = (anas.say(ben.id, "hello").await, bens.say(ana.id, "hello").await);
        assert_eq!((from_ana.seq, from_ben.seq), (2 * number - 1, 2 * number));
        assert_eq!((found(&mut bens, from_ana.seq).await, found(&mut anas, from_ben.seq).await), ("pushed", "pushed"));
    }
    for node in &fleet.nodes {
        assert!(node.metric("bus_events_total{direction=\"received\",kind=\"frame\"}").await >= 20.0);
        assert_eq!(node.metric("bus_dropped_total").await, 0.0);
    }
    assert!(is_ok(&fleet, 0).await && is_ok(&fleet, 1).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_put_out_at_one_server_is_closed_at_the_other() {
    let redis = Redis::start().await;
    let fleet = Fleet::on_redis(&[&redis.url(), &redis.url()]).await;
    let admin = fleet.nodes[0].admin().await;
    let closed = async |client: &mut Client, code: CloseCode| assert_eq!(client.expect_close().await.code, code);
    let (ana, ben) = fleet.nodes[0].two_members().await;

    // The member logs out.
    let mut anas = fleet.at(&ana, 1).connect().await;
    let mut other_session = fleet.at(&ana.log_in().await, 1).connect_as("tablet", None).await;
    assert_eq!(ana.request(Method::POST, "/api/auth/logout", Value::Null).await.status(), 204);
    closed(&mut anas, CloseCode::Unauthorized).await;
    other_session.ping().await;

    // They end another session of theirs, and then all others.
    let (ana, second, third) = (ana.log_in().await, ana.log_in().await, ana.log_in().await);
    let mut there = [fleet.at(&second, 1).connect_as("b", None).await, fleet.at(&third, 1).connect_as("c", None).await];
    let list = second.request(Method::GET, "/api/members/me/sessions", Value::Null).await;
    let list: SessionList = list.json().await.unwrap();
    let id = list.sessions.iter().find(|session| session.is_current).unwrap().id;
    let end = async |path: &str| assert_eq!(ana.request(Method::DELETE, path, Value::Null).await.status(), 204);
    end(&format!("/api/members/me/sessions/{id}")).await;
    closed(&mut there[0], CloseCode::Unauthorized).await;
    there[1].ping().await;
    end("/api/members/me/sessions").await;
    closed(&mut there[1], CloseCode::Unauthorized).await;
    closed(&mut other_session, CloseCode::Unauthorized).await;

    // A refresh whose answer was lost is repeated at the other node, and used at the first.
    let refreshed: AuthResponse = ana.refresh().await.json().await.unwrap();
    let again: AuthResponse = fleet.at(&ana, 1).refresh().await.json().await.unwrap();
    assert_eq!(again.refresh_token, refreshed.refresh_token);
    let used = ana.with(again);
    assert_eq!(used.request(Method::GET, "/api/members/me", Value::Null).await.status(), 200);
    assert_eq!(fleet.at(&ana, 1).refresh().await.status(), 401);

    // An administrator disconnects them: they may come back.
    let mut bens = fleet.at(&ben, 1).connect().await;
    let disconnect = format!("/api/admin/members/{}/disconnect", ben.id);
    assert!(admin.request(Method::POST, &disconnect, Value::Null).await.status().is_success());
    closed(&mut bens, CloseCode::Disconnected).await;

    // The same device connects elsewhere.
    let ben = ben.log_in().await;
    let mut bens = fleet.at(&ben, 1).connect().await;
    let mut tablet = fleet.at(&ben, 1).connect_as("tablet", None).await;
    // Of two connections of one second it is the larger id that stays: each node may not have heard of the other one.
    let then = SystemClock.now().as_secs();
    eventually("the next second", async || (SystemClock.now().as_secs() > then).then_some(())).await;
    let mut here = ben.connect().await;
    closed(&mut bens, CloseCode::Replaced).await;
    tablet.ping().await;

    // They are deactivated.
    fleet.nodes[0].set_active(ben.id, false).await;
    for client in [&mut tablet, &mut here] {
        closed(client, CloseCode::Deactivated).await;
    }
    // By Redis, and not by a look at the sessions.
    let metrics = fleet.nodes[1].metrics().await;
    let mut looks = metrics.lines().filter(|line| line.starts_with("membersbook_session_check_closed_total{"));
    assert!(looks.all(|line| line.ends_with(" 0")), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_messages_are_found_by_sweeps_and_nobody_is_disconnected() {
    let redis = Redis::start().await;
    let fleet = Fleet::on_redis(&[&redis.url(), &redis.url()]).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, fleet.at(&ben, 1).connect().await);
    let sent = anas.say(ben.id, "with Redis").await;
    assert_eq!(found(&mut bens, sent.seq).await, "pushed");

    redis.kill();
    for node in [0, 1] {
        is_degraded(&fleet, node, "link_down").await;
    }
    for _ in 0..3 {
        let sent = anas.say(ben.id, "without Redis").await;
        assert_eq!(found(&mut bens, sent.seq).await, "swept");
        let sent = bens.say(ana.id, "without Redis").await;
        assert_eq!(found(&mut anas, sent.seq).await, "swept");
    }
    // Who comes meanwhile is served too.
    let mut tablet = fleet.at(&ana, 1).connect_as("tablet", None).await;
    let sent = bens.say(ana.id, "at the same server").await;
    assert_eq!(found(&mut tablet, sent.seq).await, "pushed");

    redis.launch().await;
    fleet.is_whole().await;
    assert!(is_ok(&fleet, 0).await && is_ok(&fleet, 1).await);
    // The same sockets.
    let sent = anas.say(ben.id, "with Redis again").await;
    assert_eq!(found(&mut bens, sent.seq).await, "pushed");
    assert_eq!(found(&mut tablet, sent.seq).await, "pushed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_reach_redis_for_a_while_is_whole_again_after_it() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.addr()).await;
    let fleet = Fleet::on_redis(&[&redis.url(), &proxy.url()]).await;
    let (ana, ben) = fleet.nodes[0].two_members().await;
    let (mut anas, mut bens) = (ana.connect().await, fleet.at(&ben, 1).connect().await);
    proxy.freeze();
    is_degraded(&fleet, 0, "silent_peer").await;
    // For a while attempts to connect hang.
    sleep(Duration::from_secs(2)).await;
    let (from_ana, from_ben) = (anas.say(ben.id, "hello").await, bens.say(ana.id, "hello").await);
    assert_eq!((found(&mut bens, from_ana.seq).await, found(&mut anas, from_ben.seq).await), ("swept", "swept"));
    proxy.thaw();
    fleet.is_whole().await;
    let sent = anas.say(ben.id, "through Redis").await;
    assert_eq!(found(&mut bens, sent.seq).await, "pushed");
}
