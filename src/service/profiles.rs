//! A member's record: reading one's own, changing it, leaving.

use std::{net::IpAddr, sync::Arc};

use protocol::{
    CloseCode, ErrorCode, MemberId, SessionId, Timestamp,
    model::UserType,
    rest::{Member, MemberPatch},
};

use serde_json::json;

use super::{
    accounts::{Authorized, Proved},
    album::Album,
    audit::AuditTrail,
    decisions::{InOrder, Known, or_when_unknown, until_known},
    effects::{self, Effect, Effects},
    limiter::Limiter,
    views,
};
use crate::{
    clock::Clock,
    failure::Failure,
    store::{
        MemberStore, StoreError,
        changes::{Actor, Change, Changed, Revoked},
        mail::notice_of,
        members::MemberRecord,
        turns::Caller,
    },
};

/// Profiles.
pub struct Profiles {
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// The photos of members who change or leave.
    pub album: Arc<Album>,
    /// What follows from changes.
    pub effects: Arc<Effects>,
    /// Changes of profiles by one member; administrators are exempt.
    pub limit: Arc<Limiter<MemberId>>,
    /// Writes to the audit log.
    pub audit: Arc<AuditTrail>,
    /// The changes of each member.
    pub in_order: InOrder<MemberId>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

impl Profiles {
    /// The member's own record, with its version.
    ///
    /// # Errors
    /// `member_not_found`, or the store.
    pub async fn own(&self, member: MemberId) -> Result<(Member, u64), Failure> {
        let record = self.members.by_id(Caller::Member(member), member).await?.ok_or(ErrorCode::MemberNotFound)?;
        Ok((views::member(record.profile, self.clock.now()), record.version))
    }

    /// Changes a profile: one's own, or anybody's as an administrator. Returns it with its version.
    ///
    /// # Errors
    /// `forbidden`, a rate limit, `member_not_found`, `stale` when the profile has another version than expected, or the
    /// store.
    pub async fn change(
        &self,
        who: &Authorized,
        from: IpAddr,
        member: MemberId,
        patch: MemberPatch,
        expected: Option<u64>,
    ) -> Result<(Member, u64), Failure> {
        let by = may_change(who, from, member)?;
        self.charge(who)?;
        if let Some(Some(url)) = &patch.profile_image_url {
            self.check_picture(member, url).await?;
        }
        let _turn = match patch.profile_image_url {
            Some(_) => Some(self.album.turn(member).await?),
            None => None,
        };
        let (_, after) = self.commit(member, Change::Profile { edit: views::edit(patch), expected }, by).await?;
        Ok((views::member(after.profile, self.clock.now()), after.version))
    }

    /// Charges a change of a profile or of its photo to the member who makes it; administrators are exempt.
    ///
    /// # Errors
    /// A rate limit.
    pub(super) fn charge(&self, who: &Authorized) -> Result<(), Failure> {
        match who.user_type {
            UserType::Admin => Ok(()),
            UserType::Member => self.limit.check(&who.member),
        }
    }

    /// Whether a picture may be that of a member: photos of this server only, because everybody who looks at a picture tells
    /// its host their address. What the record has already may be sent back: `PUBLIC_URL` may have changed since.
    async fn check_picture(&self, member: MemberId, url: &str) -> Result<(), Failure> {
        if self.album.is_ours(url) || self.present(member).await?.profile.profile_image_url.as_deref() == Some(url) {
            return Ok(());
        }
        let message = "the path or the address of a photo that was uploaded here";
        Err(Failure::field(ErrorCode::ValidationFailed, "profile_image_url", message))
    }

    /// The record of a member who has not left.
    ///
    /// # Errors
    /// `member_not_found`, or the store.
    pub(super) async fn present(&self, member: MemberId) -> Result<MemberRecord, Failure> {
        let record = self.members.by_id(Caller::Member(member), member).await?.filter(|record| !record.is_erased);
        record.ok_or_else(|| ErrorCode::MemberNotFound.into())
    }

    /// The member leaves for ever: the profile is gone and nobody can see the photo, whose file is deleted soon; their messages
    /// are a former member's.
    ///
    /// # Errors
    /// `last_admin`, or the store.
    pub async fn erase(&self, proved: &Proved, from: IpAddr) -> Result<(), Failure> {
        let (member, by) = (proved.who().member, proved.who().asks_from(from));
        let _turn = self.album.turn(member).await?;
        self.commit(member, Change::Erase, by).await?;
        tracing::info!(%member, "member left");
        Ok(())
    }

    /// Applies a change that has nothing to do with photos. Returns the member after it.
    ///
    /// # Errors
    /// Those of [`Self::commit`].
    pub(super) async fn apply(&self, member: MemberId, change: Change, by: Actor) -> Result<MemberRecord, Failure> {
        self.commit(member, change, by).await.map(|(_, after)| after)
    }

    /// Applies a change, with what follows from it ([`effects::of_change`], and the mail that tells of it, [`notice_of`]); the connections of the sessions that
    /// it ends are closed. Returns the member before and after it. Whoever changes a photo has its turn.
    ///
    /// # Errors
    /// `member_not_found`, `stale`, `last_admin`, `email_taken`, or the store.
    pub(super) async fn commit(
        &self,
        member: MemberId,
        change: Change,
        by: Actor,
    ) -> Result<(MemberRecord, MemberRecord), Failure> {
        self.commit_at(member, change, by, self.clock.now()).await
    }

