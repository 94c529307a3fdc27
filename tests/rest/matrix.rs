//! The authorization matrix: every route, asked by everybody.

use std::{collections::BTreeSet, time::Duration};

use members_book::{clock::ManualClock, http::routes};
use protocol::{SessionId, Timestamp, rest::SessionList};
use reqwest::Method;
use serde_json::{Value, json};

use super::photos;
use crate::harness::{Member, Server, client_id, eventually};

/// Who asks, in the order of the columns.
const WHO: [&str; 6] = ["anonymous", "expired token", "other member", "owner", "administrator", "deactivated member"];

/// A body that is no JSON but a picture.
const PICTURE: &str = "a picture";

/// What a request is made of: the path, and the body if it has one.
type Ask = fn(&Cast) -> (String, Value);

/// Who and what there is when a route is asked.
struct Cast {
    owner: Member,
    other: Member,
    /// A message to the owner.
    message: String,
    /// The conversation that it is in.
    conversation: String,
    /// A recommendation to the owner.
    recommendation: String,
    /// The session of the owner.
    session: SessionId,
    /// The address of somebody's photo.
    photo: String,
}

/// A route that anybody may ask, always with the same answer.
const fn open(status: u16) -> [u16; 6] {
    [status; 6]
}

/// A route that needs a member; with the same answer to each.
const fn member(status: u16) -> [u16; 6] {
    [401, 401, status, status, status, 403]
}

/// A route about one member, for the owner and administrators.
const fn owned(other: u16, owner: u16, admin: u16) -> [u16; 6] {
    [401, 401, other, owner, admin, 403]
}

/// A route for administrators.
const fn admin(status: u16) -> [u16; 6] {
    [401, 401, 403, 403, status, 403]
}

fn plain(path: &'static str) -> (String, Value) {
    (path.to_owned(), Value::Null)
}

fn of_owner(cast: &Cast, path: &str, body: Value) -> (String, Value) {
    (path.replace("{id}", &cast.owner.id.to_string()).replace("{user_id}", &cast.owner.id.to_string()), body)
}

