//! Whom a request is for: a server that listens on this machine only answers to no name that can be another's.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Server, within};

/// The answer to one request, whose head is given without its last line.
async fn asked(addr: SocketAddr, head: &str, body: &str) -> String {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    let request = format!(
        "{head}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within("an answer", socket.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

/// Found by an attacker: a page of a host that resolves to 127.0.0.1 could register, and open a socket, on a server that took anybody
/// because only its own machine reaches it.
#[tokio::test]
async fn a_page_of_a_name_that_leads_here_reaches_nothing() {
    let server = Server::with(|settings| settings.registration.registration = None).await;
    let form = r#"{"name":"Eve","email":"eve@example.com","password":"a long enough password"}"#;
    for host in ["evil.com", "evil.com:8000", "localhost.evil.com", "club.example.com"] {
        for line in [
            "GET /api/members",
            "POST /api/auth/register",
            "GET /app/",
            "GET /",
            "GET /healthz",
            "OPTIONS /api/members",
        ] {
            let answer =
                asked(server.addr(), &format!("{line} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}"), form).await;
            assert_eq!(status(&answer), "421", "{line} for {host}: {answer}");
            assert!(answer.contains("PUBLIC_URL") && answer.contains("application/problem+json"), "{answer}");
            assert!(answer.contains("urn:members-book:problem:misdirected"), "{answer}");
        }
        let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        let head = format!("GET /ws HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n{upgrade}");
        assert_eq!(status(&asked(server.addr(), &head, "").await), "421");
    }
    for host in ["localhost:8000", "127.0.0.1", "[::1]:8000", "club.localhost", "192.168.1.5"] {
        let answer = asked(server.addr(), &format!("GET /healthz HTTP/1.1\r\nHost: {host}"), "").await;
        assert_eq!(status(&answer), "200", "{host}: {answer}");
    }
    let answer = asked(server.addr(), "POST /api/auth/register HTTP/1.1\r\nHost: localhost", form).await;
    assert_eq!(status(&answer), "201", "nothing was charged, and nobody registered: {answer}");
}

#[tokio::test]
async fn a_server_answers_to_the_name_that_it_is_told() {
    let server = Server::with(|settings| settings.listen.public_url = "https://club.example.com".to_owned()).await;
    let status_for = async |addr, host: &str| {
        let answer = asked(addr, &format!("GET /healthz HTTP/1.1\r\nHost: {host}"), "").await;
        status(&answer).to_owned()
    };
    assert_eq!(status_for(server.addr(), "club.example.com").await, "200");
    assert_eq!(status_for(server.addr(), "Club.Example.com:443").await, "200");
    assert_eq!(status_for(server.addr(), "other.example.com").await, "421");
    // Others reach it anyway, by whatever name: who may register is decided by that.
    let reached = Server::with(|settings| settings.listen.host = Ipv4Addr::UNSPECIFIED.into()).await;
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, reached.addr().port()));
    assert_eq!(status_for(addr, "club.example.com").await, "200");
}
