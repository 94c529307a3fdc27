//! Who asks, and what with.

use std::net::{IpAddr, SocketAddr};

use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, header, request::Parts},
};
use http_body_util::LengthLimitError;
use protocol::{ErrorCode, limits::BODY_MAX_BYTES};
use serde::de::DeserializeOwned;

use super::AppState;
use crate::{failure::Failure, service::accounts::Authorized};

/// The signed-in member, from the `Authorization` header (RFC 6750).
pub struct SignedIn(pub Authorized);

impl FromRequestParts<AppState> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Failure> {
        let token = bearer(&parts.headers).unwrap_or_default();
        Ok(Self(state.accounts.authorize(token).await?))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The address that the request came from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // Put there by `serve` for every connection.
        let peer = parts.extensions.get::<SocketAddr>().ok_or(ErrorCode::Internal)?;
        Ok(Self(peer.ip().to_canonical()))
    }
}

/// A checked JSON body.
pub struct Body<T>(pub T);

impl<T> FromRequest<AppState> for Body<T>
where
    T: DeserializeOwned + garde::Validate<Context = ()>,
{
    type Rejection = Failure;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Failure> {
        if !is_json(request.headers()) {
            return Err(ErrorCode::UnsupportedMediaType.into());
        }
        parse(&read(request).await?)
    }
}

/// A checked JSON body that may be left out.
pub struct OptionalBody<T>(pub T);

impl<T> FromRequest<AppState> for OptionalBody<T>
where
    T: DeserializeOwned + Default + garde::Validate<Context = ()>,
{
    type Rejection = Failure;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Failure> {
        if request.headers().contains_key(header::CONTENT_TYPE) {
            return Body::from_request(request, state).await.map(|Body(body)| Self(body));
        }
        let bytes = read(request).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { Err(ErrorCode::UnsupportedMediaType.into()) }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.eq_ignore_ascii_case("application/merge-patch+json")
}

async fn read(request: Request) -> Result<Bytes, Failure> {
    to_bytes(request.into_body(), BODY_MAX_BYTES).await.map_err(|error| {
        let too_large = std::error::Error::source(&error).is_some_and(<dyn std::error::Error>::is::<LengthLimitError>);
        Failure::of(if too_large { ErrorCode::PayloadTooLarge } else { ErrorCode::Malformed })
    })
}

fn parse<T>(bytes: &[u8]) -> Result<Body<T>, Failure>
where
    T: DeserializeOwned + garde::Validate<Context = ()>,
{
    let value: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|error| Failure::new(ErrorCode::Malformed, format!("The body is not JSON: {error}.")))?;
    if !value.is_object() {
        return Err(Failure::new(ErrorCode::Malformed, "The body is not a JSON object."));
    }
    protocol::parse_body(value).map(Body).map_err(|fields| {
        let names: Vec<&str> = fields.iter().map(|error| error.field.as_str()).collect();
        let detail = format!("Not valid: {}.", names.join(", "));
        Failure { fields, ..Failure::new(ErrorCode::ValidationFailed, detail) }
    })
}
