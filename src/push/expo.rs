//! Expo's push service (<https://docs.expo.dev/push-notifications/sending-notifications/>), for apps that were built with Expo.
//!
//! A request has up to 100 messages and is answered with a *ticket* for each: Expo has taken it, or says why not. What came of it at Apple or
//! Google is told by a *receipt*, which is asked for a quarter of an hour later, and of which only one thing matters here: that nobody is at
//! an address any more.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`message`] | a message as it is sent, in 4,096 bytes |
//! | [`lots`] | which messages go together in a request |
//! | [`answer`] | what is believed of what comes back |
//! | [`refusals`] | whether something in a request is refused, or whoever sends it |
//! | [`request`] | one request, and what its status means |
//! | [`receipts`] | which tickets are asked about, and when |

mod answer;
mod lots;
mod message;
mod receipts;
mod refusals;
mod request;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream, FuturesUnordered},
};
use protocol::rest::{PushAddress, PushService};
use reqwest::{Client, Url};
use secrecy::SecretString;
use tokio::{sync::Semaphore, time::Instant};

use self::{
    answer::{Ticket, Tickets},
    lots::{Known, Lot},
    message::Message,
    receipts::{Asked, Receipts},
    refusals::{Row, Scope},
    request::Trouble,
};
use super::{Courier, DIVIDED, FRESH, Handed, Parcel, REFUSED, pace::Pace};
use crate::{
    breaker::Breaker,
    clock::Clock,
    outbound,
    store::push::{AddressHash, RegistrationId},
    telemetry::{Metrics, Minutely},
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
/// How long connecting may take, TLS included: what is sent over the connection was found out before that.
const CONNECTING: Duration = Duration::from_secs(2);
/// How often a request is divided at most because of single messages in it: 100 are then alone, also where parts are not of the same size because
/// members have several.
const DIVISIONS: u32 = 12;

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
    known: Known,
    refused: Row,
    reminders: Reminders,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// What is said in the log once a minute.
#[derive(Default)]
struct Reminders {
    setup: Minutely,
    token: Minutely,
    forbidden: Minutely,
    refused: Minutely,
    not_expo: Minutely,
}

impl Expo {
    /// A client of the service.
    ///
    /// # Errors
    /// When the token cannot be sent or TLS cannot be set up; the message names the setting.
    pub fn new(options: &Options, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Result<Self, String> {
        let headers = outbound::bearer(options.token.as_ref()).map_err(|why| format!("EXPO_ACCESS_TOKEN: {why}"))?;
        let client = outbound::client(headers, options.deadline, CONNECTING.min(options.deadline));
        let client = client.map_err(|error| format!("PUSH_EXPO_URL: {error}"))?;
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
            known: Known::new(),
            refused: Row::new(),
            reminders: Reminders::default(),
            clock,
            metrics,
        })
    }

    /// Sends one request. Says what became of its messages, and what is to be sent in further ones: one that is refused as a whole is divided,
    /// because one message must not keep the others back.
    async fn attempt(&self, mut lot: Lot) -> (Vec<(usize, Handed)>, Vec<Lot>) {
        let mut ended = Vec::new();
        let trouble = match self.ask(&mut lot, &mut ended).await {
            Ok(tickets) => {
                let shorter = self.settle(lot, tickets, &mut ended);
                return (ended, shorter.into_iter().collect());
            }
            Err(trouble) => trouble,
        };
        let count = lot.items.len();
        let further = match trouble {
            Trouble::Resting => {
                ended.extend(lot.all(Handed::Later { why: "resting", pause: Some(self.rests()) }));
                Vec::new()
            }
            Trouble::Failed(why, pause) => {
                ended.extend(lot.all(Handed::Later { why, pause }));
                Vec::new()
            }
            Trouble::Refused if count <= 1 => {
                lot.items.iter().for_each(|(_, message)| self.known.refuse(message.hash));
                ended.extend(lot.all(Handed::Refused(REFUSED)));
                Vec::new()
            }
            // The project may want another access token than the club's, or none.
            Trouble::Forbidden if count <= 1 => {
                lot.items.iter().for_each(|(_, message)| self.known.refuse(message.hash));
                ended.extend(lot.all(Handed::Later { why: "unauthorized", pause: Some(SETUP_PAUSE) }));
                Vec::new()
            }
            _ if lot.divisions == 0 => {
                ended.extend(lot.all(Handed::later(DIVIDED)));
                Vec::new()
            }
            Trouble::Refused | Trouble::Forbidden if self.refused.is_everything() => {
                ended.extend(lot.sample(|message| self.doubt(message)));
                vec![Lot { divisions: lot.divisions.saturating_sub(1), ..lot }]
            }
            Trouble::Refused | Trouble::Forbidden => self.known.parts(lot),
            Trouble::Mixed(projects) => self.known.by_project(lot, projects),
        };
        (ended, further)
    }

    /// What tickets say. What was too long is to be sent once more without its text.
    fn settle(&self, lot: Lot, tickets: Vec<Ticket>, ended: &mut Vec<(usize, Handed)>) -> Option<Lot> {
        let mut too_long = Vec::new();
        for ((place, message), ticket) in lot.items.into_iter().zip(tickets) {
            if ticket == Ticket::TooLong
                && let Some(shorter) = message.without_text()
            {
                too_long.push((place, shorter));
                continue;
            }
            ended.push((place, self.outcome(&message, ticket)));
        }
        (!too_long.is_empty()).then_some(Lot { items: too_long, divisions: 0 })
    }

    fn outcome(&self, message: &Message, ticket: Ticket) -> Handed {
        match ticket {
            Ticket::Taken(id) => {
                let now = self.clock.now();
                self.receipts().add(id, (message.hash, message.registration), now);
                self.known.taken(message.hash);
                self.refused.taken(message.member);
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

    /// How much there is to be said against a message being taken, if anything is.
    fn doubt(&self, message: &Message) -> u8 {
        if self.known.is_good(message.hash) {
            0
        } else if self.refused.has_refused(message.member) {
            2
        } else {
            1
        }
    }

    /// What a receipt says. What Apple and Google want of a project is often known only then.
    fn receipt(&self, outcome: &'static str) {
        self.metrics.push_receipt(outcome);
        if outcome == answer::SETUP {
            self.remind();
        }
    }

    /// Says that the project is not set up as it has to be, not more often than every minute.
    fn remind(&self) {
        if self.reminders.setup.allows() {
            tracing::error!(
                "Expo cannot push to devices: the credentials of the project are missing or do not fit (docs/push.md)"
            );
        }
    }

    /// Sends a request and reads the tickets, one for each message. Messages that have waited too long for their turn are left out.
    async fn ask(&self, lot: &mut Lot, ended: &mut Vec<(usize, Handed)>) -> Result<Vec<Ticket>, Trouble> {
        let mut leave_out = |lot: &mut Lot| {
            let is_late = |(_, message): &mut (usize, Message)| message.composed.elapsed() > FRESH;
            ended.extend(lot.items.extract_if(.., is_late).map(|(place, _)| (place, Handed::late())));
        };
        let _place = self.places.acquire().await.map_err(|_| Trouble::Failed("stopped", None))?;
        leave_out(lot);
        if lot.items.is_empty() {
            return Ok(Vec::new());
        }
        self.pace.wait(lot.items.len()).await;
        leave_out(lot);
        if lot.items.is_empty() {
            return Ok(Vec::new());
        }
        if lot.is_part() && self.refused.is_everything() {
            // It is not because of what is in it.
            ended.extend(lot.sample(|message| self.doubt(message)));
        }
        let messages: Vec<&Message> = lot.items.iter().map(|(_, message)| message).collect();
        let scope = match &*messages {
            [one] if self.known.is_refused(one.hash) => Scope::Known,
            [one] => Scope::One(one.member),
            several => Scope::Several(several.iter().map(|message| message.member).collect()),
        };
        let body = serde_json::to_vec(&messages).map_err(|_| Trouble::Refused)?;
        let answer = self.request(self.send.clone(), &body, &scope).await?;
        self.refused.answered();
        match answer::tickets(&answer, messages.len()) {
            Tickets::Each(tickets) => Ok(tickets),
            Tickets::Mixed(projects) => Err(Trouble::Mixed(projects)),
            Tickets::Nonsense => {
                tracing::warn!("the push service gave an answer that cannot be used");
                Ok(vec![Ticket::Unknown; messages.len()])
            }
        }
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

    fn batches(&self) -> Option<usize> {
        Some(AT_ONCE)
    }

    fn send(&self, parcels: Vec<Parcel>) -> BoxStream<'_, (usize, Handed)> {
        let each = parcels.into_iter().enumerate();
        let (own, foreign): (Vec<_>, Vec<_>) =
            each.partition(|(_, parcel)| matches!(parcel.address, PushAddress::Expo { .. }));
        let ended: Vec<(usize, Handed)> =
            foreign.into_iter().map(|(place, _)| (place, Handed::Refused("not_expo"))).collect();
        let messages = own.into_iter().map(|(place, parcel)| (place, Message::new(parcel)));
        // At the same time: none is late because of another one.
        let attempts: FuturesUnordered<_> =
            self.known.lots(messages).into_iter().map(|lot| self.attempt(lot)).collect();
        stream::unfold((attempts, ended), move |(mut attempts, mut ended)| async move {
            while ended.is_empty() {
                let (more, further) = attempts.next().await?;
                ended = more;
                attempts.extend(further.into_iter().map(|lot| self.attempt(lot)));
            }
            let next = ended.pop()?;
            Some((next, (attempts, ended)))
        })
        .boxed()
    }

    async fn found_gone(&self) -> Vec<(AddressHash, RegistrationId)> {
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
            let Ok(answer) = self.request(self.receipts_at.clone(), &body, &Scope::Known).await else {
                self.receipts().again(asked, now);
                return gone;
            };
            let (found, open) = answer::receipts(&answer, asked, |outcome| self.receipt(outcome));
            gone.extend(found);
            self.receipts().again(open, now);
        }
    }
}
