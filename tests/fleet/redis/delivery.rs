//! What is published arrives, in its order.

use std::collections::{HashMap, HashSet};

use futures_util::future::join_all;
use members_book::cluster::{Bus as _, Channel, Loss};

use crate::harness::{
    eventually,
    node::{Node, Told, members},
    redis::Redis,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_in_the_order_of_its_channel_and_beats_behind_it() {
    let redis = Redis::start().await;
    let (publisher, mut hearer) = (Node::up(&redis.url()).await, Node::up(&redis.url()).await);
    let members = members(300);
    let heard = join_all(members.iter().map(|member| hearer.hear(*member))).await;
    assert!(heard.iter().all(|confirmed| *confirmed));
    let rounds = 40;
    for round in 1..=rounds {
        for (place, member) in members.iter().enumerate() {
            // Some have so much that it does not fit into one publication.
            let more = if place % 50 == 0 { 30_000 } else { place };
            publisher.publish_long(*member, round, more);
        }
        tokio::task::yield_now().await;
    }
    // What the node is told is in order, or the harness fails.
    let mut last: HashMap<Channel, u64> = HashMap::new();
    let mut received = 0;
    let all = rounds * members.len() as u64;
    hearer
        .until("a beat behind all of it", |told| match told {
            Told::Number(channel, number) => {
                assert_eq!(number, last.insert(channel, number).unwrap_or(0) + 1, "no hole");
                received += 1;
                None
            }
            Told::Beat { published, losses, from, .. } if from == publisher.id => {
                assert_eq!(losses, 0);
                assert!(received >= published, "a beat of {published} after {received} events");
                (published == all).then_some(())
            }
            Told::Beat { .. } => None,
            other => panic!("{other:?}"),
        })
        .await;
    assert_eq!(received, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_who_come_at_once_hear_everything_from_their_confirmation_on() {
    let redis = Redis::start().await;
    let (publisher, mut hearer) = (Node::up(&redis.url()).await, Node::up(&redis.url()).await);
    let members = members(3_000);
    let coming = join_all(members.iter().map(async |member| {
        let confirmed = hearer.hear(*member).await;
        publisher.publish(*member, 1);
        confirmed
    }));
    let confirmed = coming.await;
    let mut missing: HashSet<_> =
        members.iter().zip(&confirmed).filter(|(_, heard)| **heard).map(|(id, _)| *id).collect();
    let (is_late, mut was_told) = (missing.len() < members.len(), false);
    while !missing.is_empty() || (is_late && !was_told) {
        match hearer.next().await {
            Told::Number(Channel::Member(member), 1) => drop(missing.remove(&member)),
            // On a machine that is busy some are not confirmed in time: then the node is told.
            Told::Lost(0, Loss::LinkDown) => was_told = true,
            Told::Up(0) | Told::Beat { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(is_late, was_told);
    // All are heard once the link is up again.
    eventually("the link to be up", async || (hearer.metrics.bus_links_up.get() == 1).then_some(())).await;
    for member in &members {
        publisher.publish(*member, 2);
    }
    let mut second = 0;
    while second < members.len() {
        second += usize::from(matches!(hearer.next().await, Told::Number(_, 2)));
    }
    // Those who go are heard no more.
    for member in &members[1..] {
        hearer.bus.unsubscribe(Channel::Member(*member));
    }
    for member in members[1..].iter().rev().chain([&members[0]]) {
        publisher.publish(*member, 3);
    }
    hearer.hears(members[0], 3).await;
    // Of one member, two nodes, and all.
    eventually("the channels to be given up", async || (redis.channels().await == 4).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_share_the_members_and_one_that_is_killed_takes_its_half_only() {
    let (one, two) = (Redis::start().await, Redis::start().await);
    let url = format!("{},{}", one.url(), two.url());
    let (mut publisher, mut hearer) = (Node::up(&url).await, Node::up(&url).await);
    let members = members(100);
    for member in &members {
        assert!(hearer.hear(*member).await);
        publisher.publish(*member, 1);
    }
    for _ in &members {
        hearer.until("each number", |told| matches!(told, Told::Number(_, 1)).then_some(())).await;
    }
    // And those of the two nodes, and of all.
    assert_eq!((one.channels().await, two.channels().await), (50 + 3, 50 + 3));
    for link in [0, 1] {
        assert_eq!(hearer.losses_of(publisher.id, link).await, 0);
    }

    two.kill();
    assert_eq!((publisher.loses(1).await, hearer.loses(1).await), (Loss::LinkDown, Loss::LinkDown));
    for member in &members {
        publisher.publish(*member, 2);
    }
    // The even ones.
    for member in members.iter().step_by(2) {
        hearer.hears(*member, 2).await;
    }
    assert_eq!(hearer.losses_of(publisher.id, 0).await, 0);
    assert!(hearer.hear(members[0]).await && !hearer.hear(members[1]).await);

    two.launch().await;
    publisher.comes_up(1).await;
    hearer.comes_up(1).await;
    for member in &members {
        publisher.publish(*member, 3);
    }
    for _ in &members {
        hearer.until("each number", |told| matches!(told, Told::Number(_, 3)).then_some(())).await;
    }
    assert_eq!(hearer.losses_of(publisher.id, 0).await, 0);
    assert!(hearer.losses_of(publisher.id, 1).await > 0, "what went to the one that was killed");
}
