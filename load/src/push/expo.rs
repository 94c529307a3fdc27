//! A push service that behaves like Expo's: its limits, its tickets, its errors, and its bad days.

use std::{
    collections::{HashMap, VecDeque},
    io::Read as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};

use super::{
    facts::{Ledger, Notice, Push},
    trouble::{Mood, Trouble},
};

/// Messages of one request.
const BATCH: usize = 100;
/// Messages of a second, and of one more request: what was sent a moment apart may arrive together.
const PER_SECOND: usize = 600 + BATCH;
/// Requests at a time. A server that was killed leaves some behind, which are not counted as its own.
const AT_ONCE: usize = 6;
/// Bytes of a message.
const MESSAGE: usize = 4_096;

/// The service.
pub(crate) struct Expo {
    ledger: Arc<Ledger>,
    pub(crate) mood: Mood,
    /// Messages of the last second, by request.
    lately: Mutex<VecDeque<(Instant, usize)>>,
    /// How often a message was found too long: the second time it is taken.
    too_long: Mutex<HashMap<(String, String), u64>>,
    requests: Mutex<Vec<usize>>,
}

impl Expo {
    /// Starts it. Returns its base URL too.
    pub(crate) async fn start(ledger: Arc<Ledger>, seed: u64) -> Result<(Arc<Self>, String), String> {
        let (lately, too_long, requests) = Default::default();
        let service = Arc::new(Self { ledger, mood: Mood::new(seed), lately, too_long, requests });
        let router = Router::new()
            .route("/--/api/v2/push/send", post(send))
            .route("/--/api/v2/push/getReceipts", post(receipts))
            .with_state(Arc::clone(&service));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
        let url = format!("http://{}", listener.local_addr().map_err(|error| error.to_string())?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((service, url))
    }

    /// How many messages each request had.
    pub(crate) fn requests(&self) -> Vec<usize> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn complain(&self, about: String) {
        self.ledger.lock().complaints.push(format!("Expo: {about}"));
    }

    /// Checks a request as the service would, and notes it.
    fn count(&self, messages: &[Value], at_once: usize) {
        let count = messages.len();
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(count);
        if count > BATCH {
            self.complain(format!("{count} messages in one request"));
        }
        // Those of a server that was killed may still be here.
        let was_killed = self.ledger.lock().crashes.iter().any(|crash| crash.begun.elapsed() < Duration::from_secs(20));
        if at_once > AT_ONCE && !was_killed {
            self.complain(format!("{at_once} requests at a time"));
        }
        for message in messages {
            let bytes = message.to_string().len();
            if bytes > MESSAGE {
                self.complain(format!("a message of {bytes} bytes"));
            }
        }
        let now = Instant::now();
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.push_back((now, count));
        while lately.front().is_some_and(|(at, _)| now.duration_since(*at) > Duration::from_secs(1)) {
            lately.pop_front();
        }
        let in_a_second: usize = lately.iter().map(|(_, count)| count).sum();
        drop(lately);
        if in_a_second > PER_SECOND && !was_killed {
            self.complain(format!("{in_a_second} messages in a second"));
        }
    }

    /// What becomes of a message that is answered at all.
    fn ticket(&self, place: usize, number: usize) -> Value {
        let error = |error: &str| json!({ "status": "error", "message": "no", "details": { "error": error } });
        let mut facts = self.ledger.lock();
        let Some(push) = facts.push(place) else { return error("UnknownError") };
        let (address, body) = (push.address.clone(), push.notice.as_ref().map(|notice| notice.body.clone()));
        if self.mood.happens(20.0) {
            return error("MessageRateExceeded");
        }
        if self.mood.happens(5.0) {
            return error("SomethingNew");
        }
        if self.mood.happens(1.0) {
            push.is_put_off = true;
            return error("InvalidCredentials");
        }
        if let Some(body) = body
            && self.mood.happens(10.0)
        {
            // The text that comes instead is not found too long.
            let mut known = self.too_long.lock().unwrap_or_else(PoisonError::into_inner);
            if known.insert((address.clone(), body), 1).is_none() {
                push.is_too_long = true;
                return error("MessageTooBig");
            }
        }
        if self.mood.happens(4.0) && facts.goes(&address) {
            return error("DeviceNotRegistered");
        }
        if let Some(push) = facts.push(place) {
            push.taken = Some(Instant::now());
        }
        if self.mood.happens(200.0) {
            json!({ "status": "ok" })
        } else {
            json!({ "status": "ok", "id": format!("{place}-{number}") })
        }
    }
}

fn unzip(headers: &HeaderMap, body: &[u8]) -> Option<Value> {
    if headers.get(header::CONTENT_ENCODING)? != "gzip" {
        return None;
    }
    let mut json = String::new();
    GzDecoder::new(body).read_to_string(&mut json).ok()?;
    serde_json::from_str(&json).ok()
}

/// A message as it is noted. Nothing if it is none.
fn read(message: &Value) -> Option<Push> {
    let text = |name: &str| message.get(name)?.as_str().map(str::to_owned);
    let data = message.get("data")?;
    let address = text("to")?;
    let badge = u32::try_from(message.get("badge")?.as_u64()?).ok()?;
    let notice = match data.get("kind")?.as_str()? {
        "badge" if message.get("title").is_none() && message.get("body").is_none() => None,
        "message" => {
            let conversation = data.get("conversation")?.as_str()?;
            // A later one of the same conversation takes its place.
            if text("collapseId").as_deref() != Some(conversation) || text("tag").as_deref() != Some(conversation) {
                return None;
            }
            Some(Notice {
                conversation: conversation.parse().ok()?,
                seq: data.get("seq")?.as_u64()?,
                sender: data.get("sender")?.as_str()?.parse().ok(),
                body: text("body")?,
            })
        }
        _ => return None,
    };
    let (at, taken, is_put_off, is_too_long) = (Instant::now(), None, false, false);
    Some(Push { address, badge, notice, at, taken, is_put_off, is_too_long })
}

/// What a service answers that takes nothing.
pub(super) fn failure(trouble: Trouble) -> Response {
    match trouble {
        Trouble::Status(status, None) => (status, Json(json!({ "errors": [] }))).into_response(),
        Trouble::Status(status, Some(wait)) => (status, [(header::RETRY_AFTER, wait)]).into_response(),
        Trouble::Never => StatusCode::GATEWAY_TIMEOUT.into_response(),
        Trouble::Empty => Json(json!({ "data": [] })).into_response(),
        Trouble::Page => "<html><body>It works!</body></html>".into_response(),
    }
}

async fn send(State(service): State<Arc<Expo>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(Value::Array(messages)) = unzip(&headers, &body) else {
        service.complain("a request that is no compressed list".to_owned());
        return StatusCode::BAD_REQUEST.into_response();
    };
    let here = Here::enter(&service);
    service.count(&messages, here.at_once);
    let pushes: Vec<Push> = messages.iter().filter_map(read).collect();
    if pushes.len() != messages.len() {
        service.complain("a message that is none".to_owned());
        return StatusCode::BAD_REQUEST.into_response();
    }
    let place = service.ledger.lock().arrived(pushes);
    let trouble = service.mood.trouble();
    service.mood.take_time(trouble).await;
    if let Some(trouble) = trouble {
        return failure(trouble);
    }
    let tickets = (0..messages.len()).map(|number| service.ticket(place + number, number));
    Json(json!({ "data": tickets.collect::<Vec<Value>>() })).into_response()
}

async fn receipts(State(service): State<Arc<Expo>>, headers: HeaderMap, body: Bytes) -> Response {
    let asked = unzip(&headers, &body).and_then(|asked| asked.get("ids").and_then(Value::as_array).cloned());
    let Some(ids) = asked.filter(|ids| ids.len() <= 300) else {
        service.complain("a request for receipts that is none".to_owned());
        return StatusCode::BAD_REQUEST.into_response();
    };
    if let Some(trouble) = service.mood.trouble() {
        return failure(trouble);
    }
    // Some are not there yet.
    let known = ids.iter().filter_map(Value::as_str).filter(|_| !service.mood.happens(300.0));
    let data: serde_json::Map<_, _> = known.map(|id| (id.to_owned(), json!({ "status": "ok" }))).collect();
    Json(json!({ "data": data })).into_response()
}

/// A request that is here, until it is answered or given up by the server.
struct Here<'a> {
    service: &'a Expo,
    at_once: usize,
}

impl<'a> Here<'a> {
    fn enter(service: &'a Expo) -> Self {
        Self { service, at_once: service.mood.enter() }
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.service.mood.leave();
    }
}
