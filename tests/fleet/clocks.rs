//! A node whose clock is wrong.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use members_book::{
    app::World,
    clock::{Clock, SystemClock},
};
use protocol::{Timestamp, rest::ServerStats};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Member, Server, eventually,
    fleet::{Fleet, SECRET},
};

/// The clock of the machine, and by how many milliseconds it is wrong.
#[derive(Clone, Default)]
struct WrongClock(Arc<AtomicI64>);

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis() + self.0.load(Ordering::SeqCst))
    }
}

/// Found by faults: a node that was ten minutes ahead ended links and tokens, and nothing said so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_wrong_says_so() {
    let mut fleet = Fleet::without_bus(0).await;
    let clock = WrongClock::default();
    clock.0.store(-600_000, Ordering::SeqCst);
    let uri = fleet.database.uri.clone();
    let change = |settings: &mut members_book::config::Settings| {
        settings.store.database_url = Some(uri.into());
        settings.auth.jwt_secret = Some(SECRET.into());
    };
    let world = World { clock: Arc::new(clock.clone()), ..World::default() };
    fleet.nodes.push(Server::launch(change, world).await);
    let is = async |status: Value| {
        eventually("readiness", async || (fleet.readiness(0).await == status).then_some(())).await;
    };
    is(json!({ "status": "degraded", "reasons": ["clock_skew"] })).await;
    let skew = fleet.nodes[0].metric("clock_skew_seconds").await;
    assert!((-605.0..-595.0).contains(&skew), "{skew}");
    let admin: Member = fleet.nodes[0].admin().await;
    let stats = admin.request(Method::GET, "/api/admin/stats", Value::Null).await;
    let stats: ServerStats = stats.json().await.unwrap();
    assert_eq!(stats.nodes[0].doubts, ["clock_skew"]);
    clock.0.store(0, Ordering::SeqCst);
    is(json!({ "status": "ok" })).await;
    let skew = fleet.nodes[0].metric("clock_skew_seconds").await;
    assert!(skew.abs() < Duration::from_secs(5).as_secs_f64(), "{skew}");
}