/// Every route, with what it answers to whom.
#[expect(clippy::too_many_lines, reason = "a line or two for each route")]
fn table() -> Vec<(Method, &'static str, [u16; 6], Ask)> {
    let (get, post, put, patch, delete) = (Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE);
    vec![
        (get.clone(), "/healthz", open(200), |_| plain("/healthz")),
        (get.clone(), "/readyz", open(200), |_| plain("/readyz")),
        (get.clone(), "/ws", open(426), |_| plain("/ws")),
        (get.clone(), "/api/club", open(200), |_| plain("/api/club")),
        (get.clone(), "/api/setup", open(200), |_| plain("/api/setup")),
        // There is an administrator, whatever the code.
        (post.clone(), "/api/setup", open(409), |_| {
            let email = format!("{}@example.com", client_id());
            let body = json!({ "code": "00000-00000", "name": "New", "email": email, "password": "correct horse" });
            ("/api/setup".into(), body)
        }),
        (post.clone(), "/api/auth/register", open(201), |_| {
            let email = format!("{}@example.com", client_id());
            ("/api/auth/register".into(), json!({ "name": "New", "email": email, "password": "correct horse" }))
        }),
        (post.clone(), "/api/auth/login", open(200), |cast| {
            let Cast { owner, .. } = cast;
            ("/api/auth/login".into(), json!({ "email": owner.auth.member.email, "password": owner.password }))
        }),
        (post.clone(), "/api/auth/refresh", open(200), |cast| {
            ("/api/auth/refresh".into(), json!({ "refresh_token": cast.owner.auth.refresh_token }))
        }),
        (post.clone(), "/api/auth/password/forgot", open(202), |cast| {
            ("/api/auth/password/forgot".into(), json!({ "email": cast.owner.auth.member.email }))
        }),
        (post.clone(), "/api/auth/password/reset", open(422), |_| {
            ("/api/auth/password/reset".into(), json!({ "token": "made up", "new_password": "battery staple" }))
        }),
        (post.clone(), "/api/auth/email/verify", open(422), |_| {
            ("/api/auth/email/verify".into(), json!({ "token": "made up" }))
        }),
        (post.clone(), "/api/members/me/email/verification", member(202), |_| {
            plain("/api/members/me/email/verification")
        }),
        (post.clone(), "/api/auth/logout", member(204), |_| plain("/api/auth/logout")),
        (get.clone(), "/api/members", member(200), |_| plain("/api/members")),
        (get.clone(), "/api/members/search", member(200), |_| plain("/api/members/search?q=ana")),
        (get.clone(), "/api/members/me", member(200), |_| plain("/api/members/me")),
        (patch.clone(), "/api/members/me", member(200), |_| ("/api/members/me".into(), json!({ "name": "Me" }))),
        (delete.clone(), "/api/members/me", member(204), |_| plain("/api/members/me")),
        (put.clone(), "/api/members/me/password", member(422), |_| {
            let body = json!({ "current_password": "not this one", "new_password": "battery staple" });
            ("/api/members/me/password".into(), body)
        }),
        (post.clone(), "/api/members/me/email", member(422), |_| {
            let body = json!({ "email": "new@example.com", "password": "not this one" });
            ("/api/members/me/email".into(), body)
        }),
        (get.clone(), "/api/members/me/export", member(200), |_| plain("/api/members/me/export")),
        (get.clone(), "/api/members/me/sessions", member(200), |_| plain("/api/members/me/sessions")),
        (delete.clone(), "/api/members/me/sessions", member(204), |_| plain("/api/members/me/sessions")),
        // Not even an administrator names or ends a single one that is not theirs.
        (patch.clone(), "/api/members/me/sessions/{id}", owned(404, 200, 404), |cast| {
            (format!("/api/members/me/sessions/{}", cast.session), json!({ "name": "The laptop" }))
        }),
        (delete.clone(), "/api/members/me/sessions/{id}", owned(404, 204, 404), |cast| {
            (format!("/api/members/me/sessions/{}", cast.session), Value::Null)
        }),
        (get.clone(), "/api/members/me/push", member(200), |_| plain("/api/members/me/push")),
        (patch.clone(), "/api/members/me/push", member(200), |_| {
            ("/api/members/me/push".into(), json!({ "content": "sender" }))
        }),
        (put.clone(), "/api/members/me/devices/{id}/push", member(204), |_| {
            let address = json!({ "service": "expo", "token": "ExponentPushToken[x]" });
            ("/api/members/me/devices/phone/push".into(), json!({ "address": address, "platform": "ios" }))
        }),
        (delete.clone(), "/api/members/me/devices/{id}/push", member(204), |_| {
            plain("/api/members/me/devices/phone/push")
        }),
        (get.clone(), "/api/admin/members/{id}/sessions", admin(200), |cast| {
            of_owner(cast, "/api/admin/members/{id}/sessions", Value::Null)
        }),
        (delete.clone(), "/api/admin/members/{id}/sessions", admin(204), |cast| {
            of_owner(cast, "/api/admin/members/{id}/sessions", Value::Null)
        }),
        (get.clone(), "/api/members/{id}", member(200), |cast| of_owner(cast, "/api/members/{id}", Value::Null)),
        (put.clone(), "/api/members/{id}", owned(403, 200, 200), |cast| {
            of_owner(cast, "/api/members/{id}", json!({ "name": "New" }))
        }),
        (patch, "/api/members/{id}", owned(403, 200, 200), |cast| {
            of_owner(cast, "/api/members/{id}", json!({ "name": "New" }))
        }),
        (put.clone(), "/api/members/{id}/photo", owned(403, 200, 200), |cast| {
            of_owner(cast, "/api/members/{id}/photo", PICTURE.into())
        }),
        (delete, "/api/members/{id}/photo", owned(403, 204, 204), |cast| {
            of_owner(cast, "/api/members/{id}/photo", Value::Null)
        }),
        (get.clone(), "/api/photos/{file}", open(200), |cast| (cast.photo.clone(), Value::Null)),
        (post.clone(), "/api/messages", member(201), |cast| {
            let body = json!({ "receiver_id": cast.other.id, "content": "x", "client_id": client_id() });
            ("/api/messages".into(), body)
        }),
        (get.clone(), "/api/messages/conversation/{user_id}", owned(200, 422, 200), |cast| {
            of_owner(cast, "/api/messages/conversation/{user_id}", Value::Null)
        }),
        (get.clone(), "/api/messages/conversations", member(200), |_| plain("/api/messages/conversations")),
        (get.clone(), "/api/messages/unread", member(200), |_| plain("/api/messages/unread")),
        // Not even an administrator reads what is not theirs.
        (put.clone(), "/api/messages/{id}/read", owned(404, 200, 404), |cast| {
            (format!("/api/messages/{}/read", cast.message), Value::Null)
        }),
        (put.clone(), "/api/conversations/{id}/settings", owned(404, 200, 404), |cast| {
            (format!("/api/conversations/{}/settings", cast.conversation), json!({ "notify": "nothing" }))
        }),
        (get.clone(), "/api/ai/recommendations", member(200), |_| plain("/api/ai/recommendations")),
        (post.clone(), "/api/ai/profile/optimize", member(200), |_| plain("/api/ai/profile/optimize")),
        (post.clone(), "/api/ai/recommendations/{id}/apply", owned(404, 200, 404), |cast| {
            (format!("/api/ai/recommendations/{}/apply", cast.recommendation), Value::Null)
        }),
        (post.clone(), "/api/ai/recommendations/{id}/dismiss", owned(404, 200, 404), |cast| {
            (format!("/api/ai/recommendations/{}/dismiss", cast.recommendation), Value::Null)
        }),
        (get.clone(), "/api/admin/members", admin(200), |_| plain("/api/admin/members")),
        (get.clone(), "/api/admin/stats", admin(200), |_| plain("/api/admin/stats")),
        (get, "/api/admin/audit", admin(200), |_| plain("/api/admin/audit")),
        (put.clone(), "/api/admin/members/{id}/tier", admin(200), |cast| {
            of_owner(cast, "/api/admin/members/{id}/tier", json!({ "tier": "Infinity" }))
        }),
        (put.clone(), "/api/admin/members/{id}/active", admin(200), |cast| {
            of_owner(cast, "/api/admin/members/{id}/active", json!({ "is_active": false }))
        }),
        (put, "/api/admin/members/{id}/role", admin(200), |cast| {
            of_owner(cast, "/api/admin/members/{id}/role", json!({ "user_type": "admin" }))
        }),
        (post.clone(), "/api/admin/addresses/allow", admin(200), |cast| {
            ("/api/admin/addresses/allow".into(), json!({ "email": cast.owner.auth.member.email }))
        }),
        (post, "/api/admin/members/{id}/disconnect", admin(200), |cast| {
            of_owner(cast, "/api/admin/members/{id}/disconnect", Value::Null)
        }),
    ]
}

