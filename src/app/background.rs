//! What runs beside the connections, until the server stops.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse as _,
    routing::get,
};
use protocol::ErrorCode;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::relief;
use crate::{
    admission::{self, Places},
    budget::Budget,
    connection,
    failure::Failure,
    http::{limits::RequestLimits, serve::Server},
    hub::Hub,
    service::{
        accounts::Accounts, clock_watch::ClockWatch, credentials::Credentials, effects::Effects, export::Exports,
        fleet::Fleet, messaging::Messaging, profiles::Profiles, registration::Registration,
        second_factor::SecondFactors, session_check::SessionCheck, setup::Setup,
    },
    supervisor::Supervisor,
    telemetry::{Metrics, Quiet, exposition},
};

/// How often rate limits forget, and expired tokens are removed.
const MAINTENANCE: Duration = Duration::from_secs(60);

/// Connections for metrics; whoever holds more loses the silent ones.
pub(super) const METRICS_CONNECTIONS: usize = 32;
/// How long whoever asks for metrics may take no byte of them.
const METRICS_TIMEOUT: Duration = Duration::from_secs(5);

/// How often what was left half done is looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// How long finishing it may take: everything of half a minute and more is looked through.
const PATIENCE: Duration = Duration::from_secs(60);
/// When it is looked for again after that failed: the database may have been away.
const SOON: Duration = Duration::from_millis(250);

/// What the tasks that come round now and then work on.
#[derive(Clone)]
pub(super) struct Beside {
    pub(super) connection: Arc<connection::Context>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) profiles: Arc<Profiles>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) second_factors: Arc<SecondFactors>,
    pub(super) exports: Arc<Exports>,
    pub(super) effects: Arc<Effects>,
    pub(super) limits: Arc<RequestLimits>,
    pub(super) quiet: Arc<Quiet>,
    pub(super) budget: Arc<Budget>,
    pub(super) hub: Arc<Hub>,
    pub(super) places: Arc<Places>,
    pub(super) session_check: Arc<SessionCheck>,
    pub(super) clock_watch: Arc<ClockWatch>,
}

impl Beside {
    /// Starts them. Each begins from the start when it is started again.
    pub(super) fn start(self, supervisor: &Supervisor, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
        let messaging = Arc::clone(&self.connection.messaging);
        let watching = Arc::clone(&self.connection.watching);
        let (announcements, jobs) = (Arc::clone(&self.effects.announcements), Arc::clone(&self.effects.jobs));
        let post = Arc::clone(&self.accounts.post);
        let (budget, hub, places) = (Arc::clone(&self.budget), Arc::clone(&self.hub), Arc::clone(&self.places));
        let applications = Arc::clone(&self.accounts.registration.applications);
        let audit = Arc::clone(&self.accounts.audit);
        let [one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve] =
            [(); 12].map(|()| stop.clone());
        let clock_watch = Arc::clone(&self.clock_watch);
        let push = Arc::clone(&self.connection.push);
        let costs = tell_costs(supervisor, Arc::clone(&self.accounts), stop.clone());
        let check = Arc::clone(&self.session_check);
        let tasks = [
            supervisor.restarting("purge", move || maintain(self.clone(), one.clone())),
            supervisor.restarting("recovery", move || look_after_others(Arc::clone(&messaging), two.clone())),
            supervisor.restarting("departures", move || {
                let (watching, stop) = (Arc::clone(&watching), three.clone());
                async move { watching.run(stop).await }
            }),
            supervisor.restarting("announcements", move || {
                let (announcements, stop) = (Arc::clone(&announcements), four.clone());
                async move { announcements.run(stop).await }
            }),
            supervisor.restarting("applications", move || {
                let (applications, stop) = (Arc::clone(&applications), eight.clone());
                async move { applications.run(stop).await }
            }),
            supervisor.restarting("jobs", move || {
                let (jobs, stop) = (Arc::clone(&jobs), six.clone());
                async move { jobs.run(stop).await }
            }),
            supervisor.restarting("mail", move || {
                let (post, stop) = (Arc::clone(&post), nine.clone());
                async move { post.run(stop).await }
            }),
            supervisor.restarting("push", move || {
                let (push, stop) = (Arc::clone(&push), eleven.clone());
                async move { push.run(stop).await }
            }),
            supervisor.restarting("audit", move || {
                let (audit, stop) = (Arc::clone(&audit), ten.clone());
                async move { audit.run(stop).await }
            }),
            supervisor.restarting("clock", move || {
                let (watch, stop) = (Arc::clone(&clock_watch), twelve.clone());
                async move { watch.run(stop).await }
            }),
            supervisor.restarting("session-check", move || {
                let (check, stop) = (Arc::clone(&check), seven.clone());
                async move { check.run(stop).await }
            }),
            supervisor.restarting("relief", move || {
                relief::relieve(Arc::clone(&budget), Arc::clone(&hub), Arc::clone(&places), five.clone())
            }),
        ];
        tasks.into_iter().chain([costs]).collect()
    }
}

