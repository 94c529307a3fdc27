//! The endpoints, one file per group.

pub mod admin;
pub mod ai;
pub mod auth;
pub mod club;
pub mod health;
pub mod invitations;
pub mod links;
pub mod members;
pub mod messages;
pub mod photos;
pub mod push;
pub mod second_factor;
pub mod sessions;
pub mod setup;

use utoipa_axum::{router::OpenApiRouter, routes};

use super::{AppState, openapi, upgrade};

/// Every endpoint, with its part of the OpenAPI document.
pub(super) fn all() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::base())
        .merge(club::routes())
        .merge(setup::routes())
        .merge(auth::routes())
        .merge(invitations::routes())
        .merge(links::routes())
        .merge(members::routes())
        .merge(sessions::routes())
        .merge(push::routes())
        .merge(second_factor::routes())
        .merge(photos::routes())
        .merge(messages::routes())
        .merge(ai::routes())
        .merge(admin::routes())
        .merge(health::routes())
        .routes(routes!(upgrade::upgrade))
}

/// The OpenAPI document of all of them.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let (_, mut document) = all().split_for_parts();
    openapi::complete(&mut document);
    document
}
