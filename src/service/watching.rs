//! Presence as a service: who watches whom, and who has really gone. What concerns other nodes is in [`elsewhere`].

mod elsewhere;

use std::{collections::HashSet, sync::Arc};

use protocol::{
    ErrorCode, MemberId, ServerFrame, Timestamp,
    limits::WATCH_MAX,
    model::{DeviceStatus, Presence as MemberPresence},
    rest::Audience,
    server::PresencePush,
};
use tokio_util::sync::CancellationToken;

use self::elsewhere::Elsewhere;
use super::{events::Events, messaging::direct_conversation};
use crate::{
    cluster::Uplink,
    failure::Failure,
    hub::{Connection, Registered},
    presence::{Pace, Presence},
    store::{ConversationStore, MemberStore, members::LastSeen, turns::Caller},
};

/// Who watches whom.
pub struct Watching {
    presence: Presence,
    elsewhere: Arc<Elsewhere>,
    events: Events,
    members: Arc<dyn MemberStore>,
    conversations: Arc<dyn ConversationStore>,
}

impl Watching {
    /// Presence of the members in this store, on this node and, over its bus, on others.
    #[must_use]
    pub fn new(
        pace: Pace,
        members: Arc<dyn MemberStore>,
        conversations: Arc<dyn ConversationStore>,
        events: Events,
        uplink: Uplink,
    ) -> Self {
        let to = events.clone();
        let tell = move |watchers: &[Arc<Connection>], presence| to.to_connections(watchers, &push(presence));
        let elsewhere = Arc::new(Elsewhere::new(uplink));
        let presence = Presence::new(pace, Box::new(tell)).among(Arc::clone(&elsewhere) as _);
        Self { presence, elsewhere, events, members, conversations }
    }

    /// Lets a connection watch members. Those that do not exist are left out; those who do not let the member see their
    /// presence show as `offline`.
    ///
    /// # Errors
    /// When it would watch too many, or the store.
    pub async fn watch(
        &self,
        connection: &Arc<Connection>,
        members: Vec<MemberId>,
    ) -> Result<Vec<MemberPresence>, Failure> {
        // Their places are taken before the store is asked, so that requests beside this one count them.
        // And they are watched before: what changes from now on is not missed. Both are changed under the connection's lock,
        // so that they are the same, and so that nobody is watched for a connection that has ended.
        let asked = connection.with_watching(|watched| {
            let asked = watched.ask(&members, WATCH_MAX)?;
            self.presence.watch(connection, &members);
            Some(asked)
        });
        let Some(asked) = asked else { return Ok(Vec::new()) };
        let asked = asked.ok_or_else(|| {
            let message = format!("one connection watches at most {WATCH_MAX} members");
            Failure::field(ErrorCode::ValidationFailed, "members", &message)
        })?;
        let known = self.facts(connection.member, members).await;
        let exists: HashSet<MemberId> = known.iter().flatten().map(|(seen, _)| seen.member).collect();
        connection.with_watching(|watched| self.presence.unwatch(connection.id, watched.settle(asked, &exists)));
        known.map(|known| self.presence.reveal(connection.id, &known))
    }

    /// What the store knows of members, each with whether `watcher` has a conversation with them.
    async fn facts(&self, watcher: MemberId, members: Vec<MemberId>) -> Result<Vec<(LastSeen, bool)>, Failure> {
        let known = self.members.last_seen(Caller::Member(watcher), members).await?;
        let conversations = known.iter().map(|seen| direct_conversation(watcher, seen.member)).collect();
        let begun: HashSet<_> =
            self.conversations.begun(Caller::Member(watcher), conversations).await?.into_iter().collect();
        let is_partner = |seen: &LastSeen| begun.contains(&direct_conversation(watcher, seen.member));
        Ok(known.into_iter().map(|seen| (seen, is_partner(&seen))).collect())
    }

    /// Sends a connection what changed since its snapshot; to be called once that is in its outbox.
    pub fn catch_up(&self, connection: &Arc<Connection>, snapshot: &[MemberPresence]) {
        self.presence.catch_up(connection, snapshot);
    }

    /// Lets a connection watch members no longer.
    pub fn unwatch(&self, connection: &Connection, members: &[MemberId]) {
        connection.with_watching(|watched| {
            watched.forget(members);
            self.presence.unwatch(connection.id, members.iter().copied());
        });
    }

    /// Lets a connection that has ended watch nobody.
    pub fn forget_watcher(&self, connection: &Connection) {
        self.presence.unwatch(connection.id, connection.end_watching().into_members());
    }

    /// The connections that watch a member, whether they may see the presence or not.
    #[must_use]
    pub fn watchers(&self, member: MemberId) -> Vec<Arc<Connection>> {
        self.presence.watchers(member)
    }

    /// Sets what a device shows of its member.
    pub fn set_status(&self, connection: &Connection, status: DeviceStatus) {
        connection.set_away(status == DeviceStatus::Away);
        self.presence.set_status(connection.member, connection.id, status);
    }

    /// A connection is signed in and was checked: from now on its device counts.
    pub fn arrived(&self, connection: &Connection, registered: Registered) {
        self.presence.arrived(connection.member, connection.id, registered.replaced);
    }

    /// A connection has ended; its device does not count any more.
    pub fn left(&self, connection: &Connection, at: Timestamp) {
        self.presence.left(connection.member, connection.id, at);
    }

    /// Members have a conversation with each other from now on. To be called on each node that hears of it.
    pub fn met(&self, members: &[MemberId]) {
        self.presence.met(members);
    }

    /// A member has chosen who may see their presence, with this version of their profile.
    pub fn set_audience(&self, member: MemberId, version: u64, audience: Audience) {
        self.set_audience_here(member, version, audience);
        self.elsewhere.tell_audience(member, version, audience);
    }

    /// The same, on this node only.
    pub fn set_audience_here(&self, member: MemberId, version: u64, audience: Audience) {
        self.presence.set_audience(member, version, audience);
    }

    /// Ends grace periods and tells watchers of changes until `stop`; records when members were last seen.
    pub async fn run(&self, stop: CancellationToken) {
        let record = async {
            loop {
                self.record(self.presence.next_gone().await).await;
            }
        };
        // Beside each other: watchers are told in time, however long the store takes to record.
        tokio::select! {
            () = self.presence.run() => {}
            () = record => {}
            () = self.follow() => {}
            () = self.look_again() => {}
            () = stop.cancelled() => {}
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
        if let Err(error) = self.members.record_last_seen(gone.clone()).await {
            tracing::warn!(%error, members = gone.len(), "last-seen times were not recorded");
        }
        for (member, at) in gone {
            self.presence.recorded(member, at);
        }
    }
}

fn push(presence: MemberPresence) -> ServerFrame {
    let MemberPresence { member, status, last_seen } = presence;
    ServerFrame::PresencePush(PresencePush { member, status, last_seen })
}
