//! `/api/auth`: register, log in, refresh, log out.

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use protocol::rest::{AuthResponse, LoginRequest, LogoutRequest, RefreshRequest, RegisterRequest};

use crate::{
    failure::Failure,
    http::{
        AppState,
        extract::{Body, OptionalBody, Peer, SignedIn},
    },
};

/// The routes of this group.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/auth/register", post(register))
        .route("/api/auth/login", post(log_in))
        .route("/api/auth/refresh", post(refresh))
        .route("/api/auth/logout", post(log_out))
}

/// `POST /api/auth/register`: 201 with tokens. 409 `email_taken`, 422 with every bad field, 429.
async fn register(
    State(state): State<AppState>,
    Peer(peer): Peer,
    Body(request): Body<RegisterRequest>,
) -> Result<(StatusCode, Json<AuthResponse>), Failure> {
    let answer = state.accounts.register(request, peer).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `POST /api/auth/login`: 200 with tokens. 401 `invalid_credentials`, 403 `member_deactivated`, 429.
async fn log_in(
    State(state): State<AppState>,
    Peer(peer): Peer,
    Body(request): Body<LoginRequest>,
) -> Result<Json<AuthResponse>, Failure> {
    state.accounts.log_in(request, peer).await.map(Json)
}

/// `POST /api/auth/refresh`: 200 with new tokens. 401 `refresh_token_invalid` or `refresh_token_reused`. No rate limit:
/// a token cannot be guessed, and a whole club may refresh from behind one address.
async fn refresh(
    State(state): State<AppState>,
    Body(request): Body<RefreshRequest>,
) -> Result<Json<AuthResponse>, Failure> {
    state.accounts.refresh(&request.refresh_token).await.map(Json)
}

/// `POST /api/auth/logout`: 204. This session, or with `{"all": true}` every session of the member.
async fn log_out(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    OptionalBody(request): OptionalBody<LogoutRequest>,
) -> Result<StatusCode, Failure> {
    state.accounts.log_out(&who, request.all).await?;
    Ok(StatusCode::NO_CONTENT)
}