/// Writes the setup code to the log, once it is known that it is needed.
pub(super) fn tell_setup_code(supervisor: &Supervisor, setup: Arc<Setup>, stop: CancellationToken) -> JoinHandle<()> {
    supervisor.once("setup-code", async move {
        stop.run_until_cancelled(setup.tell()).await;
    })
}

/// Says whose wrong passwords take longer than those of others, if there are any.
fn tell_costs(supervisor: &Supervisor, accounts: Arc<Accounts>, stop: CancellationToken) -> JoinHandle<()> {
    supervisor.once("costs", async move {
        stop.run_until_cancelled(accounts.enrolment.tell_costs()).await;
    })
}

/// A node among others, with its tasks.
pub(super) struct Joined {
    fleet: Arc<Fleet>,
    tasks: [JoinHandle<()>; 3],
}

/// Starts the tasks of a node among others.
pub(super) fn join(fleet: Arc<Fleet>, supervisor: &Supervisor) -> Joined {
    let [one, two, three] = [(); 3].map(|()| Arc::clone(&fleet));
    let tasks = [
        supervisor.restarting("fleet", move || Arc::clone(&one).run()),
        supervisor.restarting("sweep", move || Arc::clone(&two).sweep()),
        supervisor.restarting("standing", move || Arc::clone(&three).stand_again()),
    ];
    Joined { fleet, tasks }
}

impl Joined {
    /// The node.
    pub(super) fn node(&self) -> Arc<Fleet> {
        Arc::clone(&self.fleet)
    }

    /// Says goodbye to the others: everything that was stored here has been published.
    pub(super) async fn leave(self) {
        self.fleet.close().await;
        for task in self.tasks {
            // One that panicked has nothing left to finish.
            let _ = task.await;
        }
    }
}

/// What has to be done now and then.
async fn maintain(beside: Beside, stop: CancellationToken) {
    let Beside { connection, accounts, profiles, credentials, second_factors, exports, limits, quiet, .. } = beside;
    let mut interval = tokio::time::interval(MAINTENANCE);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        connection.frames.tidy();
        connection.typing.tidy();
        connection.statuses.tidy();
        connection.messaging.tidy();
        connection.push.tidy();
        profiles.limit.tidy();
        credentials.tidy();
        second_factors.tidy();
        exports.tidy();
        accounts.post.tidy();
        accounts.audit.tidy();
        connection.hellos.tidy();
        accounts.registrations.tidy();
        accounts.logins.tidy();
        accounts.refreshes.tidy();
        limits.tidy();
        quiet.tell();
        accounts.post.purge().await;
        match accounts.sessions.store.purge(accounts.clock.now()).await {
            Ok(0) => {}
            Ok(tokens) => tracing::debug!(tokens, "expired refresh tokens removed"),
            Err(error) => tracing::warn!(%error, "expired refresh tokens were not removed"),
        }
        let Registration { invitations, applications, shares, .. } = &*accounts.registration;
        invitations.attempts.tidy();
        shares.tidy();
        match applications.purge(accounts.clock.now()).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "registrations that nobody decided about were removed"),
            Err(error) => tracing::warn!(%error, "old registrations were not removed"),
        }
        match applications.purge_unverified(accounts.clock.now()).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "registrations whose address was not verified in time were removed"),
            Err(error) => tracing::warn!(%error, "registrations whose address was not verified were not removed"),
        }
        match invitations.purge().await {
            Ok(0) => {}
            Ok(removed) => tracing::debug!(removed, "invitations that have expired long ago were removed"),
            Err(error) => tracing::warn!(%error, "old invitations were not removed"),
        }
    }
}

