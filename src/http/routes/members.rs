//! `/api/members`: members.

use axum::{Json, Router, extract::State, routing::get};
use protocol::rest::{Member, MemberPatch};

use crate::{
    failure::Failure,
    http::{
        AppState,
        extract::{Body, SignedIn},
    },
};

/// The routes of this group.
pub fn routes() -> Router<AppState> {
    Router::new().route("/api/members/me", get(own).patch(change))
}

/// `GET /api/members/me`: the signed-in member's own record.
async fn own(State(state): State<AppState>, SignedIn(who): SignedIn) -> Result<Json<Member>, Failure> {
    state.profiles.own(who.member).await.map(Json)
}

/// `PATCH /api/members/me`: changes it. 422 with every bad field.
async fn change(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Body(patch): Body<MemberPatch>,
) -> Result<Json<Member>, Failure> {
    state.profiles.change(who.member, patch).await.map(Json)
}
