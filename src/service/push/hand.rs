//! Handing over: what is wanted still goes to couriers, and what they were given is not given to them again.

use futures_util::{
    StreamExt as _,
    future::{join, join_all},
    stream::FuturesUnordered,
};
use protocol::{DeviceId, MemberId, Timestamp};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::{
    Push,
    compose::{Composed, Ready},
    dispatch::{ROOM, TOGETHER},
    held::Batch,
};
use crate::{
    push::{Courier, FRESH, Handed, What},
    store::push::{AddressHash, DeviceMark, NewTask, RegistrationId, Settled, Subject, TakenTask, ToldBadge},
};

/// How often it is found out until it was not too slow.
const COMPOSED_TIMES: usize = 3;

/// What a courier was handed for a task.
#[derive(Clone, Copy)]
struct Sent {
    /// Where to, and which registration of that.
    to: (AddressHash, RegistrationId),
    /// The number at the icon.
    badge: ToldBadge,
    /// It says nothing but that number.
    is_silent: bool,
}

/// What became of a task.
pub(super) struct End {
    pub(super) taken: TakenTask,
    pub(super) settled: Settled,
    pub(super) outcome: &'static str,
    /// What its device need not be told of again.
    pub(super) told: Option<DeviceMark>,
    /// Whether the device shows a number at its icon that showed none before, or the other way round.
    is_toggled: bool,
}

impl Push {
    /// Finds out which tasks are wanted still, has couriers bring them, and stores what becomes of each as soon as that is known.
    pub(super) async fn hand_over(&self, taken: Vec<TakenTask>, batch: &Batch<'_>, composing: SemaphorePermit<'_>) {
        let mut composed = self.composed(&taken).await;
        drop(composing);
        if !batch.lease.is_held() {
            // Another node may have them by now.
            composed.fill(Composed::Later("lease"));
        }
        let mut ends = Vec::new();
        let mut ready = Vec::new();
        for (taken, composed) in taken.into_iter().zip(composed) {
            match composed {
                Composed::Ready(push) => match self.pace.check(&taken.task.member) {
                    Ok(()) => ready.push((taken, *push)),
                    // What comes meanwhile is in the same push.
                    Err(failure) => ends.push(self.postponed(taken, "pace", failure.retry_after)),
                },
                Composed::Nothing(outcome) => ends.push(End::of(taken, Settled::Finished { badge: None }, outcome)),
                Composed::Quiet(due) => {
                    let failures = taken.failures;
                    ends.push(End::of(taken, Settled::Postponed { due, failures }, "quiet"));
                }
                Composed::Later(why) => ends.push(self.postponed(taken, why, None)),
            }
        }
        let mut brought = Vec::with_capacity(self.parts.couriers.len());
        for (courier, room) in self.parts.couriers.iter().zip(&self.rooms) {
            let (own, others): (Vec<_>, Vec<_>) =
                ready.into_iter().partition(|(_, push)| push.parcel.address.service() == courier.service());
            ready = others;
            if !own.is_empty() {
                brought.push(self.bring(courier.as_ref(), room.as_ref(), own, batch));
            }
        }
        for (taken, _) in ready {
            // Of a service that is not set up any more.
            ends.push(End::of(taken, Settled::Finished { badge: None }, "refused"));
        }
        // At the same time: what one service keeps waiting is not told late by the other.
        join(self.settle(batch, ends), join_all(brought)).await;
    }

    /// What there is to be done about tasks, as of a moment ago.
    async fn composed(&self, taken: &[TakenTask]) -> Vec<Composed> {
        for attempt in 1..=COMPOSED_TIMES {
            let begun = Instant::now();
            match self.compose(taken).await {
                // Late is better than never.
                Ok(composed) if begun.elapsed() <= FRESH || attempt == COMPOSED_TIMES => return composed,
                Ok(_) => tracing::debug!("what pushes say was found out too slowly; it is found out again"),
                Err(error) => {
                    tracing::debug!(%error, "what pushes say was not found out; it is tried again");
                    break;
                }
            }
        }
        vec![Composed::Later("store"); taken.len()]
    }

