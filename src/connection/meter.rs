//! Counting what arrives, below the WebSocket library.
//!
//! The library answers pings, drops pongs and joins the parts of fragmented messages without telling anybody, so what they
//! cost could not be charged above it. The meter reads nothing but the headers of frames (RFC 6455, section 5.2).

use std::{io, time::Duration};

use protocol::limits::{EXTRA_FRAMES_BURST, EXTRA_FRAMES_PER_SECOND, HELLO_MAX_BYTES};
use tokio::time::Instant;

/// Why nothing more is read. Travels as the inside of an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Too many frames that are no whole text message.
    #[error("too many WebSocket frames")]
    TooMany,
    /// The first message is longer than `hello` may be.
    #[error("the first frame is too large")]
    TooLarge,
}

impl Refused {
    /// What an error of reading carries, if it is of this kind.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

/// Bytes of the longest header: two, eight for the length, four for the mask.
const HEADER_MAX: usize = 14;
/// A connection earns a frame in this time.
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / EXTRA_FRAMES_PER_SECOND as u64);

/// Where in the stream of frames a connection is, and what it has left. Small: there is one for every connection.
#[derive(Debug)]
pub(super) struct Meter {
    /// Bytes of the payload that are still to come.
    payload: u64,
    /// The beginning of a header.
    header: [u8; HEADER_MAX],
    filled: u8,
    /// Bytes of the first message so far; `None` once it is complete.
    first: Option<u16>,
    /// When the budget of the connection would be whole again (GCRA).
    whole_at: Option<Instant>,
}

impl Meter {
    pub(super) const fn new() -> Self {
        Self { payload: 0, header: [0; HEADER_MAX], filled: 0, first: Some(0), whole_at: None }
    }

    /// Bytes arrived. Returns how many of them may be taken: all, or those before the frame that is refused.
    pub(super) fn read(&mut self, arrived: &[u8]) -> (usize, Option<Refused>) {
        let (mut bytes, mut good) = (arrived, 0);
        loop {
            let skipped = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
            self.payload -= u64::try_from(skipped).unwrap_or(u64::MAX);
            bytes = bytes.get(skipped..).unwrap_or_default();
            let Some((next, rest)) = bytes.split_first() else { return (arrived.len(), None) };
            if self.filled == 0 {
                good = arrived.len() - bytes.len();
            }
            bytes = rest;
            if let Some(place) = self.header.get_mut(usize::from(self.filled)) {
                *place = *next;
                self.filled += 1;
            }
            if usize::from(self.filled) >= self.header_length() {
                self.filled = 0;
                if let Err(refused) = self.frame() {
                    return (good, Some(refused));
                }
            }
        }
    }

    /// How long the header is, as far as is known yet.
    fn header_length(&self) -> usize {
        let [_, second, ..] = self.header;
        if self.filled < 2 {
            return 2;
        }
        let length = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if second & 0x80 == 0 { 0 } else { 4 }
    }

    /// A header is complete.
    fn frame(&mut self) -> Result<(), Refused> {
        let [first, second, extended @ ..] = self.header;
        let [a, b, c, d, e, f, g, h, ..] = extended;
        self.payload = match second & 0x7f {
            126 => u16::from_be_bytes([a, b]).into(),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => short.into(),
        };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (is_control, continues) = (opcode & 0x08 != 0, opcode == 0);
        if is_control || continues || !last {
            self.charge(Instant::now())?;
        }
        if let (false, Some(length)) = (is_control, self.first) {
            let length = u64::from(length).saturating_add(self.payload);
            let fits = u16::try_from(length).ok().filter(|length| usize::from(*length) <= HELLO_MAX_BYTES);
            self.first = (!last).then_some(fits.ok_or(Refused::TooLarge)?);
        }
        Ok(())
    }

