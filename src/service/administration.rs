//! What administrators do.

use std::{iter, net::IpAddr, sync::Arc, time::Duration};

use protocol::{
    CloseCode, ErrorCode, MemberId, SessionId, Timestamp,
    model::{Tier, UserType},
    rest::{
        AddressAllowed, AdminMember, AdminMemberPage, AdminMembersQuery, AuditAction, AuditEntry, AuditPage,
        AuditQuery, Disconnected, MailStats, NodeStats, PageQuery, ServerStats, SessionList, StoreStats, page_size,
    },
};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use super::{
    accounts::{Authorized, Proved},
    applications::Applications,
    audit::AuditTrail,
    decisions::until_known,
    directory::page_of,
    fleet::Fleet,
    own_node::OwnNode,
    pages,
    post::Post,
    profiles::Profiles,
    sessions::Sessions,
    views,
};
use crate::{
    clock::Clock,
    failure::Failure,
    hub::Hub,
    store::{
        Store,
        addresses::Allowed,
        audit::{AuditFilter, AuditFound, AuditMoment, AuditRecord},
        changes::{Actor, Change},
        members::{Filter, MemberRecord, Rejected, Suspension},
        turns::Caller,
    },
};

/// An administrator who asks. There is no way to get one but [`Admin::new`].
#[derive(Debug, Clone, Copy)]
pub struct Admin(Actor, SessionId);

impl Admin {
    /// Takes a signed-in member for an administrator.
    ///
    /// # Errors
    /// `forbidden`, or `second_factor_missing` where the club demands one.
    pub fn new(who: &Authorized, from: IpAddr) -> Result<Self, Failure> {
        match who.user_type {
            UserType::Admin => Ok(Self(who.asks_from(from), who.session)),
            UserType::Member if who.lacks_second_factor => Err(ErrorCode::SecondFactorMissing.into()),
            UserType::Member => Err(ErrorCode::Forbidden.into()),
        }
    }

    /// Whose turn what they read is.
    #[must_use]
    pub fn caller(self) -> Caller {
        self.0.member.map_or(Caller::System, Caller::Member)
    }

    /// Who they are to the audit log.
    #[must_use]
    pub const fn actor(self) -> Actor {
        self.0
    }
}

/// An administrator who has proved a short while ago that they are who they say, for what does much harm in the hands of somebody who has
/// found a device unlocked. There is no way to get one but [`ProvedAdmin::new`].
#[derive(Debug, Clone, Copy)]
pub struct ProvedAdmin(Admin);

impl ProvedAdmin {
    /// Takes a signed-in member for an administrator who has proved who they are.
    ///
    /// # Errors
    /// Those of [`Admin::new`], or `step_up_required`.
    pub fn new(who: &Authorized, from: IpAddr, now: Timestamp) -> Result<Self, Failure> {
        let admin = Admin::new(who, from)?;
        Proved::new(who, now).map(|_| Self(admin))
    }
}

/// Administration.
pub struct Administration {
    /// Changes members.
    pub profiles: Arc<Profiles>,
    /// Where they are signed in.
    pub sessions: Arc<Sessions>,
    /// Everything that is stored.
    pub store: Store,
    /// Writes to the audit log.
    pub audit: Arc<AuditTrail>,
    /// Those who wait to be let in.
    pub applications: Arc<Applications>,
    /// Live connections.
    pub hub: Arc<Hub>,
    /// The other nodes; nothing where the store is of one process alone.
    pub fleet: Option<Arc<Fleet>>,
    /// This one.
    pub own: Arc<OwnNode>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Sends mail.
    pub post: Arc<Post>,
    /// What was counted last.
    pub counted: Counted<ServerStats>,
}

/// How long a suspension may last: longer ones are deactivations. Ten years.
const SUSPENSION_MAX: Duration = Duration::from_secs(3_653 * 86_400);

/// How long what was counted is told to others who ask.
const KEPT: Duration = Duration::from_secs(1);

/// Something that is a lot of work to find out: one works at a time, and whoever waits for it, or comes within a second, is told the
/// same, be it an error.
#[derive(Debug)]
pub struct Counted<T>(Mutex<Option<(Instant, Result<T, Failure>)>>);

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Self(Mutex::const_new(None))
    }
}

impl<T: Clone> Counted<T> {
    async fn get<F: Future<Output = Result<T, Failure>>>(&self, count: impl FnOnce() -> F) -> Result<T, Failure> {
        // Whoever goes away while they work lets the next one work.
        let mut counted = self.0.lock().await;
        if let Some((_, known)) = counted.as_ref().filter(|(at, _)| at.elapsed() < KEPT) {
            return known.clone();
        }
        let result = count().await;
        *counted = Some((Instant::now(), result.clone()));
        result
    }
}

