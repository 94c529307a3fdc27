//! A push service that behaves like Expo's, and misbehaves on demand.

use std::{
    collections::{HashMap, VecDeque},
    io::Read as _,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::post,
};
use flate2::read::GzDecoder;
use members_book::config::Settings;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

use super::within;

/// What goes wrong with a whole request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is answered with this status.
    Status(u16),
    /// The answer has no ticket at all.
    NoTickets,
    /// It is not answered before it is let go.
    Held,
    /// Its messages are taken, and it is not answered before it is let go.
    TakenAndHeld,
    /// Its messages are taken, and it is answered with this status all the same.
    TakenAnd(u16),
}

#[derive(Default)]
struct Shared {
    /// Messages that were taken, in their order.
    taken: Mutex<Vec<Value>>,
    /// What goes wrong with the next requests.
    troubles: Mutex<VecDeque<Trouble>>,
    /// The errors of the next tickets for a token.
    tickets: Mutex<HashMap<String, VecDeque<&'static str>>>,
    /// The error of the receipts for a token.
    receipts: Mutex<HashMap<String, &'static str>>,
    /// How many messages each request had, those that failed included.
    requests: Mutex<Vec<usize>>,
    asked: Mutex<Vec<String>>,
    let_go: Notify,
    has_ids: Mutex<bool>,
}

/// A running service.
pub struct Expo {
    url: Url,
    shared: Arc<Shared>,
    /// How many of the messages that were taken were looked at.
    seen: usize,
}

impl Expo {
    /// Starts it.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared { has_ids: Mutex::new(true), ..Shared::default() });
        let router = Router::new()
            .route("/--/api/v2/push/send", post(send))
            .route("/--/api/v2/push/getReceipts", post(receipts))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared, seen: 0 }
    }

    /// Where it is.
    pub fn url(&self) -> Url {
        self.url.clone()
    }

    /// Has a server push over it, soon.
    pub fn set(&self, settings: &mut Settings) {
        settings.push.push_expo_url = self.url();
        settings.push.push_after = std::time::Duration::from_millis(100);
    }

    /// Has something go wrong with the next requests.
    pub fn next(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.shared.troubles.lock().unwrap().extend(troubles);
    }

    /// Lets requests go that are held.
    pub fn let_go(&self) {
        self.shared.let_go.notify_one();
    }

    /// The next tickets for a token are errors.
    pub fn refuse(&self, token: &str, errors: impl IntoIterator<Item = &'static str>) {
        self.shared.tickets.lock().unwrap().entry(token.to_owned()).or_default().extend(errors);
    }

    /// Receipts for a token say this.
    pub fn receipt(&self, token: &str, error: &'static str) {
        self.shared.receipts.lock().unwrap().insert(token.to_owned(), error);
    }

    /// Tickets have no ids from now on.
    pub fn without_ids(&self) {
        *self.shared.has_ids.lock().unwrap() = false;
    }

    /// How many messages each request had.
    pub fn requests(&self) -> Vec<usize> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The ids of tickets that were asked about.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The messages that were taken.
    pub fn taken(&self) -> Vec<Value> {
        self.shared.taken.lock().unwrap().clone()
    }

    /// The next message that was taken, to whomever.
    pub async fn expect(&mut self) -> Value {
        let place = self.seen;
        let next = within("a push", async {
            loop {
                let next = self.shared.taken.lock().unwrap().get(place).cloned();
                if let Some(next) = next {
                    return next;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        let next = next.await;
        self.seen += 1;
        next
    }
}

/// A token of the service.
pub fn token(name: &str) -> String {
    format!("ExponentPushToken[{name}]")
}

fn unzip(body: &[u8]) -> Value {
    let mut json = String::new();
    GzDecoder::new(body).read_to_string(&mut json).unwrap();
    serde_json::from_str(&json).unwrap()
}

async fn send(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let Value::Array(messages) = unzip(&body) else { panic!("not a list") };
    assert!(messages.len() <= 100, "{}", messages.len());
    assert!(messages.iter().all(|message| message.to_string().len() <= 4_096));
    shared.requests.lock().unwrap().push(messages.len());
    let trouble = shared.troubles.lock().unwrap().pop_front();
    match trouble {
        Some(Trouble::Status(status)) => {
            let status = StatusCode::from_u16(status).unwrap();
            return (status, Json(json!({ "errors": [] }))).into_response();
        }
        Some(Trouble::Held) => shared.let_go.notified().await,
        Some(Trouble::NoTickets) => return Json(json!({ "data": [] })).into_response(),
        Some(Trouble::TakenAndHeld | Trouble::TakenAnd(_)) | None => {}
    }
    let mut tickets = Vec::new();
    for message in messages {
        let token = message["to"].as_str().unwrap().to_owned();
        let error = shared.tickets.lock().unwrap().get_mut(&token).and_then(VecDeque::pop_front);
        let mut taken = shared.taken.lock().unwrap();
        tickets.push(match error {
            Some(error) => json!({ "status": "error", "message": "no", "details": { "error": error } }),
            None if *shared.has_ids.lock().unwrap() => {
                json!({ "status": "ok", "id": format!("{token}#{}", taken.len()) })
            }
            None => json!({ "status": "ok" }),
        });
        if error.is_none() {
            taken.push(message);
        }
    }
    match trouble {
        Some(Trouble::TakenAndHeld) => shared.let_go.notified().await,
        Some(Trouble::TakenAnd(status)) => return StatusCode::from_u16(status).unwrap().into_response(),
        _ => {}
    }
    Json(json!({ "data": tickets })).into_response()
}

async fn receipts(State(shared): State<Arc<Shared>>, body: Bytes) -> Json<Value> {
    let asked = unzip(&body);
    let mut data = serde_json::Map::new();
    for id in asked["ids"].as_array().unwrap() {
        let id = id.as_str().unwrap();
        shared.asked.lock().unwrap().push(id.to_owned());
        let token = id.split('#').next().unwrap();
        let receipt = match shared.receipts.lock().unwrap().get(token) {
            Some(error) => json!({ "status": "error", "message": "no", "details": { "error": error } }),
            None => json!({ "status": "ok" }),
        };
        data.insert(id.to_owned(), receipt);
    }
    Json(json!({ "data": data }))
}
