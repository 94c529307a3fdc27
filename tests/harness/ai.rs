//! A service with OpenAI's chat completions, that misbehaves on demand.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the service does with the next requests.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// Answers as it was asked, in the order of the candidates turned round.
    Answer,
    /// Answers with this as what the model says.
    Say(String),
    /// Answers with this status.
    Status(u16),
    /// Answers 429 and asks to be left alone for so many seconds.
    TooMany(u64),
    /// Never answers.
    Hang,
    /// Answers the half of it and goes away.
    Cut,
    /// Answers with this body.
    Body(String),
}

/// A running service.
pub struct AiService {
    url: Url,
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    requests: Mutex<Vec<(HeaderMap, Value)>>,
}

impl AiService {
    /// Starts it.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared { behaviour: Mutex::new(Behaviour::Answer), requests: Mutex::default() });
        let router = Router::new().route("/v1/chat/completions", post(complete)).with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    /// Its base URL.
    pub fn url(&self) -> Url {
        self.url.clone()
    }

    /// Changes what it does.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    /// The requests that it got, with their headers.
    pub fn requests(&self) -> Vec<(HeaderMap, Value)> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many requests it got.
    pub fn asked(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }
}

async fn complete(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let answer = answer(&request);
    shared.requests.lock().unwrap().push((headers, request));
    let behaviour = shared.behaviour.lock().unwrap().clone();
    match behaviour {
        Behaviour::Answer => Json(completion(&answer.to_string())).into_response(),
        Behaviour::Say(content) => Json(completion(&content)).into_response(),
        Behaviour::Status(status) => {
            let error = json!({ "error": { "message": "no", "type": "server_error" } });
            (StatusCode::from_u16(status).unwrap(), Json(error)).into_response()
        }
        Behaviour::TooMany(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())]).into_response()
        }
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Cut => {
            let whole = completion(&answer.to_string()).to_string();
            let half = Bytes::copy_from_slice(&whole.as_bytes()[..whole.len() / 2]);
            let chunks = [Ok(half), Err(std::io::Error::other("gone"))];
            Body::from_stream(futures_util::stream::iter(chunks)).into_response()
        }
        Behaviour::Body(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
    }
}

/// What the service says around what the model says.
fn completion(content: &str) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{
            "index": 0, "finish_reason": "stop", "logprobs": null,
            "message": { "role": "assistant", "content": content, "refusal": null },
        }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 },
    })
}

/// An answer that follows the schema of the request.
fn answer(request: &Value) -> Value {
    let data: Value = serde_json::from_str(request["messages"][1]["content"].as_str().unwrap()).unwrap();
    match request["response_format"]["json_schema"]["name"].as_str().unwrap() {
        "introductions" => {
            let candidates = data["candidates"].as_array().unwrap().iter().rev();
            let introduce = |(place, candidate): (usize, &Value)| {
                let confidence = 0.99 - 0.01 * f64::from(u8::try_from(place).unwrap());
                json!({ "candidate": candidate["candidate"], "reason": "The model says so.", "confidence": confidence })
            };
            json!({ "introductions": candidates.take(10).enumerate().map(introduce).collect::<Vec<_>>() })
        }
        "wordings" => {
            let fields = data["member"].as_object().unwrap().keys().filter(|field| *field != "tier");
            let word = |field: &String| json!({ "field": field, "suggestion": "In better words", "reason": "Clearer.", "confidence": 0.7 });
            json!({ "wordings": fields.map(word).collect::<Vec<_>>() })
        }
        other => panic!("{other}"),
    }
}
