//! The wiring: settings in, a running server out.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, extract::State, http::header, response::IntoResponse as _, routing::get};
use protocol::{model::UserType, rest::RegisterRequest};
use secrecy::SecretString;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{AccessTokens, Passwords, access},
    clock::{Clock, SystemClock},
    config::{Settings, secret, settings::Auth, values::DatabaseUrl},
    failure::Failure,
    http::{self, AppState, serve::Server},
    hub::{Hub, OutboxLimits},
    ids::{Entropy, Ids, SystemEntropy},
    presence::Presence,
    service::{
        accounts::Accounts,
        connections::Connections,
        events::Events,
        limiter::{Limiter, Rate},
        messaging::Messaging,
        profiles::Profiles,
        sequencer::{Lanes, Sequencer},
        watching::Watching,
    },
    session::{self, Timing},
    store::{
        Store,
        members::MemberRecord,
        sqlite::{self, Sqlite},
    },
    telemetry::Metrics,
};

/// Files that are kept for the store, logs and listeners when connections are counted.
const RESERVED_FILES: u64 = 256;
/// How often rate limits forget, and expired tokens are removed.
const MAINTENANCE: Duration = Duration::from_secs(60);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

fn start_error(what: impl std::fmt::Display) -> StartError {
    StartError(what.to_string())
}

/// What comes from outside the program: the time and randomness.
#[derive(Clone)]
pub struct World {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for World {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) }
    }
}

/// A server that runs.
pub struct App {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where it serves metrics.
    pub metrics_addr: Option<SocketAddr>,
    /// One line about its store.
    pub store: String,
    /// The file of the secret that was generated, if no setting gives one.
    pub generated_secret: Option<PathBuf>,
    /// Accounts, for what has no endpoint.
    pub accounts: Arc<Accounts>,
    session: Arc<session::Context>,
    backend: Arc<dyn crate::store::Backend>,
    lanes: Lanes,
    http_tasks: TaskTracker,
    background: Vec<JoinHandle<()>>,
    shutdown: CancellationToken,
    shutdown_timeout: Duration,
}

impl App {
    /// Starts a server.
    ///
    /// # Errors
    /// When a setting does not fit, the store cannot be opened, or an address is taken; the message says which.
    pub async fn start(settings: Settings, world: World) -> Result<Self, StartError> {
        settings.validate().map_err(start_error)?;
        let max_connections = max_connections(settings.connections.max_connections)?;
        let metrics = Arc::new(Metrics::new());
        let ids = Arc::new(Ids::new(Arc::clone(&world.clock), Arc::clone(&world.entropy)));
        let (signing_secret, generated_secret) = signing_secret(&settings, &*world.entropy)?;
        let store = open_store(&settings, &world, &ids, &metrics, true)?;
        let hub = Arc::new(Hub::new(settings.connections.max_connections_per_member, Arc::clone(&metrics)));
        let accounts = Arc::new(accounts(&settings, signing_secret, &store, Arc::clone(&hub), &world, &ids, &metrics)?);
        let shutdown = CancellationToken::new();
        let (session, lanes) = session(&settings, &store, &accounts, hub, &world, &ids, &metrics, &shutdown).await?;
        let profiles = Arc::new(Profiles {
            members: Arc::clone(&store.members),
            conversations: Arc::clone(&store.conversations),
            watching: Arc::clone(&session.watching),
            events: session.events.clone(),
            clock: Arc::clone(&world.clock),
        });

        let listen = SocketAddr::new(settings.listen.host, settings.listen.port);
        let listener = bind("HOST and PORT", listen).await?;
        let addr = listener.local_addr().map_err(start_error)?;
        let metrics_listener = match settings.telemetry.metrics_addr.0 {
            Some(addr) => Some(bind("METRICS_ADDR", addr).await?),
            None => None,
        };
        let metrics_addr = metrics_listener.as_ref().and_then(|listener| listener.local_addr().ok());

        let state = AppState {
            accounts: Arc::clone(&accounts),
            profiles,
            session: Arc::clone(&session),
            store: Arc::clone(&store.backend),
            metrics: Arc::clone(&metrics),
            request_timeout: settings.listen.request_timeout,
            shutdown: shutdown.clone(),
        };
        let http_tasks = TaskTracker::new();
        let server = Server {
            router: http::router(state, settings.listen.cors_origins),
            max_connections,
            metrics: Arc::clone(&metrics),
            tasks: http_tasks.clone(),
            shutdown: shutdown.clone(),
        };
        let mut background = vec![
            tokio::spawn(server.run(listener)),
            tokio::spawn(maintain(Arc::clone(&session), Arc::clone(&accounts), shutdown.clone())),
            tokio::spawn({
                let (watching, stop) = (Arc::clone(&session.watching), shutdown.clone());
                async move { watching.run(stop).await }
            }),
        ];
        background
            .extend(metrics_listener.map(|listener| tokio::spawn(serve_metrics(listener, metrics, shutdown.clone()))));
        Ok(Self {
            addr,
            metrics_addr,
            store: store.backend.describe(),
            generated_secret,
            accounts,
            session,
            backend: store.backend,
            lanes,
            http_tasks,
            background,
            shutdown,
            shutdown_timeout: settings.listen.shutdown_timeout,
        })
    }

