//! Expo's push service (<https://docs.expo.dev/push-notifications/sending-notifications/>), for apps that were built with Expo.
//!
//! A request has up to 100 messages and is answered with a *ticket* for each: Expo has taken it, or says why not. What came of it at Apple or
//! Google is told by a *receipt*, which is asked for a quarter of an hour later, and of which only one thing matters here: that nobody is at
//! an address any more.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`message`] | a message as it is sent, in 4,096 bytes |
//! | [`answer`] | what is believed of what comes back |
//! | [`receipts`] | which tickets are asked about, and when |

mod answer;
mod message;
mod receipts;
#[cfg(test)]
mod tests;

use std::{
    io::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use flate2::{Compression, write::GzEncoder};
use protocol::{
    Timestamp,
    rest::{PushAddress, PushService},
};
use reqwest::{
    Client, StatusCode, Url,
    header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE},
};
use secrecy::SecretString;
use tokio::{sync::Semaphore, time::Instant};

use self::{
    answer::{Ticket, Tickets},
    message::Message,
    receipts::{Asked, Receipts},
};
use super::{Courier, Handed, Parcel, pace::Pace};
use crate::{
    breaker::{Breaker, Condition, Leave, Outcome},
    clock::Clock,
    outbound,
    store::push::AddressHash,
    telemetry::Metrics,
};

/// Messages in one request.
pub const BATCH: usize = 100;
/// Requests at a time, as Expo wants it.
const AT_ONCE: usize = 6;
/// Messages a second of one project.
const PER_SECOND: u32 = 600;
/// Longest answer, in bytes: a ticket has about 150.
const ANSWER_MAX_BYTES: usize = 256 * 1024;
/// Failures in a row after which the service is left alone.
const FAILURES_MAX: u32 = 5;
/// How long it is left alone before one request is tried.
const COOLDOWN: Duration = Duration::from_secs(10);
/// When a message is tried again that fails because of how the project is set up at Expo.
const SETUP_PAUSE: Duration = Duration::from_secs(600);
/// How often that is said in the log.
const SETUP_REMIND: Duration = Duration::from_secs(60);
/// How often a request is divided at most because of single messages in it: 100 are then alone.
const DIVISIONS: u32 = 7;

/// Where the service is.
pub struct Options {
    /// Its base URL: `https://exp.host`, or that of a stand-in.
    pub url: Url,
    /// The access token, where the project wants one.
    pub token: Option<SecretString>,
    /// How long a request may take.
    pub deadline: Duration,
}

