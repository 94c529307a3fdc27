//! What is sent by mail, and the one who sends it.
//!
//! A mail is written to the store by whoever has something to tell ([`crate::store::mail`]); the worker of its lane takes one after the other,
//! has the text of it made, and hands it to the mail server. One that cannot be handed over is tried again, later each time, until its time
//! is over: half an hour for what brings a link, a day for what only tells something.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`worker`] | taking what is due, in lanes that do not keep each other back |
//! | [`attempt`] | handing it over, and when it is tried again |
//! | [`compose`] | what a mail says, and to whom |
//! | [`domains`] | where mails have failed a moment ago, and for how long nothing is sent there |

mod attempt;
mod compose;
mod domains;
mod worker;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex as StdMutex, OnceLock},
    time::Duration,
};

use protocol::{ErrorCode, MemberId, Timestamp, rest::Language};

use self::{
    domains::Domains,
    worker::{LEASE, Sender},
};
use super::{
    limiter::{Limiter, Rate},
    second_factor::wrong_code,
    shared_clock::SharedClock,
};
use crate::{
    clock::Clock,
    failure::Failure,
    ids::Ids,
    mail::{TokenKeys, Transport, tokens},
    sources::network,
    store::{
        FleetStore, MailStore, MemberStore,
        changes::Actor,
        mail::{Asked, AskedFrom, Expired, GoodLink, Lane, LinkHash, Mail, NewChange, NewLink, Purpose, TokenId},
        members::MemberRecord,
        second_factor::CodeUse,
        turns::Caller,
    },
    telemetry::Metrics,
};

/// How often a member is told that somebody registers with their address, by one server: whoever does so again and again must not fill
/// their inbox.
const TAKEN_NOTICES: Rate = Rate { per_period: 3, period: Duration::from_secs(86_400), burst: 3 };

/// How often a member is told of a new device, by one server: whoever logs in again and again must not fill their inbox, nor use up what the
/// mail server takes in a day.
const DEVICE_NOTICES: Rate = Rate { per_period: 20, period: Duration::from_secs(86_400), burst: 20 };
/// Within so much time it is looked up whether somebody has an address that is asked about, at a moment that nobody knows: how long another mail
/// takes that is asked for beside it must not tell whether there was one.
const SCATTER: Duration = Duration::from_secs(3);

/// Sends mail.
pub struct Post {
    /// Mails and links.
    store: Arc<dyn MailStore>,
    /// Members.
    members: Arc<dyn MemberStore>,
    /// Derives tokens.
    keys: TokenKeys,
    /// Where links lead, without a slash at the end; known once the server listens.
    base: OnceLock<String>,
    /// The language of members who have chosen none.
    language: Language,
    /// When it is, for what is due, and for what links are good.
    clock: SharedClock,
    /// Makes ids.
    ids: Arc<Ids>,
    /// Counts.
    metrics: Arc<Metrics>,
    taken_notices: Limiter<MemberId>,
    device_notices: Limiter<MemberId>,
    /// One of each lane.
    senders: [Sender; 5],
    /// Domains, as the lanes of members and those of strangers know them.
    domains: [StdMutex<Domains>; 2],
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
    /// The store, if others may send mails of it too.
    pub shared: Option<Arc<dyn FleetStore>>,
}

impl Post {
    /// With these.
    #[must_use]
    pub fn new(parts: Parts, transport: &Transport) -> Self {
        let Parts { store, members, keys, language, clock, ids, metrics, shared } = parts;
        Self {
            store,
            members,
            keys,
            base: OnceLock::new(),
            language,
            clock: SharedClock::new(clock, shared),
            ids,
            taken_notices: Limiter::new("taken_notices", TAKEN_NOTICES, Arc::clone(&metrics)),
            device_notices: Limiter::new("device_notices", DEVICE_NOTICES, Arc::clone(&metrics)),
            metrics,
            is_sent: matches!(transport, Transport::Smtp(_)),
            is_off: matches!(transport, Transport::Nowhere),
            lease: transport.longest().saturating_add(LEASE),
            description: transport.describe(),
            domains: Default::default(),
            senders: Lane::ALL.map(|lane| Sender::new(lane, transport.another())),
        }
    }

