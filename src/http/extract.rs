//! Who asks, and what with.

use std::{convert::Infallible, net::IpAddr, str::FromStr};

use axum::{
    RequestPartsExt as _,
    body::{Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, header, request::Parts},
};
use http_body_util::LengthLimitError;
use protocol::{ErrorCode, limits::BODY_MAX_BYTES, rest::Language};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{AppState, address::ClientAddress};
use crate::{
    failure::Failure,
    service::{
        accounts::{Authorized, Proved},
        administration::{Admin, ProvedAdmin},
    },
};

/// Languages of `Accept-Language` that are looked at.
const LANGUAGES_READ: usize = 20;

/// The signed-in member, from the `Authorization` header (RFC 6750).
pub struct SignedIn(pub Authorized);

impl FromRequestParts<AppState> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Failure> {
        let token = bearer(&parts.headers).unwrap_or_default();
        Ok(Self(state.accounts.authorize(token).await?))
    }
}

/// The access token of a request, if it has one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The address that the request came from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // Put there by `address::resolve` for every request.
        let ClientAddress(address) = parts.extensions.get().ok_or(ErrorCode::Internal)?;
        Ok(Self(*address))
    }
}

/// The language that a client asks for with `Accept-Language`, of those that mails are written in.
pub struct Speaks(pub Option<Language>);

impl<S: Sync> FromRequestParts<S> for Speaks {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let accepted = parts.headers.get(header::ACCEPT_LANGUAGE).and_then(|accepted| accepted.to_str().ok());
        Ok(Self(accepted.and_then(preferred)))
    }
}

/// The first of the best languages that there are texts in.
fn preferred(accepted: &str) -> Option<Language> {
    let ranges = accepted.split(',').take(LANGUAGES_READ).filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let tag = parts.next()?.split('-').next()?;
        let quality =
            parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |quality| quality.parse().ok())?;
        let language = Language::ALL.into_iter().find(|language| tag.eq_ignore_ascii_case(language.as_str()))?;
        Some((language, quality)).filter(|(_, quality): &(_, f32)| *quality > 0.0)
    });
    // Of those that are as good the first.
    let better = |best: Option<(Language, f32)>, next: (Language, f32)| match best {
        Some(best) if best.1 >= next.1 => Some(best),
        _ => Some(next),
    };
    ranges.fold(None, better).map(|(language, _)| language)
}

/// An administrator, with the address that they ask from.
pub struct SignedInAdmin(pub Admin);

impl FromRequestParts<AppState> for SignedInAdmin {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Failure> {
        let SignedIn(who) = SignedIn::from_request_parts(parts, state).await?;
        let Peer(from) = Peer::from_request_parts(parts, state).await?;
        Ok(Self(Admin::new(&who, from)?))
    }
}

/// A member who has proved within the last 15 minutes who they are.
pub struct SignedInProved(pub Proved);

impl FromRequestParts<AppState> for SignedInProved {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Failure> {
        let SignedIn(who) = SignedIn::from_request_parts(parts, state).await?;
        Ok(Self(Proved::new(&who, state.accounts.clock.now())?))
    }
}

/// An administrator who has proved within the last 15 minutes who they are.
pub struct SignedInProvedAdmin(pub ProvedAdmin);

impl FromRequestParts<AppState> for SignedInProvedAdmin {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Failure> {
        let SignedIn(who) = SignedIn::from_request_parts(parts, state).await?;
        let Peer(from) = Peer::from_request_parts(parts, state).await?;
        Ok(Self(ProvedAdmin::new(&who, from, state.accounts.clock.now())?))
    }
}

/// The one id in the path.
pub struct PathId<T>(pub T);

impl<T: FromStr<Err: std::fmt::Display>> FromRequestParts<AppState> for PathId<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Failure> {
        let Path((name, text)) = parts.extract::<Path<Vec<(String, String)>>>().await.map_or_else(
            |_| Path(("id".to_owned(), String::new())),
            |Path(all)| Path(all.into_iter().next().unwrap_or_default()),
        );
        let wrong = |problem: T::Err| Failure::field(ErrorCode::ValidationFailed, &name, &problem.to_string());
        text.parse().map(Self).map_err(wrong)
    }
}

/// The checked parameters of the query.
pub struct Params<T>(pub T);

impl<T> FromRequestParts<AppState> for Params<T>
where
    T: DeserializeOwned + garde::Validate<Context = ()>,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Failure> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        let object = pairs.map(|(name, value)| (name, Value::String(value))).collect();
        checked(Value::Object(object)).map(Self)
    }
}

/// The version that a change is made for, from `If-Match` (RFC 9110, section 13.1.1).
pub struct IfMatch(pub Option<u64>);

impl FromRequestParts<AppState> for IfMatch {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Failure> {
        let Some(tag) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let tag = tag.to_str().unwrap_or_default().trim();
        if tag == "*" {
            return Ok(Self(None));
        }
        // A proxy that compresses an answer makes its tag a weak one. A version tells as much as before.
        let opaque = tag.strip_prefix("W/").unwrap_or(tag);
        let opaque = opaque.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).filter(|tag| !tag.contains('"'));
        let Some(opaque) = opaque else {
            return Err(Failure::field(ErrorCode::ValidationFailed, "If-Match", "one entity tag, or *"));
        };
        // A tag that is not one of ours is not the newest version of anything.
        opaque.parse().map(|version| Self(Some(version))).map_err(|_| ErrorCode::Stale.into())
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

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Failure> {
        let is_json = is_json(request.headers());
        let bytes = read(request).await?;
        match bytes.is_empty() {
            // Some clients name a content type even when there is no content.
            true => Ok(Self(T::default())),
            false if is_json => parse(&bytes).map(|Body(body)| Self(body)),
            false => Err(ErrorCode::UnsupportedMediaType.into()),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.eq_ignore_ascii_case("application/merge-patch+json")
}

/// The body, which is there already: see [`super::detach`].
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
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        Failure::new(ErrorCode::Malformed, format!("The body is not JSON: {}.", protocol::json_problem(&error)))
    })?;
    if !value.is_object() {
        return Err(Failure::new(ErrorCode::Malformed, "The body is not a JSON object."));
    }
    checked(value).map(Body)
}

/// Reads and checks an object; names every field that is bad.
fn checked<T>(object: Value) -> Result<T, Failure>
where
    T: DeserializeOwned + garde::Validate<Context = ()>,
{
    protocol::parse_body(object).map_err(|fields| {
        let names: Vec<&str> = fields.iter().map(|error| error.field.as_str()).collect();
        let detail = format!("Not valid: {}.", names.join(", "));
        Failure { fields, ..Failure::new(ErrorCode::ValidationFailed, detail) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_language_that_there_is() {
        let of = |accepted: &str| preferred(accepted).map(Language::as_str);
        assert_eq!(of("pt-PT,pt;q=0.9,en;q=0.8"), Some("pt"));
        assert_eq!(of("de, EN-us;q=0.5, pt;q=0.4"), Some("en"));
        assert_eq!(of("en;q=0.2, pt;q=0.7"), Some("pt"));
        assert_eq!(of("en, pt"), Some("en"));
        for none in ["", "de", "*", "en;q=0", "en;q=much", ",,;"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
