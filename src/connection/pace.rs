//! How slowly a client may take what it is sent.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// The time over which the rate of a slow client is measured.
const WINDOW: Duration = Duration::from_secs(60);
/// Bytes that it has to take within that time. A client that takes a byte now and then would hold memory for ever.
const WINDOW_BYTES: usize = 8 * 1024;

/// Decides when a client that something waits for is too slow: when it takes no byte for so long, or hardly any for a
/// minute. Bytes count as taken when the kernel has them.
#[derive(Debug)]
pub(super) struct Pace {
    stall: Duration,
    progress: Instant,
    window: Instant,
    bytes: usize,
}

impl Pace {
    pub(super) fn new(stall: Duration, now: Instant) -> Self {
        Self { stall, progress: now, window: now, bytes: 0 }
    }

    /// The client has taken bytes.
    pub(super) fn took(&mut self, bytes: usize, now: Instant) {
        if bytes > 0 {
            self.progress = now;
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }

    /// When [`Self::is_too_slow`] is to be asked.
    pub(super) fn due(&self) -> Instant {
        (self.progress + self.stall).min(self.window + WINDOW)
    }

    /// Whether the client is too slow.
    pub(super) fn is_too_slow(&mut self, now: Instant) -> bool {
        if self.window + WINDOW <= now {
            if self.bytes < WINDOW_BYTES {
                return true;
            }
            (self.window, self.bytes) = (now, 0);
        }
        self.progress + self.stall <= now
    }
}

/// A [`Pace`] with its timer.
pub(super) struct Patience {
    pace: Pace,
    timer: Pin<Box<Sleep>>,
}

impl Patience {
    pub(super) fn new(stall: Duration) -> Self {
        let pace = Pace::new(stall, Instant::now());
        Self { timer: Box::pin(sleep_until(pace.due())), pace }
    }

    /// The client has taken so many bytes since the last time, and takes no more at the moment. Ready when it is too slow.
    pub(super) fn poll_lost(&mut self, taken: usize, context: &mut Context<'_>) -> Poll<()> {
        self.pace.took(taken, Instant::now());
        loop {
            ready!(self.timer.as_mut().poll(context));
            if self.pace.is_too_slow(Instant::now()) {
                return Poll::Ready(());
            }
            // The time to ask moves away with every byte; the timer follows only when it fires.
            self.timer.as_mut().reset(self.pace.due());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(10);

    /// Takes so many bytes every so often; how long that goes well, or `None` if it does for an hour.
    fn lasts(bytes: usize, every: Duration) -> Option<Duration> {
        let begin = Instant::now();
        let (mut now, mut pace) = (begin, Pace::new(STALL, begin));
        while now < begin + Duration::from_secs(3600) {
            let next = now + every;
            while pace.due() < next {
                let due = pace.due();
                if pace.is_too_slow(due) {
                    return Some(due - begin);
                }
            }
            now = next;
            pace.took(bytes, now);
        }
        None
    }

    #[test]
    fn a_slow_client_is_patiently_waited_for() {
        assert_eq!(lasts(2_000, Duration::from_secs(1)), None);
        assert_eq!(lasts(8 * 1024, Duration::from_secs(4)), None, "as the kernel takes it at 2 kB/s");
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up_and_so_is_one_that_takes_hardly_anything() {
        assert_eq!(lasts(0, Duration::from_secs(1)), Some(STALL));
        assert_eq!(lasts(100_000, Duration::from_secs(11)), Some(STALL));
        assert_eq!(lasts(1, Duration::from_secs(1)), Some(WINDOW));
    }
}