    /// Stops: accepts nothing more, says goodbye to everybody with a time to come back, finishes what is under way,
    /// closes the store. Returns within the shutdown timeout; false if something had to be cut off.
    pub async fn stop(self) -> bool {
        let started = Instant::now();
        tracing::info!("shutting down");
        self.shutdown.cancel();
        self.session.connections.drain();
        self.http_tasks.close();
        self.session.tasks.close();
        // A quarter of the time is for the store.
        let for_connections = started + self.shutdown_timeout * 3 / 4;
        let connections = async {
            self.session.tasks.wait().await;
            self.http_tasks.wait().await;
        };
        let mut complete = timeout_at(for_connections, connections).await.is_ok();
        let store = async {
            self.lanes.finish().await;
            for task in self.background {
                // A task that panicked has nothing left to finish.
                let _ = task.await;
            }
            self.session.watching.finish().await;
            self.backend.close().await;
        };
        complete &= timeout_at(started + self.shutdown_timeout, store).await.is_ok();
        tracing::info!(complete, seconds = started.elapsed().as_secs_f64(), "stopped");
        complete
    }
}

/// Creates an administrator beside a server that may be running.
///
/// # Errors
/// When the store cannot be opened, or the address is taken.
pub async fn create_admin(settings: &Settings, request: RegisterRequest) -> Result<MemberRecord, StartError> {
    settings.validate().map_err(start_error)?;
    let world = World::default();
    let metrics = Arc::new(Metrics::new());
    let ids = Arc::new(Ids::new(Arc::clone(&world.clock), Arc::clone(&world.entropy)));
    let store = open_store(settings, &world, &ids, &metrics, false)?;
    let hub = Arc::new(Hub::new(1, Arc::clone(&metrics)));
    // Nothing is signed with it: no session is started.
    let accounts = accounts(settings, SecretString::default(), &store, hub, &world, &ids, &metrics)?;
    let created =
        accounts.create(request, UserType::Admin).await.map_err(|Failure { message, .. }| StartError(message));
    store.backend.close().await;
    created
}

async fn bind(settings: &str, addr: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|error| start_error(format!("{settings}: cannot listen on {addr}: {error}")))
}

/// How many connections there is room for. Raises the process's limit of open files as far as it may.
fn max_connections(wanted: usize) -> Result<usize, StartError> {
    let hard = rlimit::increase_nofile_limit(u64::MAX).map_err(start_error)?;
    let room = usize::try_from(hard.saturating_sub(RESERVED_FILES)).unwrap_or(usize::MAX).max(16);
    // More than a semaphore can count are as good as no limit.
    let room = room.min(tokio::sync::Semaphore::MAX_PERMITS);
    if wanted > room {
        tracing::warn!(wanted, room, "MAX_CONNECTIONS is more than the process may have files");
    }
    Ok(if wanted == 0 { room } else { wanted.min(room) })
}

fn signing_secret(settings: &Settings, entropy: &dyn Entropy) -> Result<(SecretString, Option<PathBuf>), StartError> {
    if let Some(secret) = &settings.auth.jwt_secret {
        return Ok((secret.clone(), None));
    }
    let (secret, path) = secret::load_or_generate(&settings.store.data_dir, entropy).map_err(start_error)?;
    tracing::warn!(file = %path.display(), "using a generated secret; set JWT_SECRET in production");
    Ok((secret, Some(path)))
}

fn open_store(
    settings: &Settings,
    world: &World,
    ids: &Arc<Ids>,
    metrics: &Arc<Metrics>,
    exclusive: bool,
) -> Result<Store, StartError> {
    let DatabaseUrl::Sqlite(path) = settings.store.database().map_err(start_error)?;
    let options = sqlite::Options {
        path,
        readers: settings.store.sqlite_readers,
        timeout: settings.store.store_timeout,
        exclusive,
    };
    Sqlite::open(options, Arc::clone(&world.clock), Arc::clone(ids), Arc::clone(metrics))
        .map_err(|error| start_error(format!("DATABASE_URL: {error}")))
}

