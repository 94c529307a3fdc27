//! Accounts: register; who a token speaks for.

use std::{net::IpAddr, sync::Arc, time::Duration};

use protocol::{
    ErrorCode, MemberId, SessionId, Timestamp,
    model::UserType,
    rest::{AuthResponse, Language, RegisterRequest},
};

use tokio::sync::Semaphore;

use super::{
    audit::{AuditTrail, WrongFactor},
    codes::Codes,
    effects::Effects,
    enrolment::Enrolment,
    guesses::{Allowance, Guesses},
    limiter::Limiter,
    post::Post,
    registration::Registration,
    sessions::Sessions,
};
use crate::{
    auth::{
        AccessTokens, DeviceProofs, Familiar, Known, Source, Stale,
        access::Verified,
        device::{DeviceNumber, Holder},
        password::Verdict,
        refresh::Successors,
    },
    clock::Clock,
    failure::Failure,
    ids::Ids,
    mail::reach::is_public,
    sources::subscriber,
    store::{
        MemberStore,
        changes::{Actor, Asking},
        members::{MemberRecord, Standing},
        sessions::AHEAD,
        turns::Caller,
    },
    supervisor::Supervisor,
    telemetry::Metrics,
};

/// Passwords that are hashed anew at the same time, after their logins.
pub const REHASHED_AT_ONCE: usize = 4;

/// Links that are sent again at the same time, after their logins.
pub const REMINDED_AT_ONCE: usize = 64;

/// Who a request or a connection speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authorized {
    /// The member.
    pub member: MemberId,
    /// The session.
    pub session: SessionId,
    /// The generation of the access token, if it says one.
    pub generation: Option<u64>,
    /// What the member may do.
    pub user_type: UserType,
    /// Whether the club demands a second factor of its administrators.
    pub demands_second_factor: bool,
    /// Whether they are an administrator without the second factor that the club demands of one. They may do what a member may.
    pub lacks_second_factor: bool,
    /// When who is at the device has proved last that they are the member.
    pub proved_at: Timestamp,
    /// When the token expires.
    pub expires_at: Timestamp,
    /// The generation of the session from which on its tokens are good, as it was when this one was checked.
    pub good_from: u64,
    /// When the session was started.
    pub signed_in_at: Timestamp,
    /// The device, if it had proved at the login that the member had logged in on it before.
    pub known_device: Option<DeviceNumber>,
}

impl Authorized {
    /// They, as who asks for a change, from an address.
    #[must_use]
    pub const fn asks_from(&self, address: IpAddr) -> Actor {
        let Self { session: id, generation, demands_second_factor, .. } = *self;
        let asking = Asking { id, generation, demands_second_factor };
        Actor { member: Some(self.member), session: Some(asking), address: Some(address) }
    }
}

/// Somebody who has proved a short while ago that they are who they say, for what does much harm in the hands of somebody who has found a
/// device unlocked, or a token. There is no way to get one but [`Proved::new`].
#[derive(Debug, Clone, Copy)]
pub struct Proved(Authorized);

/// How long a proof is good.
const PROOF: Duration = Duration::from_secs(15 * 60);

impl Proved {
    /// Takes a signed-in member for one who has proved who they are.
    ///
    /// # Errors
    /// `step_up_required`.
    pub fn new(who: &Authorized, now: Timestamp) -> Result<Self, Failure> {
        let is_good = now < who.proved_at.after(PROOF) && who.proved_at <= now.after(AHEAD);
        if is_good { Ok(Self(*who)) } else { Err(ErrorCode::StepUpRequired.into()) }
    }

    /// Who it is.
    #[must_use]
    pub const fn who(&self) -> &Authorized {
        &self.0
    }
}

/// What has become of a registration.
pub enum Registered {
    /// The member is in, and logged in.
    In(Box<AuthResponse>),
    /// They wait for an administrator.
    Waiting,
    /// A mail says what comes next. Whether there is a new member is for its reader to know.
    ByMail,
}

impl Registered {
    /// Who is logged in, if somebody is.
    #[must_use]
    pub fn logged_in(self) -> Option<AuthResponse> {
        match self {
            Self::In(answer) => Some(*answer),
            Self::Waiting | Self::ByMail => None,
        }
    }
}

/// What is wrong with an address to which no mail goes.
const NOT_PUBLIC: &str =
    "must be an address that mail from anywhere reaches, such as ana@example.com: a link is sent to it";

