//! A request that may change something runs in a task of its own.
//!
//! What follows a commit (closing connections, pushes, deleting a photo) would be lost if it ran in the future of the
//! HTTP connection: hyper drops that as soon as the client hangs up, and the request timeout does the same. The connection
//! only waits for the task; a shutdown waits for it too.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use protocol::ErrorCode;

use super::{AppState, address::ClientAddress};
use crate::{failure::Failure, sources::subscriber};

/// Requests that may change something and are worked on at the same time; more are answered `overloaded`. Each holds a body
/// of 64 KiB at most; uploads of photos have slots of their own.
pub const DETACHED_MAX: usize = 1024;
/// Of these, requests from one address (one /64 of IPv6).
pub const DETACHED_MAX_PER_ADDRESS: usize = 256;

/// Wraps every request. Requests with a safe method (RFC 9110, section 9.2.1) end with whoever waits for them; the others
/// run to their end. They cannot hang: reading their body has a deadline, and so has every call of a store.
pub async fn detach(State(state): State<AppState>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let Some(&ClientAddress(address)) = request.extensions().get() else {
        return Failure::of(ErrorCode::Internal).into_response();
    };
    let slot = match state.detached.take(subscriber(address)) {
        Ok(slot) => slot,
        Err(failure) => return failure.into_response(),
    };
    let handler = state.session.tasks.spawn(async move {
        let response = next.run(request).await;
        drop(slot);
        response
    });
    handler.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request handler failed");
        Failure::of(ErrorCode::Internal).into_response()
    })
}
