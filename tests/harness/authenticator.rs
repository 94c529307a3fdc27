//! An authenticator app.

use std::sync::Arc;

use members_book::clock::Clock;
use protocol::rest::{SecondFactorEnabled, SecondFactorEnrolment};
use reqwest::Method;
use serde_json::json;
use totp_rs::Totp;

use super::Member;

/// Seconds that a code is shown.
const STEP: u64 = 30;

/// An authenticator app that was given a secret.
pub struct Authenticator {
    totp: Totp,
    clock: Arc<dyn Clock>,
}

impl Authenticator {
    /// One that has scanned what the server shows, and has the time of a clock.
    pub fn scan(enrolment: &SecondFactorEnrolment, clock: &(impl Clock + Clone)) -> Self {
        Self { totp: Totp::from_url(&enrolment.uri).unwrap(), clock: Arc::new(clock.clone()) }
    }

    /// What it shows now.
    pub fn code(&self) -> String {
        self.code_after(0)
    }

    /// What it shows so many codes later.
    pub fn code_after(&self, codes: u64) -> String {
        let now = u64::try_from(self.clock.now().as_secs()).unwrap();
        self.totp.generate(now + codes * STEP).to_string()
    }

    /// Another code than any that is good now.
    pub fn wrong(&self) -> String {
        let now = u64::try_from(self.clock.now().as_secs()).unwrap();
        let good: Vec<String> =
            (0..5).map(|codes| self.totp.generate(now + codes * STEP - 2 * STEP).to_string()).collect();
        (0..).map(|number: u32| format!("{number:06}")).find(|code| !good.contains(code)).unwrap()
    }
}

/// Begins to turn the second factor of a member on.
pub async fn begin(member: &Member) -> SecondFactorEnrolment {
    let body = json!({ "password": member.password });
    let begun = member.request(Method::POST, "/api/members/me/second-factor", body).await;
    assert_eq!(begun.status(), 200);
    begun.json().await.unwrap()
}

/// Turns the second factor of a member on. Returns their app and their recovery codes.
pub async fn turn_on(member: &mut Member, clock: &(impl Clock + Clone)) -> (Authenticator, Vec<String>) {
    let (app, enabled) = enable(member, clock).await;
    (app, enabled.recovery_codes)
}

/// The same. Returns the app and what is answered.
pub async fn enable(member: &mut Member, clock: &(impl Clock + Clone)) -> (Authenticator, SecondFactorEnabled) {
    let enrolment = begin(member).await;
    let app = Authenticator::scan(&enrolment, clock);
    let body = json!({ "enrolment": enrolment.enrolment, "code": app.code() });
    let confirmed = member.request(Method::POST, "/api/members/me/second-factor/confirm", body).await;
    assert_eq!(confirmed.status(), 200);
    let enabled: SecondFactorEnabled = confirmed.json().await.unwrap();
    member.auth = enabled.tokens.clone();
    (app, enabled)
}