    /// When it is, for what is due, and for what links are good.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether no other process sends mails of this store.
    const fn is_alone(&self) -> bool {
        self.clock.is_alone()
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

    /// Whether a member is told of a new device: mail reaches them, and they were not told too often lately.
    pub(super) fn tells_of_device(&self, member: MemberId) -> bool {
        self.is_sent && self.device_notices.check(&member).is_ok()
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
        // What is new is never of a lane aside.
        self.wake_those(|lane| matches!(lane, Lane::Members | Lane::Strangers));
    }

    fn wake_those(&self, which: impl Fn(Lane) -> bool) {
        self.senders.iter().filter(|sender| which(sender.lane)).for_each(Sender::wake);
    }

    /// Has a mail sent. Here and below, `by` is who asks for it.
    ///
    /// # Errors
    /// `overloaded` when too many wait, or the store.
    pub async fn send(&self, by: Caller, mail: Mail) -> Result<(), Failure> {
        if !matches!(mail, Mail::ForgotPassword { .. }) {
            self.store.add(by, mail, self.now()).await?;
            self.wake();
            return Ok(());
        }
        let scattered = self.ids.below(u64::try_from(SCATTER.as_millis()).unwrap_or(0));
        self.store.add(by, mail, self.now().after(Duration::from_millis(scattered))).await?;
        self.wake_those(|lane| lane == Lane::Lookups);
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

    /// Has a link sent to a new address that a member asks for, which changes theirs to it, and uses up the code that they have given for it;
    /// those of before end. Whether somebody has the address already is found out when the mail is taken.
    ///
    /// # Errors
    /// `rate_limited` when the member had too many lately, which uses no code up; `stale` when they have other credentials by now than were
    /// verified; `validation_failed` for a code that was used meanwhile; why they may not ask any more; `overloaded` when too many mails wait, or
    /// the store.
    pub(super) async fn send_email_change(
        &self,
        record: &MemberRecord,
        email: String,
        code: Option<CodeUse>,
        (by, asked): (Actor, AskedFrom),
    ) -> Result<(), Failure> {
        let link = self.new_link(record.profile.id, Purpose::ChangeEmail, asked);
        let (at, link) = (link.at, NewLink { email: Some(email), ..link });
        let change = NewChange { link, credentials: record.credentials, code, by };
        match self.store.issue_change(change).await? {
            Asked::Written => {
                self.wake();
                Ok(())
            }
            Asked::TooMany(until) => Err(Failure::of(ErrorCode::RateLimited).retry_after(until.since(at))),
            Asked::NotFound => Err(ErrorCode::MemberNotFound.into()),
            Asked::Stale => Err(ErrorCode::Stale.into()),
            Asked::CodeUsed => Err(wrong_code()),
            Asked::Overtaken(why) => Err(why.into()),
        }
    }

    /// The link that is recognised by a hash, if it is still good.
    ///
    /// # Errors
    /// The store.
    pub(super) async fn link(&self, by: Caller, hash: LinkHash, purpose: Purpose) -> Result<Option<GoodLink>, Failure> {
        Ok(self.store.link(by, hash, purpose, self.now()).await?)
    }

    /// Removes links that are forgotten, and mails that no server of this version will ever take. To be called now and then.
    pub async fn purge(&self) {
        let now = self.now();
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
        NewLink { member, purpose, token, hash, asked, email: None, at: self.now() }
    }

    /// Forgets who has their whole allowance of notices. To be called now and then.
    pub fn tidy(&self) {
        self.taken_notices.tidy();
        self.device_notices.tidy();
    }
}

/// Whether mail is for a member: they may sign in, or may be let in. Who is suspended for a while can still look after their account.
pub(super) const fn may_be_written_to(member: &MemberRecord) -> bool {
    (member.profile.is_active || member.profile.is_unknown()) && !member.is_erased
}
