//! `/api/setup`: the first administrator.

use axum::{Json, extract::State, http::StatusCode};
use protocol::rest::{AuthResponse, SetupRequest, SetupState};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    failure::Failure,
    http::{
        AppState,
        extract::{Body, Peer},
    },
};

/// The routes of this group.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(state, set_up))
}

/// Whether the club has no administrator yet.
///
/// An app that finds that it is asks for the setup code instead of a login.
#[utoipa::path(
    get,
    path = "/api/setup",
    tag = "setup",
    operation_id = "get_setup",
    responses((status = 200, description = "Whether it has to be set up.", body = SetupState))
)]
async fn state(State(state): State<AppState>) -> Result<Json<SetupState>, Failure> {
    Ok(Json(SetupState { needed: state.setup.is_needed().await? }))
}

/// Makes the first administrator of the club and logs them in.
///
/// With the setup code that the server prints when it starts, while it has no administrator.
#[utoipa::path(
    post,
    path = "/api/setup",
    tag = "setup",
    operation_id = "set_up",
    request_body = SetupRequest,
    responses(
        (status = 201, description = "The administrator, with tokens.", body = AuthResponse),
        (status = 403, description = "forbidden"),
        (status = 409, description = "already_set_up, email_taken"),
    )
)]
async fn set_up(
    State(state): State<AppState>,
    Peer(peer): Peer,
    Body(request): Body<SetupRequest>,
) -> Result<(StatusCode, Json<AuthResponse>), Failure> {
    let answer = state.setup.set_up(request, peer).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}
