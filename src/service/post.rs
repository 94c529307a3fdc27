//! What is sent by mail, and the one who sends it.
//!
//! A mail is written to the store by whoever has something to tell ([`crate::store::mail`]); a worker takes one after the other, makes
//! the text of it, and hands it to the mail server. One that cannot be handed over is tried again, later each time, until its time
//! is over: half an hour for what brings a link, a day for what only tells something.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use protocol::{ErrorCode, MemberId, Timestamp, rest::Language};
use tokio::{
    sync::{Mutex, Notify},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::limiter::{Limiter, Rate};
use crate::{
    clock::Clock,
    failure::Failure,
    ids::Ids,
    mail::{Letter, Smtp, Template, TokenKeys, Undelivered, letters::Fields, smtp::Parcel, tokens},
    sources::network,
    store::{
        MailStore, MemberStore,
        mail::{AskedFrom, Expired, Mail, NewLink, Purpose, TakenMail, TokenId},
        members::MemberRecord,
        turns::Caller,
    },
    telemetry::Metrics,
};

/// How often it is looked for mails that nobody told of: those whose time has come, and those of other nodes.
const LOOK: Duration = Duration::from_secs(10);
/// When a mail that was taken is due again, if whoever took it does not tell: so much longer than it may take to hand it over.
const LEASE: Duration = Duration::from_secs(60);
/// How long what a mail says may take to be found out.
const COMPOSING: Duration = Duration::from_secs(30);
/// When a mail is tried again after it failed once; twice as long each time.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest time until then.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How long nothing is sent after no mail could be handed over; twice as long each time.
const REST: Duration = Duration::from_secs(1);
/// The longest time of that.
const REST_MAX: Duration = Duration::from_secs(60);

/// How often a member is told that somebody registers with their address, by one server: whoever does so again and again must not fill
/// their inbox.
const TAKEN_NOTICES: Rate = Rate { per_period: 3, period: Duration::from_secs(86_400), burst: 3 };

/// Where mails go.
pub enum Way {
    /// To the mail server.
    Smtp(Box<Smtp>),
    /// To the log, with everything that is in them: whoever develops on this machine follows links from there.
    Log,
    /// Nowhere.
    Nowhere,
}

impl Way {
    /// One line for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Smtp(smtp) => smtp.describe(),
            Self::Log => "to the log, with its links; SMTP_URL, MAIL_FROM and PUBLIC_URL send it".to_owned(),
            Self::Nowhere => "none: nobody can reset a password without SMTP_URL, MAIL_FROM and PUBLIC_URL".to_owned(),
        }
    }
}

