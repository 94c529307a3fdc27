//! Writing to the audit log what goes with no change: what administrators read, exports, and logins that failed.
//!
//! What somebody reads is written before they get it: what cannot be in the log is not given. A failed login is written after its
//! answer, by a task of its own, so that neither the answer nor its time tells whether the account is an administrator's.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{MemberId, model::UserType, rest::AuditAction};
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    decisions::until_known,
    limiter::{Limiter, Rate},
};
use crate::{
    clock::Clock,
    failure::Failure,
    store::{
        AuditStore, StoreError,
        audit::AuditRecord,
        changes::{Actor, Overtaken},
        members::MemberRecord,
    },
    telemetry::Metrics,
};

/// Entries of the audit log among which one is looked for that may have been appended.
const NEWEST: usize = 200;
/// Failed logins that wait to be written, about 200 bytes each; more are counted and forgotten.
const QUEUE: usize = 1_024;
/// When an entry is tried again that the store did not take.
const AGAIN: Duration = Duration::from_secs(1);
/// How long what waits may take to be written when the server stops.
const AT_THE_END: Duration = Duration::from_secs(1);
/// Entries about failed logins at one account, on each node. How often passwords are tried at one ([`super::guesses`]) bounds them too;
/// this holds for those as well who know the right one and give it in between.
const FAILED_LOGINS: Rate = Rate { per_period: 30, period: Duration::from_secs(3_600), burst: 30 };

/// What was wrong at a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongFactor {
    /// The password.
    Password,
    /// The second factor, after the right password.
    SecondFactor,
}

impl WrongFactor {
    /// Its name in the audit log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::SecondFactor => "second_factor",
        }
    }
}

/// What who is signed in has tried a password or a code for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// To prove again who is at the device.
    StepUp,
    /// To change the password.
    Password,
    /// To change the e-mail address.
    Email,
    /// To turn a second factor on or off, or to replace its recovery codes.
    SecondFactor,
}

impl Tried {
    /// What the audit log says of a wrong one.
    fn details(self, wrong: WrongFactor) -> Value {
        let wrong = wrong.name();
        match self {
            Self::StepUp => json!({ "wrong": wrong, "step_up": true }),
            Self::Password => json!({ "wrong": wrong, "change": "password" }),
            Self::Email => json!({ "wrong": wrong, "change": "email" }),
            Self::SecondFactor => json!({ "wrong": wrong, "change": "second_factor" }),
        }
    }
}

/// Writes to the audit log.
pub struct AuditTrail {
    store: Arc<dyn AuditStore>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    failed_logins: Limiter<MemberId>,
    queue: mpsc::Sender<AuditRecord>,
    queued: Mutex<mpsc::Receiver<AuditRecord>>,
}

