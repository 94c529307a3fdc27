//! Invitations: making, checking and revoking them. The code of one is shown once, and its hash is stored.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use protocol::{
    ErrorCode, InvitationId, MemberId,
    model::{Tier, UserType},
    rest::{
        AdminInvitation, AdminInvitationPage, CheckedInvitation, Invitation, InvitationPage, InvitationPolicy,
        InvitationRequest, NamedMember, NewInvitation, PageQuery, RegistrationPolicy, invitations::EXPIRES_IN_DEFAULT,
        page_size,
    },
    shown,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    accounts::Authorized,
    administration::Admin,
    audit::AuditTrail,
    base32,
    decisions::until_known,
    limiter::{Limiter, Rate},
    pages, views,
};
use crate::{
    clock::Clock,
    failure::Failure,
    ids::Ids,
    sources::{network, subscriber},
    store::{
        InvitationStore, MemberStore, StoreError,
        invitations::{CameBy, CodeHash, Created, InvitationRecord, NewInvitation as Stored, Withdrawn},
        turns::Caller,
    },
    telemetry::Metrics,
};

/// Where the app takes a code.
const APP_REGISTER: &str = "/app/register";
/// Digits of one of the two halves of a code: 80 bits in all.
const HALF: u32 = 8;
/// Digits of a group, as a code is written.
const GROUP: usize = 4;
/// Codes that are not good and are tried from one network: a minute, and at once. A code has 80 random bits, so nobody finds one by trying
/// from however many networks, and who tries keeps nobody out but their own network.
const ATTEMPTS: Rate = Rate { per_period: 60, period: Duration::from_secs(60), burst: 120 };
/// Open invitations of one member.
const OPEN_OF_MEMBER: usize = 10;
/// Open invitations of one administrator.
const OPEN_OF_ADMIN: usize = 1_000;
/// Invitations that one member makes in a day, whatever becomes of them: who is invited has a place among the mails of members.
const MADE_OF_MEMBER: usize = 30;
/// The same of one administrator.
const MADE_OF_ADMIN: usize = 10_000;
/// For how long an invitation is known after it has expired.
const KNOWN_FOR: Duration = Duration::from_secs(90 * 86_400);

/// Invitations.
pub struct Invitations {
    /// Those that are stored.
    pub store: Arc<dyn InvitationStore>,
    /// Who makes them.
    pub members: Arc<dyn MemberStore>,
    /// Who may.
    pub policy: InvitationPolicy,
    /// Who may register: where nobody may, nobody is invited.
    pub registration: RegistrationPolicy,
    /// What links begin with; empty for paths.
    pub public_url: String,
    /// Codes that are not good, by network.
    pub attempts: Limiter<IpAddr>,
    /// Registrations from one address, and checks of codes.
    pub registrations: Arc<Limiter<IpAddr>>,
    /// Writes to the audit log.
    pub audit: Arc<AuditTrail>,
    /// What one member changes; administrators are exempt.
    pub changes: Arc<Limiter<MemberId>>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Makes ids and codes.
    pub ids: Arc<Ids>,
    /// Counts failures.
    pub metrics: Arc<Metrics>,
}

/// The limit of [`Invitations::attempts`].
#[must_use]
pub fn attempts(metrics: Arc<Metrics>) -> Limiter<IpAddr> {
    Limiter::new("invitations", ATTEMPTS, metrics)
}

impl Invitations {
    /// The invitation with a code, if it is good at the moment.
    ///
    /// # Errors
    /// `invitation_invalid`, whatever it is that makes it so; `rate_limited` in its place when too many such codes came from the network;
    /// or the store.
    pub(super) async fn find(&self, code: &str, from: IpAddr) -> Result<InvitationRecord, Failure> {
        let found = self.store.by_code(Caller::Address(subscriber(from)), hash(code)).await?;
        let now = self.clock.now();
        if let Some(found) = found.filter(|found| found.is_open(now)) {
            return Ok(found);
        }
        self.metrics.auth_failure(ErrorCode::InvitationInvalid);
        self.attempts.check(&network(from))?;
        Err(ErrorCode::InvitationInvalid.into())
    }

