//! A server that runs: from its settings to its end.
//!
//! [`foundation`] puts the pieces together, [`background`] and [`relief`] have the tasks that run beside the connections.

mod background;
mod foundation;
mod maintenance;
mod reach;
mod relief;

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use protocol::rest::RegistrationPolicy;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use foundation::World;
pub use maintenance::{
    after_restore, copy, create_admin, demo, migrate, promote, reset_link, reset_second_factor, set_email, take_back,
};

use self::{background::Joined, foundation::Foundation, reach::Reach};
use crate::{
    admission::{LEAVING_MAX, Places},
    auth::KeyRing,
    config::{Settings, settings::Because},
    connection,
    http::{self, AppState, address::Proxies, detach::Detached, host::Hosts, readiness::Readiness, serve::Server},
    service::{accounts::Accounts, cursor, sequencer::Lanes, session_check::SessionCheck, setup::Setup},
    store::{Backend, fleet::SecretId, mongo::Nodes},
    supervisor::Supervisor,
    telemetry::Quiet,
};

/// Files that are kept for the store, logs, listeners and connections that are being closed when connections are counted.
const RESERVED_FILES: u64 = 256 + (2 * LEAVING_MAX + background::METRICS_CONNECTIONS) as u64;

/// Why a server did not start. Names the setting, if it is one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

fn start_error(what: impl std::fmt::Display) -> StartError {
    StartError(what.to_string())
}

/// A server that runs.
pub struct App {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where clients reach it, if a setting says so; else empty.
    pub public_url: String,
    /// Who may register, and why it is so.
    pub who_registers: (RegistrationPolicy, Because),
    /// Whether anybody but who sits at this machine reaches it.
    pub is_reached: bool,
    /// Where it serves metrics.
    pub metrics_addr: Option<SocketAddr>,
    /// One line about its store.
    pub store: String,
    /// Where its photos are.
    pub photos: String,
    /// Where mail goes.
    pub mail: String,
    /// The file of the secret that was generated, if no setting gives one.
    pub generated_secret: Option<PathBuf>,
    /// Accounts.
    pub accounts: Arc<Accounts>,
    /// Whether the club is set up, and how it gets so.
    pub setup: Arc<Setup>,
    reach: Reach,
    connection: Arc<connection::Context>,
    fleet: Option<Joined>,
    backend: Arc<dyn Backend>,
    lanes: Lanes,
    http_tasks: TaskTracker,
    background: Vec<JoinHandle<()>>,
    session_check: Arc<SessionCheck>,
    supervisor: Supervisor,
    drain: Drain,
    shutdown: CancellationToken,
    shutdown_timeout: Duration,
}

/// How a server leaves the fleet.
struct Drain {
    /// Whether another node is there to which connections can go.
    has_others: Box<dyn Fn() -> bool + Send + Sync>,
    /// Cancelled when it begins.
    begun: CancellationToken,
    /// How long it takes.
    time: Duration,
}

impl App {
    /// Starts a server.
    ///
    /// # Errors
    /// When a setting does not fit, the store cannot be opened, or an address is taken; the message says which.
    pub async fn start(settings: Settings, world: World) -> Result<Self, StartError> {
        let max_connections = max_connections(settings.connections.max_connections)?;
        let base = Foundation::lay(settings, world, Nodes::Serving)?;
        let (backend, shutdown) = (Arc::clone(&base.store.backend), base.shutdown.clone());
        let started = Self::start_on(base, max_connections).await;
        if started.is_err() {
            shutdown.cancel();
            backend.close().await;
        }
        started
    }

