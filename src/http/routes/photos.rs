//! `/api/members/{id}/photo` and `/api/photos`: uploading, removing and serving photos.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use http_body_util::BodyExt as _;
use protocol::{ErrorCode, MemberId, PhotoName, limits::PHOTO_MAX_BYTES, rest::Member};
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    failure::Failure,
    http::{
        AppState,
        charge::{Account, Held, LARGE_FROM},
        extract::{PathId, Peer, SignedIn},
        negotiate::is_known,
        versioned::Versioned,
    },
};

/// The content types of uploads. What an upload really is, its bytes say.
const CONTENT_TYPES: [&str; 3] = ["image/jpeg", "image/png", "image/webp"];
/// A name stands for one content for ever.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// How much of a refused upload is read and thrown away, in bytes, and for how long: many a client reads the answer only
/// after it has sent everything.
const DRAIN_MAX_BYTES: usize = 4 * PHOTO_MAX_BYTES;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Where photos are uploaded to.
pub(in crate::http) const UPLOADS: &str = "/api/members/{id}/photo";

/// The routes of this group.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(upload, remove)).routes(routes!(serve))
}

/// The bytes of a picture.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "describes a body that is no JSON")]
struct Picture(Vec<u8>);

/// Uploads a photo: one's own, or anybody's as an administrator.
///
/// A JPEG, PNG or WebP of at most 5 MiB, 12,000 pixels a side and 32 megapixels. It becomes a JPEG of at most 512 pixels
/// a side, upright, without any metadata; `profile_image_url` leads to it. The former photo is deleted.
#[utoipa::path(
    put,
    path = "/api/members/{id}/photo",
    operation_id = "upload_photo",
    tag = "members",
    params(("id" = MemberId, Path, description = "The member.")),
    request_body(
        content((Picture = "image/jpeg"), (Picture = "image/png"), (Picture = "image/webp")),
        description = "The picture.",
    ),
    responses(
        (status = 200, description = "The member now.", body = Member, headers(("ETag" = String, description = "The version."))),
        (status = 403, description = "forbidden"),
        (status = 404, description = "member_not_found"),
        (status = 422, description = "image_invalid"),
    )
)]
async fn upload(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    PathId(id): PathId<MemberId>,
    request: Request,
) -> Result<Versioned<Member>, Failure> {
    let upload = state.photos.admit(&who, from, id).await?;
    let mut held = Account::of(&state.budget, request.extensions()).hold(0);
    let content = picture(request, state.request_timeout, &mut held).await?;
    state.photos.replace(upload, content).await.map(Into::into)
}

/// Removes a photo: one's own, or anybody's as an administrator.
///
/// It is gone for good. Removing it once more changes nothing.
#[utoipa::path(
    delete,
    path = "/api/members/{id}/photo",
    operation_id = "remove_photo",
    tag = "members",
    params(("id" = MemberId, Path, description = "The member.")),
    responses(
        (status = 204, description = "The member has no photo."),
        (status = 403, description = "forbidden"),
        (status = 404, description = "member_not_found"),
    )
)]
async fn remove(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    PathId(id): PathId<MemberId>,
) -> Result<StatusCode, Failure> {
    state.photos.remove(&who, from, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A photo, for anybody who knows its address.
///
/// It never changes, so caches may keep it for ever.
#[utoipa::path(
    get,
    path = "/api/photos/{file}",
    operation_id = "get_photo",
    tag = "members",
    params(
        ("file" = String, Path, description = "The file, from `profile_image_url`."),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of the photo that is there already."),
    ),
    responses(
        (
            status = 200, description = "The photo.", body = Picture, content_type = "image/jpeg",
            headers(
                ("ETag" = String, description = "The hash of the photo."),
                ("Cache-Control" = String, description = "That it may be kept for ever."),
            ),
        ),
        (status = 304, description = "It is there already."),
        (status = 404, description = "not_found"),
    )
)]
async fn serve(
    State(state): State<AppState>,
    file: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    // Whatever is no name of a photo is not there.
    let Path(file) = file.map_err(|_| ErrorCode::NotFound)?;
    let name: PhotoName = file.parse().map_err(|_| ErrorCode::NotFound)?;
    let tag = format!("\"{}\"", file.trim_end_matches(".jpg"));
    let mut response = if is_known(&headers, &tag) {
        state.photos.check(name).await?;
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let content = state.photos.read(name).await?;
        ([(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"))], content).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, FOR_EVER);
    // Digits between quotes are a header value.
    headers.extend(HeaderValue::from_str(&tag).map(|tag| (header::ETAG, tag)));
    Ok(response)
}

/// The body of an upload, of which no more is held in memory than is allowed. It has to be through within `limit`.
async fn picture(request: Request, limit: Duration, held: &mut Held) -> Result<Bytes, Failure> {
    let (parts, mut body) = request.into_parts();
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = header(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let length = header(header::CONTENT_LENGTH).parse::<usize>().unwrap_or(0);
    let refused = if !CONTENT_TYPES.contains(&essence.as_str()) {
        ErrorCode::UnsupportedMediaType
    } else if length > PHOTO_MAX_BYTES {
        ErrorCode::PayloadTooLarge
    } else {
        match timeout(limit, read(&mut body, held)).await {
            Ok(Ok(content)) => return Ok(content),
            Ok(Err(code)) => code,
            Err(_) => return Err(ErrorCode::Timeout.into()),
        }
    };
    // Who waits to be asked for the body has the answer first (RFC 9110, section 10.1.1).
    if !header(header::EXPECT).eq_ignore_ascii_case("100-continue") {
        // It is refused in any case.
        let _ = timeout(DRAIN_TIMEOUT, drain(&mut body)).await;
    }
    Err(refused.into())
}

/// Copied into one piece: the pieces that it comes in may be as small as a byte. Refused as soon as it is large while memory
/// is short.
async fn read(body: &mut Body, held: &mut Held) -> Result<Bytes, ErrorCode> {
    let mut content = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ErrorCode::Malformed)?;
        let Some(data) = frame.data_ref() else { continue };
        if content.len() + data.len() > PHOTO_MAX_BYTES {
            return Err(ErrorCode::PayloadTooLarge);
        }
        held.add(data.len());
        content.extend_from_slice(data);
        if content.len() >= LARGE_FROM && held.is_short() {
            return Err(ErrorCode::Overloaded);
        }
    }
    Ok(content.into())
}

async fn drain(body: &mut Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await
        && read <= DRAIN_MAX_BYTES
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}
