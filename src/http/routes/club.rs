//! `/api/club`: what anybody may know.

use axum::{Json, extract::State};
use protocol::rest::ClubInfo;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{failure::Failure, http::AppState};

/// The routes of this group.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(club))
}

/// Who may register, who may invite, whether the club has to be set up, and whether messages are pushed.
///
/// An app begins with it: it shows the form to register, asks for the code of an invitation, says that an administrator has to approve, or that
/// nobody can register.
#[utoipa::path(
    get,
    path = "/api/club",
    tag = "setup",
    operation_id = "get_club",
    responses((status = 200, description = "What anybody may know of the club.", body = ClubInfo))
)]
async fn club(State(state): State<AppState>) -> Result<Json<ClubInfo>, Failure> {
    let registration = &state.accounts.registration;
    Ok(Json(ClubInfo {
        registration: registration.policy,
        invitations: registration.invitations.policy,
        setup_needed: state.setup.is_needed().await?,
        sends_mail: state.accounts.post.is_sent(),
        push: state.connection.push.about(),
    }))
}
