//! A member's own record.

use std::sync::Arc;

use protocol::{
    ErrorCode, MemberId, ServerFrame,
    model::MemberCard,
    rest::{Member, MemberPatch},
    server::MemberPush,
};

use super::{events::Events, watching::Watching};
use crate::{
    clock::Clock,
    failure::Failure,
    store::{ConversationStore, MemberStore},
};

/// Profiles.
pub struct Profiles {
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Who talks to whom.
    pub conversations: Arc<dyn ConversationStore>,
    /// Who watches whom.
    pub watching: Arc<Watching>,
    /// Tells them.
    pub events: Events,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

impl Profiles {
    /// The member's own record.
    ///
    /// # Errors
    /// `member_not_found`, or the store.
    pub async fn own(&self, member: MemberId) -> Result<Member, Failure> {
        let record = self.members.by_id(member).await?.ok_or(ErrorCode::MemberNotFound)?;
        Ok(record.profile)
    }

    /// Changes the member's own record and tells those who should know: the member's own devices, those who watch
    /// them, and those who talk to them.
    ///
    /// # Errors
    /// `member_not_found`, or the store.
    pub async fn change(&self, member: MemberId, patch: MemberPatch) -> Result<Member, Failure> {
        let before = self.members.by_id(member).await?.ok_or(ErrorCode::MemberNotFound)?;
        let after = self.members.update(member, patch, self.clock.now()).await?;
        let after = after.ok_or(ErrorCode::MemberNotFound)?;
        let card = after.card();
        // Only what others can see is news to them, and the time of the change alone is not.
        if card != (MemberCard { updated_at: card.updated_at, ..before.card() }) {
            let push = ServerFrame::MemberPush(MemberPush { member: card });
            // The change is made. Who cannot be told now reads it with the next request.
            let mut audience = self.conversations.partners(member).await.unwrap_or_default();
            audience.push(member);
            let watchers: Vec<_> = self.watching.watchers(member);
            let watchers: Vec<_> = watchers.into_iter().filter(|watcher| !audience.contains(&watcher.member)).collect();
            self.events.to_members(&audience, None, &push);
            self.events.to_connections(&watchers, &push);
        }
        Ok(after.profile)
    }
}
