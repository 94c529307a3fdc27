//! `/api/auth/password`, `/api/auth/email`: what links in mails do, and asking for one.

use axum::{Json, extract::State, http::StatusCode};
use protocol::rest::{DeviceProof, ForgotPasswordRequest, ResetPasswordRequest, VerifyEmailRequest};
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
        .routes(routes!(forgot_password))
        .routes(routes!(reset_password))
        .routes(routes!(verify_email))
        .routes(routes!(send_verification))
}

/// Has a link that sets a new password sent to an address.
///
/// The answer is the same whether a member has the address or not. While a link is good for ten minutes yet, the same one is sent again, once.
/// Three a day are sent to an address that nobody has shown to be theirs.
#[utoipa::path(
    post,
    path = "/api/auth/password/forgot",
    tag = "auth",
    operation_id = "forgot_password",
    request_body = ForgotPasswordRequest,
    responses(
        (status = 202, description = "If a member has the address, a mail is on its way."),
        (status = 503, description = "mail_unavailable"),
    )
)]
async fn forgot_password(
    State(state): State<AppState>,
    Peer(from): Peer,
    Body(request): Body<ForgotPasswordRequest>,
) -> Result<StatusCode, Failure> {
    state.recovery.forgot_password(&request.email, from).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Sets a new password with the token of a link, which is used up.
///
/// Every session of the member ends, and their live connections are closed with 4401. The address counts as verified. With the
/// `device_proof` of the answer the next login on this device is let through, whatever wrong passwords others try.
#[utoipa::path(
    post,
    path = "/api/auth/password/reset",
    tag = "auth",
    operation_id = "reset_password",
    request_body = ResetPasswordRequest,
    responses(
        (status = 200, description = "The new password is good from now on.", body = DeviceProof),
        (status = 422, description = "link_invalid"),
    )
)]
async fn reset_password(
    State(state): State<AppState>,
    Peer(from): Peer,
    Body(request): Body<ResetPasswordRequest>,
) -> Result<Json<DeviceProof>, Failure> {
    state.recovery.reset_password(request, from).await.map(Json)
}

/// Shows that an e-mail address is its member's with the token of a link, which is used up.
///
/// With the link of `POST /api/members/me/email` the member has the new address from then on; `password` has to be the present one.
/// Of an account that nobody has signed in to, `password` has to be the one that it was registered with: the link alone would let whoever
/// registered somebody else's address in. A password that lacks or is wrong is `validation_failed`, and leaves the link good.
#[utoipa::path(
    post,
    path = "/api/auth/email/verify",
    tag = "auth",
    operation_id = "verify_email",
    request_body = VerifyEmailRequest,
    responses(
        (status = 204, description = "The address is verified."),
        (status = 409, description = "email_taken"),
        (status = 422, description = "link_invalid"),
    )
)]
async fn verify_email(
    State(state): State<AppState>,
    Peer(from): Peer,
    Body(request): Body<VerifyEmailRequest>,
) -> Result<StatusCode, Failure> {
    state.recovery.verify_email(request, from).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Has a link that verifies the own e-mail address sent again.
///
/// Nothing is sent to an address that is verified already. While a link is good for ten minutes yet, the same one is sent again, once.
#[utoipa::path(
    post,
    path = "/api/members/me/email/verification",
    tag = "members",
    operation_id = "send_verification",
    responses(
        (status = 202, description = "A mail is on its way, unless the address is verified already."),
        (status = 404, description = "member_not_found"),
        (status = 503, description = "mail_unavailable"),
    )
)]
async fn send_verification(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
) -> Result<StatusCode, Failure> {
    state.recovery.send_verification(&who, from).await?;
    Ok(StatusCode::ACCEPTED)
}