    /// What whoever has a code may know before they register. Charged as a registration.
    ///
    /// # Errors
    /// As [`Self::find`], `registration_closed` where nobody may register, or the rate limit of the address.
    pub async fn check(&self, code: &str, from: IpAddr) -> Result<CheckedInvitation, Failure> {
        self.registrations.check(&subscriber(from))?;
        if self.registration == RegistrationPolicy::Closed {
            return Err(ErrorCode::RegistrationClosed.into());
        }
        let found = self.find(code, from).await?;
        let maker = self.members.by_id(Caller::Address(subscriber(from)), found.created_by).await?;
        let maker = maker.ok_or(ErrorCode::InvitationInvalid)?;
        Ok(CheckedInvitation { invited_by: maker.profile.name, tier: found.tier, expires_at: found.expires_at })
    }

    /// Makes an invitation.
    ///
    /// # Errors
    /// `forbidden` for who may not invite, `registration_closed` where nobody could come by it, `validation_failed` for a tier or a number of uses that only administrators may choose,
    /// `too_many_invitations`, a rate limit, or the store.
    pub async fn create(
        &self,
        who: &Authorized,
        from: IpAddr,
        request: InvitationRequest,
    ) -> Result<NewInvitation, Failure> {
        let is_admin = who.user_type == UserType::Admin;
        if !is_admin && self.policy == InvitationPolicy::Admins {
            return Err(ErrorCode::Forbidden.into());
        }
        if self.registration == RegistrationPolicy::Closed {
            return Err(ErrorCode::RegistrationClosed.into());
        }
        let InvitationRequest { tier, uses, expires_in, note } = request;
        let (tier, uses) = (tier.unwrap_or(Tier::Disruption), uses.unwrap_or(1));
        if !is_admin && tier != Tier::Disruption {
            let message = "members who are no administrators invite to the lowest tier";
            return Err(Failure::field(ErrorCode::ValidationFailed, "tier", message));
        }
        if !is_admin && uses != 1 {
            let message = "an invitation of a member who is no administrator is for one";
            return Err(Failure::field(ErrorCode::ValidationFailed, "uses", message));
        }
        if !is_admin {
            self.changes.check(&who.member)?;
        }
        let (code, now) = (self.draw(), self.clock.now());
        let note = note.map(|note| shown::normalized(note.trim())).filter(|note| !note.is_empty());
        let record = InvitationRecord {
            id: self.ids.invitation(),
            code: hash(&code),
            tier,
            uses,
            used: 0,
            created_by: who.member,
            created_at: now,
            expires_at: now.after(Duration::from_secs(expires_in.unwrap_or(EXPIRES_IN_DEFAULT).into())),
            revoked_at: None,
            note,
        };
        let (most_open, most_made) =
            if is_admin { (OPEN_OF_ADMIN, MADE_OF_ADMIN) } else { (OPEN_OF_MEMBER, MADE_OF_MEMBER) };
        // What only an administrator may make is not made by who is none any more.
        let needs_admin =
            is_admin && (self.policy == InvitationPolicy::Admins || tier != Tier::Disruption || uses != 1);
        let by = who.asks_from(from);
        let new = Stored { record: record.clone(), most_open, most_made, needs_admin, by };
        match until_known(|_| self.store.create(new.clone())).await?.outcome {
            Created::Done => {}
            Created::TooMany => return Err(ErrorCode::TooManyInvitations.into()),
            Created::NotAllowed => return Err(ErrorCode::Forbidden.into()),
            Created::Overtaken(why) => return Err(why.into()),
        }
        tracing::info!(invitation = %record.id, member = %who.member, "an invitation was made");
        let link = format!("{}{APP_REGISTER}?invitation={code}", self.public_url);
        Ok(NewInvitation { invitation: views::invitation(record, now), code, link })
    }

    /// A page of the member's own invitations, the newest first.
    ///
    /// # Errors
    /// A bad cursor, or the store.
    pub async fn own(&self, who: &Authorized, page: &PageQuery) -> Result<InvitationPage, Failure> {
        let (found, next) = self.page(Caller::Member(who.member), Some(who.member), page).await?;
        let now = self.clock.now();
        Ok(InvitationPage { invitations: found.into_iter().map(|found| views::invitation(found, now)).collect(), next })
    }

    /// Those of a member, for their export, a page at a time.
    ///
    /// # Errors
    /// The store.
    pub(super) async fn of_member(
        &self,
        member: MemberId,
        before: Option<InvitationId>,
        limit: usize,
    ) -> Result<Vec<Invitation>, StoreError> {
        let found = self.store.list(Caller::Member(member), Some(member), before, limit).await?;
        let now = self.clock.now();
        Ok(found.into_iter().map(|found| views::invitation(found, now)).collect())
    }

