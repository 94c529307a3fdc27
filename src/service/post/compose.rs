//! What a mail says, and to whom: found out when it is sent, not when it is asked for.

use protocol::{MemberId, Timestamp, rest::Language};
use sha2::{Digest as _, Sha256};

use super::{Post, may_be_written_to};
use crate::{
    failure::Failure,
    mail::{Letter, Template, letters::Fields, smtp::Parcel, tokens},
    store::{
        mail::{GoodLink, Mail, Purpose, TakenMail, TokenId},
        members::MemberRecord,
        turns::Caller,
    },
};

/// What there is to say before anything is sent.
pub(super) enum Composed {
    /// A mail.
    Parcel(Box<Parcel>),
    /// Nothing, and what became of it.
    Nothing(&'static str),
}

impl Post {
    /// What a mail says, and to whom.
    pub(super) async fn compose(&self, taken: &TakenMail, mail: &Mail) -> Result<Composed, Failure> {
        match mail {
            Mail::ForgotPassword { email, asked } => {
                if let Some(member) = self.who_has(email).await? {
                    self.send_link(Caller::System, member.profile.id, Purpose::ResetPassword, *asked).await?;
                }
                Ok(Composed::Nothing("resolved"))
            }
            Mail::AddressTaken { email, asked } => {
                let member = self.who_has(email).await?;
                // Nobody has signed in there yet: a link that sets the password makes it theirs who reads this.
                if let Some(member) = member.as_ref().filter(|member| member.profile.must_verify) {
                    self.send_link(Caller::System, member.profile.id, Purpose::ResetPassword, *asked).await?;
                    return Ok(Composed::Nothing("resolved"));
                }
                Ok(self.address_taken(taken, member))
            }
            Mail::VerifyEmail { member, token } => {
                let purpose = (Purpose::VerifyEmail, Template::VerifyEmail, "verify");
                self.with_link(taken, *member, *token, purpose).await
            }
            Mail::ResetPassword { member, token } => {
                let purpose = (Purpose::ResetPassword, Template::ResetPassword, "reset");
                self.with_link(taken, *member, *token, purpose).await
            }
            Mail::ChangeEmail { member, token } => self.email_change(taken, *member, *token).await,
            Mail::EmailChanged { member, former, at } => {
                let language = self.language_of(*member).await?;
                let fields = Fields { at: minute(*at), ..Fields::default() };
                Ok(self.parcel_to_former(former, taken, language, (Template::EmailChanged, fields)))
            }
            Mail::FormerNotice { former, notice } => {
                let (Some(notice), Some(member)) = (of_notice(notice), notice.member()) else {
                    return Ok(Composed::Nothing("unreadable"));
                };
                let language = self.language_of(member).await?;
                Ok(self.parcel_to_former(former, taken, language, notice))
            }
            notice => {
                let (Some((template, fields)), Some(member)) = (of_notice(notice), notice.member()) else {
                    return Ok(Composed::Nothing("unreadable"));
                };
                let member = self.who_is(member).await?;
                Ok(self.parcel(taken, member, template, fields))
            }
        }
    }

    /// A mail that tells a member that somebody wants to have their address, unless they had too many lately.
    fn address_taken(&self, taken: &TakenMail, member: Option<MemberRecord>) -> Composed {
        // One that is tried again has been let pass.
        let is_new = taken.attempts <= 1;
        let member = member.filter(|member| !is_new || self.taken_notices.check(&member.profile.id).is_ok());
        self.parcel(taken, member, Template::AddressTaken, Fields::default())
    }

    /// The mail to a new address of a member. Who has it already is told, as when somebody registers with it.
    async fn email_change(&self, taken: &TakenMail, member: MemberId, token: TokenId) -> Result<Composed, Failure> {
        let Some((good, fields)) = self.good_link(member, token, (Purpose::ChangeEmail, "verify")).await? else {
            return Ok(dropped(taken, member));
        };
        let Some(email) = good.email else { return Ok(dropped(taken, member)) };
        let owner = self.members.by_email(Caller::System, &email).await?;
        // Who has registered with it and has not verified it gives way to who reads its mail.
        if let Some(owner) = owner.filter(|owner| owner.profile.id != member && !owner.profile.must_verify) {
            return Ok(self.address_taken(taken, Some(owner).filter(may_be_written_to)));
        }
        let record = self.who_is(member).await?;
        Ok(self.parcel_to(Some(email), taken, record, Template::ChangeEmail, fields))
    }

    /// A mail with a link, if that is still good.
    async fn with_link(
        &self,
        taken: &TakenMail,
        member: MemberId,
        token: TokenId,
        (purpose, template, page): (Purpose, Template, &str),
    ) -> Result<Composed, Failure> {
        let Some((_, fields)) = self.good_link(member, token, (purpose, page)).await? else {
            return Ok(dropped(taken, member));
        };
        let record = self.who_is(member).await?;
        Ok(self.parcel(taken, record, template, fields))
    }

    /// A member's link that is still good, and what a mail says of it.
    async fn good_link(
        &self,
        member: MemberId,
        token: TokenId,
        (purpose, page): (Purpose, &str),
    ) -> Result<Option<(GoodLink, Fields)>, Failure> {
        let now = self.now();
        for token in self.keys.tokens(token) {
            let good = self.link(Caller::System, tokens::hash(&token), purpose).await?;
            if let Some(good) = good.filter(|good| good.member == member) {
                let link = format!("{}/app/{page}?token={token}", self.base());
                let minutes = good.until.since(now).as_secs().div_ceil(60).to_string();
                return Ok(Some((good, Fields { link, minutes, ..Fields::default() })));
            }
        }
        Ok(None)
    }

