//! Rate limits of REST: by address, and by member for who is signed in.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use protocol::{MemberId, SessionId};

use super::{AppState, address::ClientAddress, extract::bearer};
use crate::{
    service::limiter::{Allowance, Limiter},
    sources::subscriber,
};

/// What is left (draft-ietf-httpapi-ratelimit-headers-10).
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What is allowed.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The limits.
pub struct RequestLimits {
    /// Requests from one address.
    pub by_address: Limiter<IpAddr>,
    /// Requests of one member.
    pub by_member: Limiter<MemberId>,
    /// Requests with the token of one session that is over: as many as of one member, but not the member's own.
    pub by_stale_session: Limiter<SessionId>,
}

impl RequestLimits {
    /// Forgets who has their whole allowance. To be called now and then.
    pub fn tidy(&self) {
        self.by_address.tidy();
        self.by_member.tidy();
        self.by_stale_session.tidy();
    }
}

/// Lets a request through or answers 429, and tells what is left either way. Health and the WebSocket have no limit
/// here.
pub async fn limit(State(state): State<AppState>, request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with("/api/") {
        return next.run(request).await;
    }
    let limits = Arc::clone(&state.limits);
    let mut told = Vec::new();
    let mut refused = None;
    if let Some(ClientAddress(address)) = request.extensions().get() {
        let (taken, left) = limits.by_address.take(&subscriber(*address));
        told.extend(left.map(|left| (limits.by_address.name(), left)));
        refused = taken.err();
    }
    // The signature says who asks; whether the session is still good is found out later, and costs more. One that was
    // found out not to be spends nothing of its member's.
    let token = bearer(request.headers()).and_then(|token| state.accounts.tokens.verify(token).ok());
    if let (Some(token), None) = (token, &refused) {
        let (name, (taken, left)) = if state.accounts.stale.has(token.session) {
            (limits.by_stale_session.name(), limits.by_stale_session.take(&token.session))
        } else {
            (limits.by_member.name(), limits.by_member.take(&token.member))
        };
        told.extend(left.map(|left| (name, left)));
        refused = taken.err();
    }
    let mut response = match refused {
        Some(failure) => failure.into_response(),
        None => next.run(request).await,
    };
    tell(response.headers_mut(), &told);
    response
}

fn tell(headers: &mut HeaderMap, told: &[(&str, Allowance)]) {
    let list = |item: fn(&(&str, Allowance)) -> String| {
        let items: Vec<String> = told.iter().map(item).collect();
        HeaderValue::from_str(&items.join(", ")).ok().filter(|_| !told.is_empty())
    };
    let left = list(|(name, left)| format!("\"{name}\";r={};t={}", left.remaining, seconds(left.reset)));
    let policy = list(|(name, left)| format!("\"{name}\";q={};w={}", left.quota, seconds(left.window)));
    headers.extend(left.map(|value| (RATE_LIMIT, value)));
    headers.extend(policy.map(|value| (RATE_LIMIT_POLICY, value)));
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
