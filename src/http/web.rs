//! What people see in a browser: a page that says what this is, and the club's app.
//!
//! The app is one page that is in the binary with all that it loads ([`bundle`]). It talks to the server that it came from.

mod bundle;

use std::sync::LazyLock;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use protocol::ErrorCode;
use serde_json::json;

use self::bundle::{APP, Bundle, File, INDEX};
use super::{
    AppState,
    negotiate::{is_known, prefers_html},
};
use crate::failure::Failure;

/// Where the app is.
pub const APP_PATH: &str = "/app/";

/// The version of the server.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// For files whose names have a hash of their content.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// For what may change with every version of the server: asked for again, and not sent again.
const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");
/// No page that the app's opens, or that opens it, can reach into it.
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// What the start page may load: its style.
const START_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The start page.
static START: LazyLock<String> = LazyLock::new(|| {
    let app = match has_app() {
        true => "<p><a class=\"app\" href=\"/app/\">Open the app</a></p>",
        false => "<p>It was built without the app for browsers.</p>",
    };
    include_str!("assets/pages/start.html").replace("{app}", app).replace("{version}", VERSION)
});

/// Whether the server was built with the app.
#[must_use]
pub fn has_app() -> bool {
    APP.is_there()
}

/// The start page and the app.
pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(start))
        // Relative links of the app need the slash.
        .route("/app", get(async || Redirect::permanent(APP_PATH)))
        .route(APP_PATH, get(index))
        .route("/app/{*path}", get(app))
}

/// What this is, and where everything else is.
async fn start(request: HeaderMap) -> Response {
    let mut response = if prefers_html(&request) {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CONTENT_SECURITY_POLICY, START_POLICY),
        ];
        (headers, START.as_str()).into_response()
    } else {
        let service = json!({
            "name": env!("CARGO_PKG_NAME"),
            "version": VERSION,
            "app": has_app().then_some(APP_PATH),
            "api": "/api/openapi.json",
            "docs": "/api/docs/",
            "websocket": "/ws",
        });
        Json(service).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, REVALIDATED);
    headers.append(header::VARY, HeaderValue::from_static("accept"));
    response
}

async fn index(State(state): State<AppState>, request: HeaderMap) -> Result<Response, Failure> {
    serve(&APP, INDEX, &request, &state.public_url)
}

async fn app(State(state): State<AppState>, Path(path): Path<String>, request: HeaderMap) -> Result<Response, Failure> {
    serve(&APP, &path, &request, &state.public_url)
}

/// A file of a bundle. `public_url`: where clients reach the server, and so photos; empty if that is not set.
fn serve(bundle: &Bundle, path: &str, request: &HeaderMap, public_url: &str) -> Result<Response, Failure> {
    if !bundle.is_there() {
        let message =
            "This server was built without the app for browsers: src/http/assets/README.md says how it gets in.";
        return Err(Failure::new(ErrorCode::NotFound, message));
    }
    let File { content, content_type, tag, is_immutable } = bundle.find(path).ok_or(ErrorCode::NotFound)?;
    // The same tag whichever way it is encoded: it stands for the content, and is compared for nothing but that.
    let mut response = match is_known(request, tag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => content.response(request),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, if *is_immutable { FOR_EVER } else { REVALIDATED });
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy(request, public_url));
    // Digits between quotes are a header value.
    headers.extend(HeaderValue::from_str(&format!("W/{tag}")).map(|tag| (header::ETAG, tag)));
    if response.status() == StatusCode::OK {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    Ok(response)
}

/// What the app may load and whom it may talk to: its own server, and nobody else. Where photos have addresses that begin with
/// `PUBLIC_URL`, they come from there.
///
/// Its framework makes an empty style element and fills it by script: the hash is that of the empty text, and no other inline style is allowed. `'self'` has the WebSocket of the same host in
/// it for today's browsers; Safari before 15.4 has to be told.
fn policy(request: &HeaderMap, public_url: &str) -> HeaderValue {
    let host = request.get(header::HOST).and_then(|host| host.to_str().ok()).filter(|host| is_authority(host));
    let sockets = host.map(|host| format!(" ws://{host} wss://{host}")).unwrap_or_default();
    let separator = if public_url.is_empty() { "" } else { " " };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; \
         img-src 'self' data: blob:{separator}{public_url}; font-src 'self'; connect-src 'self'{sockets}; \
         manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    );
    // Whatever is no header value allows nothing.
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// Whether a text has no character that an authority cannot have: the client wrote it, and it becomes a part of the policy.
fn is_authority(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

#[cfg(test)]
mod tests;
