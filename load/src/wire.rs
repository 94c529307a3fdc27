//! The WebSocket layer of a client (RFC 6455), made for load.
//!
//! Frames are taken out of the read buffer without a copy and written into one buffer that goes out at once, so that the
//! clients cost little beside the server. It does what a client of this protocol needs and no more: whole text frames.

use std::{future::poll_fn, io, pin::Pin, task::Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use protocol::SUBPROTOCOL;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::io::{poll_read_buf, poll_write_buf};

/// Why a connection is no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// It could not be opened, or it broke.
    #[error("{0}")]
    Broken(String),
    /// The server closed it with this code.
    #[error("closed with {0}")]
    Closed(u16),
    /// The server said something that is not the protocol.
    #[error("not the protocol: {0}")]
    Foreign(String),
}

pub(crate) fn broken(error: impl std::fmt::Display) -> Ended {
    Ended::Broken(error.to_string())
}

fn foreign(what: impl Into<String>) -> Ended {
    Ended::Foreign(what.into())
}

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const LAST: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Masking is there to confuse proxies that are in the way (RFC 6455, section 10.3); there are none here.
const MASK: [u8; 4] = [0x37, 0xA5, 0x5A, 0xC1];
/// The largest frame that is taken from the server, in bytes.
const FRAME_MAX: usize = 4 * 1024 * 1024;

/// The client's end of a WebSocket.
pub(crate) struct Wire<S> {
    stream: S,
    inbox: BytesMut,
    outbox: BytesMut,
    /// Bytes asked for at once.
    chunk: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Over a stream that speaks WebSocket already; reads this many bytes at once.
    pub(crate) fn new(stream: S, chunk: usize) -> Self {
        Self { stream, inbox: BytesMut::new(), outbox: BytesMut::new(), chunk }
    }

    /// Asks for the upgrade and waits until it is granted.
    pub(crate) async fn upgrade(&mut self, host: &str, path: &str) -> Result<(), Ended> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
        );
        self.outbox.extend_from_slice(request.as_bytes());
        let end = loop {
            self.turn().await?;
            if let Some(at) = self.inbox.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.inbox.len() > 64 * 1024 {
                return Err(foreign("an answer to the upgrade without an end"));
            }
        };
        let head = self.inbox.split_to(end);
        let head = String::from_utf8_lossy(&head);
        let status = head.lines().next().unwrap_or_default();
        if status.contains(" 101 ") { Ok(()) } else { Err(broken(format!("the upgrade: {status}"))) }
    }

    /// Puts a text frame, given in parts, into the buffer that the next turn sends.
    pub(crate) fn queue(&mut self, parts: &[&str]) {
        write_text(&mut self.outbox, parts);
    }

    /// Puts bytes into that buffer as they are: frames that only a hostile client sends.
    pub(crate) fn queue_raw(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// Bytes that are queued and not sent yet.
    pub(crate) fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// Sends what is queued and waits for more to arrive. Can be abandoned at any time: nothing is lost.
    pub(crate) async fn turn(&mut self) -> Result<(), Ended> {
        poll_fn(|context| {
            while !self.outbox.is_empty() {
                match poll_write_buf(Pin::new(&mut self.stream), context, &mut self.outbox) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(broken("the connection takes no more"))),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(broken(error))),
                    // It is read even so, or both sides might wait for each other.
                    Poll::Pending => break,
                }
            }
            self.inbox.reserve(self.chunk);
            poll_read_buf(Pin::new(&mut self.stream), context, &mut self.inbox).map(|read| match read {
                Ok(0) => Err(broken("the connection is gone")),
                Ok(_) => Ok(()),
                Err(error) => Err(broken(error)),
            })
        })
        .await
    }

    /// Sends what is queued, without waiting for an answer.
    pub(crate) async fn flush(&mut self) -> Result<(), Ended> {
        poll_fn(|context| {
            while !self.outbox.is_empty() {
                match poll_write_buf(Pin::new(&mut self.stream), context, &mut self.outbox) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(broken("the connection takes no more"))),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(broken(error))),
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// The next text frame of those that have arrived whole.
    pub(crate) fn take(&mut self) -> Result<Option<Utf8Bytes>, Ended> {
        loop {
            let Some((opcode, payload)) = next_frame(&mut self.inbox)? else { return Ok(None) };
            match opcode {
                TEXT => return Utf8Bytes::try_from(payload).map(Some).map_err(|error| foreign(error.to_string())),
                PING => write_frame(&mut self.outbox, PONG, &[&payload]),
                PONG => {}
                CLOSE => {
                    let code = payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code));
                    return Err(code.map_or_else(|| broken("closed"), Ended::Closed));
                }
                other => return Err(foreign(format!("a frame with opcode {other}"))),
            }
        }
    }

    /// The next text frame, waiting for it. Can be abandoned at any time.
    pub(crate) async fn next(&mut self) -> Result<Utf8Bytes, Ended> {
        loop {
            if let Some(text) = self.take()? {
                return Ok(text);
            }
            self.turn().await?;
        }
    }

    /// Gives back the buffers, while nothing is in them.
    pub(crate) fn shrink(&mut self) {
        if self.inbox.is_empty() {
            self.inbox = BytesMut::new();
        }
        if self.outbox.is_empty() {
            self.outbox = BytesMut::new();
        }
    }

    /// The stream, once it is used in another way. What has arrived must have been taken.
    pub(crate) fn into_stream(self) -> S {
        self.stream
    }
}