    /// Starts a server on its foundation. What can fail comes first: the tasks of one that does not start would say that
    /// they have ended.
    async fn start_on(base: Foundation, max_connections: usize) -> Result<Self, StartError> {
        base.store.backend.opened().await.map_err(|error| start_error(format!("DATABASE_URL: {error}")))?;
        let (ring, generated_secret) = base.key_ring()?;
        let (cursors, secret_id) = cursor_keys(&ring);
        let (quiet, limits) = (Arc::<Quiet>::default(), Arc::new(base.request_limits()));
        let (photos, listen, couriers) = (base.photos(&quiet)?, &base.settings.listen, base.couriers(&ring)?);
        let (photo_place, post, advice) = (photos.describe(), base.post(&ring)?, base.advice()?);
        let effects = base.effects(photos, &post);
        let accounts = Arc::new(base.accounts(&ring, &post, &effects)?);
        let setup = base.setup(&accounts, &ring);
        let (listener, addr) = listen_at(SocketAddr::new(listen.host, listen.port)).await?;
        post.is_reached_at(&listen.public_url, addr);
        let metrics_listener = bind_metrics(base.settings.telemetry.metrics_addr.0, addr).await?;
        let metrics_addr = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let (connection, lanes) = base.connection(&accounts, cursors, couriers);
        let session_check = base.session_check(&effects);
        let fleet = base.fleet(&connection, &effects, session_check.clone(), secret_id);
        let services = base.services(&connection, (&effects, Arc::clone(&accounts.sessions)), fleet.clone(), advice);
        let state = Arc::new(http::Context {
            accounts: Arc::clone(&accounts),
            setup: Arc::clone(&setup),
            credentials: Arc::clone(&services.credentials),
            second_factors: Arc::clone(&services.second_factors),
            recovery: services.recovery,
            advice: services.advice,
            profiles: Arc::clone(&services.profiles),
            photos: services.photos,
            directory: services.directory,
            documents: services.documents,
            exports: Arc::clone(&services.exports),
            administration: services.administration,
            connection: Arc::clone(&connection),
            readiness: Arc::new(Readiness::new(Arc::clone(&base.store.backend))),
            fleet: fleet.clone(),
            supervisor: base.supervisor.clone(),
            metrics: Arc::clone(&base.metrics),
            limits: Arc::clone(&limits),
            detached: Arc::<Detached>::default(),
            origins: listen.cors_origins.clone().into(),
            public_url: listen.public_url.clone(),
            hosts: Hosts::new(addr.ip(), &listen.public_url),
            security_txt: base.security_txt(),
            ids: Arc::clone(&base.ids),
            budget: Arc::clone(&base.budget),
            quiet: Arc::clone(&quiet),
            request_timeout: listen.request_timeout,
            draining: base.draining.clone(),
        });
        let places = base.places(max_connections, listen.trusted_proxies.clone().into());
        let http_tasks = TaskTracker::new();
        let serving = server(&base, state, &places, &http_tasks).run(listener);
        let mut background = vec![base.supervisor.essential("http", serving)];
        let beside = background::Beside {
            connection: Arc::clone(&connection),
            accounts: Arc::clone(&accounts),
            profiles: services.profiles,
            credentials: services.credentials,
            second_factors: services.second_factors,
            exports: services.exports,
            effects,
            limits,
            quiet,
            budget: Arc::clone(&base.budget),
            hub: Arc::clone(&base.hub),
            places,
            session_check: session_check.clone(),
            clock_watch: Arc::clone(&base.own.clock_watch),
        };
        background.extend(beside.start(&base.supervisor, &base.shutdown));
        let fleet = fleet.map(|fleet| background::join(fleet, &base.supervisor));
        background.push(background::tell_setup_code(&base.supervisor, Arc::clone(&setup), base.shutdown.clone()));
        background.extend(metrics_listener.map(|listener| {
            background::serve_metrics(&base.supervisor, listener, Arc::clone(&base.metrics), base.shutdown.clone())
        }));
        Ok(Self {
            addr,
            public_url: listen.public_url.clone(),
            who_registers: base.settings.who_registers(),
            is_reached: listen.is_reached(),
            metrics_addr,
            store: base.store.backend.describe(),
            photos: photo_place,
            mail: post.describe().to_owned(),
            generated_secret,
            accounts,
            setup,
            reach: Reach::of(&base),
            connection,
            drain: base.drain(fleet.as_ref().map(Joined::node)),
            fleet,
            backend: Arc::clone(&base.store.backend),
            lanes,
            http_tasks,
            background,
            session_check,
            supervisor: base.supervisor,
            shutdown_timeout: listen.shutdown_timeout,
            shutdown: base.shutdown,
        })
    }

    /// Waits until this server cannot go on: a task that everything depends on has ended, or another server uses its
    /// database. Returns why.
    pub async fn failed(&self) -> String {
        self.supervisor.failed().await
    }

    /// Has the sessions of all connections checked against the store at once, where several nodes use it: something that
    /// closes connections may have been lost. Never waits.
    pub fn check_sessions(&self) {
        self.session_check.check_now();
    }

    /// Serves a connection over anything that carries bytes, as if it were a socket that was upgraded to WebSocket already.
    /// For tests and measurements inside of one process; it counts towards no limit of connections.
    pub async fn serve<S>(&self, stream: S, peer: IpAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let task = connection::task::open((stream, Vec::new()), peer, None, Arc::clone(&self.connection));
        self.connection.tasks.spawn(task.run_to_end());
    }

