//! The connection to the database: made in the background, watched by a beat, and told about once per change.
//!
//! Every [`BEAT`] each node writes its own document of `nodes` with a majority, and reads the time that the database
//! gave it ([`super::pulse`]). That answers three questions: whether the database can be written (readiness; while it
//! cannot, calls fail at once instead of waiting), up to which position everything is visible ([`super::horizon`]), and
//! which nodes live ([`super::nodes`]) or have died with work half done ([`super::recovery`]).

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mongodb::{
    Client,
    bson::{Document, oid::ObjectId},
    options::{
        Acknowledgment, ClientOptions, ConnectionString, DatabaseOptions, HostInfo, ReadConcern, ReadPreference,
        SelectionCriteria, WriteConcern,
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    StoreError,
    bounds::Bounds,
    db::Db,
    fault::{Fault, store_error},
    horizon::Horizon,
    migrations,
    nodes::{self, Dead, Identity, Joining, Standing, Watch},
    pulse::{Beaten, Pulse},
    unavailable,
    unsettled::Unsettled,
};
use crate::{
    ids::NodeId,
    store::{conversations::StoreId, fleet::Listing},
    supervisor::Supervisor,
};

/// How often a node shows that it is there.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// How often a node that wants to join looks at the others.
const LOOK: Duration = Duration::from_millis(250);
/// How much longer than a call the start waits for other nodes to show themselves.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after the beginning of a good beat a node reads and writes. Others take it for dead only when all that it may have
/// begun until then is over: see [`Bounds::dead_after`].
pub(super) const LEASE: Duration = Duration::from_secs(5);
/// Connections of the pool when the URI does not say how many; the driver's own 10 are few for a server. Made as they are needed.
const POOL: u32 = 100;
/// The database when the URI names none.
const DATABASE: &str = "members_book";

/// How the database is.
#[derive(Debug, Clone)]
enum State {
    /// The first attempt to reach it is under way, or others are looked at before this node joins them.
    Connecting,
    /// It answers, and did so to what was asked at this moment.
    Up(Instant),
    /// It does not, and why.
    Down(StoreError),
    /// Another node is there, and this one has to go; for people.
    Refused(String),
}

/// What an attempt to look after the database came to.
enum Attempt {
    /// It answers, and this node is one of those that use it: so it was when it was asked.
    Joined(Instant),
    /// Others may be there; for people.
    Watching(String),
    /// Another node is there; for people.
    Refused(String),
}

/// What is known once the database was reached.
struct Reached {
    client: Client,
    db: Db,
    store_id: StoreId,
}

/// The connection.
pub(super) struct Link {
    uri: SecretString,
    timeout: Duration,
    /// What this process says about itself in `nodes`.
    pub(super) identity: Identity,
    reached: OnceLock<Reached>,
    state: watch::Sender<State>,
    pulse: Pulse,
    /// What was seen of other nodes before this one has joined them.
    joining: tokio::sync::Mutex<Joining>,
    joined: AtomicBool,
    /// Who is waited for, so that it is logged once.
    watched: Mutex<Option<String>>,
    /// How many times the others were looked at, or are about to be.
    looks: AtomicU64,
    /// How long the other nodes have been silent, as of which look.
    watch: Mutex<(u64, Watch)>,
    /// The other nodes that are dead, as of the latest beat.
    dead: Mutex<Vec<Dead>>,
    pub(super) listing: watch::Sender<Option<Listing>>,
    pub(super) horizon: Horizon,
    /// What may be half done.
    pub(super) unsettled: Unsettled,
    pub(super) stop: CancellationToken,
}

impl Link {
    /// A connection that is yet to be made. Checks the URI as far as that is possible without a network.
    pub(super) fn new(uri: SecretString, identity: Identity, pulse: Pulse) -> Result<Self, StoreError> {
        check_uri(&uri)?;
        let (state, _) = watch::channel(State::Connecting);
        let Bounds { timeout, window } = identity.bounds;
        let unsettled = Unsettled::new(identity.bounds.dead_after());
        let (horizon, stop) = (Horizon::new(window), CancellationToken::new());
        let (joining, joined) = (tokio::sync::Mutex::new(Joining::new()), AtomicBool::new(false));
        let (reached, watched, dead) = (OnceLock::new(), Mutex::default(), Mutex::default());
        let (watch, listing) = (Mutex::new((0, Watch::default())), watch::Sender::new(None));
        Ok(Self {
            uri,
            timeout,
            identity,
            reached,
            state,
            pulse,
            joining,
            joined,
            watched,
            looks: AtomicU64::new(0),
            watch,
            dead,
            listing,
            horizon,
            unsettled,
            stop,
        })
    }

    /// Waits until it is known whether this node may use the database; a database that does not answer may be used once
    /// it does.
    pub(super) async fn opened(&self) -> Result<(), StoreError> {
        let mut state = self.state.subscribe();
        let known = timeout(self.timeout + PATIENCE, state.wait_for(|state| !matches!(state, State::Connecting))).await;
        match known.map(|state| state.map(|state| state.clone())) {
            Ok(Ok(State::Refused(why))) => Err(StoreError::Unavailable(why)),
            _ => Ok(()),
        }
    }

    /// Waits until this node is known to be one of those that may write, before each step of what has begun: like the steps
    /// themselves, for as long as it takes, unless the store is closed.
    pub(super) async fn pass(&self) -> Result<(), StoreError> {
        let mut state = self.state.subscribe();
        let known = state.wait_for(|state| match state {
            State::Up(asked) => asked.elapsed() < LEASE,
            State::Refused(_) => true,
            State::Connecting | State::Down(_) => false,
        });
        match self.stop.run_until_cancelled(known).await {
            Some(Ok(state)) if matches!(*state, State::Up(_)) => Ok(()),
            // What was begun may have happened.
            _ => Err(StoreError::Timeout),
        }
    }

    /// The database, if it answers. Waits only while the first attempt to reach it is under way, or the next beat of a node
    /// that was paused.
    pub(super) async fn db(&self) -> Result<Db, StoreError> {
        let mut state = self.state.subscribe();
        let is_known = |state: &State| match state {
            State::Connecting => false,
            State::Up(asked) => asked.elapsed() < LEASE,
            State::Down(_) | State::Refused(_) => true,
        };
        let known = timeout(self.timeout, state.wait_for(is_known)).await;
        match known.map(|state| state.map(|state| state.clone())) {
            Ok(Ok(State::Up(_))) => {}
            Ok(Ok(State::Down(error))) => return Err(error),
            Ok(Ok(State::Refused(why))) => return Err(StoreError::Unavailable(why)),
            Ok(_) | Err(_) => return Err(unavailable("it has not answered yet")),
        }
        if self.stop.is_cancelled() {
            return Err(unavailable("it is closed"));
        }
        self.reached.get().map(|reached| reached.db.clone()).ok_or_else(|| unavailable("it has not answered yet"))
    }

    /// Waits until a beat has answered that began after now: then this node knows the epochs of now. It is the same beat for all who wait,
    /// however many they are, and nothing else is asked.
    pub(super) async fn next_beat(&self) -> Result<(), StoreError> {
        let (now, mut state) = (Instant::now(), self.state.subscribe());
        let is_known = |state: &State| match state {
            State::Connecting => false,
            State::Up(asked) => *asked >= now,
            State::Down(_) | State::Refused(_) => true,
        };
        if timeout(self.timeout + BEAT, state.wait_for(is_known)).await.is_err() {
            return Err(StoreError::Timeout);
        }
        self.db().await.map(drop)
    }

    /// Which database it is; zeros before it was first reached, when nobody can have signed in.
    pub(super) fn store_id(&self) -> StoreId {
        self.reached.get().map_or(StoreId([0; 8]), |reached| reached.store_id)
    }

    /// Reaches the database, and keeps looking after it until the store is closed, or this node has to go.
    pub(super) async fn keep(self: Arc<Self>, supervisor: Supervisor) {
        loop {
            let started = Instant::now();
            // Not dropped half-way when it is late: the driver would throw the connection away.
            let link = Arc::clone(&self);
            let attempt = tokio::spawn(async move { link.attempt().await });
            let outcome = match timeout(self.timeout + BEAT, attempt).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(StoreError::Inconsistent("looking after the database panicked".to_owned())),
                Err(_) => Err(StoreError::Timeout),
            };
            let pause = if matches!(outcome, Ok(Attempt::Watching(_))) { LOOK } else { BEAT };
            if let Some(why) = self.report(outcome) {
                // Whoever starts is told by `opened`; this is for a server that has started already.
                supervisor.fail(format!("DATABASE_URL: {why}"));
                self.leave().await;
                return self.stop.cancelled().await;
            }
            if self.stop.run_until_cancelled(tokio::time::sleep_until(started + pause)).await.is_none() {
                return;
            }
        }
    }

    /// Takes this node off the list, to which it does not come back.
    async fn leave(&self) {
        let Some(Reached { db, .. }) = self.reached.get() else { return };
        self.pulse.end(db.max_time).await;
        let own = self.identity.filter();
        let gone = async move |db: Db| Ok(db.collection::<Document>("nodes").delete_one(own).await?);
        if let Err(error) = db.within(gone).await {
            tracing::debug!(error = %StoreError::from(error), "the node was not taken off the list");
        }
    }

    /// Says goodbye, so that nobody has to look after what this node may have left.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        let Some(Reached { client, db, .. }) = self.reached.get() else { return };
        self.pulse.end(db.max_time).await;
        let is_listed = matches!(*self.state.borrow(), State::Up(_) | State::Connecting);
        // What is half done here is finished by others, who find it by the document of this node.
        if is_listed && self.unsettled.since().is_none() {
            self.leave().await;
        }
        client.clone().shutdown().immediate(true).await;
    }

    /// Asks the database now rather than at the next beat.
    pub(super) async fn beat(&self) -> Result<(), Fault> {
        let db = self.db().await?;
        self.pulse.beat(&db, self).await.map(drop)
    }

    async fn attempt(&self) -> Result<Attempt, StoreError> {
        if self.reached.get().is_none() {
            let (client, db) = connect(&self.uri, self.timeout).await?;
            let store_id = migrations::run(&db).await?;
            // An attempt that was late may have been first.
            let _ = self.reached.set(Reached { client, db, store_id });
        }
        let Some(Reached { db, .. }) = self.reached.get() else { return Err(unavailable("it has not answered yet")) };
        let beaten = self.pulse.beat(db, self).await?;
        let attempt = self.join(db, beaten).await?;
        if matches!(attempt, Attempt::Joined(_)) {
            self.look_around(db).await?;
        }
        Ok(attempt)
    }

    /// Finds out who else uses the database.
    async fn look_around(&self, db: &Db) -> Result<(), Fault> {
        // An attempt that was late may end after the next one.
        let number = self.looks.fetch_add(1, Ordering::Relaxed);
        // Before the others are read: who joins later stores with larger positions.
        let (horizon, own, generation) = (self.horizon.now(), self.identity.node, self.identity.generation());
        let others = db.within(async move |db| nodes::others(&db, own).await).await?;
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let (latest, watch) = &mut *watch;
        if *latest > number {
            return Ok(());
        }
        *latest = number;
        // Of one with a larger window something may not be visible yet, though the horizon was beyond it; not of one that joins only now.
        let windows = others.iter().map(|other| Bounds::of(other, self.identity.bounds).window);
        let horizon = horizon.less(windows.max().map_or(0, |window| self.horizon.widen(window)));
        let dead = watch.look(&self.identity, &others, Instant::now());
        let others = others.iter().filter_map(|other| nodes::listed(other, &dead)).collect();
        *self.dead.lock().unwrap_or_else(PoisonError::into_inner) = dead;
        let (store, own) = (self.store_id(), NodeId(own.bytes()));
        self.listing.send_replace(Some(Listing { store, own, generation, horizon, others }));
        Ok(())
    }

    /// The other nodes that are dead, as far as is known.
    pub(super) fn dead(&self) -> Vec<Dead> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The other nodes that begin nothing any more, as far as is known.
    pub(super) fn silent(&self) -> Vec<ObjectId> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).1.silent(Instant::now())
    }

    /// Whether this node has joined the others.
    fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Joins the nodes that use the database, if that is to be.
    async fn join(&self, db: &Db, Beaten { at, asked }: Beaten) -> Result<Attempt, Fault> {
        if self.has_joined() {
            return Ok(Attempt::Joined(asked));
        }
        let Ok(mut joining) = timeout(self.timeout, self.joining.lock()).await else {
            return Err(StoreError::Timeout.into());
        };
        Ok(match joining.look(db, &self.identity, at).await? {
            Standing::Granted => {
                self.joined.store(true, Ordering::Release);
                Attempt::Joined(asked)
            }
            Standing::Watching(who) => Attempt::Watching(who),
            Standing::Refused(why) => Attempt::Refused(why),
        })
    }

    /// Logs once per change. Returns why this node has to go, if it has to.
    fn report(&self, outcome: Result<Attempt, StoreError>) -> Option<String> {
        let next = match outcome {
            Ok(Attempt::Joined(asked)) => State::Up(asked),
            Ok(Attempt::Watching(who)) => {
                let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
                if watched.is_none() {
                    tracing::info!("another process may use this database: {who}; waiting whether it shows itself");
                    *watched = Some(who);
                }
                State::Connecting
            }
            Ok(Attempt::Refused(why)) => State::Refused(why),
            // Nobody's request was tried, so nobody's outcome is unknown.
            Err(StoreError::Timeout) => State::Down(unavailable("it does not answer in time")),
            Err(error) => State::Down(error),
        };
        let before = self.state.send_replace(next.clone());
        match (&next, before) {
            (State::Up(_), State::Connecting) => tracing::info!("the database is reached"),
            (State::Up(_), State::Down(_)) => tracing::info!("the database is reached again"),
            (State::Down(error), State::Up(_) | State::Connecting) => {
                tracing::error!(%error, "the database is not reached; requests fail until it is");
            }
            (State::Refused(why), _) => return Some(why.clone()),
            (State::Up(_), _) | (State::Down(_), _) | (State::Connecting, _) => {}
        }
        None
    }
}