    /// Has a courier bring pushes. Each is settled when it is answered: it does not wait for the slowest.
    async fn bring(
        &self,
        courier: &dyn Courier,
        room: Option<&Semaphore>,
        ready: Vec<(TakenTask, Ready)>,
        batch: &Batch<'_>,
    ) {
        let _place = match room {
            None => None,
            Some(room) => match timeout(ROOM, room.acquire()).await {
                Ok(Ok(place)) => Some(place),
                Ok(Err(_)) | Err(_) => {
                    let late = ready.into_iter().map(|(taken, _)| self.postponed(taken, "late", None)).collect();
                    return self.settle(batch, late).await;
                }
            },
        };
        let (mut tasks, parcels): (Vec<_>, Vec<_>) = ready
            .into_iter()
            .map(|(taken, Ready { parcel, hash, badge_before })| {
                let badge = ToldBadge { badge: parcel.badge, before: badge_before };
                let sent = Sent { to: (hash, parcel.registration), badge, is_silent: parcel.what == What::Badge };
                (Some((taken, sent)), parcel)
            })
            .unzip();
        let mut handed = courier.send(parcels).ready_chunks(TOGETHER).fuse();
        let mut settling = FuturesUnordered::new();
        loop {
            // Requests go on while the store takes its time.
            let some = tokio::select! {
                Some(some) = handed.next() => some,
                Some(()) = settling.next() => continue,
                else => break,
            };
            let some = some.into_iter().filter_map(|(place, handed)| Some((tasks.get_mut(place)?.take()?, handed)));
            let some: Vec<_> = some.collect();
            settling.push(async {
                let mut ends = Vec::with_capacity(some.len());
                for ((taken, sent), handed) in some {
                    ends.push(self.end(taken, sent, handed).await);
                }
                self.settle(batch, ends).await;
            });
        }
    }

    /// What becomes of a task whose parcel was handed to a courier.
    async fn end(&self, taken: TakenTask, sent: Sent, handed: Handed) -> End {
        let Sent { to, badge, is_silent } = sent;
        let (hash, _) = to;
        match handed {
            Handed::Taken => {
                self.refusals.taken(hash);
                let NewTask { member, device, subject, last, at, .. } = &taken.task;
                let (outcome, told) = match subject {
                    Subject::Messages(conversation) if !is_silent => {
                        self.parts.metrics.push_seconds.observe(self.parts.clock.now().since(*at).as_secs_f64());
                        let (member, device, conversation) = (*member, device.clone(), *conversation);
                        ("told", Some(DeviceMark { member, device, conversation, seq: *last }))
                    }
                    Subject::Messages(_) | Subject::Badge => ("badge", None),
                };
                let is_toggled = badge.before.is_some() != (badge.badge > 0);
                End { taken, settled: Settled::Finished { badge: Some(badge) }, outcome, told, is_toggled }
            }
            Handed::Gone => self.gone(taken, to, "gone").await,
            handed if handed.is_refusal() && self.refusals.refused(hash, self.parts.clock.now()) => {
                self.gone(taken, to, "ended").await
            }
            Handed::Refused(why) => {
                if self.given_up.allows() {
                    tracing::info!(why, "pushes are given up: the service will never take them");
                }
                End::of(taken, Settled::Finished { badge: None }, "refused")
            }
            Handed::Later { why, pause } => self.postponed(taken, why, pause),
        }
    }

    /// Ends the registration of an address.
    async fn gone(&self, taken: TakenTask, to: (AddressHash, RegistrationId), outcome: &'static str) -> End {
        let (hash, registration) = to;
        if let Err(error) = self.parts.store.address_gone(hash, registration).await {
            tracing::debug!(%error, "an address at which nobody is was not removed");
        }
        self.devices.forget(taken.task.member);
        // With its device, unless that has another address by now.
        End { outcome, ..self.postponed(taken, "gone", None) }
    }
}

impl End {
    pub(super) fn of(taken: TakenTask, settled: Settled, outcome: &'static str) -> Self {
        Self { taken, settled, outcome, told: None, is_toggled: false }
    }

    /// What was put off until the end of quiet hours, and when that is.
    pub(super) fn quiet(&self) -> Option<(TakenTask, Timestamp)> {
        match self.settled {
            Settled::Postponed { due, .. } if self.outcome == "quiet" => Some((self.taken.clone(), due)),
            _ => None,
        }
    }

    /// Which device was told to show a number at its icon.
    pub(super) fn told_badge(&self) -> Option<(MemberId, DeviceId)> {
        match self.settled {
            Settled::Finished { badge: Some(_) } => Some((self.taken.task.member, self.taken.task.device.clone())),
            _ => None,
        }
    }

    /// Whose device it is that shows a number now, or none any more.
    pub(super) fn toggled(&self) -> Option<MemberId> {
        self.is_toggled.then_some(self.taken.task.member)
    }
}