/// Accounts.
pub struct Accounts {
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Sessions.
    pub sessions: Arc<Sessions>,
    /// Access tokens.
    pub tokens: AccessTokens,
    /// Refresh tokens.
    pub successors: Successors,
    /// Makes members, with their passwords.
    pub enrolment: Enrolment,
    /// Who may come in.
    pub registration: Arc<Registration>,
    /// Who has logged in from where.
    pub familiar: Familiar,
    /// Proofs of devices on which somebody has logged in.
    pub proofs: DeviceProofs,
    /// How many passwords are tried at one account.
    pub guesses: Arc<Guesses>,
    /// Writes failed logins of administrators to the audit log.
    pub audit: Arc<AuditTrail>,
    /// Codes of second factors.
    pub codes: Codes,
    /// Whether the club demands a second factor of its administrators.
    pub demands_second_factor: bool,
    /// Sessions that are over although their tokens are not.
    pub stale: Arc<Stale>,
    /// Places for hashing passwords anew.
    pub rehashing: Arc<Semaphore>,
    /// Places for sending links again to whoever logs in before they have used one.
    pub reminding: Arc<Semaphore>,
    /// How long a refresh token lives.
    pub refresh_lifetime: Duration,
    /// Registrations from one address.
    pub registrations: Arc<Limiter<IpAddr>>,
    /// Logins from one address.
    pub logins: Arc<Limiter<IpAddr>>,
    /// Exchanges of refresh tokens by one member.
    pub refreshes: Arc<Limiter<MemberId>>,
    /// Sends mail.
    pub post: Arc<Post>,
    /// What follows from changes.
    pub effects: Arc<Effects>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Makes ids and tokens.
    pub ids: Arc<Ids>,
    /// Counts failures.
    pub metrics: Arc<Metrics>,
    /// Runs what goes on after an answer.
    pub supervisor: Supervisor,
}

/// Whose allowance a request with an access token is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payer {
    /// The member's: the token was good when its session was seen last.
    Member(MemberId),
    /// That of the token's session: it is good for nothing, or that is not known yet.
    Session(SessionId),
}

impl Accounts {
    /// Who pays for a request with a token whose signature is good. Asks nobody.
    #[must_use]
    pub fn payer(&self, token: &Verified) -> Payer {
        match self.stale.known(token) {
            Known::Good => Payer::Member(token.member),
            Known::Nothing | Known::Stale => Payer::Session(token.session),
        }
    }

    /// Where mail is sent, only addresses can be registered that it goes to.
    pub(super) fn can_be_written_to(&self, email: &str) -> Result<(), Failure> {
        if self.post.is_sent() && !is_public(email) {
            return Err(Failure::field(ErrorCode::ValidationFailed, "email", NOT_PUBLIC));
        }
        Ok(())
    }

    /// Registers a member and logs them in; or they wait for an administrator. Where mail is sent, they have to show first that the
    /// address is theirs.
    ///
    /// # Errors
    /// Why they may not come in ([`Registration::way`]), `email_taken` where no mail is sent, a rate limit, or the store.
    pub async fn register(
        &self,
        mut request: RegisterRequest,
        language: Option<Language>,
        from: IpAddr,
    ) -> Result<Registered, Failure> {
        self.registrations.check(&subscriber(from))?;
        self.can_be_written_to(&request.email)?;
        let way = self.registration.way(request.invitation.as_deref(), from).await?;
        self.registration.shares.take(way, self.post.is_sent(), from)?;
        let device = request.device.take();
        let source = Source { address: subscriber(from), familiar: false };
        if self.post.is_sent() {
            return self.register_by_mail(request, way, language, source).await.map(|()| Registered::ByMail);
        }
        let member = self.enrolment.register(request, way, (language, None), source).await?;
        self.metrics.registration(way.name());
        if member.profile.is_pending {
            tracing::info!(member = %member.profile.id, "somebody registered and waits for an administrator");
            self.registration.applications.changed();
            return Ok(Registered::Waiting);
        }
        tracing::info!(member = %member.profile.id, "member registered");
        self.log_in_as(member, device, from).await.map(|tokens| Registered::In(Box::new(tokens)))
    }

    /// Where a password of a member comes from who is known by something else than it, such as their session.
    pub(super) fn source_of(&self, member: &MemberRecord, from: IpAddr) -> Source {
        let familiar = Familiar::is_old_enough(member.profile.created_at, self.clock.now());
        Source { address: subscriber(from), familiar }
    }

