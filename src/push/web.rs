//! Web push: what goes to a browser, through the push service that its maker runs (RFC 8030).
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`reach`] | where that may lead |
//! | [`seal`] | encrypting it, so that the push service cannot read it |
//! | [`vapid`] | who this server is to push services |

mod reach;
mod seal;
#[cfg(test)]
mod tests;
mod vapid;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use p256::SecretKey;
use protocol::{
    ConversationId, MemberId, MessageId,
    rest::{PushAddress, PushService},
};
use quick_cache::sync::Cache;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE},
    redirect,
};
use serde::Serialize;
use tokio::time::Instant;

use self::{
    reach::{PublicOnly, may_go_to},
    seal::Receiver,
};
use super::{Courier, Handed, Notice, Parcel, Unfit, What};
use crate::{
    breaker::{Breaker, Outcome},
    clock::Clock,
    ids::Entropy,
    outbound, tls,
};

pub use self::vapid::Vapid;

/// Requests at a time, to all push services together.
const AT_ONCE: usize = 16;
/// How long after [`WebPush::send`] was called a push may be begun: later it may say what is not so any more, and it is found out again.
const FRESH: Duration = Duration::from_secs(2);
/// When it is, at the earliest.
const LATE_PAUSE: Duration = Duration::from_millis(200);
/// Failures in a row after which a push service is left alone.
const FAILURES_MAX: u32 = 5;
/// How long it is left alone before one request is tried.
const COOLDOWN: Duration = Duration::from_secs(10);
/// Push services that are told apart: there are a handful in the world.
const SERVICES: usize = 256;
/// When something is tried again that a push service refuses because of who sends it.
const SETUP_PAUSE: Duration = Duration::from_secs(600);
/// How often that is said in the log of one push service.
const SETUP_REMIND: Duration = Duration::from_secs(60);
/// How often a key is drawn: one of 2^32 is none.
const DRAWS: usize = 4;
/// Longest title and text, in bytes of JSON: both, and the ids, fit into what every push service takes.
const TITLE_MAX: usize = 400;
const BODY_MAX: usize = 2_400;

/// Sends to browsers.
pub struct WebPush {
    client: Client,
    vapid: Vapid,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// By origin: one that fails keeps nothing from the others.
    services: Cache<String, Arc<Service>>,
    /// Whether an address may lead anywhere: for tests.
    anywhere: bool,
}

/// A push service.
struct Service {
    breaker: Breaker,
    /// When it was said last that it refuses what this server sends.
    reminded: Mutex<Option<Instant>>,
}

impl Service {
    fn new() -> Self {
        Self { breaker: Breaker::new(FAILURES_MAX, COOLDOWN), reminded: Mutex::default() }
    }

    fn remind(&self, origin: &str, status: StatusCode) {
        let mut reminded = self.reminded.lock().unwrap_or_else(PoisonError::into_inner);
        if reminded.is_none_or(|at| at.elapsed() > SETUP_REMIND) {
            *reminded = Some(Instant::now());
            tracing::warn!(origin, %status, "a push service refuses what this server sends: is PUSH_CONTACT right?");
        }
    }
}

/// What the service worker of the app gets.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Told<'a> {
    Message {
        conversation: ConversationId,
        seq: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        message_id: Option<MessageId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        sender: Option<MemberId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        body: &'a str,
        badge: u32,
    },
    Badge {
        badge: u32,
    },
}

