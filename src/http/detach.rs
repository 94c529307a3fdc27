//! A request that may change something runs in a task of its own.
//!
//! What follows a commit (closing connections, pushes) would be lost if it ran in the future of the
//! HTTP connection: hyper drops that as soon as the client hangs up, and the request timeout does the same. The connection
//! only waits for the task; a shutdown waits for it too.
//!
//! Before that, the connection receives the body. So a body that does not come holds nothing but its connection.

use std::net::IpAddr;

use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http_body_util::BodyExt as _;
use protocol::{ErrorCode, limits::BODY_MAX_BYTES};

use super::{
    AppState,
    address::ClientAddress,
    charge::{Account, Held},
    routes::photos,
    serve::HEAD_MAX_BYTES,
};
use crate::{
    failure::Failure,
    service::slots::{Slot, Slots},
    sources::{network, subscriber},
};

/// Requests that may change something and are worked on at the same time; more are answered `overloaded`. Each holds a body
/// of 64 KiB at most; uploads of photos have slots of their own.
const DETACHED_MAX: usize = 1024;
/// Of these, requests from one address (one /64 of IPv6).
const DETACHED_MAX_PER_ADDRESS: usize = 256;
/// Of these, requests from one network (a /24 of IPv4, a /48 of IPv6).
const DETACHED_MAX_PER_NETWORK: usize = 512;

/// Slots of requests that run to their end.
pub struct Detached {
    addresses: Slots<IpAddr>,
    networks: Slots<IpAddr>,
}

impl Default for Detached {
    fn default() -> Self {
        Self {
            addresses: Slots::new(DETACHED_MAX, DETACHED_MAX_PER_ADDRESS),
            networks: Slots::new(DETACHED_MAX, DETACHED_MAX_PER_NETWORK),
        }
    }
}

impl Detached {
    /// Takes a slot for a request from an address.
    ///
    /// # Errors
    /// `overloaded` when all are taken, or as many as its address or network may hold.
    fn take(&self, from: IpAddr) -> Result<(Slot<IpAddr>, Slot<IpAddr>), Failure> {
        Ok((self.addresses.take(subscriber(from))?, self.networks.take(network(from))?))
    }
}

/// What a request whose body is waited for holds beside it: the buffer that hyper reads into, and the futures of everything that is around the
/// handler. As much with no byte of the body as with one. Bytes; measured, see `docs/performance.md`.
const AROUND_A_BODY: usize = 22 * 1024;
/// What hyper's buffer has to begin with, in bytes. With a longer body it grows to [`HEAD_MAX_BYTES`].
const FIRST_READ: usize = 8 * 1024;
/// By how much the memory for a body grows at most: what it doubles by would be held and not charged. Bytes.
const GROWTH: usize = 16 * 1024;

/// What a handler reads instead of a body that is longer than it may be. It is too long as well, so that the handler
/// answers as it would have, who asks first.
static TOO_LONG: [u8; BODY_MAX_BYTES + 1] = [0; BODY_MAX_BYTES + 1];

/// Wraps every request. Requests with a safe method (RFC 9110, section 9.2.1) end with whoever waits for them; the others
/// run to their end once their body is there. They cannot hang: every call of a store has a deadline, and so has reading an
/// upload.
pub async fn detach(State(state): State<AppState>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let Some(&ClientAddress(address)) = request.extensions().get() else {
        return Failure::of(ErrorCode::Internal).into_response();
    };
    // The timeout of the request ends this.
    let (request, held) = match received(&state, request).await {
        Ok(received) => received,
        Err(failure) => return failure.into_response(),
    };
    let slot = match state.detached.take(address) {
        Ok(slot) => slot,
        Err(failure) => return failure.into_response(),
    };
    let handler = state.connection.tasks.spawn(async move {
        let response = next.run(request).await;
        drop((slot, held));
        response
    });
    handler.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request handler failed");
        Failure::of(ErrorCode::Internal).into_response()
    })
}

/// The request with its whole body, and what that is charged to. An upload is left to its route, which lets few in before
/// it reads any of them.
async fn received(state: &AppState, request: Request) -> Result<(Request, Held), Failure> {
    let mut held = Account::of(&state.budget, request.extensions()).hold(0);
    if is_upload(&request) {
        return Ok((request, held));
    }
    let (parts, mut body) = request.into_parts();
    let mut content = Vec::new();
    let mut is_too_long = usize::try_from(body.size_hint().lower()).map_or(true, |bytes| bytes > BODY_MAX_BYTES);
    if !is_too_long && !body.is_end_stream() {
        held.add(AROUND_A_BODY);
    }
    while !is_too_long && let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ErrorCode::Malformed)?;
        let Some(data) = frame.data_ref() else { continue };
        is_too_long = content.len() + data.len() > BODY_MAX_BYTES;
        if !is_too_long {
            let before = content.capacity();
            if before - content.len() < data.len() {
                content.reserve_exact(data.len().max(body_room(&body, &content)));
            }
            held.add(content.capacity() - before);
            if (before..content.capacity()).contains(&FIRST_READ) {
                held.add(HEAD_MAX_BYTES);
            }
            content.extend_from_slice(data);
        }
    }
    let content = if is_too_long { Bytes::from_static(&TOO_LONG) } else { content.into() };
    Ok((Request::from_parts(parts, Body::from(content)), held))
}

/// How much room to make for what comes next of a body: as much again as has come, [`GROWTH`] at most, and no more than is to come.
fn body_room(body: &Body, content: &[u8]) -> usize {
    let left = body.size_hint().exact().and_then(|left| usize::try_from(left).ok()).unwrap_or(GROWTH);
    left.min(GROWTH).min(content.len())
}

fn is_upload(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>();
    request.method() == Method::PUT && path.is_some_and(|path| path.as_str() == photos::UPLOADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_an_address_nor_a_network_can_hold_all_slots() {
        let detached = Detached::default();
        let take = |third: usize, last: usize| detached.take(format!("192.0.{third}.{last}").parse().unwrap());
        let mut held: Vec<_> = (0..DETACHED_MAX_PER_ADDRESS).map(|_| take(2, 1).unwrap()).collect();
        assert!(take(2, 1).is_err(), "the address has as many as it may");
        held.extend((0..DETACHED_MAX_PER_ADDRESS).map(|_| take(2, 2).unwrap()));
        assert!(take(2, 3).is_err(), "the network has as many as it may");
        assert!(take(3, 3).is_ok());
    }
}
