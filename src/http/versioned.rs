//! Answers that have a version: with an `ETag`.

use axum::{
    Json,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// A body with its version, for `If-Match` of the next change.
pub struct Versioned<T>(pub T, pub u64);

impl<T> From<(T, u64)> for Versioned<T> {
    fn from((body, version): (T, u64)) -> Self {
        Self(body, version)
    }
}

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let Self(body, version) = self;
        let mut response = Json(body).into_response();
        // Digits between quotes are a header value.
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}
