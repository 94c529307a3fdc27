//! What the server costs while it is attacked: its memory, and the series of its metrics.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, interval, sleep, timeout},
};

use super::http;
use crate::{
    proc::{Watched, resident_kib},
    report::attacks::Memory,
};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long `/metrics` may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Resident memory now, in KiB.
pub(super) fn resident(watched: &Watched) -> Result<u64, String> {
    watched.pid().and_then(resident_kib).ok_or_else(|| "the server is gone".to_owned())
}

/// The most memory since it began.
pub(super) struct Peak {
    most: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Peak {
    pub(super) fn start(watched: Watched) -> Self {
        let most = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&most);
        let task = tokio::spawn(async move {
            let mut ticks = interval(LOOK);
            loop {
                ticks.tick().await;
                seen.fetch_max(watched.pid().and_then(resident_kib).unwrap_or_default(), Ordering::Relaxed);
            }
        });
        Self { most, task }
    }

    pub(super) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How much memory counts as "back", in KiB: this share more than before, or so much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Back {
    pub(super) share: f64,
    pub(super) floor_kib: u64,
}

impl Back {
    /// The most that counts as back.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "KiB")]
    pub(super) fn limit(&self, before: u64) -> u64 {
        (before + self.floor_kib).max((before as f64 * (1.0 + self.share)) as u64)
    }

    /// Waits until the memory is back, until a moment at the latest.
    pub(super) async fn wait(
        &self,
        watched: &Watched,
        memory: &mut Memory,
        ended: Instant,
        until: Instant,
    ) -> Result<(), String> {
        loop {
            memory.after = resident(watched)?;
            if memory.after <= self.limit(memory.before + memory.stored) {
                memory.back = Some(ended.elapsed().as_secs_f64());
                return Ok(());
            }
            if Instant::now() >= until {
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }
}

/// How many series the metrics of the server have.
pub(super) async fn series(addr: SocketAddr) -> Result<u64, String> {
    let asked = timeout(PATIENCE, http::once(addr, None, "GET /metrics", b"")).await;
    let answer = asked.map_err(|_| "the metrics were not answered".to_owned())?.map_err(|error| error.to_string())?;
    if answer.length > answer.body.len() {
        // More than a megabyte of them: what is missing counts like the rest.
        let kept = answer.body.len().max(1);
        return Ok(lines(&answer.body) * answer.length as u64 / kept as u64);
    }
    Ok(lines(&answer.body))
}

fn lines(text: &[u8]) -> u64 {
    String::from_utf8_lossy(text).lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_back_within_a_share_or_a_few_mebibytes() {
        let back = Back { share: 0.1, floor_kib: 16 * 1024 };
        assert_eq!(back.limit(30 * 1024), 46 * 1024);
        assert_eq!(back.limit(1_000_000), 1_100_000);
    }

    #[test]
    fn series_are_lines_that_are_no_comments() {
        assert_eq!(lines(b"# TYPE a counter\na_total 1\nb{c=\"d\"} 2\n# EOF\n"), 2);
    }
}
