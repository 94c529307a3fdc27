//! Who is a member, asked by somebody who is not: the answers are the same to the last byte, whatever an address is to the club.

use std::collections::BTreeMap;

use protocol::{ErrorCode, Problem};
use reqwest::Response;
use serde_json::json;

use super::{
    club::{Club, Kind, PASSWORD, address},
    post,
};

/// What somebody sees of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

/// What differs from one answer to the next, whoever asks for what.
const OF_EACH: [&str; 2] = ["date", "x-request-id"];

async fn seen(response: Response) -> Seen {
    let headers = response.headers().iter().filter(|(name, _)| !OF_EACH.contains(&name.as_str()));
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    Seen { status: response.status().as_u16(), headers, body: response.text().await.unwrap() }
}

/// Asks the same about an address of each kind: the answer, which is the same for all.
async fn same(kinds: &[Kind], ask: impl AsyncFn(&str) -> Response) -> Seen {
    let mut answers = Vec::new();
    for kind in kinds {
        answers.push((*kind, seen(ask(&address(*kind, 0)).await).await));
    }
    let (_, first) = answers.swap_remove(0);
    for (kind, answer) in answers {
        assert_eq!(answer, first, "{kind:?}");
    }
    first
}

fn code(seen: &Seen) -> ErrorCode {
    serde_json::from_str::<Problem>(&seen.body).unwrap_or_else(|_| panic!("{seen:?}")).code
}

#[tokio::test]
async fn a_login_with_a_wrong_password_tells_nothing() {
    let club = Club::gather().await;
    for attempt in 0..10 {
        let wrong = async |email: &str| club.log_in(email, &format!("guess {attempt}")).await;
        let answer = same(&Kind::ALL, wrong).await;
        assert_eq!((answer.status, code(&answer)), (401, ErrorCode::InvalidCredentials));
    }
    // Nor does the one that comes too soon, though it be right.
    for kind in Kind::ALL {
        let mut answer = seen(club.log_in(&address(kind, 0), PASSWORD).await).await;
        assert!(answer.headers.remove("retry-after").is_some(), "{kind:?}: {answer:?}");
        assert_eq!(code(&answer), ErrorCode::RateLimited, "{kind:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_password_of_anybody_tells_nothing_either() {
    let club = Club::gather().await;
    for password in [String::new(), "x".repeat(71), "x".repeat(72), "x".repeat(1_000), "\u{1f600}".repeat(18)] {
        let answer = same(&Kind::ALL, async |email| club.log_in(email, &password).await).await;
        assert!(matches!(answer.status, 401 | 422), "{password}: {answer:?}");
    }
    let proof = "A".repeat(38);
    let with_proof = async |email: &str| {
        let body = json!({ "email": email, "password": "x", "device_proof": proof });
        post(&club.server, "/api/auth/login", body).await
    };
    assert_eq!(same(&Kind::ALL, with_proof).await.status, 401);
}

/// Who knows the password is the member, and is told; but not whoever has chosen it for an address that they cannot read the mail of.
#[tokio::test]
async fn the_right_password_is_told_why_it_does_not_do_once_the_address_is_its_members() {
    let club = Club::gather().await;
    for (kind, expected) in [
        (Kind::Unknown, Some(ErrorCode::InvalidCredentials)),
        (Kind::Member, None),
        (Kind::Admin, None),
        (Kind::Deactivated, Some(ErrorCode::MemberDeactivated)),
        (Kind::Suspended, Some(ErrorCode::MemberSuspended)),
        (Kind::Erased, Some(ErrorCode::InvalidCredentials)),
        (Kind::Pending, Some(ErrorCode::ApprovalPending)),
        (Kind::Unverified, Some(ErrorCode::InvalidCredentials)),
    ] {
        let answer = seen(club.log_in(&address(kind, 0), PASSWORD).await).await;
        assert_eq!((answer.status != 200).then(|| code(&answer)), expected, "{kind:?}");
    }
}

/// Found by reading: whoever registered with an address and logged in with the password that they had chosen was told `email_unverified`
/// if it had been free, and `invalid_credentials` if a member had it.
#[tokio::test]
async fn registering_and_logging_in_after_it_tells_nothing() {
    let club = Club::gather().await;
    let answer = same(&Kind::ALL, async |email| club.register(email).await).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, r#"{"status":"verify_email"}"#));
    // Those who have this password are left out: they are somebody who knows it.
    let kinds = [Kind::Unknown, Kind::Erased, Kind::Unverified];
    let answer = same(&kinds, async |email| club.log_in(email, "another password").await).await;
    for _ in 1..10 {
        assert_eq!(same(&kinds, async |email| club.log_in(email, PASSWORD).await).await, answer);
    }
    // The right one, too, spends what strangers may try.
    for kind in kinds {
        assert_eq!(club.log_in(&address(kind, 0), PASSWORD).await.status(), 429, "{kind:?}");
    }
    // Registering again tells nothing, whoever did so before.
    assert_eq!(same(&Kind::ALL, async |email| club.register(&email.to_uppercase()).await).await.status, 202);
    // What has come of it is in the mailbox of the address.
    assert_eq!(club.mail_to(Kind::Unknown, 0).await.subject, "Confirm your e-mail address");
    assert_eq!(club.mail_to(Kind::Member, 0).await.subject, "You have an account already");
}

#[tokio::test]
async fn asking_for_a_link_and_using_one_that_is_none_tell_nothing() {
    let club = Club::gather().await;
    let answer = same(&Kind::ALL, async |email| club.forgot(email).await).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    let first = club.mail_to(Kind::Member, 0).await;
    assert_eq!(club.forgot(&address(Kind::Member, 0)).await.status(), 202);
    let second = club.mail_to(Kind::Member, 1).await;
    assert_eq!(first.token(), second.token());
    // One of another purpose, one that was used, and one that never was.
    let reset = async |token: &str| {
        let body = json!({ "token": token, "new_password": "battery staple" });
        seen(post(&club.server, "/api/auth/password/reset", body).await).await
    };
    let other = reset(&club.mail_to(Kind::Unverified, 0).await.token()).await;
    assert_eq!((other.status, code(&other)), (422, ErrorCode::LinkInvalid));
    assert_eq!(reset(&second.token()).await.status, 200);
    assert_eq!(reset(&second.token()).await, other);
    assert_eq!(reset(&"A".repeat(43)).await, other);
    // Only who may be written to has got one.
    club.has_sent("forgot_password", "resolved", 9.0).await;
    for kind in [Kind::Unknown, Kind::Deactivated, Kind::Erased] {
        let links = club.mails_to(kind).into_iter().filter(|mail| mail.subject == "Choose a new password").count();
        assert_eq!(links, 0, "{kind:?}");
    }
}
