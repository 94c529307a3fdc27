//! Several servers in this process, which serve one club.

use std::sync::Arc;

use members_book::{app::World, config::Settings};

use super::{Member, Server, bus::MemoryBus, database::Database, eventually};

/// A secret that all nodes share.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Several servers on one database.
pub struct Fleet {
    /// The servers.
    pub nodes: Vec<Server>,
    /// Their database.
    pub database: Arc<Database>,
    /// The bus between them, if there is one.
    pub bus: Option<MemoryBus>,
}

impl Fleet {
    /// So many nodes without a bus between them.
    pub async fn without_bus(nodes: usize) -> Self {
        Self::with(nodes, |_| ()).await
    }

    /// So many nodes without a bus, with some settings changed.
    pub async fn with(nodes: usize, change: impl Fn(&mut Settings)) -> Self {
        let mut fleet = Self { nodes: Vec::new(), database: Arc::new(Database::new().await), bus: None };
        for _ in 0..nodes {
            fleet.join(&change).await;
        }
        fleet
    }

    /// So many nodes on a bus that the test governs, which all hear each other.
    pub async fn on_a_bus(nodes: usize, change: impl Fn(&mut Settings)) -> Self {
        let database = Arc::new(Database::new().await);
        let mut fleet = Self { nodes: Vec::new(), database, bus: Some(MemoryBus::default()) };
        for _ in 0..nodes {
            fleet.join(&change).await;
        }
        fleet.is_whole().await;
        fleet
    }

    /// A node for each `REDIS_URL`, which all hear each other.
    pub async fn on_redis(urls: &[&str]) -> Self {
        let mut fleet = Self { nodes: Vec::new(), database: Arc::new(Database::new().await), bus: None };
        for url in urls {
            fleet.join(|settings| settings.cluster.redis_url = Some((*url).to_owned().into())).await;
        }
        fleet.is_whole().await;
        fleet
    }

    /// What `/readyz` of a node says.
    pub async fn readiness(&self, node: usize) -> serde_json::Value {
        let node = &self.nodes[node];
        let response = node.http().get(node.url("/readyz")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    /// Waits until every node knows all others, and nothing is in doubt.
    pub async fn is_whole(&self) {
        #[allow(clippy::cast_precision_loss, reason = "a handful")]
        let all = self.nodes.len() as f64;
        eventually("the fleet to be whole", async || {
            for node in &self.nodes {
                let (nodes, doubt) = (node.metric("fleet_nodes").await, node.metric("fleet_in_doubt").await);
                if nodes != all || doubt != 0.0 {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Starts one more node.
    pub async fn join(&mut self, change: impl Fn(&mut Settings)) -> &Server {
        self.join_with(World::default(), change).await
    }

    /// The same, with another clock than that of the machine.
    pub async fn join_with(&mut self, world: World, change: impl Fn(&mut Settings)) -> &Server {
        let node = self.begin(world, change).await;
        // The first one makes all indexes, which takes longer than a call waits when the machine is busy.
        eventually("the node to reach its database", async || {
            let answer = node.http().get(node.url("/readyz")).send().await.unwrap();
            (answer.status() == 200).then_some(())
        })
        .await;
        node
    }

    /// The same, whether it reaches the database or not.
    pub async fn begin(&mut self, world: World, change: impl Fn(&mut Settings)) -> &Server {
        let uri = self.database.uri.clone();
        let bus = self.bus.as_ref().map(|bus| bus.socket(self.nodes.len()));
        let change = |settings: &mut Settings| {
            settings.store.database_url = Some(uri.into());
            settings.auth.jwt_secret = Some(SECRET.into());
            change(settings);
        };
        let node = Server::launch(change, World { bus, ..world }).await;
        self.nodes.push(node);
        self.nodes.last().unwrap()
    }

    /// A member as a client of one of the nodes.
    pub fn at(&self, member: &Member, node: usize) -> Member {
        member.clone().at(self.nodes[node].addr())
    }
}
