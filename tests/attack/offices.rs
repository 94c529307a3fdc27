//! To stay an administrator, by whoever is being put out.

use futures_util::future::join_all;
use protocol::{ErrorCode, Problem};
use reqwest::Method;
use serde_json::json;

use crate::harness::Server;

/// Found by an attacker: of many requests that were let in before an administrator was deactivated, some were done after it, and undid it.
#[tokio::test]
async fn an_administrator_who_is_put_out_lets_nobody_in_who_undoes_it() {
    let server = Server::start().await;
    let rita = server.admin_named("Rita").await;
    for round in 0..3 {
        let (eva, friend) = (server.admin_named("Eva").await, server.member("Friend").await);
        let own = format!("/api/admin/members/{}/active", eva.id);
        let role = format!("/api/admin/members/{}/role", friend.id);
        let undoing = (0..40).map(|number| {
            let (path, body) = match number % 2 {
                0 => (&own, json!({ "is_active": true })),
                _ => (&role, json!({ "user_type": if number % 4 == 1 { "admin" } else { "member" } })),
            };
            eva.request(Method::PUT, path, body)
        });
        let out = async { rita.request(Method::PUT, &own, json!({ "is_active": false })).await.status() };
        let (_, out) = tokio::join!(join_all(undoing), out);
        assert_eq!(out, 200);
        let body = json!({ "email": eva.auth.member.email, "password": eva.password });
        let login = super::post(&server, "/api/auth/login", body).await;
        assert_eq!(code(login).await, ErrorCode::MemberDeactivated, "round {round}");
    }
}

async fn code(response: reqwest::Response) -> ErrorCode {
    response.json::<Problem>().await.unwrap().code
}