/// Takes a whole frame off the front of a buffer, if there is one.
fn next_frame(inbox: &mut BytesMut) -> Result<Option<(u8, Bytes)>, Ended> {
    let [first, second, rest @ ..] = &inbox[..] else { return Ok(None) };
    if first & LAST == 0 || second & MASKED != 0 {
        return Err(foreign("a frame in parts, or a masked one"));
    }
    let opcode = first & 0x0F;
    let (head, length) = match (second & 0x7F, rest) {
        (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            (10, usize::try_from(length).unwrap_or(usize::MAX))
        }
        (126 | 127, _) => return Ok(None),
        (length, _) => (2, usize::from(length)),
    };
    if length > FRAME_MAX {
        return Err(foreign(format!("a frame of {length} bytes")));
    }
    if inbox.len() < head + length {
        return Ok(None);
    }
    inbox.advance(head);
    Ok(Some((opcode, inbox.split_to(length).freeze())))
}

/// Writes a masked text frame.
pub(crate) fn write_text(outbox: &mut BytesMut, parts: &[&str]) {
    let mut bytes: [&[u8]; 8] = [&[]; 8];
    debug_assert!(parts.len() <= bytes.len(), "a frame is written in at most 8 parts");
    bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from.as_bytes());
    write_frame(outbox, TEXT, &bytes);
}

fn write_frame(outbox: &mut BytesMut, opcode: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    outbox.reserve(length + 14);
    outbox.extend_from_slice(&[LAST | opcode]);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ 0..=125), _) => outbox.extend_from_slice(&[MASKED | length]),
        (_, Ok(length)) => {
            outbox.extend_from_slice(&[MASKED | 126]);
            outbox.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            outbox.extend_from_slice(&[MASKED | 127]);
            outbox.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    outbox.extend_from_slice(&MASK);
    let start = outbox.len();
    for part in parts {
        outbox.extend_from_slice(part);
    }
    let payload = outbox.get_mut(start..).unwrap_or_default();
    for chunk in payload.chunks_mut(4) {
        chunk.iter_mut().zip(MASK).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// Connects a TCP socket, from a certain address if one is given.
pub(crate) async fn connect(
    addr: std::net::SocketAddr,
    from: Option<std::net::IpAddr>,
    buffer: Option<u32>,
) -> io::Result<tokio::net::TcpStream> {
    let socket = if addr.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    if let Some(buffer) = buffer {
        socket.set_recv_buffer_size(buffer)?;
    }
    if let Some(from) = from {
        socket.bind((from, 0).into())?;
    }
    let stream = socket.connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::{
        WebSocketStream,
        tungstenite::{Message, protocol::Role},
    };

    use super::*;

    /// Both directions, against the library that the server uses, with every length of header.
    #[tokio::test]
    async fn frames_go_through_whatever_their_length() {
        let (client, server) = tokio::io::duplex(256);
        let mut server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
        let mut wire = Wire::new(client, 512);
        tokio::spawn(async move {
            // The answers to its pings come in between.
            while let Some(Ok(message)) = server.next().await {
                if let Message::Text(text) = message {
                    server.send(Message::Ping("?".into())).await.unwrap();
                    server.send(Message::Text(text)).await.unwrap();
                }
            }
        });
        for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
            let text = "é".repeat(length / 2) + &"x".repeat(length % 2);
            wire.queue(&["<", &text, ">"]);
            assert_eq!(wire.next().await.unwrap().as_str(), format!("<{text}>"));
        }
    }

    #[tokio::test]
    async fn a_close_tells_its_code() {
        let (client, server) = tokio::io::duplex(256);
        let mut server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
        let close = tokio_tungstenite::tungstenite::protocol::CloseFrame { code: 4413.into(), reason: "".into() };
        server.close(Some(close)).await.unwrap();
        assert!(matches!(Wire::new(client, 512).next().await, Err(Ended::Closed(4413))));
    }
}
