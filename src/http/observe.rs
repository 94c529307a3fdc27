//! Deadline, metrics and log of every request.

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use protocol::ErrorCode;
use tokio::time::{Instant, timeout};

use super::{AppState, request_id::RequestId};
use crate::failure::Failure;

/// Wraps every request.
pub async fn observe(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    // The pattern and not the path: paths have ids in them, and there are as many as anybody likes.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let id = request.extensions().get::<RequestId>().cloned();
    let id = id.as_ref().and_then(|RequestId(id)| id.to_str().ok()).unwrap_or_default();
    let response = match timeout(state.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::of(ErrorCode::Timeout).into_response(),
    };
    let (status, took) = (response.status(), started.elapsed());
    // Methods are the client's to invent; only those that exist become labels.
    let label = if status.as_u16() == 405 { "other" } else { method.as_str() };
    state.metrics.http_request(label, route, status.as_u16(), took);
    if status.is_server_error() {
        tracing::warn!(id, %method, route, status = status.as_u16(), ms = took.as_millis(), "request failed");
    } else {
        tracing::debug!(id, %method, route, status = status.as_u16(), ms = took.as_millis(), "request");
    }
    response
}
