//! `/api/members/me/push` and `/api/members/me/devices/{id}/push`: where messages are pushed to, and how much of them.

use axum::{Json, extract::State, http::StatusCode};
use protocol::{
    DeviceId,
    rest::{PushPatch, PushRegistration, PushSettings},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    failure::Failure,
    http::{
        AppState,
        extract::{Body, PathId, SignedIn},
    },
    service::push::Registrant,
};

/// The routes of this group.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(settings, change)).routes(routes!(register, unregister))
}

/// What is pushed to the member, and to which devices.
#[utoipa::path(
    get,
    path = "/api/members/me/push",
    tag = "members",
    operation_id = "get_push_settings",
    responses((status = 200, description = "What the member has chosen, and their devices.", body = PushSettings))
)]
async fn settings(State(state): State<AppState>, SignedIn(who): SignedIn) -> Result<Json<PushSettings>, Failure> {
    state.connection.push.settings(who.member).await.map(Json)
}

/// Changes what is pushed to the member.
///
/// A JSON merge patch (RFC 7396): an absent field stays, `null` removes; `quiet_hours` are replaced as a whole.
#[utoipa::path(
    patch,
    path = "/api/members/me/push",
    tag = "members",
    operation_id = "change_push_settings",
    request_body = PushPatch,
    responses((status = 200, description = "What the member has chosen now.", body = PushSettings))
)]
async fn change(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Body(patch): Body<PushPatch>,
) -> Result<Json<PushSettings>, Failure> {
    state.connection.push.change(who.member, patch).await.map(Json)
}

/// Has messages pushed to a device that does not say in time that it has them.
///
/// The address belongs to the member and the device that registered it last, and until the session of this request ends. An app repeats this
/// at each start: what is unchanged costs nothing. What replaces the tokens of the session ends the registration too. A member may make 30 changes
/// at once, and then one a minute, ends of registrations and changes of what is shown included.
#[utoipa::path(
    put,
    path = "/api/members/me/devices/{id}/push",
    tag = "members",
    operation_id = "register_push",
    params(("id" = DeviceId, Path, description = "The device, as it calls itself in `hello`.")),
    request_body = PushRegistration,
    responses(
        (status = 204, description = "Messages are pushed to the device."),
        (status = 503, description = "push_unavailable"),
    )
)]
async fn register(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    PathId(device): PathId<DeviceId>,
    Body(registration): Body<PushRegistration>,
) -> Result<StatusCode, Failure> {
    state.connection.push.register(Registrant::Authorized(&who), device, registration).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// No longer has messages pushed to a device.
#[utoipa::path(
    delete,
    path = "/api/members/me/devices/{id}/push",
    tag = "members",
    operation_id = "unregister_push",
    params(("id" = DeviceId, Path, description = "The device, as it calls itself in `hello`.")),
    responses((status = 204, description = "Nothing is pushed to the device."))
)]
async fn unregister(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    PathId(device): PathId<DeviceId>,
) -> Result<StatusCode, Failure> {
    state.connection.push.unregister(who.member, &device).await?;
    Ok(StatusCode::NO_CONTENT)
}
