//! A forgotten password, while somebody guesses.

use std::time::Duration;

use members_book::clock::ManualClock;
use protocol::{Timestamp, rest::DeviceProof};
use reqwest::Response;
use serde_json::json;

use super::post;
use crate::harness::{
    Member, Server,
    authenticator::turn_on,
    smtp::{How, MailServer},
};

const NEW: &str = "battery staple";

async fn log_in(server: &Server, member: &Member, password: &str, proof: Option<&str>) -> Response {
    let email = &member.auth.member.email;
    post(server, "/api/auth/login", json!({ "email": email, "password": password, "device_proof": proof })).await
}

/// Sets a new password with a link, which is the mail with this number.
async fn reset(
    server: &Server,
    mail: &MailServer,
    (member, clock): (&Member, Option<&ManualClock>),
    number: usize,
) -> String {
    let email = &member.auth.member.email;
    assert_eq!(post(server, "/api/auth/password/forgot", json!({ "email": email })).await.status(), 202);
    if let Some(clock) = clock {
        // It is looked up within three seconds who has the address.
        clock.advance(Duration::from_secs(3));
    }
    let body = json!({ "token": mail.mail(number).await.token(), "new_password": NEW });
    let reset = post(server, "/api/auth/password/reset", body).await;
    assert_eq!(reset.status(), 200);
    reset.json::<DeviceProof>().await.unwrap().device_proof
}

/// Found by reading: they tried what they remembered, set a new password with a link, and had to wait all the same.
#[tokio::test]
async fn who_has_forgotten_the_password_is_in_with_the_new_one_whatever_others_guess() {
    let mail = MailServer::start(How::Plain).await;
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let server = server.restart_with(|settings| mail.set(settings)).await;
    let guess = async || {
        for number in 0..12 {
            let status = log_in(&server, &ana, &format!("guess {number}"), None).await.status();
            assert_eq!(status, if number < 10 { 401 } else { 429 }, "{number}");
        }
    };
    guess().await;
    assert_eq!(log_in(&server, &ana, &ana.password, None).await.status(), 429);
    let proof = reset(&server, &mail, (&ana, None), 0).await;
    assert_eq!(log_in(&server, &ana, NEW, None).await.status(), 200, "what was tried before is forgiven");
    guess().await;
    assert_eq!(log_in(&server, &ana, NEW, None).await.status(), 429);
    assert_eq!(log_in(&server, &ana, NEW, Some(&proof)).await.status(), 200, "the device is known");
    // The proof of before was that of another password.
    assert_eq!(log_in(&server, &ana, NEW, ana.auth.device_proof.as_deref()).await.status(), 429);
}

/// Whoever reads the mail and does not have the second factor tries no more codes the more links they use.
#[tokio::test]
async fn a_link_gives_no_further_tries_of_codes() {
    let mail = MailServer::start(How::Plain).await;
    let clock = ManualClock::at(Timestamp::from_millis(1_800_000_000_000));
    let server = Server::at(&clock, |_| ()).await;
    let ana = server.member("Ana").await;
    let server = server.restart_at(&clock, |settings| mail.set(settings)).await;
    let mut ana = ana.at(server.addr());
    let (app, _) = turn_on(&mut ana, &clock).await;
    mail.mail(0).await;
    let mut looked_at = 0;
    for link in [1, 3] {
        let proof = reset(&server, &mail, (&ana, Some(&clock)), link).await;
        mail.mail(link + 1).await;
        for _ in 0..8 {
            let email = &ana.auth.member.email;
            let body = json!({ "email": email, "password": NEW, "device_proof": proof, "second_factor": app.wrong() });
            let status = post(&server, "/api/auth/login", body).await.status();
            assert!(matches!(status.as_u16(), 401 | 429), "{status}");
            looked_at += usize::from(status == 401);
        }
    }
    assert_eq!(looked_at, 10);
}
