//! The connection to the database: made in the background, watched by a beat, and told about once per change.
//!
//! Every [`BEAT`] each node writes its own document of `nodes` with a majority, and reads the time that the database
//! gave it. That one write answers three questions: whether the database can be written (readiness; while it cannot,
//! calls fail at once instead of waiting), up to which position everything is visible ([`super::horizon`]), and which
//! nodes have died with work half done ([`super::recovery`]).

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use mongodb::{
    Client, Database,
    bson::{DateTime, Document, doc, oid::ObjectId},
    options::{
        Acknowledgment, ClientOptions, ConnectionString, DatabaseOptions, FindOneOptions, FindOptions, HostInfo,
        ReadConcern, ReadPreference, ReturnDocument, SelectionCriteria, WriteConcern,
    },
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    StoreError,
    fault::{Fault, store_error},
    horizon::Horizon,
    migrations, unavailable,
};
use crate::store::conversations::StoreId;

/// How often a node shows that it is there.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// The database when the URI names none.
const DATABASE: &str = "members_book";

/// A database, and how long its commands may take.
#[derive(Clone)]
pub(super) struct Db {
    pub(super) database: Database,
    pub(super) max_time: Duration,
}

impl Db {
    /// A collection. Reads are of the primary and see what a majority has; writes wait for a majority and its journals.
    pub(super) fn collection<T: Send + Sync>(&self, name: &str) -> mongodb::Collection<T> {
        self.database.collection(name)
    }

    /// The first document that matches.
    pub(super) async fn one<T>(
        &self,
        name: &str,
        filter: Document,
        mut options: FindOneOptions,
    ) -> Result<Option<T>, Fault>
    where
        T: DeserializeOwned + Send + Sync,
    {
        options.max_time = Some(self.max_time);
        Ok(self.collection::<T>(name).find_one(filter).with_options(options).await?)
    }

    /// All documents that match.
    pub(super) async fn all<T>(&self, name: &str, filter: Document, mut options: FindOptions) -> Result<Vec<T>, Fault>
    where
        T: DeserializeOwned + Send + Sync,
    {
        options.max_time = Some(self.max_time);
        Ok(self.collection::<T>(name).find(filter).with_options(options).await?.try_collect().await?)
    }

    /// The write concern of bulk commands, and their time limit.
    pub(super) fn bounded(&self, mut command: Document) -> Document {
        let millis = i64::try_from(self.max_time.as_millis()).unwrap_or(i64::MAX);
        command.insert("maxTimeMS", millis);
        command.insert("writeConcern", doc! { "w": "majority", "j": true, "wtimeout": millis });
        command
    }
}

/// How the database is.
#[derive(Debug, Clone)]
enum State {
    /// The first attempt to reach it is under way.
    Connecting,
    /// It answers.
    Up,
    /// It does not, and why.
    Down(StoreError),
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
    /// What this process is called in `nodes`.
    pub(super) node: ObjectId,
    reached: OnceLock<Reached>,
    state: watch::Sender<State>,
    pub(super) horizon: Horizon,
    pub(super) stop: CancellationToken,
}

impl Link {
    /// A connection that is yet to be made. Checks the URI as far as that is possible without a network.
    pub(super) fn new(
        uri: SecretString,
        timeout: Duration,
        window: Duration,
        node: ObjectId,
    ) -> Result<Self, StoreError> {
        check_uri(&uri)?;
        let (state, _) = watch::channel(State::Connecting);
        let (horizon, stop) = (Horizon::new(window), CancellationToken::new());
        Ok(Self { uri, timeout, node, reached: OnceLock::new(), state, horizon, stop })
    }

    /// The database, if it answers. Waits only while the first attempt to reach it is under way.
    pub(super) async fn db(&self) -> Result<Db, StoreError> {
        let mut state = self.state.subscribe();
        let known = timeout(self.timeout, state.wait_for(|state| !matches!(state, State::Connecting))).await;
        match known.map(|state| state.map(|state| state.clone())) {
            Ok(Ok(State::Up)) => {}
            Ok(Ok(State::Down(error))) => return Err(error),
            Ok(_) | Err(_) => return Err(unavailable("it has not answered yet")),
        }
        if self.stop.is_cancelled() {
            return Err(unavailable("it is closed"));
        }
        self.reached.get().map(|reached| reached.db.clone()).ok_or_else(|| unavailable("it has not answered yet"))
    }

