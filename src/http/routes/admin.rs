//! `/api/admin`: for administrators only.

use axum::{Json, extract::State, http::StatusCode};
use protocol::{
    ErrorCode, MemberId,
    rest::{
        ActiveChange, AddressAllowed, AddressRequest, AdminMember, AdminMemberPage, AdminMembersQuery, AuditPage,
        AuditQuery, Disconnected, PageQuery, RoleChange, ServerStats, SessionList, SuspensionChange, TierChange,
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    failure::Failure,
    http::{
        AppState,
        extract::{Body, Params, PathId, SignedInAdmin, SignedInProvedAdmin},
    },
    store::members::Suspension,
};

/// The routes of this group.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(members))
        .routes(routes!(set_tier))
        .routes(routes!(set_active))
        .routes(routes!(suspend, end_suspension))
        .routes(routes!(approve))
        .routes(routes!(reject))
        .routes(routes!(set_role))
        .routes(routes!(allow_address))
        .routes(routes!(disconnect))
        .routes(routes!(sessions, end_sessions))
        .routes(routes!(reset_second_factor))
        .routes(routes!(stats))
        .routes(routes!(audit))
}

/// A field that the check of the body has found to be there.
fn given<T>(field: Option<T>) -> Result<T, Failure> {
    field.ok_or_else(|| ErrorCode::ValidationFailed.into())
}

/// All members by name, those who may not sign in included, with the number of their connected devices.
///
/// Those whose registration waits only with `status=pending`.
#[utoipa::path(
    get,
    path = "/api/admin/members",
    tag = "admin",
    operation_id = "admin_list_members",
    params(AdminMembersQuery, PageQuery),
    responses(
        (status = 200, description = "A page of members.", body = AdminMemberPage),
    )
)]
async fn members(
    State(state): State<AppState>,
    SignedInAdmin(admin): SignedInAdmin,
    Params(query): Params<AdminMembersQuery>,
    Params(page): Params<PageQuery>,
) -> Result<Json<AdminMemberPage>, Failure> {
    state.administration.members(admin, &query, &page).await.map(Json)
}

/// Changes a member's tier.
#[utoipa::path(
    put,
    path = "/api/admin/members/{id}/tier",
    tag = "admin",
    operation_id = "admin_set_tier",
    params(("id" = MemberId, Path, description = "The member.")),
    request_body = TierChange,
    responses(
        (status = 200, description = "The member now.", body = AdminMember),
        (status = 404, description = "member_not_found"),
    )
)]
async fn set_tier(
    State(state): State<AppState>,
    SignedInAdmin(admin): SignedInAdmin,
    PathId(id): PathId<MemberId>,
    Body(change): Body<TierChange>,
) -> Result<Json<AdminMember>, Failure> {
    state.administration.set_tier(admin, id, given(change.tier)?).await.map(Json)
}

/// Activates or deactivates a member.
///
/// Deactivating ends their sessions, closes their connections with 4403 and blocks login, all at once. The last active
/// administrator cannot be deactivated.
#[utoipa::path(
    put,
    path = "/api/admin/members/{id}/active",
    tag = "admin",
    operation_id = "admin_set_active",
    params(("id" = MemberId, Path, description = "The member.")),
    request_body = ActiveChange,
    responses(
        (status = 200, description = "The member now.", body = AdminMember),
        (status = 404, description = "member_not_found"),
        (status = 409, description = "last_admin"),
        (status = 403, description = "step_up_required"),
    )
)]
async fn set_active(
    State(state): State<AppState>,
    SignedInProvedAdmin(admin): SignedInProvedAdmin,
    PathId(id): PathId<MemberId>,
    Body(change): Body<ActiveChange>,
) -> Result<Json<AdminMember>, Failure> {
    state.administration.set_active(admin, id, given(change.is_active)?).await.map(Json)
}

