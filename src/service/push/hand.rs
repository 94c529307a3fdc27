//! Handing over: what is wanted still goes to couriers, and what they were given is not given to them again.

use std::time::Duration;

use futures_util::future::join_all;
use protocol::{MemberId, Timestamp};
use tokio::time::Instant;

use super::{
    Push,
    compose::{Composed, Ready},
    lease::Lease,
};
use crate::{
    push::{Courier, Handed},
    store::push::{AddressHash, DeviceMark, NewTask, Settled, Subject, TakenTask},
};

/// How old what was found out about tasks may be when they are handed over: something may be read, or somebody log out, every moment.
const FRESH: Duration = Duration::from_secs(2);
/// How often it is found out until it was not too slow.
const COMPOSED_TIMES: usize = 3;
/// What became of a task.
pub(super) struct End {
    pub(super) taken: TakenTask,
    pub(super) settled: Settled,
    pub(super) outcome: &'static str,
    /// What its device need not be told of again.
    told: Option<DeviceMark>,
    /// Whether the device shows a number at its icon that showed none before, or the other way round.
    is_toggled: bool,
}

impl Push {
    /// Finds out which tasks are wanted still, and has couriers bring them.
    pub(super) async fn hand_over(&self, taken: Vec<TakenTask>, lease: &Lease) -> Vec<End> {
        let mut composed = self.composed(&taken).await;
        if !lease.is_held() {
            // Another node may have them by now.
            composed.fill(Composed::Later("lease"));
        }
        let mut ends = Vec::with_capacity(taken.len());
        let mut ready = Vec::new();
        for (taken, composed) in taken.into_iter().zip(composed) {
            match composed {
                Composed::Ready(push) => ready.push((taken, *push)),
                Composed::Nothing(outcome) => ends.push(End::of(taken, Settled::Finished { badge: None }, outcome)),
                Composed::Quiet(due) => ends.push(End::of(taken, Settled::Postponed { due }, "quiet")),
                Composed::Later(why) => {
                    let end = self.postponed(taken, why, None);
                    ends.push(end);
                }
            }
        }
        let mut brought = Vec::with_capacity(self.parts.couriers.len());
        for courier in &self.parts.couriers {
            let (own, others): (Vec<_>, Vec<_>) =
                ready.into_iter().partition(|(_, push)| push.parcel.address.service() == courier.service());
            ready = others;
            if !own.is_empty() {
                brought.push(self.bring(courier.as_ref(), own));
            }
        }
        // At the same time: what one service keeps waiting is not told late by the other.
        ends.extend(join_all(brought).await.into_iter().flatten());
        for (taken, _) in ready {
            // Of a service that is not set up any more.
            ends.push(End::of(taken, Settled::Finished { badge: None }, "refused"));
        }
        ends
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

    /// Has a courier bring pushes, and stores which devices were told: then nobody tells them again, whatever becomes of the rest.
    async fn bring(&self, courier: &dyn Courier, ready: Vec<(TakenTask, Ready)>) -> Vec<End> {
        let (tasks, parcels): (Vec<_>, Vec<_>) = ready
            .into_iter()
            .map(|(taken, Ready { parcel, hash, registered_at, had_badge })| {
                ((taken, (hash, registered_at), (had_badge, parcel.badge)), parcel)
            })
            .unzip();
        let mut ends = Vec::with_capacity(tasks.len());
        for ((taken, address, badges), handed) in tasks.into_iter().zip(courier.send(parcels).await) {
            ends.push(self.end(taken, address, badges, handed).await);
        }
        let told: Vec<DeviceMark> = ends.iter().filter_map(|end| end.told.clone()).collect();
        if !told.is_empty() {
            self.insist(|| self.parts.store.acknowledge(told.clone())).await;
        }
        ends
    }

    /// What becomes of a task whose parcel was handed to a courier.
    async fn end(
        &self,
        taken: TakenTask,
        (hash, registered_at): (AddressHash, Timestamp),
        (had_badge, badge): (bool, u32),
        handed: Handed,
    ) -> End {
        match handed {
            Handed::Taken => {
                let NewTask { member, device, subject, last, at, .. } = &taken.task;
                let (outcome, told) = match subject {
                    Subject::Badge => ("badge", None),
                    Subject::Messages(conversation) => {
                        self.parts.metrics.push_seconds.observe(self.parts.clock.now().since(*at).as_secs_f64());
                        let (member, device, conversation) = (*member, device.clone(), *conversation);
                        ("told", Some(DeviceMark { member, device, conversation, seq: *last }))
                    }
                };
                let is_toggled = had_badge != (badge > 0);
                End { taken, settled: Settled::Finished { badge: Some(badge) }, outcome, told, is_toggled }
            }
            Handed::Gone => {
                // The one that it was sent to, whatever clocks show by now.
                if let Err(error) = self.parts.store.address_gone(hash, registered_at).await {
                    tracing::debug!(%error, "an address at which nobody is was not removed");
                }
                self.devices.forget(taken.task.member);
                // With its device, unless that has another address by now.
                End { outcome: "gone", ..self.postponed(taken, "gone", None) }
            }
            Handed::Refused(why) => {
                tracing::info!(why, "a push is given up: the service will never take it");
                End::of(taken, Settled::Finished { badge: None }, "refused")
            }
            Handed::Later { why, pause } => self.postponed(taken, why, pause),
        }
    }
}

impl End {
    pub(super) fn of(taken: TakenTask, settled: Settled, outcome: &'static str) -> Self {
        Self { taken, settled, outcome, told: None, is_toggled: false }
    }

    /// What was put off until the end of quiet hours, and when that is.
    pub(super) fn quiet(&self) -> Option<(TakenTask, Timestamp)> {
        match self.settled {
            Settled::Postponed { due } if self.outcome == "quiet" => Some((self.taken.clone(), due)),
            _ => None,
        }
    }

    /// Whose device it is that shows a number now, or none any more.
    pub(super) fn toggled(&self) -> Option<MemberId> {
        self.is_toggled.then_some(self.taken.task.member)
    }
}
