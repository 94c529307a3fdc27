//! HTTP: the REST API, the way into the WebSocket, health, metrics.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`routes`] | one file per group of endpoints |
//! | [`problem`] | failures as problem documents |
//! | [`extract`] | who asks, and what with |
//! | [`versioned`] | answers with an `ETag` |
//! | [`openapi`], [`tidy`] | the OpenAPI document |
//! | [`documentation`] | the documents as served, and the pages that show them |
//! | [`security_txt`] | where problems of security are reported |
//! | [`web`] | the page that a browser begins with, and the club's app |
//! | [`negotiate`] | bodies that are the same for everybody, compressed once |
//! | [`host`] | whom a request is for, where the server listens on this machine only |
//! | [`upgrade`] | HTTP to WebSocket |
//! | [`charge`] | bodies as part of the budget of memory |
//! | [`address`], [`request_id`], [`limits`] | where a request comes from, what it is called, whether it is too much |
//! | [`detach`] | requests that change something run to their end, whoever hangs up |
//! | [`observe`] | deadline, metrics and log of every request |
//! | [`progress`] | the deadline of writes |
//! | [`readiness`] | whether the store answers, asked once for all |
//! | [`serve`], [`refusal`] | accepting connections, as many as there is room for; refusing the others |
//!
//! Handlers translate; rules live in `service`.

pub mod address;
mod charge;
pub mod detach;
mod documentation;
pub mod extract;
pub mod host;
pub mod limits;
mod negotiate;
pub mod observe;
pub mod openapi;
pub mod problem;
pub mod progress;
pub mod readiness;
mod refusal;
pub mod request_id;
pub mod routes;
pub mod security_txt;
pub mod serve;
mod tidy;
pub mod upgrade;
pub mod versioned;
pub mod web;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header},
    middleware,
};
use protocol::ErrorCode;
use tokio_util::sync::CancellationToken;
use tower_http::{
    compression::{
        CompressionLayer, CompressionLevel,
        predicate::{Predicate as _, SizeAbove},
    },
    cors::CorsLayer,
    set_header::SetResponseHeaderLayer,
};

use self::{
    address::Proxies, detach::Detached, host::Hosts, limits::RequestLimits, negotiate::Shared, readiness::Readiness,
    security_txt::SecurityTxt,
};
use crate::{
    budget::Budget,
    connection,
    failure::Failure,
    ids::Ids,
    service::{
        accounts::Accounts, administration::Administration, advice::Advice, credentials::Credentials,
        directory::Directory, documents::Documents, export::Exports, fleet::Fleet, photos::Photos, profiles::Profiles,
        recovery::Recovery, second_factor::SecondFactors, setup::Setup,
    },
    supervisor::Supervisor,
    telemetry::{Metrics, Quiet},
};

/// What the handlers need. Every layer has it, and every request clones every layer: so one count, and not one for each field.
pub type AppState = Arc<Context>;

/// What the handlers need.
pub struct Context {
    /// Accounts.
    pub accounts: Arc<Accounts>,
    /// Whether the club is set up, and how it gets so.
    pub setup: Arc<Setup>,
    /// What members prove who they are with.
    pub credentials: Arc<Credentials>,
    /// Second factors.
    pub second_factors: Arc<SecondFactors>,
    /// What links in mails do.
    pub recovery: Arc<Recovery>,
    /// Profiles.
    pub profiles: Arc<Profiles>,
    /// Photos.
    pub photos: Arc<Photos>,
    /// The directory.
    pub directory: Arc<Directory>,
    /// Messages as documents.
    pub documents: Arc<Documents>,
    /// Exports.
    pub exports: Arc<Exports>,
    /// Administration.
    pub administration: Arc<Administration>,
    /// Advice.
    pub advice: Arc<Advice>,
    /// What WebSocket connections need.
    pub connection: Arc<connection::Context>,
    /// Whether the store answers.
    pub readiness: Arc<Readiness>,
    /// This node among others, if there can be others.
    pub fleet: Option<Arc<Fleet>>,
    /// Watches over the tasks of the server.
    pub supervisor: Supervisor,
    /// How many requests are allowed.
    pub limits: Arc<RequestLimits>,
    /// Slots of requests that run to their end.
    pub detached: Arc<Detached>,
    /// Origins of browser pages that may use the API and the socket.
    pub origins: Arc<[HeaderValue]>,
    /// Where clients reach the API, as an origin; empty if no setting says so.
    pub public_url: String,
    /// The names that the server answers to.
    pub hosts: Hosts,
    /// Where problems of security are reported.
    pub security_txt: SecurityTxt,
    /// Makes the ids of requests.
    pub ids: Arc<Ids>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The memory for what waits for clients.
    pub budget: Arc<Budget>,
    /// Bounds the log lines about requests that failed.
    pub quiet: Arc<Quiet>,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// Cancelled when the server is going to stop: it takes no further sockets, and answers requests until the drain is over.
    pub draining: CancellationToken,
}

