//! The production store: MongoDB, a replica set or Atlas, shared by any number of nodes.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`link`], [`db`] | the connection: made in the background, watched by a beat; what calls have in common |
//! | [`pulse`], [`beats`], [`record`] | the beat; what it tells about the clock of the database; the epochs that all nodes share |
//! | [`nodes`], [`bounds`] | which nodes use the database, and whether this one may; how long the commands of each may take |
//! | [`horizon`] | positions without a common counter, and why a cursor skips nothing |
//! | [`migrations`] | the indexes and the numbered schema changes |
//! | [`members`], [`sessions`], [`audit`], [`recommendations`], [`jobs`], [`invitations`], [`mail`] | these aggregates |
//! | [`candidates`] | whom one could recommend |
//! | [`log`] | appending messages and moving watermarks, a batch at a time |
//! | [`append`], [`ahead`] | sequence numbers by optimistic insert; what others have stored meanwhile |
//! | [`settle`] | what follows from a batch, written beside the messages |
//! | [`receipts`] | writing watermarks and what follows from them |
//! | [`conversations`], [`history`], [`unread`] | reading conversations and changes; the log of one; what is unread |
//! | [`turns`] | whose call goes to the database next |
//! | [`fleet`] | what the nodes tell each other through the database |
//! | [`unsettled`], [`recovery`] | what may be half done; finishing what was left so |
//! | [`push`] | devices, what they have acknowledged, and what they are to be told |
//! | [`archive`] | everything as rows |
//! | [`restore`] | ending what a restored backup has brought back |
//! | [`document`], [`fault`] | documents to types and back; what an error means |
//!
//! The driver's futures are never dropped half-way, which would cost their connection: work runs in tasks, and who
//! waits for it stops waiting after the timeout.

mod addresses;
mod ahead;
mod append;
mod archive;
mod audit;
mod beats;
mod bounds;
mod candidates;
mod claims;
mod conversations;
mod db;
mod document;
mod email_change;
mod fault;
mod fleet;
mod history;
mod horizon;
mod invitations;
mod jobs;
mod link;
mod list;
mod log;
mod mail;
mod members;
pub mod migrations;
mod nodes;
mod pulse;
mod push;
mod receipts;
mod recommendations;
mod record;
mod recovery;
mod registration;
mod restore;
mod sessions;
mod settings;
mod settle;
mod turns;
mod unread;
mod unsettled;

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use async_trait::async_trait;
use mongodb::bson::{Bson, DateTime, doc, oid::ObjectId};
use protocol::{ConversationId, MemberId};
use quick_cache::sync::Cache;
use secrecy::SecretString;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

pub use self::nodes::Nodes;
use self::{
    bounds::Bounds,
    db::Db,
    fault::Fault,
    link::Link,
    log::{LogState, MemberRef},
    nodes::Identity,
    pulse::Pulse,
    turns::{CallGate, Permit},
    unread::{CountKey, Counted},
};
use super::{
    Backend, Store, StoreError,
    conversations::{ConversationCounts, StoreId},
    restore::{Ended, Ending},
    turns::{Caller, Turn},
};
use crate::{clock::Clock, ids::Ids, supervisor::Supervisor, telemetry::Metrics};

/// Conversations whose state is remembered: about 300 bytes each.
const CONVERSATIONS: usize = 100_000;
/// Members that are remembered to be active or not: about 50 bytes each.
const MEMBERS: usize = 200_000;

/// Counts of what is unread that are remembered: about 100 bytes each.
const COUNTS: usize = 100_000;

/// How to open the store.
#[derive(Clone)]
pub struct Options {
    /// The connection string. Pool size, compression, TLS and the rest of the driver's settings are in it.
    pub uri: SecretString,
    /// How long a call waits for its answer, and the server works on a command.
    pub timeout: Duration,
    /// How far cursors lie behind; see [`horizon`]. `None`: as far as the timeout asks for.
    pub window: Option<Duration>,
    /// Batches of commands that are applied at the same time.
    pub lanes: usize,
    /// How this process uses the database.
    pub nodes: Nodes,
    /// The name of this node, for people; without it the name of the machine.
    pub name: Option<String>,
}

impl Options {
    /// Options for a connection string, and a node that serves.
    #[must_use]
    pub fn new(uri: SecretString, timeout: Duration) -> Self {
        Self { uri, timeout, window: None, lanes: 8, nodes: Nodes::Serving, name: None }
    }
}