impl Administration {
    /// A page of members by name, those who may not sign in included. That it was read is in the audit log.
    ///
    /// # Errors
    /// A bad cursor, or the store: what is not in the audit log is not given.
    pub async fn members(
        &self,
        Admin(by, _): Admin,
        query: &AdminMembersQuery,
        page: &PageQuery,
    ) -> Result<AdminMemberPage, Failure> {
        let AdminMembersQuery { tier, user_type, is_active, status } = *query;
        let status = status.map(|status| (status, self.clock.now()));
        let (caller, filter) =
            (by.member.map_or(Caller::System, Caller::Member), Filter { tier, user_type, is_active, status });
        let (found, next) = page_of(&*self.store.members, caller, filter, page).await?;
        let details = json!({ "read": "members", "filter": given(query), "count": found.len() });
        self.audit.read(by, None, details).await?;
        Ok(AdminMemberPage { members: self.with_connections(found).await, next })
    }

    /// Changes a member's tier.
    ///
    /// # Errors
    /// `member_not_found`, or the store.
    pub async fn set_tier(&self, admin: Admin, member: MemberId, tier: Tier) -> Result<AdminMember, Failure> {
        self.change(admin, member, Change::Tier(tier)).await
    }

    /// Activates or deactivates a member. Deactivating revokes their sessions and closes their connections with 4403.
    ///
    /// # Errors
    /// `member_not_found`, `last_admin`, or the store.
    pub async fn set_active(
        &self,
        ProvedAdmin(admin): ProvedAdmin,
        member: MemberId,
        active: bool,
    ) -> Result<AdminMember, Failure> {
        self.change(admin, member, Change::Active(active)).await
    }

    /// Suspends a member until a time, or ends that. Suspending revokes their sessions and closes their connections with 4403.
    ///
    /// # Errors
    /// `validation_failed` for a time that is past or too far away, `member_not_found`, `last_admin`, or the store.
    pub async fn suspend(
        &self,
        ProvedAdmin(admin): ProvedAdmin,
        member: MemberId,
        suspension: Option<Suspension>,
    ) -> Result<AdminMember, Failure> {
        let now = self.clock.now();
        let may_last =
            |suspension: &Suspension| now < suspension.until && suspension.until <= now.after(SUSPENSION_MAX);
        if !suspension.as_ref().is_none_or(may_last) {
            let message = "in the future, and at most ten years from now";
            return Err(Failure::field(ErrorCode::ValidationFailed, "until", message));
        }
        self.change(admin, member, Change::Suspended(suspension)).await
    }

    /// Lets somebody in who waits for that. Who is in already stays as they are.
    ///
    /// # Errors
    /// `member_not_found`, or the store.
    pub async fn approve(&self, admin: Admin, member: MemberId) -> Result<AdminMember, Failure> {
        let approved = self.change(admin, member, Change::Approve).await?;
        self.applications.changed();
        Ok(approved)
    }

    /// Removes the record of somebody who waits to be let in.
    ///
    /// # Errors
    /// `member_not_found`, `already_decided` for who was approved, or the store.
    pub async fn reject(&self, ProvedAdmin(Admin(by, _)): ProvedAdmin, member: MemberId) -> Result<(), Failure> {
        let at = self.clock.now();
        let known = until_known(|_| self.store.members.reject(member, by, at)).await?;
        match known.outcome {
            Rejected::Done => {}
            // By an attempt whose answer was late.
            Rejected::NotFound if known.late => {}
            Rejected::NotFound => return Err(ErrorCode::MemberNotFound.into()),
            Rejected::Decided => return Err(ErrorCode::AlreadyDecided.into()),
            Rejected::Overtaken(why) => return Err(why.into()),
        }
        self.applications.changed();
        Ok(())
    }

    /// Lets somebody register again with the address of a member who has left and had shown that it was theirs.
    ///
    /// # Errors
    /// The store.
    pub async fn allow_address(&self, Admin(by, _): Admin, email: &str) -> Result<AddressAllowed, Failure> {
        let at = self.clock.now();
        let known = until_known(|_| self.store.members.allow_address(email, by, at)).await?;
        // By an attempt whose answer was late, maybe.
        let (was_barred, is_read) = match known.outcome {
            Allowed::Done => (true, false),
            Allowed::NotBarred => (known.late, true),
            Allowed::Overtaken(why) => return Err(why.into()),
        };
        if is_read {
            // Whoever tries addresses learns which were members'.
            self.audit.read(by, None, json!({ "read": "address", "count": 1 })).await?;
        }
        Ok(AddressAllowed { was_barred })
    }

