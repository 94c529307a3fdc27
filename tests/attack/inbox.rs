//! Having the club fill somebody's inbox: whatever a stranger does again and again, few mails come of it.

use members_book::config::Settings;
use protocol::{ErrorCode, Problem};
use serde_json::json;

use super::{
    club::{Club, Kind, PASSWORD, address},
    post,
};
use crate::harness::{
    Server, eventually,
    smtp::{How, MailServer},
};

/// Found by reading: every registration with somebody's address sent them a mail.
#[tokio::test]
async fn whoever_registers_with_an_address_again_and_again_does_not_fill_its_inbox() {
    let club = Club::gather().await;
    let told = async |outcome| {
        club.server.metric(&format!("mail_total{{mail=\"address_taken\",outcome=\"{outcome}\"}}")).await
    };
    for attempt in 1..=6_u8 {
        assert_eq!(club.register(&address(Kind::Member, 0)).await.status(), 202);
        let taken = async || (told("sent").await + told("dropped").await >= f64::from(attempt)).then_some(());
        eventually("the notice to be taken", taken).await;
    }
    assert_eq!((told("sent").await, club.mails_to(Kind::Member).len()), (3.0, 3));
}

#[tokio::test]
async fn an_address_gets_five_links_an_hour_and_the_same_answer_after_that() {
    let club = Club::gather().await;
    let email = address(Kind::Unverified, 0);
    for number in 1..8 {
        assert_eq!(club.log_in(&email, PASSWORD).await.status(), 401);
        if number < 5 {
            club.mail_to(Kind::Unverified, number).await;
        }
    }
    assert_eq!(club.forgot(&email).await.status(), 202);
    club.has_sent("forgot_password", "resolved", 1.0).await;
    assert_eq!(club.mails_to(Kind::Unverified).len(), 5);
    let newest = club.mail_to(Kind::Unverified, 4).await;
    let verified = post(&club.server, "/api/auth/email/verify", json!({ "token": newest.token() })).await;
    assert_eq!(verified.status(), 204, "the newest that was sent is good");
}

/// Nobody but who has the password makes a link of before worthless.
#[tokio::test]
async fn a_wrong_password_sends_no_link() {
    let club = Club::gather().await;
    let link = club.mail_to(Kind::Unverified, 0).await;
    for _ in 0..5 {
        assert_eq!(club.log_in(&address(Kind::Unverified, 0), "not this one").await.status(), 401);
    }
    let verified = post(&club.server, "/api/auth/email/verify", json!({ "token": link.token() })).await;
    assert_eq!(verified.status(), 204);
    assert_eq!(club.mails_to(Kind::Unverified).len(), 1);
    assert_eq!(club.log_in(&address(Kind::Unverified, 0), PASSWORD).await.status(), 200);
}

#[tokio::test]
async fn links_are_charged_to_the_address_that_asks() {
    let mail = MailServer::start(How::Plain).await;
    let limited = |settings: &mut Settings| {
        mail.set(settings);
        (settings.rates.rate_registrations, settings.rates.rate_registrations_burst) = (1, 2);
    };
    let server = Server::with(limited).await;
    let forgot = || post(&server, "/api/auth/password/forgot", json!({ "email": "nobody@example.com" }));
    for _ in 0..2 {
        assert_eq!(forgot().await.status(), 202);
    }
    assert_eq!(forgot().await.json::<Problem>().await.unwrap().code, ErrorCode::RateLimited);
}
