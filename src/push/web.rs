//! Web push: what goes to a browser, through the push service that its maker runs (RFC 8030).
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`connect`] | connections, and how much may come over them |
//! | [`reach`] | where that may lead |
//! | [`turns`] | whose request is next |
//! | [`seal`] | encrypting it, so that the push service cannot read it |
//! | [`vapid`] | who this server is to push services |

mod connect;
mod reach;
mod seal;
#[cfg(test)]
mod tests;
mod turns;
mod vapid;

use std::{convert::Infallible, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{BoxStream, FuturesUnordered},
};
use http_body_util::Full;
use hyper::Request;
use p256::SecretKey;
use protocol::{
    ConversationId, MemberId, MessageId,
    rest::{PushAddress, PushService},
};
use quick_cache::sync::Cache;
use reqwest::{
    StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, USER_AGENT},
};
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use self::{
    connect::{Heard, Web},
    reach::may_go_to,
    seal::Receiver,
    turns::{Pulse, Turns},
};
use super::{Courier, FRESH, Handed, Notice, Parcel, REFUSED, Unfit, What};
use crate::{
    breaker::{Breaker, Condition, Outcome},
    clock::Clock,
    ids::Entropy,
    outbound,
    telemetry::{Metrics, Minutely},
};

pub use self::vapid::Vapid;

/// Failures in a row after which a push service is left alone.
const FAILURES_MAX: u32 = 5;
/// How long it is left alone before one request is tried.
const COOLDOWN: Duration = Duration::from_secs(10);
/// Push services that are told apart: there are a handful in the world.
const SERVICES: usize = 256;
/// What is longer than a push service takes.
const TOO_LONG: &str = "too_long";
/// When something is tried again that a push service refuses because of who sends it.
const SETUP_PAUSE: Duration = Duration::from_secs(600);
/// How often a key is drawn: one of 2^32 is none.
const DRAWS: usize = 4;
/// Longest title and text, in bytes of JSON: both, and the ids, fit into what every push service takes.
const TITLE_MAX: usize = 400;
const BODY_MAX: usize = 2_400;

/// Sends to browsers.
pub struct WebPush {
    client: Web,
    deadline: Duration,
    turns: Turns,
    metrics: Arc<Metrics>,
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
    pulse: Pulse,
    /// That it refuses what this server sends.
    refusals: Minutely,
}

impl Service {
    fn new() -> Self {
        Self { breaker: Breaker::new(FAILURES_MAX, COOLDOWN), pulse: Pulse::new(), refusals: Minutely::default() }
    }

