//! `/api/members/me/sessions`: where the member is signed in.

use axum::{Json, extract::State, http::StatusCode};
use protocol::{
    SessionId,
    rest::{Session, SessionList, SessionRename},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    failure::Failure,
    http::{
        AppState,
        extract::{Body, PathId, SignedIn},
    },
};

/// The routes of this group.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, end_others)).routes(routes!(rename, end))
}

/// Where the member is signed in: the sessions that are good, the one that was used last first.
#[utoipa::path(
    get,
    path = "/api/members/me/sessions",
    tag = "members",
    operation_id = "list_sessions",
    responses((status = 200, description = "The sessions.", body = SessionList))
)]
async fn list(State(state): State<AppState>, SignedIn(who): SignedIn) -> Result<Json<SessionList>, Failure> {
    state.accounts.sessions.list(who.member, who.session).await.map(Json)
}

/// Ends every session of the member but this one.
///
/// Their live connections are closed with 4401.
#[utoipa::path(
    delete,
    path = "/api/members/me/sessions",
    tag = "members",
    operation_id = "end_other_sessions",
    responses((status = 204, description = "This session is the only one."))
)]
async fn end_others(State(state): State<AppState>, SignedIn(who): SignedIn) -> Result<StatusCode, Failure> {
    state.accounts.sessions.end_others(&who).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Names the device of a session.
#[utoipa::path(
    patch,
    path = "/api/members/me/sessions/{id}",
    tag = "members",
    operation_id = "rename_session",
    params(("id" = SessionId, Path, description = "The session.")),
    request_body = SessionRename,
    responses(
        (status = 200, description = "The session now.", body = Session),
        (status = 404, description = "session_not_found"),
    )
)]
async fn rename(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    PathId(id): PathId<SessionId>,
    Body(request): Body<SessionRename>,
) -> Result<Json<Session>, Failure> {
    state.accounts.sessions.rename(&who, id, &request.name).await.map(Json)
}

/// Ends a session of the member, which may be this one.
///
/// Its live connections are closed with 4401.
#[utoipa::path(
    delete,
    path = "/api/members/me/sessions/{id}",
    tag = "members",
    operation_id = "end_session",
    params(("id" = SessionId, Path, description = "The session.")),
    responses(
        (status = 204, description = "The session has ended."),
        (status = 404, description = "session_not_found"),
    )
)]
async fn end(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    PathId(id): PathId<SessionId>,
) -> Result<StatusCode, Failure> {
    state.accounts.sessions.end(&who, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