/// Suspends a member until a time.
///
/// As deactivating does, that ends their sessions, closes their connections with 4403 and blocks login; it ends by itself. They stay in the
/// directory, and can be written to. The last administrator who may sign in cannot be suspended.
#[utoipa::path(
    put,
    path = "/api/admin/members/{id}/suspension",
    tag = "admin",
    operation_id = "admin_suspend_member",
    params(("id" = MemberId, Path, description = "The member.")),
    request_body = SuspensionChange,
    responses(
        (status = 200, description = "The member now.", body = AdminMember),
        (status = 404, description = "member_not_found"),
        (status = 409, description = "last_admin"),
        (status = 403, description = "step_up_required"),
    )
)]
async fn suspend(
    State(state): State<AppState>,
    SignedInProvedAdmin(admin): SignedInProvedAdmin,
    PathId(id): PathId<MemberId>,
    Body(change): Body<SuspensionChange>,
) -> Result<Json<AdminMember>, Failure> {
    let reason = change.reason.map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    let suspension = Suspension { until: given(change.until)?, reason };
    state.administration.suspend(admin, id, Some(suspension)).await.map(Json)
}

/// Ends the suspension of a member before its time.
#[utoipa::path(
    delete,
    path = "/api/admin/members/{id}/suspension",
    tag = "admin",
    operation_id = "admin_end_suspension",
    params(("id" = MemberId, Path, description = "The member.")),
    responses(
        (status = 200, description = "The member now.", body = AdminMember),
        (status = 404, description = "member_not_found"),
        (status = 403, description = "step_up_required"),
    )
)]
async fn end_suspension(
    State(state): State<AppState>,
    SignedInProvedAdmin(admin): SignedInProvedAdmin,
    PathId(id): PathId<MemberId>,
) -> Result<Json<AdminMember>, Failure> {
    state.administration.suspend(admin, id, None).await.map(Json)
}

/// Lets somebody in whose registration waits.
///
/// Who is in already stays as they are.
#[utoipa::path(
    post,
    path = "/api/admin/members/{id}/approve",
    tag = "admin",
    operation_id = "admin_approve_member",
    params(("id" = MemberId, Path, description = "Who waits.")),
    responses(
        (status = 200, description = "The member now.", body = AdminMember),
        (status = 404, description = "member_not_found"),
    )
)]
async fn approve(
    State(state): State<AppState>,
    SignedInAdmin(admin): SignedInAdmin,
    PathId(id): PathId<MemberId>,
) -> Result<Json<AdminMember>, Failure> {
    state.administration.approve(admin, id).await.map(Json)
}

/// Rejects a registration that waits: its record is erased, and the e-mail address is free again.
#[utoipa::path(
    post,
    path = "/api/admin/members/{id}/reject",
    tag = "admin",
    operation_id = "admin_reject_member",
    params(("id" = MemberId, Path, description = "Who waits.")),
    responses(
        (status = 204, description = "The record is gone."),
        (status = 404, description = "member_not_found"),
        (status = 409, description = "already_decided"),
        (status = 403, description = "step_up_required"),
    )
)]
async fn reject(
    State(state): State<AppState>,
    SignedInProvedAdmin(admin): SignedInProvedAdmin,
    PathId(id): PathId<MemberId>,
) -> Result<StatusCode, Failure> {
    state.administration.reject(admin, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes what a member may do, from their next request on.
///
/// The last active administrator cannot be demoted.
#[utoipa::path(
    put,
    path = "/api/admin/members/{id}/role",
    tag = "admin",
    operation_id = "admin_set_role",
    params(("id" = MemberId, Path, description = "The member.")),
    request_body = RoleChange,
    responses(
        (status = 200, description = "The member now.", body = AdminMember),
        (status = 404, description = "member_not_found"),
        (status = 409, description = "last_admin"),
        (status = 403, description = "step_up_required"),
    )
)]
async fn set_role(
    State(state): State<AppState>,
    SignedInProvedAdmin(admin): SignedInProvedAdmin,
    PathId(id): PathId<MemberId>,
    Body(change): Body<RoleChange>,
) -> Result<Json<AdminMember>, Failure> {
    state.administration.set_role(admin, id, given(change.user_type)?).await.map(Json)
}

/// Lets somebody register again with the address of a member who has left.
///
/// A member who leaves and had shown that the address was theirs does not come back with it by themselves.
#[utoipa::path(
    post,
    path = "/api/admin/addresses/allow",
    tag = "admin",
    operation_id = "admin_allow_address",
    request_body = AddressRequest,
    responses(
        (status = 200, description = "Whether nobody could register with it until now.", body = AddressAllowed),
    )
)]
async fn allow_address(
    State(state): State<AppState>,
    SignedInAdmin(admin): SignedInAdmin,
    Body(request): Body<AddressRequest>,
) -> Result<Json<AddressAllowed>, Failure> {
    state.administration.allow_address(admin, &request.email).await.map(Json)
}

