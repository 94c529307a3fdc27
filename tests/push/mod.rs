//! Push, over real sockets and with a push service of the test's own.

mod clocks;
mod crash;
mod fleet;
mod service;
mod settings;
mod told;
mod waiting;

use protocol::rest::PushSettings;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Member, expo::token};

/// Registers a device of a member over REST.
async fn register(member: &Member, device: &str, name: &str) {
    let response = try_register(member, device, name).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT, "{}", response.text().await.unwrap());
}

async fn try_register(member: &Member, device: &str, name: &str) -> reqwest::Response {
    let registration = json!({ "address": { "service": "expo", "token": token(name) }, "platform": "ios" });
    member.request(Method::PUT, &format!("/api/members/me/devices/{device}/push"), registration).await
}

/// What a member has chosen, and their devices.
async fn settings_of(member: &Member) -> PushSettings {
    let response = member.request(Method::GET, "/api/members/me/push", Value::Null).await;
    assert_eq!(response.status(), StatusCode::OK);
    response.json().await.unwrap()
}

/// The names of the devices of a member.
async fn devices_of(member: &Member) -> Vec<String> {
    settings_of(member).await.devices.into_iter().map(|device| device.device.to_string()).collect()
}

/// Changes what a member has chosen.
async fn choose(member: &Member, patch: Value) -> PushSettings {
    let response = member.request(Method::PATCH, "/api/members/me/push", patch).await;
    assert_eq!(response.status(), StatusCode::OK, "{}", response.text().await.unwrap());
    response.json().await.unwrap()
}

/// Whom pushes went to, and what they showed.
fn shown(pushes: &[Value]) -> Vec<(&str, &str, u64)> {
    pushes.iter().map(|push| (text(push, "to"), text(push, "body"), push["badge"].as_u64().unwrap())).collect()
}

fn text<'a>(push: &'a Value, field: &str) -> &'a str {
    push[field].as_str().unwrap_or_default()
}
