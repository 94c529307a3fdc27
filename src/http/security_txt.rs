//! `/.well-known/security.txt`: where problems of security are reported (RFC 9116).

use std::{fmt::Write as _, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use protocol::{ErrorCode, Timestamp};

use super::AppState;
use crate::failure::Failure;

/// Where it is (section 3).
const PATH: &str = "/.well-known/security.txt";
/// How long it is said to be good from today on: less than a year (section 2.5.5). It is always made anew.
const GOOD_FOR: Duration = Duration::from_secs(180 * DAY);
const DAY: u64 = 86_400;

/// What it says.
#[derive(Debug, Clone, Default)]
pub struct SecurityTxt {
    /// Where problems are reported, as URIs, the preferred one first; without any there is none.
    pub contacts: Vec<String>,
    /// A page that says how reports are handled.
    pub policy: Option<String>,
}

pub(super) fn routes() -> Router<AppState> {
    Router::new().route(PATH, get(security_txt))
}

async fn security_txt(State(state): State<AppState>) -> Result<Response, Failure> {
    let text = state.security_txt.text(state.accounts.clock.now(), &state.public_url).ok_or(ErrorCode::NotFound)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400")),
    ];
    Ok((headers, text).into_response())
}

impl SecurityTxt {
    /// The text today, the same for the whole day. `public_url`: where clients reach the server; empty if that is not set.
    fn text(&self, now: Timestamp, public_url: &str) -> Option<String> {
        if self.contacts.is_empty() {
            return None;
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        for contact in &self.contacts {
            let _ = writeln!(text, "Contact: {contact}");
        }
        let day = i64::try_from(DAY).unwrap_or(i64::MAX);
        let today = Timestamp::from_millis(now.as_secs().div_euclid(day).saturating_mul(day).saturating_mul(1_000));
        let _ = writeln!(text, "Expires: {}", today.after(GOOD_FOR));
        if let Some(policy) = &self.policy {
            let _ = writeln!(text, "Policy: {policy}");
        }
        // A page is named with https:// only.
        if public_url.starts_with("https://") {
            let _ = writeln!(text, "Canonical: {public_url}{PATH}");
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_the_settings_say_and_expires_within_a_year() {
        let now = Timestamp::from_millis(1_795_370_633_000);
        let contacts = vec!["mailto:security@example.com".to_owned(), "https://example.com/report".to_owned()];
        let text = SecurityTxt { contacts: contacts.clone(), policy: Some("https://example.com/security".to_owned()) };
        assert_eq!(
            text.text(now, "https://club.example.com").unwrap(),
            "Contact: mailto:security@example.com\nContact: https://example.com/report\n\
             Expires: 2027-05-21T00:00:00.000Z\nPolicy: https://example.com/security\n\
             Canonical: https://club.example.com/.well-known/security.txt\n"
        );
        let least = SecurityTxt { contacts: contacts[..1].to_vec(), policy: None };
        for public_url in ["", "http://192.168.1.5:8000"] {
            let text = least.text(now, public_url).unwrap();
            assert_eq!(text, "Contact: mailto:security@example.com\nExpires: 2027-05-21T00:00:00.000Z\n");
        }
        assert_eq!(SecurityTxt::default().text(now, "https://club.example.com"), None);
    }
}
