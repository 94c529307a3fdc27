//! The documents of the API, and pages that show them: Swagger UI, ReDoc and a page of the WebSocket.
//!
//! Everything that the pages load is in the binary ([`assets`]).

mod assets;

use std::sync::LazyLock;

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};

use super::{AppState, negotiate::Document, routes};

/// The AsyncAPI document of the WebSocket; a test of `protocol` compares it with the code.
static ASYNCAPI: LazyLock<Document> =
    LazyLock::new(|| Document::new(include_str!("../../../protocol/schema/asyncapi.json")));

/// The OpenAPI document.
static OPENAPI: LazyLock<Document> = LazyLock::new(|| Document::new(openapi()));

/// What every page may load: its scripts, its styles, its document, and nothing from anywhere else. All three viewers
/// write style attributes and elements as they go, which is why inline styles are allowed, and have pictures in their
/// styles, which is why `data:` is.
macro_rules! policy {
    ($scripts:literal, $more:literal) => {
        concat!(
            "default-src 'none'; script-src ",
            $scripts,
            "; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            $more
        )
    };
}

/// The documents and the pages. They are for everybody, like the repository that they come from.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/openapi.json", get(async |request: HeaderMap| document(&OPENAPI, &request)))
        .route("/api/asyncapi.json", get(async |request: HeaderMap| document(&ASYNCAPI, &request)))
        // Whoever opens the beginning of what the server prints.
        .route("/api", get(async || Redirect::to("/api/docs/")))
        .route("/api/", get(async || Redirect::to("/api/docs/")))
        // Relative links on the page need the slash.
        .route("/api/docs", get(async || Redirect::permanent("/api/docs/")))
        .route("/api/docs/", get(async || page(include_str!("../assets/pages/docs.html"), policy!("'self'", ""))))
        // The search of ReDoc runs in a worker that it makes of a part of itself.
        .route(
            "/api/redoc",
            get(async || page(include_str!("../assets/pages/redoc.html"), policy!("'self'", "; worker-src blob:"))),
        )
        // Its viewer compiles the JSON Schemas of the AsyncAPI specification into functions when it is loaded.
        .route(
            "/api/asyncapi",
            get(async || page(include_str!("../assets/pages/asyncapi.html"), policy!("'self' 'unsafe-eval'", ""))),
        )
        .route("/api/assets/{*path}", get(assets::serve))
}

/// The OpenAPI document, written once.
#[expect(clippy::expect_used, reason = "strings, numbers, lists and maps with string keys; a test writes it too")]
fn openapi() -> String {
    routes::document().to_json().expect("the document is JSON")
}

/// Headers that every answer of this module has.
fn headers(content_type: &'static str, cache: &'static str) -> [(HeaderName, HeaderValue); 2] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
    ]
}

fn document(document: &Document, request: &HeaderMap) -> Response {
    (headers("application/json", "no-cache"), document.response(request)).into_response()
}

fn page(html: &'static str, policy: &'static str) -> Response {
    let policy = [(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy))];
    (headers("text/html; charset=utf-8", "no-cache"), policy, html).into_response()
}
