//! Web push: what goes to a browser, through the push service that its maker runs (RFC 8030).

mod reach;
mod seal;
mod vapid;

use std::{sync::Arc, time::Duration};

use p256::SecretKey;
use protocol::{Timestamp, rest::PushKeys};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER},
    redirect,
};
use sha2::{Digest as _, Sha256};

use self::{
    reach::{PublicOnly, may_go_to},
    seal::Receiver,
};
use crate::{ids::Entropy, tls};

pub use self::{seal::TEXT_MAX, vapid::Vapid};

/// Longest that a push service can ask to be left alone.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// How often a key is drawn: one of 2^32 is none.
const DRAWS: usize = 4;

/// What goes to one browser.
#[derive(Clone, Copy)]
pub struct Letter<'a> {
    /// The address of the browser at its push service.
    pub endpoint: &'a str,
    /// Its keys.
    pub keys: &'a PushKeys,
    /// What the service worker of the app gets.
    pub text: &'a [u8],
    /// What takes the place of one that was not brought yet.
    pub topic: &'a [u8],
    /// How long the push service keeps it for a browser that is away.
    pub lifetime: Duration,
    /// Whether it wakes a device that saves power.
    pub is_urgent: bool,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The push service has it.
    Accepted,
    /// Nobody is at the address any more, or it never was one.
    Gone,
    /// It is too long for this push service.
    TooLong,
    /// The push service refuses what this server sends, whatever it is: its key, or its contact.
    Refused(String),
    /// Not now; perhaps after a time that the push service says.
    Later(Option<Duration>, String),
}

/// Sends to browsers.
pub struct WebPush {
    client: Client,
    vapid: Vapid,
    entropy: Arc<dyn Entropy>,
    /// Whether an address may lead anywhere: for tests.
    anywhere: bool,
}

impl WebPush {
    /// Sends with a key. `anywhere` lets addresses lead into the own network and be plain HTTP: for tests, and for nothing else.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(vapid: Vapid, entropy: Arc<dyn Entropy>, deadline: Duration, anywhere: bool) -> Result<Self, String> {
        tls::install();
        let builder = Client::builder()
            .user_agent(concat!("members-book/", env!("CARGO_PKG_VERSION")))
            // What is behind an address is where it says, or nowhere.
            .redirect(redirect::Policy::none())
            // A proxy would look the name up itself.
            .no_proxy()
            .timeout(deadline);
        let builder = if anywhere { builder } else { builder.dns_resolver(Arc::new(PublicOnly)) };
        let client = builder.build().map_err(|error| format!("web push: {error}"))?;
        Ok(Self { client, vapid, entropy, anywhere })
    }

    /// The public key, in base64url: what a browser is given as `applicationServerKey`.
    #[must_use]
    pub fn public_key(&self) -> &str {
        self.vapid.public()
    }

    /// Whether this server can send to an address: what is refused is never tried.
    #[must_use]
    pub fn takes(&self, endpoint: &str, keys: &PushKeys) -> bool {
        self.place(endpoint).is_some() && Receiver::read(keys).is_some()
    }

    fn place(&self, endpoint: &str) -> Option<Url> {
        Url::parse(endpoint).ok().filter(|url| (self.anywhere && url.has_host()) || may_go_to(url))
    }

    /// Sends one letter.
    pub async fn send(&self, letter: Letter<'_>, now: Timestamp) -> Outcome {
        let (Some(url), Some(receiver)) = (self.place(letter.endpoint), Receiver::read(letter.keys)) else {
            return Outcome::Gone;
        };
        let Some(sealed) = self.key().and_then(|key| receiver.seal(letter.text, &key, self.salt())) else {
            return Outcome::TooLong;
        };
        let origin = url.origin().ascii_serialization();
        let request = self
            .client
            .post(url)
            .header(AUTHORIZATION, self.vapid.authorization(&origin, now))
            .header(CONTENT_ENCODING, "aes128gcm")
            .header(CONTENT_TYPE, "application/octet-stream")
            .header("TTL", letter.lifetime.as_secs())
            .header("Topic", topic(letter.topic))
            .header("Urgency", if letter.is_urgent { "high" } else { "low" })
            .body(sealed);
        match request.send().await {
            Ok(response) => outcome(&response),
            // Its text may have the address, which is a secret of the browser.
            Err(error) => Outcome::Later(None, error.without_url().to_string()),
        }
    }

    /// A key that is used once.
    fn key(&self) -> Option<SecretKey> {
        (0..DRAWS).find_map(|_| {
            let mut bytes = [0; 32];
            self.entropy.fill(&mut bytes);
            SecretKey::from_slice(&bytes).ok()
        })
    }

    fn salt(&self) -> [u8; 16] {
        let mut salt = [0; 16];
        self.entropy.fill(&mut salt);
        salt
    }
}

/// The name of a topic: at most 32 characters of base64url, and nothing that says what it is about (RFC 8030, section 5.4).
fn topic(of: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut name = URL_SAFE_NO_PAD.encode(Sha256::digest(of));
    name.truncate(32);
    name
}

/// What an answer means. Its body is not read.
fn outcome(response: &Response) -> Outcome {
    let status = response.status();
    let why = || format!("the push service answers {status}");
    match status {
        _ if status.is_success() => Outcome::Accepted,
        StatusCode::NOT_FOUND | StatusCode::GONE => Outcome::Gone,
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::TooLong,
        StatusCode::TOO_MANY_REQUESTS => Outcome::Later(retry_after(response), why()),
        _ if status.is_server_error() => Outcome::Later(retry_after(response), why()),
        _ => Outcome::Refused(why()),
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(PAUSE_MAX))
}