    /// The same at a time, by which it is judged whether a link that the change takes is still good.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub(super) async fn commit_at(
        &self,
        member: MemberId,
        change: Change,
        by: Actor,
        at: Timestamp,
    ) -> Result<(MemberRecord, MemberRecord), Failure> {
        let ends_sessions = change.revokes() != Revoked::None;
        // It may have happened. Whoever may still sign in comes back.
        let disconnect = || {
            if ends_sessions {
                self.effects.close(member, None, CloseCode::Disconnected);
            }
        };
        let decision = async {
            let turn = self.in_order.begin(member).await?;
            // Which photo is to be hidden is known only from before the first attempt.
            let former = match change {
                Change::Profile { .. } | Change::Erase => self.before(member).await?,
                Change::Tier(_)
                | Change::Role(_)
                | Change::Active(_)
                | Change::Password { .. }
                | Change::Suspended(_)
                | Change::Approve
                | Change::ResetPassword { .. }
                | Change::EnableSecondFactor { .. }
                | Change::UseCode(_)
                | Change::ReplaceRecoveryCodes { .. }
                | Change::DisableSecondFactor(_)
                | Change::ResetSecondFactor
                | Change::Email { .. }
                | Change::VerifyEmail { .. } => None,
            };
            let attempt = async |late| {
                let changed = self.members.change(member, change.clone(), by, at, turn.given_up()).await?;
                if late { self.as_wanted(member, &change, at, changed).await } else { Ok(changed) }
            };
            let known = until_known(attempt).await?;
            if let Changed::Done { ended, .. } = &known.outcome {
                self.end_sessions(member, &change, ended, known.late);
            }
            Ok((former, known))
        };
        let (former, Known { outcome, late }) = or_when_unknown(decision, disconnect).await?;
        let (before, after) = match outcome {
            Changed::Done { before, after, .. } => (*before, *after),
            Changed::NotFound => return Err(ErrorCode::MemberNotFound.into()),
            Changed::Stale => return Err(ErrorCode::Stale.into()),
            Changed::LastAdmin => return Err(ErrorCode::LastAdmin.into()),
            Changed::EmailTaken => return Err(ErrorCode::EmailTaken.into()),
            // Nobody has, while this waits.
            Changed::GivenUp => return Err(StoreError::Timeout.into()),
            Changed::Overtaken(why) => return Err(why.into()),
        };
        // An attempt before may have changed what the last one found changed already.
        self.effects.apply(effects::of_change(if late { former.as_ref() } else { Some(&before) }, &after));
        self.effects.apply(notice_of(&change, &before, &after, at).map(|_| Effect::SendMail));
        let is_same = before.version == after.version && before.credentials == after.credentials && !late;
        if is_same && by.is_other_than(member) {
            // Nothing was changed, so nothing is in the audit log; whoever wanted it is shown the record all the same.
            self.audit.read(by, Some(member), json!({ "read": "record", "count": 1 })).await?;
        }
        Ok((if late { former.unwrap_or(before) } else { before }, after))
    }

    /// The record before a change. That it is not known says nothing about the change: that was not tried.
    async fn before(&self, member: MemberId) -> Result<Option<MemberRecord>, StoreError> {
        let record = self.members.by_id(Caller::Member(member), member).await;
        record.map_err(|error| if error == StoreError::Timeout { StoreError::Overloaded } else { error })
    }

    /// What a change did after an attempt that may have been the one to make it: one of the profile, for a version that is past by
    /// now, is made when it has nothing left to change.
    async fn as_wanted(
        &self,
        member: MemberId,
        change: &Change,
        at: Timestamp,
        changed: Changed,
    ) -> Result<Changed, StoreError> {
        if !matches!(changed, Changed::Stale) {
            return Ok(changed);
        }
        let record = self.members.by_id(Caller::Member(member), member).await?;
        let record = record.filter(|record| change.apply(record, at).is_none());
        Ok(record.map_or(changed, |record| Changed::Done {
            before: Box::new(record.clone()),
            after: Box::new(record),
            ended: Vec::new(),
        }))
    }

    /// Closes the connections of the sessions that a change has ended, on every node: those of who may no longer sign in with another code
    /// than those of others.
    fn end_sessions(&self, member: MemberId, change: &Change, ended: &[SessionId], late: bool) {
        if change.forbids_sign_in() {
            self.effects.close(member, None, CloseCode::Deactivated);
            return;
        }
        if late && change.revokes() != Revoked::None {
            // An attempt before may have ended some, nobody knows which: all are closed, and those that are good come back.
            self.effects.close(member, None, CloseCode::Disconnected);
        }
        if let Some(kept) = change.keeps().filter(|_| !late) {
            // They are open with tokens that are good no more. Its own device comes back with the new ones.
            self.effects.close(member, Some(kept.id), CloseCode::Disconnected);
        }
        for session in ended {
            self.effects.apply(effects::of_ended(member, *session));
        }
        if change.revokes() == Revoked::All && !late {
            // Those of sessions that a command has ended beside the server are open, too. Whose session is good comes back.
            self.effects.close(member, None, CloseCode::Disconnected);
        }
    }
}

/// Who makes a change to a profile: its owner, or an administrator.
///
/// # Errors
/// `forbidden`.
pub(super) fn may_change(who: &Authorized, from: IpAddr, member: MemberId) -> Result<Actor, Failure> {
    if who.member != member && who.user_type != UserType::Admin {
        return Err(ErrorCode::Forbidden.into());
    }
    Ok(who.asks_from(from))
}
