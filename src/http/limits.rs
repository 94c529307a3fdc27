//! Rate limits of REST: by address, and by member for who is signed in.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use protocol::{MemberId, SessionId};

use super::{AppState, address::ClientAddress, extract::bearer};
use crate::{
    admission::{Place, Stranger},
    failure::Failure,
    service::{
        accounts::Payer,
        limiter::{Allowance, Limiter},
    },
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
    /// Requests from one address for what is not of the API: health, documentation, and what does not exist.
    pub outside: Limiter<IpAddr>,
    /// Requests with tokens of one session that are good for nothing, or of which it is not known yet: as many as of one member, but not
    /// the member's own.
    pub by_stale_session: Limiter<SessionId>,
}

impl RequestLimits {
    /// Charges a request that counts as `cost`. One was taken when it came.
    ///
    /// # Errors
    /// `rate_limited` with the time to wait.
    pub fn further(&self, member: &MemberId, cost: u32) -> Result<(), Failure> {
        self.by_member.check_further(member, cost)
    }

    /// Charges a request with a token. Returns the limit's name with what is left.
    fn charge(&self, payer: Payer) -> (Result<(), Failure>, Option<(&'static str, Allowance)>) {
        let (name, (taken, left)) = match payer {
            Payer::Member(member) => (self.by_member.name(), self.by_member.take(&member)),
            Payer::Session(session) => (self.by_stale_session.name(), self.by_stale_session.take(&session)),
        };
        (taken, left.map(|left| (name, left)))
    }

    /// Forgets who has their whole allowance. To be called now and then.
    pub fn tidy(&self) {
        self.by_address.tidy();
        self.by_member.tidy();
        self.outside.tidy();
        self.by_stale_session.tidy();
    }
}

/// Requests outside the API a second from one address, and at once: for whatever watches over the process, ten times.
pub const OUTSIDE: (u32, u32) = (200, 1_000);
/// Refused requests after which a connection is closed: refusing them costs something, too.
const REFUSED_MAX: u32 = 10;

/// Lets a request through or answers 429, and tells what is left either way. An upgrade to WebSocket has no limit here: each
/// takes a connection.
pub async fn limit(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let stranger = request.extensions().get::<Place>().and_then(Place::stranger);
    let mut response = match request.uri().path() {
        path if path.starts_with("/api/") => limit_api(&state, request, next).await,
        "/ws" if request.headers().contains_key(header::UPGRADE) => {
            let response = next.run(request).await;
            // Whoever is not let in has nothing else to ask here.
            return if response.status() == StatusCode::SWITCHING_PROTOCOLS { response } else { closing(response) };
        }
        _ => match outside(&state, &request) {
            Ok(()) => next.run(request).await,
            Err(failure) => failure.into_response(),
        },
    };
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        response = refused(response, stranger.as_deref());
    }
    response
}

/// The same for what a browser asks before it asks, from the allowance of what is not of the API.
pub async fn limit_preflights(State(state): State<AppState>, request: Request, next: Next) -> Response {
    if request.method() != Method::OPTIONS {
        return next.run(request).await;
    }
    let stranger = request.extensions().get::<Place>().and_then(Place::stranger);
    match outside(&state, &request) {
        Ok(()) => next.run(request).await,
        Err(failure) => refused(failure.into_response(), stranger.as_deref()),
    }
}

fn outside(state: &AppState, request: &Request) -> Result<(), Failure> {
    let from = request.extensions().get();
    from.map_or(Ok(()), |ClientAddress(from)| state.limits.outside.check(&subscriber(*from)))
}

/// A refusal; the connection is closed after so many.
fn refused(response: Response, stranger: Option<&Stranger>) -> Response {
    if stranger.is_some_and(|stranger| stranger.refuse() >= REFUSED_MAX) { closing(response) } else { response }
}

/// The connection is closed after this answer.
pub(super) fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn limit_api(state: &AppState, request: Request, next: Next) -> Response {
    let limits = Arc::clone(&state.limits);
    let mut told = Vec::new();
    let mut refused = None;
    if let Some(ClientAddress(address)) = request.extensions().get() {
        let (taken, left) = limits.by_address.take(&subscriber(*address));
        told.extend(left.map(|left| (limits.by_address.name(), left)));
        refused = taken.err();
    }
    // The signature says who asks; whether the token is still good is found out later, and costs more. One that is not, or of which
    // that is not known yet, spends nothing of its member's.
    let token = bearer(request.headers()).and_then(|token| state.accounts.tokens.verify(token).ok());
    let token = token.filter(|_| refused.is_none());
    let payer = token.as_ref().map(|token| state.accounts.payer(token));
    let mut of_token = None;
    if let Some(payer) = payer {
        let (taken, left) = limits.charge(payer);
        (refused, of_token) = (taken.err(), left);
    }
    let was_asked = refused.is_none();
    let mut response = match refused {
        Some(failure) => failure.into_response(),
        None => next.run(request).await,
    };
    if let (Some(token), Some(Payer::Session(_)), true) = (&token, payer, was_asked)
        && let payer @ Payer::Member(_) = state.accounts.payer(token)
    {
        // It is known to be good now: its member has had the answer, and pays for it.
        of_token = limits.charge(payer).1;
    }
    told.extend(of_token);
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
