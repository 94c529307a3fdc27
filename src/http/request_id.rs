//! The id of a request, in and out: what a client, a proxy and the log call it.

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};

use super::AppState;

/// The header, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken over from a request, in characters.
const MAX_CHARS: usize = 64;

/// The id of a request.
#[derive(Debug, Clone)]
pub struct RequestId(pub HeaderValue);

/// Takes the id of a request over, if it is one that can be logged, or makes one; the response carries it.
pub async fn identify(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get(&REQUEST_ID).filter(|id| {
        let bytes = id.as_bytes();
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        (1..=MAX_CHARS).contains(&bytes.len()) && bytes.iter().all(harmless)
    });
    let id = given.cloned().or_else(|| HeaderValue::from_str(&state.ids.request()).ok());
    let Some(id) = id else { return next.run(request).await };
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}