    fn remind(&self, origin: &str, status: StatusCode) {
        if self.refusals.allows() {
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
    /// Sends with a key; a request has the time of the deadline for a whole answer. `anywhere` lets addresses lead into the own network and be plain HTTP: for tests, and for nothing else.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        vapid: Vapid,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        deadline: Duration,
        anywhere: bool,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let client = connect::client(anywhere).map_err(|error| format!("web push: {error}"))?;
        let (services, turns) = (Cache::new(SERVICES), Turns::new());
        Ok(Self { client, deadline, turns, metrics, vapid, clock, entropy, services, anywhere })
    }

    /// The public key, in base64url: what a browser is given as `applicationServerKey`.
    #[must_use]
    pub fn public_key(&self) -> &str {
        self.vapid.public()
    }

    fn place(&self, endpoint: &str) -> Option<Url> {
        Url::parse(endpoint).ok().filter(|url| (self.anywhere && url.has_host()) || may_go_to(url))
    }

    /// Has one parcel wait for its turn, as long as it is fresh, and sends it.
    async fn bring(&self, parcel: &Parcel) -> Handed {
        let PushAddress::Web { endpoint, keys } = &parcel.address else { return Handed::Refused("other_service") };
        let (Some(url), Some(receiver)) = (self.place(endpoint), Receiver::read(keys)) else { return Handed::Gone };
        let origin = url.origin().ascii_serialization();
        // Cannot fail: it makes one.
        let Ok(service) = self.services.get_or_insert_with(&origin, || Ok::<_, Infallible>(Arc::new(Service::new())));
        if !service.breaker.rests(Instant::now()).is_zero() {
            return Handed::Later { why: "resting", pause: Some(COOLDOWN) };
        }
        let Some(ticket) = self.turns.queue(parcel.member) else { return Handed::late() };
        let Ok(Some(_places)) = timeout_at(parcel.composed + FRESH, ticket.turn(&service.pulse)).await else {
            // Requests before it have hung.
            return Handed::late();
        };
        if !parcel.is_fresh() {
            return Handed::late();
        }
        let to = (&url, &*origin, &*service);
        match self.post(to, parcel, &receiver, text(parcel, false)).await {
            Handed::Refused(TOO_LONG) if matches!(parcel.what, What::Messages(_)) && parcel.is_fresh() => {
                self.post(to, parcel, &receiver, text(parcel, true)).await
            }
            handed => handed,
        }
    }

    /// Sends one request.
    async fn post(
        &self,
        (url, origin, service): (&Url, &str, &Service),
        parcel: &Parcel,
        receiver: &Receiver,
        text: Vec<u8>,
    ) -> Handed {
        let Some(sealed) = self.key().and_then(|key| receiver.seal(&text, &key, self.salt())) else {
            return Handed::Refused(TOO_LONG);
        };
        let request = Request::post(url.as_str())
            .header(USER_AGENT, concat!("members-book/", env!("CARGO_PKG_VERSION")))
            .header(AUTHORIZATION, self.vapid.authorization(origin, self.clock.now()))
            .header(CONTENT_ENCODING, "aes128gcm")
            .header(CONTENT_TYPE, "application/octet-stream")
            .header("TTL", parcel.ttl.as_secs())
            .header("Topic", topic(&parcel.what))
            .header("Urgency", if matches!(parcel.what, What::Badge) { "low" } else { "high" })
            .body(Full::new(Bytes::from(sealed)));
        let Ok(request) = request else { return Handed::Gone };
        let Some(leave) = service.breaker.admit(Instant::now()) else {
            return Handed::Later { why: "resting", pause: Some(COOLDOWN) };
        };
        let begun = Instant::now();
        let (outcome, name, handed) = match timeout(self.deadline, self.client.request(request)).await {
            Ok(Ok(response)) => {
                if let Some(heard) = response.extensions().get::<Heard>() {
                    heard.answered();
                }
                answered(response.status(), response.headers(), |status| service.remind(origin, status))
            }
            Err(_) => (Outcome::Failure(None), "timeout", Handed::later("timeout")),
            Ok(Err(error)) => {
                // Not the error itself: it has the address, which is a secret of the browser.
                tracing::debug!(origin, reason = outbound::reason(&error), "a push service is not reached");
                (Outcome::Failure(None), "unreachable", Handed::later("unreachable"))
            }
        };
        service.pulse.answered(begun.elapsed());
        service.breaker.settle(leave, outcome, Instant::now());
        self.metrics.push_request(PushService::Web.as_str(), name);
        self.show();
        handed
    }

    /// Shows the worst circuit of all push services that have shown to be quick: what a member has made up is no concern of the operator.
    fn show(&self) {
        let condition = |service: &Service| match service.breaker.condition() {
            Condition::Closed => 0,
            Condition::Trying => 1,
            Condition::Open => 2,
        };
        let known = self.services.iter().filter(|(_, service)| service.pulse.is_known());
        let worst = known.map(|(_, service)| condition(&service)).max().unwrap_or(0);
        self.metrics.push_circuit(PushService::Web.as_str(), worst);
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

    /// It has turns of its own.
    fn batches(&self) -> Option<usize> {
        None
    }

    fn send(&self, parcels: Vec<Parcel>) -> BoxStream<'_, (usize, Handed)> {
        let each = parcels.into_iter().enumerate();
        each.map(|(place, parcel)| async move { (place, self.bring(&parcel).await) })
            .collect::<FuturesUnordered<_>>()
            .boxed()
    }
}

/// What is encrypted; without what was written if that was too long.
fn text(parcel: &Parcel, is_too_long: bool) -> Vec<u8> {
    let badge = parcel.badge;
    let told = match &parcel.what {
        What::Badge => Told::Badge { badge },
        What::Messages(notice) => {
            let Notice { conversation, seq, message, title, body, without_text, .. } = &**notice;
            let body = if is_too_long { without_text } else { body };
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

/// What an answer means, for the service and for the parcel, and what it is called in the metrics; its body is not read. A refusal is no failure
/// of the service: what a member registers is refused to them alone. Too much is one, but does not say for how long: it is of one browser, and
/// must not keep everything from others.
fn answered(status: StatusCode, headers: &HeaderMap, remind: impl Fn(StatusCode)) -> (Outcome, &'static str, Handed) {
    let pause = outbound::retry_after(headers);
    match status {
        status if status.is_success() => (Outcome::Success, "answered", Handed::Taken),
        StatusCode::NOT_FOUND | StatusCode::GONE => (Outcome::Success, "answered", Handed::Gone),
        StatusCode::PAYLOAD_TOO_LARGE => (Outcome::Success, "refused", Handed::Refused(TOO_LONG)),
        StatusCode::TOO_MANY_REQUESTS => (Outcome::Failure(None), "limited", Handed::Later { why: "too_many", pause }),
        status if status.is_server_error() => {
            (Outcome::Failure(pause), "server_error", Handed::Later { why: "failed", pause })
        }
        // Passing, as with Expo: something between here and the push service has no time, or wants another connection.
        StatusCode::REQUEST_TIMEOUT => (Outcome::Failure(None), "timeout", Handed::Later { why: "timeout", pause }),
        StatusCode::MISDIRECTED_REQUEST | StatusCode::TOO_EARLY => {
            (Outcome::Failure(None), "turned_away", Handed::Later { why: "turned_away", pause })
        }
        status => {
            remind(status);
            (Outcome::Success, "refused", Handed::Later { why: REFUSED, pause: Some(SETUP_PAUSE) })
        }
    }
}
