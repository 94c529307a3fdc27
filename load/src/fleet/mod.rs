//! A fleet of our own: a database, a Redis or several, a proxy between each node and each Redis, and the nodes.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`companion`] | the database and Redis: processes that are killed and started again |
//! | [`proxy`] | what a network does between a node and Redis |

pub(crate) mod companion;
pub(crate) mod proxy;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use crate::{
    server::{Launch, Server},
    target::Target,
};
use companion::{Companion, found};
use proxy::Proxy;

/// What a fleet is made of.
#[derive(Args, Clone)]
#[group(skip)]
#[command(next_help_heading = "Fleet")]
pub(crate) struct Options {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) nodes: u32,
    /// The server that each node is. [default: members-book beside this program]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The MongoDB of all nodes: its URL, or `spawn` for one of our own (mongod, or SecantusDB as tests/run.sh installs it).
    #[arg(long, default_value = "spawn")]
    store: String,
    /// The Python of SecantusDB, for `--store spawn`.
    #[arg(long, default_value = "target/test-database/bin/python")]
    python: PathBuf,
    /// Commits of SecantusDB need not be on disk, and the database has a lower priority than all others: good for measuring what is not
    /// the store. Not with --database-kills.
    #[arg(long, conflicts_with = "database_kills")]
    relaxed_store: bool,
    /// The bus of the nodes: the URL of a Redis, `spawn` for one of our own (redis-server), or `none`.
    #[arg(long, default_value = "spawn")]
    redis: String,
    /// With `--redis spawn`: how many, which share the members.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    redis_servers: u32,
    /// A setting of every node, such as DRAIN_TIME=10s; can be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = crate::trial::setting)]
    settings: Vec<(String, String)>,
}

/// It runs.
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Arc<Server>>,
    pub(crate) targets: Vec<Target>,
    pub(crate) database: Option<Companion>,
    pub(crate) redis: Vec<Companion>,
    /// By node, and then by Redis.
    pub(crate) proxies: Vec<Vec<Arc<Proxy>>>,
}

impl Fleet {
    /// Starts everything.
    pub(crate) async fn start(options: &Options) -> Result<Self, String> {
        let (database, store) = match options.store.as_str() {
            "spawn" => {
                let (database, url) = database(&options.python, options.relaxed_store).await?;
                (Some(database), url)
            }
            url => (None, url.to_owned()),
        };
        let redis = redis(options).await?;
        let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let (mut nodes, mut targets, mut proxies) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=options.nodes {
            let mut between = Vec::new();
            for redis in &redis {
                between.push(Proxy::start(redis.addr()).await?);
            }
            let mut settings = vec![
                ("JWT_SECRET".to_owned(), secret.clone()),
                ("DATABASE_URL".to_owned(), store.clone()),
                ("NODE_NAME".to_owned(), format!("node-{number}")),
            ];
            let urls: Vec<String> = between.iter().map(|proxy| format!("redis://{}", proxy.addr())).collect();
            match options.redis.as_str() {
                "none" => {}
                "spawn" => settings.push(("REDIS_URL".to_owned(), urls.join(","))),
                url => settings.push(("REDIS_URL".to_owned(), url.to_owned())),
            }
            settings.extend(options.settings.iter().cloned());
            let (binary, arguments) = (options.binary.clone(), Vec::new());
            let launch = Launch { binary, arguments, settings, defaults: false, logs: true };
            let node = Server::prepare(launch)?;
            start(&node).await?;
            targets.push(Target::at(&node.url()).await?);
            nodes.push(node);
            proxies.push(between);
        }
        Ok(Self { nodes, targets, database, redis, proxies })
    }

    /// Where the nodes listen.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.targets.iter().map(|target| target.addr).collect()
    }
}

/// Starts a node, or starts it again.
pub(crate) async fn start(node: &Arc<Server>) -> Result<(), String> {
    let node = Arc::clone(node);
    tokio::task::spawn_blocking(move || node.start()).await.map_err(|error| error.to_string())?
}

/// How much lower the priority of a relaxed database is: it takes what processor time the others leave.
const NICENESS: u8 = 15;

/// Starts a database, and says its URL. The commits of a relaxed one need not be on disk.
pub(crate) async fn database(python: &Path, relaxed: bool) -> Result<(Companion, String), String> {
    let text = |arguments: &[&str]| arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>();
    let database = match found("mongod") {
        Some(mongod) => Companion::prepare(mongod, |folder, port| {
            text(&["--bind_ip", "127.0.0.1", "--port", port, "--replSet", "load", "--dbpath", folder])
        })?,
        None => {
            let python = absolute(python)?;
            Companion::prepare(python, |folder, port| {
                let data = format!("{folder}/data");
                let mut arguments = text(&["-m", "secantus", "--port", port, "--storage-path", &data]);
                arguments.extend((!relaxed).then(|| "--sync-on-commit".to_owned()));
                arguments
            })?
        }
    };
    let database = if relaxed { database.with_niceness(NICENESS) } else { database };
    database.start().await?;
    let url = format!("mongodb://{}/load?directConnection=true", database.addr());
    Ok((database, url))
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    let problem =
        "no database: install mongod, give --store or --python, or run tests/run.sh, which installs SecantusDB";
    // The link itself, which says where its packages are.
    let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
    if absolute.exists() { Ok(absolute) } else { Err(problem.to_owned()) }
}

async fn redis(options: &Options) -> Result<Vec<Companion>, String> {
    let mut servers = Vec::new();
    if options.redis == "spawn" {
        let program = found("redis-server").ok_or("redis-server is not installed: apt-get install redis-server")?;
        for _ in 0..options.redis_servers {
            let arguments = |folder: &str, port: &str| {
                let arguments =
                    ["--bind", "127.0.0.1", "--port", port, "--dir", folder, "--save", "", "--appendonly", "no"];
                arguments.map(str::to_owned).to_vec()
            };
            let server = Companion::prepare(program.clone(), arguments)?;
            server.start().await?;
            servers.push(server);
        }
    }
    Ok(servers)
}
