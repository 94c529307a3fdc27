//! Presence as a service: who watches whom, and who has really gone.

use std::sync::Arc;

use protocol::{
    ErrorCode, MemberId, ServerFrame, Timestamp,
    limits::WATCH_MAX,
    model::{DeviceStatus, Presence as MemberPresence},
    server::PresencePush,
};
use tokio_util::sync::CancellationToken;

use super::events::Events;
use crate::{
    failure::Failure,
    hub::Connection,
    presence::Presence,
    store::{MemberStore, members::LastSeen},
};

/// Who watches whom.
pub struct Watching {
    presence: Presence,
    store: Arc<dyn MemberStore>,
    events: Events,
}

impl Watching {
    /// Presence of the members in this store.
    #[must_use]
    pub fn new(presence: Presence, store: Arc<dyn MemberStore>, events: Events) -> Self {
        Self { presence, store, events }
    }

    /// Lets a connection watch members. Those that do not exist are left out.
    ///
    /// # Errors
    /// When it would watch too many, or the store.
    pub async fn watch(
        &self,
        connection: &Arc<Connection>,
        members: Vec<MemberId>,
    ) -> Result<Vec<MemberPresence>, Failure> {
        // Their places are taken before the store is asked, so that requests beside this one count them.
        let new = connection.with_watching(|watching| {
            let new: Vec<MemberId> = members.iter().copied().filter(|member| !watching.contains(member)).collect();
            (watching.len() + new.len() <= WATCH_MAX).then(|| {
                watching.extend(&new);
                new
            })
        });
        let Some(new) = new else { return Ok(Vec::new()) };
        let new = new.ok_or_else(|| {
            let message = format!("one connection watches at most {WATCH_MAX} members");
            Failure::field(ErrorCode::ValidationFailed, "members", &message)
        })?;
        let known = self.store.last_seen(members).await;
        let exists = |member: &MemberId| known.as_ref().is_ok_and(|known| known.iter().any(|k| k.member == *member));
        let unknown: Vec<MemberId> = new.into_iter().filter(|member| !exists(member)).collect();
        connection.with_watching(|watching| watching.retain(|member| !unknown.contains(member)));
        let known: Vec<LastSeen> = known?;
        let snapshot = self.presence.watch(connection, &known);
        // The connection may have ended meanwhile, and nobody would take it off the list again.
        if connection.with_watching(|_| ()).is_none() {
            self.presence.unwatch(connection.id, known.iter().map(|seen| seen.member));
        }
        Ok(snapshot)
    }

    /// Sends a connection what changed since its snapshot; to be called once that is in its outbox.
    pub fn catch_up(&self, connection: &Arc<Connection>, snapshot: &[MemberPresence]) {
        for presence in self.presence.changed_since(snapshot) {
            self.events.to_connections(std::slice::from_ref(connection), &push(presence));
        }
    }

    /// Lets a connection watch members no longer.
    pub fn unwatch(&self, connection: &Connection, members: &[MemberId]) {
        connection.with_watching(|watching| {
            for member in members {
                watching.remove(member);
            }
        });
        self.presence.unwatch(connection.id, members.iter().copied());
    }

    /// Lets a connection that has ended watch nobody.
    pub fn forget_watcher(&self, connection: &Connection) {
        self.presence.unwatch(connection.id, connection.end_watching());
    }

    /// The connections that watch a member.
    #[must_use]
    pub fn watchers(&self, member: MemberId) -> Vec<Arc<Connection>> {
        self.presence.watchers(member)
    }

    /// Sets what a device shows of its member.
    pub fn set_status(&self, connection: &Connection, status: DeviceStatus) {
        connection.set_status(status);
        self.changed(connection.member);
    }

    /// A device of a member came, went or changed what it shows.
    pub fn changed(&self, member: MemberId) {
        self.presence.changed(member, |watchers, presence| self.events.to_connections(watchers, &push(presence)));
    }

    /// A device of a member is about to leave, perhaps their last one; the member shows `status`.
    pub fn leaving(&self, member: MemberId, status: DeviceStatus, at: Timestamp) {
        self.presence.leaving(member, status, at);
    }

    /// It was the last device of the member.
    pub fn left(&self, member: MemberId, status: DeviceStatus, at: Timestamp) {
        self.presence.left(member, status, at);
    }

    /// Waits for grace periods to end until `stop`, records when members were last seen, and tells their watchers.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let gone = tokio::select! {
                gone = self.presence.next_gone() => gone,
                () = stop.cancelled() => break,
            };
            self.record(gone).await;
        }
    }

    /// Records everybody who has left: the server is going to stop.
    pub async fn finish(&self) {
        self.record(self.presence.take_all_departed()).await;
    }

    async fn record(&self, gone: Vec<(MemberId, Timestamp)>) {
        if gone.is_empty() {
            return;
        }
        // Watchers are told even so; the next time that the member leaves is recorded again.
        if let Err(error) = self.store.record_last_seen(gone.clone()).await {
            tracing::warn!(%error, members = gone.len(), "last-seen times were not recorded");
        }
        for (member, at) in gone {
            self.presence.gone(member, at, |watchers, presence| self.events.to_connections(watchers, &push(presence)));
        }
    }
}

fn push(presence: MemberPresence) -> ServerFrame {
    let MemberPresence { member, status, last_seen } = presence;
    ServerFrame::PresencePush(PresencePush { member, status, last_seen })
}
