//! Health, for whatever watches over the process.

use std::time::Duration;

use axum::{Json, extract::State};
use protocol::ErrorCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{failure::Failure, http::AppState};

/// The routes of this group.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(healthy)).routes(routes!(ready))
}

/// How the server is.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`, or `degraded`: it serves, and what other nodes do may reach clients here later than usual, or its clock is wrong. If it cannot
    /// serve, there is a problem document.
    #[schema(example = "ok")]
    status: &'static str,
    /// Why it is degraded: `no_bus`, `link_down`, `overflow`, `canary`, `peer_loss`, `silent_peer`, `node_out`, `unpublished`, `unknown` or
    /// `clock_skew`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'static str>,
}

/// When to ask again while a task does not run.
const RETRY: Duration = Duration::from_secs(1);

const OK: Json<Health> = Json(Health { status: "ok", reasons: Vec::new() });

/// The process lives. If this fails, restart it.
#[utoipa::path(get, path = "/healthz", tag = "health", operation_id = "get_liveness", responses((status = 200, description = "It lives.", body = Health)))]
async fn healthy() -> Json<Health> {
    OK
}

/// The server can serve: the store can be read and written, and every task runs. If this fails, send requests elsewhere.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    operation_id = "get_readiness",
    responses(
        (status = 200, description = "It can serve.", body = Health),
        (status = 503, description = "draining"),
    )
)]
async fn ready(State(state): State<AppState>) -> Result<Json<Health>, Failure> {
    if state.draining.is_cancelled() {
        return Err(ErrorCode::Draining.into());
    }
    let down = state.supervisor.down();
    if !down.is_empty() {
        let message = format!("These tasks do not run: {}.", down.join(", "));
        return Err(Failure::new(ErrorCode::Unavailable, message).retry_after(RETRY));
    }
    state.connection.messaging.check()?;
    state.readiness.check().await?;
    let doubts = state.fleet.as_ref().map(|fleet| fleet.doubts()).unwrap_or_default();
    let reasons = state.administration.own.reasons(&doubts);
    if reasons.is_empty() {
        return Ok(OK);
    }
    Ok(Json(Health { status: "degraded", reasons }))
}
