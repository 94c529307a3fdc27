//! What goes wrong at a push service.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

/// How long a request is kept that is never answered: longer than the server waits.
const NEVER: Duration = Duration::from_secs(15);
/// How long an answer takes that is slow.
const SLOW: Duration = Duration::from_millis(1_500);
/// How long any answer takes, at most, in milliseconds.
const QUICK: u64 = 100;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is answered with an error, perhaps with `Retry-After`.
    Status(StatusCode, Option<&'static str>),
    /// It is not answered in time.
    Never,
    /// What comes back is nothing.
    Empty,
    /// What comes back is a page.
    Page,
}

/// How a service feels.
pub(crate) struct Mood {
    random: Mutex<StdRng>,
    /// The share of requests that fail, in a million.
    failing: AtomicU64,
    is_down: AtomicBool,
    at_once: AtomicUsize,
}

impl Mood {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            failing: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
            at_once: AtomicUsize::new(0),
        }
    }

    /// So many of a million requests fail from now on.
    pub(crate) fn fail(&self, per_million: u64) {
        self.failing.store(per_million, Ordering::Relaxed);
    }

    /// Nothing is taken, or something is again.
    pub(crate) fn go_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }

    /// Whether something with a share in a thousand happens; nothing does while nothing fails.
    pub(crate) fn happens(&self, per_thousand: f64) -> bool {
        self.failing.load(Ordering::Relaxed) > 0 && self.draw() < per_thousand / 1_000.0
    }

    /// What goes wrong with the next request, if something does.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        if self.is_down.load(Ordering::Relaxed) {
            return Some(Trouble::Status(StatusCode::SERVICE_UNAVAILABLE, None));
        }
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let failing = self.failing.load(Ordering::Relaxed) as f64 / 1e6;
        if self.draw() >= failing {
            return None;
        }
        let kinds = [
            Trouble::Status(StatusCode::INTERNAL_SERVER_ERROR, None),
            Trouble::Status(StatusCode::BAD_GATEWAY, None),
            Trouble::Status(StatusCode::SERVICE_UNAVAILABLE, Some("2")),
            Trouble::Status(StatusCode::TOO_MANY_REQUESTS, Some("1")),
            Trouble::Status(StatusCode::GATEWAY_TIMEOUT, None),
            Trouble::Empty,
            Trouble::Page,
            Trouble::Never,
        ];
        let place = self.random.lock().unwrap_or_else(PoisonError::into_inner).random_range(0..kinds.len());
        kinds.get(place).copied()
    }

    /// Takes as long as an answer takes.
    pub(crate) async fn take_time(&self, trouble: Option<Trouble>) {
        let time = match trouble {
            Some(Trouble::Never) => NEVER,
            _ if self.happens(20.0) => SLOW,
            _ => Duration::from_millis(QUICK).mul_f64(self.draw()),
        };
        tokio::time::sleep(time).await;
    }

    /// A request came; the number of those that are here. To be followed by [`Self::leave`].
    pub(crate) fn enter(&self) -> usize {
        self.at_once.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn leave(&self) {
        self.at_once.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn draw(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}