/// What there is to say before anything is sent.
enum Composed {
    /// A mail.
    Parcel(Box<Parcel>),
    /// Nothing, and what became of it.
    Nothing(&'static str),
}

/// Sends mail.
pub struct Post {
    /// Mails and links.
    pub store: Arc<dyn MailStore>,
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Derives tokens.
    pub keys: TokenKeys,
    /// Where links lead, without a slash at the end; known once the server listens.
    pub base: OnceLock<String>,
    /// The language of members who have chosen none.
    pub language: Language,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Makes ids.
    pub ids: Arc<Ids>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    taken_notices: Limiter<MemberId>,
    wanted: Notify,
    way: Mutex<Way>,
    is_sent: bool,
    is_off: bool,
    lease: Duration,
    description: String,
}

/// What the post needs of the rest.
pub struct Parts {
    /// Mails and links.
    pub store: Arc<dyn MailStore>,
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Derives tokens.
    pub keys: TokenKeys,
    /// The language of members who have chosen none.
    pub language: Language,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Makes ids.
    pub ids: Arc<Ids>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Post {
    /// With these.
    #[must_use]
    pub fn new(parts: Parts, way: Way) -> Self {
        let Parts { store, members, keys, language, clock, ids, metrics } = parts;
        Self {
            store,
            members,
            keys,
            base: OnceLock::new(),
            language,
            clock,
            ids,
            taken_notices: Limiter::new("taken_notices", TAKEN_NOTICES, Arc::clone(&metrics)),
            metrics,
            wanted: Notify::new(),
            is_sent: matches!(way, Way::Smtp(_)),
            is_off: matches!(way, Way::Nowhere),
            lease: way.longest().saturating_add(LEASE),
            description: way.describe(),
            way: Mutex::new(way),
        }
    }

    /// The server listens: links lead to where clients reach it if a setting says so, else to its own address.
    pub fn is_reached_at(&self, public_url: &str, addr: SocketAddr) {
        // Once, at the start.
        let _ = self.base.set(if public_url.is_empty() { format!("http://{addr}") } else { public_url.to_owned() });
    }

    /// One line for people: where mails go. No credentials.
    #[must_use]
    pub fn describe(&self) -> &str {
        &self.description
    }

    /// Whether mail reaches people, so that who registers has to show that the address is theirs.
    #[must_use]
    pub const fn is_sent(&self) -> bool {
        self.is_sent
    }

    /// Whether anything comes of a mail that is asked for.
    ///
    /// # Errors
    /// `mail_unavailable`.
    pub fn available(&self) -> Result<(), Failure> {
        if self.is_off { Err(ErrorCode::MailUnavailable.into()) } else { Ok(()) }
    }

    /// There is something to send. Never waits.
    pub fn wake(&self) {
        self.wanted.notify_one();
    }

    /// Has a mail sent. Here and below, `by` is who asks for it.
    ///
    /// # Errors
    /// `overloaded` when too many wait, or the store.
    pub async fn send(&self, by: Caller, mail: Mail) -> Result<(), Failure> {
        self.store.add(by, mail, self.clock.now()).await?;
        self.wake();
        Ok(())
    }

    /// What links that are asked for from an address are counted under: its network.
    #[must_use]
    pub fn asked(&self, from: IpAddr) -> AskedFrom {
        self.keys.asked(network(from))
    }

    /// Has a link sent to a member, again if they have one that is good for a while yet, unless they had too many lately.
    ///
    /// # Errors
    /// `overloaded` when too many mails wait, or the store.
    pub async fn send_link(
        &self,
        by: Caller,
        member: MemberId,
        purpose: Purpose,
        asked: AskedFrom,
    ) -> Result<(), Failure> {
        if !self.store.issue(by, self.new_link(member, purpose, asked)).await? {
            tracing::info!(%member, purpose = purpose.as_str(), "no link is sent: the member had too many lately");
        }
        self.wake();
        Ok(())
    }

    /// Removes links that are forgotten, and mails that no server of this version will ever take. To be called now and then.
    pub async fn purge(&self) {
        let now = self.clock.now();
        if let Err(error) = self.store.purge_links(now).await {
            tracing::warn!(%error, "old links were not removed");
        }
        match self.store.expire(now, Expired::Unknown).await {
            Ok(0) => {}
            Ok(removed) => tracing::warn!(removed, "mails of kinds that only a later version knows were given up"),
            Err(error) => tracing::warn!(%error, "mails of unknown kinds were not removed"),
        }
    }

    /// A link for a member that is to be stored, and is sent once it is.
    #[must_use]
    pub fn new_link(&self, member: MemberId, purpose: Purpose, asked: AskedFrom) -> NewLink {
        let token = TokenId(self.ids.secret());
        let hash = tokens::hash(&self.keys.token(token));
        NewLink { member, purpose, token, hash, asked, at: self.clock.now() }
    }

    /// Forgets who has their whole allowance of notices. To be called now and then.
    pub fn tidy(&self) {
        self.taken_notices.tidy();
    }

    /// Sends mails until `stop`. For one task only.
    pub async fn run(&self, stop: CancellationToken) {
        let _: Option<()> = stop.run_until_cancelled(self.work()).await;
    }

    async fn work(&self) {
        let mut failures = 0;
        loop {
            let rest = self.look().await;
            if rest.is_zero() {
                match self.send_due().await {
                    Ok(()) => failures = 0,
                    Err(problem) => {
                        let pause = REST.saturating_mul(1 << failures.min(16)).min(REST_MAX);
                        failures += 1;
                        tracing::warn!(problem, seconds = pause.as_secs(), "no mail can be sent; it is tried again");
                        self.way.lock().await.rest().await;
                        // Not to be woken: a further mail would fail too.
                        sleep(pause).await;
                    }
                }
            } else if timeout(rest, self.wanted.notified()).await.is_err() && rest >= LOOK {
                // For longer than that no connection is kept.
                self.way.lock().await.rest().await;
            }
        }
    }

    /// For how long nothing becomes due, or when to look again; zero if something is due.
    async fn look(&self) -> Duration {
        let now = self.clock.now();
        // Whatever fails was logged and counted where it arose, and is found again.
        if self.is_off {
            let _ = self.store.expire(now, Expired::All).await;
        }
        let Ok(waiting) = self.store.waiting().await else { return LOOK };
        self.metrics.mail_waiting.set(i64::try_from(waiting.count).unwrap_or(i64::MAX));
        match waiting.next {
            Some(due) if !self.is_off => due.since(now).min(LOOK),
            _ => LOOK,
        }
    }

    /// Sends what is due.
    ///
    /// # Errors
    /// Why none can be sent at the moment.
    async fn send_due(&self) -> Result<(), String> {
        loop {
            let now = self.clock.now();
            match self.store.take(now, now.after(self.lease)).await {
                Ok(Some(taken)) => self.attempt(taken).await?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Tries a mail; it is tried again later if it fails.
    async fn attempt(&self, taken: TakenMail) -> Result<(), String> {
        let (kind, attempts, until) = (taken.kind.as_str(), taken.attempts, taken.until);
        let Some(mail) = taken.mail.clone() else {
            tracing::warn!(mail = kind, key = taken.key, "a mail is given up: what is stored of it cannot be read");
            self.finish(taken, "unreadable").await;
            return Ok(());
        };
        if until <= self.clock.now() {
            tracing::warn!(mail = kind, attempts, "a mail is given up: it could not be sent in time");
            self.finish(taken, "expired").await;
            return Ok(());
        }
        let composed = match timeout(COMPOSING, self.compose(&taken, &mail)).await {
            Ok(Ok(composed)) => composed,
            // The store: nothing can be sent while it does not answer.
            Ok(Err(failure)) => return self.postpone(taken, Err(failure.message)).await,
            Err(_) => return self.postpone(taken, Err("the store did not answer in time".to_owned())).await,
        };
        let parcel = match composed {
            Composed::Parcel(parcel) => parcel,
            Composed::Nothing(outcome) => {
                self.finish(taken, outcome).await;
                return Ok(());
            }
        };
        match self.way.lock().await.take(&parcel).await {
            Ok(outcome) => self.finish(taken, outcome).await,
            Err(Undelivered::Refused(why)) => {
                tracing::warn!(mail = kind, member = ?mail.member(), why, "a mail is given up: it is refused");
                self.finish(taken, "refused").await;
            }
            Err(Undelivered::Later(why)) => {
                tracing::info!(mail = kind, attempts, why, "a mail is sent again later");
                return self.postpone(taken, Ok(())).await;
            }
            Err(Undelivered::Unreachable(why)) => return self.postpone(taken, Err(why)).await,
        }
        Ok(())
    }

    async fn finish(&self, taken: TakenMail, outcome: &'static str) {
        self.metrics.mail(taken.kind.as_str(), outcome);
        if let Err(error) = self.store.finish(taken).await {
            // It is due again when its lease ends.
            tracing::debug!(%error, "what became of a mail was not stored");
        }
    }

    /// Has a mail tried again; `outcome` is whether others can be sent. The pause begins now: a server that hangs has one, too.
    async fn postpone(&self, taken: TakenMail, outcome: Result<(), String>) -> Result<(), String> {
        self.metrics.mail(taken.kind.as_str(), "failed");
        // What all mails fail of passes for all at once. Each is put off all the same: one alone may be the reason.
        let doubled = taken.attempts.min(16).saturating_sub(1);
        let longest = if outcome.is_ok() { PAUSE_MAX } else { REST_MAX };
        let pause = PAUSE.saturating_mul(1 << doubled).min(longest);
        if let Err(error) = self.store.postpone(taken, self.clock.now().after(pause)).await {
            tracing::debug!(%error, "when a mail is tried again was not stored");
        }
        outcome
    }

    /// What a mail says, and to whom.
    async fn compose(&self, taken: &TakenMail, mail: &Mail) -> Result<Composed, Failure> {
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
                // One that is tried again has been let pass.
                let is_new = taken.attempts <= 1;
                let member = member.filter(|member| !is_new || self.taken_notices.check(&member.profile.id).is_ok());
                Ok(self.parcel(taken, member, Template::AddressTaken, Fields::default()))
            }
            Mail::VerifyEmail { member, token } => {
                let purpose = (Purpose::VerifyEmail, Template::VerifyEmail, "verify");
                self.with_link(taken, *member, *token, purpose).await
            }
            Mail::ResetPassword { member, token } => {
                let purpose = (Purpose::ResetPassword, Template::ResetPassword, "reset");
                self.with_link(taken, *member, *token, purpose).await
            }
            Mail::PasswordChanged { member, at } => self.notice(taken, *member, *at, Template::PasswordChanged).await,
            Mail::PasswordReset { member, at } => self.notice(taken, *member, *at, Template::PasswordReset).await,
            Mail::NewDevice { member, device, at, more, .. } => {
                let (member, at, device) = (self.who_is(*member).await?, minute(*at), device.clone());
                let fields = Fields { at, device, more: *more, ..Fields::default() };
                Ok(self.parcel(taken, member, Template::NewDevice, fields))
            }
            Mail::Approved { member, at } => self.notice(taken, *member, *at, Template::Approved).await,
            Mail::SecondFactorEnabled { member, at } => {
                self.notice(taken, *member, *at, Template::SecondFactorEnabled).await
            }
            Mail::SecondFactorDisabled { member, at } => {
                self.notice(taken, *member, *at, Template::SecondFactorDisabled).await
            }
            Mail::SecondFactorReset { member, at } => {
                self.notice(taken, *member, *at, Template::SecondFactorReset).await
            }
            Mail::RecoveryCodesReplaced { member, at } => {
                self.notice(taken, *member, *at, Template::RecoveryCodesReplaced).await
            }
            Mail::RecoveryCodeUsed { member, at, left } => {
                let (member, at, left) = (self.who_is(*member).await?, minute(*at), left.to_string());
                Ok(self.parcel(taken, member, Template::RecoveryCodeUsed, Fields { at, left, ..Fields::default() }))
            }
        }
    }

    /// A mail that says that something was done, and when.
    async fn notice(
        &self,
        taken: &TakenMail,
        member: MemberId,
        at: Timestamp,
        template: Template,
    ) -> Result<Composed, Failure> {
        let (member, at) = (self.who_is(member).await?, minute(at));
        Ok(self.parcel(taken, member, template, Fields { at, ..Fields::default() }))
    }

    /// A mail with a link, if that is still good.
    async fn with_link(
        &self,
        taken: &TakenMail,
        member: MemberId,
        token: TokenId,
        (purpose, template, page): (Purpose, Template, &str),
    ) -> Result<Composed, Failure> {
        let now = self.clock.now();
        for token in self.keys.tokens(token) {
            let good = self.store.link(Caller::System, tokens::hash(&token), purpose, now).await?;
            if let Some(good) = good.filter(|good| good.member == member) {
                let link = format!("{}/app/{page}?token={token}", self.base());
                let minutes = good.until.since(now).as_secs().div_ceil(60).to_string();
                let record = self.who_is(member).await?;
                return Ok(self.parcel(taken, record, template, Fields { link, minutes, ..Fields::default() }));
            }
        }
        Ok(Composed::Nothing("dropped"))
    }

    /// The mail for a member, if there is one who may sign in.
    fn parcel(&self, taken: &TakenMail, member: Option<MemberRecord>, template: Template, fields: Fields) -> Composed {
        let Some(member) = member else { return Composed::Nothing("dropped") };
        let profile = member.profile;
        // Without one of their own they lead to where a password is asked for.
        let link = if fields.link.is_empty() { format!("{}/app/", self.base()) } else { fields.link };
        // What strangers have typed does not go to an address that may be anybody's.
        let is_verified = profile.email_verified_at.is_some();
        let name = is_verified.then_some(profile.name);
        let device = if is_verified { fields.device } else { String::new() };
        let language = profile.language.unwrap_or(self.language);
        let letter: Letter = template.render(language, &Fields { name, link, device, ..fields });
        let id = format!("{}.{:016x}", taken.kind.as_str(), taken.revision);
        Composed::Parcel(Box::new(Parcel { to: profile.email, letter, id }))
    }

    fn base(&self) -> &str {
        self.base.get().map_or("", |base| base.trim_end_matches('/'))
    }

    async fn who_is(&self, member: MemberId) -> Result<Option<MemberRecord>, Failure> {
        Ok(self.members.by_id(Caller::System, member).await?.filter(may_be_written_to))
    }

    async fn who_has(&self, email: &str) -> Result<Option<MemberRecord>, Failure> {
        Ok(self.members.by_email(Caller::System, email).await?.filter(may_be_written_to))
    }
}

/// Whether mail is for a member: they may sign in, or may be let in. Who is suspended for a while can still look after their account.
pub(super) const fn may_be_written_to(member: &MemberRecord) -> bool {
    (member.profile.is_active || member.profile.is_unknown()) && !member.is_erased
}

/// A time for people, to the minute.
fn minute(at: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

impl Way {
    /// The longest time that a mail takes.
    const fn longest(&self) -> Duration {
        match self {
            Self::Smtp(smtp) => smtp.longest(),
            Self::Log | Self::Nowhere => Duration::ZERO,
        }
    }

    /// Takes a mail. Returns what became of it.
    async fn take(&mut self, parcel: &Parcel) -> Result<&'static str, Undelivered> {
        match self {
            Self::Smtp(smtp) => {
                let sent = timeout(smtp.longest(), smtp.send(parcel)).await;
                sent.unwrap_or_else(|_| Err(Undelivered::Unreachable("it took too long".to_owned()))).map(|()| "sent")
            }
            Self::Log => {
                let Parcel { to, letter: Letter { subject, body }, .. } = parcel;
                tracing::info!(to, subject, "mail (not sent: there is no SMTP_URL)\n{body}");
                Ok("logged")
            }
            Self::Nowhere => Ok("dropped"),
        }
    }

    /// Closes what is open.
    async fn rest(&mut self) {
        if let Self::Smtp(smtp) = self {
            smtp.rest().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_to_the_minute() {
        assert_eq!(minute(Timestamp::from_millis(1_795_370_633_000)), "2026-11-22 18:03 UTC");
    }
}
