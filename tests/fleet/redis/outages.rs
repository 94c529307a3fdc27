//! What the node is told when Redis or the network fails, and that the bus mends itself.

use std::time::Duration;

use members_book::cluster::Loss;
use tokio::time::{sleep, timeout};

use crate::harness::{
    node::{Node, Told, members},
    proxy::Proxy,
    redis::Redis,
};

/// Two nodes that are connected, of which the second one hears the members.
async fn two_nodes(url: &str, members: &[protocol::MemberId]) -> (Node, Node) {
    let (publisher, hearer) = (Node::up(url).await, Node::up(url).await);
    for member in members {
        assert!(hearer.hear(*member).await);
    }
    (publisher, hearer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_killed_is_missed_and_found_again() {
    let redis = Redis::start().await;
    let members = members(20);
    let (early, late) = members.split_at(10);
    let (mut publisher, mut hearer) = two_nodes(&redis.url(), early).await;
    publisher.publish(early[0], 1);
    hearer.hears(early[0], 1).await;
    assert_eq!(hearer.losses_of(publisher.id, 0).await, 0);
    redis.kill();
    assert_eq!((publisher.loses(0).await, hearer.loses(0).await), (Loss::LinkDown, Loss::LinkDown));
    // Who comes meanwhile is told that nothing can be expected, and what is said is dropped.
    for member in late {
        assert!(!hearer.hear(*member).await);
    }
    publisher.publish(early[0], 2);
    redis.launch().await;
    publisher.comes_up(0).await;
    hearer.comes_up(0).await;
    for member in &members {
        publisher.publish(*member, 3);
    }
    let mut heard = 0;
    while heard < members.len() {
        match hearer.next().await {
            Told::Number(_, number) => {
                assert_eq!(number, 3);
                heard += 1;
            }
            Told::Beat { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(hearer.losses_of(publisher.id, 0).await > 0, "what was dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_is_noticed_and_nobody_waits_for_it() {
    let redis = Redis::start().await;
    let members = members(4);
    let (mut publisher, mut hearer) = two_nodes(&redis.url(), &members).await;
    redis.signal("STOP");
    // More than the bus may hold: none of it waits, and the memory has a bound.
    for number in 1..=800 {
        publisher.publish_long(members[0], number, 100_000);
    }
    let (dropped, all) = (publisher.metrics.bus_dropped.get(), 800);
    assert!((1..all).contains(&dropped), "{dropped} of {all} had no room");
    let (one, other) = tokio::join!(publisher.loses(0), hearer.loses(0));
    // It has not answered in time, or a beat has not come back: whatever is noticed first.
    assert!([one, other].iter().all(|loss| matches!(loss, Loss::LinkDown | Loss::Canary)));
    // Long before, both have looked into the store.
    assert!(publisher.was_late() && hearer.was_late());
    redis.signal("CONT");
    tokio::join!(publisher.comes_up(0), hearer.comes_up(0));
    publisher.publish(members[1], 1);
    hearer.hears(members[1], 1).await;
    assert!(hearer.losses_of(publisher.id, 0).await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_hears_and_is_cut_is_made_again() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.addr()).await;
    let members = members(50);
    let publisher = Node::up(&redis.url()).await;
    let mut hearer = Node::up(&proxy.url()).await;
    for member in &members {
        assert!(hearer.hear(*member).await);
    }
    // It is told; or nothing comes on it any more, and an answer or a beat is missed, whatever is noticed first; or what is published
    // does not come, and everything else does.
    let (told, still, unheard): (&[Loss], &[Loss], &[Loss]) =
        (&[Loss::LinkDown], &[Loss::LinkDown, Loss::Canary], &[Loss::Canary]);
    let cases: [(fn(&Proxy), _); 3] =
        [(Proxy::cut_hearing, told), (Proxy::freeze_hearing, still), (Proxy::silence_hearing, unheard)];
    for (number, (fail, losses)) in (1..).zip(cases) {
        fail(&proxy);
        let loss = hearer.loses(0).await;
        assert!(losses.contains(&loss), "{loss:?} in case {number}");
        hearer.comes_up(0).await;
        for member in &members {
            publisher.publish(*member, number);
        }
        for member in &members {
            hearer.hears(*member, number).await;
        }
    }
    assert_eq!(hearer.losses_of(publisher.id, 0).await, 0, "the publisher has lost nothing");
}

/// The connection hangs, and so does every attempt to make another one: it is the network that is to be waited for, and not the bus.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_works_again_is_noticed_within_three_seconds() {
    let redis = Redis::start().await;
    let proxy = Proxy::to(redis.addr()).await;
    let members = members(10);
    let mut publisher = Node::up(&redis.url()).await;
    let mut hearer = Node::up(&proxy.url()).await;
    for member in &members {
        assert!(hearer.hear(*member).await);
    }
    proxy.freeze();
    hearer.loses(0).await;
    // Five seconds without a network, of which it has taken two to be noticed: a while of attempts that hang.
    sleep(Duration::from_secs(3)).await;
    proxy.thaw();
    timeout(Duration::from_secs(3), hearer.comes_up(0)).await.expect("the link is up soon");
    publisher.publish(members[0], 1);
    hearer.hears(members[0], 1).await;
    assert!(!publisher.told().iter().any(|told| matches!(told, Told::Lost(..))));
}
