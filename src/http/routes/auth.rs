//! `/api/auth`: register, log in, refresh, log out.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use protocol::rest::{
    AuthResponse, LoginRequest, LogoutRequest, RefreshRequest, RegisterRequest, RegistrationPending, Waiting,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    failure::Failure,
    http::{
        AppState,
        extract::{Body, OptionalBody, Peer, SignedIn, Speaks},
    },
    service::accounts::Registered,
};

/// The routes of this group.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(log_in))
        .routes(routes!(refresh))
        .routes(routes!(log_out))
}

/// Registers a member and logs them in.
///
/// Who may, the club decides (`GET /api/club`): anybody, whoever has an invitation, or nobody; or an administrator has to approve it, and there
/// are no tokens yet. Tier and role cannot be chosen.
#[utoipa::path(
    post,
    path = "/api/auth/register",
    tag = "auth",
    operation_id = "register",
    request_body = RegisterRequest,
    responses(
        (status = 201, description = "The new member, with tokens.", body = AuthResponse),
        (status = 202, description = "The registration waits: for an administrator, or, where mail is sent, for the link in a mail, whether the address was free or taken.", body = RegistrationPending),
        (status = 403, description = "invitation_required, invitation_invalid, registration_closed"),
        (status = 503, description = "applications_full"),
        (status = 409, description = "email_taken"),
    )
)]
async fn register(
    State(state): State<AppState>,
    Peer(peer): Peer,
    Speaks(language): Speaks,
    Body(request): Body<RegisterRequest>,
) -> Result<Response, Failure> {
    Ok(match state.accounts.register(request, language, peer).await? {
        Registered::In(answer) => (StatusCode::CREATED, Json(answer)).into_response(),
        Registered::Waiting => {
            (StatusCode::ACCEPTED, Json(RegistrationPending { status: Waiting::Pending })).into_response()
        }
        Registered::ByMail => {
            (StatusCode::ACCEPTED, Json(RegistrationPending { status: Waiting::VerifyEmail })).into_response()
        }
    })
}

/// Logs a member in.
#[utoipa::path(
    post,
    path = "/api/auth/login",
    tag = "auth",
    operation_id = "log_in",
    request_body = LoginRequest,
    responses(
        (status = 200, description = "The member, with the tokens of a new session.", body = AuthResponse),
        (status = 401, description = "invalid_credentials, second_factor_required, second_factor_invalid"),
        (status = 403, description = "member_deactivated, member_suspended, approval_pending"),
    )
)]
async fn log_in(
    State(state): State<AppState>,
    Peer(peer): Peer,
    Body(request): Body<LoginRequest>,
) -> Result<Json<AuthResponse>, Failure> {
    state.accounts.log_in(request, peer).await.map(Json)
}

/// Exchanges a refresh token for new tokens.
///
/// The answer has the token that follows. The one before it stays good until the new one, or the access token of the answer, is first
/// used: until then the request may be repeated with the same `attempt`, and has the same refresh token. After that, and with another
/// `attempt`, using the old one revokes the whole session.
#[utoipa::path(
    post,
    path = "/api/auth/refresh",
    tag = "auth",
    operation_id = "refresh_tokens",
    request_body = RefreshRequest,
    responses(
        (status = 200, description = "The member, with new tokens of the same session.", body = AuthResponse),
        (status = 401, description = "refresh_token_invalid, refresh_token_reused"),
        (status = 403, description = "member_deactivated, member_suspended"),
    )
)]
async fn refresh(
    State(state): State<AppState>,
    Peer(peer): Peer,
    Body(request): Body<RefreshRequest>,
) -> Result<Json<AuthResponse>, Failure> {
    let RefreshRequest { refresh_token, attempt } = &request;
    state.accounts.refresh(refresh_token, attempt.as_deref(), peer).await.map(Json)
}

/// Ends this session, or with `{"all": true}` every session of the member.
///
/// Their live connections are closed with 4401. The body may be left out.
#[utoipa::path(
    post,
    path = "/api/auth/logout",
    tag = "auth",
    operation_id = "log_out",
    request_body = Option<LogoutRequest>,
    responses((status = 204, description = "The session has ended."))
)]
async fn log_out(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    OptionalBody(request): OptionalBody<LogoutRequest>,
) -> Result<StatusCode, Failure> {
    state.accounts.sessions.log_out(&who, request.all).await?;
    Ok(StatusCode::NO_CONTENT)
}
