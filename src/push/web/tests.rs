use std::sync::Mutex;

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use protocol::rest::PushKeys;
use tokio::net::TcpListener;

use super::*;
use crate::{auth::keys::ring, clock::SystemClock, ids::SystemEntropy};

/// What a push service was sent, and what it answers.
type Seen = Arc<Mutex<(Vec<(HeaderMap, Bytes)>, StatusCode)>>;

async fn service(answer: StatusCode) -> (Seen, String) {
    let seen = Seen::new(Mutex::new((Vec::new(), answer)));
    let take = |State(seen): State<Seen>, headers: HeaderMap, body: Bytes| async move {
        let mut seen = seen.lock().unwrap();
        seen.0.push((headers, body));
        let after = if seen.1 == StatusCode::TOO_MANY_REQUESTS { "7" } else { "" };
        (seen.1, [("retry-after", after)])
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/s/abc", listener.local_addr().unwrap());
    let router = Router::new().route("/s/abc", post(take)).with_state(Arc::clone(&seen));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (seen, url)
}

fn web(anywhere: bool) -> WebPush {
    let vapid = Vapid::new(&ring("a secret of the club", &[]), "mailto:ops@example.com".into()).unwrap();
    WebPush::new(vapid, Arc::new(SystemClock), Arc::new(SystemEntropy), Duration::from_secs(5), anywhere).unwrap()
}

fn parcel(endpoint: &str, body: &str) -> Parcel {
    let keys = PushKeys {
        p256dh: "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4".into(),
        auth: "BTBZMqHH6r4Tts7J_aSIgg".into(),
    };
    let notice = Notice {
        conversation: ConversationId::from_bytes([7; 12]),
        topic: [9; 16],
        seq: 3,
        message: None,
        title: Some("Ana".into()),
        body: body.into(),
        without_text: "A message".into(),
    };
    Parcel {
        address: PushAddress::Web { endpoint: endpoint.into(), keys },
        what: What::Messages(Box::new(notice)),
        badge: 2,
        ttl: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn a_browser_is_sent_what_it_can_read_and_nobody_else() {
    let (seen, url) = service(StatusCode::CREATED).await;
    assert_eq!(
        web(true).send(vec![parcel(&url, "hello"), parcel(&url, &"\"\u{1}é".repeat(4_000))]).await,
        [Handed::Taken; 2]
    );
    let seen = seen.lock().unwrap();
    for (headers, body) in &seen.0 {
        let header = |name| headers.get(name).unwrap().to_str().unwrap();
        assert_eq!((header("ttl"), header("urgency"), header("content-encoding")), ("60", "high", "aes128gcm"));
        assert_eq!(header("topic").len(), 32);
        assert!(header("authorization").starts_with("vapid t=ey"));
        assert!(body.len() <= 4_096 && !String::from_utf8_lossy(body).contains("hello"));
    }
    assert_eq!(seen.0.len(), 2);
}

#[tokio::test]
async fn what_push_services_say_is_understood() {
    for (status, becomes) in [
        (201, Handed::Taken),
        (404, Handed::Gone),
        (410, Handed::Gone),
        (413, Handed::Refused("too_long")),
        (429, Handed::Later { why: "too_many", pause: Some(Duration::from_secs(7)) }),
        (403, Handed::Later { why: "refused", pause: Some(SETUP_PAUSE) }),
        (302, Handed::Later { why: "refused", pause: Some(SETUP_PAUSE) }),
        (503, Handed::later("failed")),
    ] {
        let (_, url) = service(StatusCode::from_u16(status).unwrap()).await;
        assert_eq!(web(true).send(vec![parcel(&url, "hello")]).await, [becomes], "{status}");
    }
}

#[tokio::test]
async fn a_push_service_that_fails_is_left_alone_and_the_others_are_not() {
    let (web, (failing, bad), (_, good)) =
        (web(true), service(StatusCode::BAD_GATEWAY).await, service(StatusCode::CREATED).await);
    for _ in 0..20 {
        web.send(vec![parcel(&bad, "hello")]).await;
    }
    assert_eq!(failing.lock().unwrap().0.len(), 5);
    assert_eq!(web.send(vec![parcel(&bad, "hello"), parcel(&good, "hello")]).await[1], Handed::Taken);
}

/// Nobody is told what was true before others' push services hung.
#[tokio::test]
async fn what_had_to_wait_for_others_is_found_out_again() {
    // It takes connections, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hung = format!("http://{}/s/abc", listener.local_addr().unwrap());
    let (seen, good) = service(StatusCode::CREATED).await;
    let mut parcels = vec![parcel(&hung, "hello"); AT_ONCE];
    parcels.push(parcel(&good, "hello"));
    let web = web(true);
    let handed = web.send(parcels.clone()).await;
    assert!(handed.iter().all(|handed| matches!(handed, Handed::Later { .. })), "{handed:?}");
    assert!(seen.lock().unwrap().0.is_empty());
    assert_eq!(web.send(parcels.split_off(AT_ONCE)).await, [Handed::Taken]);
    drop(listener);
}

#[tokio::test]
async fn the_own_network_is_not_reached() {
    let (seen, url) = service(StatusCode::CREATED).await;
    let web = web(false);
    let port = Url::parse(&url).unwrap().port().unwrap();
    for url in [url, format!("https://127.0.0.1:{port}/"), "https://localhost/".into()] {
        assert_eq!(web.send(vec![parcel(&url, "hello")]).await, [Handed::Gone], "{url}");
    }
    // Leads to 127.0.0.1, where names are looked up at all: it is tried again, never reached.
    assert!(matches!(web.send(vec![parcel("https://localhost.localdomain/", "x")]).await[0], Handed::Later { .. }));
    assert!(seen.lock().unwrap().0.is_empty());
}
