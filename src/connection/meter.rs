//! Counting what arrives beside whole text messages.
//!
//! Pings, pongs and parts of messages become no frames of the protocol, so what they cost is not charged there. The meter
//! sees the header of each frame (RFC 6455, section 5.2) before anything is done with what belongs to it.

use std::time::Duration;

use protocol::{
    CloseCode,
    limits::{EXTRA_FRAMES_BURST, EXTRA_FRAMES_PER_SECOND, HELLO_MAX_BYTES},
};
use tokio::time::Instant;

use super::frames::Header;

/// A connection earns a frame in this time.
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / EXTRA_FRAMES_PER_SECOND as u64);

/// What a connection has left. Small: there is one for every connection.
#[derive(Debug)]
pub(super) struct Meter {
    /// Bytes of the first message so far; `None` once it is complete.
    first: Option<u16>,
    /// When the budget of the connection would be whole again (GCRA). Allocates with the first frame that counts.
    whole_at: Option<Box<Instant>>,
}

impl Meter {
    pub(super) const fn new() -> Self {
        Self { first: Some(0), whole_at: None }
    }

    /// A header is complete. `now` is asked for if that matters.
    ///
    /// # Errors
    /// Too many frames that are no whole text message, or a first message that is longer than `hello` may be.
    pub(super) fn frame(&mut self, header: &Header, now: impl FnOnce() -> Instant) -> Result<(), CloseCode> {
        if header.is_control() || header.continues() || !header.is_last() {
            self.charge(now())?;
        }
        if let (false, Some(length)) = (header.is_control(), self.first) {
            let length = u64::from(length).saturating_add(header.length);
            let fits = u16::try_from(length).ok().filter(|length| usize::from(*length) <= HELLO_MAX_BYTES);
            self.first = (!header.is_last()).then_some(fits.ok_or(CloseCode::TooLarge)?);
        }
        Ok(())
    }

    fn charge(&mut self, now: Instant) -> Result<(), CloseCode> {
        let whole_at = self.whole_at.as_deref().map_or(now, |at| now.max(*at)) + INTERVAL;
        if whole_at - now > INTERVAL * EXTRA_FRAMES_BURST {
            return Err(CloseCode::TooMuch);
        }
        **self.whole_at.get_or_insert_with(|| Box::new(whole_at)) = whole_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: u8 = 0x81;
    const PING: u8 = 0x89;
    const PONG: u8 = 0x8a;
    const FIRST_PART: u8 = 0x01;
    const MIDDLE: u8 = 0x00;
    const LAST_PART: u8 = 0x80;

    fn frame(meter: &mut Meter, first: u8, length: usize) -> Result<(), CloseCode> {
        meter.frame(&Header::new(first, length), Instant::now)
    }

    #[tokio::test(start_paused = true)]
    async fn whole_text_frames_are_never_too_many() {
        let mut meter = Meter::new();
        for length in [0, 10, 125, 126, 200, 5_000].iter().cycle().take(3_000).chain(&[65_536; 3]) {
            assert_eq!(frame(&mut meter, TEXT, *length), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pings_pongs_and_parts_are_charged_and_earned_again() {
        for extra in [vec![PING], vec![PONG], vec![FIRST_PART, MIDDLE, MIDDLE, LAST_PART]] {
            let mut meter = Meter::new();
            let mut kinds = extra.iter().cycle();
            for _ in 0..EXTRA_FRAMES_BURST {
                assert_eq!(frame(&mut meter, *kinds.next().unwrap(), 0), Ok(()));
            }
            assert_eq!(frame(&mut meter, *kinds.next().unwrap(), 0), Err(CloseCode::TooMuch));
            tokio::time::advance(Duration::from_secs(1)).await;
            for _ in 0..EXTRA_FRAMES_PER_SECOND {
                assert_eq!(frame(&mut meter, *kinds.next().unwrap(), 0), Ok(()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_message_has_to_be_as_short_as_hello() {
        let mut meter = Meter::new();
        assert_eq!(frame(&mut meter, PING, 100), Ok(()));
        assert_eq!(frame(&mut meter, TEXT, HELLO_MAX_BYTES), Ok(()));
        assert_eq!(frame(&mut meter, TEXT, 65_536), Ok(()));
        assert_eq!(frame(&mut Meter::new(), TEXT, HELLO_MAX_BYTES + 1), Err(CloseCode::TooLarge));
        let mut parts = Meter::new();
        assert_eq!(frame(&mut parts, FIRST_PART, HELLO_MAX_BYTES), Ok(()));
        assert_eq!(frame(&mut parts, LAST_PART, 1), Err(CloseCode::TooLarge));
    }
}