fn accounts(
    settings: &Settings,
    secret: SecretString,
    store: &Store,
    hub: Arc<Hub>,
    world: &World,
    ids: &Arc<Ids>,
    metrics: &Arc<Metrics>,
) -> Result<Accounts, StartError> {
    let Auth {
        jwt_secret_previous, jwt_issuer, jwt_audience, access_token_ttl, refresh_token_ttl, bcrypt_cost, ..
    } = settings.auth.clone();
    let options = access::Options {
        secret,
        previous: jwt_secret_previous,
        issuer: jwt_issuer,
        audience: jwt_audience,
        lifetime: access_token_ttl,
    };
    let rates = &settings.rates;
    let limiter = |name, per_minute, burst| {
        let rate = Rate { per_period: per_minute, period: Duration::from_secs(60), burst };
        Limiter::new(name, rate, Arc::clone(metrics))
    };
    let patience = settings.listen.request_timeout / 2;
    Ok(Accounts {
        members: Arc::clone(&store.members),
        sessions: Arc::clone(&store.sessions),
        tokens: AccessTokens::new(&options, Arc::clone(&world.clock), Arc::clone(ids)),
        passwords: Passwords::new(bcrypt_cost, patience, Arc::clone(metrics)).map_err(start_error)?,
        refresh_lifetime: refresh_token_ttl,
        registrations: limiter("registrations", rates.rate_registrations, rates.rate_registrations_burst),
        logins: limiter("logins", rates.rate_logins, rates.rate_logins_burst),
        hub,
        clock: Arc::clone(&world.clock),
        ids: Arc::clone(ids),
        metrics: Arc::clone(metrics),
    })
}

#[expect(clippy::too_many_arguments, reason = "the wiring of one thing out of all the others")]
async fn session(
    settings: &Settings,
    store: &Store,
    accounts: &Arc<Accounts>,
    hub: Arc<Hub>,
    world: &World,
    ids: &Arc<Ids>,
    metrics: &Arc<Metrics>,
    shutdown: &CancellationToken,
) -> Result<(Arc<session::Context>, Lanes), StartError> {
    let events = Events::new(Arc::clone(&hub), Arc::clone(metrics));
    let conversations = Arc::clone(&store.conversations);
    let deadline = settings.store.store_timeout;
    let (sequencer, lanes) =
        Sequencer::start(Arc::clone(&conversations), events.clone(), deadline, Arc::clone(metrics))
            .await
            .map_err(start_error)?;
    let messaging = Arc::new(Messaging::new(conversations, sequencer, events.clone()));
    let presence = Presence::new(Arc::clone(&hub), settings.connections.presence_grace);
    let watching = Arc::new(Watching::new(presence, Arc::clone(&store.members), events.clone()));
    let second = Duration::from_secs(1);
    let rates = &settings.rates;
    let limiter =
        |name, per_period, burst| Limiter::new(name, Rate { per_period, period: second, burst }, Arc::clone(metrics));
    let context = session::Context {
        connections: Connections {
            hub,
            accounts: Arc::clone(accounts),
            messaging: Arc::clone(&messaging),
            watching: Arc::clone(&watching),
            clock: Arc::clone(&world.clock),
            ids: Arc::clone(ids),
        },
        messaging,
        watching,
        events,
        frames: limiter("frames", rates.rate_frames, rates.rate_frames_burst),
        messages: Arc::new(limiter("messages", rates.rate_messages, rates.rate_messages_burst)),
        timing: Timing {
            hello: settings.connections.hello_timeout,
            heartbeat: settings.connections.heartbeat_interval,
            write: settings.connections.write_timeout,
            close: settings.connections.close_timeout,
        },
        outbox: OutboxLimits {
            frames: settings.connections.outbox_max_frames,
            bytes: settings.connections.outbox_max_bytes,
        },
        clock: Arc::clone(&world.clock),
        metrics: Arc::clone(metrics),
        tasks: TaskTracker::new(),
        shutdown: shutdown.clone(),
    };
    Ok((Arc::new(context), lanes))
}

/// What has to be done now and then.
async fn maintain(session: Arc<session::Context>, accounts: Arc<Accounts>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(MAINTENANCE);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        session.frames.tidy();
        session.messages.tidy();
        accounts.registrations.tidy();
        accounts.logins.tidy();
        match accounts.sessions.purge(accounts.clock.now()).await {
            Ok(0) => {}
            Ok(tokens) => tracing::debug!(tokens, "expired refresh tokens removed"),
            Err(error) => tracing::warn!(%error, "expired refresh tokens were not removed"),
        }
    }
}

async fn serve_metrics(listener: TcpListener, metrics: Arc<Metrics>, stop: CancellationToken) {
    let render = async |State(metrics): State<Arc<Metrics>>| match metrics.render() {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(_) => Failure::of(protocol::ErrorCode::Internal).into_response(),
    };
    let router = Router::new().route("/metrics", get(render)).with_state(metrics);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "metrics are not served any more");
    }
}
