//! Failures as problem documents (RFC 9457).

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::{Problem, error::Retry};

use crate::failure::{Failure, Surface};

/// When to come back where nothing else is known: whoever is refused is always told a time.
const COME_BACK: Duration = Duration::from_secs(1);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self { code, message, fields, retry_after, until, .. } = self.worded_for(Surface::Rest);
        let problem = Problem { errors: fields, until, ..Problem::new(code, message) };
        let status = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A problem is plain strings and numbers, which can always be written.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // Unless coming back is of no use.
        let is_refused = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            && code.retry() != Retry::Never;
        if let Some(wait) = retry_after.or(is_refused.then_some(COME_BACK)) {
            // Whole seconds (RFC 9110, section 10.2.3), rounded up.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
        }
        response
    }
}
