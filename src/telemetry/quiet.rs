//! Log lines that anybody can cause, kept to a bounded number.
//!
//! A client needs no account to make requests fail. Each line about that is worth reading, a million of them are not: some
//! are written at once, then one a second, and how many were left out is told with the next one.

use std::{
    num::NonZeroU32,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

/// Lines that are written at once, after a pause.
const BURST: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// Lines a second after that: 86,400 a day, some 30 MB.
const PER_SECOND: NonZeroU32 = NonZeroU32::MIN;

/// A bound of log lines.
pub struct Quiet {
    limiter: DefaultDirectRateLimiter,
    left_out: AtomicU64,
}

impl Default for Quiet {
    fn default() -> Self {
        let quota = Quota::per_second(PER_SECOND).allow_burst(BURST);
        Self { limiter: RateLimiter::direct(quota), left_out: AtomicU64::new(0) }
    }
}

impl Quiet {
    /// Whether one more line may be written. Tells before it how many were not.
    pub fn allows(&self) -> bool {
        if self.limiter.check().is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.tell();
        true
    }

    /// Tells how many lines were left out since that was told last. To be called now and then, for those that no other
    /// line follows.
    pub fn tell(&self) {
        let lines = self.left_out.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(lines, "lines that clients caused were left out: there were too many");
        }
    }
}

/// A bound of one log line that says what is so for long: it is written at most once in so many seconds.
#[derive(Debug, Default)]
pub struct Every<const SECONDS: u64>(Mutex<Option<Instant>>);

/// For a line about how the server is set up, which clients cause and an operator has to read once.
pub type Hourly = Every<3_600>;
/// For a line about what an operator may want to see end.
pub type Minutely = Every<60>;

impl<const SECONDS: u64> Every<SECONDS> {
    /// Whether the line may be written now.
    pub fn allows(&self) -> bool {
        self.allows_at(Instant::now())
    }

    fn allows_at(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let allows = last.is_none_or(|last| now.saturating_duration_since(last) >= Duration::from_secs(SECONDS));
        if allows {
            *last = Some(now);
        }
        allows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_once_an_hour() {
        let (hourly, start) = (Hourly::default(), Instant::now());
        let allows = |seconds| hourly.allows_at(start + Duration::from_secs(seconds));
        assert!(allows(0) && !allows(0) && !allows(3599) && allows(3600) && !allows(3601) && allows(7200));
        let (minutely, second) = (Minutely::default(), Duration::from_secs(1));
        assert!(
            minutely.allows_at(start)
                && !minutely.allows_at(start + 59 * second)
                && minutely.allows_at(start + 60 * second)
        );
    }

    #[test]
    fn some_lines_are_written_and_the_others_are_counted() {
        let quiet = Quiet::default();
        let written = (0..10_000).filter(|_| quiet.allows()).count();
        // How long the loop takes is not ours to say.
        assert!((100..1_000).contains(&written), "{written}");
        assert!(quiet.left_out.load(Ordering::Relaxed) > 0);
        quiet.tell();
        assert_eq!(quiet.left_out.load(Ordering::Relaxed), 0);
    }
}