    /// Changes what a member may do.
    ///
    /// # Errors
    /// `member_not_found`, `last_admin`, or the store.
    pub async fn set_role(
        &self,
        ProvedAdmin(admin): ProvedAdmin,
        member: MemberId,
        role: UserType,
    ) -> Result<AdminMember, Failure> {
        self.change(admin, member, Change::Role(role)).await
    }

    /// Removes the second factor of a member who has lost it. Their sessions end, and their connections close with 4401; the password alone
    /// lets them in again. Of who has none nothing changes.
    ///
    /// # Errors
    /// `forbidden` for the administrator's own, `member_not_found`, or the store.
    pub async fn reset_second_factor(
        &self,
        ProvedAdmin(admin): ProvedAdmin,
        member: MemberId,
    ) -> Result<AdminMember, Failure> {
        if admin.0.member == Some(member) {
            let message = "Your own second factor is turned off in your settings, with a code and the password.";
            return Err(Failure::new(ErrorCode::Forbidden, message));
        }
        self.change(admin, member, Change::ResetSecondFactor).await
    }

    /// Closes the connections of a member with 4410; they may come back.
    ///
    /// # Errors
    /// `member_not_found`, or the store: what is not in the audit log is not done.
    pub async fn disconnect(&self, Admin(by, _): Admin, member: MemberId) -> Result<Disconnected, Failure> {
        self.present(by, member).await?;
        let (elsewhere, connections_partial) = self.elsewhere(&[member]).await;
        let elsewhere = elsewhere.first().copied().unwrap_or(0);
        let connections = elsewhere.saturating_add(self.here(member));
        let details = json!({ "connections": connections });
        self.audit.order(by, AuditAction::Disconnected, member, details).await?;
        let closed = self.profiles.effects.close(member, None, CloseCode::Disconnected);
        Ok(Disconnected { connections: elsewhere.saturating_add(count(closed)), connections_partial })
    }

    /// The sessions of a member that are good, the one that was used last first. That they were read is in the audit log.
    ///
    /// # Errors
    /// `member_not_found`, or the store: what is not in the audit log is not given.
    pub async fn sessions(&self, Admin(by, current): Admin, member: MemberId) -> Result<SessionList, Failure> {
        self.present(by, member).await?;
        let list = self.sessions.list(member, current).await?;
        self.audit.read(by, Some(member), json!({ "read": "sessions", "count": list.sessions.len() })).await?;
        Ok(list)
    }

    /// Ends all sessions of a member: their connections close with 4401, and they have to log in again.
    ///
    /// # Errors
    /// `member_not_found`, or the store: what is not in the audit log is not done.
    pub async fn end_sessions(&self, ProvedAdmin(Admin(by, _)): ProvedAdmin, member: MemberId) -> Result<(), Failure> {
        self.present(by, member).await?;
        let details = json!({ "sessions": self.sessions.count(member).await? });
        self.audit.order(by, AuditAction::SessionsEnded, member, details).await?;
        self.sessions.end_all(member).await
    }

    /// Looks that there is a member, who has not left and does not still wait to come in: of those there is nothing to see or to end.
    async fn present(&self, by: Actor, member: MemberId) -> Result<(), Failure> {
        let found = self.store.members.by_id(by.member.map_or(Caller::System, Caller::Member), member).await?;
        found
            .filter(|record| !record.is_erased && !record.profile.is_unknown())
            .map(drop)
            .ok_or_else(|| ErrorCode::MemberNotFound.into())
    }

    /// What the nodes and their store have at the moment, or had a second ago. Nodes that do not answer within half a second are missing
    /// in it. It is counted for one at a time, and whoever asks meanwhile is told the same: to count is work for the whole store.
    ///
    /// # Errors
    /// The store.
    pub async fn stats(&self, _: Admin) -> Result<ServerStats, Failure> {
        self.counted.get(|| self.count_all()).await
    }

    async fn count_all(&self) -> Result<ServerStats, Failure> {
        let members = self.store.members.count(self.clock.now()).await?;
        let conversations = self.store.backend.count().await?;
        let (own, (others, silent)) = match &self.fleet {
            Some(fleet) => (fleet.stats(), fleet.stats_elsewhere().await),
            None => (self.own.stats(None, &[]), (Vec::new(), 0)),
        };
        let NodeStats { version, started_at, uptime_seconds, .. } = own.clone();
        let nodes: Vec<NodeStats> = iter::once(own).chain(others).collect();
        let sum = |of: fn(&NodeStats) -> u64| nodes.iter().map(of).sum();
        Ok(ServerStats {
            version,
            started_at,
            uptime_seconds,
            connections: sum(|node| node.connections),
            members_connected: sum(|node| node.members_connected),
            messages_since_start: sum(|node| node.messages_since_start),
            nodes_silent: count(silent),
            nodes,
            mail: MailStats {
                is_sent: self.post.is_sent(),
                waiting: self.store.mail.waiting().await?,
                oldest_at: self.store.mail.oldest().await?,
            },
            store: StoreStats {
                description: self.store.backend.describe(),
                members: members.all,
                members_active: members.active,
                applications: members.waiting,
                conversations: conversations.conversations,
                messages: conversations.messages,
                bytes: self.store.backend.size().await?,
            },
        })
    }

