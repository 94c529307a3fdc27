//! Against the WebSocket library, which the server read with before and clients still write with: whatever is sent, in whatever
//! pieces it arrives, both hear the same and end in the same way.

use std::io::{self, Read, Write};

use proptest::prelude::*;
use protocol::limits::{EXTRA_FRAMES_BURST, HELLO_MAX_BYTES};
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket,
    error::{CapacityError, ProtocolError},
    protocol::{Role, WebSocketConfig},
};

use super::*;

const LAST: u8 = 0x80;

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    Text(String),
    Ping(Vec<u8>),
    Pong,
    Close(Vec<u8>),
    Refused(CloseCode),
}

impl From<Incoming<'_>> for Heard {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Text(text) => Self::Text(text.to_owned()),
            Incoming::Ping(payload) => Self::Ping(payload.to_vec()),
            Incoming::Pong => Self::Pong,
            Incoming::Close(answer) => Self::Close(answer.to_vec()),
            Incoming::Refused(code) => Self::Refused(code),
        }
    }
}

/// A frame as a client sends it, with a length that may be told in a longer form than it needs.
#[derive(Debug, Clone)]
struct Sent {
    first: u8,
    mask: Option<[u8; 4]>,
    payload: Vec<u8>,
    long: bool,
}

impl Sent {
    fn masked(first: u8, payload: &[u8]) -> Self {
        Self { first, mask: Some([1, 2, 3, 4]), payload: payload.to_vec(), long: false }
    }

    fn bytes(&self) -> Vec<u8> {
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![self.first];
        match self.payload.len() {
            length if self.long || length > 65_535 => {
                bytes.push(masked | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
            length @ 0..126 => bytes.push(masked | u8::try_from(length).unwrap()),
            length => {
                bytes.push(masked | 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
        }
        bytes.extend(self.mask.iter().flatten());
        let mask = self.mask.unwrap_or_default();
        bytes.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }
}

fn bytes(sent: &[Sent]) -> Vec<u8> {
    sent.iter().flat_map(Sent::bytes).collect()
}

/// What is heard when the bytes come in pieces of these lengths, in turn; whoever hears pauses after each `every`.
fn heard(bytes: &[u8], pieces: &[usize], every: usize) -> Vec<Heard> {
    let (mut frames, mut heard) = (Frames::new(Vec::new()), Vec::new());
    let (mut rest, mut pieces) = (bytes, pieces.iter().cycle());
    while !rest.is_empty() && !frames.is_over() {
        let (piece, later) = rest.split_at((*pieces.next().unwrap()).clamp(1, rest.len()));
        rest = later;
        let mut hear = |incoming: Incoming<'_>| {
            heard.push(Heard::from(incoming));
            if heard.len().is_multiple_of(every) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let _ = frames.take(&mut piece.to_vec(), &mut hear);
        while frames.is_paused() {
            let _ = frames.take(&mut [], &mut hear);
        }
    }
    let ends_between = frames.kept.is_none();
    assert!(!frames.is_over() || ends_between, "nothing is kept of a connection that is over");
    heard
}

/// What the library hears.
fn library(bytes: &[u8]) -> Vec<Heard> {
    struct Pipe<'a>(&'a [u8]);
    impl Read for Pipe<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(buffer) }
        }
    }
    impl Write for Pipe<'_> {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let config =
        WebSocketConfig::default().max_message_size(Some(FRAME_MAX_BYTES)).max_frame_size(Some(FRAME_MAX_BYTES));
    let mut socket = WebSocket::from_raw_socket(Pipe(bytes), Role::Server, Some(config));
    let mut heard = Vec::new();
    loop {
        heard.push(match socket.read() {
            Ok(Message::Text(text)) => Heard::Text(text.as_str().to_owned()),
            Ok(Message::Ping(payload)) => Heard::Ping(payload.to_vec()),
            Ok(Message::Pong(_)) => Heard::Pong,
            Ok(Message::Binary(_)) => Heard::Refused(CloseCode::UnsupportedData),
            // Its own answer to a code that nobody may send.
            Ok(Message::Close(Some(frame))) if frame.reason == "Protocol violation" => {
                Heard::Refused(CloseCode::ProtocolError)
            }
            Ok(Message::Close(frame)) => {
                Heard::Close(frame.map_or(Vec::new(), |frame| {
                    [&u16::from(frame.code).to_be_bytes(), frame.reason.as_bytes()].concat()
                }))
            }
            Ok(Message::Frame(_)) => unreachable!(),
            Err(tungstenite::Error::Io(_)) => return heard,
            Err(error) => Heard::Refused(close_code(&error)),
        });
        if matches!(heard.last(), Some(Heard::Refused(_) | Heard::Close(_))) {
            return heard;
        }
    }
}

