//! Passwords: bcrypt, on threads of their own, half as many as processors, that go last when the processors are busy.

use std::{sync::Arc, thread::available_parallelism, time::Duration};

use crossbeam_channel::{Receiver, Sender, bounded};
use protocol::limits::PASSWORD_MAX_BYTES;
use tokio::{
    sync::{Semaphore, oneshot},
    time::Instant,
};

use crate::{supervisor::Supervisor, telemetry::Metrics};

/// Passwords that wait for their turn; more are refused.
const QUEUE: usize = 256;

/// How much lower the priority of the threads is, from 0 to 19: somebody who logs in waits anyway, somebody who talks not.
#[cfg(target_os = "linux")]
const NICE: i32 = 15;

type Job = Box<dyn FnOnce() + Send>;

/// Why a password was not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are waiting to be checked")]
pub struct TooBusy;

/// Why no password can be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The cost.
    #[error("the cost of passwords: {0}")]
    Cost(#[from] bcrypt::BcryptError),
    /// The threads.
    #[error("no thread for passwords: {0}")]
    Threads(#[from] std::io::Error),
}

/// Hashes and checks passwords.
pub struct Passwords {
    cost: u32,
    /// Those that may wait or work.
    queue: Arc<Semaphore>,
    /// Those that may work.
    workers: Arc<Semaphore>,
    /// To the threads, which end when this is dropped. Has room for everybody who may work.
    jobs: Sender<Job>,
    /// How long to wait for a turn.
    patience: Duration,
    /// What an unknown member's password is compared with, so that it takes as long as a known one's.
    decoy: String,
    metrics: Arc<Metrics>,
}

impl Passwords {
    /// With this bcrypt cost: 2^cost rounds.
    ///
    /// # Errors
    /// When the cost is not 4 to 31, or there are no threads.
    pub fn new(
        cost: u32,
        patience: Duration,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<Self, Unusable> {
        let workers = available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1));
        let (jobs, work) = bounded(workers);
        for number in 0..workers {
            let work = work.clone();
            supervisor.thread("password", Some(number), move || toil(&work))?;
        }
        Ok(Self {
            cost,
            queue: Arc::new(Semaphore::new(QUEUE)),
            workers: Arc::new(Semaphore::new(workers)),
            jobs,
            patience,
            decoy: bcrypt::non_truncating_hash("nobody has this password", cost)?,
            metrics,
        })
    }

    /// Hashes a password of at most 71 bytes.
    ///
    /// # Errors
    /// When too many are waiting.
    pub async fn hash(&self, password: String) -> Result<String, TooBusy> {
        let cost = self.cost;
        // Longer than 71 bytes is refused before it comes here, and the cost was tried in `new`.
        self.run(move || bcrypt::non_truncating_hash(password, cost).map_err(|_| TooBusy)).await?
    }

    /// Whether it is the password of `hash`. Without a hash it takes as long and is wrong.
    ///
    /// # Errors
    /// When too many are waiting.
    pub async fn verify(&self, mut password: String, hash: Option<String>) -> Result<bool, TooBusy> {
        let possible = hash.is_some() && password.len() <= PASSWORD_MAX_BYTES;
        if !possible {
            // bcrypt would refuse a longer one at once, which would tell something.
            password.clear();
        }
        let hash = hash.filter(|_| possible).unwrap_or_else(|| self.decoy.clone());
        let same = self.run(move || bcrypt::non_truncating_verify(password, &hash).unwrap_or(false)).await?;
        Ok(same && possible)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, TooBusy> {
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| TooBusy)?;
        let turn = tokio::time::timeout(self.patience, Arc::clone(&self.workers).acquire_owned());
        let turn = turn.await.map_err(|_| TooBusy)?.map_err(|_| TooBusy)?;
        let metrics = Arc::clone(&self.metrics);
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move || {
            let started = Instant::now();
            let result = work();
            metrics.password_seconds.observe(started.elapsed().as_secs_f64());
            // Held until the work is done, even when nobody waits for it any more.
            drop((place, turn));
            // Whoever stopped waiting needs no answer.
            let _ = sender.send(result);
        });
        self.jobs.try_send(job).map_err(|_| TooBusy)?;
        receiver.await.map_err(|_| TooBusy)
    }
}

/// What a thread does.
fn toil(jobs: &Receiver<Job>) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::warn!(%error, "passwords are worked on with the priority of everything else");
    }
    while let Ok(job) = jobs.recv() {
        // A panic in one password is the end of that password.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        let metrics = Arc::new(Metrics::new());
        let supervisor = Supervisor::new(Arc::clone(&metrics), <_>::default());
        Passwords::new(4, Duration::from_secs(5), metrics, &supervisor).unwrap()
    }

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let passwords = passwords();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(passwords.verify("correct horse".to_owned(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("wrong horse".to_owned(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("nobody has this password".to_owned(), None).await.unwrap());
    }

    #[tokio::test]
    async fn nothing_is_cut_after_71_bytes() {
        let passwords = passwords();
        let longest = "a".repeat(71);
        let hash = passwords.hash(longest.clone()).await.unwrap();
        assert!(passwords.verify(longest.clone(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify(longest + "b", Some(hash)).await.unwrap());
    }
}