impl AuditTrail {
    /// To this store.
    #[must_use]
    pub fn new(store: Arc<dyn AuditStore>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE);
        let failed_logins = Limiter::new("failed_logins_audited", FAILED_LOGINS, Arc::clone(&metrics));
        Self { store, clock, metrics, failed_logins, queue, queued: Mutex::new(queued) }
    }

    /// Writes that somebody did something now, to whom.
    ///
    /// # Errors
    /// The store: what is not in the audit log is not done.
    pub(super) async fn write(
        &self,
        by: Actor,
        action: AuditAction,
        target: Option<MemberId>,
        details: Value,
    ) -> Result<(), StoreError> {
        // Nobody reads or exports on the command line.
        if by.member.is_none() {
            return Ok(());
        }
        let Actor { member: actor, address, .. } = by;
        self.append(&AuditRecord { at: self.clock.now(), actor, action, target, details, address }).await
    }

    /// Writes that an administrator has read what other members cannot see, of one member, or of several or none: then it is about nobody.
    /// `details` say what, and how much of it.
    ///
    /// # Errors
    /// The store: what is not in the audit log is not given.
    pub(super) async fn read(&self, by: Actor, of: Option<MemberId>, details: Value) -> Result<(), StoreError> {
        self.write(by, AuditAction::MemberRead, of, details).await
    }

    /// Somebody failed to log in at an account. If it is an administrator's, that is written soon. Never waits.
    pub(super) fn login_failed(&self, account: Option<&MemberRecord>, wrong: WrongFactor, from: IpAddr) {
        self.failed(account, json!({ "wrong": wrong.name() }), from);
    }

    /// The same of who is signed in and has tried something else.
    pub(super) fn try_failed(&self, account: &MemberRecord, wrong: WrongFactor, tried: Tried, from: IpAddr) {
        self.failed(Some(account), tried.details(wrong), from);
    }

    fn failed(&self, account: Option<&MemberRecord>, details: Value, from: IpAddr) {
        let Some(account) = account.filter(|account| account.profile.user_type == UserType::Admin) else { return };
        let entry = AuditRecord {
            at: self.clock.now(),
            actor: None,
            action: AuditAction::LoginFailed,
            target: Some(account.profile.id),
            details,
            address: Some(from),
        };
        if self.queue.try_send(entry).is_err() {
            self.metrics.audit_dropped.inc();
        }
    }

    /// Writes failed logins until `stop`. For one task only.
    pub async fn run(&self, stop: CancellationToken) {
        let mut queued = self.queued.lock().await;
        while let Some(Some(entry)) = stop.run_until_cancelled(queued.recv()).await {
            if self.is_too_often(&entry) {
                self.metrics.audit_dropped.inc();
                continue;
            }
            if stop.run_until_cancelled(self.append_at_last(&entry)).await.is_none() {
                // One that is on its way to the store arrives all the same.
                self.metrics.audit_dropped.inc();
            }
        }
    }

    /// Whether there are enough entries like this one about an account; counts it.
    fn is_too_often(&self, entry: &AuditRecord) -> bool {
        entry.target.is_some_and(|account| self.failed_logins.check(&account).is_err())
    }

    /// Appends an entry, however long the store is away.
    async fn append_at_last(&self, entry: &AuditRecord) {
        while let Err(error) = self.append(entry).await {
            tracing::warn!(%error, "a failed login is not in the audit log yet; it is tried again");
            sleep(AGAIN).await;
        }
    }

    /// Writes what still waits, once nothing is added any more and [`Self::run`] has ended. Gives up after a second.
    pub async fn finish(&self) {
        let write = async {
            let mut queued = self.queued.lock().await;
            while let Ok(entry) = queued.try_recv() {
                if self.is_too_often(&entry) || self.append(&entry).await.is_err() {
                    self.metrics.audit_dropped.inc();
                }
            }
        };
        if timeout(AT_THE_END, write).await.is_err() {
            tracing::warn!("failed logins of the last moments are not in the audit log");
        }
    }

    /// Forgets whose accounts have their whole allowance. To be called now and then.
    pub fn tidy(&self) {
        self.failed_logins.tidy();
    }

    /// Writes what an administrator orders now of a member and is not stored otherwise, before it is done.
    ///
    /// # Errors
    /// `session_revoked` or `forbidden` if they may not order it any more; or the store: what is not in the audit log is not done.
    pub(super) async fn order(
        &self,
        by: Actor,
        action: AuditAction,
        target: MemberId,
        details: Value,
    ) -> Result<(), Failure> {
        let Actor { member: actor, address, .. } = by;
        let entry = AuditRecord { at: self.clock.now(), actor, action, target: Some(target), details, address };
        match self.append_once(&entry, Some(by)).await? {
            Some(overtaken) => Err(overtaken.into()),
            None => Ok(()),
        }
    }

    /// Appends an entry to the audit log, once.
    async fn append(&self, entry: &AuditRecord) -> Result<(), StoreError> {
        self.append_once(entry, None).await.map(drop)
    }

    /// Appends an entry to the audit log, once; an order only if whoever gives it still may. While it is not known whether it is there, it is looked for among the newest
    /// entries.
    async fn append_once(&self, entry: &AuditRecord, order_of: Option<Actor>) -> Result<Option<Overtaken>, StoreError> {
        let attempt = async |late: bool| {
            if !late {
                return match order_of {
                    Some(by) => self.store.append_order(entry.clone(), by).await,
                    None => self.store.append(entry.clone()).await.map(|()| None),
                };
            }
            let found = self.store.entries(None, NEWEST).await?.iter().any(|(_, newest)| newest == entry);
            if found { Ok(None) } else { Err(StoreError::Timeout) }
        };
        Ok(until_known(attempt).await?.outcome)
    }
}