/// The client of Expo's service.
pub struct Expo {
    client: Client,
    send: Url,
    receipts_at: Url,
    breaker: Breaker,
    places: Semaphore,
    pace: Pace,
    receipts: Mutex<Receipts>,
    reminded: Mutex<Option<Instant>>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// Why a request has no answer that can be used.
enum Trouble {
    /// The circuit is open: nothing was sent.
    Resting,
    /// It may be answered later.
    Failed(&'static str, Option<Duration>),
    /// Something in it is never taken.
    Refused,
    /// It has messages of several projects: the addresses of each.
    Mixed(Vec<Vec<String>>),
}

impl Expo {
    /// A client of the service.
    ///
    /// # Errors
    /// When the token cannot be sent or TLS cannot be set up; the message names the setting.
    pub fn new(options: &Options, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Result<Self, String> {
        let headers = outbound::bearer(options.token.as_ref()).map_err(|why| format!("EXPO_ACCESS_TOKEN: {why}"))?;
        let client = outbound::client(headers, options.deadline).map_err(|error| format!("PUSH_EXPO_URL: {error}"))?;
        let endpoint = |name: &str| {
            let mut url = options.url.clone();
            let mut segments = url.path_segments_mut().map_err(|()| "PUSH_EXPO_URL: not a base URL".to_owned())?;
            segments.pop_if_empty().extend(["--", "api", "v2", "push", name]);
            drop(segments);
            Ok::<_, String>(url)
        };
        Ok(Self {
            client,
            send: endpoint("send")?,
            receipts_at: endpoint("getReceipts")?,
            breaker: Breaker::new(FAILURES_MAX, COOLDOWN),
            places: Semaphore::new(AT_ONCE),
            pace: Pace::new(PER_SECOND),
            receipts: Mutex::default(),
            reminded: Mutex::default(),
            clock,
            metrics,
        })
    }

    /// Sends up to [`BATCH`] messages. A request that is refused as a whole is divided: one message must not keep the others back.
    async fn batch(&self, messages: Vec<Message>, divisions: u32) -> Vec<Handed> {
        let count = messages.len();
        let trouble = match self.ask(&messages).await {
            Ok(tickets) => return self.settle(messages, tickets).await,
            Err(trouble) => trouble,
        };
        let parts = match trouble {
            Trouble::Resting => return vec![Handed::Later { why: "resting", pause: Some(self.rests()) }; count],
            Trouble::Failed(why, pause) => return vec![Handed::Later { why, pause }; count],
            Trouble::Refused if count <= 1 => return vec![Handed::Refused("refused"); count],
            Trouble::Refused | Trouble::Mixed(_) if divisions == 0 => return vec![Handed::later("refused"); count],
            Trouble::Refused => halves(messages),
            Trouble::Mixed(projects) => by_project(messages, &projects),
        };
        let mut handed = vec![Handed::later("refused"); count];
        for part in parts {
            let (places, messages): (Vec<usize>, Vec<Message>) = part.into_iter().unzip();
            for (place, outcome) in places.into_iter().zip(Box::pin(self.batch(messages, divisions - 1)).await) {
                if let Some(handed) = handed.get_mut(place) {
                    *handed = outcome;
                }
            }
        }
        handed
    }

    /// What tickets say. What was too long is sent once more without its text.
    async fn settle(&self, messages: Vec<Message>, tickets: Vec<Ticket>) -> Vec<Handed> {
        let (mut handed, mut too_long) = (Vec::with_capacity(messages.len()), Vec::new());
        for (place, (message, ticket)) in messages.into_iter().zip(tickets).enumerate() {
            if ticket == Ticket::TooLong
                && let Some(shorter) = message.without_text()
            {
                too_long.push((place, shorter));
                handed.push(Handed::Refused("too_long"));
                continue;
            }
            handed.push(self.outcome(&message, ticket));
        }
        if too_long.is_empty() {
            return handed;
        }
        let (places, messages): (Vec<usize>, Vec<Message>) = too_long.into_iter().unzip();
        for (place, outcome) in places.into_iter().zip(Box::pin(self.batch(messages, 0)).await) {
            if let Some(handed) = handed.get_mut(place) {
                *handed = outcome;
            }
        }
        handed
    }

    fn outcome(&self, message: &Message, ticket: Ticket) -> Handed {
        match ticket {
            Ticket::Taken(id) => {
                let now = self.clock.now();
                self.receipts().add(id, message.hash, now);
                Handed::Taken
            }
            Ticket::Gone => Handed::Gone,
            Ticket::TooLong => Handed::Refused("too_long"),
            Ticket::TooMany => Handed::later("too_many"),
            Ticket::Setup => {
                self.remind();
                Handed::Later { why: "setup", pause: Some(SETUP_PAUSE) }
            }
            Ticket::Unknown => Handed::later("no_ticket"),
        }
    }

    /// Says that the project is not set up as it has to be, not more often than every minute.
    fn remind(&self) {
        let now = Instant::now();
        let mut reminded = self.reminded.lock().unwrap_or_else(PoisonError::into_inner);
        if reminded.is_none_or(|at| now.duration_since(at) >= SETUP_REMIND) {
            *reminded = Some(now);
            tracing::error!(
                "Expo cannot push to devices: the credentials of the project are missing or do not fit (docs/push.md)"
            );
        }
    }

    /// Sends a request and reads the tickets, one for each message.
    async fn ask(&self, messages: &[Message]) -> Result<Vec<Ticket>, Trouble> {
        let body = serde_json::to_vec(messages).map_err(|_| Trouble::Refused)?;
        let _place = self.places.acquire().await.map_err(|_| Trouble::Failed("stopped", None))?;
        self.pace.wait(messages.len()).await;
        let answer = self.request(self.send.clone(), &body).await?;
        match answer::tickets(&answer, messages.len()) {
            Tickets::Each(tickets) => Ok(tickets),
            Tickets::Mixed(projects) => Err(Trouble::Mixed(projects)),
            Tickets::Nonsense => {
                tracing::warn!("the push service gave an answer that cannot be used");
                Ok(vec![Ticket::Unknown; messages.len()])
            }
        }
    }

    /// Sends a request, as far as the circuit lets it through, and reads its answer.
    async fn request(&self, url: Url, body: &[u8]) -> Result<Vec<u8>, Trouble> {
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
                let why = if error.is_timeout() { "timeout" } else { "unreachable" };
                tracing::warn!(reason = outbound::reason(&error), why, "the push service was not reached");
                return Err(leave.fail(why, None));
            }
        };
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            let pause = outbound::retry_after(response.headers());
            let why = if status.is_server_error() { "server_error" } else { "limited" };
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
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                leave.end(Outcome::Success, "refused");
                tracing::error!(status = status.as_u16(), "Expo refuses the access token (EXPO_ACCESS_TOKEN)");
                Err(Trouble::Failed("unauthorized", Some(SETUP_PAUSE)))
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
                leave.end(Outcome::Success, "refused");
                tracing::warn!(status = status.as_u16(), "the push service refused a request");
                Err(answer::mixed(&answer).map_or(Trouble::Refused, Trouble::Mixed))
            }
            _ => {
                leave.end(Outcome::Success, "not_expo");
                tracing::error!(status = status.as_u16(), "that is no answer of Expo's push service (PUSH_EXPO_URL)");
                Err(Trouble::Failed("not_expo", Some(SETUP_PAUSE)))
            }
        }
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

