//! A push service that behaves like those of browsers (RFC 8030), and the browsers behind it, which decrypt what comes (RFC 8291).

use std::sync::{Arc, OnceLock};

use aes_gcm::{
    Aes128Gcm, KeyInit as _,
    aead::{Aead as _, Nonce},
};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use p256::{
    PublicKey, SecretKey,
    ecdh::diffie_hellman,
    ecdsa::{Signature, VerifyingKey, signature::Verifier as _},
    elliptic_curve::sec1::ToSec1Point as _,
};
use protocol::rest::{PushAddress, PushKeys};
use serde_json::Value;
use sha2::Sha256;
use tokio::{net::TcpListener, time::Instant};

use super::{
    expo::failure,
    facts::{Ledger, Notice, Push},
    trouble::Mood,
};

/// The secret of every browser here; they are told apart by their addresses.
const SECRET: [u8; 16] = [9; 16];

/// The service.
pub(crate) struct Web {
    ledger: Arc<Ledger>,
    pub(crate) mood: Mood,
    origin: String,
    key: SecretKey,
    /// The key that the server signs with, as it tells everybody.
    pub(crate) signed_by: OnceLock<String>,
    ttl: u64,
}

impl Web {
    /// Starts it. What comes may be so old at most, in seconds.
    pub(crate) async fn start(ledger: Arc<Ledger>, seed: u64, ttl: u64) -> Result<Arc<Self>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
        let origin = format!("http://{}", listener.local_addr().map_err(|error| error.to_string())?);
        let key = SecretKey::from_slice(&[7; 32]).map_err(|error| error.to_string())?;
        let (mood, signed_by) = (Mood::new(seed), OnceLock::new());
        let service = Arc::new(Self { ledger, mood, origin, key, signed_by, ttl });
        let router = Router::new().route("/s/{browser}", post(send)).with_state(Arc::clone(&service));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(service)
    }

    /// The subscription of a browser.
    pub(crate) fn subscription(&self, name: &str) -> PushAddress {
        let p256dh = URL_SAFE_NO_PAD.encode(self.key.public_key().to_sec1_point(false).as_bytes());
        let keys = PushKeys { p256dh, auth: URL_SAFE_NO_PAD.encode(SECRET) };
        PushAddress::Web { endpoint: format!("{}/s/{name}", self.origin), keys }
    }

    /// What a request says, for a browser with a name; or what is wrong with it.
    fn read(&self, name: &str, headers: &HeaderMap, body: &[u8]) -> Result<Push, &'static str> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let ttl: u64 = text("TTL").and_then(|ttl| ttl.parse().ok()).ok_or("no TTL")?;
        if ttl > self.ttl {
            return Err("a TTL that is longer than PUSH_TTL");
        }
        let is_topic = |topic: &str| (1..=32).contains(&topic.len()) && URL_SAFE_NO_PAD.decode(topic).is_ok();
        text("Topic").filter(|topic| is_topic(topic)).ok_or("no Topic")?;
        text("Urgency").filter(|urgency| *urgency == "high").ok_or("not of high Urgency")?;
        text("Content-Encoding").filter(|encoding| *encoding == "aes128gcm").ok_or("not encrypted")?;
        let signed = text("Authorization").and_then(|signed| self.is_signed(signed));
        signed.filter(|is_signed| *is_signed).ok_or("not signed with the key of the server")?;
        let said = self.open(body).and_then(|said| serde_json::from_slice::<Value>(&said).ok());
        let said = said.ok_or("something that cannot be decrypted")?;
        let text = |name: &str| said.get(name).and_then(Value::as_str);
        let (conversation, seq) = (text("conversation").and_then(|id| id.parse().ok()), said.get("seq"));
        let badge = said.get("badge").and_then(Value::as_u64).and_then(|badge| badge.try_into().ok());
        let notice = Notice {
            conversation: conversation.ok_or("no conversation")?,
            seq: seq.and_then(Value::as_u64).ok_or("no seq")?,
            sender: text("sender").and_then(|sender| sender.parse().ok()),
            body: text("body").ok_or("no text")?.to_owned(),
        };
        Ok(Push {
            address: format!("{}/s/{name}", self.origin),
            badge: badge.ok_or("no badge")?,
            notice: Some(notice),
            at: Instant::now(),
            taken: None,
            is_put_off: false,
            is_too_long: false,
        })
    }

    /// Whether the server has signed for this service (RFC 8292); nothing if it says nothing of that.
    fn is_signed(&self, authorization: &str) -> Option<bool> {
        let (token, key) = authorization.strip_prefix("vapid t=")?.split_once(", k=")?;
        let (signed, signature) = token.rsplit_once('.')?;
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let verifying = VerifyingKey::from_sec1_bytes(&bytes(key)?).ok()?;
        let signature = Signature::from_slice(&bytes(signature)?).ok()?;
        let claims: Value = serde_json::from_slice(&bytes(signed.rsplit_once('.')?.1)?).ok()?;
        let is_for_us = claims.get("aud")?.as_str()? == self.origin && claims.get("exp")?.is_i64();
        let is_its = self.signed_by.get().is_some_and(|known| known == key);
        Some(is_for_us && is_its && verifying.verify(signed.as_bytes(), &signature).is_ok())
    }

    /// Decrypts as a browser does.
    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (salt, rest) = sealed.split_at_checked(16)?;
        let (_size, rest) = rest.split_at_checked(4)?;
        let (length, rest) = rest.split_first()?;
        let (theirs, sealed) = rest.split_at_checked(usize::from(*length))?;
        let ours = self.key.public_key().to_sec1_point(false);
        let shared = diffie_hellman(self.key.to_nonzero_scalar(), PublicKey::from_sec1_bytes(theirs).ok()?.as_affine());
        let info = [b"WebPush: info\0", ours.as_bytes(), theirs].concat();
        let mut secret = [0; 32];
        Hkdf::<Sha256>::new(Some(&SECRET), shared.raw_secret_bytes()).expand(&info, &mut secret).ok()?;
        let derived = Hkdf::<Sha256>::new(Some(salt), &secret);
        let (mut key, mut nonce) = ([0; 16], Nonce::<Aes128Gcm>::default());
        derived.expand(b"Content-Encoding: aes128gcm\0", &mut key).ok()?;
        derived.expand(b"Content-Encoding: nonce\0", &mut nonce).ok()?;
        let mut text = Aes128Gcm::new(&key.into()).decrypt(&nonce, sealed).ok()?;
        // The end of the text is the last byte that is not zero.
        while text.pop()? != 2 {}
        Some(text)
    }
}

async fn send(State(service): State<Arc<Web>>, Path(name): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let push = match service.read(&name, &headers, &body) {
        Ok(push) => push,
        Err(problem) => {
            service.ledger.lock().complaints.push(format!("the push service of browsers: {problem}"));
            return StatusCode::BAD_REQUEST.into_response();
        }
    };
    let address = push.address.clone();
    let place = service.ledger.lock().arrived(vec![push]);
    let trouble = service.mood.trouble();
    service.mood.take_time(trouble).await;
    if let Some(trouble) = trouble {
        // What is empty or a page is a success all the same: nobody reads it.
        let failed = failure(trouble);
        return if failed.status().is_success() { StatusCode::INTERNAL_SERVER_ERROR.into_response() } else { failed };
    }
    let mut facts = service.ledger.lock();
    if service.mood.happens(4.0) && facts.goes(&address) {
        return StatusCode::GONE.into_response();
    }
    if let Some(push) = facts.push(place) {
        push.taken = Some(Instant::now());
    }
    StatusCode::CREATED.into_response()
}