/// The same of who comes in.
fn registration() -> Vec<(Method, &'static str, [u16; 6], Ask)> {
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    vec![
        (post.clone(), "/api/invitations/check", open(403), |_| {
            ("/api/invitations/check".into(), json!({ "code": "0000-0000-0000-0000" }))
        }),
        (get.clone(), "/api/invitations", member(200), |_| plain("/api/invitations")),
        (post.clone(), "/api/invitations", admin(201), |_| ("/api/invitations".into(), json!({}))),
        // Nobody has made it.
        (delete.clone(), "/api/invitations/{id}", member(404), |cast| {
            (format!("/api/invitations/{}", cast.owner.id), Value::Null)
        }),
        (get, "/api/admin/invitations", admin(200), |_| plain("/api/admin/invitations")),
        (put, "/api/admin/members/{id}/suspension", admin(200), |cast| {
            of_owner(cast, "/api/admin/members/{id}/suspension", json!({ "until": "2027-01-01T00:00:00Z" }))
        }),
        (delete, "/api/admin/members/{id}/suspension", admin(200), |cast| {
            of_owner(cast, "/api/admin/members/{id}/suspension", Value::Null)
        }),
        (post.clone(), "/api/admin/members/{id}/approve", admin(200), |cast| {
            of_owner(cast, "/api/admin/members/{id}/approve", Value::Null)
        }),
        (post, "/api/admin/members/{id}/reject", admin(409), |cast| {
            of_owner(cast, "/api/admin/members/{id}/reject", Value::Null)
        }),
    ]
}

/// The same of the second factor.
fn second_factor() -> Vec<(Method, &'static str, [u16; 6], Ask)> {
    let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
    let path = "/api/members/me/second-factor";
    vec![
        (get, path, member(200), |_| plain("/api/members/me/second-factor")),
        (post.clone(), path, member(422), |_| {
            ("/api/members/me/second-factor".into(), json!({ "password": "not this one" }))
        }),
        (post.clone(), "/api/members/me/second-factor/confirm", member(422), |_| {
            ("/api/members/me/second-factor/confirm".into(), json!({ "enrolment": "made up", "code": "492039" }))
        }),
        (post.clone(), "/api/members/me/second-factor/recovery-codes", member(422), |_| {
            ("/api/members/me/second-factor/recovery-codes".into(), json!({ "code": "492039" }))
        }),
        (post.clone(), "/api/members/me/second-factor/disable", member(422), |_| {
            let body = json!({ "code": "492039", "password": "not this one" });
            ("/api/members/me/second-factor/disable".into(), body)
        }),
        (post, "/api/auth/step-up", member(422), |_| {
            ("/api/auth/step-up".into(), json!({ "password": "not this one" }))
        }),
        (delete, "/api/admin/members/{id}/second-factor", admin(200), |cast| {
            of_owner(cast, "/api/admin/members/{id}/second-factor", Value::Null)
        }),
    ]
}