    /// The mail for a member, if there is one who may sign in.
    fn parcel(&self, taken: &TakenMail, member: Option<MemberRecord>, template: Template, fields: Fields) -> Composed {
        self.parcel_to(None, taken, member, template, fields)
    }

    /// The mail to an address that a member had. It may be somebody else's by now, and nothing that the member does keeps it back.
    fn parcel_to_former(
        &self,
        former: &str,
        taken: &TakenMail,
        language: Language,
        (template, fields): (Template, Fields),
    ) -> Composed {
        let fields = Fields { link: format!("{}/app/", self.base()), device: String::new(), ..fields };
        let letter = template.render(language, &fields);
        Composed::Parcel(Box::new(Parcel { to: former.to_owned(), letter, id: id_of(taken) }))
    }

    /// The mail for a member; to another address than they have, if it is to a new one.
    fn parcel_to(
        &self,
        to: Option<String>,
        taken: &TakenMail,
        member: Option<MemberRecord>,
        template: Template,
        fields: Fields,
    ) -> Composed {
        let Some(member) = member else { return Composed::Nothing("dropped") };
        let profile = member.profile;
        // Without one of their own they lead to where a password is asked for.
        let link = if fields.link.is_empty() { format!("{}/app/", self.base()) } else { fields.link };
        // What strangers have typed does not go to an address that may be anybody's.
        let is_verified = to.is_none() && profile.email_verified_at.is_some();
        let name = is_verified.then_some(profile.name);
        let device = if is_verified { fields.device } else { String::new() };
        let language = profile.language.unwrap_or(self.language);
        let letter: Letter = template.render(language, &Fields { name, link, device, ..fields });
        Composed::Parcel(Box::new(Parcel { to: to.unwrap_or(profile.email), letter, id: id_of(taken) }))
    }

    fn base(&self) -> &str {
        self.base.get().map_or("", |base| base.trim_end_matches('/'))
    }

    async fn who_is(&self, member: MemberId) -> Result<Option<MemberRecord>, Failure> {
        Ok(self.members.by_id(Caller::System, member).await?.filter(may_be_written_to))
    }

    /// The language of a member, or of somebody who was one.
    async fn language_of(&self, member: MemberId) -> Result<Language, Failure> {
        let record = self.members.by_id(Caller::System, member).await?;
        Ok(record.and_then(|record| record.profile.language).unwrap_or(self.language))
    }

    async fn who_has(&self, email: &str) -> Result<Option<MemberRecord>, Failure> {
        Ok(self.members.by_email(Caller::System, email).await?.filter(may_be_written_to))
    }
}

fn dropped(taken: &TakenMail, member: MemberId) -> Composed {
    tracing::info!(mail = taken.kind.as_str(), %member, "a mail is dropped: its link has ended before it was sent");
    Composed::Nothing("dropped")
}

/// What a mail is recognised by when it is sent again. A notice is the same one wherever it waits; a link that is asked for again is another mail.
fn id_of(taken: &TakenMail) -> String {
    let notice =
        taken.mail.as_ref().map(|mail| if let Mail::FormerNotice { notice, .. } = mail { notice } else { mail });
    let of_notice = notice.filter(|mail| of_notice(mail).is_some()).and_then(|mail| serde_json::to_vec(mail).ok());
    let Some(notice) = of_notice else { return format!("{}.{:016x}", taken.kind.as_str(), taken.revision) };
    let digest = Sha256::digest(notice);
    digest.iter().take(12).fold("notice.".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}

/// What a notice of something that was done says; nothing of another mail.
fn of_notice(mail: &Mail) -> Option<(Template, Fields)> {
    let (template, at, fields) = match mail {
        Mail::PasswordChanged { at, .. } => (Template::PasswordChanged, at, Fields::default()),
        Mail::PasswordReset { at, .. } => (Template::PasswordReset, at, Fields::default()),
        Mail::NewDevice { device, at, more, .. } => {
            (Template::NewDevice, at, Fields { device: device.clone(), more: *more, ..Fields::default() })
        }
        Mail::Approved { at, .. } => (Template::Approved, at, Fields::default()),
        Mail::Left { at, .. } => (Template::Left, at, Fields::default()),
        Mail::SecondFactorEnabled { at, .. } => (Template::SecondFactorEnabled, at, Fields::default()),
        Mail::SecondFactorDisabled { at, .. } => (Template::SecondFactorDisabled, at, Fields::default()),
        Mail::SecondFactorReset { at, .. } => (Template::SecondFactorReset, at, Fields::default()),
        Mail::RecoveryCodesReplaced { at, .. } => (Template::RecoveryCodesReplaced, at, Fields::default()),
        Mail::RecoveryCodeUsed { at, left, .. } => {
            (Template::RecoveryCodeUsed, at, Fields { left: left.to_string(), ..Fields::default() })
        }
        Mail::ForgotPassword { .. }
        | Mail::AddressTaken { .. }
        | Mail::VerifyEmail { .. }
        | Mail::ResetPassword { .. }
        | Mail::ChangeEmail { .. }
        | Mail::EmailChanged { .. }
        | Mail::FormerNotice { .. } => return None,
    };
    Some((template, Fields { at: minute(*at), ..fields }))
}

/// A time for people, to the minute.
fn minute(at: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_to_the_minute() {
        assert_eq!(minute(Timestamp::from_millis(1_795_370_633_000)), "2026-11-22 18:03 UTC");
    }
}