/// Finishes what was left half done.
async fn look_after_others(messaging: Arc<Messaging>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(SWEEP);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Since when it fails, and whether that was said.
    let mut failing: Option<(Instant, bool)> = None;
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        // Store calls run in tasks of their own: whoever stops waiting interrupts none.
        let finishing = stop.run_until_cancelled(timeout(PATIENCE, messaging.recover()));
        let problem = match finishing.await {
            None | Some(Ok(Ok(()))) => {
                if failing.take().is_some_and(|(_, is_said)| is_said) {
                    tracing::info!("what was left half done is finished");
                }
                continue;
            }
            Some(Ok(Err(failure))) => failure.message,
            Some(Err(_)) => "it took too long".to_owned(),
        };
        tracing::debug!(problem, "what others may have left is looked for again");
        let (since, is_said) = failing.get_or_insert((Instant::now(), false));
        if since.elapsed() >= PATIENCE && !std::mem::replace(is_said, true) {
            tracing::warn!(
                problem,
                "what was left half done could not be finished yet; cursors stand still if a node has died"
            );
        }
        interval.reset_after(SOON);
    }
}

/// Serves the metrics.
///
/// # Errors
/// When the listener is no good.
pub(super) fn serve_metrics(
    supervisor: &Supervisor,
    listener: std::net::TcpListener,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> JoinHandle<()> {
    supervisor.restarting("metrics", move || {
        let (listener, metrics, stop) = (listener.try_clone(), Arc::clone(&metrics), stop.clone());
        async move {
            match listener.and_then(TcpListener::from_std) {
                Ok(listener) => serve_metrics_on(listener, metrics, stop).await,
                Err(error) => tracing::error!(%error, "metrics are not served"),
            }
        }
    })
}

async fn serve_metrics_on(listener: TcpListener, metrics: Arc<Metrics>, stop: CancellationToken) {
    let render = async |State(metrics): State<Arc<Metrics>>, request: HeaderMap| match metrics.render() {
        Ok(text) => {
            let accept = request.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
            let (content_type, text) = match exposition::wants_open_metrics(accept) {
                true => (exposition::OPEN_METRICS, text),
                false => (exposition::PLAIN, exposition::plain(&text)),
            };
            ([(header::CONTENT_TYPE, content_type), (header::VARY, "accept")], text).into_response()
        }
        Err(_) => Failure::of(ErrorCode::Internal).into_response(),
    };
    let elsewhere = async || (StatusCode::NOT_FOUND, "The metrics are at /metrics.\n");
    let router = Router::new().route("/metrics", get(render)).fallback(elsewhere).with_state(Arc::clone(&metrics));
    // A quarter of all is kept for members, and nobody is one here.
    let total = METRICS_CONNECTIONS + METRICS_CONNECTIONS / 3;
    let limits = admission::Limits { total, per_address: 0, per_network: 0 };
    let server = Server {
        router,
        refusing: Router::new().fallback(async || Failure::overloaded()),
        places: Places::new(limits, Arc::from([]), Arc::clone(&metrics)),
        write_timeout: METRICS_TIMEOUT,
        close_timeout: METRICS_TIMEOUT,
        metrics,
        tasks: TaskTracker::new(),
        shutdown: stop,
    };
    server.run(listener).await;
}
