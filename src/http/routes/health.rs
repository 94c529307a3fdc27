//! Health, for whatever watches over the process.

use axum::{Json, Router, extract::State, routing::get};
use protocol::ErrorCode;
use serde_json::{Value, json};

use crate::{failure::Failure, http::AppState};

/// The routes of this group.
pub fn routes() -> Router<AppState> {
    Router::new().route("/healthz", get(healthy)).route("/readyz", get(ready))
}

/// `GET /healthz`: the process lives. If this fails, restart it.
async fn healthy() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: it can serve. If this fails, send requests elsewhere. 503 `draining` or `unavailable`.
async fn ready(State(state): State<AppState>) -> Result<Json<Value>, Failure> {
    if state.shutdown.is_cancelled() {
        return Err(ErrorCode::Draining.into());
    }
    state.store.check().await?;
    Ok(Json(json!({ "status": "ok" })))
}
