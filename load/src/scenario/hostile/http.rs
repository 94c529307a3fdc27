//! HTTP/1.1 as an attacker speaks it: requests over a bare socket, from any address, given up at any moment.

use std::{
    io::{self, ErrorKind::InvalidData},
    net::{IpAddr, SocketAddr},
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::wire::connect;

/// The largest line of an answer's head, in bytes.
const LINE_MAX: u64 = 16 * 1024;
/// The largest part of a body that is kept, in bytes; the rest is read and dropped.
const KEPT: usize = 1024 * 1024;

/// A connection.
pub(super) struct Http {
    stream: BufReader<TcpStream>,
}

/// An answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// Bytes of the body, those that were not kept too.
    pub(super) length: usize,
    /// Whether the connection takes another request.
    pub(super) stays: bool,
}

impl Http {
    pub(super) async fn connect(addr: SocketAddr, from: Option<IpAddr>) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(connect(addr, from, None).await?) })
    }

    /// Sends a request.
    pub(super) async fn send(&mut self, head: &str, body: &[u8]) -> io::Result<()> {
        self.stream.write_all(&request(head, body)).await
    }

    /// Waits for its answer.
    pub(super) async fn answer(&mut self) -> io::Result<Answer> {
        read(&mut self.stream).await
    }

    /// Sends a request and waits for the answer.
    pub(super) async fn ask(&mut self, head: &str, body: &[u8]) -> io::Result<Answer> {
        self.send(head, body).await?;
        self.answer().await
    }
}

/// One request on a connection of its own.
pub(super) async fn once(addr: SocketAddr, from: Option<IpAddr>, head: &str, body: &[u8]) -> io::Result<Answer> {
    Http::connect(addr, from).await?.ask(head, body).await
}

/// The bytes of a request; `head` is its first line without the version, and further lines if there are any.
pub(super) fn request(head: &str, body: &[u8]) -> Vec<u8> {
    let (first, more) = head.split_once('\n').unwrap_or((head, ""));
    let mut bytes = format!("{first} HTTP/1.1\r\nHost: localhost\r\n");
    for line in more.lines() {
        bytes.push_str(line.trim());
        bytes.push_str("\r\n");
    }
    if !body.is_empty() {
        bytes.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    bytes.push_str("\r\n");
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The status in the first bytes of an answer, such as `HTTP/1.1 200`.
pub(super) fn status_of(first: &[u8; 12]) -> &str {
    first.get(9..).and_then(|status| str::from_utf8(status).ok()).unwrap_or("?")
}

/// The head of a request with a token.
pub(super) fn signed(first: &str, token: &str) -> String {
    format!("{first}\nAuthorization: Bearer {token}")
}

/// The head of a request with a token and a JSON body.
pub(super) fn signed_json(first: &str, token: &str) -> String {
    format!("{first}\nContent-Type: application/json\nAuthorization: Bearer {token}")
}

async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Answer> {
    let first = line(stream).await?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut answer = Answer { status: status.ok_or(InvalidData)?, stays: true, ..Answer::default() };
    let (mut length, mut chunked) = (None, false);
    loop {
        let line = line(stream).await?;
        let Some((name, value)) = line.split_once(':') else { break };
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => length = value.parse::<u64>().ok(),
            ("transfer-encoding", value) => chunked = value.eq_ignore_ascii_case("chunked"),
            ("connection", value) => answer.stays &= !value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    if chunked {
        loop {
            let size = line(stream).await?;
            let size = u64::from_str_radix(size.split(';').next().unwrap_or_default(), 16);
            let size = size.map_err(|_| InvalidData)?;
            body(stream, size, &mut answer).await?;
            line(stream).await?;
            if size == 0 {
                return Ok(answer);
            }
        }
    }
    match length {
        Some(length) => body(stream, length, &mut answer).await?,
        None if matches!(answer.status, 101 | 204 | 304) => {}
        None => answer.stays = false,
    }
    Ok(answer)
}

async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut line = String::new();
    stream.take(LINE_MAX).read_line(&mut line).await?;
    if line.ends_with('\n') { Ok(line.trim_end().to_owned()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn body(stream: &mut (impl AsyncBufRead + Unpin), mut left: u64, answer: &mut Answer) -> io::Result<()> {
    while left > 0 {
        let bytes = stream.fill_buf().await?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let room = KEPT.saturating_sub(answer.body.len()).min(taken);
        answer.body.extend_from_slice(bytes.get(..room).unwrap_or_default());
        answer.length += taken;
        stream.consume(taken);
        left -= taken as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(text: &str) -> io::Result<Answer> {
        read(&mut text.as_bytes()).await
    }

    #[tokio::test]
    async fn answers_are_read_to_their_end_whatever_their_form() {
        let mut two = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No Content\r\n\r\n".as_bytes();
        let first = read(&mut two).await.unwrap();
        assert_eq!((first.status, first.body.as_slice(), first.stays), (200, b"ok".as_slice(), true));
        assert_eq!(read(&mut two).await.unwrap().status, 204);
        let chunked = answer("HTTP/1.1 429 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
            .await
            .unwrap();
        assert_eq!((chunked.status, chunked.body.as_slice(), chunked.length), (429, b"abc".as_slice(), 3));
        let closed = answer("HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        assert_eq!((closed.status, closed.stays), (503, false));
        for cut in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "x\r\n\r\n"] {
            assert!(answer(cut).await.is_err(), "{cut}");
        }
    }

    #[test]
    fn a_request_has_its_lines_and_its_body() {
        let bytes = request(&signed("GET /x", "t"), b"");
        assert_eq!(bytes, b"GET /x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer t\r\n\r\n");
        assert!(request("POST /x", b"{}").ends_with(b"Content-Length: 2\r\n\r\n{}"));
    }
}
