//! Anything at all is answered by an error or a documented close code, and the server stays up.

use futures_util::{SinkExt as _, StreamExt as _};
use protocol::{ClientFrame, CloseCode, Envelope, ServerFrame};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message},
};

use crate::harness::{Member, Server, client, within};

const CASES: usize = 12_000;
/// Cases on one connection, as long as it stays.
const ON_ONE: usize = 40;

type Socket = WebSocketStream<TcpStream>;

/// A random value of any type.
fn value(random: &mut StdRng, depth: usize) -> Value {
    match random.random_range(0..if depth == 0 { 7 } else { 9 }) {
        0 => Value::Null,
        1 => json!(random.random::<bool>()),
        2 => json!(random.random::<i64>()),
        3 => json!(random.random::<f64>() * 1e300),
        4 => json!(random.random_range(0..10_u64)),
        5 => json!(text(random)),
        6 => json!(format!("{:024x}", random.random::<u64>())),
        7 => (0..random.random_range(0..4)).map(|_| value(random, depth - 1)).collect(),
        _ => Value::Object((0..random.random_range(0..4)).map(|_| (text(random), value(random, depth - 1))).collect()),
    }
}

fn text(random: &mut StdRng) -> String {
    let length = *[0, 1, 3, 10, 70, 5000].choose(random).unwrap();
    (0..length).map(|_| random.random::<char>()).collect()
}

/// A frame of the protocol, with something wrong or strange in it.
fn nearly_a_frame(random: &mut StdRng, examples: &[Map<String, Value>]) -> String {
    let mut frame = examples.choose(random).unwrap().clone();
    for _ in 0..random.random_range(0..3) {
        let keys: Vec<String> = frame.keys().cloned().collect();
        let key = keys.choose(random).cloned().unwrap_or_default();
        match random.random_range(0..4) {
            0 => drop(frame.remove(&key)),
            1 => drop(frame.insert(text(random), value(random, 3))),
            _ => drop(frame.insert(key, value(random, 3))),
        }
    }
    let mut text = Value::Object(frame).to_string();
    if random.random_ratio(1, 8) {
        // Broken somewhere.
        let mut cut = random.random_range(0..text.len());
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        text.truncate(cut);
    }
    text
}

fn case(random: &mut StdRng, examples: &[Map<String, Value>]) -> Message {
    match random.random_range(0..20) {
        0 => Message::binary((0..random.random_range(0..100)).map(|_| random.random()).collect::<Vec<u8>>()),
        1..4 => Message::text(text(random)),
        4..8 => Message::text(value(random, 4).to_string()),
        8 => Message::text(" ".repeat(random.random_range(0..70_000))),
        _ => Message::text(nearly_a_frame(random, examples)),
    }
}

fn examples(conversation: &str, other: &str) -> Vec<Map<String, Value>> {
    ClientFrame::TYPES
        .iter()
        .map(|name| {
            let path = format!("{}/protocol/golden/client/{name}.json", env!("CARGO_MANIFEST_DIR"));
            let mut example: Map<String, Value> =
                serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            for (key, value) in
                [("conversation", json!(conversation)), ("to", json!(other)), ("members", json!([other]))]
            {
                example.entry(key).and_modify(|old| *old = value);
            }
            example
        })
        .collect()
}

async fn connect(server: &Server, member: &Member) -> Socket {
    let (mut socket, _) = client::socket(server.addr(), None).await.unwrap();
    let hello = json!({
        "type": "hello", "token": member.auth.access_token, "device": { "id": "fuzz", "platform": "other" },
    });
    socket.send(Message::text(hello.to_string())).await.unwrap();
    loop {
        let Message::Text(text) = within("the sync", socket.next()).await.unwrap().unwrap() else { continue };
        if matches!(Envelope::decode(&text).unwrap().frame, ServerFrame::SyncDone(_)) {
            return socket;
        }
    }
}

/// Reads until the pong that ends a case, or the end of the connection; false for the latter.
async fn answered(socket: &mut Socket, marker: &str) -> bool {
    loop {
        match within("an answer", socket.next()).await {
            Some(Ok(Message::Text(text))) => {
                let envelope = Envelope::decode(&text).unwrap();
                if envelope.id.is_some_and(|id| id.as_str() == marker) {
                    return true;
                }
            }
            Some(Ok(Message::Close(Some(frame)))) => {
                let code = CloseCode::from_number(frame.code.into());
                assert!(code.is_some_and(|code| code != CloseCode::Internal), "{frame:?} is no documented close code");
                return false;
            }
            Some(Ok(_)) => {}
            Some(Err(tungstenite::Error::ConnectionClosed)) => return false,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn anything_is_answered_by_an_error_or_a_documented_close_code() {
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
    let mut random = StdRng::seed_from_u64(seed);
    println!("FUZZ_SEED={seed}");
    let server = Server::start().await;
    let (ana, ben) = server.two_members().await;
    let mut bens = ben.connect().await;
    let conversation = bens.say(ana.id, "hello").await.conversation.to_string();
    let examples = examples(&conversation, &ben.id.to_string());
    let mut cases = 0;
    while cases < CASES {
        let mut socket = connect(&server, &ana).await;
        for _ in 0..ON_ONE {
            cases += 1;
            let message = case(&mut random, &examples);
            let marker = format!("marker {cases}");
            let ping = json!({ "type": "ping", "id": marker }).to_string();
            // A connection that is closed meanwhile says so when it is read.
            let _ = socket.feed(message).await;
            let _ = socket.send(Message::text(ping)).await;
            if !answered(&mut socket, &marker).await {
                break;
            }
        }
    }
    // Nothing broke for anybody else.
    bens.ping().await;
    bens.say(ana.id, "still fine").await;
    assert_eq!(server.metric(r#"connections_closed_total{code="4500"}"#).await, 0.0);
}

#[tokio::test]
async fn random_bytes_on_the_port_harm_nobody() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = Server::start().await;
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..300 {
        let mut stream = TcpStream::connect(server.addr()).await.unwrap();
        let bytes: Vec<u8> = (0..random.random_range(0..2000)).map(|_| random.random()).collect();
        // The server may hang up in the middle of it.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = within("the end", stream.read_to_end(&mut answer)).await;
    }
    let (ana, ben) = server.two_members().await;
    ana.connect().await.say(ben.id, "still fine").await;
}
