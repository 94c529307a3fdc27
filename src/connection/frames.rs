//! WebSocket frames of a client, taken out of the bytes in which they arrive (RFC 6455, section 5). Knows no socket.
//!
//! A frame that has arrived whole is unmasked and read where it lies, in a buffer that all connections of a thread share.
//! Only what is incomplete is kept, for as long as it is: an idle connection keeps nothing.

use std::{
    ops::{ControlFlow, RangeInclusive},
    str,
};

use protocol::{CloseCode, limits::FRAME_MAX_BYTES};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::frame::coding;

use super::meter::Meter;

/// The longest payload of a control frame, in bytes.
const CONTROL_MAX_BYTES: u64 = 125;

/// What may be told in each of the three forms of a length.
const SHORT: RangeInclusive<u64> = 0..=125;
const MEDIUM: RangeInclusive<u64> = 126..=0xffff;
const LONG: RangeInclusive<u64> = 0x1_0000..=i64::MAX.cast_unsigned();

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    /// A text message.
    Text(&'a str),
    /// To be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// Nothing follows from it.
    Pong,
    /// The other side closes. To be answered with a close frame of this payload. Nothing comes after it.
    Close(&'a [u8]),
    /// What breaks the rules, and how the connection is to close. Nothing comes after it.
    Refused(CloseCode),
}

/// The header of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    first: u8,
    mask: Option<[u8; 4]>,
    /// Bytes of the payload.
    pub(super) length: u64,
    /// Whether the length is told in a longer form than it needs, or is none at all (RFC 6455, section 5.2).
    has_bad_length: bool,
}

impl Header {
    #[cfg(test)]
    pub(super) fn new(first: u8, length: usize) -> Self {
        Self { first, mask: Some([0; 4]), length: length as u64, has_bad_length: false }
    }

    /// The header at the beginning of these bytes, and how long it is; nothing if it is not complete.
    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (proper, length, rest) = match second & 0x7f {
            126 => rest.split_first_chunk().map(|(length, rest)| (MEDIUM, u16::from_be_bytes(*length).into(), rest))?,
            127 => rest.split_first_chunk().map(|(length, rest)| (LONG, u64::from_be_bytes(*length), rest))?,
            length => (SHORT, length.into(), rest),
        };
        let (mask, rest) = match second & 0x80 {
            0 => (None, rest),
            _ => rest.split_first_chunk().map(|(mask, rest)| (Some(*mask), rest))?,
        };
        let has_bad_length = !proper.contains(&length);
        Some((Self { first, mask, length, has_bad_length }, bytes.len() - rest.len()))
    }

    fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// Whether it is the last frame of its message.
    pub(super) fn is_last(&self) -> bool {
        self.first & 0x80 != 0
    }

    /// Whether it is a ping, a pong or a close frame.
    pub(super) fn is_control(&self) -> bool {
        self.opcode() & 0x08 != 0
    }

    /// Whether it belongs to a message that has begun before.
    pub(super) fn continues(&self) -> bool {
        self.opcode() == CONTINUATION
    }

    /// Whether a client may send such a frame, while so many bytes of a message have come in parts.
    fn check(&self, begun: Option<usize>) -> Result<(), CloseCode> {
        let is_known = matches!(self.opcode(), CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG);
        if !is_known {
            return Err(CloseCode::ProtocolError);
        }
        let before = if self.is_control() { 0 } else { begun.unwrap_or_default() };
        if self.length > u64::try_from(FRAME_MAX_BYTES - before.min(FRAME_MAX_BYTES)).unwrap_or_default() {
            return Err(CloseCode::TooLarge);
        }
        let has_reserved_bits = self.first & 0x70 != 0;
        let is_in_order = if self.is_control() {
            self.is_last() && self.length <= CONTROL_MAX_BYTES
        } else {
            self.continues() == begun.is_some()
        };
        if self.mask.is_none() || has_reserved_bits || !is_in_order {
            return Err(CloseCode::ProtocolError);
        }
        // Found out before it arrives: nobody is going to read it.
        if self.opcode() == BINARY { Err(CloseCode::UnsupportedData) } else { Ok(()) }
    }
}

/// Where in the stream of frames a connection is.
#[derive(Debug)]
pub(super) struct Frames {
    meter: Meter,
    /// Whether what is kept has not been looked at yet.
    paused: bool,
    /// The other side has closed, or broken the rules.
    over: bool,
    kept: Option<Box<Kept>>,
}

/// What is incomplete.
#[derive(Debug, Default)]
struct Kept {
    /// Bytes that were not taken yet.
    bytes: Vec<u8>,
    /// The header of the frame to whose payload they belong, if that was taken.
    header: Option<Header>,
    /// The message that comes in parts.
    message: Option<Parts>,
}

/// The parts of a message so far.
#[derive(Debug, Default)]
struct Parts {
    text: Vec<u8>,
    /// Bytes at its beginning that are whole characters.
    checked: usize,
}

impl Parts {
    /// Adds a part. False if this cannot become a text any more.
    fn add(&mut self, part: &[u8], is_last: bool) -> bool {
        self.text.reserve_exact(part.len());
        self.text.extend_from_slice(part);
        match str::from_utf8(self.text.get(self.checked..).unwrap_or_default()) {
            Ok(checked) => self.checked += checked.len(),
            Err(error) if error.error_len().is_none() && !is_last => self.checked += error.valid_up_to(),
            Err(_) => return false,
        }
        true
    }
}

impl Frames {
    /// At the beginning of a stream of which these bytes have come already.
    pub(super) fn new(early: Vec<u8>) -> Self {
        let mut frames = Self { meter: Meter::new(), paused: !early.is_empty(), over: false, kept: None };
        frames.keep(early);
        frames
    }

