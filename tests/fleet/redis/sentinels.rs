//! Sentinels make another Redis the master, and the bus follows.

use std::collections::HashMap;

use futures_util::future::join_all;

use super::user_of_the_docs;
use crate::harness::{
    eventually,
    node::{Node, members},
    redis::Redis,
};

/// A master, a replica, and three Sentinels that know both and each other.
struct Watched {
    master: Redis,
    replica: Redis,
    sentinels: Vec<Redis>,
}

impl Watched {
    async fn start() -> Self {
        let user = user_of_the_docs("a-secret") + " +role";
        let master = Redis::with(&[&user]).await;
        let replica = Redis::with(&[&user, &format!("replicaof 127.0.0.1 {}", master.addr().port())]).await;
        let sentinels = join_all([&master; 3].map(Redis::sentinel_of)).await;
        for sentinel in &sentinels {
            let knows_all = async || {
                let ask = sentinel.ask("redis://there", &["SENTINEL", "MASTER", "club"]);
                let known: HashMap<String, String> = ask.await.unwrap();
                (known["num-other-sentinels"] == "2" && known["num-slaves"] == "1").then_some(())
            };
            eventually("the sentinels to know each other", knows_all).await;
        }
        Self { master, replica, sentinels }
    }

    fn node(&self) -> Node {
        let addresses = self.sentinels.iter().map(Redis::addr);
        let urls: Vec<String> = addresses.map(|addr| format!("redis://club:a-secret@{addr}")).collect();
        Node::open_with(&urls.join(","), Some("club"))
    }

    /// Two nodes, of which the second one hears the members.
    async fn nodes(&self, members: &[protocol::MemberId]) -> (Node, Node) {
        let (mut publisher, mut hearer) = (self.node(), self.node());
        tokio::join!(publisher.comes_up(0), hearer.comes_up(0));
        for member in members {
            assert!(hearer.hear(*member).await);
            publisher.publish(*member, 1);
            hearer.hears(*member, 1).await;
        }
        assert_eq!((self.master.channels().await, self.replica.channels().await), (members.len() + 3, 0));
        (publisher, hearer)
    }

    /// The nodes have lost their master, and find the new one.
    async fn are_found(&self, members: &[protocol::MemberId], (publisher, hearer): (&mut Node, &mut Node)) {
        tokio::join!(publisher.loses(0), hearer.loses(0));
        tokio::join!(publisher.comes_up(0), hearer.comes_up(0));
        for member in members {
            publisher.publish(*member, 2);
            hearer.hears(*member, 2).await;
        }
        assert_eq!(self.replica.channels().await, members.len() + 3, "on the one that was promoted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_killed_is_followed_by_the_one_that_is_promoted() {
    let redis = Watched::start().await;
    let members = members(20);
    let (mut publisher, mut hearer) = redis.nodes(&members).await;
    redis.master.kill();
    redis.are_found(&members, (&mut publisher, &mut hearer)).await;
}

/// It goes on as a master until the Sentinels tell it, which takes them ten seconds: whoever comes meanwhile asks them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_stands_still_is_left_and_nobody_goes_back_to_it() {
    let redis = Watched::start().await;
    let members = members(20);
    let (mut publisher, mut hearer) = redis.nodes(&members).await;
    redis.master.signal("STOP");
    redis.are_found(&members, (&mut publisher, &mut hearer)).await;
    redis.master.signal("CONT");
    let mut newcomer = redis.node();
    newcomer.comes_up(0).await;
    for member in &members {
        assert!(newcomer.hear(*member).await);
        publisher.publish(*member, 3);
        newcomer.hears(*member, 3).await;
        hearer.hears(*member, 3).await;
    }
}
