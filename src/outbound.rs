//! Requests to services of others: where they go is what the operator said, what comes back is bounded, and no secret is shown.

use std::{error::Error, iter, time::Duration};

use jiff::fmt::rfc2822;

use reqwest::{
    Client, Response,
    header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect,
};
use secrecy::{ExposeSecret as _, SecretString};

use crate::tls;

/// Longest that a service can ask to be left alone.
pub const PAUSE_MAX: Duration = Duration::from_secs(600);

/// Why an answer was not read.
#[derive(Debug)]
pub enum Unread {
    /// The connection ended, or the deadline passed.
    Broken(reqwest::Error),
    /// It is longer than it may be.
    TooLong,
}

/// The headers of a service that wants a bearer token, or of one that wants none.
///
/// # Errors
/// When the token cannot be sent. The message does not repeat it.
pub fn bearer(token: Option<&SecretString>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| "it has characters that a header cannot have".to_owned())?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// A client that sends these headers, follows no redirect, and waits so long for a whole answer, of which connecting (TLS included) may take
/// `connecting`.
///
/// # Errors
/// When TLS cannot be set up.
pub fn client(headers: HeaderMap, deadline: Duration, connecting: Duration) -> Result<Client, reqwest::Error> {
    tls::install();
    Client::builder()
        .default_headers(headers)
        .user_agent(concat!("members-book/", env!("CARGO_PKG_VERSION")))
        // What is sent, and the token, go where the operator said and nowhere else.
        .redirect(redirect::Policy::none())
        .timeout(deadline)
        .connect_timeout(connecting)
        .build()
}

/// Reads an answer of at most `max` bytes.
///
/// # Errors
/// See [`Unread`].
pub async fn read(mut response: Response, max: usize) -> Result<Vec<u8>, Unread> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Unread::Broken)? {
        if body.len() + chunk.len() > max {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// How long a service asks to be left alone (RFC 9110, section 10.2.3), [`PAUSE_MAX`] at most: in seconds, or until a date, which counts from
/// the date of the answer, so that no clock of this machine matters.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| Some(headers.get(name)?.to_str().ok()?.trim());
    let date = |text: &str| Some(rfc2822::parse(text).ok()?.timestamp());
    let asked = text(RETRY_AFTER)?;
    let pause = match asked.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        // What is over already asks for nothing.
        Err(_) => Duration::try_from(date(asked)?.duration_since(date(text(DATE)?)?)).unwrap_or_default(),
    };
    Some(pause.min(PAUSE_MAX))
}

/// Why a service was not reached, for the log. What is at the bottom of an error says most, and unlike the top it has no URL, which may have
/// credentials in its query.
#[must_use]
pub fn reason(error: &(dyn Error + 'static)) -> Option<String> {
    iter::successors(error.source(), |error| (**error).source()).last().map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_can_ask_for_ten_minutes_at_most() {
        let pause = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
            retry_after(&headers)
        };
        assert_eq!(pause("20"), Some(Duration::from_secs(20)));
        assert_eq!(pause("99999"), Some(PAUSE_MAX));
        assert_eq!(pause("soon"), None);
        assert_eq!(pause("Sun, 06 Nov 1994 08:49:37 GMT"), None, "from when is not known");
        let dated = |text: &str| {
            let value = |text: &str| HeaderValue::from_str(text).unwrap();
            let date = value("Sun, 06 Nov 1994 08:49:37 GMT");
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value(text)), (DATE, date)]))
        };
        assert_eq!(dated("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(dated("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(dated("Sat, 06 Nov 2094 08:00:00 GMT"), Some(PAUSE_MAX));
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused_and_not_repeated() {
        let problem = bearer(Some(&SecretString::from("secret\n"))).unwrap_err();
        assert!(!problem.contains("secret"), "{problem}");
        assert!(format!("{:?}", bearer(Some(&SecretString::from("secret"))).unwrap()).contains("Sensitive"));
    }
}
