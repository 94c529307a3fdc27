//! Handing a mail over, and when what could not be handed over is tried again.

use std::{
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    Post,
    compose::Composed,
    domains::Domains,
    worker::{Attempt, PAUSE, PAUSE_MAX, REST_MAX, Sender},
};
use crate::{
    mail::{
        Undelivered,
        smtp::{Haste, Parcel},
    },
    store::{
        StoreError,
        mail::{Lane, Mail, TakenMail},
    },
};

/// How long what a mail says may take to be found out.
const COMPOSING: Duration = Duration::from_secs(30);

impl Post {
    /// Tries a mail; it is tried again later if it fails.
    pub(super) async fn attempt(&self, sender: &Sender, taken: TakenMail) -> Result<Attempt, String> {
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
        let (rest, is_doubtful) = {
            let domains = self.domains(sender.lane);
            (domains.rest_after_failure(&parcel.to), domains.is_doubtful(&parcel.to))
        };
        // It may cost as long as the one before it did. That is no attempt.
        let untried = || TakenMail { attempts: attempts.saturating_sub(1).max(1), ..taken.clone() };
        match (sender.lane.is_aside(), rest) {
            (false, _) if is_doubtful => self.set_aside(sender, untried(), Duration::ZERO).await,
            // All at a domain are due at the same time then, and who was tried least is first.
            (true, Some(left)) => {
                self.put_back(untried(), left + Duration::from_millis(u64::from(attempts.min(1_000)))).await;
            }
            _ => return self.hand_over(sender, taken, parcel).await,
        }
        Ok(Attempt::Alone)
    }

    /// Hands a mail over to the mail server. What fails is tried again in the lane aside: others wait for one attempt of each mail, and no more.
    async fn hand_over(&self, sender: &Sender, taken: TakenMail, parcel: Box<Parcel>) -> Result<Attempt, String> {
        let (kind, attempts) = (taken.kind.as_str(), taken.attempts);
        let are_many_slow = self.domains(sender.lane).are_many_slow();
        let haste = match (sender.lane.is_aside(), are_many_slow) {
            (true, false) => None,
            (true, true) => Some(Haste::Little),
            (false, false) => Some(Haste::Some),
            (false, true) => Some(Haste::Much),
        };
        let (taken_over, cost) = sender.transport.lock().await.take(&parcel, haste).await;
        match &taken_over {
            // Whoever's mail it was: the domain takes some.
            Ok(_) => {
                for lane in [Lane::Members, Lane::Strangers] {
                    self.domains(lane).took(&parcel.to, cost);
                }
            }
            Err(Undelivered::Unreachable(_)) => {}
            Err(undelivered) => {
                let is_lost = matches!(undelivered, Undelivered::Lost(_));
                self.domains(sender.lane).failed(&parcel.to, is_lost, cost);
            }
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
                self.fail(sender, taken).await;
            }
            Err(Undelivered::Denied(why)) => {
                tracing::warn!(
                    mail = kind,
                    attempts,
                    why,
                    "a rule of the mail server keeps a mail back; it is sent again later"
                );
                self.fail(sender, taken).await;
            }
            Err(Undelivered::Lost(why)) => {
                tracing::warn!(
                    mail = kind,
                    attempts,
                    why,
                    "the mail server was lost at a mail; it is tried again beside the others"
                );
                self.fail(sender, taken).await;
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

    /// Has a mail taken again after a while.
    async fn put_back(&self, taken: TakenMail, pause: Duration) {
        self.settle(|| self.store.postpone(taken.clone(), self.now().after(pause))).await;
    }

    /// Has a mail that has failed tried again, beside all others. The pause begins now: a server that hangs has one, too.
    async fn fail(&self, sender: &Sender, taken: TakenMail) {
        self.metrics.mail(taken.kind.as_str(), "failed");
        let pause = pause_after(taken.attempts, PAUSE_MAX);
        self.set_aside(sender, taken, pause).await;
    }

    /// Has a mail taken beside all others after a while.
    async fn set_aside(&self, sender: &Sender, taken: TakenMail, pause: Duration) {
        self.settle(|| self.store.set_aside(taken.clone(), self.now().after(pause))).await;
        if !sender.lane.is_aside() {
            self.senders.iter().filter(|other| other.lane == sender.lane.aside()).for_each(Sender::wake);
        }
    }

    /// Domains, as a lane knows them. Held for some instructions that do not panic.
    fn domains(&self, lane: Lane) -> MutexGuard<'_, Domains> {
        let [of_members, of_strangers] = &self.domains;
        let domains = match lane {
            Lane::Lookups | Lane::Members | Lane::MembersAside => of_members,
            Lane::Strangers | Lane::StrangersAside => of_strangers,
        };
        domains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a mail tried again that failed of what all fail of, and says of what. That passes for all at once. Each is put off all the same:
    /// one alone may be the reason.
    async fn put_off(&self, taken: TakenMail, why: String) -> String {
        self.metrics.mail(taken.kind.as_str(), "failed");
        let pause = pause_after(taken.attempts, REST_MAX);
        self.put_back(taken, pause).await;
        why
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
    use crate::store::mail::NOTICE_LIFETIME;

    /// Found by faults: mails that were put off for longer than that were taken for the trace of a wrong clock, and tried 500 times a second.
    #[test]
    fn no_mail_is_put_off_for_longer_than_a_mail_that_is_in_hand_may_be_due_ahead() {
        for longest in [REST_MAX, PAUSE_MAX, NOTICE_LIFETIME] {
            assert_eq!((pause_after(1, longest), pause_after(3, longest)), (PAUSE, PAUSE * 4));
            assert!((0..100).all(|attempts| pause_after(attempts, longest) <= PAUSE_MAX.min(longest)));
        }
    }
}
