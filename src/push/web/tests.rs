use std::sync::Mutex;

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use protocol::rest::PushKeys;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use super::*;
use crate::{auth::keys::ring, clock::SystemClock, ids::SystemEntropy, push::send_all, store::push::RegistrationId};

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
    let metrics = Arc::new(Metrics::new());
    WebPush::new(vapid, Arc::new(SystemClock), Arc::new(SystemEntropy), Duration::from_secs(3), anywhere, metrics)
        .unwrap()
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
        member: MemberId::from_bytes([3; 12]),
        composed: Instant::now(),
        address: PushAddress::Web { endpoint: endpoint.into(), keys },
        registration: RegistrationId::default(),
        what: What::Messages(Box::new(notice)),
        badge: 2,
        ttl: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn a_browser_is_sent_what_it_can_read_and_nobody_else() {
    let (seen, url) = service(StatusCode::CREATED).await;
    assert_eq!(
        send_all(&web(true), vec![parcel(&url, "hello"), parcel(&url, &"\"\u{1}é".repeat(4_000))]).await,
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
        (408, Handed::later("timeout")),
        (421, Handed::later("turned_away")),
        (425, Handed::later("turned_away")),
    ] {
        let (_, url) = service(StatusCode::from_u16(status).unwrap()).await;
        assert_eq!(send_all(&web(true), vec![parcel(&url, "hello")]).await, [becomes], "{status}");
    }
}

#[tokio::test]
async fn a_push_service_that_fails_is_left_alone_and_the_others_are_not() {
    let (web, (failing, bad), (_, good)) =
        (web(true), service(StatusCode::BAD_GATEWAY).await, service(StatusCode::CREATED).await);
    for _ in 0..20 {
        send_all(&web, vec![parcel(&bad, "hello")]).await;
    }
    assert_eq!(failing.lock().unwrap().0.len(), 5);
    assert_eq!(send_all(&web, vec![parcel(&bad, "hello"), parcel(&good, "hello")]).await[1], Handed::Taken);
}

/// An address that takes connections and answers them with nothing, or with the same again and again.
async fn trap(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/s/abc", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if answer.is_empty() {
                open.push(stream);
            } else {
                tokio::spawn(async move { while stream.write_all(answer).await.is_ok() {} });
            }
        }
    });
    url
}

fn of(member: u8, parcel: Parcel) -> Parcel {
    Parcel { member: MemberId::from_bytes([member; 12]), ..parcel }
}

#[tokio::test]
async fn a_slow_push_service_of_one_member_keeps_nothing_from_others() {
    let (hung, (seen, good)) = (trap(b"").await, service(StatusCode::CREATED).await);
    let mut parcels = vec![of(1, parcel(&hung, "hello")); 30];
    parcels.push(of(2, parcel(&good, "hello")));
    let web = web(true);
    let mut handed = web.send(parcels.clone());
    // Before any of those has had its time.
    assert_eq!(handed.next().await, Some((30, Handed::Taken)));
    let rest: Vec<(usize, Handed)> = handed.collect().await;
    let why = |why| rest.iter().filter(|(_, handed)| *handed == Handed::later(why)).count();
    assert_eq!(
        (why("timeout"), why("late")),
        (2, 28),
        "two at a time, and what has waited is found out again: {rest:?}"
    );
    assert_eq!(seen.lock().unwrap().0.len(), 1);
}

#[tokio::test]
async fn a_slow_push_service_has_few_requests_at_a_time_whoever_they_are_of() {
    let web = web(true);
    let hung = trap(b"").await;
    let handed = send_all(&web, (1..=10).map(|member| of(member, parcel(&hung, "hello"))).collect()).await;
    let tried = handed.iter().filter(|handed| **handed == Handed::later("timeout")).count();
    assert_eq!(tried, 4, "{handed:?}");
}

#[tokio::test]
async fn what_is_not_fresh_any_more_is_not_sent() {
    let (seen, url) = service(StatusCode::CREATED).await;
    let stale = Parcel { composed: Instant::now().checked_sub(FRESH * 2).unwrap(), ..parcel(&url, "hello") };
    assert_eq!(send_all(&web(true), vec![stale]).await, [Handed::late()]);
    assert!(seen.lock().unwrap().0.is_empty());
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_the_end() {
    for answer in [&b"HTTP/1.1 103 Early Hints\r\n\r\n"[..], b"HTTP/1.1 201 Created\r\nx: y\r\n", &[b'x'; 512]] {
        let url = trap(answer).await;
        let handed = send_all(&web(true), vec![parcel(&url, "hello")]).await;
        assert_eq!(handed, [Handed::later("unreachable")], "before the deadline");
    }
}

#[tokio::test]
async fn a_connection_is_used_for_many_requests() {
    let (seen, url) = service(StatusCode::CREATED).await;
    let web = web(true);
    for _ in 0..600 {
        assert_eq!(send_all(&web, vec![parcel(&url, "hello")]).await, [Handed::Taken], "what comes is counted anew");
    }
    assert_eq!(seen.lock().unwrap().0.len(), 600);
}

#[tokio::test]
async fn what_is_too_long_is_sent_again_without_its_text() {
    let (seen, url) = service(StatusCode::PAYLOAD_TOO_LARGE).await;
    assert_eq!(send_all(&web(true), vec![parcel(&url, &"x".repeat(900))]).await, [Handed::Refused("too_long")]);
    let lengths: Vec<usize> = seen.lock().unwrap().0.iter().map(|(_, body)| body.len()).collect();
    assert!(matches!(*lengths, [first, second] if second + 600 < first), "{lengths:?}");
}

#[tokio::test]
async fn a_push_service_that_says_too_many_is_left_alone_and_both_are_counted() {
    let (seen, url) = service(StatusCode::TOO_MANY_REQUESTS).await;
    let web = web(true);
    for _ in 0..8 {
        send_all(&web, vec![parcel(&url, "hello")]).await;
    }
    assert_eq!(seen.lock().unwrap().0.len(), 5);
    let metrics = web.metrics.render().unwrap();
    assert!(metrics.contains(r#"push_requests_total{service="web",outcome="limited"} 5"#), "{metrics}");
    assert!(metrics.contains(r#"push_circuit{service="web"} 2"#), "{metrics}");
}

#[tokio::test]
async fn the_own_network_is_not_reached() {
    let (seen, url) = service(StatusCode::CREATED).await;
    let web = web(false);
    let port = Url::parse(&url).unwrap().port().unwrap();
    for url in [url, format!("https://127.0.0.1:{port}/"), "https://localhost/".into()] {
        assert_eq!(send_all(&web, vec![parcel(&url, "hello")]).await, [Handed::Gone], "{url}");
    }
    // Leads to 127.0.0.1, where names are looked up at all: it is tried again, never reached.
    assert!(matches!(
        send_all(&web, vec![parcel("https://localhost.localdomain/", "x")]).await[0],
        Handed::Later { .. }
    ));
    assert!(seen.lock().unwrap().0.is_empty());
}
