//! Reading from the store what may have been missed, and delivering it as state.
//!
//! One query finds what has changed for anybody since the floor; for those conversations whose members are connected here, and
//! of which something was not delivered, their state is read and sent in `sync` frames. State: twice changes nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use protocol::{
    CloseCode, MemberId, ServerFrame, limits::SYNC_FRAME_BYTES, model::Conversation, server::Sync,
    size::conversation_bytes,
};
use tokio::time::{Instant, sleep};

use super::{Fleet, told::Missing};
use crate::{
    cluster::roster::{Begin, Sweep},
    hub::{Close, Connection, Delivery, Frame},
    position::{Epoch, Position, StreamPosition},
    service::views,
    store::{
        StoreError,
        fleet::{CHANGES_MAX, ChangedConversation, Missed},
    },
};
/// How often the store is swept while something is in doubt.
const PACE: Duration = Duration::from_millis(250);
/// The longest pause between two.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Every so many sweeps goes back to the floor; those between look only at what changed just now.
const WHOLE: u32 = 4;
/// How far back those between look: a change shows that much after its stamp, nearly always.
const OVERLAP: u64 = 1_000;
/// Conversations whose states are read at once.
const READ: usize = 200;

/// The pause after a sweep that took so long. A database that is slow is slower with every read, so sweeping takes a fifth of the time;
/// but one that hung for a while is not to be left alone for long when it goes on.
fn pause_after(elapsed: Duration) -> Duration {
    (elapsed * 4).clamp(PACE, LONGEST_PAUSE)
}

impl Fleet {
    /// Sweeps while anything is in doubt, until it is closed. For one task only.
    pub async fn sweep(self: Arc<Self>) {
        let _: Option<()> = self.stop.run_until_cancelled(self.sweep_on()).await;
    }

    async fn sweep_on(&self) {
        let (mut number, mut newest) = (0_u32, StreamPosition::NOWHERE);
        loop {
            if !self.roster().is_in_doubt() {
                self.doubted.notified().await;
                number = 0;
            }
            let started = Instant::now();
            let (is_first, whole) = (number == 0, number.is_multiple_of(WHOLE));
            number = number.wrapping_add(1);
            let swept = self.sweep_once(whole, &mut newest).await;
            self.parts.metrics.sweep_seconds.observe(started.elapsed().as_secs_f64());
            let pause = match swept {
                // It read what was delivered before the doubt, too, and takes longer than those after it.
                Ok(()) if is_first => PACE,
                Ok(()) => pause_after(started.elapsed()),
                Err(error) => {
                    // The floor stands still; what was missed is found by the next one.
                    tracing::debug!(%error, "a sweep failed");
                    number = 0;
                    PACE
                }
            };
            sleep(pause).await;
        }
    }

    /// One sweep. `newest`: the newest change that was seen so far.
    async fn sweep_once(&self, whole: bool, newest: &mut StreamPosition) -> Result<(), StoreError> {
        let begin = self.roster().begin_sweep();
        let sweep = match begin {
            Begin::Nowhere => return Ok(()),
            Begin::Anew => {
                self.start_over();
                return Ok(());
            }
            Begin::Since(sweep) => sweep,
        };
        // Before anything is read: what is stamped up to here is visible.
        let horizon = self.parts.log.horizon();
        if newest.epoch != sweep.since.epoch {
            *newest = sweep.since;
        }
        let recent = Position(newest.position.0.saturating_sub(OVERLAP));
        let since = if whole { sweep.since.position } else { sweep.since.position.max(recent) };
        self.sweep_since(since, sweep, &mut newest.position).await?;
        if whole {
            self.sweep_profiles(sweep.since.position).await?;
            self.parts.told.end_sweep();
            self.change(|roster, now| roster.end_sweep(sweep, horizon, now));
        }
        Ok(())
    }

    async fn sweep_since(&self, mut since: Position, sweep: Sweep, newest: &mut Position) -> Result<(), StoreError> {
        loop {
            let changes = self.parts.store.changes(since).await?;
            let (found, last) = (changes.len(), changes.last().map(|last| last.changed));
            let wanted: Vec<_> = changes.into_iter().filter_map(|changed| self.wanted(changed)).collect();
            for some in wanted.chunks(READ) {
                self.deliver(some, sweep.since.position).await?;
            }
            let Some(last) = last else { return Ok(()) };
            *newest = last.max(*newest);
            if found < CHANGES_MAX {
                return Ok(());
            }
            // Others may have changed in the same millisecond as the last one.
            let before_last = Position(last.0.saturating_sub(1));
            since = if before_last > since { before_last } else { last };
        }
    }