/// Bodies from this size on are compressed, in bytes.
const COMPRESSED_FROM: u16 = 1024;

/// When a client is to come back whose connection there was no room for.
const REFUSED_RETRY: Duration = Duration::from_secs(5);

/// The whole of HTTP. `proxies` are believed when they say where a request comes from.
pub fn router(state: AppState, proxies: Arc<Proxies>) -> Router {
    let (router, _) = routes::all().split_for_parts();
    let router = router
        .merge(documentation::routes())
        .merge(web::routes())
        .merge(security_txt::routes())
        .fallback(async || Failure::of(ErrorCode::NotFound))
        .method_not_allowed_fallback(async || Failure::of(ErrorCode::MethodNotAllowed))
        .layer((
            middleware::from_fn_with_state(state.clone(), limits::limit),
            middleware::from_fn_with_state(state.clone(), detach::detach),
            // Innermost, so that an answer is charged before it is compressed: that is done while it is read.
            middleware::from_fn_with_state(state.clone(), charge::charge),
        ));
    around(router, state, proxies)
}

/// What connections hear that there is no room for: how the server is, or to come back later.
pub fn refusing(state: AppState, proxies: Arc<Proxies>) -> Router {
    let (router, _) = routes::health::routes().split_for_parts();
    let refuse = async || {
        let message = "The server holds as many connections, of all or from there, as it may. Try again later.";
        Failure::new(ErrorCode::Overloaded, message).retry_after(REFUSED_RETRY)
    };
    around(router.fallback(refuse), state, proxies)
}

/// What every answer has around it, the outermost first. All in one layer: the router has a box around each, which it
/// clones for every request with all that are in it.
fn around(router: Router<AppState>, state: AppState, proxies: Arc<Proxies>) -> Router {
    router
        .layer((
            middleware::from_fn_with_state(state.clone(), request_id::identify),
            middleware::from_fn_with_state(proxies, address::resolve),
            // What members say to each other stays out of caches; what may be kept says so itself.
            safe(header::CACHE_CONTROL, "no-store"),
            // Pages that show something have a policy of their own.
            safe(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
            safe(header::REFERRER_POLICY, "no-referrer"),
            safe(header::X_FRAME_OPTIONS, "DENY"),
            safe(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            // Before anything is charged: whoever is refused here has nothing to ask of this server.
            middleware::from_fn_with_state(state.clone(), host::check),
            // Answered by the layer after it, whatever they ask about.
            middleware::from_fn_with_state(state.clone(), limits::limit_preflights),
            cors(&state.origins),
            // Whoever asks decides how often: brotli at its usual level takes five times as long as the answer itself.
            CompressionLayer::new()
                .quality(CompressionLevel::Fastest)
                .compress_when(SizeAbove::new(COMPRESSED_FROM).and(is_json)),
            middleware::from_fn_with_state(state.clone(), observe::observe),
        ))
        .with_state(state)
}

fn safe(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// Only JSON is worth it: pictures are compressed already, and the pages of the documentation too. Nor is anything
/// compressed anew that lies compressed in memory, for whoever does not take it so.
fn is_json(_: StatusCode, _: Version, headers: &HeaderMap, extensions: &Extensions) -> bool {
    if extensions.get::<Shared>().is_some() {
        return false;
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| value.starts_with("application/json") || value.starts_with("application/problem"))
}

fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let expose = ["ratelimit", "ratelimit-policy", "x-request-id"].map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(origins.to_vec())
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            HeaderName::from_static("idempotency-key"),
            request_id::REQUEST_ID,
        ])
        .expose_headers(expose.into_iter().chain([header::ETAG, header::RETRY_AFTER]).collect::<Vec<_>>())
        .max_age(Duration::from_secs(3600))
}