/// Checks a URI as far as that is possible without a network. The message never has the URI in it.
pub(super) fn check_uri(uri: &SecretString) -> Result<(), StoreError> {
    let parsed = ConnectionString::parse(uri.expose_secret());
    parsed.map(drop).map_err(|_| unavailable("it is not a MongoDB URI such as mongodb://host/database"))
}

/// How many connections the pool of a URI may have.
pub(super) fn pool(uri: &SecretString) -> usize {
    let parsed = ConnectionString::parse(uri.expose_secret()).ok().and_then(|parsed| parsed.max_pool_size);
    // The driver takes 0 for no limit.
    usize::try_from(parsed.filter(|size| *size > 0).unwrap_or(POOL)).unwrap_or(usize::MAX)
}

/// Makes a client. Pool, compression, TLS and the like come from the URI; what it leaves out has our defaults.
pub(super) async fn connect(uri: &SecretString, limit: Duration) -> Result<(Client, Db), StoreError> {
    let mut options = ClientOptions::parse(uri.expose_secret()).await.map_err(|error| store_error(&error))?;
    options.app_name.get_or_insert_with(|| "members-book".to_owned());
    options.server_selection_timeout.get_or_insert(limit);
    options.connect_timeout.get_or_insert(limit);
    options.max_pool_size.get_or_insert(POOL);
    // What promises depend on is not left to the URI.
    let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(limit).build();
    let settings = DatabaseOptions::builder()
        .read_concern(ReadConcern::majority())
        .write_concern(durable)
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build();
    let name = options.default_database.clone().unwrap_or_else(|| DATABASE.to_owned());
    let client = Client::with_options(options).map_err(|error| store_error(&error))?;
    let database = client.database_with_options(&name, settings);
    Ok((client, Db { database, max_time: limit }))
}

/// Where a URI leads, without credentials.
pub(super) fn describe(uri: &SecretString) -> String {
    let Ok(parsed) = ConnectionString::parse(uri.expose_secret()) else { return "MongoDB".to_owned() };
    let name = parsed.default_database.as_deref().unwrap_or(DATABASE);
    let hosts = match &parsed.host_info {
        HostInfo::HostIdentifiers(hosts) => hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        HostInfo::DnsRecord(host) => host.clone(),
        _ => String::new(),
    };
    format!("MongoDB, {hosts}/{name}")
}
