//! Who was put out or has left does not come back with the same address or invitation.

use protocol::{ErrorCode, rest::AuthResponse};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::code;
use crate::harness::{
    Member, Server, eventually,
    smtp::{How, MailServer},
};

const PASSWORD: &str = "correct horse battery";
const ANA: &str = "ana@example.com";

async fn post(server: &Server, path: &str, body: Value) -> Response {
    server.http().post(server.url(path)).json(&body).send().await.unwrap()
}

async fn register(server: &Server, email: &str) -> Response {
    post(server, "/api/auth/register", json!({ "name": "Ana", "email": email, "password": PASSWORD })).await
}

/// A member with a verified address.
async fn join(server: &Server, mail: &MailServer, email: &str) -> Member {
    let number = mail.count();
    assert_eq!(register(server, email).await.status(), 202);
    let token = mail.mail(number).await.token();
    assert_eq!(
        post(server, "/api/auth/email/verify", json!({ "token": token, "password": PASSWORD })).await.status(),
        204
    );
    let login = post(server, "/api/auth/login", json!({ "email": email, "password": PASSWORD })).await;
    let auth: AuthResponse = login.json().await.unwrap();
    Member::of(server, auth, PASSWORD)
}

async fn leave(member: &Member) {
    assert_eq!(member.request(Method::DELETE, "/api/members/me", Value::Null).await.status(), 204);
}

/// A club with an administrator that sends mail.
async fn club(mail: &MailServer) -> (Server, Member) {
    let server = Server::start().await;
    let admin = server.admin().await;
    let server = server.restart_with(|settings| mail.set(settings)).await;
    let admin = admin.at(server.addr());
    (server, admin)
}

async fn allow(admin: &Member, email: &str) -> Value {
    let answer = admin.request(Method::POST, "/api/admin/addresses/allow", json!({ "email": email })).await;
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn who_has_left_does_not_register_again_and_a_stranger_cannot_tell() {
    let mail = MailServer::start(How::Plain).await;
    let (server, admin) = club(&mail).await;
    join(&server, &mail, "eva@example.com").await;
    leave(&join(&server, &mail, ANA).await).await;
    let is_told = async || (mail.all().last()?.subject == "Your account was deleted").then_some(());
    eventually("who has left", is_told).await;
    let before = mail.count();
    let shape = async |email: &str| {
        let answer = register(&server, email).await;
        let headers: Vec<String> = answer.headers().keys().map(ToString::to_string).collect();
        (answer.status(), headers, answer.text().await.unwrap())
    };
    let (barred, taken, free) =
        (shape("Ana@example.com").await, shape("eva@example.com").await, shape("ben@example.com").await);
    assert_eq!((&barred, &barred), (&taken, &free));
    // The address that is taken and the one that is free have a mail each, and the other one none.
    let dropped = r#"mail_total{mail="address_taken",outcome="dropped"}"#;
    eventually("the notice to nobody", async || (server.metric(dropped).await >= 1.0).then_some(())).await;
    let mut to = [mail.mail(before).await.to, mail.mail(before + 1).await.to];
    to.sort();
    assert_eq!(to, ["ben@example.com", "eva@example.com"]);
    assert_eq!(mail.count(), before + 2);
    assert_eq!(
        server.metric("password_seconds_count").await,
        9.0,
        "two who joined, verified and logged in, and all of the three"
    );

    assert_eq!(allow(&admin, ANA).await, json!({ "was_barred": true }));
    assert_eq!(allow(&admin, ANA).await, json!({ "was_barred": false }));
    let audit: Value = admin.request(Method::GET, "/api/admin/audit", Value::Null).await.json().await.unwrap();
    // A try that let nobody in has told who is no former member.
    assert_eq!(
        (&audit["entries"][0]["action"], &audit["entries"][0]["details"]["read"]),
        (&json!("member_read"), &json!("address"))
    );
    let newest = &audit["entries"][1];
    assert_eq!((&newest["action"], &newest["actor_id"]), (&json!("address_allowed"), &json!(admin.id)));
    join(&server, &mail, ANA).await;
}

/// Whatever becomes of mail and of the secret.
#[tokio::test]
async fn who_has_left_stays_out_with_another_secret_and_without_mail() {
    let mail = MailServer::start(How::Plain).await;
    let (server, admin) = club(&mail).await;
    leave(&join(&server, &mail, ANA).await).await;
    let server = server
        .restart_with(|settings| {
            settings.mail.smtp_url = None;
            settings.auth.jwt_secret = Some("another secret of more than thirty-two bytes".to_owned().into());
        })
        .await;
    assert_eq!(code(register(&server, ANA).await).await, ErrorCode::EmailTaken);
    let admin = admin.at(server.addr()).log_in().await;
    assert_eq!(allow(&admin, ANA).await, json!({ "was_barred": true }));
    assert_eq!(register(&server, ANA).await.status(), 201);
    // Nobody has shown that it is theirs.
    let auth =
        post(&server, "/api/auth/login", json!({ "email": ANA, "password": PASSWORD })).await.json().await.unwrap();
    leave(&Member::of(&server, auth, PASSWORD)).await;
    assert_eq!(register(&server, ANA).await.status(), 201, "the address is free again");
}

#[tokio::test]
async fn who_was_put_out_keeps_the_address_and_a_stranger_cannot_tell() {
    let mail = MailServer::start(How::Plain).await;
    let (server, admin) = club(&mail).await;
    let ana = join(&server, &mail, ANA).await;
    let path = format!("/api/admin/members/{}/active", ana.id);
    assert_eq!(admin.request(Method::PUT, &path, json!({ "is_active": false })).await.status(), 200);
    let before = mail.count();
    let (taken, free) = (register(&server, ANA).await, register(&server, "ben@example.com").await);
    assert_eq!(taken.status(), free.status());
    assert_eq!(taken.text().await.unwrap(), free.text().await.unwrap());
    assert_eq!(mail.mail(before).await.to, "ben@example.com", "who may not sign in is not written to");
    let login = post(&server, "/api/auth/login", json!({ "email": ANA, "password": PASSWORD })).await;
    assert_eq!(code(login).await, ErrorCode::MemberDeactivated);
}
