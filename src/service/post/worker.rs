//! The worker: takes what is due, hands it over, and decides when what could not be handed over is tried again.

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Post, compose::Composed, lost::LostDomains};
use crate::{
    mail::{Undelivered, smtp::Parcel},
    store::{
        StoreError,
        mail::{Expired, Mail, NOTICE_LIFETIME, TakenMail, WaitingMail},
    },
};

/// How often it is looked for mails that nobody told of: those whose time has come, and those of other nodes.
const LOOK: Duration = Duration::from_secs(10);
/// When a mail that was taken is due again, if whoever took it does not tell: so much longer than it may take to hand it over.
pub(super) const LEASE: Duration = Duration::from_secs(60);
/// How long what a mail says may take to be found out.
const COMPOSING: Duration = Duration::from_secs(30);
/// When a mail is tried again after it failed once; twice as long each time. Never for longer than [`Post::longest`]: what is due later than that
/// is taken for the trace of a wrong clock.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest time until then.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How long nothing is sent after no mail could be handed over; twice as long each time.
const REST: Duration = Duration::from_secs(1);
/// The longest time of that.
const REST_MAX: Duration = Duration::from_secs(60);
/// How many mails in a row the mail server may be lost at until it is taken for lost to all.
const LOST_MAX: u32 = 2;
/// After so many more in a row nothing is sent for twice as long.
const LOST_DOUBLED: u32 = 8;
/// An answer that takes longer than this keeps others back as one that does not come does, if it is not that the mail was taken.
const SLOW: Duration = Duration::from_secs(2);
/// Of so many mails one is taken of those that were set aside, if one is due: else those would never be sent while there are always others.
const ASIDE_EVERY: u32 = 8;
/// How far what nodes take the clock that they share to show may be apart, and more: answers of the database are slow, or it has moved to
/// a server with another clock.
const SKEW: Duration = Duration::from_secs(60);

/// What came of trying a mail, when others can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// The mail server was not asked for anything.
    Alone,
    /// It has answered: the mail was taken, refused, or refused for now.
    Answered,
    /// It was lost, at this mail.
    Lost,
}

/// Why no mail is sent for a while.
enum Stopped {
    /// No mail can be sent.
    ForAll(String),
    /// The mail server was lost at several in a row; another one may be sent.
    ForSome,
}

/// How it went until now.
#[derive(Debug, Default)]
struct Run {
    /// How often no mail could be sent, in a row.
    failures: u32,
    /// At how many mails in a row the mail server was lost.
    lost: u32,
    /// Mails that were taken.
    taken: u32,
    /// Where it was lost a moment ago.
    lost_domains: LostDomains,
}

impl Post {
    /// Sends mails until `stop`. For one task only.
    pub async fn run(&self, stop: CancellationToken) {
        if self.is_alone() {
            // Taken before a kill: nobody has them in hand.
            self.hasten(Duration::ZERO).await;
        }
        // Of a run that panicked.
        self.let_go().await;
        let greeted_and_sent = async {
            self.greet().await;
            self.work().await;
        };
        let _: Option<()> = stop.run_until_cancelled(greeted_and_sent).await;
        self.let_go().await;
    }

    /// Says what is wrong with the settings before a member waits for a mail.
    async fn greet(&self) {
        if let Err(problem) = self.transport.lock().await.greet().await {
            tracing::warn!(problem, "the mail server cannot be used as it is set up; mails wait until it can");
        }
    }

    /// What was being handed over is due again, for whoever sends mails next. It may have been taken by the mail server, and is sent once more then.
    async fn let_go(&self) {
        let taken = self.in_hand().take();
        if let Some(taken) = taken
            && let Err(error) = self.store.postpone(taken, self.now()).await
        {
            tracing::debug!(%error, "a mail that was in hand is sent when its lease ends");
        }
    }

    /// What lies further ahead than this is due now, and what nobody has taken yet. Returns when to look again, if it is
    /// not as before.
    async fn hasten(&self, longest: Duration) -> Option<Duration> {
        let now = self.now();
        match self.store.hasten(now.after(longest), now).await {
            Ok(0) => None,
            Ok(mails) => {
                tracing::info!(mails, "mails that nobody has in hand are due now");
                Some(Duration::ZERO)
            }
            Err(error) => {
                tracing::debug!(%error, "mails are due later than they could be");
                Some(PAUSE)
            }
        }
    }

    /// The longest time until a mail is due that is in hand or waits for its next attempt.
    fn longest(&self) -> Duration {
        self.lease.max(PAUSE_MAX).saturating_add(if self.is_alone() { Duration::ZERO } else { SKEW })
    }