/// What everything in the store shares.
struct Core {
    link: Arc<Link>,
    conversations: Cache<ConversationId, LogState>,
    members: Cache<MemberId, MemberRef>,
    unread: Cache<CountKey, Counted>,
    clock: Arc<dyn Clock>,
    ids: Arc<Ids>,
    metrics: Arc<Metrics>,
    /// Whether this node has looked after the one that may have been in its place.
    looked: AtomicBool,
    /// The dead nodes of which a warning was given, and their last beats.
    warned_of: Mutex<Vec<(ObjectId, DateTime)>>,
}

/// The store.
pub struct Mongo {
    core: Arc<Core>,
    lanes: usize,
    reads: CallGate,
    /// Of what is not the log's.
    writes: CallGate,
    timeout: Duration,
    description: String,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

impl Mongo {
    /// Opens the store: returns at once, and reaches the database in the background, which then brings its schema up to
    /// date. Calls wait for the first attempt; after that they fail at once while the database is not there.
    ///
    /// # Errors
    /// When the URI is none.
    pub fn open(
        options: Options,
        clock: Arc<dyn Clock>,
        ids: Arc<Ids>,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<Store, StoreError> {
        let Options { uri, timeout, window, lanes, nodes, name } = options;
        let (description, pool) = (link::describe(&uri), link::pool(&uri));
        let node = ObjectId::from_bytes(*ids.connection().as_bytes());
        let pulse = Pulse::new(Arc::clone(&ids), Arc::clone(&metrics));
        let window = window.unwrap_or(timeout + Duration::from_millis(beats::SKEW));
        let identity = Identity::new(node, nodes, name, Bounds { timeout, window });
        let link = Arc::new(Link::new(uri, identity, pulse)?);
        let keeping = Arc::clone(&link).keep(supervisor.clone());
        // It ends when the store is closed, which may be before the shutdown of whatever has opened it.
        let keeper = Mutex::new(Some(supervisor.until(link.stop.clone(), "database", keeping)));
        let core = Arc::new(Core {
            link,
            conversations: Cache::new(CONVERSATIONS),
            members: Cache::new(MEMBERS),
            unread: Cache::new(COUNTS),
            clock,
            ids,
            metrics,
            looked: AtomicBool::new(false),
            warned_of: Mutex::default(),
        });
        let (reads, writes) = (CallGate::of_reads(pool), CallGate::of_writes(pool));
        let mongo = Arc::new(Self { core, lanes, reads, writes, timeout, description, keeper });
        Ok(Store {
            members: Arc::clone(&mongo) as _,
            sessions: Arc::clone(&mongo) as _,
            conversations: Arc::clone(&mongo) as _,
            log: Arc::clone(&mongo) as _,
            recovery: Some(Arc::clone(&mongo) as _),
            fleet: Some(Arc::clone(&mongo) as _),
            audit: Arc::clone(&mongo) as _,
            archive: Arc::clone(&mongo) as _,
            recommendations: Arc::clone(&mongo) as _,
            invitations: Arc::clone(&mongo) as _,
            jobs: Arc::clone(&mongo) as _,
            mail: Arc::clone(&mongo) as _,
            push: Arc::clone(&mongo) as _,
            backend: mongo,
        })
    }

    /// Runs `work` in a task, and waits for it until the timeout. It may go on after that.
    async fn call<T, F, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
        W: FnOnce(Arc<Core>, Db) -> F,
    {
        let db = self.core.link.db().await;
        let answer = match db {
            Ok(db) => {
                let task = tokio::spawn(work(Arc::clone(&self.core), db));
                match tokio::time::timeout(self.timeout, task).await {
                    Ok(Ok(answer)) => answer.map_err(StoreError::from),
                    Ok(Err(_)) => Err(StoreError::Inconsistent("a call panicked".to_owned())),
                    Err(_) => Err(StoreError::Timeout),
                }
            }
            Err(error) => Err(error),
        };
        self.count_error(answer)
    }

    /// The same without a limit of ours: for what goes through everything, and for which somebody waits who can stop it.
    async fn unhurried<T, F, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
        W: FnOnce(Db) -> F,
    {
        let db = self.core.link.db().await?;
        // Whoever waits no longer begins anew later: two at a time help nobody.
        let done = AbortOnDropHandle::new(tokio::spawn(work(db))).await;
        let done = done.map_err(|_| StoreError::Inconsistent("a call panicked".to_owned()))?;
        self.count_error(done.map_err(StoreError::from))
    }

    /// The same for what only reads, when it is its turn.
    async fn read<T, F, W>(&self, turn: Turn, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
        W: FnOnce(Arc<Core>, Db) -> F,
    {
        let started = tokio::time::Instant::now();
        let answer = match self.turn(&self.reads, turn, StoreError::Timeout).await {
            Ok(place) => self.holding(place, work).await,
            Err(error) => Err(error),
        };
        self.core.metrics.store_read_seconds.observe(started.elapsed().as_secs_f64());
        answer
    }

    /// The same for what writes anything but the log, when it is its turn. One whose turn does not come was not tried.
    async fn write<T, F, W>(&self, caller: Caller, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
        W: FnOnce(Arc<Core>, Db) -> F,
    {
        let started = tokio::time::Instant::now();
        let work = |core, db| {
            let work = work(core, db);
            async move { work.await.map_err(Fault::of_write) }
        };
        let answer = match self.turn(&self.writes, Turn::of(caller), StoreError::Overloaded).await {
            Ok(place) => self.holding(place, work).await,
            Err(error) => Err(error),
        };
        self.core.metrics.store_write_seconds.observe(started.elapsed().as_secs_f64());
        answer
    }

    async fn turn(&self, turns: &CallGate, turn: Turn, late: StoreError) -> Result<Permit, StoreError> {
        // While the database is known to be gone nobody waits for those who do not know it yet.
        self.count_error(self.core.link.db().await)?;
        let place = tokio::time::timeout(self.timeout, turns.wait(turn)).await;
        self.count_error(place.unwrap_or(Err(late)))
    }

    /// A turn ends with its work, not with whoever waits for it.
    async fn holding<T, F, W>(&self, place: Permit, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
        W: FnOnce(Arc<Core>, Db) -> F,
    {
        self.call(|core, db| {
            let work = work(core, db);
            async move {
                let done = work.await;
                drop(place);
                done
            }
        })
        .await
    }

    fn count_error<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &answer {
            self.core.metrics.store_error(error.kind());
        }
        answer
    }
}

#[async_trait]
impl Backend for Mongo {
    fn describe(&self) -> String {
        self.description.clone()
    }

    async fn opened(&self) -> Result<(), StoreError> {
        self.core.link.opened().await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.core.link.db().await.map(drop)
    }

    fn store_id(&self) -> StoreId {
        self.core.link.store_id()
    }

    async fn count(&self) -> Result<ConversationCounts, StoreError> {
        self.read(Turn::HEAVY_SYSTEM, async move |_, db| conversations::count(&db).await).await
    }

    async fn size(&self) -> Result<u64, StoreError> {
        self.read(Turn::SYSTEM, async move |_, db| {
            let stats = db.database.run_command(doc! { "dbStats": 1 }).await?;
            let number = |name| match stats.get(name) {
                Some(Bson::Double(number)) => format!("{number:.0}").parse().ok(),
                Some(Bson::Int32(number)) => Some(i64::from(*number)),
                Some(Bson::Int64(number)) => Some(*number),
                _ => None,
            };
            Ok(document::unsigned(number("totalSize").or_else(|| number("storageSize")).unwrap_or(0)))
        })
        .await
    }

    async fn end_after_restore(&self, ending: Ending) -> Result<Ended, StoreError> {
        let link = Arc::clone(&self.core.link);
        self.unhurried(async move |_| restore::end(&link, ending).await).await
    }

    async fn close(&self) {
        self.core.link.close().await;
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(keeper) = keeper {
            // One that panicked has nothing left to finish.
            let _ = keeper.await;
        }
    }
}

/// What the schema of a database lacks; brings it up to date unless that is only to be told.
///
/// # Errors
/// When the database cannot be reached, or is from a newer version.
pub async fn migrate(uri: &SecretString, timeout: Duration, check_only: bool) -> Result<Vec<String>, StoreError> {
    let (client, db) = link::connect(uri, timeout).await?;
    let missing = migrations::pending(&db).await?;
    if !check_only {
        migrations::run(&db).await?;
    }
    client.shutdown().await;
    Ok(missing.into_iter().map(|name| format!("migration {name}")).collect())
}

fn unavailable(reason: &str) -> StoreError {
    StoreError::Unavailable(reason.to_owned())
}
