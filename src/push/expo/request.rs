//! One request to Expo's service: sent as far as the circuit lets it through, and what its status means.

use std::{io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};
use protocol::rest::PushService;
use reqwest::{
    StatusCode, Url,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE},
};
use tokio::time::Instant;

use super::{ANSWER_MAX_BYTES, COOLDOWN, Expo, SETUP_PAUSE, answer, refusals::Scope};
use crate::{
    breaker::{Condition, Leave, Outcome},
    outbound,
};

/// Why a request has no answer that can be used.
pub(super) enum Trouble {
    /// The circuit is open: nothing was sent.
    Resting,
    /// It may be answered later.
    Failed(&'static str, Option<Duration>),
    /// Something in it is never taken.
    Refused,
    /// Something in it is not taken from who has this access token, or nothing at all.
    Forbidden,
    /// It has messages of several projects: each, and its addresses.
    Mixed(Vec<(String, Vec<String>)>),
}

impl Expo {
    /// Sends a request, as far as the circuit lets it through, and reads its answer.
    pub(super) async fn request(&self, url: Url, body: &[u8], scope: &Scope) -> Result<Vec<u8>, Trouble> {
        let Some(leave) = self.breaker.admit(Instant::now()) else { return Err(Trouble::Resting) };
        let mut leave = Given { expo: self, leave: Some(leave) };
        self.show();
        let response = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(CONTENT_ENCODING, "gzip")
            .body(gzip(body))
            .send()
            .await;
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                // What was not connected to has taken nothing; of the others nobody knows.
                let why = if error.is_connect() {
                    "unreachable"
                } else if error.is_timeout() {
                    "timeout"
                } else {
                    "cut"
                };
                tracing::warn!(reason = outbound::reason(&error), why, "the push service was not reached");
                return Err(leave.fail(why, None));
            }
        };
        let status = response.status();
        if let Some(why) = passing(status) {
            let pause = outbound::retry_after(response.headers());
            tracing::warn!(status = status.as_u16(), "the push service is not to be asked for a while");
            // One that says "too many" is left alone, whether it says for how long or not.
            let asked = pause.or_else(|| (status == StatusCode::TOO_MANY_REQUESTS).then_some(COOLDOWN));
            return Err(leave.fail(why, asked));
        }
        let Ok(answer) = outbound::read(response, ANSWER_MAX_BYTES).await else {
            return Err(leave.fail("cut", None));
        };
        match status {
            status if status.is_success() => {
                leave.end(Outcome::Success, "answered");
                Ok(answer)
            }
            StatusCode::UNAUTHORIZED => {
                self.end_refused(&mut leave, scope, "unauthorized");
                if self.reminders.token.allows() {
                    tracing::error!(
                        everything = self.refused.is_everything(),
                        "Expo does not know the access token (EXPO_ACCESS_TOKEN), or a device registered with a project that wants another one"
                    );
                }
                Err(Trouble::Forbidden)
            }
            StatusCode::FORBIDDEN => {
                self.end_refused(&mut leave, scope, "forbidden");
                if self.reminders.forbidden.allows() {
                    tracing::error!(
                        everything = self.refused.is_everything(),
                        "Expo refuses the access token (EXPO_ACCESS_TOKEN), or a device registered with another project"
                    );
                }
                Err(Trouble::Forbidden)
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
                if let Some(projects) = answer::mixed(&answer) {
                    leave.end(Outcome::Success, "refused");
                    return Err(Trouble::Mixed(projects));
                }
                self.end_refused(&mut leave, scope, "refused");
                if self.reminders.refused.allows() {
                    tracing::warn!(
                        status = status.as_u16(),
                        everything = self.refused.is_everything(),
                        "the push service refused a request"
                    );
                }
                Err(Trouble::Refused)
            }
            _ => {
                leave.end(Outcome::Success, "not_expo");
                if self.reminders.not_expo.allows() {
                    tracing::error!(
                        status = status.as_u16(),
                        "that is no answer of Expo's push service (PUSH_EXPO_URL)"
                    );
                }
                Err(Trouble::Failed("not_expo", Some(SETUP_PAUSE)))
            }
        }
    }

    /// A request was refused. Who refuses everything is left alone, as far as one message alone says so: of several one may be meant.
    fn end_refused(&self, leave: &mut Given<'_>, scope: &Scope, name: &'static str) {
        self.refused.refused(scope);
        let outcome = match scope {
            Scope::One(_) if self.refused.is_everything() => Outcome::Failure(Some(COOLDOWN)),
            // Whether anything else is taken is still unknown.
            Scope::Several(_) if self.refused.is_everything() => Outcome::Abandoned,
            Scope::Known => Outcome::Abandoned,
            Scope::One(_) | Scope::Several(_) => Outcome::Success,
        };
        leave.end(outcome, name);
    }

    fn show(&self) {
        self.metrics.push_circuit(
            PushService::Expo.as_str(),
            match self.breaker.condition() {
                Condition::Closed => 0,
                Condition::Trying => 1,
                Condition::Open => 2,
            },
        );
    }
}

/// Leave for one request, which is given back whatever becomes of it.
struct Given<'a> {
    expo: &'a Expo,
    leave: Option<Leave>,
}

impl Given<'_> {
    fn fail(&mut self, why: &'static str, pause: Option<Duration>) -> Trouble {
        self.end(Outcome::Failure(pause), why);
        Trouble::Failed(why, pause)
    }

    fn end(&mut self, outcome: Outcome, name: &'static str) {
        self.expo.metrics.push_request(PushService::Expo.as_str(), name);
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Outcome) {
        if let Some(leave) = self.leave.take() {
            self.expo.breaker.settle(leave, outcome, Instant::now());
            self.expo.show();
        }
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        self.settle(Outcome::Abandoned);
    }
}

/// Why a request with this status may be answered otherwise in a moment: it says nothing about what is in it, but that something between here and
/// Expo does not work.
fn passing(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        429 => Some("limited"),
        // It has come in part, or as a whole.
        408 => Some("timeout"),
        // Another connection, or not yet; redirects, as who stands in for Expo while it is maintained sends them.
        300..=399 | 421 | 425 => Some("turned_away"),
        500.. => Some("server_error"),
        _ => None,
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}
