//! Looking through the log: for what the process before this one has stored, or a node that is gone, and nobody has looked at; and for what this
//! node had no room for. The same is decided as of what was stored just now.

use std::{
    sync::{MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{Push, watch::Candidate};
use crate::{
    position::Position,
    store::{
        StoreError,
        push::{StoredPlace, Stretch, Unlooked},
    },
};

/// How often it is looked for nodes that are gone.
const OFTEN: Duration = Duration::from_secs(1);
/// The same while no device is registered, and by whom no other node uses the store.
const SELDOM: Duration = Duration::from_secs(30);
/// How long a look may take before another node looks too.
const LEASE: Duration = Duration::from_secs(60);
/// Entries that are read together.
const TOGETHER: usize = 500;
/// When it is looked again for what is not certain to be complete yet.
const SOON: Duration = Duration::from_millis(200);
/// When it is looked again for what was not seen yet.
const AGAIN: Duration = Duration::from_millis(500);
/// How often it is written, while nothing is pushed, that what is stored is for nobody.
const OVER: Duration = Duration::from_secs(2);
/// The longest quiet hours.
const DAY: Duration = Duration::from_secs(86_400);

impl Push {
    /// Looks for more, again and again.
    pub(super) async fn look_for_more(&self) {
        let intake = &self.parts.intake;
        if self.options.is_shared {
            self.begin_place().await;
        }
        // Those that were connected to the process before this one come back, and say what they have.
        sleep(intake.after()).await;
        loop {
            if let Err(error) = self.look_once().await {
                tracing::debug!(%error, "what was stored was not looked through; it is tried again");
                sleep(SOON).await;
                continue;
            }
            let is_hurried = self.options.is_shared && intake.is_on();
            // Whoever waits longer has nothing to look for.
            let _ = timeout(if is_hurried { OFTEN } else { SELDOM }, intake.look.notified()).await;
        }
    }

    /// Has others know from where on they have to look if this node is gone before it has written how far it has come.
    async fn begin_place(&self) {
        loop {
            let begun = if self.begun == Position::default() { (self.parts.published)() } else { self.begun };
            if begun != Position::default() && self.parts.store.add(Vec::new(), Some(begun)).await.is_ok() {
                return;
            }
            sleep(SOON).await;
        }
    }

    /// While nothing is pushed: says again and again that what is stored is for nobody, also once pushes are turned on again.
    pub(super) async fn pass_on(&self) {
        loop {
            self.pass_over().await;
            sleep(OVER).await;
        }
    }

    /// The same once. Where other nodes use the store nobody knows whether those push, and who takes over what: nothing is passed over there.
    pub(super) async fn pass_over(&self) {
        if self.options.is_shared {
            return;
        }
        let place = (self.parts.published)();
        if let Err(error) = self.try_to_pass_over(place).await {
            tracing::debug!(%error, "it is tried again to pass over what was stored while nothing is pushed");
        }
    }

    async fn try_to_pass_over(&self, place: Position) -> Result<(), StoreError> {
        let store = &self.parts.store;
        let is_begun = self.has_looked_back.load(Ordering::Acquire);
        // As long as nothing is pushed no device is registered: if there was none at the start, there is nobody to be told of anything.
        if (is_begun && place.0 == self.written.load(Ordering::Relaxed)) || store.count().await? == 0 {
            return Ok(());
        }
        if !is_begun {
            let now = self.parts.clock.now();
            if let Some(unlooked) = store.unlooked(now, now.after(LEASE)).await? {
                store.looked(unlooked).await?;
            }
        }
        store.add(Vec::new(), Some(place)).await?;
        self.written.store(place.0, Ordering::Relaxed);
        self.has_looked_back.store(true, Ordering::Release);
        Ok(())
    }

    async fn look_once(&self) -> Result<(), StoreError> {
        let (store, intake) = (&self.parts.store, &self.parts.intake);
        if self.options.is_shared || !self.has_looked_back.load(Ordering::Acquire) {
            loop {
                let now = self.parts.clock.now();
                let Some(unlooked) = store.unlooked(now, now.after(self.options.lag + LEASE)).await? else { break };
                // Nobody else gets it for a while: what fails is tried again with it.
                while let Err(error) = self.look_back(unlooked).await {
                    tracing::debug!(%error, "what a server that is gone has stored was not looked through; it is tried again");
                    sleep(SOON).await;
                }
            }
            self.has_looked_back.store(true, Ordering::Release);
        }
        while let Some(from) = intake.begin_look() {
            self.look_on(from).await?;
            intake.looked(from);
        }
        Ok(())
    }

    /// Looks through what a server that is gone has stored.
    async fn look_back(&self, unlooked: Unlooked) -> Result<(), StoreError> {
        if self.parts.intake.is_on() {
            tracing::info!("what was stored by a server that is silent or gone is looked through for pushes");
            if self.options.is_shared {
                self.look_on(unlooked.after).await?;
            } else {
                // What this process has stored is looked at as it is stored.
                self.look_through(unlooked.after, self.begun).await?;
            }
            // Of one that is only silent once: it comes no further.
            if *self.compared() != Some(unlooked) {
                self.compare_numbers().await?;
                *self.compared() = Some(unlooked);
            }
        }
        self.parts.store.looked(unlooked).await
    }

    fn compared(&self) -> MutexGuard<'_, Option<Unlooked>> {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has those told who have to be of what was stored after a position and before now. What was stored just now may not be seen yet: it is looked
    /// again until it is.
    async fn look_on(&self, mut after: Position) -> Result<(), StoreError> {
        let begun = Instant::now();
        loop {
            let is_last = begun.elapsed() >= self.options.lag;
            let until = (self.parts.published)();
            self.look_through(after, until).await?;
            after = after.max(until);
            if is_last {
                return Ok(());
            }
            sleep(AGAIN).await;
        }
    }

    /// Has those told who have to be of what was stored after a position and up to another.
    async fn look_through(&self, mut after: Position, until: Position) -> Result<(), StoreError> {
        while after < until {
            let (stretches, up_to) = self.parts.store.stored(after, until, TOGETHER).await?;
            let candidates = self.candidates(&stretches);
            if let Some(newest) = candidates.iter().map(|candidate| candidate.at).max() {
                let patience = self.parts.intake.after();
                sleep(newest.after(patience).since(self.parts.clock.now()).min(patience)).await;
                self.try_to_tell(&candidates).await?;
            }
            if up_to <= after {
                sleep(SOON).await;
            }
            after = up_to.max(after);
        }
        Ok(())
    }

    /// Whom the entries are for, but those that are too old to be told of even after quiet hours.
    fn candidates(&self, stretches: &[Stretch]) -> Vec<Candidate> {
        let oldest = self.parts.clock.now().before(self.options.ttl + DAY);
        let mut candidates = Vec::new();
        for Stretch { conversation, members, entries } in stretches {
            for StoredPlace { seq, sender, at, latest } in entries.iter().filter(|entry| entry.at >= oldest).copied() {
                let others = members.iter().filter(|member| **member != sender);
                candidates.extend(others.map(|member| {
                    let (member, conversation) = (*member, *conversation);
                    Candidate { member, conversation, seq, at, floor: latest, latest }
                }));
            }
        }
        candidates
    }
}
