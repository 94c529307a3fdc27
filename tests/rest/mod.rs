//! The REST API.

mod accounts;
mod admin;
mod ai;
mod ai_service;
mod audit;
mod directory;
mod edge;
mod email;
mod hang_up;
mod hosts;
mod late;
mod leaving;
mod mail;
mod matrix;
mod members;
mod messages;
mod pages;
mod passwords;
mod photo_storage;
mod photos;
mod problems;
mod registration;
mod second_factor;
mod sessions;
mod setup;
mod step_up;
mod unverified;

use protocol::{ErrorCode, Problem};

/// The path of a photo that was uploaded, or could have been.
const PICTURE: &str = "/api/photos/abababababababababababababababababababababababababababababababab.jpg";

/// The problem that a response carries, after checking that it is a proper one.
async fn problem(response: reqwest::Response) -> Problem {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Problem = response.json().await.unwrap();
    assert_eq!((problem.status, problem.code.http_status()), (status, status));
    assert_eq!(problem.problem_type, problem.code.problem_type());
    problem
}

/// The code of the problem that a response carries.
async fn code(response: reqwest::Response) -> ErrorCode {
    problem(response).await.code
}

/// The bad fields that a response names.
async fn fields(response: reqwest::Response) -> Vec<String> {
    problem(response).await.errors.into_iter().map(|error| error.field).collect()
}