    /// A page of all invitations, with who made them and who came by them. That it was read is in the audit log.
    ///
    /// # Errors
    /// A bad cursor, or the store: what is not in the audit log is not given.
    pub async fn all(&self, admin: Admin, page: &PageQuery) -> Result<AdminInvitationPage, Failure> {
        let by = admin.caller();
        let (found, next) = self.page(by, None, page).await?;
        let came = self.store.came_by(by, found.iter().map(|found| found.id).collect()).await?;
        let now = self.clock.now();
        let mut invitations = Vec::with_capacity(found.len());
        // One look-up for each maker: few make many.
        let mut names = HashMap::new();
        for (found, came) in found.into_iter().zip(came) {
            let created_by_name = match names.get(&found.created_by) {
                Some(name) => String::clone(name),
                None => {
                    let maker = self.members.by_id(by, found.created_by).await?;
                    let name = maker.map(|maker| maker.profile.name).unwrap_or_default();
                    names.insert(found.created_by, name.clone());
                    name
                }
            };
            let CameBy { members, unverified } = came;
            let members =
                members.into_iter().map(|member| NamedMember { id: member.profile.id, name: member.profile.name });
            let members = members.collect();
            invitations.push(AdminInvitation {
                invitation: views::invitation(found, now),
                created_by_name,
                members,
                unverified,
            });
        }
        self.audit.read(admin.actor(), None, json!({ "read": "invitations", "count": invitations.len() })).await?;
        Ok(AdminInvitationPage { invitations, next })
    }

    /// Revokes an invitation: one's own, or anybody's as an administrator. One that was revoked stays so.
    ///
    /// # Errors
    /// `invitation_not_found`, also for one of somebody else; or the store.
    pub async fn revoke(&self, who: &Authorized, from: IpAddr, id: InvitationId) -> Result<(), Failure> {
        let found = self.store.by_id(Caller::Member(who.member), id).await?;
        let theirs = |found: &InvitationRecord| who.user_type == UserType::Admin || found.created_by == who.member;
        found.filter(theirs).ok_or(ErrorCode::InvitationNotFound)?;
        let by = who.asks_from(from);
        let at = self.clock.now();
        match until_known(|_| self.store.revoke(id, by, at)).await?.outcome {
            Withdrawn::Done => Ok(()),
            Withdrawn::NotFound => Err(ErrorCode::InvitationNotFound.into()),
            Withdrawn::Overtaken(why) => Err(why.into()),
        }
    }

    /// Removes those that have expired long ago.
    ///
    /// # Errors
    /// The store.
    pub async fn purge(&self) -> Result<usize, StoreError> {
        self.store.purge(self.clock.now().before(KNOWN_FOR)).await
    }

    async fn page(
        &self,
        by: Caller,
        made_by: Option<MemberId>,
        page: &PageQuery,
    ) -> Result<(Vec<InvitationRecord>, Option<String>), Failure> {
        let limit = page_size(page.limit);
        let before: Option<InvitationId> = pages::decode(page.cursor.as_deref())?;
        let mut found = self.store.list(by, made_by, before, limit + 1).await?;
        let next = pages::cut(&mut found, limit, |last| last.id);
        Ok((found, next))
    }

    /// A new code, as it is written.
    fn draw(&self) -> String {
        let mut digits = String::new();
        for _ in 0..2 {
            digits.push_str(&base32::digits(u64::from_be_bytes(self.ids.secret()), HALF));
        }
        let digits: Vec<char> = digits.chars().collect();
        let groups: Vec<String> = digits.chunks(GROUP).map(|group| group.iter().collect()).collect();
        groups.join("-")
    }
}

/// By what an invitation is found: case, hyphens and spaces do not matter, nor do letters that look like digits.
fn hash(code: &str) -> CodeHash {
    Sha256::digest(base32::typed(code)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_code_is_written_does_not_matter_and_what_it_says_does() {
        let code = "7K3Q-M9XW-PT4B-0H1C";
        for same in ["7k3qm9xwpt4b0h1c", " 7K3Q M9XW PT4B OHLC ", "7K3Q-M9XW-PT4B-OHIC"] {
            assert_eq!(hash(same), hash(code), "{same}");
        }
        for other in ["", "7K3Q-M9XW-PT4B", "7K3Q-M9XW-PT4B-0H1D", "ÄÖÜ"] {
            assert_ne!(hash(other), hash(code), "{other}");
        }
    }
}
