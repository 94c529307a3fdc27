//! `/api/ai`: advice.

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    routing::{get, post},
};
use protocol::{
    ErrorCode, RecommendationId,
    rest::ai::{OptimizeResponse, Recommendation, RecommendationsResponse},
};

use crate::{
    failure::Failure,
    http::{AppState, extract::SignedIn},
    store::recommendations::Decision,
};

/// The routes of this group.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/ai/recommendations", get(recommendations))
        .route("/api/ai/recommendations/{id}/apply", post(apply))
        .route("/api/ai/recommendations/{id}/dismiss", post(dismiss))
        .route("/api/ai/profile/optimize", post(optimize))
}

/// `GET /api/ai/recommendations`: whom to meet and why, and what to complete in one's profile.
async fn recommendations(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
) -> Result<Json<RecommendationsResponse>, Failure> {
    state.advice.recommend(who.member).await.map(Json)
}

/// `POST /api/ai/recommendations/{id}/apply`: the member followed it. 404 `recommendation_not_found`.
async fn apply(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    id: Result<Path<RecommendationId>, PathRejection>,
) -> Result<Json<Recommendation>, Failure> {
    state.advice.decide(who.member, recommendation(id)?, Decision::Apply).await.map(Json)
}

/// `POST /api/ai/recommendations/{id}/dismiss`: the member does not want it. 404 `recommendation_not_found`.
async fn dismiss(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    id: Result<Path<RecommendationId>, PathRejection>,
) -> Result<Json<Recommendation>, Failure> {
    state.advice.decide(who.member, recommendation(id)?, Decision::Dismiss).await.map(Json)
}

/// `POST /api/ai/profile/optimize`: suggestions for the fields of the member's own profile. Changes nothing.
async fn optimize(State(state): State<AppState>, SignedIn(who): SignedIn) -> Result<Json<OptimizeResponse>, Failure> {
    state.advice.optimize(who.member).await.map(Json)
}

/// What is no id is the id of nothing.
fn recommendation(id: Result<Path<RecommendationId>, PathRejection>) -> Result<RecommendationId, Failure> {
    id.map(|Path(id)| id).map_err(|_| ErrorCode::RecommendationNotFound.into())
}
