//! Several servers in this process, which serve one club.

use std::sync::Arc;

use members_book::config::Settings;

use super::{Member, Server, database::Database};

/// A secret that all nodes share.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Several servers on one database.
pub struct Fleet {
    /// The servers.
    pub nodes: Vec<Server>,
    /// Their database.
    pub database: Arc<Database>,
}

impl Fleet {
    /// So many nodes without a bus between them.
    pub async fn without_bus(nodes: usize) -> Self {
        Self::with(nodes, |_| ()).await
    }

    /// So many nodes with some settings changed.
    pub async fn with(nodes: usize, change: impl Fn(&mut Settings)) -> Self {
        let mut fleet = Self { nodes: Vec::new(), database: Arc::new(Database::new().await) };
        for _ in 0..nodes {
            fleet.join(&change).await;
        }
        fleet
    }

    /// Starts one more node.
    pub async fn join(&mut self, change: impl Fn(&mut Settings)) -> &Server {
        let uri = self.database.uri.clone();
        let node = Server::with(|settings| {
            settings.store.database_url = Some(uri.into());
            settings.auth.jwt_secret = Some(SECRET.into());
            change(settings);
        });
        self.nodes.push(node.await);
        self.nodes.last().unwrap()
    }

    /// A member as a client of one of the nodes.
    pub fn at(&self, member: &Member, node: usize) -> Member {
        member.clone().at(self.nodes[node].addr())
    }
}
