//! Deadline, metrics and log of every request.

use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use protocol::ErrorCode;
use tokio::time::{Instant, timeout};

use super::{AppState, request_id::RequestId};
use crate::failure::Failure;

/// Where it is asked whether a node is ready.
const READY: &str = "/readyz";

/// Wraps every request.
pub async fn observe(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    // Never the client's own word: it has no bound, and nothing in the log is without one.
    let method = label(request.method());
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
    state.metrics.http_request(method, route, status.as_u16(), took);
    // A node that drains, or whose database is away, says so itself, and to whoever asks every second.
    if status.is_server_error() && route != READY {
        // Some of these anybody can cause, as often as they like.
        if state.quiet.allows() {
            tracing::warn!(id, method, route, status = status.as_u16(), ms = took.as_millis(), "request failed");
        }
    } else {
        tracing::debug!(id, method, route, status = status.as_u16(), ms = took.as_millis(), "request");
    }
    response
}

/// The label of a method: methods are the client's to invent, labels are not.
fn label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_that_exist_become_labels() {
        for known in [Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            assert_eq!(label(&known), known.as_str());
        }
        for invented in ["get", "X", "CONNECT", "TRACE", "BREW"] {
            assert_eq!(label(&Method::from_bytes(invented.as_bytes()).unwrap()), "other", "{invented}");
        }
    }
}