    /// A page of those entries of the audit log that were asked for, the newest first. That it was read is in the log after it.
    ///
    /// # Errors
    /// A bad cursor, or the store: what is not in the audit log is not given.
    pub async fn audit(&self, admin: Admin, query: AuditQuery, page: &PageQuery) -> Result<AuditPage, Failure> {
        let AuditQuery { action, not_action, actor_id: actor, target_id: target, since, until } = query;
        let not_action = not_action.unwrap_or_default();
        let filter = AuditFilter { actor, target, action, not_action, since, until };
        let before: Option<AuditMoment> = pages::decode(page.cursor.as_deref())?;
        let AuditFound { entries, next } = self.store.audit.page(filter, before, page_size(page.limit)).await?;
        let next = next.as_ref().map(pages::encode);
        let count = entries.len();
        let details = if query == AuditQuery::default() {
            json!({ "read": "audit", "count": count })
        } else {
            json!({ "read": "audit", "filter": query, "count": count })
        };
        self.audit.read(admin.actor(), None, details).await?;
        Ok(AuditPage { entries: entries.into_iter().map(|(_, record)| entry(record)).collect(), next })
    }

    async fn change(&self, Admin(by, _): Admin, member: MemberId, change: Change) -> Result<AdminMember, Failure> {
        let after = self.profiles.apply(member, change, by).await?;
        // One for one.
        self.with_connections(vec![after]).await.pop().ok_or_else(|| ErrorCode::MemberNotFound.into())
    }

    /// Members with the number of their connections.
    async fn with_connections(&self, records: Vec<MemberRecord>) -> Vec<AdminMember> {
        let members: Vec<MemberId> = records.iter().map(|record| record.profile.id).collect();
        let (elsewhere, connections_partial) = self.elsewhere(&members).await;
        let now = self.clock.now();
        let with_connections = |(record, elsewhere): (MemberRecord, u32)| {
            let connections = elsewhere.saturating_add(self.here(record.profile.id));
            views::administered(record, now, connections, connections_partial)
        };
        records.into_iter().zip(elsewhere).map(with_connections).collect()
    }

    fn here(&self, member: MemberId) -> u32 {
        count(self.hub.connections_of(member).len())
    }

    /// How many connections members have at other nodes, and whether a node did not say so.
    async fn elsewhere(&self, members: &[MemberId]) -> (Vec<u32>, bool) {
        match &self.fleet {
            Some(fleet) => {
                let (counts, silent) = fleet.connections_elsewhere(members).await;
                (counts, silent > 0)
            }
            None => (vec![0; members.len()], false),
        }
    }
}

/// An entry of the audit log, as the API shows it.
pub(super) fn entry(record: AuditRecord) -> AuditEntry {
    let AuditRecord { at, actor, action, target, details, address } = record;
    let address = address.map(|address| address.to_string());
    AuditEntry { at, actor_id: actor, action, target_id: target, details, address }
}

/// The filters that a list was asked for with.
fn given(query: &AdminMembersQuery) -> Value {
    let mut filter = json!(query);
    if let Some(fields) = filter.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    filter
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Found from outside: a hundred who asked for statistics at once stopped all messages for seconds.
    #[tokio::test(start_paused = true)]
    async fn what_is_a_lot_of_work_is_done_once_for_all_who_ask() {
        let (counted, times) = (Arc::new(Counted::<usize>::default()), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let (counted, times) = (Arc::clone(&counted), Arc::clone(&times));
            tokio::spawn(async move {
                let count = || async {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    Ok(times.fetch_add(1, Ordering::SeqCst))
                };
                counted.get(count).await.unwrap()
            })
        };
        let first = ask();
        tokio::task::yield_now().await;
        let others: Vec<_> = (0..100).map(|_| ask()).collect();
        // Who works goes away: another one works.
        first.abort();
        for other in others {
            assert_eq!(other.await.unwrap(), 0);
        }
        assert_eq!(ask().await.unwrap(), 0, "just now");
        tokio::time::advance(KEPT).await;
        assert_eq!(ask().await.unwrap(), 1);
    }
}