    fn charge(&mut self, now: Instant) -> Result<(), Refused> {
        let whole_at = self.whole_at.map_or(now, |at| at.max(now)) + INTERVAL;
        if whole_at - now > INTERVAL * EXTRA_FRAMES_BURST {
            return Err(Refused::TooMany);
        }
        self.whole_at = Some(whole_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(meter: &mut Meter, bytes: &[u8]) -> Result<(), Refused> {
        meter.read(bytes).1.map_or(Ok(()), Err)
    }

    /// A masked frame as a client sends it.
    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload {
            0..126 => bytes.push(0x80 | u8::try_from(payload).unwrap()),
            126..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.extend(vec![0x89; payload]);
        bytes
    }

    const TEXT: u8 = 0x81;
    const PING: u8 = 0x89;
    const PONG: u8 = 0x8a;
    const FIRST_PART: u8 = 0x01;
    const MIDDLE: u8 = 0x00;
    const LAST_PART: u8 = 0x80;

    #[tokio::test(start_paused = true)]
    async fn whole_text_frames_are_never_too_many_however_they_arrive() {
        let mut meter = Meter::new();
        let frames: Vec<u8> =
            [0, 10, 125, 126, 200, 5_000].iter().cycle().take(3_000).flat_map(|length| frame(TEXT, *length)).collect();
        let larger: Vec<u8> = (0..3).flat_map(|_| frame(TEXT, 65_536)).collect();
        for piece in frames.chunks(77).chain(larger.chunks(1)) {
            assert_eq!(read(&mut meter, piece), Ok(()));
        }
        assert_eq!((meter.payload, meter.filled), (0, 0), "at the end of a frame");
    }

    #[tokio::test(start_paused = true)]
    async fn pings_pongs_and_parts_are_charged_and_earned_again() {
        for extra in [vec![PING], vec![PONG], vec![FIRST_PART, MIDDLE, MIDDLE, LAST_PART]] {
            let mut meter = Meter::new();
            let mut kinds = extra.iter().cycle();
            for _ in 0..EXTRA_FRAMES_BURST {
                assert_eq!(read(&mut meter, &frame(*kinds.next().unwrap(), 0)), Ok(()));
            }
            assert_eq!(read(&mut meter, &frame(*kinds.next().unwrap(), 0)), Err(Refused::TooMany));
            tokio::time::advance(Duration::from_secs(1)).await;
            for _ in 0..EXTRA_FRAMES_PER_SECOND {
                assert_eq!(read(&mut meter, &frame(*kinds.next().unwrap(), 0)), Ok(()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_message_has_to_be_as_short_as_hello() {
        let mut meter = Meter::new();
        assert_eq!(read(&mut meter, &frame(PING, 100)), Ok(()));
        assert_eq!(read(&mut meter, &frame(TEXT, HELLO_MAX_BYTES)), Ok(()));
        assert_eq!(read(&mut meter, &frame(TEXT, 65_536)), Ok(()));
        let header = frame(TEXT, HELLO_MAX_BYTES + 1);
        assert_eq!(read(&mut Meter::new(), &header[..8]), Err(Refused::TooLarge), "found out before it arrives");
        let mut parts = Meter::new();
        assert_eq!(read(&mut parts, &frame(FIRST_PART, HELLO_MAX_BYTES)), Ok(()));
        assert_eq!(read(&mut parts, &frame(LAST_PART, 1)), Err(Refused::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_before_a_refused_frame_may_be_taken() {
        let text = frame(TEXT, 10);
        for pieces in [1_000_000, 1_000, 7, 1] {
            let mut meter = Meter::new();
            let pings = frame(PING, 0).repeat(usize::try_from(EXTRA_FRAMES_BURST).unwrap());
            let bytes = [text.clone(), pings, text.clone(), frame(PING, 0), text.clone()].concat();
            // A header that began in an earlier piece cannot be taken back, and is harmless.
            let allowed = bytes.len() - text.len() - 6;
            let (mut taken, mut end) = (0, None);
            for piece in bytes.chunks(pieces) {
                let (good, refused) = meter.read(piece);
                taken += good;
                end = refused;
                if refused.is_some() {
                    break;
                }
            }
            assert_eq!(end, Some(Refused::TooMany));
            assert!((allowed..allowed + 6).contains(&taken), "{taken} of {allowed}");
        }
    }
}
