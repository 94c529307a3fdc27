//! `/api/ai`: advice.

use axum::{Json, extract::State};
use protocol::{
    RecommendationId,
    rest::ai::{OptimizeResponse, Recommendation, RecommendationsResponse},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    failure::Failure,
    http::{
        AppState,
        extract::{PathId, SignedIn},
    },
    store::recommendations::Decision,
};

/// Requests that recommendations count as: hundreds of records are read and rated.
const RECOMMENDATIONS_COST: u32 = 8;

/// The routes of this group.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(recommendations))
        .routes(routes!(apply))
        .routes(routes!(dismiss))
        .routes(routes!(optimize))
}

/// Whom to meet and why, and what to complete in one's profile.
///
/// `source` says who chose whom to meet. The same recommendation keeps its id; what was applied or dismissed does not
/// come back.
#[utoipa::path(
    get,
    path = "/api/ai/recommendations",
    tag = "ai",
    responses((status = 200, description = "The recommendations.", body = RecommendationsResponse))
)]
async fn recommendations(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
) -> Result<Json<RecommendationsResponse>, Failure> {
    state.limits.further(&who.member, RECOMMENDATIONS_COST)?;
    state.advice.recommend(who.member).await.map(Json)
}

/// The member followed a recommendation. It does not come back.
#[utoipa::path(
    post,
    path = "/api/ai/recommendations/{id}/apply",
    tag = "ai",
    params(("id" = RecommendationId, Path, description = "The recommendation.")),
    responses(
        (status = 200, description = "The recommendation now.", body = Recommendation),
        (status = 404, description = "recommendation_not_found"),
    )
)]
async fn apply(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    PathId(id): PathId<RecommendationId>,
) -> Result<Json<Recommendation>, Failure> {
    state.advice.decide(who.member, id, Decision::Apply).await.map(Json)
}

/// The member does not want a recommendation. It does not come back.
#[utoipa::path(
    post,
    path = "/api/ai/recommendations/{id}/dismiss",
    tag = "ai",
    params(("id" = RecommendationId, Path, description = "The recommendation.")),
    responses(
        (status = 200, description = "The recommendation now.", body = Recommendation),
        (status = 404, description = "recommendation_not_found"),
    )
)]
async fn dismiss(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    PathId(id): PathId<RecommendationId>,
) -> Result<Json<Recommendation>, Failure> {
    state.advice.decide(who.member, id, Decision::Dismiss).await.map(Json)
}

/// Suggestions for the fields of one's own profile. None of them is applied.
///
/// Company and position are looked at by the AI service where one is set up, and then only if they are shared.
#[utoipa::path(
    post,
    path = "/api/ai/profile/optimize",
    tag = "ai",
    responses((status = 200, description = "The suggestions.", body = OptimizeResponse))
)]
async fn optimize(State(state): State<AppState>, SignedIn(who): SignedIn) -> Result<Json<OptimizeResponse>, Failure> {
    state.advice.optimize(who.member).await.map(Json)
}