/// The close code for something that the library refused.
fn close_code(error: &tungstenite::Error) -> CloseCode {
    match error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => CloseCode::TooLarge,
        tungstenite::Error::Utf8(_) => CloseCode::InvalidUtf8,
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => unreachable!(),
        tungstenite::Error::Protocol(_) => CloseCode::ProtocolError,
        other => panic!("{other}"),
    }
}

/// Mostly what a client may send, and mostly in an order in which it may.
fn frame() -> impl Strategy<Value = Sent> {
    let text = prop_oneof![
        4 => "[a-z]{0,20}|[äöü€🦀]{0,20}".prop_map(String::into_bytes),
        1 => "[äöü€🦀]{1,5}".prop_map(|text| text.as_bytes()[1..].to_vec()),
        1 => "[äöü€🦀]{1,5}".prop_map(|text| text.as_bytes()[..text.len() - 1].to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop_oneof![Just(125_usize), Just(126), Just(127), Just(65_535), Just(65_536), Just(65_537)]
            .prop_map(|length| vec![b'x'; length]),
    ];
    let first = prop_oneof![
        6 => Just(LAST | TEXT),
        4 => Just(TEXT),
        4 => Just(CONTINUATION),
        4 => Just(LAST | CONTINUATION),
        2 => Just(LAST | PING),
        2 => Just(LAST | PONG),
        1 => Just(LAST | CLOSE),
        1 => any::<u8>(),
    ];
    let mask = prop::option::weighted(0.97, any::<[u8; 4]>());
    // The library takes a length in a longer form than it needs.
    (first, mask, text).prop_map(|(first, mask, payload)| Sent { first, mask, payload, long: false })
}

/// The same as far as both go: we refuse what the library would wait for the rest of.
fn is_as_the_library_hears(ours: &[Heard], theirs: &[Heard]) -> bool {
    let Some((Heard::Refused(code), before)) = ours.split_last() else { return ours == theirs };
    let Some(further) = theirs.strip_prefix(before) else { return false };
    match code {
        // At its first header: control frames may come before the last one of its message.
        CloseCode::UnsupportedData => further.iter().all(|heard| !matches!(heard, Heard::Text(_))),
        // At the header; of a control frame that is too long, the library says that it is none.
        CloseCode::TooLarge => matches!(further, [] | [Heard::Refused(CloseCode::TooLarge | CloseCode::ProtocolError)]),
        CloseCode::ProtocolError => matches!(further, [] | [Heard::Refused(CloseCode::ProtocolError)]),
        _ => ours == theirs,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_library_hears_the_same_however_the_bytes_arrive(
        sent in prop::collection::vec(frame(), 1..12),
        pieces in prop::collection::vec(prop_oneof![Just(1_usize), 1..10_usize, 1..100_000_usize], 1..8),
        every in 1..5_usize,
    ) {
        let sent = bytes(&[vec![Sent::masked(LAST | TEXT, b"hello")], sent].concat());
        let (ours, theirs) = (heard(&sent, &pieces, every), library(&sent));
        prop_assert!(is_as_the_library_hears(&ours, &theirs), "{ours:?} instead of {theirs:?}");
    }
}

#[test]
fn byte_by_byte_it_is_the_same_as_in_one_piece_and_nothing_is_kept_in_between() {
    let long = "€".repeat(5_000);
    let (begin, end) = long.as_bytes().split_at(7_000);
    let sent = bytes(&[
        Sent::masked(LAST | TEXT, b"hello"),
        Sent::masked(TEXT, begin),
        Sent::masked(LAST | PING, b"?"),
        Sent::masked(CONTINUATION, b""),
        Sent::masked(LAST | CONTINUATION, end),
        Sent::masked(LAST | TEXT, b""),
        Sent::masked(LAST | PONG, b"!"),
    ]);
    let expected = [
        Heard::Text("hello".to_owned()),
        Heard::Ping(b"?".to_vec()),
        Heard::Text(long),
        Heard::Text(String::new()),
        Heard::Pong,
    ];
    for pieces in [1, 2, 3, 7, 1_000, 1_000_000] {
        assert_eq!(heard(&sent, &[pieces], 1_000), expected, "{pieces}");
    }
    let mut frames = Frames::new(sent);
    assert!(frames.is_paused(), "what was read before is looked at first");
    let _ = frames.take(&mut [], &mut |_| ControlFlow::Continue(()));
    assert!(frames.kept.is_none());
}

#[test]
fn what_breaks_the_rules_is_refused_with_its_code() {
    let hello = Sent::masked(LAST | TEXT, b"hello");
    let (part, large) = (Sent::masked(TEXT, b"a"), vec![b'x'; 65_536]);
    let unmasked = Sent { mask: None, ..hello.clone() };
    for (code, sent) in [
        (CloseCode::ProtocolError, vec![unmasked]),
        (CloseCode::ProtocolError, vec![Sent::masked(LAST | 0x40 | TEXT, b"")]),
        (CloseCode::ProtocolError, vec![Sent::masked(LAST | 0x3, b"")]),
        (CloseCode::ProtocolError, vec![Sent::masked(LAST | 0xB, b"")]),
        (CloseCode::ProtocolError, vec![Sent::masked(PING, b"")]),
        (CloseCode::ProtocolError, vec![Sent::masked(LAST | PING, &[0; 126])]),
        (CloseCode::ProtocolError, vec![Sent::masked(LAST | CONTINUATION, b"")]),
        (CloseCode::ProtocolError, vec![part.clone(), hello.clone()]),
        (CloseCode::ProtocolError, vec![Sent::masked(LAST | CLOSE, b"\x03")]),
        (CloseCode::ProtocolError, vec![Sent::masked(LAST | CLOSE, b"\x03\xed")]),
        (CloseCode::ProtocolError, vec![Sent { long: true, ..hello.clone() }]),
        (CloseCode::ProtocolError, vec![Sent { long: true, ..Sent::masked(LAST | TEXT, &[b'x'; 65_535]) }]),
        (CloseCode::InvalidUtf8, vec![Sent::masked(LAST | CLOSE, b"\x03\xe8\xff")]),
        (CloseCode::InvalidUtf8, vec![Sent::masked(LAST | TEXT, b"\xff")]),
        (CloseCode::InvalidUtf8, vec![Sent::masked(TEXT, b"a\xff"), part.clone()]),
        (CloseCode::InvalidUtf8, vec![Sent::masked(TEXT, b"\xe2\x82"), Sent::masked(LAST | CONTINUATION, b"")]),
        (CloseCode::TooLarge, vec![part, Sent::masked(LAST | CONTINUATION, &large)]),
        (CloseCode::UnsupportedData, vec![Sent::masked(LAST | BINARY, b"")]),
    ] {
        let sent = bytes(&[vec![hello.clone()], sent].concat());
        assert_eq!(heard(&sent, &[3], 2).last(), Some(&Heard::Refused(code)), "{sent:x?}");
    }
    // Neither is a length at all: the shorter form of 125, and one with its highest bit.
    for header in [&[LAST | TEXT, 0xfe, 0, 125, 1, 2, 3, 4][..], &[LAST | TEXT, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0]] {
        assert_eq!(heard(&[header, &[0; 8]].concat(), &[3], 1), [Heard::Refused(CloseCode::ProtocolError)]);
    }
    // Before anything of it has arrived.
    let header = &Sent::masked(LAST | TEXT, &vec![b'x'; HELLO_MAX_BYTES + 1]).bytes()[..8];
    assert_eq!(heard(header, &[1], 1), [Heard::Refused(CloseCode::TooLarge)]);
}

#[test]
fn a_close_frame_is_answered_with_its_own_payload_and_nothing_comes_after_it() {
    for payload in [&b""[..], b"\x03\xe8bye", b"\x03\xf6"] {
        let sent = bytes(&[Sent::masked(LAST | CLOSE, payload), Sent::masked(LAST | TEXT, b"late")]);
        assert_eq!(heard(&sent, &[1_000], 10), [Heard::Close(payload.to_vec())]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_frame_too_many_is_heard() {
    let pings = usize::try_from(EXTRA_FRAMES_BURST).unwrap();
    let (text, ping) = (Sent::masked(LAST | TEXT, b"text"), Sent::masked(LAST | PING, b""));
    let sent = [vec![text.clone()], vec![ping.clone(); pings], vec![text.clone(), ping, text]].concat();
    for pieces in [1_000_000, 1_000, 7, 1] {
        let heard = heard(&bytes(&sent), &[pieces], 64);
        assert_eq!(heard.len(), pings + 3);
        assert_eq!(heard[pings + 1..], [Heard::Text("text".to_owned()), Heard::Refused(CloseCode::TooMuch)]);
    }
}
