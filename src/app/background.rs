//! What runs beside the connections, until the server stops.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, http::header, response::IntoResponse as _, routing::get};
use protocol::ErrorCode;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::Failure,
    http::limits::RequestLimits,
    service::{
        accounts::Accounts, announcements::Announcements, messaging::Messaging, profiles::Profiles, watching::Watching,
    },
    session,
    telemetry::{Metrics, Quiet},
};

/// How often rate limits forget, and expired tokens are removed.
const MAINTENANCE: Duration = Duration::from_secs(60);

/// How often what other nodes have left is looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// How long finishing it may take: everything of two minutes is looked through.
const PATIENCE: Duration = Duration::from_secs(60);
/// When it is looked for again after that failed: the database may have been away.
const SOON: Duration = Duration::from_millis(250);

/// What has to be done now and then.
pub(super) async fn maintain(
    session: Arc<session::Context>,
    accounts: Arc<Accounts>,
    profiles: Arc<Profiles>,
    limits: Arc<RequestLimits>,
    quiet: Arc<Quiet>,
    stop: CancellationToken,
) {
    let mut interval = tokio::time::interval(MAINTENANCE);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        session.frames.tidy();
        session.messages.tidy();
        session.typing.tidy();
        session.statuses.tidy();
        session.messaging.tidy();
        profiles.limit.tidy();
        session.hellos.tidy();
        accounts.registrations.tidy();
        accounts.logins.tidy();
        limits.tidy();
        quiet.tell();
        match accounts.sessions.purge(accounts.clock.now()).await {
            Ok(0) => {}
            Ok(tokens) => tracing::debug!(tokens, "expired refresh tokens removed"),
            Err(error) => tracing::warn!(%error, "expired refresh tokens were not removed"),
        }
    }
}

/// Finishes what nodes that are gone have left half done.
pub(super) async fn look_after_others(messaging: Arc<Messaging>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(SWEEP);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        // Store calls run in tasks of their own: whoever stops waiting interrupts none.
        let finishing = stop.run_until_cancelled(timeout(PATIENCE, messaging.finish_what_others_left()));
        let problem = match finishing.await {
            None | Some(Ok(Ok(()))) => continue,
            Some(Ok(Err(failure))) => failure.message,
            Some(Err(_)) => "it took too long".to_owned(),
        };
        tracing::debug!(problem, "what others may have left is looked for again");
        interval.reset_after(SOON);
    }
}

/// Sees to it that members who have left are known to have left.
pub(super) async fn watch_departures(watching: Arc<Watching>, stop: CancellationToken) {
    watching.run(stop).await;
}

/// Tells others of changed profiles.
pub(super) async fn announce(announcements: Arc<Announcements>, stop: CancellationToken) {
    announcements.run(stop).await;
}

/// Serves the metrics.
pub(super) async fn serve_metrics(listener: TcpListener, metrics: Arc<Metrics>, stop: CancellationToken) {
    let render = async |State(metrics): State<Arc<Metrics>>| match metrics.render() {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(_) => Failure::of(ErrorCode::Internal).into_response(),
    };
    let router = Router::new().route("/metrics", get(render)).with_state(metrics);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "metrics are not served any more");
    }
}