    /// Which database it is; zeros before it was first reached, when nobody can have signed in.
    pub(super) fn store_id(&self) -> StoreId {
        self.reached.get().map_or(StoreId([0; 8]), |reached| reached.store_id)
    }

    /// Reaches the database, and keeps looking after it until the store is closed.
    pub(super) async fn keep(self: Arc<Self>) {
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
            self.report(outcome);
            if self.stop.run_until_cancelled(tokio::time::sleep_until(started + BEAT)).await.is_none() {
                return;
            }
        }
    }

    /// Says goodbye, so that nobody has to look after what this node may have left.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        let Some(Reached { client, db, .. }) = self.reached.get() else { return };
        if matches!(*self.state.borrow(), State::Up) {
            let gone = db.collection::<Document>("nodes").delete_one(doc! { "_id": self.node }).await;
            if let Err(error) = gone {
                tracing::debug!(error = %store_error(&error), "the node was not taken off the list");
            }
        }
        client.clone().shutdown().immediate(true).await;
    }

    /// Asks the database now rather than at the next beat.
    pub(super) async fn beat(&self) -> Result<(), Fault> {
        let db = self.db().await?;
        self.beat_on(&db).await
    }

    async fn attempt(&self) -> Result<(), StoreError> {
        if self.reached.get().is_none() {
            let (client, db) = connect(&self.uri, self.timeout).await?;
            let store_id = migrations::run(&db).await?;
            // Only this task gets here, one attempt after the other.
            let _ = self.reached.set(Reached { client, db, store_id });
        }
        let Some(Reached { db, .. }) = self.reached.get() else { return Err(unavailable("it has not answered yet")) };
        Ok(self.beat_on(db).await?)
    }

    async fn beat_on(&self, db: &Db) -> Result<(), Fault> {
        let nodes = db.collection::<Document>("nodes");
        let beat = nodes
            .find_one_and_update(doc! { "_id": self.node }, doc! { "$currentDate": { "at": true } })
            .upsert(true)
            .return_document(ReturnDocument::After)
            .max_time(db.max_time);
        let started = Instant::now();
        let node = beat.await?.ok_or_else(|| Fault::Data("the beat left no document".to_owned()))?;
        let at: DateTime = *node.get_datetime("at").map_err(|error| Fault::Data(error.to_string()))?;
        self.horizon.advance(at, started);
        Ok(())
    }

    /// Logs once per change.
    fn report(&self, outcome: Result<(), StoreError>) {
        let before = self.state.send_replace(match &outcome {
            Ok(()) => State::Up,
            Err(error) => State::Down(error.clone()),
        });
        match (outcome, before) {
            (Ok(()), State::Connecting) => tracing::info!("the database is reached"),
            (Ok(()), State::Down(_)) => tracing::info!("the database is reached again"),
            (Err(error), State::Up | State::Connecting) => {
                tracing::error!(%error, "the database is not reached; requests fail until it is");
            }
            (Ok(()), State::Up) | (Err(_), State::Down(_)) => {}
        }
    }
}

/// Checks a URI as far as that is possible without a network. The message never has the URI in it.
pub(super) fn check_uri(uri: &SecretString) -> Result<(), StoreError> {
    let parsed = ConnectionString::parse(uri.expose_secret());
    parsed.map(drop).map_err(|_| unavailable("it is not a MongoDB URI such as mongodb://host/database"))
}

/// Makes a client. Pool, compression, TLS and the like come from the URI; what it leaves out has our defaults.
pub(super) async fn connect(uri: &SecretString, limit: Duration) -> Result<(Client, Db), StoreError> {
    let mut options = ClientOptions::parse(uri.expose_secret()).await.map_err(|error| store_error(&error))?;
    options.app_name.get_or_insert_with(|| "members-book".to_owned());
    options.server_selection_timeout.get_or_insert(limit);
    options.connect_timeout.get_or_insert(limit);
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
