//! Who may connect, for how long, and what ends it.

use std::time::Duration;

use members_book::{clock::ManualClock, store::sessions::SESSIONS_OF_MEMBER};
use protocol::{
    ClientFrame, CloseCode, ErrorCode, Timestamp,
    client::AuthRenew,
    rest::AuthResponse,
    server::{AuthExpiring, Error, Okay},
};
use serde_json::json;

use crate::harness::{Client, Server};

fn hello(token: &str) -> String {
    format!(r#"{{"type":"hello","id":"h","token":"{token}","device":{{"id":"d","platform":"other"}}}}"#)
}

async fn refused(server: &Server, first: &str) -> (ErrorCode, CloseCode) {
    let mut client = Client::open(server.addr()).await;
    client.send_text(first).await;
    let protocol::ServerFrame::Error(error) = client.next().await.frame else { panic!() };
    (error.code, client.expect_close().await.code)
}

#[tokio::test]
async fn a_bad_token_is_refused_and_says_what_is_wrong_with_it() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let foreign = Server::start().await.member("Zoe").await;
    let unauthorized = |code| (code, CloseCode::Unauthorized);
    assert_eq!(refused(&server, &hello("")).await, unauthorized(ErrorCode::TokenMissing));
    assert_eq!(refused(&server, &hello("x.y.z")).await, unauthorized(ErrorCode::TokenInvalid));
    assert_eq!(refused(&server, &hello(&foreign.auth.access_token)).await, unauthorized(ErrorCode::TokenInvalid));
    ana.request(reqwest::Method::POST, "/api/auth/logout", json!(null)).await;
    assert_eq!(refused(&server, &hello(&ana.auth.access_token)).await, unauthorized(ErrorCode::SessionRevoked));
    let without = r#"{"type":"hello","id":"h","device":{"id":"d","platform":"other"}}"#;
    assert_eq!(refused(&server, without).await, unauthorized(ErrorCode::TokenMissing));
}

#[tokio::test]
async fn a_login_beyond_what_is_kept_ends_the_oldest_session_and_its_sockets() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let mut phone = ana.connect().await;
    let mut newest = ana.log_in().await;
    for _ in 2..SESSIONS_OF_MEMBER {
        newest = ana.log_in().await;
    }
    phone.ping().await;
    let newest = [newest.connect_as("tablet", None).await, ana.log_in().await.connect_as("laptop", None).await];
    assert_eq!(phone.expect_close().await.code, CloseCode::Unauthorized);
    let revoked = (ErrorCode::SessionRevoked, CloseCode::Unauthorized);
    assert_eq!(refused(&server, &hello(&ana.auth.access_token)).await, revoked);
    for mut device in newest {
        device.ping().await;
    }
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |_| ()).await;
    let ana = server.member("Ana").await;
    clock.advance(Duration::from_secs(900));
    let expired = (ErrorCode::TokenExpired, CloseCode::Unauthorized);
    assert_eq!(refused(&server, &hello(&ana.auth.access_token)).await, expired);
}

#[tokio::test]
async fn a_deactivated_member_is_cut_off_and_kept_out() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let (mut phone, mut tablet) = (ana.connect_as("phone", None).await, ana.connect_as("tablet", None).await);
    server.set_active(ana.id, false).await;
    assert_eq!(phone.expect_close().await.code, CloseCode::Deactivated);
    assert_eq!(tablet.expect_close().await.code, CloseCode::Deactivated);
    let deactivated = (ErrorCode::MemberDeactivated, CloseCode::Deactivated);
    assert_eq!(refused(&server, &hello(&ana.auth.access_token)).await, deactivated);
}

#[tokio::test]
async fn logging_out_closes_the_sockets_of_that_session_only() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let elsewhere = ana.log_in().await;
    let (mut here, mut there) = (ana.connect_as("phone", None).await, elsewhere.connect_as("tablet", None).await);
    let logout = ana.request(reqwest::Method::POST, "/api/auth/logout", json!(null)).await;
    assert_eq!(logout.status(), 204);
    assert_eq!(here.expect_close().await.code, CloseCode::Unauthorized);
    there.ping().await;

    let again = ana.log_in().await;
    let mut again_here = again.connect_as("phone", None).await;
    let logout = again.request(reqwest::Method::POST, "/api/auth/logout", json!({ "all": true })).await;
    assert_eq!(logout.status(), 204);
    assert_eq!(there.expect_close().await.code, CloseCode::Unauthorized);
    assert_eq!(again_here.expect_close().await.code, CloseCode::Unauthorized);
}

#[tokio::test]
async fn a_stolen_refresh_token_closes_the_sockets_of_its_session() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let mut anas = ana.connect().await;
    let next: AuthResponse = ana.refresh().await.json().await.unwrap();
    assert_eq!(ana.refresh().await.status(), 200, "used a second time, before anybody used what came of the first");
    anas.ping().await;
    let tablet = ana.with(next).connect_as("tablet", None).await;
    assert_eq!(ana.refresh().await.status(), 401);
    drop(tablet);
    assert_eq!(anas.expect_close().await.code, CloseCode::Unauthorized);
}

#[tokio::test]
async fn the_end_of_a_token_is_announced_and_a_fresh_one_keeps_the_connection() {
    // A token lives for 61 s here, so that its last minute begins after one second.
    let server = Server::with(|settings| settings.auth.access_token_ttl = Duration::from_secs(61)).await;
    let (ana, ben) = server.two_members().await;
    let mut anas = ana.connect().await;
    let expiring: AuthExpiring = anas.expect().await;
    assert_eq!(expiring.expires_at, ana.auth.expires_at);

    let fresh: AuthResponse = ana.refresh().await.json().await.unwrap();
    let renew = |token: &str| ClientFrame::AuthRenew(AuthRenew { token: token.to_owned() });
    let ok: Okay = anas.ask(renew(&fresh.access_token)).await;
    assert_eq!(ok.expires_at, Some(fresh.expires_at));
    anas.say(ben.id, "still here").await;
}

#[tokio::test]
async fn a_renewal_that_is_refused_closes_with_the_code_of_its_error() {
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let other_session = ana.log_in().await.auth.access_token;
    for token in [ben.auth.access_token.as_str(), other_session.as_str(), "nonsense"] {
        let mut anas = ana.connect().await;
        let error: Error = anas.ask(ClientFrame::AuthRenew(AuthRenew { token: token.to_owned() })).await;
        assert_eq!(error.code, ErrorCode::TokenInvalid, "{token}");
        assert_eq!(anas.expect_close().await.code, CloseCode::Unauthorized);
    }
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let clock = ManualClock::at(Timestamp::from_millis(1_795_370_633_000));
    let server = Server::at(&clock, |_| ()).await;
    let ana = server.member("Ana").await;
    clock.advance(Duration::from_millis(899_500));
    let mut anas = ana.connect().await;
    anas.expect::<AuthExpiring>().await;
    assert_eq!(anas.expect_close().await.code, CloseCode::Unauthorized);
}
