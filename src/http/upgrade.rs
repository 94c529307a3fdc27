//! HTTP to WebSocket (RFC 6455, section 4).

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use protocol::{ErrorCode, SUBPROTOCOL};
use tokio::{net::TcpStream, time::Instant};
use tokio_tungstenite::tungstenite::handshake::server::create_response;

use super::{AppState, extract::Peer, progress::Progress};
use crate::{admission::Place, connection, failure::Failure};

/// The WebSocket, with the subprotocol `membersbook.v1`.
///
/// What flows over it is described by the AsyncAPI document.
#[utoipa::path(
    get,
    path = "/ws",
    tag = "socket",
    operation_id = "open_socket",
    responses(
        (status = 101, description = "From here on it is a WebSocket."),
        (status = 403, description = "forbidden"),
        (status = 426, description = "upgrade_required"),
    )
)]
pub async fn upgrade(
    State(state): State<AppState>,
    Peer(peer): Peer,
    mut request: Request,
) -> Result<Response, Response> {
    if state.draining.is_cancelled() {
        return Err(Failure::of(ErrorCode::Draining).into_response());
    }
    check_origin(request.headers(), &state.origins, &state.public_url).map_err(Failure::into_response)?;
    let chosen = subprotocol(request.headers()).map_err(Failure::into_response)?;
    let mut handshake = axum::http::Request::new(());
    *handshake.method_mut() = request.method().clone();
    *handshake.version_mut() = request.version();
    *handshake.headers_mut() = request.headers().clone();
    let response = create_response(&handshake).map_err(|_| upgrade_required())?;
    let (Some(upgrading), Some(place)) =
        (request.extensions_mut().remove::<OnUpgrade>(), request.extensions_mut().remove::<Place>())
    else {
        return Err(upgrade_required());
    };
    if place.belongs_to(peer, Instant::now()).is_err() {
        return Err(Failure::overloaded().into_response());
    }
    let context = Arc::clone(&state.connection);
    // Boxed, and made outside of the task: what is only passed on would take its room in the future of every idle connection.
    let opening = Box::pin(async move {
        let stream = websocket(upgrading, peer).await?;
        Some(connection::task::open(stream, peer, Some(place), context))
    });
    // The task of the connection, from here to its end. It keeps its place among the connections.
    state.connection.tasks.spawn(async move {
        if let Some(task) = opening.await {
            task.run_to_end().await;
        }
    });
    let mut response = response.map(|()| axum::body::Body::empty());
    if chosen {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(response)
}

/// The socket of an upgraded connection, taken out of hyper's boxes: it is the bare socket from now on. With what was read
/// from it already.
async fn websocket(upgrading: OnUpgrade, peer: IpAddr) -> Option<(TcpStream, Vec<u8>)> {
    let upgraded = match upgrading.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%peer, %error, "the upgrade to WebSocket failed");
            return None;
        }
    };
    let Ok(Parts { io, read_buf, .. }) = upgraded.downcast::<TokioIo<Progress<TcpStream>>>() else {
        tracing::error!("an upgraded connection is not a TCP socket");
        return None;
    };
    // A copy: the view of the early bytes keeps the whole of hyper's buffer for as long as it lives.
    Some((io.into_inner().into_inner(), read_buf.to_vec()))
}

/// A page of another site must not open a socket as somebody who happens to look at it (RFC 6455, section 10.2). Apps
/// send no origin, or that of the server itself: where the request says that it is, or where `PUBLIC_URL` says so, which holds behind
/// a proxy that asks by another name, too.
fn check_origin(headers: &HeaderMap, allowed: &[HeaderValue], public_url: &str) -> Result<(), Failure> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_own = authority.is_some_and(|authority| host.is_some_and(|host| host.eq_ignore_ascii_case(authority)));
    if is_own || allowed.contains(origin) || (!public_url.is_empty() && origin == public_url) {
        return Ok(());
    }
    Err(Failure::field(ErrorCode::Forbidden, "Origin", "not one of CORS_ORIGINS, nor PUBLIC_URL"))
}

/// Whether the client offers our subprotocol. One that offers none is taken to speak it.
fn subprotocol(headers: &HeaderMap) -> Result<bool, Failure> {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut offered =
        offers.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).peekable();
    if offered.peek().is_none() {
        return Ok(false);
    }
    if offered.any(|name| name.trim() == SUBPROTOCOL) {
        return Ok(true);
    }
    let message = format!("the server speaks {SUBPROTOCOL}");
    Err(Failure::field(ErrorCode::ValidationFailed, "Sec-WebSocket-Protocol", &message))
}

fn upgrade_required() -> Response {
    let mut response = Failure::of(ErrorCode::UpgradeRequired).into_response();
    debug_assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    // RFC 9110, section 15.5.22, and RFC 6455, section 4.2.2.
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}
