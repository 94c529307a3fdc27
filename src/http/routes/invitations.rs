//! `/api/invitations`: who brings whom in.

use axum::{Json, extract::State, http::StatusCode};
use protocol::{
    InvitationId,
    rest::{
        AdminInvitationPage, CheckedInvitation, InvitationCheck, InvitationPage, InvitationRequest, NewInvitation,
        PageQuery,
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    failure::Failure,
    http::{
        AppState,
        extract::{Body, Params, PathId, Peer, SignedIn, SignedInAdmin},
    },
};

/// The routes of this group.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(own, create))
        .routes(routes!(check))
        .routes(routes!(revoke))
        .routes(routes!(all))
}

/// Makes an invitation. Its code is in the answer and nowhere else.
///
/// Who may, the club decides (`INVITATIONS`): administrators, or every member. Members who are no administrators have 10 open ones at most, each for
/// one, to the lowest tier.
#[utoipa::path(
    post,
    path = "/api/invitations",
    tag = "invitations",
    operation_id = "create_invitation",
    request_body = InvitationRequest,
    responses(
        (status = 201, description = "The invitation, with its code.", body = NewInvitation),
        (status = 403, description = "forbidden, registration_closed"),
        (status = 409, description = "too_many_invitations"),
    )
)]
async fn create(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(peer): Peer,
    Body(request): Body<InvitationRequest>,
) -> Result<(StatusCode, Json<NewInvitation>), Failure> {
    let made = state.accounts.registration.invitations.create(&who, peer, request).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// The invitations that the member has made, the newest first.
///
/// One is known for 90 days after it has expired.
#[utoipa::path(
    get,
    path = "/api/invitations",
    tag = "invitations",
    operation_id = "list_invitations",
    params(PageQuery),
    responses((status = 200, description = "A page of invitations.", body = InvitationPage))
)]
async fn own(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Params(page): Params<PageQuery>,
) -> Result<Json<InvitationPage>, Failure> {
    state.accounts.registration.invitations.own(&who, &page).await.map(Json)
}

/// What whoever has the code of an invitation may know of it before they register.
#[utoipa::path(
    post,
    path = "/api/invitations/check",
    tag = "invitations",
    operation_id = "check_invitation",
    request_body = InvitationCheck,
    responses(
        (status = 200, description = "The invitation is good.", body = CheckedInvitation),
        (status = 403, description = "invitation_invalid, registration_closed"),
    )
)]
async fn check(
    State(state): State<AppState>,
    Peer(peer): Peer,
    Body(request): Body<InvitationCheck>,
) -> Result<Json<CheckedInvitation>, Failure> {
    state.accounts.registration.invitations.check(&request.code, peer).await.map(Json)
}

/// Revokes an invitation: one's own, or as an administrator anybody's. Who has come by it stays.
#[utoipa::path(
    delete,
    path = "/api/invitations/{id}",
    tag = "invitations",
    operation_id = "revoke_invitation",
    params(("id" = InvitationId, Path, description = "The invitation.")),
    responses(
        (status = 204, description = "Nobody comes by it any more."),
        (status = 404, description = "invitation_not_found"),
    )
)]
async fn revoke(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(peer): Peer,
    PathId(id): PathId<InvitationId>,
) -> Result<StatusCode, Failure> {
    state.accounts.registration.invitations.revoke(&who, peer, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All invitations, the newest first, with who made them and who came by them.
#[utoipa::path(
    get,
    path = "/api/admin/invitations",
    tag = "admin",
    operation_id = "admin_list_invitations",
    params(PageQuery),
    responses((status = 200, description = "A page of invitations.", body = AdminInvitationPage))
)]
async fn all(
    State(state): State<AppState>,
    SignedInAdmin(admin): SignedInAdmin,
    Params(page): Params<PageQuery>,
) -> Result<Json<AdminInvitationPage>, Failure> {
    state.accounts.registration.invitations.all(admin, &page).await.map(Json)
}