    /// Whether a password is that of a member who is signed in.
    ///
    /// # Errors
    /// A rate limit, or `overloaded`: it could not be checked.
    pub(super) async fn verify_own(
        &self,
        member: &MemberRecord,
        from: IpAddr,
        password: String,
    ) -> Result<Result<(), WrongFactor>, Failure> {
        let (source, hash) = (self.source_of(member, from), Some(member.password_hash.clone()));
        Ok(match self.enrolment.passwords.verify(password, hash, source).await? {
            Verdict::Wrong => Err(WrongFactor::Password),
            Verdict::Right | Verdict::Outdated => Ok(()),
        })
    }

    /// What the device at which credentials were just replaced proves itself with from now on. Wrong passwords that its number has tried
    /// are forgiven, and codes of a second factor are not: a number that others do not choose keeps them counted however often
    /// credentials are replaced.
    pub(super) fn new_proof(&self, member: &MemberRecord, number: DeviceNumber) -> String {
        self.guesses.forgive(Allowance::of_device(number));
        self.proofs.issue(Holder::from(member), number)
    }

    /// Checks an access token: who it speaks for, and that its session and member are still good. The first use of one says that it
    /// has arrived.
    ///
    /// # Errors
    /// The code of what is wrong with it, or the store.
    pub async fn authorize(&self, token: &str) -> Result<Authorized, Failure> {
        self.authorize_verified(self.tokens.verify(token)).await
    }

    /// The same, of a token that was verified just now.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub async fn authorize_verified(&self, verified: Result<Verified, ErrorCode>) -> Result<Authorized, Failure> {
        let verified = verified.map_err(|code| self.denied(code))?;
        let session = self.sessions.store.view(verified.session).await?;
        let session = session.filter(|session| session.member == verified.member);
        match session.as_ref().filter(|session| !session.revoked) {
            Some(session) => self.stale.saw_good(verified.session, session.good_from),
            None => self.stale.saw_end(verified.session),
        }
        let session = session.ok_or_else(|| self.denied(ErrorCode::SessionRevoked))?;
        self.stands(session.standing(self.clock.now()))?;
        if session.revoked {
            return Err(self.denied(ErrorCode::SessionRevoked));
        }
        if !session.takes(verified.generation) {
            return Err(self.denied(ErrorCode::TokenExpired));
        }
        if verified.generation == Some(session.generation) && !session.confirmed {
            self.sessions.confirm(verified.member, verified.session, session.generation).await;
        }
        let lacks_second_factor =
            self.demands_second_factor && session.user_type == UserType::Admin && !session.has_second_factor;
        Ok(Authorized {
            member: verified.member,
            session: verified.session,
            generation: verified.generation,
            demands_second_factor: self.demands_second_factor,
            user_type: if lacks_second_factor { UserType::Member } else { session.user_type },
            lacks_second_factor,
            proved_at: session.proved_at,
            expires_at: verified.expires_at,
            good_from: session.good_from,
            signed_in_at: session.created_at,
            known_device: session.known_device,
        })
    }

    /// Whether a member may sign in.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn stands(&self, standing: Standing) -> Result<(), Failure> {
        match standing {
            Standing::Active => Ok(()),
            Standing::Deactivated => Err(self.denied(ErrorCode::MemberDeactivated)),
            Standing::Pending => Err(self.denied(ErrorCode::ApprovalPending)),
            Standing::Unverified => Err(self.denied(ErrorCode::EmailUnverified)),
            Standing::Suspended(until) => {
                let Failure { code, .. } = self.denied(ErrorCode::MemberSuspended);
                let message = format!("An administrator has suspended you until {until}.");
                Err(Failure::new(code, message).until(until, self.clock.now()))
            }
        }
    }

    /// Why a member may not sign in who could a moment ago.
    pub(super) async fn kept_out(&self, id: MemberId) -> Failure {
        let record = match self.members.by_id(Caller::Member(id), id).await {
            Ok(record) => record,
            Err(error) => return error.into(),
        };
        let standing = record.map_or(Standing::Deactivated, |record| record.profile.standing(self.clock.now()));
        // It may have changed again.
        self.stands(standing).err().unwrap_or_else(|| self.denied(ErrorCode::SessionRevoked))
    }

    pub(super) fn denied(&self, code: ErrorCode) -> Failure {
        self.metrics.auth_failure(code);
        Failure::of(code)
    }
}