    /// Whether there may be frames that have arrived and were not taken: see [`Self::take`].
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether nothing can come any more.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Bytes of memory that what is incomplete takes.
    pub(super) fn incomplete(&self) -> usize {
        let Some(kept) = &self.kept else { return 0 };
        kept.bytes.capacity() + kept.message.as_ref().map_or(0, |message| message.text.capacity())
    }

    /// Takes the frames of what was kept before and of what has arrived. Whoever hears of one may pause: then the rest is
    /// kept, for the next call.
    pub(super) fn take(
        &mut self,
        arrived: &mut [u8],
        hear: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut waiting = self.kept.as_mut().map(|kept| std::mem::take(&mut kept.bytes)).unwrap_or_default();
        let (flow, rest) = if waiting.is_empty() {
            let (taken, flow) = self.walk(arrived, hear);
            (flow, arrived.get(taken..).unwrap_or_default().to_vec())
        } else {
            // No more than it needs: the other side decides how much that is, and for how long.
            waiting.reserve_exact(arrived.len());
            waiting.extend_from_slice(arrived);
            let (taken, flow) = self.walk(&mut waiting, hear);
            // What is left of it, without the room that the rest has taken.
            (flow, if taken == 0 { waiting } else { waiting.get(taken..).unwrap_or_default().to_vec() })
        };
        self.paused = flow.is_break() && !rest.is_empty();
        self.keep(rest);
        flow
    }

    fn keep(&mut self, rest: Vec<u8>) {
        if self.over {
            (self.kept, self.paused) = (None, false);
        } else if !rest.is_empty() {
            self.kept.get_or_insert_default().bytes = rest;
        } else if self.kept.as_ref().is_some_and(|kept| kept.header.is_none() && kept.message.is_none()) {
            self.kept = None;
        }
    }

    /// Goes from frame to frame. Returns how many bytes were taken.
    fn walk(
        &mut self,
        bytes: &mut [u8],
        hear: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> (usize, ControlFlow<()>) {
        let mut taken = 0;
        while !self.over {
            let rest = bytes.get_mut(taken..).unwrap_or_default();
            let known = self.kept.as_mut().and_then(|kept| kept.header.take());
            let Some((header, begin)) = known.map(|header| (header, 0)).or_else(|| Header::parse(rest)) else { break };
            if known.is_none()
                && let Err(code) = self.admit(&header)
            {
                return (taken, self.refuse(code, hear));
            }
            taken += begin;
            let end = usize::try_from(header.length).map_or(usize::MAX, |length| begin.saturating_add(length));
            let Some(payload) = rest.get_mut(begin..end) else {
                self.kept.get_or_insert_default().header = Some(header);
                break;
            };
            taken += payload.len();
            unmask(payload, header.mask.unwrap_or_default());
            let flow = self.frame(&header, payload, hear);
            if flow.is_break() {
                return (taken, flow);
            }
        }
        (taken, ControlFlow::Continue(()))
    }

    /// A header has come: whether what belongs to it may.
    fn admit(&mut self, header: &Header) -> Result<(), CloseCode> {
        if header.has_bad_length {
            return Err(CloseCode::ProtocolError);
        }
        self.meter.frame(header, Instant::now)?;
        header.check(self.kept.as_ref().and_then(|kept| kept.message.as_ref()).map(|message| message.text.len()))
    }

    fn frame(
        &mut self,
        header: &Header,
        payload: &[u8],
        hear: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match header.opcode() {
            TEXT if header.is_last() => match str::from_utf8(payload) {
                Ok(text) => hear(Incoming::Text(text)),
                Err(_) => self.refuse(CloseCode::InvalidUtf8, hear),
            },
            TEXT | CONTINUATION => self.part(payload, header.is_last(), hear),
            PING => hear(Incoming::Ping(payload)),
            CLOSE => self.close(payload, hear),
            _ => hear(Incoming::Pong),
        }
    }

    /// A part of a message.
    fn part(
        &mut self,
        payload: &[u8],
        is_last: bool,
        hear: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let kept = self.kept.get_or_insert_default();
        let mut message = kept.message.take().unwrap_or_default();
        if !message.add(payload, is_last) {
            return self.refuse(CloseCode::InvalidUtf8, hear);
        }
        if !is_last {
            kept.message = Some(message);
            return ControlFlow::Continue(());
        }
        match str::from_utf8(&message.text) {
            Ok(text) => hear(Incoming::Text(text)),
            Err(_) => self.refuse(CloseCode::InvalidUtf8, hear),
        }
    }

    /// A close frame (RFC 6455, sections 5.5.1 and 7.4).
    fn close(&mut self, payload: &[u8], hear: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        let answer = match payload.split_first_chunk() {
            None if payload.is_empty() => payload,
            None => return self.refuse(CloseCode::ProtocolError, hear),
            Some((_, reason)) if str::from_utf8(reason).is_err() => return self.refuse(CloseCode::InvalidUtf8, hear),
            Some((code, _)) if may_be_sent(u16::from_be_bytes(*code)) => payload,
            Some(_) => return self.refuse(CloseCode::ProtocolError, hear),
        };
        self.over = true;
        let _ = hear(Incoming::Close(answer));
        ControlFlow::Break(())
    }

    fn refuse(&mut self, code: CloseCode, hear: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        self.over = true;
        let _ = hear(Incoming::Refused(code));
        ControlFlow::Break(())
    }
}

/// Whether anybody may send this close code (RFC 6455, section 7.4, and 1012 to 1014 of the registry that it made).
fn may_be_sent(code: u16) -> bool {
    code == 1014 || coding::CloseCode::from(code).is_allowed()
}

/// Takes the mask of a client off, or puts it on (RFC 6455, section 5.3).
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