    /// Held for some instructions, and never across a call that could panic.
    fn in_hand(&self) -> MutexGuard<'_, Option<TakenMail>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn work(&self) {
        let mut run = Run::default();
        loop {
            let rest = self.look().await;
            if rest.is_zero() {
                match self.send_due(&mut run).await {
                    Ok(()) => run.failures = 0,
                    Err(stopped) => self.pause(stopped, &mut run).await,
                }
            } else if timeout(rest, self.wanted.notified()).await.is_err() && rest >= LOOK {
                // For longer than that no connection is kept.
                self.transport.lock().await.rest().await;
            }
        }
    }

    /// Sends nothing for a while.
    async fn pause(&self, stopped: Stopped, run: &mut Run) {
        self.transport.lock().await.rest().await;
        match stopped {
            Stopped::ForAll(problem) => {
                let pause = REST.saturating_mul(1 << run.failures.min(16)).min(REST_MAX);
                run.failures += 1;
                tracing::warn!(problem, seconds = pause.as_secs(), "no mail can be sent; it is tried again");
                // Not to be woken: a further mail would fail too.
                sleep(pause).await;
            }
            // Each of them waits longer and longer; others may be waiting behind them. Where there are very many it is all.
            Stopped::ForSome => {
                let doubled = (run.lost / LOST_DOUBLED).min(16);
                let pause = REST.saturating_mul(1 << doubled).min(REST_MAX);
                // Whoever waits now may not be one of them.
                let _: Result<(), _> = timeout(pause, self.wanted.notified()).await;
            }
        }
    }

    /// For how long nothing becomes due, or when to look again; zero if something is due.
    async fn look(&self) -> Duration {
        // Whatever fails was logged and counted where it arose, and is found again.
        if self.is_off {
            let _ = self.store.expire(self.now(), Expired::All).await;
        }
        let Ok(waiting) = self.store.waiting().await else { return PAUSE };
        self.count(waiting);
        // After the store was asked: before that the clock that nodes share may not be known yet.
        let Some(ahead) = waiting.next.filter(|_| !self.is_off).map(|due| due.since(self.now())) else { return LOOK };
        // A clock was ahead when it was written, taken or put off.
        let hastened = if ahead.is_zero() { None } else { self.hasten(self.longest()).await };
        ahead.min(hastened.unwrap_or(LOOK))
    }

    /// Counts what waits.
    fn count(&self, WaitingMail { count, .. }: WaitingMail) {
        self.metrics.mail_waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The next mail that is due. What was set aside comes last, and now and then first.
    async fn next(&self, run: &mut Run) -> Result<Option<TakenMail>, StoreError> {
        let now = self.now();
        let until = now.after(self.lease);
        run.taken = run.taken.wrapping_add(1);
        if run.taken.is_multiple_of(ASIDE_EVERY)
            && let Some(taken) = self.store.take_aside(now, until).await?
        {
            return Ok(Some(taken));
        }
        self.store.take(now, until).await
    }

    /// Sends what is due. Once the mail server has taken or refused one, failures begin anew.
    ///
    /// # Errors
    /// Why none are sent at the moment.
    async fn send_due(&self, run: &mut Run) -> Result<(), Stopped> {
        loop {
            match self.next(run).await {
                Ok(Some(taken)) => {
                    *self.in_hand() = Some(taken.clone());
                    // A queue is long when a run is: whoever watches it must not wait for the end of that.
                    if let Ok(waiting) = self.store.waiting().await {
                        self.count(waiting);
                    }
                    let attempted = self.attempt(taken, run).await;
                    *self.in_hand() = None;
                    match attempted.map_err(Stopped::ForAll)? {
                        Attempt::Alone => {}
                        Attempt::Answered => (run.failures, run.lost) = (0, 0),
                        Attempt::Lost => run.lost += 1,
                    }
                    if run.lost >= LOST_MAX {
                        return Err(Stopped::ForSome);
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => return Err(Stopped::ForAll(error.to_string())),
            }
        }
    }

    /// Tries a mail; it is tried again later if it fails.
    async fn attempt(&self, taken: TakenMail, run: &mut Run) -> Result<Attempt, String> {
        let (kind, attempts, until) = (taken.kind.as_str(), taken.attempts, taken.until);
        let Some(mail) = taken.mail.clone() else {
            tracing::warn!(mail = kind, key = taken.key, "a mail is given up: what is stored of it cannot be read");
            self.finish(taken, "unreadable").await;
            return Ok(Attempt::Alone);
        };
        if until <= self.now() {
            tracing::warn!(mail = kind, attempts, "a mail is given up: it could not be sent in time");
            self.give_up(taken, "expired").await;
            return Ok(Attempt::Alone);
        }
        let composed = match timeout(COMPOSING, self.compose(&taken, &mail)).await {
            Ok(Ok(composed)) => composed,
            // The store: nothing can be sent while it does not answer, or has too much to do. For what comes of a mail there is always room.
            Ok(Err(failure)) => return Err(self.put_off(taken, failure.message).await),
            Err(_) => return Err(self.put_off(taken, "the store did not answer in time".to_owned()).await),
        };
        let parcel = match composed {
            Composed::Parcel(parcel) => parcel,
            Composed::Nothing(outcome) => {
                self.finish(taken, outcome).await;
                return Ok(Attempt::Alone);
            }
        };
        if attempts <= 1 && run.lost_domains.has(&parcel.to) {
            // Before those that were tried: where there are no others it is the next.
            self.settle(|| self.store.set_aside(taken.clone(), self.now().before(NOTICE_LIFETIME))).await;
            return Ok(Attempt::Alone);
        }
        self.hand_over(taken, &parcel, run).await
    }

    /// Hands a mail over to the mail server.
    async fn hand_over(&self, taken: TakenMail, parcel: &Parcel, run: &mut Run) -> Result<Attempt, String> {
        let (kind, attempts) = (taken.kind.as_str(), taken.attempts);
        let begun = Instant::now();
        let taken_over = match self.transport.lock().await.take(parcel).await {
            Err(Undelivered::Later(why) | Undelivered::Denied(why)) if begun.elapsed() > SLOW => {
                Err(Undelivered::Lost(why))
            }
            other => other,
        };
        match &taken_over {
            Err(Undelivered::Unreachable(_)) => {}
            Err(Undelivered::Lost(_)) => run.lost_domains.add(&parcel.to),
            _ => run.lost_domains.remove(&parcel.to),
        }
        match taken_over {
            Ok(outcome) => self.finish(taken, outcome).await,
            Err(Undelivered::Refused(why)) => {
                tracing::warn!(
                    mail = kind,
                    member = taken.mail.as_ref().and_then(Mail::member).map(tracing::field::display),
                    why,
                    "a mail is given up: it is refused"
                );
                self.give_up(taken, "refused").await;
            }
            Err(Undelivered::Later(why)) => {
                tracing::info!(mail = kind, attempts, why, "a mail is sent again later");
                self.postpone(taken, PAUSE_MAX).await;
            }
            Err(Undelivered::Denied(why)) => {
                tracing::warn!(
                    mail = kind,
                    attempts,
                    why,
                    "a rule of the mail server keeps a mail back; it is sent again later"
                );
                self.postpone(taken, PAUSE_MAX).await;
            }
            Err(Undelivered::Lost(why)) => {
                tracing::warn!(
                    mail = kind,
                    attempts,
                    why,
                    "the mail server was lost, or slow, at a mail; others go before it"
                );
                self.metrics.mail(kind, "failed");
                self.set_aside(taken).await;
                return Ok(Attempt::Lost);
            }
            Err(Undelivered::Unreachable(why)) => return Err(self.put_off(taken, why).await),
        }
        Ok(Attempt::Answered)
    }

    async fn finish(&self, taken: TakenMail, outcome: &'static str) {
        self.metrics.mail(taken.kind.as_str(), outcome);
        self.settle(|| self.store.finish(taken.clone())).await;
    }

    /// Stores what became of a mail. A store that takes no writes for a moment must not leave it in hand until its lease ends: that is minutes.
    async fn settle<F: Future<Output = Result<(), StoreError>>>(&self, store: impl Fn() -> F) {
        let begun = Instant::now();
        let mut failed = false;
        while let Err(error) = store().await {
            if !failed {
                tracing::warn!(%error, "what became of a mail was not stored; it is tried again");
            }
            failed = true;
            if begun.elapsed() + PAUSE >= self.lease {
                // It is due again.
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// Ends a mail that nobody has got: a link in it is not one that was sent.
    async fn give_up(&self, taken: TakenMail, outcome: &'static str) {
        self.metrics.mail(taken.kind.as_str(), outcome);
        self.settle(|| self.store.give_up(taken.clone())).await;
    }

    /// Has a mail tried again after all others that are due by then.
    async fn set_aside(&self, taken: TakenMail) {
        let pause = pause_after(taken.attempts, PAUSE_MAX);
        self.settle(|| self.store.set_aside(taken.clone(), self.now().after(pause))).await;
    }

    /// Has a mail tried again that failed of what all fail of, and says of what. That passes for all at once. Each is put off all the same:
    /// one alone may be the reason.
    async fn put_off(&self, taken: TakenMail, why: String) -> String {
        self.postpone(taken, REST_MAX).await;
        why
    }

    /// Has a mail tried again, after `longest` at most. The pause begins now: a server that hangs has one, too.
    async fn postpone(&self, taken: TakenMail, longest: Duration) {
        self.metrics.mail(taken.kind.as_str(), "failed");
        let pause = pause_after(taken.attempts, longest);
        self.settle(|| self.store.postpone(taken.clone(), self.now().after(pause))).await;
    }
}

/// When a mail is tried again after so many attempts: later each time, after `longest` at most, and never after longer than [`PAUSE_MAX`].
fn pause_after(attempts: u32, longest: Duration) -> Duration {
    let doubled = attempts.min(16).saturating_sub(1);
    PAUSE.saturating_mul(1 << doubled).min(longest).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by faults: mails that were put off for longer than that were taken for the trace of a wrong clock, and tried 500 times a second.
    #[test]
    fn no_mail_is_put_off_for_longer_than_a_mail_that_is_in_hand_may_be_due_ahead() {
        for longest in [REST_MAX, PAUSE_MAX, NOTICE_LIFETIME] {
            assert_eq!((pause_after(1, longest), pause_after(3, longest)), (PAUSE, PAUSE * 4));
            assert!((0..100).all(|attempts| pause_after(attempts, longest) <= PAUSE_MAX.min(longest)));
        }
    }
}