    fn receipts(&self) -> MutexGuard<'_, Receipts> {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Courier for Expo {
    fn service(&self) -> PushService {
        PushService::Expo
    }

    fn rests(&self) -> Duration {
        self.breaker.rests(Instant::now())
    }

    fn is_silent(&self) -> bool {
        true
    }

    async fn send(&self, parcels: Vec<Parcel>) -> Vec<Handed> {
        let count = parcels.len();
        let mut handed = vec![Handed::Refused("not_expo"); count];
        let (mut places, mut messages) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (place, parcel) in parcels.into_iter().enumerate() {
            let PushAddress::Expo { .. } = parcel.address else { continue };
            places.push(place);
            messages.push(Message::new(parcel));
        }
        let mut outcomes = Vec::with_capacity(messages.len());
        while !messages.is_empty() {
            let rest = messages.split_off(messages.len().min(BATCH));
            outcomes.extend(self.batch(std::mem::replace(&mut messages, rest), DIVISIONS).await);
        }
        for (place, outcome) in places.into_iter().zip(outcomes) {
            if let Some(handed) = handed.get_mut(place) {
                *handed = outcome;
            }
        }
        handed
    }

    async fn found_gone(&self) -> Vec<(AddressHash, Timestamp)> {
        let mut gone = Vec::new();
        loop {
            let now = self.clock.now();
            let asked = if self.rests().is_zero() { self.receipts().due(now) } else { Vec::new() };
            if asked.is_empty() {
                return gone;
            }
            let ids: Vec<&str> = asked.iter().map(|Asked { id, .. }| id.as_str()).collect();
            let body = serde_json::to_vec(&serde_json::json!({ "ids": ids })).unwrap_or_default();
            let Ok(_place) = self.places.acquire().await else { return gone };
            let Ok(answer) = self.request(self.receipts_at.clone(), &body).await else {
                self.receipts().again(asked, now);
                return gone;
            };
            let (found, open) = answer::receipts(&answer, asked, |outcome| self.metrics.push_receipt(outcome));
            gone.extend(found);
            self.receipts().again(open, now);
        }
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

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

/// Both halves, each message with its place.
fn halves(messages: Vec<Message>) -> Vec<Vec<(usize, Message)>> {
    let mut first: Vec<(usize, Message)> = messages.into_iter().enumerate().collect();
    let second = first.split_off(first.len() / 2);
    vec![first, second]
}

/// One part for each project, each message with its place; those of no project that was named are one more.
fn by_project(messages: Vec<Message>, projects: &[Vec<String>]) -> Vec<Vec<(usize, Message)>> {
    let mut parts: Vec<Vec<(usize, Message)>> = vec![Vec::new(); projects.len() + 1];
    for (place, message) in messages.into_iter().enumerate() {
        let project = projects.iter().position(|tokens| tokens.contains(&message.to));
        if let Some(part) = parts.get_mut(project.unwrap_or(projects.len())) {
            part.push((place, message));
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}
