//! What administrators do.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{
    CloseCode, ErrorCode, MemberId, Timestamp,
    model::{Tier, UserType},
    rest::{
        AdminMember, AdminMemberPage, AdminMembersQuery, AuditAction, AuditEntry, AuditPage, Disconnected, PageQuery,
        ServerStats, StoreStats, page_size,
    },
};
use serde_json::json;

use super::{accounts::Authorized, decisions::until_known, directory::page_of, pages, profiles::Profiles, views};
use crate::{
    clock::Clock,
    failure::Failure,
    hub::Hub,
    store::{
        Store, StoreError,
        audit::{AuditPlace, AuditRecord},
        changes::{Actor, Change},
        members::{Filter, MemberRecord},
        turns::Caller,
    },
    telemetry::Metrics,
};

/// Entries of the audit log among which one is looked for that may have been appended.
const NEWEST: usize = 200;

/// An administrator who asks. There is no way to get one but [`Admin::new`].
#[derive(Debug, Clone, Copy)]
pub struct Admin(Actor);

impl Admin {
    /// Takes a signed-in member for an administrator.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn new(who: &Authorized, from: IpAddr) -> Result<Self, Failure> {
        match who.user_type {
            UserType::Admin => Ok(Self(Actor { member: Some(who.member), address: Some(from) })),
            UserType::Member => Err(ErrorCode::Forbidden.into()),
        }
    }
}

/// Administration.
pub struct Administration {
    /// Changes members.
    pub profiles: Arc<Profiles>,
    /// Everything that is stored.
    pub store: Store,
    /// Live connections.
    pub hub: Arc<Hub>,
    /// What the server counts.
    pub metrics: Arc<Metrics>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// When the server started.
    pub started_at: Timestamp,
}

impl Administration {
    /// A page of members by name, those who may not sign in included.
    ///
    /// # Errors
    /// A bad cursor, or the store.
    pub async fn members(
        &self,
        Admin(by): Admin,
        query: &AdminMembersQuery,
        page: &PageQuery,
    ) -> Result<AdminMemberPage, Failure> {
        let AdminMembersQuery { tier, user_type, is_active } = *query;
        let (caller, filter) =
            (by.member.map_or(Caller::System, Caller::Member), Filter { tier, user_type, is_active });
        let (found, next) = page_of(&*self.store.members, caller, filter, page).await?;
        Ok(AdminMemberPage { members: found.into_iter().map(|record| self.with_connections(record)).collect(), next })
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
    pub async fn set_active(&self, admin: Admin, member: MemberId, active: bool) -> Result<AdminMember, Failure> {
        self.change(admin, member, Change::Active(active)).await
    }

    /// Changes what a member may do.
    ///
    /// # Errors
    /// `member_not_found`, `last_admin`, or the store.
    pub async fn set_role(&self, admin: Admin, member: MemberId, role: UserType) -> Result<AdminMember, Failure> {
        self.change(admin, member, Change::Role(role)).await
    }

    /// Closes the connections of a member with 4410; they may come back.
    ///
    /// # Errors
    /// `member_not_found`, or the store: what is not in the audit log is not done.
    pub async fn disconnect(&self, Admin(by): Admin, member: MemberId) -> Result<Disconnected, Failure> {
        let record = self
            .store
            .members
            .by_id(by.member.map_or(Caller::System, Caller::Member), member)
            .await?
            .filter(|record| !record.is_erased);
        record.ok_or(ErrorCode::MemberNotFound)?;
        let connections = count(self.hub.connections_of(member).len());
        let entry = AuditRecord {
            at: self.clock.now(),
            actor: by.member,
            action: AuditAction::Disconnected,
            target: member,
            details: json!({ "connections": connections }),
            address: by.address,
        };
        self.record(&entry).await?;
        let closed = self.profiles.effects.close(member, None, CloseCode::Disconnected);
        Ok(Disconnected { connections: count(closed) })
    }

    /// Appends an entry to the audit log, once. While it is not known whether it is there, it is looked for among the newest
    /// entries.
    async fn record(&self, entry: &AuditRecord) -> Result<(), StoreError> {
        let audit = &self.store.audit;
        let attempt = async |late: bool| {
            if !late {
                return audit.append(entry.clone()).await;
            }
            let found = audit.entries(None, NEWEST).await?.iter().any(|(_, newest)| newest == entry);
            if found { Ok(()) } else { Err(StoreError::Timeout) }
        };
        until_known(attempt).await.map(drop)
    }

    /// What the server and its store have at the moment.
    ///
    /// # Errors
    /// The store.
    pub async fn stats(&self, _: Admin) -> Result<ServerStats, Failure> {
        let members = self.store.members.count().await?;
        let conversations = self.store.backend.count().await?;
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        Ok(ServerStats {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            uptime_seconds: Duration::as_secs(&self.clock.now().since(self.started_at)),
            connections: number(self.metrics.connections.get()),
            members_connected: number(self.metrics.members_connected.get()),
            messages_since_start: self.metrics.messages_stored.get(),
            store: StoreStats {
                description: self.store.backend.describe(),
                members: members.all,
                members_active: members.active,
                conversations: conversations.conversations,
                messages: conversations.messages,
                bytes: self.store.backend.size().await?,
            },
        })
    }

    /// A page of the audit log, the newest entries first.
    ///
    /// # Errors
    /// A bad cursor, or the store.
    pub async fn audit(&self, _: Admin, page: &PageQuery) -> Result<AuditPage, Failure> {
        let limit = page_size(page.limit);
        let before: Option<u64> = pages::decode(page.cursor.as_deref())?;
        let mut entries = self.store.audit.entries(before.map(AuditPlace), limit + 1).await?;
        let next = pages::cut(&mut entries, limit, |(AuditPlace(place), _)| *place);
        Ok(AuditPage { entries: entries.into_iter().map(|(_, record)| entry(record)).collect(), next })
    }

    async fn change(&self, Admin(by): Admin, member: MemberId, change: Change) -> Result<AdminMember, Failure> {
        let after = self.profiles.apply(member, change, by).await?;
        Ok(self.with_connections(after))
    }

    fn with_connections(&self, record: MemberRecord) -> AdminMember {
        let connections = count(self.hub.connections_of(record.profile.id).len());
        AdminMember { member: views::member(record.profile), connections }
    }
}

/// An entry of the audit log, as the API shows it.
pub(super) fn entry(record: AuditRecord) -> AuditEntry {
    let AuditRecord { at, actor, action, target, details, address } = record;
    let address = address.map(|address| address.to_string());
    AuditEntry { at, actor_id: actor, action, target_id: target, details, address }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