    /// Sends the connections away to other nodes, one after the other over `DRAIN_TIME`. From now on no socket is opened and
    /// `/readyz` says `draining`; requests are answered as before, so that whoever spreads them has time to notice. Returns at
    /// once when no other node is there. To be followed by [`Self::stop`], at any time.
    pub async fn drain(&self) {
        let Drain { has_others, begun, time } = &self.drain;
        if time.is_zero() || !has_others() {
            return;
        }
        tracing::info!(seconds = time.as_secs_f64(), "draining");
        begun.cancel();
        self.connection.connections.drain(*time).await;
    }

    /// Stops: accepts nothing more, says goodbye to everybody with a time to come back, finishes what is under way,
    /// closes the store. Returns within the shutdown timeout; false if something had to be cut off.
    pub async fn stop(self) -> bool {
        let started = Instant::now();
        tracing::info!("shutting down");
        self.drain.begun.cancel();
        self.shutdown.cancel();
        self.connection.connections.send_away();
        self.http_tasks.close();
        self.connection.tasks.close();
        // A quarter of the time is for the store.
        let for_connections = started + self.shutdown_timeout * 3 / 4;
        let connections = async {
            self.connection.tasks.wait().await;
            self.http_tasks.wait().await;
            // Request handlers that the last HTTP connections have started.
            self.connection.tasks.wait().await;
            self.supervisor.finish().await;
        };
        let mut complete = timeout_at(for_connections, connections).await.is_ok();
        let store = async {
            self.lanes.finish().await;
            for task in self.background {
                // A task that panicked has nothing left to finish.
                let _ = task.await;
            }
            self.connection.push.finish().await;
            self.connection.watching.finish().await;
            self.accounts.audit.finish().await;
            if let Some(fleet) = self.fleet {
                fleet.leave().await;
            }
            self.backend.close().await;
        };
        complete &= timeout_at(started + self.shutdown_timeout, store).await.is_ok();
        tracing::info!(complete, seconds = started.elapsed().as_secs_f64(), "stopped");
        complete
    }
}

/// The keys of cursors, and which secret they are of.
fn cursor_keys(ring: &KeyRing) -> (cursor::Keys, SecretId) {
    let cursors = cursor::Keys::new(ring);
    let secret_id = cursors.secret_id();
    (cursors, secret_id)
}

/// What accepts connections.
fn server(base: &Foundation, state: AppState, places: &Arc<Places>, tasks: &TaskTracker) -> Server {
    let proxies = Arc::new(Proxies::new(base.settings.listen.trusted_proxies.clone().into()));
    let connections = &base.settings.connections;
    Server {
        router: http::router(state.clone(), Arc::clone(&proxies)),
        refusing: http::refusing(state, proxies),
        places: Arc::clone(places),
        write_timeout: connections.write_timeout,
        close_timeout: connections.close_timeout,
        metrics: Arc::clone(&base.metrics),
        tasks: tasks.clone(),
        shutdown: base.shutdown.clone(),
    }
}

/// Listens where metrics are served, if they are; `api`: where the API listens.
async fn bind_metrics(metrics: Option<SocketAddr>, api: SocketAddr) -> Result<Option<StdListener>, StartError> {
    let Some(metrics) = metrics else { return Ok(None) };
    let listener = bind("METRICS_ADDR", metrics, Some(api)).await?;
    listener.into_std().map(Some).map_err(start_error)
}

/// Listens for clients. Returns the address, which has the port if any free one was wanted.
async fn listen_at(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = bind("HOST and PORT", addr, None).await?;
    let addr = listener.local_addr().map_err(start_error)?;
    Ok((listener, addr))
}

/// Listens on an address. `api`: where the API listens already.
async fn bind(settings: &str, addr: SocketAddr, api: Option<SocketAddr>) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse if api.is_some_and(|api| api.port() == addr.port()) => {
                "; HOST and PORT have the same one: choose another port for one of them"
            }
            ErrorKind::AddrInUse => {
                "; another program listens there, maybe a server of before: end it, or choose another port"
            }
            ErrorKind::AddrNotAvailable => "; this machine does not have that address",
            ErrorKind::PermissionDenied => "; ports below 1024 need a right of their own: choose another one",
            _ => "",
        };
        start_error(format!("{settings}: cannot listen on {addr}: {error}{advice}"))
    })
}

/// How many connections there is room for. Raises the process's limit of open files as far as it may.
fn max_connections(wanted: usize) -> Result<usize, StartError> {
    let files = rlimit::increase_nofile_limit(u64::MAX).map_err(start_error)?;
    let room = usize::try_from(files.saturating_sub(RESERVED_FILES)).unwrap_or(usize::MAX).max(16);
    if wanted > room {
        tracing::warn!(wanted, room, "MAX_CONNECTIONS is more than the process may have files");
    }
    Ok(if wanted == 0 { room } else { wanted.min(room) })
}
