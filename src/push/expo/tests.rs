//! The client against a real HTTP server.

use std::{
    collections::VecDeque,
    io::Read as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
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
use protocol::{ConversationId, MemberId, MessageId, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::{
    clock::ManualClock,
    push::{Notice, What, send_all},
};

type Answers = VecDeque<(StatusCode, Value)>;

/// A service that gives the answers that it was told to, and tickets after those.
#[derive(Default)]
struct Fake {
    answers: Mutex<Answers>,
    receipts: Mutex<Answers>,
    requests: Mutex<Vec<(HeaderMap, Value)>>,
    /// With which status requests are answered that have one of these tokens.
    refused: Mutex<(u16, Vec<String>)>,
    /// How long an answer takes.
    slow: Mutex<Duration>,
}

async fn send(State(fake): State<Arc<Fake>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut json = String::new();
    GzDecoder::new(&*body).read_to_string(&mut json).unwrap();
    let request: Value = serde_json::from_str(&json).unwrap();
    let tickets = |count: usize| (0..count).map(|number| json!({ "status": "ok", "id": format!("t{number}") }));
    let messages = request.as_array().cloned().unwrap_or_default();
    let count = messages.len();
    fake.requests.lock().unwrap().push((headers, request));
    let slow = *fake.slow.lock().unwrap();
    tokio::time::sleep(slow).await;
    let tokens: Vec<&str> = messages.iter().filter_map(|message| message["to"].as_str()).collect();
    let (status, refused) = fake.refused.lock().unwrap().clone();
    if tokens.iter().any(|token| refused.iter().any(|refused| refused == token)) {
        return (StatusCode::from_u16(status).unwrap(), Json(json!({ "errors": [] }))).into_response();
    }
    let answer = fake.answers.lock().unwrap().pop_front();
    match answer {
        Some((status, answer)) => (status, [(header::RETRY_AFTER, "7")], Json(answer)).into_response(),
        None => Json(json!({ "data": tickets(count).collect::<Vec<_>>() })).into_response(),
    }
}

async fn receipts(State(fake): State<Arc<Fake>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut json = String::new();
    GzDecoder::new(&*body).read_to_string(&mut json).unwrap();
    fake.requests.lock().unwrap().push((headers, serde_json::from_str(&json).unwrap()));
    let (status, answer) = fake.receipts.lock().unwrap().pop_front().unwrap();
    (status, Json(answer)).into_response()
}

struct Bench {
    expo: Expo,
    fake: Arc<Fake>,
    clock: ManualClock,
    metrics: Arc<Metrics>,
}

fn expo_at(addr: SocketAddr) -> (Expo, ManualClock, Arc<Metrics>) {
    expo_of(&format!("http://{addr}"))
}

fn expo_of(url: &str) -> (Expo, ManualClock, Arc<Metrics>) {
    let (clock, metrics) = (ManualClock::at(Timestamp::from_millis(0)), Arc::new(Metrics::new()));
    let (url, token) = (url.parse().unwrap(), Some(SecretString::from("the-token")));
    let options = Options { url, token, deadline: Duration::from_secs(5) };
    (Expo::new(&options, Arc::new(clock.clone()), Arc::clone(&metrics)).unwrap(), clock, metrics)
}

async fn bench() -> Bench {
    let fake = Arc::<Fake>::default();
    let router = Router::new()
        .route("/--/api/v2/push/send", post(send))
        .route("/--/api/v2/push/getReceipts", post(receipts))
        .with_state(Arc::clone(&fake));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (expo, clock, metrics) = expo_at(listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    Bench { expo, fake, clock, metrics }
}

impl Bench {
    fn answer(&self, status: u16, answer: Value) {
        self.fake.answers.lock().unwrap().push_back((StatusCode::from_u16(status).unwrap(), answer));
    }

    /// How many messages each request had.
    fn sizes(&self) -> Vec<usize> {
        self.fake.requests.lock().unwrap().iter().map(|(_, request)| request.as_array().unwrap().len()).collect()
    }

    fn request(&self, number: usize) -> (HeaderMap, Value) {
        self.fake.requests.lock().unwrap()[number].clone()
    }
}

fn parcel(token: &str) -> Parcel {
    let notice = Notice {
        topic: [9; 16],
        conversation: ConversationId::from_bytes([1; 12]),
        seq: 1,
        message: Some((MessageId::from_bytes([2; 12]), MemberId::from_bytes([3; 12]))),
        title: Some("Ana".to_owned()),
        body: "Hello".to_owned(),
        without_text: "New message".to_owned(),
    };
    let address = PushAddress::Expo { token: format!("ExponentPushToken[{token}]") };
    // Each of a member of its own.
    let mut id = [9; 12];
    id.iter_mut().zip(token.bytes()).for_each(|(place, byte)| *place = byte);
    let (member, composed) = (MemberId::from_bytes(id), Instant::now());
    let (what, ttl) = (What::Messages(Box::new(notice)), Duration::from_secs(60));
    Parcel { member, composed, address, registration: RegistrationId(7), what, badge: 1, ttl }
}

fn parcels(count: usize) -> Vec<Parcel> {
    (0..count).map(|number| parcel(&number.to_string())).collect()
}

fn error(name: &str) -> Value {
    json!({ "status": "error", "message": "m", "details": { "error": name } })
}

#[tokio::test]
async fn a_hundred_go_in_one_compressed_request_with_the_token_of_the_project() {
    let bench = bench().await;
    let handed = send_all(&bench.expo, parcels(250)).await;
    assert_eq!(handed, vec![Handed::Taken; 250]);
    assert_eq!(bench.sizes(), [100, 100, 50]);
    let (headers, request) = bench.request(2);
    assert_eq!(headers["authorization"], "Bearer the-token");
    assert_eq!(headers["content-encoding"], "gzip");
    assert_eq!(request[49]["to"], "ExponentPushToken[249]", "in the order of the parcels");
    assert!(bench.metrics.render().unwrap().contains(r#"push_requests_total{service="expo",outcome="answered"} 3"#));
}

#[tokio::test]
async fn each_ticket_says_what_became_of_its_message() {
    let bench = bench().await;
    let names = ["DeviceNotRegistered", "MessageRateExceeded", "InvalidCredentials", "MismatchSenderId", "New"];
    let mut data = vec![json!({ "status": "ok", "id": "a" })];
    data.extend(names.map(error));
    bench.answer(200, json!({ "data": data }));
    let setup = Handed::Later { why: "setup", pause: Some(SETUP_PAUSE) };
    let (late, unknown) = (Handed::later("too_many"), Handed::later("no_ticket"));
    let expected = [Handed::Taken, Handed::Gone, late, setup, setup, unknown, unknown];
    assert_eq!(send_all(&bench.expo, parcels(7)).await, expected, "the last ticket is missing");
    assert_eq!(bench.expo.rests(), Duration::ZERO, "the service works");
}

#[tokio::test]
async fn what_is_too_long_is_sent_once_more_without_its_text() {
    let bench = bench().await;
    let too_long = error("MessageTooBig");
    bench.answer(200, json!({ "data": [{ "status": "ok", "id": "a" }, too_long, { "status": "ok", "id": "b" }] }));
    assert_eq!(send_all(&bench.expo, parcels(3)).await, [Handed::Taken; 3]);
    assert_eq!(bench.sizes(), [3, 1]);
    let (_, again) = bench.request(1);
    assert_eq!((&again[0]["to"], &again[0]["body"]), (&json!("ExponentPushToken[1]"), &json!("New message")));
    bench.answer(200, json!({ "data": [too_long] }));
    bench.answer(200, json!({ "data": [too_long] }));
    assert_eq!(send_all(&bench.expo, parcels(1)).await, [Handed::Refused("too_long")]);
    assert_eq!(bench.sizes(), [3, 1, 1, 1]);
}

#[tokio::test]
async fn a_service_that_says_too_many_is_left_alone_for_as_long_as_it_says() {
    let bench = bench().await;
    bench.answer(429, json!({}));
    let seven = Some(Duration::from_secs(7));
    assert_eq!(send_all(&bench.expo, parcels(1)).await, [Handed::Later { why: "limited", pause: seven }]);
    assert!(bench.expo.rests() > Duration::from_secs(6));
    let resting = send_all(&bench.expo, parcels(1)).await;
    assert!(matches!(*resting, [Handed::Later { why: "resting", pause: Some(_) }]), "{resting:?}");
    assert_eq!(bench.sizes(), [1], "nothing was asked");
    assert!(bench.metrics.render().unwrap().contains(r#"push_circuit{service="expo"} 2"#));
}

/// Whoever asks for one of these tokens is answered with this, whatever else is asked for.
fn refuse(bench: &Bench, status: u16, names: &[&str]) {
    let tokens = names.iter().map(|name| format!("ExponentPushToken[{name}]")).collect();
    *bench.fake.refused.lock().unwrap() = (status, tokens);
}

#[tokio::test]
async fn one_message_that_is_never_taken_keeps_no_other_back() {
    let bench = bench().await;
    refuse(&bench, 400, &["3"]);
    let expected = [Handed::Taken, Handed::Taken, Handed::Taken, Handed::Refused("refused")];
    assert_eq!(send_all(&bench.expo, parcels(4)).await, expected);
    let mut sizes = bench.sizes();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 2, 2, 4]);
    // The next time it is asked for alone.
    assert_eq!(send_all(&bench.expo, parcels(4)).await, expected);
    let mut sizes = bench.sizes().split_off(5);
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 3]);
}

#[tokio::test]
async fn a_project_that_wants_another_access_token_keeps_no_other_back() {
    for status in [401, 403] {
        let bench = bench().await;
        refuse(&bench, status, &["1"]);
        let unauthorized = Handed::Later { why: "unauthorized", pause: Some(SETUP_PAUSE) };
        for _ in 0..2 {
            assert_eq!(
                send_all(&bench.expo, parcels(3)).await,
                [Handed::Taken, unauthorized, Handed::Taken],
                "{status}"
            );
        }
        assert!(bench.expo.rests().is_zero(), "{status}");
    }
}

/// Whoever is let in by nobody must not ask 199 times for every hundred messages.
#[tokio::test]
async fn who_refuses_everything_is_left_alone_and_not_asked_for_each_message() {
    for (status, outcome) in [(401, "unauthorized"), (403, "forbidden"), (400, "refused")] {
        let bench = bench().await;
        let names: Vec<String> = (0..300).map(|number| number.to_string()).collect();
        refuse(&bench, status, &names.iter().map(String::as_str).collect::<Vec<_>>());
        let handed = send_all(&bench.expo, parcels(100)).await;
        let requests = bench.sizes().len();
        assert!(requests < 30, "{status}: {requests}");
        assert!(!bench.expo.rests().is_zero(), "{status}");
        let given_up = handed.iter().filter(|handed| matches!(handed, Handed::Refused(_))).count();
        assert!(given_up <= AT_ONCE, "{status}: {given_up}, {handed:?}");
        let metrics = bench.metrics.render().unwrap();
        let counted = format!(r#"push_requests_total{{service="expo",outcome="{outcome}"}} {requests}"#);
        assert!(metrics.contains(&counted) && metrics.contains(r#"push_circuit{service="expo"} 2"#), "{metrics}");
        // When it is time again it is asked a few times, and then all is well.
        tokio::time::pause();
        tokio::time::advance(COOLDOWN).await;
        tokio::time::resume();
        send_all(&bench.expo, parcels(300).split_off(200)).await;
        assert!(bench.sizes().len() - requests <= 4, "{status}: {:?}", bench.sizes());
        refuse(&bench, status, &[]);
        tokio::time::pause();
        tokio::time::advance(COOLDOWN).await;
        tokio::time::resume();
        let handed = send_all(&bench.expo, parcels(50)).await;
        assert!(handed.iter().filter(|handed| **handed == Handed::Taken).count() > 30, "{status}: {handed:?}");
        assert_eq!(send_all(&bench.expo, parcels(100)).await, vec![Handed::Taken; 100]);
    }
}

/// Of whom nobody else has to wait: a member may have 20 devices, and have anything registered for them.
#[tokio::test]
async fn whose_messages_are_all_refused_keeps_no_other_back() {
    for status in [403, 401] {
        whose_messages_are_all_refused_with(status).await;
    }
}

async fn whose_messages_are_all_refused_with(status: u16) {
    let bench = bench().await;
    let names: Vec<String> = (0..20).map(|number| (number * 5).to_string()).collect();
    refuse(&bench, status, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let of_one = |number: usize, parcel: Parcel| {
        let member = if number.is_multiple_of(5) { MemberId::from_bytes([1; 12]) } else { parcel.member };
        Parcel { member, ..parcel }
    };
    let parcels: Vec<Parcel> =
        parcels(100).into_iter().enumerate().map(|(number, parcel)| of_one(number, parcel)).collect();
    let taken = send_all(&bench.expo, parcels).await.into_iter().filter(|handed| *handed == Handed::Taken).count();
    assert_eq!((taken, bench.expo.rests()), (80, Duration::ZERO), "{status}: at once");
    // Those are asked for alone now, and say nothing about the others.
    let requests = bench.sizes().len();
    for _ in 0..3 {
        let of_one: Vec<Parcel> = names.iter().map(|name| parcel(name)).collect();
        send_all(&bench.expo, of_one).await;
    }
    assert!(bench.expo.rests().is_zero());
    assert_eq!(bench.sizes().len() - requests, 60);
}

/// Parcels of so many members with so many devices each, whose names begin with `bad`.
fn bad_ones(members: u8, devices: usize) -> (Vec<Parcel>, Vec<String>) {
    let names: Vec<(u8, String)> = (0..members)
        .flat_map(|member| (0..devices).map(move |device| (member, format!("bad-{member}-{device}"))))
        .collect();
    let parcels = names.iter().map(|(id, name)| Parcel { member: MemberId::from_bytes([*id; 12]), ..parcel(name) });
    (parcels.collect(), names.iter().map(|(_, name)| name.clone()).collect())
}

/// Found by a look from outside: nobody else got anything for minutes.
#[tokio::test]
async fn two_members_whose_messages_are_all_refused_keep_no_other_back() {
    for status in [401, 403, 400] {
        let bench = bench().await;
        let (bad, names) = bad_ones(2, 20);
        refuse(&bench, status, &names.iter().map(String::as_str).collect::<Vec<_>>());
        // The first time nobody knows that it is good: it is the last one, and what it is sent with is refused.
        let with_a_good_one = bad.iter().cloned().chain([parcel("good")]).collect();
        let handed = send_all(&bench.expo, with_a_good_one).await;
        assert_eq!(handed.last(), Some(&Handed::Taken), "{status}");
        assert_eq!(bench.expo.rests(), Duration::ZERO, "{status}");
        assert!(bench.sizes().len() <= 81, "{status}: {}", bench.sizes().len());
        // Those that were not asked for alone yet are, and those that were say nothing about others.
        for _ in 0..2 {
            send_all(&bench.expo, bad.clone()).await;
            assert_eq!(bench.expo.rests(), Duration::ZERO, "{status}");
            assert_eq!(
                send_all(&bench.expo, vec![parcel("new"), parcel("good")]).await,
                [Handed::Taken; 2],
                "{status}"
            );
        }
    }
}

/// Then it looks like everything, and is found out not to be with the next request.
#[tokio::test]
async fn however_many_members_have_bad_addresses_what_was_taken_before_is_tried_first() {
    let bench = bench().await;
    assert_eq!(send_all(&bench.expo, vec![parcel("good")]).await, [Handed::Taken]);
    let (bad, names) = bad_ones(90, 1);
    refuse(&bench, 401, &names.iter().map(String::as_str).collect::<Vec<_>>());
    send_all(&bench.expo, bad.clone()).await;
    assert!(!bench.expo.rests().is_zero());
    tokio::time::pause();
    tokio::time::advance(COOLDOWN).await;
    tokio::time::resume();
    let requests = bench.sizes().len();
    let (now, mut again) = (Instant::now(), bad[40..].to_vec());
    again.push(parcel("good"));
    again.iter_mut().for_each(|parcel| parcel.composed = now);
    let handed = send_all(&bench.expo, again).await;
    assert_eq!(handed.last(), Some(&Handed::Taken), "{handed:?}");
    assert_eq!(bench.sizes()[requests + 1], 1, "{:?}", bench.sizes());
    assert!(bench.expo.rests().is_zero(), "it is not everything");
    assert!(handed.iter().filter(|handed| **handed == Handed::later(DIVIDED)).count() > 40, "{handed:?}");
}

#[tokio::test]
async fn messages_of_several_projects_go_in_requests_of_their_own_and_at_once_the_next_time() {
    let bench = bench().await;
    let token = |number: usize| format!("ExponentPushToken[{number}]");
    let details = json!({ "@ana/one": [token(0), token(2)], "@ben/two": [token(1)] });
    let error = json!({ "code": "PUSH_TOO_MANY_EXPERIENCE_IDS", "message": "m", "details": details });
    bench.answer(400, json!({ "errors": [error] }));
    for _ in 0..2 {
        assert_eq!(send_all(&bench.expo, parcels(3)).await, [Handed::Taken; 3]);
    }
    let mut sizes = bench.sizes();
    assert_eq!(sizes[0], 3);
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 2, 2, 3]);
}

/// What was read, or of who has logged out, while the service took its time.
#[tokio::test]
async fn what_is_not_fresh_any_more_is_not_sent_in_a_further_request() {
    let bench = bench().await;
    refuse(&bench, 400, &["1"]);
    // Fresh when it is handed over, and not any more when it was answered.
    *bench.fake.slow.lock().unwrap() = FRESH + Duration::from_millis(300);
    assert_eq!(send_all(&bench.expo, parcels(4)).await, [Handed::late(); 4]);
    assert_eq!(bench.sizes(), [4]);
    let stale = |parcel| Parcel { composed: Instant::now().checked_sub(FRESH * 2).unwrap(), ..parcel };
    assert_eq!(send_all(&bench.expo, parcels(2).into_iter().map(stale).collect()).await, [Handed::late(); 2]);
    assert_eq!(bench.sizes(), [4]);
}

#[tokio::test]
async fn what_is_no_answer_of_the_service_loses_nothing() {
    let bench = bench().await;
    bench.answer(200, json!("<html>"));
    assert_eq!(send_all(&bench.expo, parcels(2)).await, [Handed::later("no_ticket"); 2]);
    bench.answer(404, json!({}));
    assert_eq!(send_all(&bench.expo, parcels(1)).await, [Handed::Later { why: "not_expo", pause: Some(SETUP_PAUSE) }]);
    bench.answer(403, json!({}));
    let unauthorized = Handed::Later { why: "unauthorized", pause: Some(SETUP_PAUSE) };
    assert_eq!(send_all(&bench.expo, parcels(1)).await, [unauthorized]);
}

/// It is nothing that is in the request, and over in a moment: nobody waits ten minutes for that.
#[tokio::test]
async fn who_stands_between_and_has_no_time_is_asked_again_soon() {
    let seven = Some(Duration::from_secs(7));
    for (status, why) in [(408, "timeout"), (421, "turned_away"), (425, "turned_away"), (307, "turned_away")] {
        let bench = bench().await;
        bench.answer(status, json!({}));
        assert_eq!(send_all(&bench.expo, parcels(1)).await, [Handed::Later { why, pause: seven }], "{status}");
        assert!(!bench.expo.rests().is_zero(), "{status}");
        assert_eq!(crate::push::may_be_taken(why), status == 408, "{status}");
    }
}

/// What is said was found out before that.
#[tokio::test]
async fn who_takes_too_long_to_be_connected_to_is_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Nobody answers the first word of TLS.
    let (expo, ..) = expo_of(&format!("https://{}", listener.local_addr().unwrap()));
    assert_eq!(send_all(&expo, parcels(1)).await, [Handed::later("unreachable")]);
}

#[tokio::test]
async fn nobody_at_the_other_end_is_left_alone_after_some_failures() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (expo, ..) = expo_at(listener.local_addr().unwrap());
    drop(listener);
    for _ in 0..FAILURES_MAX {
        assert_eq!(send_all(&expo, parcels(1)).await, [Handed::later("unreachable")]);
    }
    assert!(!expo.rests().is_zero());
}

#[tokio::test]
async fn receipts_are_asked_for_a_quarter_of_an_hour_later() {
    let bench = bench().await;
    assert_eq!(send_all(&bench.expo, parcels(2)).await, [Handed::Taken; 2]);
    assert!(bench.expo.found_gone().await.is_empty());
    assert_eq!(bench.sizes(), [2], "it is too early");
    bench.clock.advance(Duration::from_secs(15 * 60));
    let gone = error("DeviceNotRegistered");
    let data = json!({ "t0": { "status": "ok" }, "t1": gone });
    bench.fake.receipts.lock().unwrap().push_back((StatusCode::OK, json!({ "data": data })));
    let hash = AddressHash::of(&parcel("1").address);
    assert_eq!(bench.expo.found_gone().await, [(hash, RegistrationId(7))]);
    assert_eq!(bench.request(1).1, json!({ "ids": ["t0", "t1"] }));
    assert!(bench.expo.found_gone().await.is_empty(), "each once");
}

/// Without credentials of Apple Expo gives tickets, and receipts say it.
#[tokio::test]
async fn a_project_that_is_not_set_up_is_spoken_of_when_receipts_say_so() {
    let bench = bench().await;
    assert_eq!(send_all(&bench.expo, parcels(2)).await, [Handed::Taken; 2]);
    bench.clock.advance(Duration::from_secs(15 * 60));
    let data = json!({ "t0": error("InvalidCredentials"), "t1": error("MismatchSenderId") });
    bench.fake.receipts.lock().unwrap().push_back((StatusCode::OK, json!({ "data": data })));
    assert!(bench.expo.found_gone().await.is_empty(), "the devices are there");
    assert!(!bench.expo.reminders.setup.allows(), "it was said in this minute");
    assert!(bench.metrics.render().unwrap().contains(r#"push_receipts_total{outcome="setup"} 2"#));
}