impl WebPush {
    /// Sends with a key. `anywhere` lets addresses lead into the own network and be plain HTTP: for tests, and for nothing else.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        vapid: Vapid,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        deadline: Duration,
        anywhere: bool,
    ) -> Result<Self, String> {
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
        Ok(Self { client, vapid, clock, entropy, services: Cache::new(SERVICES), anywhere })
    }

    /// The public key, in base64url: what a browser is given as `applicationServerKey`.
    #[must_use]
    pub fn public_key(&self) -> &str {
        self.vapid.public()
    }

    fn place(&self, endpoint: &str) -> Option<Url> {
        Url::parse(endpoint).ok().filter(|url| (self.anywhere && url.has_host()) || may_go_to(url))
    }

    async fn bring(&self, parcel: Parcel, asked: Instant) -> Handed {
        if asked.elapsed() > FRESH {
            // Push services before it have hung.
            return Handed::Later { why: "late", pause: Some(LATE_PAUSE) };
        }
        let PushAddress::Web { endpoint, keys } = &parcel.address else { return Handed::Refused("other_service") };
        let (Some(url), Some(receiver)) = (self.place(endpoint), Receiver::read(keys)) else { return Handed::Gone };
        let text = text(&parcel);
        let Some(sealed) = self.key().and_then(|key| receiver.seal(&text, &key, self.salt())) else {
            return Handed::Refused("too_long");
        };
        let origin = url.origin().ascii_serialization();
        // Cannot fail: it makes one.
        let Ok(service) = self.services.get_or_insert_with(&origin, || Ok::<_, Infallible>(Arc::new(Service::new())));
        let Some(leave) = service.breaker.admit(Instant::now()) else {
            return Handed::Later { why: "resting", pause: Some(COOLDOWN) };
        };
        let request = self
            .client
            .post(url)
            .header(AUTHORIZATION, self.vapid.authorization(&origin, self.clock.now()))
            .header(CONTENT_ENCODING, "aes128gcm")
            .header(CONTENT_TYPE, "application/octet-stream")
            .header("TTL", parcel.ttl.as_secs())
            .header("Topic", topic(&parcel.what))
            .header("Urgency", if matches!(parcel.what, What::Badge) { "low" } else { "high" })
            .body(sealed);
        let (outcome, handed) = match request.send().await {
            Ok(response) => answered(&response, |status| service.remind(&origin, status)),
            Err(error) => {
                // Not the error itself: it has the address, which is a secret of the browser.
                let why = if error.is_timeout() { "timeout" } else { "unreachable" };
                tracing::debug!(origin, why, reason = outbound::reason(&error), "a push service is not reached");
                (Outcome::Failure(None), Handed::later(why))
            }
        };
        service.breaker.settle(leave, outcome, Instant::now());
        handed
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

#[async_trait]
impl Courier for WebPush {
    fn service(&self) -> PushService {
        PushService::Web
    }

    fn unfit(&self, address: &PushAddress) -> Option<Unfit> {
        let PushAddress::Web { endpoint, keys } = address else { return None };
        if self.place(endpoint).is_none() {
            let why = "must be an https URL of a public host at port 443, without user and password";
            return Some(Unfit { field: "endpoint", why });
        }
        seal::unfit(keys)
    }

    /// Each push service has a circuit of its own.
    fn rests(&self) -> Duration {
        Duration::ZERO
    }

    /// Browsers show something for every push, or end the subscription.
    fn is_silent(&self) -> bool {
        false
    }

    async fn send(&self, parcels: Vec<Parcel>) -> Vec<Handed> {
        let asked = Instant::now();
        stream::iter(parcels.into_iter().map(|parcel| self.bring(parcel, asked))).buffered(AT_ONCE).collect().await
    }
}

/// What is encrypted.
fn text(parcel: &Parcel) -> Vec<u8> {
    let badge = parcel.badge;
    let told = match &parcel.what {
        What::Badge => Told::Badge { badge },
        What::Messages(notice) => {
            let Notice { conversation, seq, message, title, body, .. } = &**notice;
            Told::Message {
                conversation: *conversation,
                seq: *seq,
                message_id: message.map(|(id, _)| id),
                sender: message.map(|(_, sender)| sender),
                title: title.as_deref().map(|title| cut(title, TITLE_MAX)),
                body: cut(body, BODY_MAX),
                badge,
            }
        }
    };
    // Cannot fail: texts and numbers.
    serde_json::to_vec(&told).unwrap_or_default()
}

/// The beginning of a text that has so many bytes in JSON at most.
fn cut(text: &str, max: usize) -> &str {
    let mut bytes = 0;
    let end = text.char_indices().find(|(_, char)| {
        bytes += match char {
            '"' | '\\' | '\n' | '\r' | '\t' => 2,
            char if char.is_control() => 6,
            char => char.len_utf8(),
        };
        bytes > max
    });
    end.and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// What a later push takes the place of: at most 32 characters of base64url, and nothing that says what it is about (RFC 8030, section 5.4).
fn topic(what: &What) -> String {
    match what {
        What::Badge => "badge".to_owned(),
        What::Messages(notice) => notice.topic_name(),
    }
}

/// What an answer means, for the service and for the parcel; its body is not read. A refusal is no failure of the service, nor is too much for one browser: what a member
/// registers is refused to them alone, and must not keep anything from others.
fn answered(response: &Response, remind: impl Fn(StatusCode)) -> (Outcome, Handed) {
    let pause = outbound::retry_after(response.headers());
    match response.status() {
        status if status.is_success() => (Outcome::Success, Handed::Taken),
        StatusCode::NOT_FOUND | StatusCode::GONE => (Outcome::Success, Handed::Gone),
        StatusCode::PAYLOAD_TOO_LARGE => (Outcome::Success, Handed::Refused("too_long")),
        StatusCode::TOO_MANY_REQUESTS => (Outcome::Success, Handed::Later { why: "too_many", pause }),
        status if status.is_server_error() => (Outcome::Failure(pause), Handed::Later { why: "failed", pause }),
        status => {
            remind(status);
            (Outcome::Success, Handed::Later { why: "refused", pause: Some(SETUP_PAUSE) })
        }
    }
}
