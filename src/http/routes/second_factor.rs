//! `/api/members/me/second-factor` and `/api/auth/step-up`: the second factor of the member, and proving again who is at the device.

use axum::{Json, extract::State, http::StatusCode};
use protocol::rest::{
    RecoveryCodes, RecoveryCodesRequest, SecondFactor, SecondFactorConfirmation, SecondFactorDisabling,
    SecondFactorEnabled, SecondFactorEnrolment, SecondFactorRequest, StepUpRequest,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    failure::Failure,
    http::{
        AppState,
        extract::{Body, Peer, SignedIn},
    },
};

/// The routes of this group.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(state_of, begin))
        .routes(routes!(confirm))
        .routes(routes!(replace_recovery_codes))
        .routes(routes!(disable))
        .routes(routes!(step_up))
}

/// Whether the member has a second factor, and whether the club demands one of them.
#[utoipa::path(
    get,
    path = "/api/members/me/second-factor",
    tag = "members",
    operation_id = "get_second_factor",
    responses(
        (status = 200, description = "What there is.", body = SecondFactor),
        (status = 404, description = "member_not_found"),
    )
)]
async fn state_of(State(state): State<AppState>, SignedIn(who): SignedIn) -> Result<Json<SecondFactor>, Failure> {
    state.second_factors.state(&who).await.map(Json)
}

/// Begins to turn a second factor on: what an authenticator app is to be given.
///
/// Nothing is stored until a code of the app confirms it, within ten minutes.
#[utoipa::path(
    post,
    path = "/api/members/me/second-factor",
    tag = "members",
    operation_id = "begin_second_factor",
    request_body = SecondFactorRequest,
    responses(
        (status = 200, description = "For the authenticator app, and for the confirmation.", body = SecondFactorEnrolment),
        (status = 404, description = "member_not_found"),
        (status = 409, description = "second_factor_enabled"),
    )
)]
async fn begin(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    Body(request): Body<SecondFactorRequest>,
) -> Result<Json<SecondFactorEnrolment>, Failure> {
    state.second_factors.begin(&who, from, request.password).await.map(Json)
}

/// Turns the second factor on, with a code of the app.
///
/// The recovery codes are shown this once. Every other session of the member ends, and proofs of devices are good no more: this device gets
/// another one.
#[utoipa::path(
    post,
    path = "/api/members/me/second-factor/confirm",
    tag = "members",
    operation_id = "confirm_second_factor",
    request_body = SecondFactorConfirmation,
    responses(
        (status = 200, description = "It is on.", body = SecondFactorEnabled),
        (status = 404, description = "member_not_found"),
        (status = 409, description = "second_factor_enabled"),
    )
)]
async fn confirm(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    Body(request): Body<SecondFactorConfirmation>,
) -> Result<Json<SecondFactorEnabled>, Failure> {
    state.second_factors.confirm(&who, from, request).await.map(Json)
}

/// Replaces the recovery codes: those of before are good no more.
#[utoipa::path(
    post,
    path = "/api/members/me/second-factor/recovery-codes",
    tag = "members",
    operation_id = "replace_recovery_codes",
    request_body = RecoveryCodesRequest,
    responses(
        (status = 200, description = "The new ones, shown this once.", body = RecoveryCodes),
        (status = 404, description = "member_not_found"),
    )
)]
async fn replace_recovery_codes(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    Body(request): Body<RecoveryCodesRequest>,
) -> Result<Json<RecoveryCodes>, Failure> {
    state.second_factors.replace_recovery_codes(&who, from, &request.code).await.map(Json)
}

/// Turns the second factor off, with a code and the password.
#[utoipa::path(
    post,
    path = "/api/members/me/second-factor/disable",
    tag = "members",
    operation_id = "disable_second_factor",
    request_body = SecondFactorDisabling,
    responses(
        (status = 204, description = "It is off."),
        (status = 404, description = "member_not_found"),
    )
)]
async fn disable(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    Body(request): Body<SecondFactorDisabling>,
) -> Result<StatusCode, Failure> {
    state.second_factors.disable(&who, from, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Proves again who is at the device, which some administration needs every 15 minutes.
///
/// Who has a second factor gives a code of it, who has none the password.
#[utoipa::path(
    post,
    path = "/api/auth/step-up",
    tag = "auth",
    operation_id = "step_up",
    request_body = StepUpRequest,
    responses(
        (status = 204, description = "It is proved."),
        (status = 404, description = "member_not_found"),
    )
)]
async fn step_up(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    Body(request): Body<StepUpRequest>,
) -> Result<StatusCode, Failure> {
    state.second_factors.step_up(&who, from, request).await?;
    Ok(StatusCode::NO_CONTENT)
}
