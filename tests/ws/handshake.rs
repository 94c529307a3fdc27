//! The way from HTTP to the WebSocket, and what closes it before hello.

use std::time::Duration;

use futures_util::StreamExt as _;
use protocol::{CloseCode, ErrorCode, Problem};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::{self, Message, protocol::CloseFrame};

use crate::harness::{Client, Server, client::socket, within};

#[tokio::test]
async fn a_request_that_is_no_websocket_is_told_to_upgrade() {
    let server = Server::start().await;
    let response = server.http().get(server.url("/ws")).send().await.unwrap();
    assert_eq!(response.status(), 426);
    assert_eq!(response.headers()["upgrade"], "websocket");
    let problem: Problem = response.json().await.unwrap();
    assert_eq!(problem.code, ErrorCode::UpgradeRequired);
}

#[tokio::test]
async fn a_client_of_another_protocol_is_refused_and_one_that_names_none_is_welcome() {
    let server = Server::start().await;
    match socket(server.addr(), Some("graphql-ws")).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 422),
        other => panic!("{other:?}"),
    }
    let (_, response) = socket(server.addr(), None).await.unwrap();
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
    let (_, response) = socket(server.addr(), Some("membersbook.v9, membersbook.v1")).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "membersbook.v1");
}

#[tokio::test]
async fn frames_sent_together_with_the_handshake_are_read() {
    let server = Server::start().await;
    let mut stream = tokio::net::TcpStream::connect(server.addr()).await.unwrap();
    let handshake = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut bytes = handshake.as_bytes().to_vec();
    // A masked text frame with an empty mask: `{}`.
    bytes.extend([0x81, 0x82, 0, 0, 0, 0, b'{', b'}']);
    stream.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    within("the end", stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the key of RFC 6455, section 1.3");
    assert!(answer.contains(r#""code":"validation_failed""#), "{answer}");
}

#[tokio::test]
async fn without_hello_in_time_the_connection_is_closed() {
    let server = Server::with(|settings| settings.connections.hello_timeout = Duration::from_millis(50)).await;
    let mut client = Client::open(server.addr()).await;
    assert_eq!(client.expect_close().await.code, CloseCode::TimedOut);
}

#[tokio::test]
async fn a_silent_client_is_closed_and_heartbeats_keep_it() {
    let server = Server::with(|settings| settings.connections.heartbeat_interval = Duration::from_millis(100)).await;
    let ana = server.member("Ana").await;
    let (mut silent, mut alive) = (ana.connect_as("silent", None).await, ana.connect_as("alive", None).await);
    assert_eq!(alive.welcome.clone().unwrap().heartbeat_ms, 100);
    let beating = tokio::spawn(async move {
        let mut interval = tokio::time::interval(Duration::from_millis(50));
        for _ in 0..12 {
            interval.tick().await;
            alive.ping().await;
        }
    });
    assert_eq!(silent.expect_close().await.code, CloseCode::TimedOut);
    beating.await.unwrap();
}

#[tokio::test]
async fn what_is_not_the_protocol_is_closed_with_its_code() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let too_large = "x".repeat(protocol::limits::FRAME_MAX_BYTES + 1);
    for (message, code) in
        [(Message::binary(vec![1, 2, 3]), CloseCode::UnsupportedData), (Message::text(too_large), CloseCode::TooLarge)]
    {
        let mut client = ana.connect().await;
        client.send_raw(message).await;
        assert_eq!(client.expect_close().await.code, code);
    }
}

#[tokio::test]
async fn the_first_frame_is_no_larger_than_a_hello() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    let mut client = Client::open(server.addr()).await;
    client.send_text(&format!("{:width$}", "{}", width = protocol::limits::HELLO_MAX_BYTES + 1)).await;
    assert_eq!(client.expect_close().await.code, CloseCode::TooLarge);
    // What follows it at once may be as large as any other frame.
    let mut client = Client::open(server.addr()).await;
    client.say_hello(&ana.auth.access_token, "phone", None).await;
    client.send_text(&format!(r#"{{"type":"ping","id":"p"{:width$}}}"#, "", width = 40_000)).await;
    assert!(matches!(client.reply(&"p".parse().unwrap()).await, protocol::ServerFrame::Pong(_)));
}

#[tokio::test]
async fn a_close_frame_is_answered_with_one() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    for mut client in [ana.connect().await, Client::open(server.addr()).await] {
        let frame = CloseFrame { code: 1000.into(), reason: "bye".into() };
        client.send_raw(Message::Close(Some(frame))).await;
        assert_eq!(client.close_code().await, Some(1000));
    }
}

#[tokio::test]
async fn bytes_that_are_not_utf8_or_not_frames_are_closed_with_their_code() {
    let server = Server::start().await;
    let ana = server.member("Ana").await;
    for (bytes, code) in [
        // A masked text frame that holds 0xff.
        (vec![0x81, 0x81, 0, 0, 0, 0, 0xff], CloseCode::InvalidUtf8),
        // A reserved opcode.
        (vec![0x83, 0x80, 0, 0, 0, 0], CloseCode::ProtocolError),
        // A length in a longer form than it needs.
        (vec![0x81, 0xfe, 0, 2, 0, 0, 0, 0, b'{', b'}'], CloseCode::ProtocolError),
        // A close frame with a code that nobody may send (1005).
        (vec![0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed], CloseCode::ProtocolError),
        // A frame without a mask.
        (vec![0x81, 0x02, b'{', b'}'], CloseCode::ProtocolError),
    ] {
        let mut client = ana.connect().await;
        client.stream().write_all(&bytes).await.unwrap();
        assert_eq!(client.expect_close().await.code, code, "{bytes:x?}");
    }
}

#[tokio::test]
async fn a_ping_of_the_websocket_layer_is_answered() {
    let server = Server::start().await;
    let (mut client, _) = socket(server.addr(), None).await.unwrap();
    futures_util::SinkExt::send(&mut client, Message::Ping("hi".into())).await.unwrap();
    let pong = within("a pong", client.next()).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong("hi".into()));
}

#[tokio::test]
async fn more_connections_than_there_is_room_for_are_answered_503() {
    let server = Server::with(|settings| settings.connections.max_connections_per_address = 3).await;
    // Connections that are open but say nothing, so that the HTTP client's own do not count.
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut client = Client::open(server.addr()).await;
        client.send_raw(Message::Ping("".into())).await;
        open.push(client);
    }
    let refused = async || {
        let response = server.http().get(server.url("/api/members/me")).send().await.unwrap();
        (response.status().as_u16(), response.headers().contains_key("retry-after"))
    };
    assert_eq!(refused().await, (503, true));
    open.pop();
    crate::harness::eventually("a free place", async || (refused().await.0 == 401).then_some(())).await;
}
