//! Having the club fill somebody's inbox: whatever a stranger does again and again, few mails come of it.

use members_book::config::Settings;
use protocol::{ErrorCode, Problem};
use reqwest::Response;
use serde_json::json;

use super::{
    club::{Club, Kind, PASSWORD, address},
    post,
};
use crate::harness::{
    Server, eventually,
    smtp::{How, MailServer, Received},
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

/// Over a day: `tests/rest/mail.rs` and `tests/store/mail.rs`.
#[tokio::test]
async fn a_member_gets_the_same_link_twice_and_the_same_answer_after_that() {
    let club = Club::gather().await;
    let email = address(Kind::Member, 0);
    for number in 1..8_u8 {
        assert_eq!(club.forgot(&email).await.status(), 202);
        club.has_sent("forgot_password", "resolved", f64::from(number)).await;
        if number <= 2 {
            club.mail_to(Kind::Member, usize::from(number) - 1).await;
        }
    }
    let mails = club.mails_to(Kind::Member);
    assert_eq!((mails.len(), mails[0].token()), (2, mails[1].token()));
    let body = json!({ "token": mails[0].token(), "new_password": "battery staple" });
    let reset = post(&club.server, "/api/auth/password/reset", body).await;
    assert_eq!(reset.status(), 200, "it is good, however often a stranger asked");
}

/// Found by reading: whoever registered somebody else's address had five links an hour sent there, for ever.
#[tokio::test]
async fn an_address_that_nobody_has_shown_to_be_theirs_gets_three_mails_a_day() {
    let club = Club::gather().await;
    let email = address(Kind::Unverified, 0);
    assert_eq!(club.log_in(&email, PASSWORD).await.status(), 401);
    club.mail_to(Kind::Unverified, 1).await;
    for number in 1..4_u8 {
        assert_eq!(club.log_in(&email, PASSWORD).await.status(), 401);
        assert_eq!(club.register(&email).await.status(), 202);
        club.has_sent("address_taken", "resolved", f64::from(number)).await;
        assert_eq!(club.forgot(&email).await.status(), 202);
        club.has_sent("forgot_password", "resolved", f64::from(number)).await;
    }
    assert_eq!(club.mails_to(Kind::Unverified).len(), 3);
    assert_eq!(verify(&club, &club.mail_to(Kind::Unverified, 1).await).await.status(), 204, "what was sent is good");
}

async fn verify(club: &Club, mail: &Received) -> Response {
    let body = json!({ "token": mail.token(), "password": PASSWORD });
    post(&club.server, "/api/auth/email/verify", body).await
}

/// Nobody but who has the password makes a link of before worthless.
#[tokio::test]
async fn a_wrong_password_sends_no_link() {
    let club = Club::gather().await;
    let link = club.mail_to(Kind::Unverified, 0).await;
    for _ in 0..5 {
        assert_eq!(club.log_in(&address(Kind::Unverified, 0), "not this one").await.status(), 401);
    }
    assert_eq!(verify(&club, &link).await.status(), 204);
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