    /// Whether something of a conversation is missing for somebody who is connected here.
    fn wanted(&self, changed: ChangedConversation) -> Option<(ChangedConversation, Missing, Vec<MemberId>)> {
        let members: Vec<MemberId> = changed.members.iter().map(|each| each.member).collect();
        // It may have begun only now.
        self.parts.watching.met(&members);
        let here: Vec<MemberId> = members.into_iter().filter(|member| self.parts.hub.is_connected(*member)).collect();
        if here.is_empty() {
            return None;
        }
        let missing = self.parts.told.missing(&changed)?;
        Some((changed, missing, here))
    }

    /// Delivers conversations as they are now.
    async fn deliver(
        &self,
        some: &[(ChangedConversation, Missing, Vec<MemberId>)],
        since: Position,
    ) -> Result<(), StoreError> {
        let missed = some.iter().map(|(changed, missing, here)| Missed {
            conversation: changed.id,
            after: missing.after,
            members: here.clone(),
        });
        let states = self.parts.store.states(missed.collect(), since).await?;
        let mut of_members: HashMap<MemberId, Vec<Conversation>> = HashMap::new();
        for (member, state) in states {
            of_members.entry(member).or_default().push(views::conversation(state));
        }
        for (member, conversations) in of_members {
            self.send(member, conversations);
        }
        for (changed, missing, _) in some {
            self.parts.told.swept(changed);
            self.parts.log.told(changed.id, missing.after + 1, changed.last_seq);
            self.parts.metrics.swept_conversations.inc();
        }
        Ok(())
    }

    /// Sends a member's connections conversations as they are.
    fn send(&self, member: MemberId, conversations: Vec<Conversation>) {
        let connections = self.parts.hub.connections_of(member);
        let mut rest = conversations.into_iter().peekable();
        while let Some(first) = rest.next() {
            let mut bytes = conversation_bytes(&first);
            let mut frame = vec![first];
            while let Some(next) = rest.next_if(|next| bytes + conversation_bytes(next) <= SYNC_FRAME_BYTES) {
                bytes += conversation_bytes(&next);
                frame.push(next);
            }
            for connection in &connections {
                self.push(connection, frame.clone());
            }
        }
    }

    fn push(&self, connection: &Connection, conversations: Vec<Conversation>) {
        // Everything up to this cursor is in the outbox already, or in the sync that has begun and comes first.
        let synced = Some(connection.synced()).filter(|epoch| *epoch != Epoch::NONE);
        let synced = synced.unwrap_or_else(|| self.parts.log.horizon().epoch);
        let cursor = self.parts.messaging.published(connection.member, synced);
        let sync = ServerFrame::Sync(Sync { conversations, cursor });
        connection.outbox.push(Delivery::Event(Frame::push(&sync)));
    }

    /// Positions are of another epoch by now, so nobody knows what was missed: whoever is connected comes back, and syncs.
    pub(super) fn start_over(&self) {
        tracing::warn!("what may have been missed cannot be found by its position: clients sync anew");
        let horizon = self.parts.log.horizon();
        let spread = u64::try_from(self.parts.hub.members()).unwrap_or(u64::MAX).saturating_mul(2).clamp(1_000, 30_000);
        let retry = || Some(self.parts.ids.below(spread));
        // In this order: whoever syncs after it was forgotten what was in doubt may miss only what is in doubt from then on.
        self.change(|roster, _| roster.start_over(horizon));
        self.parts.hub.close_all(|_| Close { code: CloseCode::GoingAway, retry_after_ms: retry() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found from outside: a database that hung for five seconds was not swept for twenty more.
    #[test]
    fn a_sweep_that_waited_is_followed_by_the_next_within_a_second() {
        let pause = |millis| pause_after(Duration::from_millis(millis)).as_millis();
        assert_eq!([0, 50, 100, 5_000].map(pause), [250, 250, 400, 1_000]);
    }
}