fn everything() -> impl Iterator<Item = (Method, &'static str, [u16; 6], Ask)> {
    table().into_iter().chain(registration()).chain(second_factor())
}

/// Found by schemathesis: three routes for everybody were said to want a token.
#[test]
fn the_document_says_which_routes_want_a_token() {
    let document = serde_json::to_value(routes::document()).unwrap();
    for (method, route, answers, _) in everything().filter(|(_, route, ..)| route.starts_with("/api/")) {
        let operation = &document["paths"][route][method.as_str().to_lowercase()];
        assert!(operation.is_object(), "{method} {route}");
        assert_eq!(operation["security"].is_array(), answers[0] == 401, "{method} {route}");
    }
}

#[test]
fn every_route_is_in_the_table() {
    let document = serde_json::to_value(routes::document()).unwrap();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let listed: BTreeSet<(String, String)> =
        everything().map(|(method, path, _, _)| (method.to_string(), path.to_owned())).collect();
    assert_eq!(listed, documented);
}

#[tokio::test]
async fn every_route_answers_everybody_as_the_table_says() {
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |_| ()).await;
    let expired = server.member("Expired").await;
    let deactivated = server.member("Deactivated").await;
    clock.advance(Duration::from_secs(1_000));
    let deactivated = deactivated.log_in().await;
    // So that an administrator may leave too.
    server.admin_named("Another").await;
    server.set_active(deactivated.id, false).await;
    // That there was no administrator when it started is remembered for a second.
    eventually("the club to be set up", async || {
        let club: Value = server.http().get(server.url("/api/club")).send().await.unwrap().json().await.unwrap();
        (club["setup_needed"] == false).then_some(())
    })
    .await;
    let photo = photos::own(&server, &server.member("Model").await, [9, 9, 9]).await;
    let mut wrong = Vec::new();
    for (method, route, expected, ask) in everything() {
        for (who, expected) in WHO.into_iter().zip(expected) {
            // Everybody is new for every question: an answer may have taken what the next one needs.
            let [owner, other, author] =
                [server.member("Owner").await, server.member("Other").await, server.member("Author").await];
            let body = json!({ "receiver_id": owner.id, "content": "Hi", "client_id": client_id() });
            let message: Value = author.request(Method::POST, "/api/messages", body).await.json().await.unwrap();
            let conversation = message["conversation_id"].as_str().unwrap().to_owned();
            let message = message["_id"].as_str().unwrap().to_owned();
            let advice = owner.request(Method::GET, "/api/ai/recommendations", Value::Null).await;
            let advice: Value = advice.json().await.unwrap();
            let recommendation = advice["recommendations"][0]["_id"].as_str().unwrap().to_owned();
            let sessions = owner.request(Method::GET, "/api/members/me/sessions", Value::Null).await;
            let session = sessions.json::<SessionList>().await.unwrap().sessions[0].id;
            let cast =
                Cast { owner, other: author, message, conversation, recommendation, session, photo: photo.clone() };
            let (path, body) = ask(&cast);
            let request = server.http().request(method.clone(), server.url(&path));
            let admin;
            let asking = match who {
                "anonymous" => None,
                "expired token" => Some(&expired),
                "other member" => Some(&other),
                "owner" => Some(&cast.owner),
                "administrator" => {
                    admin = server.admin().await;
                    Some(&admin)
                }
                _ => Some(&deactivated),
            };
            let request = asking.iter().fold(request, |request, who| request.bearer_auth(&who.auth.access_token));
            let request = match &body {
                Value::Null => request,
                Value::String(_) => request.header("content-type", "image/jpeg").body(photos::jpeg([1, 2, 3])),
                json => request.json(json),
            };
            let status = request.send().await.unwrap().status().as_u16();
            if status != expected {
                wrong.push(format!("{method} {route}, {who}: {status} instead of {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
