//! The worker that does jobs: what has to follow from a change and is stored with it ([`crate::store::jobs`]).
//!
//! One job after the other, the one that has been due for longest first. One that fails is tried again, later each time, for
//! ever: what it is about is in the store, and nobody else would do it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use protocol::{MemberId, PhotoName};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{album::Album, decisions::DecisionTurn};
use crate::{
    clock::Clock,
    failure::Failure,
    store::{
        AuditStore, JobStore, MemberStore, StoreError,
        audit::AuditPlace,
        jobs::{Job, TakenJob},
        turns::Caller,
    },
    telemetry::Metrics,
};

/// How often it is looked for jobs that nobody told of: those whose time has come, and those of other nodes.
const LOOK: Duration = Duration::from_secs(10);
/// How long a job may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// When a job that was taken is due again, if whoever took it does not tell: longer than it may take.
const LEASE: Duration = Duration::from_secs(60);
/// When a job is tried again after it failed once; twice as long each time.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest time until then.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Attempts from which on a failure is worth a line in the log: every five minutes, for each job.
const LOUD_FROM: u32 = 10;
/// Jobs that are looked through to know which photos are to be hidden.
const KNOWN: usize = 100_000;

/// Parts of the audit log from which one job removes addresses: few enough to be done in time.
const PARTS_FORGOTTEN: usize = 20;

/// After how long it is looked whether an upload has become a photo: longer than a decision may take to be made.
pub(super) const UPLOAD_CHECK: Duration = Duration::from_secs(15 * 60);

/// Does jobs.
pub struct Jobs {
    /// Where they are.
    pub store: Arc<dyn JobStore>,
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Their photos.
    pub album: Arc<Album>,
    /// The audit log.
    pub audit: Arc<dyn AuditStore>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// There is something to do.
    pub wanted: Notify,
}

impl Jobs {
    /// A job was written. Never waits.
    pub fn wake(&self) {
        self.wanted.notify_one();
    }

    /// Writes the job to look after an upload, before its file is stored.
    ///
    /// # Errors
    /// The store.
    pub async fn check_later(&self, member: MemberId, photo: PhotoName) -> Result<(), StoreError> {
        self.store.add(Job::CheckUpload { member, photo }, self.clock.now().after(UPLOAD_CHECK)).await
    }

    /// Does jobs until `stop`. For one task only.
    pub async fn run(&self, stop: CancellationToken) {
        let _: Option<()> = stop.run_until_cancelled(self.work()).await;
    }

    async fn work(&self) {
        loop {
            // Whatever fails was logged and counted where it arose, and is found again.
            let rest = match self.look().await {
                Ok(rest) if rest.is_zero() => self.do_due().await,
                Ok(rest) => rest,
                Err(_) => LOOK,
            };
            let _ = timeout(rest, self.wanted.notified()).await;
        }
    }

    /// Does what is due. Returns when to look again.
    async fn do_due(&self) -> Duration {
        let mut done = 0;
        loop {
            match self.take().await {
                Ok(Some(taken)) => {
                    self.attempt(taken).await;
                    done += 1;
                }
                // At once, to know what is due next; unless another node was first.
                Ok(None) => return if done > 0 { Duration::ZERO } else { PAUSE },
                Err(_) => return LOOK,
            }
        }
    }

    /// Learns of photos that are to be hidden: those of before a restart, and those of other nodes. Returns for how long nothing
    /// becomes due, or when to look again; zero if something is due.
    async fn look(&self) -> Result<Duration, StoreError> {
        let (since, now) = (Instant::now(), self.clock.now());
        let waiting = self.store.waiting(KNOWN).await?;
        self.metrics.jobs_waiting.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
        // A photo that somebody has is in none of them: what makes it theirs cancels both kinds.
        let gone: HashSet<(MemberId, PhotoName)> = waiting.iter().filter_map(|(job, _)| job.photo()).collect();
        self.album.hide_exactly(&gone, waiting.len() < KNOWN, since);
        Ok(waiting.first().map_or(LOOK, |(_, due)| due.since(now)).min(LOOK))
    }

    async fn take(&self) -> Result<Option<TakenJob>, StoreError> {
        let now = self.clock.now();
        self.store.take(now, now.after(LEASE)).await
    }

    /// Tries a job; it is tried again later if it fails.
    async fn attempt(&self, taken: TakenJob) {
        let (kind, attempts) = (taken.job.kind(), taken.attempts);
        let outcome = timeout(PATIENCE, self.perform(taken.job)).await;
        let (_turn, problem) = match outcome {
            Ok(Ok(turn)) => (turn, None),
            Ok(Err(failure)) => (None, Some(failure.message)),
            Err(_) => (None, Some("it took too long".to_owned())),
        };
        self.metrics.job(kind, if problem.is_none() { "done" } else { "failed" });
        let pause = problem.map(|problem| {
            if attempts >= LOUD_FROM {
                tracing::warn!(job = kind, attempts, problem, "a job fails again and again");
            }
            PAUSE.saturating_mul(1 << attempts.min(16).saturating_sub(1)).min(PAUSE_MAX)
        });
        let told = match pause {
            None => self.store.finish(taken).await,
            Some(pause) => self.store.postpone(taken, self.clock.now().after(pause)).await,
        };
        if let Err(error) = told {
            // It is due again when its lease ends.
            tracing::debug!(job = kind, %error, "what became of a job was not stored");
        }
    }

    /// Does a job. The turn, if it needs one, is held until it is known to be finished: until then it cannot be written anew.
    async fn perform(&self, job: Job) -> Result<Option<DecisionTurn<MemberId>>, Failure> {
        match job {
            Job::DeletePhoto { member, photo } | Job::CheckUpload { member, photo } => {
                self.delete_photo(member, photo).await.map(Some)
            }
            Job::ForgetAddresses { member, after } => self.forget_addresses(member, after).await.map(|()| None),
        }
    }

    /// Removes the addresses of a member from some of the audit log, each part in a short transaction of its own. The rest is a job that is
    /// written before this one is finished: whoever goes on after a crash does no part twice but those of this job.
    async fn forget_addresses(&self, member: MemberId, mut after: AuditPlace) -> Result<(), Failure> {
        for _ in 0..PARTS_FORGOTTEN {
            let Some(next) = self.audit.forget_addresses(member, after).await? else { return Ok(()) };
            after = next;
        }
        Ok(self.store.add(Job::ForgetAddresses { member, after }, self.clock.now()).await?)
    }

    async fn delete_photo(&self, member: MemberId, photo: PhotoName) -> Result<DecisionTurn<MemberId>, Failure> {
        let turn = self.album.turn(member).await?;
        let record = self.members.by_id(Caller::System, member).await?;
        // It may be theirs again by now.
        if record.and_then(|record| record.photo()) != Some(photo) {
            self.album.delete(member, photo).await?;
        }
        self.album.show(member, photo);
        Ok(turn)
    }
}
