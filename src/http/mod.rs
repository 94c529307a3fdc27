//! HTTP: the REST API, the way into the WebSocket, health, metrics.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`routes`] | one file per group of endpoints |
//! | [`problem`] | failures as problem documents |
//! | [`extract`] | who asks, and what with |
//! | [`versioned`] | answers with an `ETag` |
//! | [`openapi`] | the OpenAPI document |
//! | [`upgrade`] | HTTP to WebSocket |
//! | [`observe`] | deadline, metrics and log of every request |
//! | [`serve`] | accepting connections, as many as there is room for |
//!
//! Handlers translate; rules live in `service`.

pub mod extract;
pub mod observe;
pub mod openapi;
pub mod problem;
pub mod routes;
pub mod serve;
pub mod upgrade;
pub mod versioned;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderValue, Method, header},
    middleware,
};
use protocol::ErrorCode;
use tokio_util::sync::CancellationToken;
use tower_http::cors::CorsLayer;

use crate::{
    failure::Failure,
    service::{
        accounts::Accounts, administration::Administration, directory::Directory, documents::Documents,
        export::Exports, photos::Photos, profiles::Profiles,
    },
    session,
    store::Backend,
    telemetry::Metrics,
};

/// What the handlers need.
#[derive(Clone)]
pub struct AppState {
    /// Accounts.
    pub accounts: Arc<Accounts>,
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
    /// What WebSocket connections need.
    pub session: Arc<session::Context>,
    /// The store, for its health.
    pub store: Arc<dyn Backend>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// Cancelled when the server is going to stop.
    pub shutdown: CancellationToken,
}

/// The whole of HTTP.
pub fn router(state: AppState, cors_origins: Vec<HeaderValue>) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(cors_origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .expose_headers([header::RETRY_AFTER])
        .max_age(Duration::from_secs(3600));
    let (router, _) = routes::all().split_for_parts();
    router
        .fallback(async || Failure::of(ErrorCode::NotFound))
        .method_not_allowed_fallback(async || Failure::of(ErrorCode::MethodNotAllowed))
        .layer(middleware::from_fn_with_state(state.clone(), observe::observe))
        .layer(cors)
        .with_state(state)
}