/// Closes the connections of a member with 4410; they may come back.
#[utoipa::path(
    post,
    path = "/api/admin/members/{id}/disconnect",
    tag = "admin",
    operation_id = "admin_disconnect_member",
    params(("id" = MemberId, Path, description = "The member.")),
    responses(
        (status = 200, description = "How many were closed.", body = Disconnected),
        (status = 404, description = "member_not_found"),
    )
)]
async fn disconnect(
    State(state): State<AppState>,
    SignedInAdmin(admin): SignedInAdmin,
    PathId(id): PathId<MemberId>,
) -> Result<Json<Disconnected>, Failure> {
    state.administration.disconnect(admin, id).await.map(Json)
}

/// Where a member is signed in.
#[utoipa::path(
    get,
    path = "/api/admin/members/{id}/sessions",
    tag = "admin",
    operation_id = "admin_list_sessions",
    params(("id" = MemberId, Path, description = "The member.")),
    responses(
        (status = 200, description = "The sessions that are good.", body = SessionList),
        (status = 404, description = "member_not_found"),
    )
)]
async fn sessions(
    State(state): State<AppState>,
    SignedInAdmin(admin): SignedInAdmin,
    PathId(id): PathId<MemberId>,
) -> Result<Json<SessionList>, Failure> {
    state.administration.sessions(admin, id).await.map(Json)
}

/// Ends all sessions of a member; they may log in again.
///
/// Their connections are closed with 4401.
#[utoipa::path(
    delete,
    path = "/api/admin/members/{id}/sessions",
    tag = "admin",
    operation_id = "admin_end_sessions",
    params(("id" = MemberId, Path, description = "The member.")),
    responses(
        (status = 204, description = "None is good any more."),
        (status = 404, description = "member_not_found"),
        (status = 403, description = "step_up_required"),
    )
)]
async fn end_sessions(
    State(state): State<AppState>,
    SignedInProvedAdmin(admin): SignedInProvedAdmin,
    PathId(id): PathId<MemberId>,
) -> Result<StatusCode, Failure> {
    state.administration.end_sessions(admin, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes the second factor of a member who has lost it.
///
/// Their sessions end, their connections are closed with 4401, and the password alone lets them in again. Of who has none nothing changes.
#[utoipa::path(
    delete,
    path = "/api/admin/members/{id}/second-factor",
    tag = "admin",
    operation_id = "admin_reset_second_factor",
    params(("id" = MemberId, Path, description = "The member.")),
    responses(
        (status = 200, description = "The member now.", body = AdminMember),
        (status = 404, description = "member_not_found"),
        (status = 403, description = "step_up_required"),
    )
)]
async fn reset_second_factor(
    State(state): State<AppState>,
    SignedInProvedAdmin(admin): SignedInProvedAdmin,
    PathId(id): PathId<MemberId>,
) -> Result<Json<AdminMember>, Failure> {
    state.administration.reset_second_factor(admin, id).await.map(Json)
}

/// What the server and its store have at the moment.
#[utoipa::path(
    get,
    path = "/api/admin/stats",
    tag = "admin",
    operation_id = "admin_get_stats",
    responses(
        (status = 200, description = "The figures.", body = ServerStats),
    )
)]
async fn stats(
    State(state): State<AppState>,
    SignedInAdmin(admin): SignedInAdmin,
) -> Result<Json<ServerStats>, Failure> {
    state.administration.stats(admin).await.map(Json)
}

/// Who did what to whom, when and from where; the newest entries first.
///
/// With several conditions a page may have fewer entries than asked for, or none, although there are more: go on while there is a `next`.
#[utoipa::path(
    get,
    path = "/api/admin/audit",
    tag = "admin",
    operation_id = "admin_list_audit",
    params(AuditQuery, PageQuery),
    responses(
        (status = 200, description = "A page of the log.", body = AuditPage),
    )
)]
async fn audit(
    State(state): State<AppState>,
    SignedInAdmin(admin): SignedInAdmin,
    Params(query): Params<AuditQuery>,
    Params(page): Params<PageQuery>,
) -> Result<Json<AuditPage>, Failure> {
    state.administration.audit(admin, query, &page).await.map(Json)
}
